"""What the answers of a run cost so far, money and people's time, and who gave them."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from dal.errors import ConfigError
from dal.labels import Event, standing
from dal.proposals import Proposal, apart

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


def costs(events: Iterable[Event], prices: Prices, proposals: Iterable[Proposal] = ()) -> dict[str, float | None]:
    """Dollars from the prices, "labels"; dollars stored with what was said, "llm"; and "annotator_seconds".

    Answers and skips count, those that were retracted later too: the work was done. A cost that is stored with an
    answer takes the place of both prices; a stored time takes the place of `seconds_per_label`. Answers of a language
    model take no person's time, and no price. None where neither a price (a time) is given nor one is stored. What was
    proposed beside the answers counts, too, but for proposals that an answer repeats (`dal.proposals.apart`).

    Example:
        >>> told = Event(1, "answered", 0.0, 1, "a", value="spam", source="person")
        >>> costs([told], Prices(per_hour=90.0, seconds_per_label=20.0))
        {'labels': 0.5, 'llm': 0.0, 'annotator_seconds': 20.0}
    """
    done = [event for event in events if event.kind in _DONE]
    people = [event for event in done if event.source != MACHINE]
    unpriced = [event for event in people if event.cost is None]
    seconds, payable = _seconds(people, prices), _seconds(unpriced, prices)
    parts = [
        None if prices.per_label is None else prices.per_label * len(unpriced),
        None if prices.per_hour is None or payable is None else prices.per_hour * payable / 3600,
    ]
    stored = [event.cost for event in done] + [proposal.cost for proposal in apart(proposals, done)]
    return {
        "labels": _sum(parts),
        "llm": _sum(stored) or 0.0,
        "annotator_seconds": seconds,
    }


def _seconds(events: list[Event], prices: Prices) -> float | None:
    """The time of the events as far as it is known; None where none of it is. 0 without events."""
    known = [prices.seconds_per_label if event.seconds is None else event.seconds for event in events]
    taken = [value for value in known if value is not None]
    return math.fsum(taken) if taken or not events else None


def sources(
    events: Iterable[Event], prices: Prices, proposals: Iterable[Proposal] = ()
) -> dict[str, dict[str, float | None]]:
    """For each source, the "answers" of it that stand, its "proposals", and the "dollars" and "seconds" that it took.

    Dollars are those of `costs`, by whom they were spent on, so that they add up to its "labels" and "llm"; skips and
    what was retracted later count in them as there. None where nothing is known. Weak labels are a source of their
    own, with proposals and no answers.

    Example:
        >>> told = Event(1, "answered", 0.0, 1, "a", value="spam", source="person")
        >>> sources([told], Prices(per_label=0.5))
        {'person': {'answers': 1, 'proposals': 0, 'dollars': 0.5, 'seconds': None}}
    """
    log = list(events)
    done = [event for event in log if event.kind in _DONE]
    stand = [event for event in standing(log).values() if event.kind == "answered"]
    beside = apart(proposals, done)
    names = dict.fromkeys(_source(each) for each in (*done, *beside))
    return {name: _of_source(name, done, stand, beside, prices) for name in names}


def _of_source(
    name: str, done: Sequence[Event], stand: Sequence[Event], beside: Sequence[Proposal], prices: Prices
) -> dict[str, float | None]:
    own = [event for event in done if _source(event) == name]
    said = [proposal for proposal in beside if proposal.source == name]
    paid = [*(_dollars(event, prices) for event in own), *(proposal.cost for proposal in said)]
    took = [*(_seconds_of(event, prices) for event in own), *(proposal.seconds for proposal in said)]
    return {
        "answers": sum(_source(event) == name for event in stand),
        "proposals": len(said),
        "dollars": _sum(paid),
        "seconds": _sum(took),
    }


def _source(said: Any) -> str:
    return said.source or "person"


def _dollars(event: Event, prices: Prices) -> float | None:
    """What an answer or skip cost: as it is stored, else by the prices, which a machine's has none of."""
    if event.cost is not None or event.source == MACHINE:
        return event.cost
    seconds = _seconds_of(event, prices)
    by_time = None if prices.per_hour is None or seconds is None else prices.per_hour * seconds / 3600
    return _sum([prices.per_label, by_time])


def _seconds_of(event: Event, prices: Prices) -> float | None:
    return prices.seconds_per_label if event.seconds is None and event.source != MACHINE else event.seconds


def _sum(values: Sequence[float | None]) -> float | None:
    """Of those that are known; None where none is."""
    known = [value for value in values if value is not None]
    return math.fsum(known) if known else None
