"""State of all rows after the events of a log, kept up to date event by event."""

import sqlite3
from collections import Counter
from collections.abc import Iterable

from dal.store.class_table import ClassTable
from dal.store.events import Event, Skip, Value
from dal.store.row_state import (
    ADJUDICATED,
    counted_answers,
    deferred_place,
    front_place,
    standing_answer,
    wanted_people,
)
from dal.store.standing_rows import meaning, renamed


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

    def read(self, connection: sqlite3.Connection, *, after: int, upto: int) -> None:
        """Count the answers and skips of a log after an event, up to another one. `current` stays as it is."""
        given = "FROM events WHERE event > ? AND event <= ? AND kind IN ('answered', 'skipped')"
        figures = f"SELECT coalesce(source, ''), cost, seconds {given} ORDER BY event"
        self.done.update(connection.execute(figures, (after, upto)))
        paid = f"SELECT row, coalesce(who, ''), coalesce(source, '') {given} AND cost IS NOT NULL"
        self.paid.update(connection.execute(paid, (after, upto)))


class StoreState:
    """State after a sequence of events. For each row it equals `dal.store.row_state.row_state` of its events.

    Attributes:
        event: number of the last event.
        round: number of batches queried.
        labels_event: number of the last event that changed an answer, a class or the rows that count.
        labels_round: number of batches queried at that event.
        answered: number of rows with an answer that stands.
        pending: id of a queried row that waits for an answer -> place in the order in which to ask them.
        last: id -> answer or skip that stands; None if all were retracted, are in dispute or do not count.
        given: number -> answer or skip that was not retracted, of all rows and people, latest last.
        asked: id -> round in which the row was queried.
        disputed: ids of the rows on which people disagree.
        retired: id of a row that was taken out of the pool -> the events that did so.
        classes: the classes that the log adds and changes.
        begins: number of the first event of each round.
        work: totals of the answers.
    """

    def __init__(self) -> None:
        self.event = self.round = self.labels_event = self.labels_round = self.answered = 0
        self.pending: dict[str, int] = {}
        self.last: dict[str, Event | None] = {}
        self.given: dict[int, Event] = {}
        self.asked: dict[str, int] = {}
        self.disputed: set[str] = set()
        self.retired: dict[str, set[int]] = {}
        self.classes = ClassTable()
        self.begins: list[int] = []
        self.work = AnnotationTotals()
        self._latest: dict[str, Event] = {}  # the latest answer of each row that was not retracted
        self._earlier: dict[str, list[Event]] = {}  # the answers before it, of the rows that have several
        self._before: dict[str, Event | None] = {}  # what stood at the latest query, of the rows changed since then
        self._wanted: dict[str, int] = {}  # of rows that several people are to answer
        self._wanted_by_answers: dict[str, int] = {}  # of rows with an answer that said so, as in an imported log
        self._asked_at: dict[str, int] = {}  # event of the query, of pending rows and those with other places
        self._front: dict[str, int] = {}  # event that put the row first
        self._deferred: dict[str, list[int]] = {}  # events that put the row last
        self._others: dict[int, Event] = {}  # deferrals, notes and retirements, which a retraction may name

    def apply(self, event: Event) -> None:
        """Update the state with the next event.

        Raises:
            ValueError: the event retracts something that does not exist, or changes a class that does not.
        """
        kind, row = event.kind, event.row
        if kind == "asked":
            self.ask(event.event, event.round, row, event.wanted or 1)
        elif kind in ("answered", "skipped"):
            self._give(event)
        elif kind == "retracted":
            self._retract(event)
        elif kind == "withdrawn":
            for places in (self.asked, self.pending, self._wanted, self._asked_at, self._front, self._deferred):
                places.pop(row, None)
        elif kind == "class":
            self.classes.apply(event.event, event.value if isinstance(event.value, str) else None)
            self._classes_changed(event)
        else:
            self._others[event.event] = event
            if kind == "deferred":
                self._deferred.setdefault(row, []).append(event.event)
                self._front.pop(row, None)
                self._queue(row)
            elif kind == "retired":
                self.retired.setdefault(row, set()).add(event.event)
                self._judge(row)
                self._count(event)
        self.event = event.event

    def ask(self, event: int, round: int, row: str, wanted: int = 1) -> None:
        """Update the state with a query."""
        self.event = event
        if round != self.round:
            self.round = round
            self.begins.append(event)
            self._before = {}
        self.asked[row] = round
        self._asked_at[row] = self.pending[row] = event
        if wanted > 1:
            self._wanted[row] = wanted
        self._front.pop(row, None)
        self._deferred.pop(row, None)

    def _give(self, event: Event) -> None:
        row = event.row
        if row in self._latest:
            self._earlier.setdefault(row, []).append(self._latest[row])
        self._latest[row] = self.given[event.event] = event
        if (event.wanted or 1) > 1:
            self._wanted_by_answers[row] = wanted_people([event], self._wanted_by_answers.get(row, 1))
        self.work.add(event)
        self._judge(row)
        self._count(event)

    def _retract(self, event: Event) -> None:
        row, number = event.row, event.retracts or 0
        given, other = self.given.get(number), self._others.get(number)
        if not row:
            self.classes.retract(event.event, number)
            self._classes_changed(event)
            return
        if (given or other) is None or (given or other).row != row:  # type: ignore[union-attr]
            raise ValueError(f"it retracts event {number}, which is no answer to {row!r} that stands")
        if given is not None:
            del self.given[number]
            answers = [each for each in (*self._earlier.pop(row, ()), self._latest.pop(row)) if each is not given]
            if self._wanted_by_answers.pop(row, 1) > 1:
                self._wanted_by_answers[row] = wanted_people(answers, 1)
            if answers:
                self._latest[row] = answers.pop()
            if answers:
                self._earlier[row] = answers
            self._front[row] = event.event
            self._judge(row)
            self._count(event)
            return
        kind = self._others.pop(number).kind
        if kind == "deferred":
            if number not in self._deferred.get(row, ()):
                return  # of an earlier query
            self._deferred[row].remove(number)
            self._front[row] = event.event
            self._queue(row)
        elif kind == "retired":
            self.retired[row].discard(number)
            if not self.retired[row]:
                del self.retired[row]
            self._judge(row)
            self._count(event)

    def _classes_changed(self, event: Event) -> None:
        for row in self._latest:
            self._judge(row)
        self._count(event)

    def _judge(self, row: str) -> None:
        """Decide which answer of a row stands, and whether the row is pending."""
        before = self.last.get(row)
        now: Event | None = self._latest.get(row)
        people, settled, disputed = int(now is not None), False, False
        wanted = max(self._wanted.get(row, 1), self._wanted_by_answers.get(row, 1))
        if now is not None and (wanted > 1 or len(self.classes)):
            if row in self._earlier:
                answers = counted_answers((*self._earlier[row], now), self.reading)
            else:
                answers = [] if self.reading(now) is None else [now]
            people = len({each.who or "" for each in answers})
            settled = any(each.source == ADJUDICATED for each in answers)
            now, disputed = standing_answer(answers, wanted, self.reading)
        gone = row in self.retired
        if gone:
            now, disputed = None, False
        self._before.setdefault(row, before)  # the first change since the query only: that was current then
        self.last[row] = now
        for event, change in ((before, -1), (now, 1)):
            if event is not None and event.kind == "answered":
                self.answered += change
                self.work.current[event.source or ""] += change
        waits = row in self.asked and people < wanted and not settled and not gone
        (self.disputed.add if disputed and not waits else self.disputed.discard)(row)
        if waits:
            self.pending[row] = 0
            self._queue(row)
        else:
            self.pending.pop(row, None)

    def _queue(self, row: str) -> None:
        """Determine the place of a row in the order in which to ask, if it is pending."""
        if row not in self.pending:
            return
        if row in self._front:
            self.pending[row] = front_place(self._front[row])
        elif self._deferred.get(row):
            self.pending[row] = deferred_place(self._deferred[row][-1])
        else:
            self.pending[row] = self._asked_at[row]

    def _count(self, event: Event) -> None:
        self.event = self.labels_event = event.event
        self.labels_round = event.round

    def reading(self, event: Event) -> Value | Skip | None:
        """Meaning of an answer in the current classes: names, `SKIP`, or None for a class that was retired."""
        return meaning(self.classes, event)

    def before(self, row: str) -> Event | None:
        """The previous answer or skip of the row, before its latest one; None if there is none."""
        earlier = self._earlier.get(row)
        return earlier[-1] if earlier else None

    def queue(self) -> list[str]:
        """Ids of the pending rows, in the order in which to ask them."""
        return sorted(self.pending, key=self.pending.__getitem__)

    def renamed(self, event: Event) -> Event:
        """An answer with the current names of its classes."""
        return renamed(self.classes, event)

    def current(self) -> dict[str, Event]:
        """Answers and skips that stand, by row id, with the current names of their classes."""
        return {row: self.renamed(event) for row, event in self.last.items() if event is not None}

    def before_batch(self) -> dict[str, Event]:
        """Answers and skips that stood when the latest batch was queried, by row id."""
        then = ((row, self._before.get(row, event)) for row, event in self.last.items())
        return {row: self.renamed(event) for row, event in then if event is not None}


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
