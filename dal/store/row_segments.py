"""Append-only files of cached values, one folder per store, and the segments that were written to them completely.

A segment is a number of rows that were appended together: a range of bytes in each file, and one line with their
checksums in `segments.jsonl`, which is written last. Bytes beyond the last line belong to an append that did not
finish; the next one overwrites them. Files never shrink and written ranges never change, so that they can be
memory-mapped while another process appends.
"""

import contextlib
import errno
import json
import os
import shutil
import stat
import zlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock

from dal.errors import ConfigError
from dal.store.atomic_files import make_folder, open_regular, read_regular, synchronise_folder, write_whole
from dal.store.bounded_json import parse_json

FACTS = "store.json"
SEGMENTS = "segments.jsonl"
VERIFIED = "verified.json"

#: Seconds that an append waits for those of other processes.
PATIENCE = 120.0


@dataclass(frozen=True)
class Segment:
    """Rows that were appended together.

    Attributes:
        rows: number of rows.
        items: number of items, such as tokens, of these rows.
        checksums: file name -> CRC-32 of the segment's bytes in that file.
    """

    rows: int
    items: int
    checksums: Mapping[str, int]


@contextmanager
def locked(folder: Path, patience: float = PATIENCE) -> Iterator[None]:
    """Hold the lock of a store, which need not exist, during the block.

    The lock file is next to the folder, so that it outlives the removal of the store.

    Raises:
        OSError: the lock is not released within `patience` seconds, or there can be none.
    """
    make_folder(folder.parent)
    path = folder.with_name(f".{folder.name}.lock")
    if path.is_symlink() or path.is_dir():
        raise OSError(errno.EINVAL, "is a link or a folder, not a lock file: remove it", str(path))
    lock = FileLock(
        path,
        timeout=patience,
        thread_local=False,
        fallback_to_soft=False,  # a lock that is only a file would outlive a killed process
        preserve_lock_file=True,
    )
    with lock:
        yield


def read_facts(folder: Path) -> dict[str, Any]:
    """The facts given to `create`.

    Raises:
        OSError, ValueError: there is no such store, or its facts are damaged.
    """
    facts = parse_json(read_regular(folder / FACTS))
    if not isinstance(facts, dict):
        raise ValueError("it is not a JSON object")
    return facts


def create(folder: Path, facts: Mapping[str, Any]) -> None:
    """Create an empty store, in place of one whose facts cannot be read. Call it with the lock held."""
    if os.path.lexists(folder):
        shutil.rmtree(folder)
    make_folder(folder)
    try:
        write_whole(folder / FACTS, json.dumps(dict(facts), ensure_ascii=False), follow_links=False)
    except OSError:
        with contextlib.suppress(OSError):
            folder.rmdir()  # it would be shown as damaged
        raise


def check_files(folder: Path, names: Iterable[str]) -> None:
    """Check that the files of a store, where they exist, are regular: others may be able to write to a shared cache.

    Raises:
        ValueError: one is a link, a pipe or a folder.
    """
    for name in (FACTS, SEGMENTS, VERIFIED, *names):
        with contextlib.suppress(FileNotFoundError):
            if not stat.S_ISREG((folder / name).lstat().st_mode):
                raise ValueError(f"{name} is not a regular file")


def read_segments(folder: Path) -> tuple[list[Segment], int]:
    """The segments of a store in order, and the offset of the end of their lines.

    Lines are read up to the first that is incomplete or damaged.

    Raises:
        OSError: the file cannot be read.
    """
    try:
        content = read_regular(folder / SEGMENTS)
    except FileNotFoundError:
        return [], 0
    segments, end = [], 0
    for line in content.splitlines(keepends=True):
        try:
            segment = Segment(**parse_json(line))
            counts = [segment.rows, segment.items, *segment.checksums.values()]
        except (ValueError, TypeError, AttributeError, RecursionError):
            break
        if not line.endswith(b"\n") or not all(type(count) is int and count >= 0 for count in counts):
            break
        segments.append(segment)
        end += len(line)
    return segments, end


def append_segment(folder: Path, end: int, parts: Mapping[str, tuple[int, memoryview]], rows: int, items: int) -> None:
    """Write a segment, synced to disk before its line. Call it with the lock held.

    Args:
        folder: folder of the store.
        end: offset of the new line, from `read_segments`.
        parts: file name -> offset and bytes of the segment in that file.
        rows, items: counts of the segment.

    Raises:
        OSError: the disk is full, or the folder cannot be written to.
    """
    checksums = {name: zlib.crc32(content) for name, (_, content) in parts.items()}
    line = json.dumps(asdict(Segment(rows, items, checksums))).encode() + b"\n"
    try:
        for name, (offset, content) in parts.items():
            _write(folder / name, offset, content)
    except OSError:
        for name, (offset, _) in parts.items():
            _cut(folder / name, offset)
        raise
    _write(folder / SEGMENTS, end, memoryview(line))
    if not end:
        synchronise_folder(folder)


def _write(path: Path, offset: int, content: memoryview) -> None:
    """Write the last range of a file, and sync it to disk."""
    with open(open_regular(path, os.O_RDWR | os.O_CREAT), "r+b") as file:
        file.seek(offset)
        file.write(content)
        file.truncate()  # what is left of an append that did not finish, such as a torn line
        file.flush()
        os.fsync(file.fileno())


def _cut(path: Path, size: int) -> None:
    """Remove what follows the first bytes of a file: the part of a segment that fitted keeps a full disk full."""
    with contextlib.suppress(OSError), open(open_regular(path, os.O_RDWR), "r+b") as file:
        if os.fstat(file.fileno()).st_size > size:
            file.truncate(size)


def recorded_damage(folder: Path, names: Iterable[str]) -> frozenset[int] | None:
    """Indices of the damaged segments, as found when the files were last verified; None if they have changed since.

    Args:
        folder: folder of the store.
        names: files of the store.
    """
    try:
        known = parse_json(read_regular(folder / VERIFIED))
        same = known["stamps"] == _stamps(folder, names) and known["facts"] == read_facts(folder)
        return frozenset(map(int, known["damaged"])) if same else None
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None  # not verified yet


def record_damage(folder: Path, names: Iterable[str], damaged: Iterable[int]) -> None:
    """Record that the files were verified. Does nothing in a folder that cannot be written to."""
    with contextlib.suppress(OSError, ValueError, ConfigError):
        known = {"stamps": _stamps(folder, names), "facts": read_facts(folder), "damaged": sorted(damaged)}
        write_whole(folder / VERIFIED, json.dumps(known), follow_links=False)


def _stamps(folder: Path, names: Iterable[str]) -> dict[str, list[int] | None]:
    """Size, modification time and change time of every file, by name; None for a file that does not exist."""
    stamps: dict[str, list[int] | None] = {}
    for name in sorted({*names, SEGMENTS}):
        try:
            status = (folder / name).stat()
        except FileNotFoundError:
            stamps[name] = None
        else:
            stamps[name] = [status.st_size, status.st_mtime_ns, status.st_ctime_ns]
    return stamps


def mark_used(folder: Path) -> None:
    """Record that the store is used now, by the modification time of its facts."""
    with contextlib.suppress(OSError):  # a shared cache may not be writable
        os.utime(folder / FACTS)
