"""SQLite file of the reply cache: its format, its transactions and its errors."""

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

from dal.errors import LLMError, one_line, shortened
from dal.store.atomic_files import check_output, named
from dal.store.sqlite_files import BUSY_SECONDS, NotADatabaseError, create, leave_log, read_header, set_journal

_APPLICATION = 0x64616C32  # "dal2" in the file's header: this file is a response cache
_VERSION = 1

_SCHEMA = """
CREATE TABLE replies (
    digest TEXT PRIMARY KEY,          -- of provider, model, prompts, schema and parameters
    provider TEXT NOT NULL, model TEXT NOT NULL,
    text TEXT NOT NULL, input_tokens INTEGER NOT NULL, output_tokens INTEGER NOT NULL,
    dollars REAL NOT NULL, truncated INTEGER NOT NULL, seconds REAL NOT NULL,
    at REAL NOT NULL                  -- seconds since 1970, UTC
) STRICT, WITHOUT ROWID;
CREATE TABLE ledgers (
    name TEXT PRIMARY KEY,
    requests INTEGER NOT NULL, cached INTEGER NOT NULL,
    input_tokens INTEGER NOT NULL, output_tokens INTEGER NOT NULL, dollars REAL NOT NULL
) STRICT;
CREATE TABLE reservations (           -- money set aside for a request that was sent and is not settled
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    ledger TEXT NOT NULL, digest TEXT NOT NULL, dollars REAL NOT NULL,
    process INTEGER NOT NULL,         -- whose request it is
    until REAL NOT NULL,              -- when its answer is given up, or 0: it was lost
    batch TEXT                        -- the batch that it is part of
) STRICT;
CREATE INDEX reservations_by_ledger ON reservations (ledger, dollars);
CREATE INDEX reservations_by_digest ON reservations (digest, until);
CREATE TABLE batches (
    name TEXT PRIMARY KEY,            -- ours
    provider TEXT NOT NULL, ledger TEXT NOT NULL, process INTEGER NOT NULL, until REAL NOT NULL, at REAL NOT NULL,
    id TEXT                           -- the server's, NULL until it has answered
) STRICT;
"""


class CacheFile:
    """Open SQLite file of a reply cache. Not thread-safe.

    Args:
        path: path of the file, created with its folder if missing.

    Raises:
        LLMError: the file is not a response cache, is empty or damaged, or was written by a newer version.
        ConfigError: the path is a folder or a device, or is not writable.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._db: sqlite3.Connection | None = None
        with self._reporting("could not be opened"):
            _parents(path)
            final = check_output(path)
            if not final.exists():
                create(final, _SCHEMA, application=_APPLICATION, version=_VERSION)
            _check_header(final)
            leave_log(final)
            self._db = sqlite3.connect(final, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False)
            self._prepare()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file."""
        if self._db is not None:
            self._db.close()
            self._db = None

    def _prepare(self) -> None:
        self._run("PRAGMA synchronous = FULL")
        tables = {name for (name,) in self._run("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()}
        if missing := {"replies", "ledgers", "reservations", "batches"} - tables:
            raise sqlite3.DatabaseError(f"it has no table {min(missing)}")
        assert self._db is not None
        set_journal(self._db, self.path)

    def _run(self, statement: str, values: Sequence[Any] = ()) -> sqlite3.Cursor:
        assert self._db is not None
        return self._db.execute(statement, values)

    @contextmanager
    def _writing(self) -> Iterator[None]:
        """Context manager for an exclusive write transaction, committed to disk at the end of the block."""
        with self._reporting("could not be written"):
            self._run("BEGIN IMMEDIATE")
            try:
                yield
                self._run("COMMIT")
            except BaseException:
                if self._db is not None and self._db.in_transaction:
                    self._run("ROLLBACK")
                raise

    @contextmanager
    def _reporting(self, trouble: str) -> Iterator[None]:
        try:
            yield
        except (sqlite3.Error, OSError, OverflowError, UnicodeError) as error:
            shown = shortened(str(self.path), 200)
            reason = error.strerror if isinstance(error, OSError) and error.strerror else one_line(error)
            raise LLMError(f"the response cache {shown} {trouble}: {reason}") from error


def _parents(path: Path) -> None:
    """Create the folder of the file and its parents.

    Raises:
        LLMError: a folder cannot be created.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else one_line(error)
        raise LLMError(f"the response cache {named(path)} could not be opened: {reason}") from error


def _check_header(path: Path) -> None:
    """Check the header of the file, before SQLite changes anything in it.

    Raises:
        LLMError: the file is empty, damaged, not a response cache, or was written by a newer version.
    """
    shown = shortened(str(path), 200)
    try:
        header = read_header(path)
    except NotADatabaseError as error:
        raise LLMError(f"the response cache {shown} could not be opened: {error}; name another with `cache`") from error
    except ValueError as error:
        raise LLMError(
            f"the response cache {shown} could not be opened: {error}; move it away, or name another with `cache`"
        ) from error
    if header.application != _APPLICATION:
        raise LLMError(f"{shown} is another program's file, not a response cache: name another with `cache`")
    if header.version > _VERSION:
        raise LLMError(f"{shown} was written by a newer version of dal: update dal, or name another `cache`")
