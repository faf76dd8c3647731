"""Stop when what was set aside is spent: labels, money, or the hours of those who answer."""

from dataclasses import dataclass
from typing import Any

from dal.config.moved import accepts_old_options
from dal.functional.checking import Options
from dal.stopping.rule import History, Line, StoppingRule, Verdict, count, given, number


@accepts_old_options
@dataclass(frozen=True)
class Labels(StoppingRule):
    """Stops when so many labels were bought.

    Labels that came with the data are not counted, declined rows neither. The last batch is finished, so that up to a
    batch more may be bought.

    Args:
        max_labels: labels to buy.
    """

    max_labels: int

    needs = frozenset({"spent"})
    advice = "always, together with a rule that may never stop"

    def __post_init__(self) -> None:
        Options(self).whole("max_labels", least=1, said="at least 1")

    def judge(self, history: History) -> Verdict:
        """Labels bought against the budget."""
        bought = _spent(history)["answers"]
        return Verdict(
            bought >= self.max_labels,
            f"{bought:,} of {count(self.max_labels, 'label')} were bought",
            {"labels_bought": bought},
        )


@accepts_old_options
@dataclass(frozen=True)
class Dollars(StoppingRule):
    """Stops when so much money was spent.

    Counted are the costs stored with the answers (`Session.tell(cost=...)`), retracted ones too; the price of a label
    for each answer that has no cost stored; and the price of an hour for all hours that are known (see `Hours`).

    Args:
        max_dollars: dollars to spend.
        per_label: dollars for an answer without a cost of its own.
        per_hour: dollars for an hour of those who answer.
    """

    max_dollars: float
    per_label: float = 0.0
    per_hour: float = 0.0

    needs = frozenset({"spent"})
    advice = "language models and paid annotators"

    def __post_init__(self) -> None:
        options = Options(self)
        options.number("max_dollars", above=0, said="positive")
        options.number("per_label", "per_hour", least=0, said="at least 0")

    def judge(self, history: History) -> Verdict:
        """Money spent against the budget."""
        spent = _spent(history)
        total = spent["dollars"] + self.per_label * spent["unpriced"] + self.per_hour * spent["hours"]
        unknown = spent["unpriced"] if not self.per_label and not self.per_hour else 0
        missing = f" ({count(unknown, 'answer')} without a cost: give per_label)" if unknown else ""
        text = f"{number(total, 2, self.max_dollars)} of {given(self.max_dollars)} dollars were spent{missing}"
        return Verdict(total >= self.max_dollars, text, {"dollars": total})


@accepts_old_options
@dataclass(frozen=True)
class Hours(StoppingRule):
    """Stops when those who answer have worked so many hours.

    Counted are the seconds stored with the answers (`Session.tell(seconds=...)`), declined and retracted ones too. The
    time of training and of passes over the pool is not: it is the people's time that a budget is for.

    Args:
        max_hours: hours to spend.
        per_label: seconds for an answer without a time of its own.
    """

    max_hours: float
    per_label: float = 0.0

    needs = frozenset({"spent"})
    advice = "people's time; give per_label where answers come from a file"

    def __post_init__(self) -> None:
        options = Options(self)
        options.number("max_hours", above=0, said="positive")
        options.number("per_label", least=0, said="at least 0")

    def judge(self, history: History) -> Verdict:
        """Hours worked against the budget."""
        spent = _spent(history)
        total = spent["hours"] + self.per_label * spent["untimed"] / 3600
        unknown = 0 if self.per_label else spent["untimed"]
        missing = f" ({count(unknown, 'answer')} without a time: give per_label)" if unknown else ""
        text = f"{number(total, 2, self.max_hours)} of {given(self.max_hours)} hours were spent{missing}"
        return Verdict(total >= self.max_hours, text, {"hours": total})


def _spent(history: History) -> dict[str, Any]:
    """What the last round recorded as spent. A line without that (of an older run) says how many labels there are."""
    recorded = history.having("spent")
    if recorded:
        return dict(recorded[-1]["spent"])
    last: Line = history.lines[-1] if history.lines else {}
    labels = int(last.get("labels", 0))
    return {"answers": labels, "dollars": 0.0, "unpriced": labels, "hours": 0.0, "untimed": labels}
