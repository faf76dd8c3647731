"""SQLite file of a label store: its format, connections, damage reports and backups."""

import os
import sqlite3
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from dal.errors import SessionError, one_line, shortened
from dal.store import proposals, sqlite_files
from dal.store import unread_answers as unread
from dal.store.atomic_files import check_output, named, recover, synchronise, synchronise_folder, temporary_name

_APPLICATION = 0x64616C31  # "dal1" in the file's header: this file is a label store
_VERSION = 1
_BUSY_SECONDS = 30.0
_PAGE = 10_000  # rows read from a table at a time

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


_FULL_SCHEMA = ";".join((_SCHEMA.rstrip().removesuffix(";"), proposals.SCHEMA, unread.SCHEMA)) + ";"

T = TypeVar("T")


class LabelFile:
    """SQLite file of a label store, with one connection per thread.

    Args:
        path: the file; None keeps the store in memory.
    """

    def __init__(self, path: Path | str | None) -> None:
        self.path = None if path is None else Path(path)
        self._lock = threading.RLock()
        self._local = threading.local()
        self._connections: list[sqlite3.Connection] = []
        self._closed = False

    @property
    def _name(self) -> str:
        return "the label store in memory" if self.path is None else named(self.path)

    def _connection(self) -> sqlite3.Connection:
        """This thread's connection; a store in memory has a single one for all threads."""
        if self._closed:
            raise SessionError(f"{self._name} is closed")
        shared = self._connections[0] if self.path is None and self._connections else None
        connection: sqlite3.Connection | None = getattr(self._local, "connection", shared) or shared
        if connection is None:
            connection = sqlite3.connect(
                ":memory:" if self.path is None else os.path.abspath(self.path),  # "file:..." would be read as a URI
                timeout=_BUSY_SECONDS,
                isolation_level=None,  # transactions are opened explicitly, in `changing`
                check_same_thread=False,  # `close` closes the connections of all threads
            )
            self._connections.append(connection)
            self._local.connection = connection
            connection.execute("PRAGMA journal_mode = WAL")  # readers are not blocked while another process writes
            connection.execute("PRAGMA synchronous = FULL")  # an answer once acknowledged survives a power failure
        return connection

    def _open(self) -> None:
        if self.path is not None:
            self._recognise(self.path)
        connection = self._connection()
        if self.path is None:
            connection.executescript(_FULL_SCHEMA)
        fault = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
        if fault != "ok":
            raise self._damaged(one_line(ValueError(fault)))
        for schema in (proposals.SCHEMA, unread.SCHEMA):  # files of earlier versions lack these tables
            connection.execute(schema)

    def _recognise(self, path: Path) -> None:
        """Create the store, or check that the file is one, before SQLite opens and possibly modifies it."""
        if "\0" in str(path):
            raise SessionError(f"{self._name} cannot be a file: a name has no NUL")
        try:
            recover(path)
            if not path.name:
                raise sqlite_files.NotADatabaseError("it is not a regular file")
            log = sqlite_files.log_of(path)
            logged = log.exists() and log.stat().st_size > 0  # before the file: another process may create both
            if os.path.lexists(path):
                header = sqlite_files.read_header(path)
            elif logged:
                raise SessionError(f"{self._name} is missing, and {log.name} next to it holds answers: put it back")
            else:
                sqlite_files.create(path, _FULL_SCHEMA, application=_APPLICATION, version=_VERSION)
                return
        except sqlite_files.NotADatabaseError as error:
            raise SessionError(f"{self._name} could not be read: {error}") from None
        except ValueError as error:
            raise self._damaged(str(error)) from None
        if header.is_empty and header.application in (0, _APPLICATION):
            raise self._damaged("it holds no table")
        if header.application != _APPLICATION:
            raise SessionError(f"{self._name} is another program's database, not a label store")
        if header.version > _VERSION:
            raise SessionError(
                f"{self._name} was written by a newer version of dal (its format is {header.version}, this version "
                f"reads up to {_VERSION}): update dal"
            )

    def _damaged(self, fault: str) -> SessionError:
        return SessionError(f"{self._name} is damaged ({fault}): put a backup in its place")

    @contextmanager
    def _reporting(self, trouble: str) -> Iterator[None]:
        try:
            yield
        except UnicodeEncodeError as error:
            word = shortened(repr(error.object), 60)
            raise SessionError(f"{self._name} {trouble}: {word} is not text that can be stored") from error
        except OverflowError as error:
            raise SessionError(f"{self._name} {trouble}: a number is too large") from error
        except (sqlite3.Error, OSError) as error:
            reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
            raise SessionError(f"{self._name} {trouble}: {reason}") from error

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
                self._raise_invalid_text(connection, query, after, table)
            raise
        return [(line[0], line) for line in lines]

    def _raise_invalid_text(self, connection: sqlite3.Connection, query: str, after: int, table: str) -> None:
        """Raise an error that names the row whose text is not UTF-8."""
        try:
            connection.text_factory = bytes
            lines = connection.execute(query, (after, _PAGE)).fetchall()
        finally:
            connection.text_factory = str
        for line in lines:
            try:
                [word.decode() for word in line if isinstance(word, bytes)]
            except UnicodeDecodeError:
                raise self._damaged(f"line {line[0]} of {table} holds text that is not UTF-8") from None

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

    def close(self) -> None:
        """Close the file. Calling it again has no effect."""
        with self._lock:
            self._closed = True
            for connection in self._connections:
                connection.close()
            self._connections.clear()

    def _read(self, what: str, number: int, read: Callable[[Sequence[Any]], T], line: Sequence[Any]) -> T:
        try:
            return read(line)
        except ValueError as error:
            raise self._damaged(f"{what} {number}: {one_line(error)}") from error
