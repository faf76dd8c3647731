"""Events of a label store (queries, answers, skips, retractions), and the state derived from them."""

import sys
import unicodedata
from collections import Counter, OrderedDict
from collections.abc import Iterable, Mapping, Sequence
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
    """

    row: str
    value: Value | Skip
    who: str = ""
    source: str = "person"
    seconds: float | None = None
    cost: float | None = None
    confidence: float | None = None


@dataclass(frozen=True, slots=True)
class Event:
    """An entry of the log. `value` holds class names if `kind` is "answered", else None."""

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


@dataclass(frozen=True)
class Batch:
    """A queried batch: row ids in order, their scores, and further details of the selection."""

    round: int
    strategy: str
    rows: tuple[str, ...]
    scores: tuple[float, ...] | None = None
    details: Mapping[str, Any] = field(default_factory=dict)


class AnnotationTotals:
    """Counts of answers by source, cost and time, so that totals need no list of all answers.

    Attributes:
        done: (source, cost, seconds) -> number of answers and skips, including those retracted later.
        paid: (row, who, source) of the answers and skips with a cost.
        current: source -> number of current answers.
    """

    def __init__(self) -> None:
        self.done: Counter[tuple[str, float | None, float | None]] = Counter()
        self.paid: set[tuple[str, str, str]] = set()
        self.current: Counter[str] = Counter()

    def add(self, event: Event) -> None:
        """Count an answer or a skip."""
        source = event.source or ""
        self.done[source, event.cost, event.seconds] += 1
        if event.cost is not None:
            self.paid.add((event.row, event.who or "", source))


class StoreState:
    """State after a sequence of events.

    Attributes:
        event: number of the last event.
        round: number of batches queried.
        labels_event: number of the last event that changed an answer.
        labels_round: number of batches queried at that event.
        answered: number of rows with an answer.
        pending: ids of queried rows without an answer, in the order in which to ask them.
        last: id -> current answer or skip; None if all were retracted.
        given: answers and skips that were not retracted, of all rows, latest last.
        asked: id -> round in which the row was queried.
        begins: number of the first event of each round.
        work: totals of the answers.
    """

    def __init__(self) -> None:
        self.event = self.round = self.labels_event = self.labels_round = self.answered = 0
        self.pending: OrderedDict[str, None] = OrderedDict()
        self.last: dict[str, Event | None] = {}
        self.given: list[Event] = []
        self.asked: dict[str, int] = {}
        self.begins: list[int] = []
        self.work = AnnotationTotals()
        self._earlier: dict[str, list[Event]] = {}  # previous answers of the rows that were answered again
        self._before: dict[str, Event | None] = {}  # answers at the latest query, of the rows changed since then

    def apply(self, event: Event) -> None:
        """Update the state with the next event.

        Raises:
            ValueError: the event retracts an answer other than the last one.
        """
        if event.kind == "asked":
            self.ask(event.event, event.round, event.row)
        elif event.kind == "retracted":
            self._retract(event)
        else:
            self._give(event)

    def ask(self, event: int, round: int, row: str) -> None:
        """Update the state with a query."""
        self.event = event
        if round != self.round:
            self.round = round
            self.begins.append(event)
            self._before = {}
        self.asked[row] = round
        self.pending[row] = None

    def _give(self, event: Event) -> None:
        row, before = event.row, self.last.get(event.row)
        if before is not None:
            self._earlier.setdefault(row, []).append(before)
        self._replace(row, before, event)
        self.given.append(event)
        self.work.add(event)
        self.pending.pop(row, None)
        self._count(event)

    def _retract(self, event: Event) -> None:
        row = event.row
        if not self.given or self.given[-1].row != row:
            raise ValueError(f"it retracts an answer to {row!r}, which is not the last answer")
        if event.retracts is not None and self.given[-1].event != event.retracts:
            raise ValueError(f"it retracts event {event.retracts}, and the last answer is {self.given[-1].event}")
        retracted, earlier = self.given.pop(), self.before(row)
        if row in self._earlier:
            self._earlier[row].pop()
            if not self._earlier[row]:
                del self._earlier[row]
        self._replace(row, retracted, earlier)
        if earlier is None and row in self.asked:  # asked next: the annotator wants to correct this very answer
            self.pending[row] = None
            self.pending.move_to_end(row, last=False)
        self._count(event)

    def _replace(self, row: str, before: Event | None, now: Event | None) -> None:
        """Replace the current answer `before` of a row by `now`, and update the counts."""
        self._before.setdefault(row, before)  # the first change since the query only: that was current then
        self.last[row] = now
        for event, change in ((before, -1), (now, 1)):
            if event is not None and event.kind == "answered":
                self.answered += change
                self.work.current[event.source or ""] += change

    def _count(self, event: Event) -> None:
        self.event = self.labels_event = event.event
        self.labels_round = event.round

    def before(self, row: str) -> Event | None:
        """The previous answer or skip of the row, before its current one; None if there is none."""
        earlier = self._earlier.get(row)
        return earlier[-1] if earlier else None

    def current(self) -> dict[str, Event]:
        """Current answers and skips by row id: the last event of each row that was not retracted."""
        return {row: event for row, event in self.last.items() if event is not None}

    def before_batch(self) -> dict[str, Event]:
        """Answers and skips that were current when the latest batch was queried, by row id."""
        then = ((row, self._before.get(row, event)) for row, event in self.last.items())
        return {row: event for row, event in then if event is not None}


def current_answers(events: Iterable[Event]) -> dict[str, Event]:
    """`StoreState.current` after these events, which must start with the first event of the store."""
    return _after(events).current()


def work(events: Iterable[Event]) -> AnnotationTotals:
    """Totals of the answers among these events, which must start with the first event of the store."""
    return _after(events).work


def _after(events: Iterable[Event]) -> StoreState:
    state = StoreState()
    for event in events:
        state.apply(event)
    return state


#: Columns of the table `events`, in the order of the fields of `Event`.
COLUMNS = ", ".join(field.name for field in fields(Event))


def read(line: Sequence[Any]) -> Event:
    """Convert a row of the table `events`, in the order of `COLUMNS`, to an event.

    Raises:
        ValueError: a value cannot have been written by a label store.
    """
    number, kind, at, round, row, score, value, who, source, seconds, cost, confidence, retracts = line
    check_columns(at, round, row, who="" if who is None else who, source="" if source is None else source)
    check_figures(score=score, seconds=seconds, cost=cost, confidence=confidence)
    if kind == "answered":
        value = read_value(value)
    elif kind in ("asked", "skipped", "retracted"):
        value = None
    else:
        raise ValueError(f"its kind is {_shown(kind)}, not asked, answered, skipped or retracted")
    if kind == "retracted" and not isinstance(retracts, int):
        raise ValueError(f"its retracts is {_shown(retracts)}, not the number of an event")
    # Interned: a log repeats a few names and, for each row, its id.
    who, source = who and sys.intern(who), source and sys.intern(source)
    row, kind = sys.intern(row), sys.intern(kind)
    return Event(number, kind, at, round, row, score, value, who, source, seconds, cost, confidence, retracts)


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
