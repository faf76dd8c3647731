"""Log of questions and answers, as it is read: by index, without a replay of its events."""

import json
import sqlite3
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dal.errors import AnswerError, SessionError, shortened
from dal.store import events, leases
from dal.store.bounded_json import parse_json
from dal.store.class_table import ClassTable
from dal.store.events import Event, Skip, Value
from dal.store.label_database import Access, LabelFile
from dal.store.row_state import RowState
from dal.store.standing_rows import meaning, read_states, renamed, write_states

_PAGE = 500  # answers that are read together
STANDS = "NOT EXISTS (SELECT 1 FROM events AS r WHERE r.retracts = e.event)"
GIVEN = f"kind IN ('answered', 'skipped') AND {STANDS}"
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
        self._joined = False  # whether a transaction is open, which further calls join
        self._table = ClassTable()
        self._table_event = 0  # last event with a change of a class that `_table` includes
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
            return int(connection.execute("SELECT coalesce(max(event), 0) FROM events").fetchone()[0])

    @property
    def labels_event(self) -> int:
        """Number of the last event that changed an answer, a class or the rows that count; 0 if none did."""
        with self._reading() as connection:
            query = (
                "SELECT event FROM events AS e WHERE kind IN ('answered', 'skipped', 'class', 'retired') OR "
                "kind = 'retracted' AND (row = '' OR (SELECT kind FROM events AS o WHERE o.event = e.retracts) "
                "NOT IN ('deferred', 'noted')) ORDER BY event DESC LIMIT 1"
            )
            found = connection.execute(query).fetchone()
            return 0 if found is None else int(found[0])

    def row(self, row: str) -> RowState:
        """State of a row; that of a new row if it was never asked or answered."""
        with self._reading() as connection:
            return self._states(connection, [row]).get(row, RowState())

    def counts(self) -> dict[str, int]:
        """Number of rows of each state, but for new ones, by name of the state."""
        with self._reading() as connection:
            return dict(connection.execute("SELECT state, count(*) FROM standing GROUP BY state ORDER BY state"))

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
        return {event.who or "": self.renamed(event) for event in given if self.reading(event) is not None}

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

    def history(
        self,
        *,
        who: str | None = None,
        class_id: int | None = None,
        since: float | None = None,
        until: float | None = None,
        rows: Sequence[str] | None = None,
        before: int | None = None,
        visible: Callable[[Event], bool] = lambda event: True,
        limit: int = 50,
    ) -> list[Event]:
        """Current answers and skips of people, newest first, with the current names of their classes.

        Args:
            who: person; None for all.
            class_id: class that the answer has today; None for all.
            since, until: limits of the time of the answer, in seconds since 1970.
            rows: row ids; None for all.
            before: number of an event; only earlier ones are returned.
            visible: whether an answer may be returned.
            limit: maximum number of answers.
        """
        conditions, values = ["kind IN ('answered', 'skipped')", STANDS], list[Any]()
        for condition, value in (("who = ?", who), ("at >= ?", since), ("at < ?", until)):
            if value is not None:
                conditions.append(condition)
                values.append(value)
        conditions.append(  # not replaced by a later answer of the same person
            "NOT EXISTS (SELECT 1 FROM events AS n WHERE n.row = e.row AND n.event > e.event AND n.who IS e.who AND "
            "n.kind IN ('answered', 'skipped') AND NOT EXISTS (SELECT 1 FROM events AS q WHERE q.retracts = n.event))"
        )
        if rows is not None:
            conditions.append("row IN (SELECT value FROM json_each(?))")
            values.append(json.dumps(list(rows)))
        found: list[Event] = []
        query = f"{SELECT} WHERE {' AND '.join(conditions)} AND event < ? ORDER BY event DESC LIMIT ?"
        last = 1 << 62 if before is None else before
        page = min(_PAGE, limit) if class_id is None else _PAGE
        while len(found) < limit:
            with self._reading() as connection:  # page by page: others may store an answer in between
                lines = connection.execute(query, (*values, last, page)).fetchall()
                given = [self.renamed(self._event(line)) for line in lines]
            of_class = (event for event in given if class_id is None or class_id in self._final_ids(event))
            found += [event for event in of_class if visible(event)]
            if len(lines) < page:
                break
            last = given[-1].event
        return found[:limit]

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

    def _final_ids(self, event: Event) -> set[int]:
        """Ids of the classes that an answer with current names has."""
        names = (event.value,) if isinstance(event.value, str) else event.value or ()
        ids = {entry.name: entry.id for entry in self._table.active}
        return {ids[name] for name in names if name in ids}

    def _states(self, connection: sqlite3.Connection, rows: Sequence[str]) -> dict[str, RowState]:
        return read_states(connection, rows, self._event)

    def _derive(self, connection: sqlite3.Connection, rows: Sequence[str] | None = None) -> None:
        self._read_classes(connection)
        if rows is None:
            query = "SELECT DISTINCT row FROM events WHERE row <> ''"
            connection.execute("DELETE FROM standing")
            rows = [row for (row,) in connection.execute(query).fetchall()]
        write_states(connection, rows, self._table, self._event)

    # -- events ----------------------------------------------------------------------------------------------------

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

    def _latest(self, connection: sqlite3.Connection, row: str, who: str) -> Event | None:
        """The person's current answer or skip of a row that counts."""
        line = connection.execute(
            # +who: by the index of rows, since a person has more answers than a row
            f"{SELECT} WHERE row = ? AND +who = ? AND {GIVEN} ORDER BY event DESC LIMIT 1",
            (row, who),
        ).fetchone()
        event = None if line is None else self._event(line)
        return None if event is None or self.reading(event) is None else self.renamed(event)


def now_or(at: float | None) -> float:
    """A time in seconds since 1970, or now."""
    return time.time() if at is None else at
