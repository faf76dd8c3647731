"""Cost of a run's answers so far: dollars, annotators' time, and both by source."""

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain, repeat

from dal.errors import ConfigError

#: Source of a language model's answers, and that of weak labels, which are proposals and never answers.
LLM, WEAK = "llm", "weak"


@dataclass(frozen=True)
class RecordGroup:
    """`count` records of one source with equal figures.

    Attributes:
        source: kind of annotator; empty for a person.
        dollars: stored cost of each in dollars; None where none is stored.
        seconds: stored time of each; None where none is stored.
        count: number of records.
    """

    source: str
    dollars: float | None = None
    seconds: float | None = None
    count: int = 1


@dataclass(frozen=True)
class RecordedWork:
    """Records of a run with a cost.

    Attributes:
        answers: answers and skips, including those retracted later, since the work was done.
        proposals: proposed labels, without those whose cost is stored with an answer.
        unread: unreadable answers of models, without those whose cost is stored with a skip.
        current: source -> number of current answers.
        unreadable: source -> number of unreadable answers, including those whose cost is stored with a skip.
    """

    answers: Sequence[RecordGroup] = ()
    proposals: Sequence[RecordGroup] = ()
    unread: Sequence[RecordGroup] = ()
    current: Mapping[str, int] = field(default_factory=dict)
    unreadable: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Prices:
    """Default prices of answers stored without their own cost or time; None where unknown.

    Args:
        per_label: dollars per answer.
        per_hour: dollars per hour of an annotator's time.
        seconds_per_label: seconds per answer.

    Raises:
        ConfigError: a price is negative.
    """

    per_label: float | None = None
    per_hour: float | None = None
    seconds_per_label: float | None = None

    def __post_init__(self) -> None:
        given = {"price_per_label": self.per_label, "price_per_hour": self.per_hour}
        for name, value in {**given, "seconds_per_label": self.seconds_per_label}.items():
            if value is not None and not 0 <= value < math.inf:
                raise ConfigError(f"{name} must be at least 0, got {value}")


@dataclass(frozen=True)
class Charge:
    """Cost of `count` answers, skips, proposals or unreadable answers with equal figures.

    Attributes:
        source: where they came from.
        by_person: whether they are answers or skips that took a person's time.
        priced: dollars each by the prices; None where a cost is stored, for models, and where no price is known.
        paid: dollars each that are stored with them; None without.
        seconds: seconds each; None when unknown.
        count: how many there are.
    """

    source: str
    by_person: bool
    priced: float | None
    paid: float | None
    seconds: float | None
    count: int = 1


def charges(work: RecordedWork, prices: Prices) -> list[Charge]:
    """Charges for all answers and skips, and for all proposals and unreadable answers.

    A cost stored with an answer replaces both prices; a stored time replaces `seconds_per_label`. Answers of a language
    model take no person's time and have no price. Proposals and unreadable answers cost what is stored with them.
    """
    return [
        *(_charge(each, prices) for each in work.answers),
        *(
            Charge(_source(each.source), False, None, each.dollars, each.seconds, each.count)
            for each in (*work.proposals, *work.unread)
        ),
    ]


def _charge(group: RecordGroup, prices: Prices) -> Charge:
    source, cost, seconds = group.source, group.dollars, group.seconds
    if source == LLM:
        return Charge(source, False, None, cost, seconds, group.count)
    seconds = prices.seconds_per_label if seconds is None else seconds
    by_time = None if prices.per_hour is None or seconds is None else prices.per_hour * seconds / 3600
    # A stored cost is what was paid, in place of what the prices would predict.
    priced = _sum([(prices.per_label, 1), (by_time, 1)]) if cost is None else None
    return Charge(_source(source), True, priced, cost, seconds, group.count)


def costs(work: RecordedWork, prices: Prices) -> dict[str, float | None]:
    """Total cost: "labels", dollars by the prices; "llm", dollars stored with the answers; and "annotator_seconds".

    They are sums over `charges`. None where neither a price (a time) is given nor one is stored.

    Args:
        work: answers, proposals and unreadable answers.
        prices: prices of answers that were stored without their own cost.

    Example:
        >>> costs(RecordedWork([RecordGroup("person")]), Prices(per_hour=90.0, seconds_per_label=20.0))
        {'labels': 0.5, 'llm': 0.0, 'annotator_seconds': 20.0}
    """
    spent = charges(work, prices)
    people = [charge for charge in spent if charge.by_person]
    payable = [charge for charge in people if charge.paid is None]
    nothing = None if prices.per_label is None and prices.per_hour is None else 0.0
    return {
        "labels": _sum((charge.priced, charge.count) for charge in payable) if payable else nothing,
        "llm": _sum((charge.paid, charge.count) for charge in spent) or 0.0,
        "annotator_seconds": _sum((charge.seconds, charge.count) for charge in people) if people else 0.0,
    }


def sources(work: RecordedWork, prices: Prices) -> dict[str, dict[str, float | None]]:
    """Current "answers", "proposals", "unread" answers, "dollars" and "seconds" of each source.

    Dollars are those of `costs` by source, so that they add up to its "labels" and "llm"; skips and retracted answers
    count as they do there. None where nothing is known. Weak labels are a source of their own, with proposals and no
    answers. An unreadable answer counts once, even if it also declined its row.

    Example:
        >>> sources(RecordedWork([RecordGroup("person")], current={"person": 1}), Prices(per_label=0.5))
        {'person': {'answers': 1, 'proposals': 0, 'unread': 0, 'dollars': 0.5, 'seconds': None}}
    """
    current, proposed, unreadable = Counter[str](), Counter[str](), Counter[str]()
    for source, count in work.current.items():
        current[_source(source)] += count
    for each in work.proposals:
        proposed[_source(each.source)] += each.count
    for source, count in work.unreadable.items():
        unreadable[_source(source)] += count
    by_source: dict[str, list[Charge]] = {}
    for charge in charges(work, prices):
        by_source.setdefault(charge.source, []).append(charge)
    return {
        name: {
            "answers": current[name],
            "proposals": proposed[name],
            "unread": unreadable[name],
            "dollars": _sum((c.priced if c.paid is None else c.paid, c.count) for c in spent),
            "seconds": _sum((c.seconds, c.count) for c in spent),
        }
        for name, spent in by_source.items()
    }


def _source(name: str) -> str:
    """The displayed source: a person's answers may be stored without one."""
    return name or "person"


def _sum(values: Iterable[tuple[float | None, int]]) -> float | None:
    """Sum of the known values, each repeated by its count and rounded once at the end; None where none is known."""
    # Value by value, not times the count: `fsum` is then independent of how the records were grouped.
    known = [repeat(value, count) for value, count in values if value is not None]
    return math.fsum(chain.from_iterable(known)) if known else None
