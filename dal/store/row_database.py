"""SQLite file of a project's rows: its format and damage reports."""

import os
import sqlite3
from pathlib import Path
from typing import ClassVar

from dal.errors import SessionError, one_line
from dal.store import sqlite_files
from dal.store.atomic_files import named, recover
from dal.store.database_file import DatabaseFile

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


class RowFile(DatabaseFile):
    """SQLite file of a project's rows, with one connection per thread. A file that may only be read is opened so.

    Args:
        path: an existing file, see `create_file`.

    Raises:
        SessionError: the file does not exist, is damaged, or is not of this kind.
    """

    application: ClassVar = 0x64616C32  # "dal2"
    version: ClassVar = 1
    kind: ClassVar = "the rows of a project"
    path: Path

    def __init__(self, path: Path | str) -> None:
        super().__init__(path)
        with self._reporting("could not be opened"):
            self._recognise()
            self._read_only = not os.access(self.path.absolute().parent, os.W_OK) or not os.access(self.path, os.W_OK)
            try:
                self._check_length()
                self._check_objects(virtual="words")
            except BaseException:
                self.close()
                raise

    @classmethod
    def create_file(cls, path: Path) -> None:
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
            sqlite_files.create(path, _SCHEMA, application=cls.application, version=cls.version)
        except (sqlite3.Error, OSError, ValueError) as error:
            raise SessionError(f"{named(path)} could not be created: {one_line(error)}") from error

    def _recognise(self) -> None:
        """Check that the file is of this kind, before SQLite opens and possibly modifies it."""
        self._require_name()
        recover(self.path)
        if not os.path.lexists(self.path):
            raise SessionError(f"{self._name} is missing: put a backup of it there")
        self._read_version(self.path)

    def _check_length(self) -> None:
        """Refuse a file that was cut off. A check of all pages, as `LabelFile` has it, would read every text."""
        log = sqlite_files.log_of(self.path)
        if log.exists() and log.stat().st_size:
            return  # its pages may not have reached the file yet
        size = self.path.stat().st_size
        expected = self._query("PRAGMA page_count")[0][0] * self._query("PRAGMA page_size")[0][0]
        if size < expected:
            raise self._damaged(f"it ends after {size:,} of {expected:,} bytes")

    def _address(self) -> tuple[str, bool]:
        address, _ = super()._address()
        if self._read_only:
            left = sqlite_files.log_of(self.path), sqlite_files.journal_file(self.path)
            # SQLite reads a file that it cannot lock only if told that nobody writes to it.
            address += "?mode=ro" if any(map(sqlite_files.holds_something, left)) else "?immutable=1"
        return address, not self._read_only

    def _invalid_text(self) -> str:
        number = self._first_invalid(self._connection(), f"SELECT {COLUMNS} FROM rows ORDER BY number")
        return super()._invalid_text() if number is None else f"row {number} holds text that is not UTF-8"
