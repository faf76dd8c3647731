"""Every question and every answer, append-only, in one SQLite file that never loses an answer."""

import json
import sqlite3
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Generic, TypeVar

from dal import events, proposals, unread
from dal.errors import SessionError
from dal.events import SKIP, Answer, Batch, Event, Skip, State, Value
from dal.proposals import Proposal
from dal.unread import Unread

_APPLICATION = 0x64616C31  # "dal1" in the file's header: this file is a label store
_VERSION = 1
_BUSY_SECONDS = 30.0

_SCHEMA = """
CREATE TABLE events (
    event INTEGER PRIMARY KEY AUTOINCREMENT,
    kind TEXT NOT NULL CHECK (kind IN ('asked', 'answered', 'skipped', 'retracted')),
    at REAL NOT NULL,                 -- seconds since 1970, UTC
    round INTEGER NOT NULL,
    row TEXT NOT NULL,                -- the row's id
    score REAL,                       -- asked: what made it win
    value TEXT,                       -- answered: a class name, or a list of them, as JSON
    who TEXT, source TEXT, seconds REAL, cost REAL, confidence REAL,
    retracts INTEGER REFERENCES events (event)
) STRICT;
CREATE TABLE batches (
    round INTEGER PRIMARY KEY,
    strategy TEXT NOT NULL,
    details TEXT NOT NULL             -- JSON
) STRICT;
CREATE TABLE budgets (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    round INTEGER NOT NULL,
    tokens INTEGER NOT NULL           -- per batch of a pass, after it ran out of memory
) STRICT;
"""


T = TypeVar("T")


class _Kept(Generic[T]):
    """All that a table beside the events holds, read on from where it was left."""

    def __init__(self, stored: Callable[[sqlite3.Connection, int], list[tuple[int, T]]]) -> None:
        self.items: list[T] = []
        self._stored, self._last = stored, 0

    def read_on(self, connection: sqlite3.Connection) -> None:
        for number, item in self._stored(connection, self._last):
            self.items.append(item)
            self._last = number


class LabelStore:
    """The log of questions and answers in the SQLite file `path` (in memory when None), and the state it implies.

    Events are only ever appended, each call in one transaction that is on disk before the call returns. The state
    (`answers`, `pending`, `skipped`, `round`) follows from the events alone. Answers are keyed by row id and hold class
    names, so that a pool can grow or be reordered without losing one. Safe to share between threads.

    Raises:
        SessionError: the file is no label store, is damaged, or was written by a newer version.

    Example:
        >>> store = LabelStore()
        >>> store.ask(["a", "b"])
        1
        >>> store.tell([Answer("a", "spam")])
        >>> store.answers, store.pending
        ({'a': 'spam'}, ['b'])
    """

    def __init__(self, path: Path | str | None = None) -> None:
        self.path = None if path is None else Path(path)
        self._lock = threading.RLock()
        self._local = threading.local()
        self._connections: list[sqlite3.Connection] = []
        self._closed = False
        self._state = State()
        self._proposals, self._unread = _Kept(proposals.stored), _Kept(unread.stored)
        self._token_budget: int | None = None
        try:
            with self._reporting("could not be read"):
                self._open()
        except BaseException:
            self.close()
            raise

    # -- what the events imply -------------------------------------------------------------------------------------

    @property
    def answers(self) -> dict[str, Value]:
        """The answer that stands for each answered row: id -> class name, or names when multi-label."""
        with self._lock:
            standing = self._state.standing()
            return {row: event.value for row, event in standing.items() if event.value is not None}

    def answer(self, row: str) -> Value | Skip | None:
        """What stands for one row: class names, `SKIP`, or None without an answer."""
        with self._lock:
            stack = self._state.stacks.get(row)
            if not stack:
                return None
            return SKIP if stack[-1].value is None else stack[-1].value

    @property
    def skipped(self) -> set[str]:
        """The ids of the rows that were declined."""
        with self._lock:
            return {row for row, event in self._state.standing().items() if event.value is None}

    @property
    def pending(self) -> list[str]:
        """The ids that were asked and have no answer, in the order in which to ask them."""
        with self._lock:
            return list(self._state.pending)

    @property
    def round(self) -> int:
        """How many batches were ever asked."""
        return self._state.round

    @property
    def labels_event(self) -> int:
        """The number of the last event that changed an answer, 0 when none did."""
        return self._state.labels_event

    @property
    def labels_round(self) -> int:
        """How many batches had been asked when an answer last changed."""
        return self._state.labels_round

    @property
    def proposals(self) -> list[Proposal]:
        """What was proposed beside the answers, in order."""
        with self._lock:
            return list(self._proposals.items)

    @property
    def unread(self) -> list[Unread]:
        """The answers of machines that could not be read, in order."""
        with self._lock:
            return list(self._unread.items)

    @property
    def token_budget(self) -> int | None:
        """The last token budget that was recorded for a pass, None when none was."""
        return self._token_budget

    def batch(self, round: int) -> Batch:
        """The batch that was asked in `round`, counted from 1.

        Raises:
            SessionError: there was no such round.
        """
        with self._lock, self._reporting("could not be read"):
            found = self._connection().execute("SELECT strategy, details FROM batches WHERE round = ?", (round,))
            head = found.fetchone()
            if head is None:
                raise SessionError(f"{self._name} has no round {round}; rounds asked: {self._state.round}")
            query = "SELECT row, score FROM events WHERE kind = 'asked' AND round = ? ORDER BY event"
            asked = self._connection().execute(query, (round,)).fetchall()
        scores = tuple(score for _, score in asked)
        known = None if any(score is None for score in scores) else scores
        return Batch(round, head[0], tuple(row for row, _ in asked), known, json.loads(head[1]))

    def events(self) -> Iterator[Event]:
        """Every event, oldest first."""
        with self._lock, self._reporting("could not be read"):
            lines = self._connection().execute("SELECT * FROM events ORDER BY event").fetchall()
        yield from map(events.read, lines)

    # -- appending -------------------------------------------------------------------------------------------------

    def ask(
        self,
        rows: Sequence[str],
        *,
        scores: Sequence[float] | None = None,
        strategy: str = "",
        details: Mapping[str, Any] | None = None,
    ) -> int:
        """The round of a new batch of questions, now stored: `rows` are pending, in this order.

        Args:
            rows: ids that are neither pending nor answered nor skipped.
            scores: one per row, what made it win.
            strategy: who chose them.
            details: anything about the choice that JSON can hold.

        Raises:
            SessionError: a row was asked or answered before. Nothing is stored.
        """
        with self._lock:
            taken = [row for row in rows if row in self._state.pending or self._state.stacks.get(row)]
            if taken or len(set(rows)) != len(rows) or not rows:
                raise SessionError(f"a batch must be rows that were not asked before; asked already: {taken[:5]}")
            number, at = self._state.round + 1, time.time()
            with self._writing() as connection:
                connection.execute(
                    "INSERT INTO batches VALUES (?, ?, ?)", (number, strategy, json.dumps(dict(details or {})))
                )
                scored: Iterable[float | None] = [None] * len(rows) if scores is None else scores
                connection.executemany(
                    "INSERT INTO events (kind, at, round, row, score) VALUES ('asked', ?, ?, ?, ?)",
                    [(at, number, row, score) for row, score in zip(rows, scored, strict=True)],
                )
        return number

    def tell(self, answers: Sequence[Answer]) -> None:
        """Store the answers, all of them or none. A later answer to the same row takes the place of the earlier one."""
        at = time.time()
        lines = [
            (
                "skipped" if isinstance(answer.value, Skip) else "answered",
                at,
                self._state.round,
                answer.row,
                None if isinstance(answer.value, Skip) else json.dumps(answer.value, ensure_ascii=False),
                answer.who,
                answer.source,
                answer.seconds,
                answer.cost,
                answer.confidence,
            )
            for answer in answers
        ]
        with self._lock, self._writing() as connection:
            connection.executemany(
                "INSERT INTO events (kind, at, round, row, value, who, source, seconds, cost, confidence)"
                " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                lines,
            )

    def propose(self, given: Sequence[Proposal]) -> None:
        """Store the proposals, all of them or none. They answer no question, and no answer is replaced by them."""
        with self._lock, self._writing() as connection:
            proposals.append(connection, given, self._state.round)

    def keep_unread(self, given: Sequence[Unread]) -> None:
        """Store answers that could not be read, all of them or none. They answer no question."""
        with self._lock, self._writing() as connection:
            unread.append(connection, given, self._state.round)

    def undo(self) -> str:
        """The id of the row whose last answer (or skip) is hereby retracted.

        An earlier answer to that row stands again; a row without one is asked first again.

        Raises:
            SessionError: there is nothing to undo.
        """
        with self._lock:
            if not self._state.given:
                raise SessionError("there is no answer to undo")
            last = self._state.given[-1]
            with self._writing() as connection:
                connection.execute(
                    "INSERT INTO events (kind, at, round, row, retracts) VALUES ('retracted', ?, ?, ?, ?)",
                    (time.time(), self._state.round, last.row, last.event),
                )
        return last.row

    def record_budget(self, tokens: int) -> None:
        """Store the tokens per batch that a pass must start from henceforth."""
        with self._lock, self._writing() as connection:
            connection.execute("INSERT INTO budgets (round, tokens) VALUES (?, ?)", (self._state.round, tokens))

    def backup(self, path: Path | str) -> None:
        """Write a consistent copy of the store to `path`, even while it is in use."""
        with self._lock, self._reporting("could not be backed up"):
            target = sqlite3.connect(path)
            try:
                self._connection().backup(target)
            finally:
                target.close()

    def close(self) -> None:
        """Close the file. Calling it twice is harmless."""
        with self._lock:
            self._closed = True
            for connection in self._connections:
                connection.close()
            self._connections.clear()

    def __enter__(self) -> "LabelStore":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # -- the file --------------------------------------------------------------------------------------------------

    @property
    def _name(self) -> str:
        return "the label store in memory" if self.path is None else str(self.path)

    def _connection(self) -> sqlite3.Connection:
        """This thread's connection (the only one, when the store is in memory)."""
        if self._closed:
            raise SessionError(f"{self._name} is closed")
        shared = self._connections[0] if self.path is None and self._connections else None
        connection: sqlite3.Connection | None = getattr(self._local, "connection", shared) or shared
        if connection is None:
            connection = sqlite3.connect(
                ":memory:" if self.path is None else self.path,
                timeout=_BUSY_SECONDS,
                isolation_level=None,
                check_same_thread=False,
            )
            self._connections.append(connection)
            self._local.connection = connection
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = FULL")
        return connection

    def _open(self) -> None:
        connection = self._connection()
        application = connection.execute("PRAGMA application_id").fetchone()[0]
        version = connection.execute("PRAGMA user_version").fetchone()[0]
        tables = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
        if application != _APPLICATION:
            if tables or application:
                raise SessionError(f"{self._name} is another program's database, not a label store")
            self._create(connection)
        elif version > _VERSION:
            raise SessionError(
                f"{self._name} was written by a newer version of dal (its format is {version}, this version reads up "
                f"to {_VERSION}): update dal"
            )
        fault = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
        if fault != "ok":
            raise SessionError(f"{self._name} is damaged ({fault}): put a backup in its place")
        for schema in (proposals.SCHEMA, unread.SCHEMA):  # files of earlier versions have none
            connection.execute(schema)
        self._replay(connection)

    def _create(self, connection: sqlite3.Connection) -> None:
        connection.execute("BEGIN IMMEDIATE")
        if not connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
            for statement in _SCHEMA.split(";")[:-1]:
                connection.execute(statement)
            connection.execute(f"PRAGMA application_id = {_APPLICATION}")
            connection.execute(f"PRAGMA user_version = {_VERSION}")
        connection.execute("COMMIT")

    @contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        """One transaction, and the state after it."""
        with self._reporting("could not be written; nothing of this call was stored"):
            connection = self._connection()
            connection.execute("BEGIN IMMEDIATE")
            try:
                yield connection
                connection.execute("COMMIT")
            except BaseException:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                raise
            self._replay(connection)

    @contextmanager
    def _reporting(self, trouble: str) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            raise SessionError(f"{self._name} {trouble}: {error}") from error

    def _replay(self, connection: sqlite3.Connection) -> None:
        """Take in what is newer than the state."""
        newer = connection.execute("SELECT * FROM events WHERE event > ? ORDER BY event", (self._state.event,))
        for line in newer.fetchall():
            self._state.apply(events.read(line))
        self._proposals.read_on(connection)
        self._unread.read_on(connection)
        budget = connection.execute("SELECT tokens FROM budgets ORDER BY number DESC LIMIT 1").fetchone()
        self._token_budget = None if budget is None else budget[0]
