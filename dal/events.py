"""Questions, answers, skips and retractions in order, and the state that they imply."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import Any, Final


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


@dataclass(frozen=True)
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


class State:
    """What the events so far imply.

    Attributes:
        event: the number of the last one.
        round: how many batches were asked.
        labels_event: the number of the last that changed an answer.
        labels_round: how many batches had been asked then.
        pending: the ids that were asked and have no answer, in the order in which to ask them.
        stacks: id -> its answers and skips that were not retracted, latest last.
        given: the same, over all rows.
    """

    def __init__(self) -> None:
        self.event = self.round = self.labels_event = self.labels_round = 0
        self.pending: dict[str, None] = {}
        self.stacks: dict[str, list[Event]] = {}
        self.given: list[Event] = []
        self._asked: set[str] = set()

    def apply(self, event: Event) -> None:
        """Take in the next one."""
        row = event.row
        self.event = event.event
        if event.kind == "asked":
            self.round = event.round
            self._asked.add(row)
            self.pending[row] = None
            return
        self.labels_event = event.event
        self.labels_round = event.round
        stack = self.stacks.setdefault(row, [])
        if event.kind == "retracted":
            stack.pop()
            self.given.pop()
            if not stack and row in self._asked:
                self.pending = {row: None, **self.pending}
            return
        stack.append(event)
        self.given.append(event)
        self.pending.pop(row, None)

    def standing(self) -> dict[str, Event]:
        """Row id -> the event that stands for it: its last answer or skip that was not retracted."""
        return {row: stack[-1] for row, stack in self.stacks.items() if stack}


def standing(events: Iterable[Event]) -> dict[str, Event]:
    """`State.standing` after these events, which are all from the first on."""
    state = State()
    for event in events:
        state.apply(event)
    return state.standing()


def read(line: Sequence[Any]) -> Event:
    """The event that a line of the store's table `events` holds."""
    event = Event(*line)
    return replace(event, value=read_value(event.value)) if isinstance(event.value, str) else event


def read_value(text: str) -> Value:
    """The class name, or the tuple of them, that a column of the store holds as JSON."""
    value = json.loads(text)
    return value if isinstance(value, str) else tuple(value)
