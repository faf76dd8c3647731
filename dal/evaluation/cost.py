"""Cost of a run's answers so far: dollars, annotators' time, and both by source."""

import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import chain, repeat

from dal.errors import ConfigError
from dal.store.events import AnnotationTotals, Event, work
from dal.store.proposals import Proposal, apart
from dal.store.unread_answers import Unread

#: The source of a language model's answers, and that of weak labels, which are proposals and never answers.
MACHINE, WEAK = "llm", "weak"


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


def charges(
    done: Iterable[Event] | AnnotationTotals,
    prices: Prices,
    proposals: Iterable[Proposal] = (),
    unread: Iterable[Unread] = (),
) -> list[Charge]:
    """Charges for all answers and skips, and for all proposals and unreadable answers.

    Answers and skips count even if they were retracted later, since the work was done. A cost stored with an answer
    replaces both prices; a stored time replaces `seconds_per_label`. Answers of a language model take no person's time
    and have no price. Proposals and unreadable answers cost what is stored with them, except those that an answer
    repeats (`dal.store.proposals.apart`).
    """
    counted = done if isinstance(done, AnnotationTotals) else work(done)
    additional: list[Proposal | Unread] = [*apart(proposals, counted.paid), *apart(unread, counted.paid)]
    return [
        *(_charge(*each, count, prices) for each, count in counted.done.items()),
        *(Charge(_source(each.source), False, None, each.cost, each.seconds) for each in additional),
    ]


def _charge(source: str, cost: float | None, seconds: float | None, count: int, prices: Prices) -> Charge:
    if source == MACHINE:
        return Charge(_source(source), False, None, cost, seconds, count)
    seconds = prices.seconds_per_label if seconds is None else seconds
    by_time = None if prices.per_hour is None or seconds is None else prices.per_hour * seconds / 3600
    priced = _sum([(prices.per_label, 1), (by_time, 1)]) if cost is None else None
    return Charge(_source(source), True, priced, cost, seconds, count)


def costs(
    done: Iterable[Event] | AnnotationTotals,
    prices: Prices,
    proposals: Iterable[Proposal] = (),
    unread: Iterable[Unread] = (),
) -> dict[str, float | None]:
    """Total cost: "labels", dollars by the prices; "llm", dollars stored with the answers; and "annotator_seconds".

    They are sums over `charges`. None where neither a price (a time) is given nor one is stored.

    Args:
        done: all events of a label store, or its `work`, which is faster.
        prices: prices of answers that were stored without their own cost.
        proposals: proposals of the label store.
        unread: unreadable answers of the label store.

    Example:
        >>> answer = Event(1, "answered", 0.0, 1, "a", value="spam", source="person")
        >>> costs([answer], Prices(per_hour=90.0, seconds_per_label=20.0))
        {'labels': 0.5, 'llm': 0.0, 'annotator_seconds': 20.0}
    """
    spent = charges(done, prices, proposals, unread)
    people = [charge for charge in spent if charge.by_person]
    payable = [charge for charge in people if charge.paid is None]
    nothing = None if prices.per_label is None and prices.per_hour is None else 0.0
    return {
        "labels": _sum((charge.priced, charge.count) for charge in payable) if payable else nothing,
        "llm": _sum((charge.paid, charge.count) for charge in spent) or 0.0,
        "annotator_seconds": _sum((charge.seconds, charge.count) for charge in people) if people else 0.0,
    }


def sources(
    done: Iterable[Event] | AnnotationTotals,
    prices: Prices,
    proposals: Iterable[Proposal] = (),
    unread: Iterable[Unread] = (),
) -> dict[str, dict[str, float | None]]:
    """Current "answers", "proposals", "unread" answers, "dollars" and "seconds" of each source.

    Dollars are those of `costs` by source, so that they add up to its "labels" and "llm"; skips and retracted answers
    count as they do there. None where nothing is known. Weak labels are a source of their own, with proposals and no
    answers. An unreadable answer counts once, even if it also declined its row.

    Example:
        >>> answer = Event(1, "answered", 0.0, 1, "a", value="spam", source="person")
        >>> sources([answer], Prices(per_label=0.5))
        {'person': {'answers': 1, 'proposals': 0, 'unread': 0, 'dollars': 0.5, 'seconds': None}}
    """
    counted, kept = done if isinstance(done, AnnotationTotals) else work(done), list(unread)
    current = Counter[str]()
    for source, count in counted.standing.items():
        current[_source(source)] += count
    proposed = Counter(_source(each.source) for each in apart(proposals, counted.paid))
    unreadable = Counter(_source(each.source) for each in apart(kept, ()))
    by_source: dict[str, list[Charge]] = {}
    for charge in charges(counted, prices, proposals, kept):
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
    known = [repeat(value, count) for value, count in values if value is not None]
    return math.fsum(chain.from_iterable(known)) if known else None
