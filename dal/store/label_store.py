"""Label store: an append-only log of all queries and annotations in one SQLite file."""

import sqlite3
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Generic, TypeVar

from dal.errors import SessionError, one_line, shortened
from dal.store import events, proposals
from dal.store import unread_answers as unread
from dal.store.bounded_json import parse_json
from dal.store.events import Batch, Event, Skip, Value
from dal.store.label_database import Access
from dal.store.label_log import LabelLog
from dal.store.log_state import AnnotationTotals, StoreState
from dal.store.proposals import Proposal
from dal.store.unread_answers import Unread

T = TypeVar("T")


class _TableCache(Generic[T]):
    """Items of an append-only table read so far.

    Args:
        table: name of the table.
        columns: names of its columns, separated by commas.
        read: function that converts a row to an item or raises ValueError.
    """

    def __init__(self, table: str, columns: str, read: Callable[[Sequence[Any]], T]) -> None:
        self.table, self.columns, self.read = table, columns, read
        self.items: list[T] = []
        self.last = 0


class LabelStore(LabelLog):
    """A log of queries and annotations with the state of all rows in memory, as a session reads it.

    Each call appends its events in one transaction that is on disk before the call returns. The state (`answers`,
    `pending`, `skipped`, `round`) is determined by the events alone. Answers are keyed by row id and hold class names,
    so the pool may grow or be reordered. Thread-safe.

    Args:
        path: SQLite file, created if it does not exist; None keeps the log in memory.
        access, upto: as in `dal.store.label_database.LabelFile`.

    Raises:
        SessionError: the file is not a label store, is damaged, or was written by a newer version.

    Example:
        >>> from dal.store.events import Answer
        >>> store = LabelStore()
        >>> store.ask(["a", "b"])
        1
        >>> store.tell([Answer("a", "spam")])
        >>> store.answers, store.pending
        ({'a': 'spam'}, ['b'])
    """

    def __init__(self, path: Path | str | None = None, *, access: Access = "write", upto: int | None = None) -> None:
        self._state = StoreState()
        self._proposals = _TableCache("proposals", proposals.COLUMNS, proposals.read)
        self._unread = _TableCache("unread", unread.COLUMNS, unread.read)
        self._token_budget: int | None = None
        super().__init__(path, access=access, upto=upto)

    @classmethod
    def snapshot(cls, path: Path | str, upto: int | None = None) -> "LabelStore":
        """A copy in memory of the log in a file, as it was after event `upto`; None for its last event.

        The copy can be written to, and nothing reaches the file. What was proposed or recorded without an event is
        that of today.

        Raises:
            SessionError: the file is not a label store, or is damaged.
        """
        return cls(path, access="copy", upto=upto)

    # -- current state ---------------------------------------------------------------------------------------------

    @property
    def answers(self) -> dict[str, Value]:
        """Current answers: row id -> class name, or tuple of names when multi-label."""
        with self._lock:
            current = self._state.current()
            return {row: event.value for row, event in current.items() if event.value is not None}

    @property
    def answered(self) -> int:
        """Number of rows with an answer that stands."""
        return self._state.answered

    def answer_to(self, row: str) -> Value | Skip | None:
        """Current answer of a row: class names, `SKIP`, or None."""
        with self._lock:
            return self._value(self._state.last.get(row))

    def answers_to(self, rows: Iterable[str]) -> list[Value | Skip | None]:
        """Current answer of each row, as `answer_to` returns it."""
        with self._lock:
            return [self._value(self._state.last.get(row)) for row in rows]

    @property
    def skipped(self) -> set[str]:
        """Ids of the rows that are neither trained on nor asked again: declined ones, and those in dispute."""
        with self._lock:
            declined = {row for row, event in self._state.last.items() if event is not None and event.kind == "skipped"}
            return declined | self._state.disputed

    @property
    def pending(self) -> list[str]:
        """Ids of queried rows without an answer, in the order in which to ask them."""
        with self._lock:
            return self._state.queue()

    @property
    def round(self) -> int:
        """Number of batches queried so far."""
        return self._state.round

    @property
    def written(self) -> tuple[int, int]:
        """Numbers of the last event and the last proposal. They change whenever the state of a session changes."""
        return self._state.event, self._proposals.last

    @property
    def retired(self) -> set[str]:
        """Ids of the rows that were taken out of the pool."""
        with self._lock:
            return set(self._state.retired)

    @property
    def labels_event(self) -> int:
        """Number of the last event that changed an answer; 0 if none did."""
        return self._state.labels_event

    @property
    def labels_round(self) -> int:
        """Number of batches queried when an answer last changed."""
        return self._state.labels_round

    @property
    def work(self) -> AnnotationTotals:
        """Totals of cost, time and sources of the answers. Do not modify."""
        return self._state.work

    @property
    def answers_before_batch(self) -> dict[str, Event]:
        """Answers and skips that were current when the latest batch was queried, by row id."""
        with self._lock:
            return self._state.before_batch()

    def was_asked(self, row: str) -> bool:
        """Whether the row was ever queried."""
        return row in self._state.asked

    @property
    def proposals(self) -> list[Proposal]:
        """All proposed labels, oldest first."""
        with self._lock:
            return list(self._proposals.items)

    @property
    def unread(self) -> list[Unread]:
        """All model responses that could not be parsed, oldest first."""
        with self._lock:
            return list(self._unread.items)

    @property
    def token_budget(self) -> int | None:
        """Token budget recorded last, in tokens per batch of a pass; None if there is none."""
        return self._token_budget

    def batch(self, round: int) -> Batch:
        """The batch queried in `round`, counted from 1.

        Raises:
            SessionError: there is no such round.
        """
        with self._lock, self._reporting("could not be read"):
            if not 1 <= round <= self._state.round:
                raise SessionError(f"{self._name} has no round {round}; rounds asked: {self._state.round}")
            connection, begin = self._connection(), self._state.begins[round - 1]
            head = connection.execute("SELECT strategy, details FROM batches WHERE round = ?", (round,)).fetchone()
            if head is None:
                raise self._damaged(f"its table batches has no round {round}, which was asked")
            query = "SELECT row, score FROM events WHERE event >= ? AND event < ? AND kind = 'asked' ORDER BY event"
            end = self._state.begins[round] if round < self._state.round else self._state.event + 1
            asked = connection.execute(query, (begin, end)).fetchall()
        strategy, details = head
        try:
            facts = parse_json(details) if isinstance(details, str | bytes) else None
        except ValueError as error:
            raise self._damaged(f"the details of round {round} cannot be read: {one_line(error)}") from error
        if not isinstance(strategy, str) or not isinstance(facts, dict):
            raise self._damaged(f"the details of round {round} are not those of a batch")
        scores = tuple(score for _, score in asked)
        known = None if any(score is None for score in scores) else scores
        return Batch(round, strategy, tuple(row for row, _ in asked), known, facts)

    def events(self, after: int = 0) -> Iterator[Event]:
        """Iterate over the events, oldest first.

        Args:
            after: number of an event; only later events are returned.
        """
        last = self._state.event  # events that are appended during the iteration are left out
        while after < last:
            with self._lock, self._reporting("could not be read"):
                lines = self._lines(self._connection(), "events", events.COLUMNS, after)
            for number, line in lines:
                if number > last:
                    return
                after = number
                yield self._read("event", number, events.read, line)
            if not lines:
                raise self._damaged(f"event {after + 1} is missing")

    # -- appending -------------------------------------------------------------------------------------------------

    def propose(self, given: Sequence[Proposal]) -> None:
        """Store proposed labels, all or none. They neither answer a query nor replace an answer."""
        with self.changing() as connection:
            proposals.append(connection, given, self._state.round)

    def keep_unread(self, given: Sequence[Unread]) -> None:
        """Store model responses that could not be parsed, all or none. They do not answer a query."""
        with self.changing() as connection:
            unread.append(connection, given, self._state.round)

    @property
    def last_given(self) -> tuple[str, Value | Skip | None] | None:
        """The row whose answer `undo` retracts, and its previous answer; None if there is nothing to undo."""
        with self._lock:
            if not self._state.given:
                return None
            row = next(reversed(self._state.given.values())).row
            return row, self._value(self._state.before(row))

    def undo(self) -> str:
        """Retract the most recent answer (or skip) and return its row id.

        The previous answer of the row becomes current again; without one, a queried row becomes the first pending one.

        Raises:
            SessionError: there is nothing to undo.
        """
        with self.changing() as connection:
            if not self._state.given:
                raise SessionError("there is no answer to undo")
            last = next(reversed(self._state.given.values()))
            self._retract(connection, last, who="", key=None)
        return last.row

    def record_budget(self, tokens: int) -> None:
        """Store the token budget, in tokens per batch, with which later passes start."""
        with self.changing() as connection:
            connection.execute("INSERT INTO budgets (round, tokens) VALUES (?, ?)", (self._state.round, tokens))

    def refresh(self) -> None:
        """Read what other stores and processes have written to the file. `changing` does so at its beginning."""
        with self._lock, self._reporting("could not be read"):
            if not self._joined:
                self._catch_up(self._connection())

    # -- reading new rows ------------------------------------------------------------------------------------------

    def _catch_up(self, connection: sqlite3.Connection) -> None:
        """Read the rows added since the last call. An error closes the store, since its state would be incomplete."""
        super()._catch_up(connection)
        state = self._state
        tables: tuple[_TableCache[Any], ...] = (self._proposals, self._unread)
        try:
            while lines := self._lines(connection, "events", events.COLUMNS, state.event):
                for number, line in lines:
                    if number != state.event + 1:
                        raise self._damaged(f"event {state.event + 1} is missing, the next is {number}")
                    self._read("event", number, self._apply_event, line)
            for table in tables:
                while lines := self._lines(connection, table.table, f"number, {table.columns}", table.last):
                    for number, line in lines:
                        table.items.append(self._read(f"line of {table.table}", number, table.read, line[1:]))
                        table.last = number
            budget = connection.execute("SELECT number, tokens FROM budgets ORDER BY number DESC LIMIT 1").fetchone()
            if budget is not None and not (isinstance(budget[1], int) and budget[1] > 0):
                raise self._damaged(f"budget {budget[0]} is {shortened(repr(budget[1]))}, not a number of tokens")
            self._token_budget = None if budget is None else budget[1]
        except BaseException:
            self.close()
            raise

    def _apply_event(self, line: Sequence[Any]) -> None:
        event, state = events.read(line), self._state
        if event.round not in (
            (state.round or 1, state.round + 1) if event.kind == "asked" else range(state.round + 1)
        ):
            raise ValueError(f"its round is {event.round}, and {state.round} were asked before")
        state.apply(event)

    def _value(self, event: Event | None) -> Value | Skip | None:
        """The answer that an event holds, in the current names of its classes; None without an event."""
        return None if event is None else self._state.reading(event)
