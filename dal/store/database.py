"""SQLite files of our own: created whole and private, and recognised before SQLite opens them."""

import os
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from dal.store.atomic_files import synchronise, synchronise_folder, temporary_name

_MAGIC = b"SQLite format 3\0"
_HEAD = 108  # bytes of the first page: the header, and the head of the table of tables
_FORMATS = 18  # where the header says how the file is written and read
_LOG_MAGICS = (0x377F0682, 0x377F0683)


@dataclass(frozen=True)
class Header:
    """What the first page of a database says of it.

    Attributes:
        application: a number that the program chose which owns the file.
        version: of the program's schema.
        is_empty: whether it holds no table.
    """

    application: int
    version: int
    is_empty: bool


class NoDatabaseError(ValueError):
    """A file that is no database at all."""


def read_header(path: Path) -> Header:
    """The header of a database, read without opening it: SQLite would write next to and into the file.

    Raises:
        NoDatabaseError: it is something else.
        ValueError: it is a damaged database, or the path is none.
        OSError: it cannot be read.
    """
    if not path.is_file():  # a pipe would block
        raise NoDatabaseError("it is not a regular file")
    with path.open("rb") as file:
        head = file.read(_HEAD)
    if not head:
        raise ValueError("it is empty, which a database never is")
    if not head.startswith(_MAGIC[: len(head)]):
        raise NoDatabaseError("file is not a database")
    if len(head) < _HEAD:
        raise ValueError(f"it ends after {len(head)} bytes")
    for page in _logged_heads(path):
        head = page
    return Header(
        application=int.from_bytes(head[68:72]),
        version=int.from_bytes(head[60:64]),
        is_empty=head[100] == 0x0D and head[103:105] == b"\0\0",
    )


def _logged_heads(path: Path) -> Iterator[bytes]:
    """The heads of the first page in the write-ahead log, latest last: what is there has not reached the file yet."""
    try:
        log = log_of(path).open("rb")
    except FileNotFoundError:
        return
    with log:
        head = log.read(32)
        if len(head) < 32 or int.from_bytes(head[:4]) not in _LOG_MAGICS:
            return
        size, salts = int.from_bytes(head[8:12]), head[16:24]
        while len(frame := log.read(24)) == 24 and frame[8:16] == salts:
            page = log.read(_HEAD)
            if frame[:4] == b"\0\0\0\1" and page.startswith(_MAGIC) and len(page) == _HEAD:
                yield page
            log.seek(size - len(page), os.SEEK_CUR)


def log_of(path: Path) -> Path:
    """Where SQLite keeps what was committed and has not reached the file."""
    return path.with_name(f"{path.name}-wal")


def create(path: Path, schema: str, *, application: int, version: int) -> None:
    """Create a database for its owner alone (mode 0600), whole on disk when it gets its name.

    Does nothing when another process is faster. A kill leaves no file of this name, and what it leaves is removed by
    `dal.store.atomic_files.recover`.

    Args:
        path: the file.
        schema: statements, each ended by a semicolon.
        application, version: see `Header`.

    Raises:
        sqlite3.Error, OSError: it cannot be written.
        ValueError: the path is none.
    """
    partial = path.with_name(temporary_name(path.name, "new"))
    try:
        os.close(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
        connection = sqlite3.connect(os.path.abspath(partial), isolation_level=None)
        try:
            connection.execute("PRAGMA journal_mode = MEMORY")  # no file next to this one, which a kill would leave
            for statement in ("BEGIN", *schema.split(";")[:-1]):
                connection.execute(statement)
            connection.execute(f"PRAGMA application_id = {application}")
            connection.execute(f"PRAGMA user_version = {version}")
            connection.execute("COMMIT")
        finally:
            connection.close()
        with partial.open("r+b") as file:  # write-ahead logging from the start: to switch it on later needs a lock
            file.seek(_FORMATS)
            file.write(b"\x02\x02")
        synchronise(partial)
        _publish(partial, path)
        synchronise_folder(path.parent)
    finally:
        partial.unlink(missing_ok=True)


def _publish(partial: Path, path: Path) -> None:
    """Give a file its name, unless another has it."""
    try:
        os.link(partial, path)
    except FileExistsError:
        return
    except OSError:  # a file system without links
        if not path.exists():
            partial.rename(path)
