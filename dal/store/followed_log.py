"""A log of questions and answers that is followed up to a known event, so that others may write to it meanwhile."""

import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Generic, TypeVar

from dal.errors import shortened
from dal.store import events, proposals
from dal.store import unread_answers as unread
from dal.store.event_checks import LogEnd, are_usual, checked_end
from dal.store.events import Event
from dal.store.label_database import Access
from dal.store.label_log import LabelLog
from dal.store.label_reader import CHANGES_LABELS
from dal.store.log_state import StoreState

T = TypeVar("T")


class _TableCache(Generic[T]):
    """Items of an append-only table, read when they are first wanted.

    Args:
        table: name of the table.
        columns: names of its columns, separated by commas.
        read: function that converts a row to an item or raises ValueError.

    Attributes:
        items: the items read so far.
        last: number of the last line that is in the table.
        read_to: number of the last line that was read.
    """

    def __init__(self, table: str, columns: str, read: Callable[[Sequence[Any]], T]) -> None:
        self.table, self.columns, self.read = table, columns, read
        self.items: list[T] = []
        self.last = self.read_to = 0


class FollowedLog(LabelLog):
    """A log with the numbers of its last event, round and proposal, as they were when it was last looked at.

    New lines are checked by SQL, and none is kept in memory. `changing`, `at_once` and `refresh` look at the file.

    Args:
        path, access, upto: as in `dal.store.label_database.LabelFile`.

    Raises:
        SessionError: as for `LabelLog`.
    """

    def __init__(self, path: Path | str | None, *, access: Access = "write", upto: int | None = None) -> None:
        self._end = LogEnd()  # how far the log was read
        self._labels = (0, 0)  # number and round of the last event that changed an answer
        self._state: StoreState | None = None  # after all events, once something needs that
        self._proposals = _TableCache("proposals", proposals.COLUMNS, proposals.read)
        self._unread = _TableCache("unread", unread.COLUMNS, unread.read)
        self._token_budget: int | None = None
        super().__init__(path, access=access, upto=upto)

    @contextmanager
    def at_once(self) -> Iterator[None]:
        """Context manager in which all calls see the log as it is at its beginning, whatever others write meanwhile.

        Other threads wait. Within `changing`, the calls see what that has written.
        """
        with self._lock, self._reporting("could not be read"):
            connection = self._connection()
            if connection.in_transaction:
                yield
                return
            connection.execute("BEGIN")
            try:
                self._catch_up(connection)
                yield
            finally:
                if not self._closed and connection.in_transaction:
                    connection.execute("COMMIT")

    @property
    def round(self) -> int:
        """Number of batches queried so far."""
        return self._end.round

    @property
    def written(self) -> tuple[int, int]:
        """Numbers of the last event and the last proposal. They change whenever the state of a session changes."""
        return self._end.event, self._proposals.last

    @property
    def labels_event(self) -> int:
        """Number of the last event that changed an answer; 0 if none did."""
        return self._labels[0]

    @property
    def labels_round(self) -> int:
        """Number of batches queried when an answer last changed."""
        return self._labels[1]

    @property
    def token_budget(self) -> int | None:
        """Token budget recorded last, in tokens per batch of a pass; None if there is none."""
        return self._token_budget

    def events(self, after: int = 0) -> Iterator[Event]:
        """Iterate over the events, oldest first.

        Args:
            after: number of an event; only later events are returned.
        """
        last = self._end.event  # events that are appended during the iteration are left out
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

    def refresh(self) -> None:
        """Read what other stores and processes have written to the file. `changing` does so at its beginning."""
        with self._lock, self._reporting("could not be read"):
            if not self._joined:
                self._catch_up(self._connection())

    # -- reading the file ------------------------------------------------------------------------------------------

    @contextmanager
    def _current(self) -> Iterator[sqlite3.Connection]:
        """The connection, without reading first what others have written."""
        with self._lock, self._reporting("could not be read"):
            yield self._connection()

    def _catch_up(self, connection: sqlite3.Connection) -> None:
        """Check the lines added since the last call. An error closes the store, which would go on from a wrong end."""
        super()._catch_up(connection)
        try:
            known, end = self._end, checked_end(connection, self._end)
            if end is None:  # most often it is damaged, and this tells where
                self._state = None
                state = self._replayed(connection, None)
                answers = [event.value for event in state.given.values() if event.value is not None]
                end = replace(known, event=state.event, round=state.round).with_values(answers)
            if end != known:
                self._end, self._labels = end, self._last_change(connection, known.event)
            for table in (self._proposals, self._unread):
                self._find_last(connection, table)
            budget = connection.execute("SELECT number, tokens FROM budgets ORDER BY number DESC LIMIT 1").fetchone()
            if budget is not None and not (isinstance(budget[1], int) and budget[1] > 0):
                raise self._damaged(f"budget {budget[0]} is {shortened(repr(budget[1]))}, not a number of tokens")
            self._token_budget = None if budget is None else budget[1]
        except BaseException:
            self.close()
            raise

    def _last_change(self, connection: sqlite3.Connection, after: int) -> tuple[int, int]:
        """Number and round of the last event that changed an answer; only those after a number are looked at."""
        query = (
            f"SELECT event, round FROM events AS e WHERE event > ? AND ({CHANGES_LABELS}) ORDER BY event DESC LIMIT 1"
        )
        found = connection.execute(query, (after,)).fetchone()
        return self._labels if found is None else (found[0], found[1])

    def _find_last(self, connection: sqlite3.Connection, table: _TableCache[Any]) -> None:
        """Find the last line of a table, and read the new ones if a label store would not have written them."""
        last = connection.execute(f"SELECT coalesce(max(number), 0) FROM {table.table}").fetchone()[0]
        if last != table.last:
            usual, table.last = are_usual(connection, table.table, table.last), last
            if not usual:
                self._read_items(connection, table)

    def _items(self, table: _TableCache[T]) -> list[T]:
        with self._current() as connection:
            self._read_items(connection, table)
            return list(table.items)

    def _read_items(self, connection: sqlite3.Connection, table: _TableCache[Any]) -> None:
        while table.read_to < table.last:
            lines = self._lines(connection, table.table, f"number, {table.columns}", table.read_to)
            for number, line in lines:
                if number > table.last:
                    return
                table.items.append(self._read(f"line of {table.table}", number, table.read, line[1:]))
                table.read_to = number
            if not lines:
                return

    def _replayed(self, connection: sqlite3.Connection, upto: int | None) -> StoreState:
        """The state after all events up to a number, or after all of them, with an object for each."""
        state = self._state or StoreState()
        while (upto is None or state.event < upto) and (
            lines := self._lines(connection, "events", events.COLUMNS, state.event)
        ):
            for number, line in lines:
                if upto is not None and number > upto:
                    break
                if number != state.event + 1:
                    raise self._damaged(f"event {state.event + 1} is missing, the next is {number}")
                self._read("event", number, lambda line: _apply(state, line), line)
        self._state = state
        return state


def _apply(state: StoreState, line: Sequence[Any]) -> None:
    event = events.read(line)
    if event.round not in ((state.round or 1, state.round + 1) if event.kind == "asked" else range(state.round + 1)):
        raise ValueError(f"its round is {event.round}, and {state.round} were asked before")
    state.apply(event)
