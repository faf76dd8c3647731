"""What the answers of a run cost so far, money and people's time, and who gave them."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from dal.errors import ConfigError
from dal.events import Event, standing
from dal.proposals import Proposal, apart
from dal.unread import Unread

#: The source of answers that no person's time went into, and that of weak labels, which are none.
MACHINE, WEAK = "llm", "weak"


_DONE = ("answered", "skipped")


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
    """What one thing that was said cost.

    Attributes:
        source: who said it.
        by_person: whether it is an answer or a skip that took a person's time.
        priced: dollars by the prices; None where a cost is stored, for machines, and where no price is known.
        paid: dollars that are stored with it; None without.
        seconds: that it took; None when unknown.
    """

    source: str
    by_person: bool
    priced: float | None
    paid: float | None
    seconds: float | None


def charges(
    events: Iterable[Event], prices: Prices, proposals: Iterable[Proposal] = (), unread: Iterable[Unread] = ()
) -> list[Charge]:
    """A charge for each answer and skip, and for all that was said beside them and is no answer.

    Answers and skips count, those that were retracted later too: the work was done. A cost that is stored with an
    answer takes the place of both prices; a stored time takes the place of `seconds_per_label`. Answers of a language
    model take no person's time, and no price. What was proposed beside the answers, or could not be read, costs what is
    stored with it, but for what an answer repeats (`dal.proposals.apart`).
    """
    done = [event for event in events if event.kind in _DONE]
    beside: list[Proposal | Unread] = [*apart(proposals, done), *apart(unread, done)]
    return [
        *(_charge(event, prices) for event in done),
        *(Charge(_source(each), False, None, each.cost, each.seconds) for each in beside),
    ]


def _charge(event: Event, prices: Prices) -> Charge:
    if event.source == MACHINE:
        return Charge(_source(event), False, None, event.cost, event.seconds)
    seconds = prices.seconds_per_label if event.seconds is None else event.seconds
    by_time = None if prices.per_hour is None or seconds is None else prices.per_hour * seconds / 3600
    priced = _sum([prices.per_label, by_time]) if event.cost is None else None
    return Charge(_source(event), True, priced, event.cost, seconds)


def costs(
    events: Iterable[Event], prices: Prices, proposals: Iterable[Proposal] = (), unread: Iterable[Unread] = ()
) -> dict[str, float | None]:
    """Dollars from the prices, "labels"; dollars stored with what was said, "llm"; and "annotator_seconds".

    They are sums over `charges`. None where neither a price (a time) is given nor one is stored.

    Example:
        >>> told = Event(1, "answered", 0.0, 1, "a", value="spam", source="person")
        >>> costs([told], Prices(per_hour=90.0, seconds_per_label=20.0))
        {'labels': 0.5, 'llm': 0.0, 'annotator_seconds': 20.0}
    """
    found = charges(events, prices, proposals, unread)
    people = [charge for charge in found if charge.by_person]
    payable = [charge for charge in people if charge.paid is None]
    nothing = None if prices.per_label is None and prices.per_hour is None else 0.0
    return {
        "labels": _sum([charge.priced for charge in payable]) if payable else nothing,
        "llm": _sum([charge.paid for charge in found]) or 0.0,
        "annotator_seconds": _sum([charge.seconds for charge in people]) if people else 0.0,
    }


def sources(
    events: Iterable[Event], prices: Prices, proposals: Iterable[Proposal] = (), unread: Iterable[Unread] = ()
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
    log, kept = list(events), list(unread)
    done = [event for event in log if event.kind in _DONE]
    stand = [_source(event) for event in standing(log).values() if event.kind == "answered"]
    said = [_source(each) for each in apart(proposals, done)]
    lost = [_source(each) for each in apart(kept, ())]
    paid = charges(log, prices, proposals, kept)
    return {
        name: {
            "answers": stand.count(name),
            "proposals": said.count(name),
            "unread": lost.count(name),
            "dollars": _sum([_dollars(charge) for charge in paid if charge.source == name]),
            "seconds": _sum([charge.seconds for charge in paid if charge.source == name]),
        }
        for name in dict.fromkeys(charge.source for charge in paid)
    }


def _source(said: Any) -> str:
    return said.source or "person"


def _dollars(charge: Charge) -> float | None:
    return charge.priced if charge.paid is None else charge.paid


def _sum(values: Sequence[float | None]) -> float | None:
    """Of those that are known; None where none is."""
    known = [value for value in values if value is not None]
    return math.fsum(known) if known else None
