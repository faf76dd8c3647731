"""What the answers of a run cost so far: money and people's time."""

import math
from collections.abc import Iterable
from dataclasses import dataclass

from dal.errors import ConfigError
from dal.labels import Event

#: The source of answers that no person's time went into.
_MACHINE = "llm"


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


def costs(events: Iterable[Event], prices: Prices) -> dict[str, float | None]:
    """Dollars from the prices, "labels"; dollars stored with the answers, "llm"; and "annotator_seconds".

    Answers and skips count, those that were retracted later too: the work was done. A cost that is stored with an
    answer takes the place of both prices; a stored time takes the place of `seconds_per_label`. Answers of a language
    model take no person's time, and no price. None where neither a price (a time) is given nor one is stored.

    Example:
        >>> told = Event(1, "answered", 0.0, 1, "a", value="spam", source="person")
        >>> costs([told], Prices(per_hour=90.0, seconds_per_label=20.0))
        {'labels': 0.5, 'llm': 0.0, 'annotator_seconds': 20.0}
    """
    done = [event for event in events if event.kind in {"answered", "skipped"}]
    people = [event for event in done if event.source != _MACHINE]
    unpriced = [event for event in people if event.cost is None]
    seconds, payable = _seconds(people, prices), _seconds(unpriced, prices)
    parts = [
        None if prices.per_label is None else prices.per_label * len(unpriced),
        None if prices.per_hour is None or payable is None else prices.per_hour * payable / 3600,
    ]
    paid = [part for part in parts if part is not None]
    return {
        "labels": math.fsum(paid) if paid else None,
        "llm": math.fsum(event.cost for event in done if event.cost is not None),
        "annotator_seconds": seconds,
    }


def _seconds(events: list[Event], prices: Prices) -> float | None:
    """The time of the events as far as it is known; None where none of it is. 0 without events."""
    known = [prices.seconds_per_label if event.seconds is None else event.seconds for event in events]
    taken = [value for value in known if value is not None]
    return math.fsum(taken) if taken or not events else None
