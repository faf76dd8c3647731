"""Writing to the log of questions and answers: transactions, retractions, and the states of rows that follow."""

import sqlite3
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from dal.errors import AnswerError
from dal.store.answer_history import AnswerHistory
from dal.store.class_restating import restate_class
from dal.store.events import Event
from dal.store.standing_rows import write_states


class LogWriter(AnswerHistory):
    """A log that can be written to. What stands for a row is written in the transaction that stores its events.

    Args:
        path, access, upto: as in `LabelReader`.

    Raises:
        SessionError: as for `LabelReader`.
    """

    @contextmanager
    def changing(self) -> Iterator[sqlite3.Connection]:
        """Open a write transaction that excludes other threads and processes.

        What others have written is read at the beginning. Calls on this log inside the block join the transaction:
        they are committed together at its end, or not at all after an error.

        Raises:
            SessionError: the file cannot be written, or is damaged.
        """
        with self._lock, self._reporting("could not be written; nothing of this call was stored"):
            connection = self._connection()
            if self._joined:
                yield connection
                return
            connection.execute("BEGIN IMMEDIATE")  # not deferred: what is read next must not change before the write
            try:
                self._joined = True
                self._catch_up(connection)  # checks within the block see what other processes have written
                last = self._last_event(connection)
                self._counts.begin(last)
                if last != self._written:  # by another process
                    self._places.forget()
                yield connection
                last = self._last_event(connection)
                connection.execute("COMMIT")
                self._counts.end(last)
                self._written = last
            except BaseException:
                # They may include what was rolled back, also by SQLite itself, as on a full disk.
                self._table_event = -1
                self._counts.forget()
                self._places.forget()
                if not self._closed and connection.in_transaction:
                    connection.execute("ROLLBACK")
                raise
            finally:
                self._joined = False
            self._catch_up(connection)  # only committed rows enter the state, by the way that a reader takes too

    def retract(self, number: int, *, who: str = "", key: str | None = None) -> None:
        """Retract an answer, a skip, a deferral, a note, a retirement or a change of a class by its number.

        Raises:
            AnswerError: there is no such event, or it was retracted already, or a later change of a class depends on
                it. Nothing is stored.
        """
        with self.changing() as connection:
            event = self._numbered(connection, number)
            query = "SELECT 1 FROM events WHERE retracts = ?"
            if event.kind in ("asked", "withdrawn", "retracted") or connection.execute(query, (number,)).fetchone():
                raise AnswerError(f"event {number} cannot be retracted")
            self._retract(connection, event, who=who, key=key)

    def _retract(self, connection: sqlite3.Connection, event: Event, *, who: str, key: str | None) -> None:
        inserted = connection.execute(
            "INSERT INTO events (kind, at, round, row, who, retracts, key) VALUES ('retracted', ?, ?, ?, ?, ?, ?)",
            (time.time(), self._round(connection), event.row, who or None, event.event, key),
        )
        if event.row:
            if event.kind == "retired":  # the row is asked again where it was
                self._places.forget()
            self._restate(connection, [event.row])
            return
        change = self._table.change(event.event)
        if change is not None and change["do"] == "add":
            raise AnswerError("a class that was added cannot be taken back: retire it")
        counted = self._counted()
        try:
            self._table.retract(inserted.lastrowid or 0, event.event)
        except ValueError as error:
            raise AnswerError(str(error)) from error
        self._table_event = inserted.lastrowid or 0
        if change is not None and change["do"] in ("merge", "retire"):
            self._restate_class(connection, change["id"], counted)

    def _counted(self) -> set[int]:
        """Ids of the classes whose answers count."""
        return {number for number in self._table.entries if self._table.final(number) is not None}

    def _restate_class(self, connection: sqlite3.Connection, number: int, counted: set[int]) -> None:
        """Write the states of the rows with an answer of a class that was merged, retired or restored.

        Args:
            connection: connection in a write transaction.
            number: id of the class.
            counted: ids of the classes whose answers counted before.
        """
        self._counts.forget()
        self._places.forget()
        restate_class(
            connection,
            self._table,
            number,
            counted=number in counted,
            counts=number in self._counted(),
            restate=lambda rows: self._restate(connection, rows),
        )

    def _restate(self, connection: sqlite3.Connection, rows: Iterable[str]) -> None:
        write_states(connection, rows, self._table, self._event, self._counts)

    def _append(
        self, kind: str, row: str, value: str | None = None, *, who: str, key: str, restated: bool = False
    ) -> Event:
        with self.changing() as connection:
            known = self._keyed(connection, key)
            if known is not None:
                return known
            connection.execute(
                "INSERT INTO events (kind, at, round, row, value, who, key) VALUES (?, ?, ?, ?, ?, ?, ?)",
                (kind, time.time(), self._round(connection), row, value, who, key),
            )
            if restated:
                self._restate(connection, [row])
                self._end_lease(connection, row, who)
            stored = self._keyed(connection, key)
        assert stored is not None
        return stored

    def _end_lease(self, connection: sqlite3.Connection, row: str, who: str) -> None:
        connection.execute("DELETE FROM leases WHERE row = ? AND who = ?", (row, who))
