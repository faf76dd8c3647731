"""Log of questions and answers, as it is read: by index, without a replay of its events."""

import json
import sqlite3
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dal.errors import AnswerError, SessionError, shortened
from dal.store import events, leases
from dal.store.answered_places import AnsweredPlaces
from dal.store.bounded_json import parse_json
from dal.store.class_table import ClassTable
from dal.store.events import Event, Skip, Value
from dal.store.label_database import Access, LabelFile
from dal.store.row_state import RowState, counted_answers
from dal.store.standing_rows import meaning, read_states, renamed, write_states
from dal.store.state_counts import StateCounts

#: Conditions of an event e: that it was not retracted, and that it is an answer or a skip besides.
STANDS = "NOT EXISTS (SELECT 1 FROM events AS r WHERE r.retracts = e.event)"
GIVEN = f"kind IN ('answered', 'skipped') AND {STANDS}"
#: Condition of an event e that changes an answer, a class or the rows that count.
CHANGES_LABELS = (
    "kind IN ('answered', 'skipped', 'class', 'retired') OR kind = 'retracted' AND (row = '' OR "
    "(SELECT kind FROM events AS o WHERE o.event = e.retracts) NOT IN ('deferred', 'noted'))"
)
#: Beginning of a query of events e, whose lines `LabelReader._event` reads.
SELECT = f"SELECT {events.COLUMNS} FROM events AS e"


@dataclass(frozen=True)
class Person:
    """A person who may answer.

    Attributes:
        who: name.
        token: SHA-256 digest of the person's token; None for none.
        rights: words such as "classes" and "adjudicate".
        since: when the access began, in seconds since 1970.
        until: when it ends or ended; None if it does not end.
    """

    who: str
    token: bytes | None
    rights: tuple[str, ...]
    since: float
    until: float | None = None

    def has_access(self) -> bool:
        """Whether the access has not ended."""
        return self.until is None or self.until > time.time()


class LabelReader(LabelFile):
    """What stands in a log, for each row and in all.

    What stands for a row is a line of an indexed table that is written with its events, so that no call depends on the
    length of the log. Thread-safe.

    Args:
        path: SQLite file; None keeps the log in memory.
        access, upto: as in `LabelFile`.

    Raises:
        SessionError: the file is not a label store, is damaged, or was written by a newer version.
    """

    def __init__(self, path: Path | str | None, *, access: Access = "write", upto: int | None = None) -> None:
        super().__init__(path, access=access, upto=upto)
        self._written = -1  # last event at the end of the last transaction of this log
        self._joined = False  # whether a transaction is open, which further calls join
        self._table = ClassTable()
        self._table_event = 0  # last event with a change of a class that `_table` includes
        self._counts, self._places = StateCounts(), AnsweredPlaces()
        try:
            with self._reporting("could not be read"):
                self._open()
                self._catch_up(self._connection())
        except BaseException:
            self.close()
            raise

    def _catch_up(self, connection: sqlite3.Connection) -> None:
        """Read what was added since the last call."""
        self._read_classes(connection)

    def _read_classes(self, connection: sqlite3.Connection) -> None:
        """Apply the changes of classes that were added since the last call."""
        if self._table_event < 0:
            self._table, self._table_event = ClassTable(), 0
        query = f"SELECT {events.COLUMNS} FROM events WHERE row = '' AND event > ? ORDER BY event"
        for line in connection.execute(query, (self._table_event,)).fetchall():
            self._read("event", line[0], self._apply_to_classes, line)
            self._table_event = line[0]

    def _apply_to_classes(self, line: Sequence[Any]) -> None:
        event = events.read(line)
        if event.kind == "class":
            self._table.apply(event.event, event.value if isinstance(event.value, str) else None)
        elif event.kind == "retracted" and event.retracts is not None:
            self._table.retract(event.event, event.retracts)

    @contextmanager
    def _reading(self) -> Iterator[sqlite3.Connection]:
        with self._lock, self._reporting("could not be read"):
            connection = self._connection()
            if not self._joined:
                self._catch_up(connection)
            yield connection

    # -- state -----------------------------------------------------------------------------------------------------

    @property
    def classes(self) -> ClassTable:
        """The classes that the log adds and changes. Do not modify."""
        with self._reading():
            return self._table

    @property
    def round(self) -> int:
        """Number of batches queried so far."""
        with self._reading() as connection:
            return self._round(connection)

    @property
    def last_event(self) -> int:
        """Number of the last event; 0 without any."""
        with self._reading() as connection:
            return self._last_event(connection)

    @property
    def labels_event(self) -> int:
        """Number of the last event that changed an answer, a class or the rows that count; 0 if none did."""
        with self._reading() as connection:
            query = f"SELECT event FROM events AS e WHERE {CHANGES_LABELS} ORDER BY event DESC LIMIT 1"
            found = connection.execute(query).fetchone()
            return 0 if found is None else int(found[0])

    def row(self, row: str) -> RowState:
        """State of a row; that of a new row if it was never asked or answered."""
        with self._reading() as connection:
            return self._states(connection, [row]).get(row, RowState())

    def counts(self) -> dict[str, int]:
        """Number of rows of each state, but for new ones, by name of the state."""
        with self._reading() as connection:
            return self._counts.read(connection, -2 if self._joined else self._last_event(connection))

    def class_counts(self) -> dict[int, int]:
        """Number of answered rows with a class, by its id. Merged classes count for their target.

        The first answer to a row that waits for a second person does not count: the figure would tell her what it is.
        """
        counts = {entry.id: 0 for entry in self.classes.active}
        with self._reading() as connection:
            given = "state = 'answered' AND classes IS NOT NULL"
            query = f"SELECT classes, count(*) FROM standing WHERE {given} GROUP BY classes"
            for text, n in connection.execute(query).fetchall():
                finals = (self._table.final(each) for each in json.loads(text) if isinstance(each, int))
                for number in {entry.id for entry in finals if entry is not None}:
                    counts[number] += n
        return counts

    def answers_by(self, row: str) -> dict[str, Event]:
        """Current answer or skip of each person to a row, with the current names of its classes."""
        with self._reading() as connection:
            lines = connection.execute(
                f"{SELECT} WHERE row = ? AND {GIVEN} ORDER BY event",
                (row,),
            ).fetchall()
            given = [self._event(line) for line in lines]
        # A person who settled a dispute that she took part in is shown with the answer that she gave last.
        return {event.who or "": self.renamed(event) for event in counted_answers(given, self.reading)}

    def states(self, rows: Sequence[str]) -> dict[str, RowState]:
        """States of the rows that are not new, by id."""
        with self._reading() as connection:
            return self._states(connection, rows)

    def disputes(self) -> list[str]:
        """Ids of the rows on which people disagree and nobody has adjudicated."""
        with self._reading() as connection:
            return [
                row for (row,) in connection.execute("SELECT row FROM standing WHERE state = 'disputed' ORDER BY row")
            ]

    def in_state(self, state: str, *, after: str = "", limit: int = 1_000) -> list[str]:
        """Ids of the rows in a state, ascending, at most `limit` of them, after the id `after`."""
        with self._reading() as connection:
            query = "SELECT row FROM standing WHERE state = ? AND row > ? ORDER BY row LIMIT ?"
            return [row for (row,) in connection.execute(query, (state, after, limit)).fetchall()]

    def queue(self, limit: int = -1) -> list[str]:
        """Ids of the pending rows in the order in which to ask them; all of them if `limit` is negative."""
        with self._reading() as connection:
            query = "SELECT row FROM standing WHERE place IS NOT NULL ORDER BY place LIMIT ?"
            return [row for (row,) in connection.execute(query, (limit,)).fetchall()]

    def batch_details(self, round: int) -> tuple[str, Mapping[str, Any]]:
        """Strategy and details of the batch queried in `round`.

        Raises:
            SessionError: there is no such round, or its details are damaged.
        """
        with self._reading() as connection:
            line = connection.execute("SELECT strategy, details FROM batches WHERE round = ?", (round,)).fetchone()
        if line is None:
            raise SessionError(f"{self._name} has no round {round}")
        try:
            details = parse_json(line[1])
        except (ValueError, TypeError):
            details = None
        if not isinstance(line[0], str) or not isinstance(details, dict):
            raise self._damaged(f"the details of round {round} are not those of a batch")
        return line[0], details

    def readers(self, *, at: float | None = None) -> dict[str, list[str]]:
        """People who are reading a row, by row id."""
        with self._reading() as connection:
            return leases.readers(connection, now=now_or(at))

    def claimable(self, *, at: float | None = None) -> int:
        """Number of pending rows that another person could be given."""
        with self._reading() as connection:
            return leases.claimable(connection, now=now_or(at))

    def notes(self, row: str) -> list[Event]:
        """Notes to a row, oldest first."""
        with self._reading() as connection:
            query = f"{SELECT} WHERE row = ? AND kind = 'noted' AND {STANDS} ORDER BY event"
            return [self._event(line) for line in connection.execute(query, (row,)).fetchall()]

    def people(self) -> list[Person]:
        """People who have or had access, by name."""
        with self._reading() as connection:
            lines = connection.execute("SELECT who, token, rights, since, until FROM people ORDER BY who").fetchall()
        return [
            Person(who, token, self._rights(who, rights), since, until) for who, token, rights, since, until in lines
        ]

    def _rights(self, who: str, text: Any) -> tuple[str, ...]:
        try:
            rights = parse_json(text)
        except (ValueError, TypeError):
            rights = None
        if not isinstance(rights, list) or not all(isinstance(each, str) for each in rights):
            raise self._damaged(f"the rights of {shortened(repr(who))} are not a list of words")
        return tuple(rights)

    # -- meaning of answers ----------------------------------------------------------------------------------------

    def reading(self, event: Event) -> Value | Skip | None:
        """Meaning of an answer in the current classes: names, `SKIP`, or None for a class that was retired."""
        return meaning(self._table, event)

    def renamed(self, event: Event) -> Event:
        """An answer with the current names of its classes."""
        return renamed(self._table, event)

    def _states(self, connection: sqlite3.Connection, rows: Sequence[str]) -> dict[str, RowState]:
        return read_states(connection, rows, self._event)

    def _derive(self, connection: sqlite3.Connection, rows: Sequence[str] | None = None) -> None:
        self._read_classes(connection)
        if rows is None:
            query = "SELECT DISTINCT row FROM events WHERE row <> ''"
            connection.execute("DELETE FROM standing")
            rows = [row for (row,) in connection.execute(query).fetchall()]
        write_states(connection, rows, self._table, self._event, self._counts)
        self._counts.forget()

    # -- events ----------------------------------------------------------------------------------------------------

    def _last_event(self, connection: sqlite3.Connection) -> int:
        return int(connection.execute("SELECT coalesce(max(event), 0) FROM events").fetchone()[0])

    def _round(self, connection: sqlite3.Connection) -> int:
        return int(connection.execute("SELECT coalesce(max(round), 0) FROM batches").fetchone()[0])

    def _event(self, line: Sequence[Any]) -> Event:
        return self._read("event", line[0], events.read, line)

    def _numbered(self, connection: sqlite3.Connection, number: int) -> Event:
        line = connection.execute(f"SELECT {events.COLUMNS} FROM events WHERE event = ?", (number,)).fetchone()
        if line is None:
            raise AnswerError(f"there is no event {number}")
        return self._event(line)

    def _keyed(self, connection: sqlite3.Connection, key: str) -> Event | None:
        line = connection.execute(f"SELECT {events.COLUMNS} FROM events WHERE key = ?", (key,)).fetchone()
        return None if line is None else self.renamed(self._event(line))


def now_or(at: float | None) -> float:
    """A time in seconds since 1970, or now."""
    return time.time() if at is None else at
