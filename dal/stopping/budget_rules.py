"""Stopping rules for a budget: number of labels, dollars, or hours of annotation."""

from dataclasses import dataclass
from typing import Any

from dal.config.moved import accepts_old_options
from dal.functional.checking import Options
from dal.stopping.rule import History, Line, StoppingRule, Verdict, count, given, number


@accepts_old_options
@dataclass(frozen=True)
class Labels(StoppingRule):
    """Stops after a number of labels.

    Labels that came with the data and declined rows are not counted. The last batch is finished, so the total may
    exceed the budget by less than a batch.

    Args:
        max_labels: number of labels to buy, at least 1.
    """

    max_labels: int

    needs = frozenset({"spent"})
    advice = "always, together with a rule that may never stop"

    def __post_init__(self) -> None:
        Options(self).whole("max_labels", least=1, description="at least 1")

    def judge(self, history: History) -> Verdict:
        """Compare the labels bought to the budget."""
        bought = _spent(history)["answers"]
        return Verdict(
            bought >= self.max_labels,
            f"{bought:,} of {count(self.max_labels, 'label')} were bought",
            {"labels_bought": bought},
        )


@accepts_old_options
@dataclass(frozen=True)
class Dollars(StoppingRule):
    """Stops after an amount of money.

    The total is the costs stored with the answers (`Session.tell(cost=...)`), retracted ones included, plus
    `per_label` for each answer without a stored cost, plus `per_hour` for the recorded hours (see `Hours`).

    Args:
        max_dollars: dollars to spend, positive.
        per_label: dollars for an answer without a stored cost.
        per_hour: dollars for an hour of annotation.
    """

    max_dollars: float
    per_label: float = 0.0
    per_hour: float = 0.0

    needs = frozenset({"spent"})
    advice = "language models and paid annotators"

    def __post_init__(self) -> None:
        options = Options(self)
        options.number("max_dollars", above=0, description="positive")
        options.number("per_label", "per_hour", least=0, description="at least 0")

    def judge(self, history: History) -> Verdict:
        """Compare the money spent to the budget."""
        spent = _spent(history)
        total = spent["dollars"] + self.per_label * spent["unpriced"] + self.per_hour * spent["hours"]
        unknown = spent["unpriced"] if not self.per_label and not self.per_hour else 0
        missing = f" ({count(unknown, 'answer')} without a cost: give per_label)" if unknown else ""
        text = f"{number(total, 2, self.max_dollars)} of {given(self.max_dollars)} dollars were spent{missing}"
        return Verdict(total >= self.max_dollars, text, {"dollars": total})


@accepts_old_options
@dataclass(frozen=True)
class Hours(StoppingRule):
    """Stops after a number of hours of annotation.

    The total is the seconds stored with the answers (`Session.tell(seconds=...)`), declined and retracted ones
    included, plus `per_label` for each answer without a stored time. Computing time is not counted.

    Args:
        max_hours: hours to spend, positive.
        per_label: seconds for an answer without a stored time.
    """

    max_hours: float
    per_label: float = 0.0

    needs = frozenset({"spent"})
    advice = "people's time; give per_label where answers come from a file"

    def __post_init__(self) -> None:
        options = Options(self)
        options.number("max_hours", above=0, description="positive")
        options.number("per_label", least=0, description="at least 0")

    def judge(self, history: History) -> Verdict:
        """Compare the hours worked to the budget."""
        spent = _spent(history)
        total = spent["hours"] + self.per_label * spent["untimed"] / 3600
        unknown = 0 if self.per_label else spent["untimed"]
        missing = f" ({count(unknown, 'answer')} without a time: give per_label)" if unknown else ""
        text = f"{number(total, 2, self.max_hours)} of {given(self.max_hours)} hours were spent{missing}"
        return Verdict(total >= self.max_hours, text, {"hours": total})


def _spent(history: History) -> dict[str, Any]:
    """The latest recorded totals. Runs of older versions recorded only the number of labels."""
    recorded = history.having("spent")
    if recorded:
        return dict(recorded[-1]["spent"])
    last: Line = history.lines[-1] if history.lines else {}
    labels = int(last.get("labels", 0))
    return {"answers": labels, "dollars": 0.0, "unpriced": labels, "hours": 0.0, "untimed": labels}
