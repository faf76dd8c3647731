"""Events of a label store, and the values in them."""

import sys
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from enum import Enum
from functools import lru_cache
from typing import Any, Final

from dal.errors import one_line, shortened
from dal.store.bounded_json import parse_json


class Skip(Enum):
    """Answer that declines a row; `SKIP` is its only member."""

    SKIP = "skip"


SKIP: Final = Skip.SKIP

#: A class name, or several when multi-label.
Value = str | tuple[str, ...]


@dataclass(frozen=True)
class Answer:
    """A stored answer: class names or `SKIP`, and their origin.

    Attributes:
        row: row id.
        value: class name; a tuple of names when multi-label (empty for no class); `SKIP` when declined.
        who: name of the annotator or model.
        source: kind of annotator, such as "person", "simulated" or "llm".
        seconds: time spent on the row; None if unknown.
        cost: cost in dollars; None if unknown.
        confidence: confidence of the annotator in [0, 1]; None if unknown.
        key: identifier of the request that gave the answer, unique in the log; None for none.
        seen: what else the annotator was shown, by name, as JSON values; None if nothing is known.
        wanted: number of people whose answers to the row count from this one on; None leaves it as it is.
    """

    row: str
    value: Value | Skip
    who: str = ""
    source: str = "person"
    seconds: float | None = None
    cost: float | None = None
    confidence: float | None = None
    key: str | None = None
    seen: Mapping[str, Any] | None = None
    wanted: int | None = None


#: Kinds of events. "retracted" takes back an answer, a skip, a deferral, a note, a retirement or a change of a class.
KINDS: Final = (
    "asked",
    "answered",
    "skipped",
    "retracted",
    "withdrawn",
    "deferred",
    "noted",
    "class",
    "retired",
)


@dataclass(frozen=True, slots=True)
class Event:
    """An entry of the log.

    Attributes:
        event: its number, from 1 without gaps.
        kind: one of `KINDS`.
        at: seconds since 1970, UTC.
        round: number of batches queried before it; of a query, that of its batch.
        row: row id; "" of a change of a class.
        score: score of a queried row; None if unknown.
        value: class names of an answer, as they were at the time; the text of a note; the JSON text of a change of a
            class; None otherwise.
        who: person or model.
        source: kind of annotator, as in `Answer`.
        seconds, cost, confidence, key: as in `Answer`.
        retracts: number of the event that a retraction takes back.
        wanted: number of people who are to answer a queried row; None for one. Of an answer, as in `Answer`.
        seen: what the annotator was shown, as JSON text.
    """

    event: int
    kind: str
    at: float
    round: int
    row: str
    score: float | None = None
    value: Value | None = None
    who: str | None = None
    source: str | None = None
    seconds: float | None = None
    cost: float | None = None
    confidence: float | None = None
    retracts: int | None = None
    key: str | None = None
    wanted: int | None = None
    seen: str | None = None


@dataclass(frozen=True)
class Batch:
    """A queried batch: row ids in order, their scores, and further details of the selection."""

    round: int
    strategy: str
    rows: tuple[str, ...]
    scores: tuple[float, ...] | None = None
    details: Mapping[str, Any] = field(default_factory=dict)


#: Detail of a batch: name of the strategy that left the selection to another one.
CONFIGURED = "configured"


def shown_strategy(strategy: str, details: Mapping[str, Any]) -> str:
    """The strategy of a batch for people: also the one that left the selection to it.

    Example:
        >>> shown_strategy("MaxHerding", {"configured": "Auto"}), shown_strategy("Margin", {})
        ('Auto (MaxHerding)', 'Margin')
    """
    configured = details.get(CONFIGURED)
    return f"{configured} ({strategy})" if isinstance(configured, str) and configured else strategy


#: Columns of the table `events`, in the order of the fields of `Event`.
COLUMNS = ", ".join(field.name for field in fields(Event))


def read(line: Sequence[Any]) -> Event:
    """Convert a row of the table `events`, in the order of `COLUMNS`, to an event.

    Raises:
        ValueError: a value cannot have been written by a label store.
    """
    (
        number,
        kind,
        at,
        round,
        row,
        score,
        value,
        who,
        source,
        seconds,
        cost,
        confidence,
        retracts,
        key,
        wanted,
        seen,
    ) = line
    is_usual = (  # most lines: the details of a fault are looked for where there is one
        type(at) is float
        and type(round) is int
        and round >= 0
        and type(row) is str
        and all(type(word) is str for word in (who, source, key, seen) if word is not None)
        and all(type(figure) is float for figure in (score, seconds, cost, confidence) if figure is not None)
    )
    if not is_usual:
        words = {"who": who, "source": source, "key": key, "seen": seen}
        check_columns(at, round, row, **{name: "" if word is None else word for name, word in words.items()})
        check_figures(score=score, seconds=seconds, cost=cost, confidence=confidence)
    if kind not in KINDS:
        raise ValueError(f"its kind is {_shown(kind)}, not one of {', '.join(KINDS)}")
    if kind == "answered":
        value = read_value(value)
    elif kind not in ("noted", "class"):
        value = None
    elif not isinstance(value, str):
        raise ValueError(f"its value is {_shown(value)}, not text")
    if kind == "retracted" and not isinstance(retracts, int):
        raise ValueError(f"its retracts is {_shown(retracts)}, not the number of an event")
    if wanted is not None and not (isinstance(wanted, int) and wanted > 0):
        raise ValueError(f"its wanted is {_shown(wanted)}, not a number of people")
    # Interned: a log repeats a few names and, for each row, its id.
    who, source = who and sys.intern(who), source and sys.intern(source)
    row, kind = sys.intern(row), sys.intern(kind)
    return Event(
        number, kind, at, round, row, score, value, who, source, seconds, cost, confidence, retracts, key, wanted, seen
    )


def check_columns(at: Any, round: Any, row: Any, **words: Any) -> None:
    """Check the values of the columns common to all tables, and of further text columns.

    Raises:
        ValueError: a value is of the wrong type, or the round is negative.
    """
    if not isinstance(round, int) or round < 0:
        raise ValueError(f"its round is {_shown(round)}, not a number from 0")
    if not isinstance(at, float | int):
        raise ValueError(f"its time is {_shown(at)}, not a number")
    for name, word in (("row", row), *words.items()):
        if not isinstance(word, str):
            raise ValueError(f"its {name} is {_shown(word)}, not text")


def check_figures(**figures: Any) -> None:
    """Check the values of nullable numeric columns.

    Raises:
        ValueError: a value is neither a number nor None.
    """
    for name, figure in figures.items():
        if figure is not None and not isinstance(figure, float | int):
            raise ValueError(f"its {name} is {_shown(figure)}, not a number")


def _shown(value: Any) -> str:
    return shortened(repr(value))


def read_value(text: Any) -> Value:
    """Parse a stored JSON value to a class name or a tuple of names.

    Raises:
        ValueError: the value is something else.
    """
    if not isinstance(text, str):
        raise ValueError(f"its value is {_shown(text)}, not a class")
    return _parsed(text)


@lru_cache(maxsize=4096)
def _parsed(text: str) -> Value:
    try:
        value = parse_json(text)
    except ValueError as error:
        raise ValueError(f"its value {_shown(text)} cannot be read: {one_line(error)}") from error
    if isinstance(value, str):
        return unicodedata.normalize("NFC", value)
    if not isinstance(value, list) or not all(isinstance(name, str) for name in value):
        raise ValueError(f"its value {_shown(text)} is neither a class nor a list of classes")
    return tuple(unicodedata.normalize("NFC", name) for name in value)
