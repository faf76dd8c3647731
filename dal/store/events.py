"""Questions, answers, skips and retractions in order, and the state that they imply."""

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
    """What an annotator answers who declines a row; its only member is `SKIP`."""

    SKIP = "skip"


SKIP: Final = Skip.SKIP

#: A class name, or several when multi-label.
Value = str | tuple[str, ...]


@dataclass(frozen=True)
class Answer:
    """One answer as it is stored: class names, or `SKIP`, and where it came from.

    Attributes:
        row: the row's id.
        value: a class name; a tuple of them when multi-label (empty: none of them); `SKIP` when declined.
        who: the name of the person or model.
        source: what kind of answerer, such as "person", "simulated", "llm".
        seconds: how long it took, None when unknown.
        cost: in dollars, None when unknown.
        confidence: in [0, 1], None when unknown.
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
    """One line of the log. `value` holds class names where `kind` is "answered", else None."""

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
    """One batch of questions as it was asked: row ids in order, their scores, and what else was known then."""

    round: int
    strategy: str
    rows: tuple[str, ...]
    scores: tuple[float, ...] | None = None
    details: Mapping[str, Any] = field(default_factory=dict)


class AnnotationTotals:
    """What answering cost and who did it, as counts, so that no list of answers has to be kept or read again.

    Attributes:
        done: (source, cost, seconds) -> answers and skips, those that were retracted later too: the work was done.
        paid: (row, who, source) of those that have a cost.
        standing: source -> answers that stand.
    """

    def __init__(self) -> None:
        self.done: Counter[tuple[str, float | None, float | None]] = Counter()
        self.paid: set[tuple[str, str, str]] = set()
        self.standing: Counter[str] = Counter()

    def add(self, event: Event) -> None:
        """Count an answer or a skip."""
        source = event.source or ""
        self.done[source, event.cost, event.seconds] += 1
        if event.cost is not None:
            self.paid.add((event.row, event.who or "", source))


class StoreState:
    """What the events so far imply.

    Attributes:
        event: the number of the last one.
        round: how many batches were asked.
        labels_event: the number of the last that changed an answer.
        labels_round: how many batches had been asked then.
        answered: how many rows have an answer.
        pending: the ids that were asked and have no answer, in the order in which to ask them.
        last: id -> the answer or skip that stands for it; None where all were retracted.
        given: the answers and skips that were not retracted, over all rows, latest last.
        asked: id -> the round that it was asked in.
        begins: the number of the first event of each round.
        work: what the answers cost.
    """

    def __init__(self) -> None:
        self.event = self.round = self.labels_event = self.labels_round = self.answered = 0
        self.pending: OrderedDict[str, None] = OrderedDict()
        self.last: dict[str, Event | None] = {}
        self.given: list[Event] = []
        self.asked: dict[str, int] = {}
        self.begins: list[int] = []
        self.work = AnnotationTotals()
        self._earlier: dict[str, list[Event]] = {}  # what stood before, of the rows that were answered again
        self._before: dict[str, Event | None] = {}  # what stood when the present batch was asked, where it changed

    def apply(self, event: Event) -> None:
        """Take in the next one.

        Raises:
            ValueError: it retracts what was not the last answer.
        """
        if event.kind == "asked":
            self.ask(event.event, event.round, event.row)
        elif event.kind == "retracted":
            self._retract(event)
        else:
            self._give(event)

    def ask(self, event: int, round: int, row: str) -> None:
        """Take in a question."""
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
        self._stand(row, before, event)
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
        self._stand(row, retracted, earlier)
        if earlier is None and row in self.asked:
            self.pending[row] = None
            self.pending.move_to_end(row, last=False)
        self._count(event)

    def _stand(self, row: str, before: Event | None, now: Event | None) -> None:
        """Let `now` stand for the row instead of `before`."""
        self._before.setdefault(row, before)
        self.last[row] = now
        for event, change in ((before, -1), (now, 1)):
            if event is not None and event.kind == "answered":
                self.answered += change
                self.work.standing[event.source or ""] += change

    def _count(self, event: Event) -> None:
        self.event = self.labels_event = event.event
        self.labels_round = event.round

    def before(self, row: str) -> Event | None:
        """What stood for the row before its last answer; None when nothing did."""
        earlier = self._earlier.get(row)
        return earlier[-1] if earlier else None

    def standing(self) -> dict[str, Event]:
        """Row id -> the event that stands for it: its last answer or skip that was not retracted."""
        return {row: event for row, event in self.last.items() if event is not None}

    def standing_before_batch(self) -> dict[str, Event]:
        """The same when the present batch was asked."""
        then = ((row, self._before.get(row, event)) for row, event in self.last.items())
        return {row: event for row, event in then if event is not None}


def standing(events: Iterable[Event]) -> dict[str, Event]:
    """`StoreState.standing` after these events, which are all from the first on."""
    return _after(events).standing()


def work(events: Iterable[Event]) -> AnnotationTotals:
    """What the answers among these events cost; the events are all from the first on."""
    return _after(events).work


def _after(events: Iterable[Event]) -> StoreState:
    state = StoreState()
    for event in events:
        state.apply(event)
    return state


#: The columns of the store's table `events`, in the order of the fields of `Event`.
COLUMNS = ", ".join(field.name for field in fields(Event))


def read(line: Sequence[Any]) -> Event:
    """The event that a line of the store's table `events` holds, in the order of `COLUMNS`.

    Raises:
        ValueError: it cannot have been written by a label store; the message says why.
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
    who, source = who and sys.intern(who), source and sys.intern(source)
    row, kind = sys.intern(row), sys.intern(kind)
    return Event(number, kind, at, round, row, score, value, who, source, seconds, cost, confidence, retracts)


def check_columns(at: Any, round: Any, row: Any, **words: Any) -> None:
    """Make sure of the columns that all tables have, and of those that hold text.

    Raises:
        ValueError: one holds what no store writes.
    """
    if not isinstance(round, int) or round < 0:
        raise ValueError(f"its round is {_shown(round)}, not a number from 0")
    if not isinstance(at, float | int):
        raise ValueError(f"its time is {_shown(at)}, not a number")
    for name, word in (("row", row), *words.items()):
        if not isinstance(word, str):
            raise ValueError(f"its {name} is {_shown(word)}, not text")


def check_figures(**figures: Any) -> None:
    """Make sure of the columns that hold numbers or nothing.

    Raises:
        ValueError: one holds something else.
    """
    for name, figure in figures.items():
        if figure is not None and not isinstance(figure, float | int):
            raise ValueError(f"its {name} is {_shown(figure)}, not a number")


def _shown(value: Any) -> str:
    return shortened(repr(value))


def read_value(text: Any) -> Value:
    """The class name, or the tuple of them, that a column of the store holds as JSON.

    Raises:
        ValueError: it holds something else.
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
