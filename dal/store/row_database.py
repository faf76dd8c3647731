"""SQLite file of a project's rows: its format, connections and damage reports."""

import os
import sqlite3
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from dal.errors import SessionError, one_line, shortened
from dal.store import sqlite_files
from dal.store.atomic_files import named, recover
from dal.store.thread_connections import ThreadConnections

_APPLICATION = 0x64616C32  # "dal2" in the file's header: this file holds the rows of a project
_VERSION = 1
_BUSY_SECONDS = 30.0

_SCHEMA = """
CREATE TABLE sources (
    source INTEGER PRIMARY KEY,
    name TEXT NOT NULL,               -- file name, as the user gave it
    at REAL NOT NULL,                 -- seconds since 1970, UTC
    digest TEXT NOT NULL,             -- BLAKE2b of the file's bytes, '' if they did not come from a file
    rows INTEGER NOT NULL             -- number of rows that it added
) STRICT;
CREATE TABLE rows (
    number INTEGER PRIMARY KEY,       -- from 1, in the order of addition
    id TEXT NOT NULL UNIQUE,
    text TEXT NOT NULL,
    pair TEXT,                        -- the second text of a pair
    fields TEXT NOT NULL,             -- the other columns of the user's file, a JSON object
    place INTEGER NOT NULL UNIQUE,    -- position in the fixed random order: a hash of the id
    source INTEGER NOT NULL REFERENCES sources (source)
) STRICT;
CREATE TABLE earlier_texts (
    id TEXT NOT NULL,
    text TEXT NOT NULL,
    pair TEXT,
    until REAL NOT NULL,              -- when another text replaced it, seconds since 1970, UTC
    source INTEGER NOT NULL           -- the source that replaced it
) STRICT;
CREATE VIRTUAL TABLE words USING fts5(
    text, pair, content = 'rows', content_rowid = 'number', tokenize = 'unicode61 remove_diacritics 2'
);
"""


#: Columns of a row, in the order in which they are read.
COLUMNS = "number, id, text, pair, fields"


class RowFile:
    """SQLite file of a project's rows, with one connection per thread. A file that may only be read is opened so.

    Args:
        path: an existing file, see `create_file`.

    Raises:
        SessionError: the file does not exist, is damaged, or is not of this kind.
    """

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)
        self._lock = threading.RLock()
        self._connections = ThreadConnections()
        self._closed = False
        self._ended = threading.Condition()
        self._running = 0  # queries that threads are running now
        with self._reporting("could not be opened"):
            self._recognise()
            self._read_only = not os.access(self.path.absolute().parent, os.W_OK) or not os.access(self.path, os.W_OK)
            try:
                self._check_length()
                unexpected = sqlite_files.unexpected_object(self._connection(), virtual="words")
                if unexpected is not None:
                    raise self._damaged(unexpected)
            except BaseException:
                self.close()
                raise

    @staticmethod
    def create_file(path: Path) -> None:
        """Create an empty file with mode 0600, atomically.

        Raises:
            SessionError: the file exists or cannot be created.
        """
        if "\0" in str(path):
            raise SessionError(f"{named(path)} cannot be a file: a name has no NUL")
        if os.path.lexists(path):
            raise SessionError(f"{named(path)} already exists")
        try:
            recover(path)
            sqlite_files.create(path, _SCHEMA, application=_APPLICATION, version=_VERSION)
        except (sqlite3.Error, OSError, ValueError) as error:
            raise SessionError(f"{named(path)} could not be created: {one_line(error)}") from error

    def close(self) -> None:
        """Close the file. Calling it again has no effect."""
        with self._lock:
            self._closed = True
            with self._ended:
                self._ended.wait_for(lambda: not self._running)
                self._connections.close()

    def _recognise(self) -> None:
        """Check that the file is of this kind, before SQLite opens and possibly modifies it."""
        if "\0" in str(self.path):
            raise SessionError(f"{self._name} cannot be a file: a name has no NUL")
        recover(self.path)
        if not os.path.lexists(self.path):
            raise SessionError(f"{self._name} is missing: put a backup of it there")
        try:
            header = sqlite_files.read_header(self.path)
        except sqlite_files.NotADatabaseError as error:
            raise SessionError(f"{self._name} could not be read: {error}") from None
        except ValueError as error:
            raise self._damaged(str(error)) from None
        sqlite_files.check_header(
            header, self._name, application=_APPLICATION, version=_VERSION, kind="the rows of a project"
        )

    def _check_length(self) -> None:
        """Refuse a file that was cut off. A check of all pages, as `LabelFile` has it, would read every text."""
        log = sqlite_files.log_of(self.path)
        if log.exists() and log.stat().st_size:
            return  # its pages may not have reached the file yet
        size = self.path.stat().st_size
        expected = self._query("PRAGMA page_count")[0][0] * self._query("PRAGMA page_size")[0][0]
        if size < expected:
            raise self._damaged(f"it ends after {size:,} of {expected:,} bytes")

    def _connection(self) -> sqlite3.Connection:
        """This thread's connection."""
        if self._closed:
            raise SessionError(f"{self._name} is closed")
        connection = self._connections.get()
        if connection is None:
            address = self.path.absolute().as_uri()
            if self._read_only:
                log = sqlite_files.log_of(self.path)
                # SQLite reads a file that it cannot lock only if told that nobody writes to it.
                address += "?mode=ro" if log.exists() and log.stat().st_size else "?immutable=1"
            connection = sqlite3.connect(
                address,
                uri=True,
                timeout=_BUSY_SECONDS,
                isolation_level=None,  # transactions are opened explicitly, in `changing`
                check_same_thread=False,  # `close` closes the connections of all threads
            )
            self._connections.add(connection)
            connection.execute("PRAGMA trusted_schema = OFF")  # the file may come from a stranger
            if not self._read_only:
                connection.execute("PRAGMA journal_mode = WAL")  # readers are not blocked while another process writes
                connection.execute("PRAGMA synchronous = FULL")
        return connection

    def _query(self, query: str, parameters: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        with self._reporting("could not be read"):
            with self._ended:
                connection = self._connection()
                self._running += 1
            try:  # without a lock: a search of all texts must not keep others from their next text
                return connection.execute(query, parameters).fetchall()
            finally:
                with self._ended:
                    self._running -= 1
                    self._ended.notify_all()

    @property
    def _name(self) -> str:
        return named(self.path)

    def _damaged(self, fault: str) -> SessionError:
        return sqlite_files.damaged(self._name, fault)

    @contextmanager
    def _reporting(self, trouble: str) -> Iterator[None]:
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
                raise self._damaged(self._invalid_text()) from None
            if type(error) is sqlite3.DatabaseError:  # its subclasses tell of the disk, of locks and of the call
                raise self._damaged(one_line(error)) from error
            raise SessionError(f"{self._name} {trouble}: {error}") from error
        except OSError as error:
            raise SessionError(f"{self._name} {trouble}: {error.strerror or error}") from error

    def _invalid_text(self) -> str:
        """The place of a text that is not UTF-8."""
        connection = self._connection()
        connection.text_factory = bytes
        try:
            for number, *words in connection.execute(f"SELECT {COLUMNS} FROM rows ORDER BY number"):
                try:
                    [word.decode() for word in words if isinstance(word, bytes)]
                except UnicodeDecodeError:
                    return f"row {number} holds text that is not UTF-8"
        finally:
            connection.text_factory = str
        return "it holds text that is not UTF-8"
