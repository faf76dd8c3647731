"""SQLite file of a label store: its format, migration, damage reports and backups."""

import os
import sqlite3
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal, TypeVar

from dal.errors import SessionError, one_line, shortened
from dal.store import proposals, sqlite_files
from dal.store import unread_answers as unread
from dal.store.atomic_files import check_output, recover, synchronise, synchronise_folder, temporary_name
from dal.store.database_file import DatabaseFile
from dal.store.sqlite_files import BUSY_SECONDS

_VERSION = 2
_PAGE = 10_000  # rows read from a table at a time

# The kind has no CHECK: `events.read` checks it, and a CHECK would have to be rebuilt for each new kind.
_EVENTS = """
CREATE TABLE events (
    event INTEGER PRIMARY KEY AUTOINCREMENT,
    kind TEXT NOT NULL,
    at REAL NOT NULL,                 -- seconds since 1970, UTC
    round INTEGER NOT NULL,
    row TEXT NOT NULL,                -- the row's id, or '' of a change of a class
    score REAL,                       -- asked: what made it win
    value TEXT,                       -- answered: a class name, or a list of them, as JSON (noted: text, class: JSON)
    who TEXT, source TEXT, seconds REAL, cost REAL, confidence REAL,
    retracts INTEGER REFERENCES events (event),
    key TEXT UNIQUE,                  -- of the request, so that a repeated one is recognised
    wanted INTEGER,                   -- asked: by how many people, null for 1
    seen TEXT                         -- answered: what the person was shown, as JSON
) STRICT
"""

_DERIVED = """
CREATE INDEX events_row ON events (row, event);
CREATE INDEX events_who ON events (who, event) WHERE who IS NOT NULL;
CREATE INDEX events_retracts ON events (retracts) WHERE retracts IS NOT NULL;
CREATE TABLE standing (               -- state of each row, derived from its events in the same transaction
    row TEXT PRIMARY KEY,
    state TEXT NOT NULL,
    place INTEGER,                    -- pending: order in which to ask
    wanted INTEGER NOT NULL,
    people INTEGER NOT NULL,          -- with an answer
    event INTEGER,                    -- the answer that stands
    classes TEXT                      -- its classes as JSON: ids, or names outside the table of classes
) STRICT, WITHOUT ROWID;
CREATE INDEX standing_place ON standing (place) WHERE place IS NOT NULL;
CREATE INDEX standing_classes ON standing (state, classes);
CREATE TABLE leases (                 -- the rows that people are reading, changed in place
    row TEXT NOT NULL,
    who TEXT NOT NULL,
    since REAL NOT NULL,
    until REAL NOT NULL,
    PRIMARY KEY (row, who)
) STRICT, WITHOUT ROWID;
CREATE INDEX leases_who ON leases (who);
CREATE TABLE people (
    who TEXT PRIMARY KEY,
    token BLOB,                       -- SHA-256 of the person's token
    rights TEXT NOT NULL,             -- a list of words, as JSON
    since REAL NOT NULL,
    until REAL                        -- when the access ended
) STRICT, WITHOUT ROWID;
"""

_BATCHES = """
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

#: Statements that make an empty label store.
SCHEMA = (
    ";".join(
        (
            _EVENTS,
            _BATCHES.rstrip().removesuffix(";"),
            proposals.SCHEMA,
            unread.SCHEMA,
            _DERIVED.rstrip().removesuffix(";"),
        )
    )
    + ";"
)

#: Copy of a store of version 1, made before it is migrated.
BACKUP_OF_1 = "labels.v1.db"

Access = Literal["write", "read", "copy"]

T = TypeVar("T")


def migrate(connection: sqlite3.Connection) -> None:
    """Bring the tables of version 1 to the present format, in the transaction that is open.

    The table of events is rebuilt, since SQLite cannot change the CHECK of its column `kind`.
    """
    connection.execute("ALTER TABLE events RENAME TO events_1")
    connection.execute(_EVENTS)
    old = "event, kind, at, round, row, score, value, who, source, seconds, cost, confidence, retracts"
    connection.execute(f"INSERT INTO events ({old}) SELECT {old} FROM events_1 ORDER BY event")
    connection.execute("DROP TABLE events_1")
    for statement in (*_DERIVED.split(";")[:-1], proposals.SCHEMA, unread.SCHEMA):  # early files lack the last two
        connection.execute(statement)
    connection.execute(f"PRAGMA user_version = {_VERSION}")


class LabelFile(DatabaseFile):
    """SQLite file of a label store, with one connection per thread.

    Args:
        path: the file; None keeps the store in memory.
        access: "write" creates the file, or migrates one of an earlier version; "read" changes nothing; "copy" reads
            the file once into memory and leaves it alone.
        upto: last event that a copy has; None for all.
    """

    application: ClassVar = 0x64616C31  # "dal1"
    version: ClassVar = _VERSION
    kind: ClassVar = "a label store"

    def __init__(self, path: Path | str | None, *, access: Access = "write", upto: int | None = None) -> None:
        super().__init__(path)
        self._access, self._upto = access, upto

    @property
    def _name(self) -> str:
        return "the label store in memory" if self.path is None else super()._name

    def _address(self) -> tuple[str, bool]:
        address, writes = super()._address()
        return address, writes and self._access == "write"

    def _open(self) -> None:
        version = _VERSION if self.path is None else self._recognise(self.path)
        if self._access == "copy" or (self._access == "read" and version < _VERSION):
            assert self.path is not None
            self._connections.shared = True
            source = sqlite3.connect(sqlite_files.reading_address(self.path), uri=True, timeout=BUSY_SECONDS)
            try:
                source.backup(self._connection())
            finally:
                source.close()
        connection = self._connection()
        if self.path is None:
            connection.executescript(SCHEMA)
        self._check_objects()
        fault = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
        if fault != "ok":
            raise self._damaged(one_line(ValueError(fault)))
        if version < _VERSION:
            self._migrate(connection)
        if self._upto is not None:
            self._cut(connection, self._upto)
        if self._access == "read":
            connection.execute("PRAGMA query_only = ON")

    def _cut(self, connection: sqlite3.Connection, upto: int) -> None:
        """Remove the events after `upto` from a copy, and what they say about rows."""
        later = connection.execute("SELECT DISTINCT row FROM events WHERE event > ?", (upto,)).fetchall()
        rows = [row for (row,) in later]
        connection.execute("DELETE FROM events WHERE event > ?", (upto,))
        connection.execute("UPDATE sqlite_sequence SET seq = ? WHERE name = 'events' AND seq > ?", (upto, upto))
        connection.execute("DELETE FROM batches WHERE round NOT IN (SELECT round FROM events WHERE kind = 'asked')")
        self._derive(connection, None if "" in rows else rows)  # a change of a class affects all rows

    def _migrate(self, connection: sqlite3.Connection) -> None:
        """Bring a store of version 1 to the present format in one transaction, after a copy next to its file."""
        if not self._connections.shared:
            assert self.path is not None
            copy = self.path.with_name(BACKUP_OF_1)
            if not os.path.lexists(copy):
                self.backup(copy)
        connection.execute("BEGIN IMMEDIATE")
        try:
            if connection.execute("PRAGMA user_version").fetchone()[0] < _VERSION:  # nobody else did it meanwhile
                migrate(connection)
                self._derive(connection)
            connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise

    def _derive(self, connection: sqlite3.Connection, rows: Sequence[str] | None = None) -> None:
        """Fill the derived tables for these rows, or for all of them."""

    def _recognise(self, path: Path) -> int:
        """Create the store, or check that the file is one, before SQLite opens and possibly modifies it.

        Returns:
            The version of its format.
        """
        self._require_name()
        if not path.name:
            raise SessionError(f"{self._name} could not be read: it is not a regular file")
        if self._access == "write":
            recover(path)
        log = sqlite_files.log_of(path)
        logged = log.exists() and log.stat().st_size > 0  # before the file: another process may create both
        if os.path.lexists(path):
            return self._read_version(path)
        if logged:
            raise SessionError(f"{self._name} is missing, and {log.name} next to it holds answers: put it back")
        if self._access != "write":
            raise SessionError(f"{self._name} does not exist")
        with self._checking():
            sqlite_files.create(path, SCHEMA, application=self.application, version=_VERSION)
        return _VERSION

    def _lines(
        self, connection: sqlite3.Connection, table: str, columns: str, after: int
    ) -> list[tuple[int, tuple[Any, ...]]]:
        """The next rows of a table after number `after`, with their numbers."""
        key = "event" if table == "events" else "number"
        query = f"SELECT {columns} FROM {table} WHERE {key} > ? ORDER BY {key} LIMIT ?"
        if not after:  # numbers below 1 would never be read
            first = connection.execute(f"SELECT min({key}) FROM {table}").fetchone()[0]
            if first is not None and not (isinstance(first, int) and first > 0):
                raise self._damaged(f"{table} begin with number {shortened(repr(first))}")
        try:
            lines = connection.execute(query, (after, _PAGE)).fetchall()
        except sqlite3.OperationalError as error:
            if "UTF-8" in str(error):
                number = self._first_invalid(connection, query, (after, _PAGE))
                if number is not None:
                    raise self._damaged(f"line {number} of {table} holds text that is not UTF-8") from None
            raise
        return [(line[0], line) for line in lines]

    def backup(self, path: Path | str) -> None:
        """Write a consistent copy of the store to `path`, atomically and with mode 0600, even while it is in use.

        Raises:
            ConfigError: `path` cannot be written.
            SessionError: `path` is the store itself, or the copy fails.
        """
        final = check_output(Path(path))
        if self.path is not None and final == Path(os.path.realpath(self.path)):
            raise SessionError(f"a backup of {self._name} must go to another file")
        recover(final)
        partial = final.with_name(temporary_name(final.name, "new"))
        with self._lock, self._reporting("could not be backed up"):
            try:
                os.close(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
                target = sqlite3.connect(partial)
                try:
                    target.execute("PRAGMA journal_mode = MEMORY")  # no second file next to the copy after a kill
                    self._connection().backup(target)
                finally:
                    target.close()
                synchronise(partial)
                partial.replace(final)
                synchronise_folder(final.parent)
            finally:
                partial.unlink(missing_ok=True)

    def _read(self, what: str, number: int, read: Callable[[Sequence[Any]], T], line: Sequence[Any]) -> T:
        try:
            return read(line)
        except ValueError as error:
            raise self._damaged(f"{what} {number}: {one_line(error)}") from error
