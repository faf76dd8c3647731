"""Contents of the disk cache: what it holds, and the removal of what can be computed again."""

import contextlib
import os
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from dal.store.atomic_files import recover, remove
from dal.store.row_segments import FACTS, locked, read_facts, read_segments

#: Folder of the stores in the cache: `rows/KIND/KEY`.
ROWS = "rows"

#: Folder of adapted encoders in the cache: `adapted/KEY`.
ADAPTED = "adapted"

#: Folder of unfinished passes in the cache: `passes/KEY`.
PASSES = "passes"

_REPLIES = "replies.db"
_EARLIER = ("tokens", "embeddings")  # folders of versions whose caches are no longer read
_PATIENCE = 5.0  # seconds to wait for a process that writes to a store


@dataclass(frozen=True)
class CacheEntry:
    """An entry of the cache that is removed as a whole.

    Attributes:
        path: its folder or file.
        kind: "tokens", "embeddings", "states", "adapted", "pass", "replies", or "earlier" for files that are no longer
            read.
        about: model and options, for display.
        rows: number of rows, or of texts that an encoder was adapted to; None if unknown.
        size: bytes on disk.
        used: time of the last use, seconds since the epoch.
        removable: whether it can be computed again at no cost but time.
    """

    path: Path
    kind: str
    about: str
    rows: int | None
    size: int
    used: float
    removable: bool = True


def store_folder(root: Path, kind: str, key: str) -> Path:
    """Folder of a store of rows in the cache `root`."""
    return root / ROWS / kind / key


def adapted_folder(root: Path, key: str) -> Path:
    """Folder of an adapted encoder in the cache `root`."""
    return root / ADAPTED / key


def pass_folder(root: Path, key: str) -> Path:
    """Folder of an unfinished pass in the cache `root`."""
    return root / PASSES / key


def cache_entries(root: Path) -> list[CacheEntry]:
    """The contents of the cache, the least recently used first. What is no longer read comes before all others."""
    entries = [*_stores(root)]
    for name in _EARLIER:
        if (root / name).is_dir():
            about = f"{name} of an earlier version, no longer read"
            entries.append(CacheEntry(root / name, "earlier", about, None, _size(root / name), 0.0))
    for folder in sorted((root / PASSES).glob("*")):
        with contextlib.suppress(OSError):  # the pass is finished meanwhile
            used = max((path.stat().st_mtime for path in folder.iterdir()), default=0.0)
            about = "outputs of a pass that was not finished"
            entries.append(CacheEntry(folder, "pass", about, None, _size(folder), used))
    replies = [path for path in sorted(root.glob(f"{_REPLIES}*")) if path.is_file()]
    if replies:
        size, used = sum(map(_size, replies)), max(path.stat().st_mtime for path in replies)
        about = "replies of language models, which were paid for"
        entries.append(CacheEntry(root / _REPLIES, "replies", about, None, size, used, removable=False))
    return sorted(entries, key=lambda entry: (entry.used, entry.path))


def _stores(root: Path) -> Iterator[CacheEntry]:
    for folder in sorted([*(root / ROWS).glob("*/*"), *(root / ADAPTED).glob("*")]):
        if not folder.is_dir() or folder.name.startswith("."):
            continue
        kind, size = folder.parent.name, _size(folder)
        try:
            facts = read_facts(folder)
            rows = facts.get("rows") or sum(segment.rows for segment in read_segments(folder)[0])
            used = (folder / FACTS).stat().st_mtime
            about = ", ".join(str(facts[name]) for name in ("model", "detail") if facts.get(name))
            yield CacheEntry(folder, kind, about, rows, size, used)
        except (OSError, ValueError):
            yield CacheEntry(folder, kind, "damaged", None, size, 0.0)


def remove_entry(entry: CacheEntry) -> None:
    """Remove an entry. A process that has it open keeps what it has read, and computes the rest again.

    Of an entry that is a link the link is removed, not what it leads to.

    Raises:
        OSError: it cannot be removed, or a process is writing to it.
        ValueError: it is not removable.
    """
    if not entry.removable:
        raise ValueError(f"{entry.path} cannot be computed again")
    if entry.kind in ("earlier", "pass"):
        remove(entry.path)
        return
    with locked(entry.path, _PATIENCE):
        # A rename first, since a removal that is interrupted halfway would leave a damaged store.
        leaving = entry.path.with_name(f".{entry.path.name}.{uuid.uuid4().hex[:12]}.old")
        entry.path.rename(leaving)
    remove(leaving)


@dataclass(frozen=True)
class Trimming:
    """What `trim` has done.

    Attributes:
        removed: the entries that were removed.
        kept: the entries that could not be removed, with the reason.
        left: bytes of the removable entries that are left.
    """

    removed: list[CacheEntry]
    kept: Mapping[CacheEntry, OSError]
    left: int


def trim(root: Path, most: int) -> Trimming:
    """Remove the least recently used entries until the others that are removable have at most `most` bytes.

    An entry that cannot be removed is kept, and the next ones are removed in its place. Empty entries are removed too
    if `most` is negative.
    """
    _remove_leftovers(root)
    entries = [entry for entry in cache_entries(root) if entry.removable]
    left, removed, kept = sum(entry.size for entry in entries), list[CacheEntry](), dict[CacheEntry, OSError]()
    for entry in entries:
        if left <= most:
            break
        try:
            remove_entry(entry)
        except OSError as error:
            if os.path.lexists(entry.path):
                kept[entry] = error
                continue  # otherwise another process has removed it
        else:
            removed.append(entry)
        left -= entry.size
    return Trimming(removed, kept, left)


def _remove_leftovers(root: Path) -> None:
    """Remove stores whose removal was interrupted, and temporary files of ended processes."""
    for folder in [*(root / ROWS).glob("*/.*.old"), *(root / ADAPTED).glob(".*.old")]:
        with contextlib.suppress(OSError):
            remove(folder)
    for name in {path.name.split(".")[1] for path in (root / ADAPTED).glob(".*.new")}:
        recover(root / ADAPTED / name)


def _size(path: Path) -> int:
    """Bytes on disk of a file, or of all files in a folder; fewer than their lengths where files have holes."""
    files = [path] if path.is_file() else [Path(folder) / name for folder, _, names in os.walk(path) for name in names]
    total = 0
    for file in files:
        try:
            status = file.lstat()
        except OSError:  # another process has removed it
            continue
        total += min(status.st_size, 512 * getattr(status, "st_blocks", 1 + status.st_size // 512))
    return total
