"""What the answers of a run cost so far, money and people's time, and who gave them."""

import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import chain, repeat

from dal.errors import ConfigError
from dal.store.events import AnnotationTotals, Event, work
from dal.store.proposals import Proposal, apart
from dal.store.unread_answers import Unread

#: The source of answers that no person's time went into, and that of weak labels, which are none.
MACHINE, WEAK = "llm", "weak"


@dataclass(frozen=True)
class Prices:
    """What is paid for answers that were stored without a cost or a time of their own; None where it is not known.

    Args:
        per_label: dollars for an answer.
        per_hour: dollars for an hour of those who answer.
        seconds_per_label: that an answer takes.

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
    """What things that were said cost, each of them the same.

    Attributes:
        source: who said it.
        by_person: whether it is an answer or a skip that took a person's time.
        priced: dollars by the prices; None where a cost is stored, for machines, and where no price is known.
        paid: dollars that are stored with it; None without.
        seconds: that it took; None when unknown.
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
    """The charges for all answers and skips, and for all that was said in addition and is no answer.

    Answers and skips count, those that were retracted later too: the work was done. A cost that is stored with an
    answer takes the place of both prices; a stored time takes the place of `seconds_per_label`. Answers of a language
    model take no person's time, and no price. What was proposed next to the answers, or could not be read, costs what
    is stored with it, but for what an answer repeats (`dal.store.proposals.apart`).
    """
    counted = done if isinstance(done, AnnotationTotals) else work(done)
    beside: list[Proposal | Unread] = [*apart(proposals, counted.paid), *apart(unread, counted.paid)]
    return [
        *(_charge(*each, count, prices) for each, count in counted.done.items()),
        *(Charge(_source(each.source), False, None, each.cost, each.seconds) for each in beside),
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
    """Dollars from the prices, "labels"; dollars stored with what was said, "llm"; and "annotator_seconds".

    They are sums over `charges`. None where neither a price (a time) is given nor one is stored.

    Args:
        done: all events of a label store, or its `work`, which is faster.
        prices: of answers that were stored without a cost of their own.
        proposals, unread: of the label store.

    Example:
        >>> told = Event(1, "answered", 0.0, 1, "a", value="spam", source="person")
        >>> costs([told], Prices(per_hour=90.0, seconds_per_label=20.0))
        {'labels': 0.5, 'llm': 0.0, 'annotator_seconds': 20.0}
    """
    found = charges(done, prices, proposals, unread)
    people = [charge for charge in found if charge.by_person]
    payable = [charge for charge in people if charge.paid is None]
    nothing = None if prices.per_label is None and prices.per_hour is None else 0.0
    return {
        "labels": _sum((charge.priced, charge.count) for charge in payable) if payable else nothing,
        "llm": _sum((charge.paid, charge.count) for charge in found) or 0.0,
        "annotator_seconds": _sum((charge.seconds, charge.count) for charge in people) if people else 0.0,
    }


def sources(
    done: Iterable[Event] | AnnotationTotals,
    prices: Prices,
    proposals: Iterable[Proposal] = (),
    unread: Iterable[Unread] = (),
) -> dict[str, dict[str, float | None]]:
    """For each source, the "answers" of it that stand, its "proposals", how many were "unread", "dollars", "seconds".

    Dollars are those of `costs`, by whom they were spent on, so that they add up to its "labels" and "llm"; skips and
    what was retracted later count in them as there. None where nothing is known. Weak labels are a source of their
    own, with proposals and no answers. An answer that could not be read counts once, also where it declined its row.

    Example:
        >>> told = Event(1, "answered", 0.0, 1, "a", value="spam", source="person")
        >>> sources([told], Prices(per_label=0.5))
        {'person': {'answers': 1, 'proposals': 0, 'unread': 0, 'dollars': 0.5, 'seconds': None}}
    """
    counted, kept = done if isinstance(done, AnnotationTotals) else work(done), list(unread)
    stand = Counter[str]()
    for source, count in counted.standing.items():
        stand[_source(source)] += count
    said = Counter(_source(each.source) for each in apart(proposals, counted.paid))
    lost = Counter(_source(each.source) for each in apart(kept, ()))
    paid: dict[str, list[Charge]] = {}
    for charge in charges(counted, prices, proposals, kept):
        paid.setdefault(charge.source, []).append(charge)
    return {
        name: {
            "answers": stand[name],
            "proposals": said[name],
            "unread": lost[name],
            "dollars": _sum((_dollars(charge), charge.count) for charge in of),
            "seconds": _sum((charge.seconds, charge.count) for charge in of),
        }
        for name, of in paid.items()
    }


def _source(name: str) -> str:
    return name or "person"


def _dollars(charge: Charge) -> float | None:
    return charge.priced if charge.paid is None else charge.paid


def _sum(values: Iterable[tuple[float | None, int]]) -> float | None:
    """Of those that are known, each so many times; None where none is. Rounded once, as the sum of all of them is."""
    known = [repeat(value, count) for value, count in values if value is not None]
    return math.fsum(chain.from_iterable(known)) if known else None
