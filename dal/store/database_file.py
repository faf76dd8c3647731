"""A SQLite file with one connection per thread, whose faults are reported in one line with the name of the file."""

import sqlite3
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any, ClassVar, Self

from dal.errors import SessionError, one_line, shortened
from dal.store import sqlite_files
from dal.store.atomic_files import named
from dal.store.sqlite_files import BUSY_SECONDS
from dal.store.thread_connections import ThreadConnections


class DatabaseFile:
    """A SQLite file that belongs to `dal`.

    Subclasses say which application id and version of the schema their files have, and how they are opened.

    Args:
        path: the file; None for a database in memory, which has a single connection for all threads.

    Attributes:
        application: application id in the file's header.
        version: latest version of the schema.
        kind: the kind of file in words, for messages.
    """

    application: ClassVar[int]
    version: ClassVar[int]
    kind: ClassVar[str]

    def __init__(self, path: Path | str | None) -> None:
        self.path = None if path is None else Path(path)
        self._lock = threading.RLock()
        self._connections = ThreadConnections(shared=path is None)
        self._closed = False
        self._ended = threading.Condition()
        self._running = 0  # queries that threads are running without the lock

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file. Calling it again has no effect."""
        with self._lock:
            self._closed = True
            with self._ended:
                self._ended.wait_for(lambda: not self._running)
                self._connections.close()

    # -- connections ---------------------------------------------------------------------------------------------------

    def _connection(self) -> sqlite3.Connection:
        """The connection of this thread."""
        if self._closed:
            raise SessionError(f"{self._name} is closed")
        connection = self._connections.get()
        if connection is None:
            address, writes = self._address()
            connection = sqlite3.connect(
                address,
                uri=address.startswith("file:"),
                timeout=BUSY_SECONDS,
                isolation_level=None,  # transactions are opened explicitly, in `changing`
                check_same_thread=False,  # `close` closes the connections of all threads
            )
            self._connections.add(connection)
            connection.execute("PRAGMA trusted_schema = OFF")  # the file may come from a stranger
            if writes and self.path is not None:
                sqlite_files.set_journal(connection, self.path)
            connection.execute("PRAGMA synchronous = FULL")  # what was acknowledged survives a power failure
        return connection

    def _address(self) -> tuple[str, bool]:
        """Address of the file, and whether a connection may write to it."""
        if self._connections.shared or self.path is None:
            return ":memory:", False
        return self.path.absolute().as_uri(), True  # an address, since a name "file:..." would be read as one

    def _query(self, query: str, parameters: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """The lines of a query, without the lock: a long one must not keep others from their next text.

        It reads what is committed, and what this thread has written in an open transaction.
        """
        with self._reporting("could not be read"), self._lock if self._connections.shared else nullcontext():
            with self._ended:
                connection = self._connection()
                self._running += 1
            try:
                return connection.execute(query, parameters).fetchall()
            finally:
                with self._ended:
                    self._running -= 1
                    self._ended.notify_all()

    # -- checks --------------------------------------------------------------------------------------------------------

    def _require_name(self) -> None:
        """Refuse a path that cannot be that of a file."""
        if "\0" in str(self.path):
            raise SessionError(f"{self._name} cannot be a file: a name has no NUL")

    def _read_version(self, path: Path) -> int:
        """Check that a file is of this kind, before SQLite opens and possibly modifies it, and return its version.

        On a network file system it is then taken out of write-ahead logging.
        """
        with self._checking():
            header = sqlite_files.read_header(path)
        sqlite_files.check_header(
            header, self._name, application=self.application, version=self.version, kind=self.kind
        )
        sqlite_files.leave_log(path)
        return max(1, sqlite_files.settled_version(path, header))

    @contextmanager
    def _checking(self) -> Iterator[None]:
        try:
            yield
        except sqlite_files.NotADatabaseError as error:
            raise SessionError(f"{self._name} could not be read: {error}") from None
        except ValueError as error:
            raise self._damaged(str(error)) from None

    def _check_objects(self, virtual: str = "") -> None:
        """Refuse triggers, views and conflict clauses, see `dal.store.sqlite_files.unexpected_object`."""
        unexpected = sqlite_files.unexpected_object(self._connection(), virtual=virtual)
        if unexpected is not None:
            raise self._damaged(unexpected)

    # -- faults --------------------------------------------------------------------------------------------------------

    @property
    def _name(self) -> str:
        return f"{self.kind} in memory" if self.path is None else named(self.path)

    def _damaged(self, fault: str) -> SessionError:
        return sqlite_files.damaged(self._name, fault)

    @contextmanager
    def _reporting(self, trouble: str) -> Iterator[None]:
        """Turn errors of SQLite and of the disk into a `SessionError`: the file's name, `trouble`, and the reason."""
        try:
            yield
        except UnicodeEncodeError as error:
            word = shortened(repr(error.object), 60)
            raise SessionError(f"{self._name} {trouble}: {word} is not text that can be stored") from error
        except UnicodeDecodeError as error:  # SQLite's own message quotes a damaged name
            raise self._damaged("a name in it is not UTF-8") from error
        except OverflowError as error:
            raise SessionError(f"{self._name} {trouble}: a number is too large") from error
        except sqlite3.Error as error:
            if "UTF-8" in str(error):
                raise self._damaged(self._invalid_text()) from error
            if type(error) is sqlite3.DatabaseError:  # its subclasses tell of the disk, of locks and of the call
                raise self._damaged(one_line(error)) from error
            raise SessionError(f"{self._name} {trouble}: {error}") from error
        except OSError as error:
            raise SessionError(f"{self._name} {trouble}: {error.strerror or error}") from error

    def _invalid_text(self) -> str:
        """The place of a text that is not UTF-8."""
        return "it holds text that is not UTF-8"

    def _first_invalid(self, connection: sqlite3.Connection, query: str, values: tuple[object, ...] = ()) -> int | None:
        """First value of the first line of a query with text that is not UTF-8; None if all is."""
        connection.text_factory = bytes
        try:
            for number, *words in connection.execute(query, values):
                try:
                    [word.decode() for word in words if isinstance(word, bytes)]
                except UnicodeDecodeError:
                    return int(number)
        finally:
            connection.text_factory = str
        return None
