"""Creation of SQLite files, inspection of their headers before SQLite opens them, and the choice of their journal."""

import os
import sqlite3
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from dal.errors import SessionError, shortened
from dal.store.atomic_files import named, synchronise, synchronise_folder, temporary_name
from dal.store.network_files import journal_of

_MAGIC = b"SQLite format 3\0"
_HEAD = 108  # bytes of the first page: the file header and the header of the schema table's page
_FORMATS = 18  # offset of the write and read format versions in the file header
_LOG_MAGICS = (0x377F0682, 0x377F0683)
_LOGGED = b"\x02\x02"  # these versions of a file that uses write-ahead logging

#: Seconds for which a statement waits for other processes.
BUSY_SECONDS = 30.0
_LEAVING_SECONDS = 10.0  # the same where another process may keep a file open for hours


@dataclass(frozen=True)
class Header:
    """Header fields of a database.

    Attributes:
        application: application id of the program that owns the file.
        version: schema version of that program.
        is_empty: whether the database has no tables.
    """

    application: int
    version: int
    is_empty: bool


class NotADatabaseError(ValueError):
    """The file is not a database."""


def is_database(path: Path) -> bool:
    """Whether a regular file begins as a SQLite database does.

    Raises:
        OSError: the file cannot be read.
    """
    with path.open("rb") as file:
        return file.read(len(_MAGIC)) == _MAGIC


def read_header(path: Path) -> Header:
    """Read the header of a database without SQLite, which would write to the file and next to it.

    Raises:
        NotADatabaseError: the file is not a database.
        ValueError: the database is damaged, or the path is invalid.
        OSError: the file cannot be read.
    """
    if not path.is_file():  # opening a pipe would block
        raise NotADatabaseError("it is not a regular file")
    heads = list(_logged_heads(path))
    if not heads and journal_of(path) == "rollback":
        return _locked_header(path)
    with path.open("rb") as file:
        head = file.read(_HEAD)
    if not head:
        raise ValueError("it is empty, which a database never is")
    if not head.startswith(_MAGIC[: len(head)]):
        raise NotADatabaseError("file is not a database")
    if len(head) < _HEAD:
        raise ValueError(f"it ends after {len(head)} bytes")
    head = (head, *heads)[-1]
    return Header(
        application=int.from_bytes(head[68:72]),
        version=int.from_bytes(head[60:64]),
        is_empty=head[100] == 0x0D and head[103:105] == b"\0\0",
    )


def _locked_header(path: Path) -> Header:
    """Read the header of a file with a rollback journal, which other threads of this process may have locked.

    POSIX releases all locks of a process on a file as soon as it closes any descriptor of that file. SQLite knows its
    own descriptors and closes none too early; with `immutable` it writes nothing and takes no lock.
    """
    size = path.stat().st_size
    if not size:
        raise ValueError("it is empty, which a database never is")
    if size < _HEAD:
        raise ValueError(f"it ends after {size} bytes")
    connection = sqlite3.connect(f"{path.absolute().as_uri()}?immutable=1", uri=True)
    try:
        names = ("application_id", "user_version", "schema_version")
        application, version, changes = (connection.execute(f"PRAGMA {name}").fetchone()[0] for name in names)
    except sqlite3.DatabaseError as error:
        raise NotADatabaseError(str(error)) from error
    finally:
        connection.close()
    return Header(application, version, is_empty=not changes)


def damaged(name: str, fault: str) -> SessionError:
    """The error of a damaged database."""
    return SessionError(f"{name} is damaged ({fault}): put a backup in its place")


def check_header(header: Header, name: str, *, application: int, version: int, kind: str) -> None:
    """Check that a database with this header is of a kind, and not of a newer version.

    Args:
        header: its header.
        name: its name in messages.
        application: application id of the kind.
        version: latest schema version that can be read.
        kind: the kind in words, such as "a label store".

    Raises:
        SessionError: it is not, or it holds no table.
    """
    if header.is_empty and header.application in (0, application):
        raise damaged(name, "it holds no table")
    if header.application != application:
        raise SessionError(f"{name} is another program's database, not {kind}")
    if header.version > version:
        raise SessionError(
            f"{name} was written by a newer version of dal (its format is {header.version}, this version "
            f"reads up to {version}): update dal"
        )


def _logged_heads(path: Path) -> Iterator[bytes]:
    """Versions of the first page's head in the write-ahead log, latest last. They supersede that of the file."""
    try:
        log = log_of(path).open("rb")
    except FileNotFoundError:
        return
    with log:
        head = log.read(32)
        if len(head) < 32 or int.from_bytes(head[:4]) not in _LOG_MAGICS:
            return
        size, salts = int.from_bytes(head[8:12]), head[16:24]
        # A frame with other salts is left over from before the last checkpoint: the valid part of the log ends there.
        while len(frame := log.read(24)) == 24 and frame[8:16] == salts:
            page = log.read(_HEAD)
            if frame[:4] == b"\0\0\0\1" and page.startswith(_MAGIC) and len(page) == _HEAD:
                yield page
            log.seek(size - len(page), os.SEEK_CUR)


def unexpected_object(connection: sqlite3.Connection, virtual: str = "") -> str | None:
    """What a file from a stranger might do behind the back of the statements that are run on it; None if nothing.

    Triggers, views and conflict clauses change or remove lines, such as the answers of other people, when one is
    stored.

    Args:
        connection: connection to the file.
        virtual: name of a virtual table that it may have.
    """
    query = (
        "SELECT type, name FROM sqlite_schema WHERE type IN ('trigger', 'view') OR upper(sql) LIKE '%ON CONFLICT%' OR "
        "upper(sql) LIKE 'CREATE VIRTUAL%' AND name <> ? LIMIT 1"
    )
    found = connection.execute(query, (virtual,)).fetchone()
    return None if found is None else f"it has a {found[0]} {shortened(repr(found[1]))} that dal does not make"


def log_of(path: Path) -> Path:
    """Path of SQLite's write-ahead log: transactions that are committed but not yet in the file."""
    return path.with_name(f"{path.name}-wal")


def journal_file(path: Path) -> Path:
    """Path of SQLite's rollback journal: what an interrupted transaction has overwritten in the file."""
    return path.with_name(f"{path.name}-journal")


def holds_something(path: Path) -> bool:
    """Whether a log or a journal exists and is not empty."""
    try:
        return path.stat().st_size > 0
    except FileNotFoundError:
        return False


# -- the journal ---------------------------------------------------------------------------------------------------


def reading_address(path: Path) -> str:
    """Address of an existing database for a connection that only reads.

    It may write where a killed process has left an interrupted transaction, which must be rolled back first.
    """
    interrupted = holds_something(journal_file(path)) and os.access(path, os.W_OK)
    return f"{path.absolute().as_uri()}?mode={'rw' if interrupted else 'ro'}"


def settled_version(path: Path, header: Header) -> int:
    """Schema version of a file after the rollback of a transaction that a killed process has left, such as a migration.

    Raises:
        sqlite3.Error: SQLite cannot read the file.
    """
    if not holds_something(journal_file(path)) or not os.access(path, os.W_OK):
        return header.version
    connection = sqlite3.connect(path.absolute().as_uri(), uri=True, timeout=BUSY_SECONDS)
    try:
        return int(connection.execute("PRAGMA user_version").fetchone()[0])
    finally:
        connection.close()


def leave_log(path: Path) -> None:
    """Take a file out of write-ahead logging if it is on a network file system. Its transactions are kept.

    A file that may not be written stays as it is, if all of it is in the file.

    Raises:
        SessionError: another process has it open, or it may not be written and has a log.
        sqlite3.Error: SQLite cannot write the file.
        OSError: the file cannot be read.
    """
    if journal_of(path) == "wal":
        return
    if not os.access(path, os.W_OK) or not os.access(path.absolute().parent, os.W_OK):
        if holds_something(log_of(path)):
            raise SessionError(
                f"{named(path)} is on a network file system, has a write-ahead log, which works on one computer only, "
                "and may not be written: open it with write permission first"
            )
        return
    logged = log_of(path).exists()  # as it does while a process has the file open with a log
    seconds = _LEAVING_SECONDS if logged else BUSY_SECONDS
    connection = sqlite3.connect(path.absolute().as_uri(), uri=True, timeout=seconds, isolation_level=None)
    try:
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA locking_mode = EXCLUSIVE")  # no shared memory, which would fail on such a file
        if connection.execute("PRAGMA journal_mode").fetchone()[0] == "wal":
            connection.execute("PRAGMA journal_mode = TRUNCATE")
    except sqlite3.OperationalError as error:
        if not logged or "locked" not in str(error):
            raise
        raise SessionError(
            f"{named(path)} is on a network file system, and another process has it open with a write-ahead log, which "
            "works on one computer only: end that process first"
        ) from error
    finally:
        connection.close()


def set_journal(connection: sqlite3.Connection, path: Path) -> None:
    """Let a connection that writes use the journal of its file system.

    Raises:
        sqlite3.OperationalError: other processes kept the file locked.
        SessionError: see `dal.store.network_files.journal_of`.
    """
    if journal_of(path) == "rollback":
        # Truncated and synced at each commit, which needs no sync of the folder, as a deleted journal would.
        connection.execute("PRAGMA journal_mode = TRUNCATE")
        return
    deadline = time.monotonic() + BUSY_SECONDS
    while connection.execute("PRAGMA journal_mode").fetchone()[0] != "wal":
        try:
            connection.execute("PRAGMA journal_mode = WAL")  # readers are not blocked while another process writes
            return  # file systems without shared memory keep the old mode, which is as safe
        except sqlite3.OperationalError:  # SQLite ignores its busy timeout here
            if time.monotonic() > deadline:
                raise
            time.sleep(0.02)


# -- creation ------------------------------------------------------------------------------------------------------


def create(path: Path, schema: str, *, application: int, version: int) -> None:
    """Create a database with mode 0600, atomically. Does nothing if another process has created it meanwhile.

    An interruption leaves no file of this name; its temporary file is removed by `dal.store.atomic_files.recover`.

    Args:
        path: file to create.
        schema: SQL statements, each terminated by a semicolon.
        application: application id, see `Header`.
        version: schema version.

    Raises:
        SessionError: a journal of a lost file of this name is left, see also `dal.store.network_files.journal_of`.
        sqlite3.Error: SQLite cannot write the file.
        OSError: the file cannot be written.
        ValueError: the path is invalid.
    """
    logged = journal_of(path) == "wal"
    if holds_something(journal_file(path)):  # SQLite would write its pages into the new file
        raise SessionError(
            f"{named(path)} is missing, and {journal_file(path).name} next to it belongs to it: put it back, or remove "
            "the journal"
        )
    partial = path.with_name(temporary_name(path.name, "new"))
    try:
        os.close(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
        connection = sqlite3.connect(os.path.abspath(partial), isolation_level=None)
        try:
            connection.execute("PRAGMA journal_mode = MEMORY")  # a journal file would be left after a kill
            for statement in ("BEGIN", *schema.split(";")[:-1]):
                connection.execute(statement)
            connection.execute(f"PRAGMA application_id = {application}")
            connection.execute(f"PRAGMA user_version = {version}")
            connection.execute("COMMIT")
        finally:
            connection.close()
        if logged:
            with partial.open("r+b") as file:  # enable write-ahead logging here: enabling it later needs a lock
                file.seek(_FORMATS)
                file.write(_LOGGED)
        synchronise(partial)
        _publish(partial, path)
        synchronise_folder(path.parent)
    finally:
        partial.unlink(missing_ok=True)


def _publish(partial: Path, path: Path) -> None:
    """Rename a file to `path` unless that exists. A link, unlike a rename, never replaces a file."""
    try:
        os.link(partial, path)
    except FileExistsError:
        return
    except OSError:  # the file system has no hard links
        if not path.exists():
            partial.rename(path)
