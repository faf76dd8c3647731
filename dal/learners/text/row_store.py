"""Values of rows on disk, addressed by the digest of the row, so that each row is computed once."""

import contextlib
import io
import logging
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dal.errors import ConfigError, DalError, LearnerError, one_line
from dal.store.atomic_files import make_folder, read_regular, write_whole
from dal.store.cache_contents import store_folder
from dal.store.cache_folder import cache_folder
from dal.store.row_segments import (
    Segment,
    append_segment,
    check_files,
    create,
    locked,
    mark_used,
    read_facts,
    read_segments,
    record_damage,
    recorded_damage,
)

_log = logging.getLogger("dal")

_FORMAT = 2  # version of the cache files
_DIGESTS, _ENDS, _VALUES = "digests.u128", "ends.int64", "values"
_SUMMARIES = "summaries"  # folder of numbers that are computed from all values of some rows
_REMEDY = "make room (dal cache --trim SIZE), or set DAL_CACHE to another folder"
_TRIES = 3  # passes over the missing rows, in case the cache is removed meanwhile

Digests = NDArray[np.uint64]  # (N, 2)
Rows = NDArray[np.int64]  # (N,)


@dataclass(frozen=True)
class StoredRows:
    """Values of N rows. Row i has the items `values[starts[i] : starts[i] + lengths[i]]`.

    Shapes: values (items, width), usually a memory map; starts and lengths (N,).
    """

    values: NDArray[Any]
    starts: Rows
    lengths: Rows

    def take(self, rows: Rows) -> "StoredRows":
        """Select rows."""
        return StoredRows(self.values, self.starts[rows], self.lengths[rows])


@dataclass(frozen=True)
class Chunk:
    """Computed values: digests (n, 2) and lengths (n,) of n rows, and their items in that order, (items, width)."""

    digests: Digests
    lengths: Rows
    values: NDArray[Any]


@dataclass(frozen=True)
class _Table:
    """Values by digest."""

    digests: Digests
    rows: StoredRows

    @cached_property
    def _order(self) -> NDArray[np.int64]:
        return np.argsort(self.digests[:, 0], kind="stable")

    def find(self, digests: Digests) -> Rows:
        """Position of each digest, -1 where it is missing; the first of several."""
        found = np.full(len(digests), -1, np.int64)
        if not len(self.digests) or not len(digests):
            return found
        ordered = self.digests[self._order, 0]
        place = np.searchsorted(ordered, digests[:, 0])
        open_ = np.arange(len(digests))  # a second step is needed only where the first 64 bits of two digests are equal
        while len(open_):
            inside = place[open_] < len(ordered)
            open_ = open_[inside]
            open_ = open_[ordered[place[open_]] == digests[open_, 0]]
            position = self._order[place[open_]]
            equal = self.digests[position, 1] == digests[open_, 1]
            found[open_[equal]] = position[equal]
            open_ = open_[~equal]
            place[open_] += 1
        return found


class RowStore:
    """A store of values, shared by all processes that use the cache folder.

    Values are appended in segments and never changed, so that every later reading of a row gives the same bits. A
    segment whose checksum is wrong is ignored, and its rows are computed again. If the cache folder cannot be written
    to, values are kept in memory.

    Args:
        kind: kind of the values, such as "tokens".
        key: digest of all that determines the values of a row.
        dtype: type of a number.
        ragged: whether rows have any number of items, instead of one.
        model: model that computes the values, for display.
        detail: further facts, for display.
    """

    def __init__(self, kind: str, key: str, dtype: Any, *, ragged: bool, model: str, detail: str = "") -> None:
        self.kind, self.folder = kind, store_folder(cache_folder(), kind, key)
        self._dtype, self._ragged = np.dtype(dtype), ragged
        self._facts = {"format": _FORMAT, "kind": kind, "model": model, "detail": detail, "dtype": self._dtype.name}
        self._names = (_DIGESTS, _VALUES, *((_ENDS,) if ragged else ()))
        self._seen = 0  # segments whose rows this process knows; -1 if it does not know all
        self._damaged: frozenset[int] = frozenset()  # segments that were damaged when the rows were read

    def rows(
        self, digests: Digests, compute: Callable[[Rows], Iterator[Chunk]], *, in_memory: bool = True
    ) -> StoredRows:
        """Return the values of rows, after computing and storing those that are missing.

        Args:
            digests: (N, 2) digests of the rows.
            compute: function that yields the values of some rows, given their indices (n,), each digest once; chunk by
                chunk, each of which becomes a segment.
            in_memory: whether values may be kept in memory if they cannot be stored.

        Raises:
            LearnerError: values cannot be stored, and not `in_memory`.
        """
        held: list[Chunk] = []
        table = self._read()
        for _ in range(_TRIES):
            found, kept = table.find(digests), _table_of(held)
            missing = np.flatnonzero(found < 0)
            if len(missing) and kept is not None:
                missing = missing[kept.find(digests[missing]) < 0]
            if not len(missing):
                break
            for chunk in compute(missing[_firsts(digests[missing])]):
                if held or not self._appended(chunk, in_memory):
                    held.append(chunk)
            table = self._read()
        else:
            raise LearnerError(f"the cache {self.folder} is being removed all the time: stop what removes it")
        return table.rows.take(found) if kept is None else _joined(table, kept, digests, found)

    def summary(self, name: str, digests: Digests, compute: Callable[[], NDArray[Any]]) -> NDArray[Any]:
        """Return numbers that are computed from all values of some rows, and kept next to them.

        Args:
            name: name of the numbers.
            digests: (N, 2) digests of the rows, in order.
            compute: function that computes them.
        """
        facts = digest_key(name, sorted(self._damaged), blake2b(np.ascontiguousarray(digests).data).hexdigest())
        path = self.folder / _SUMMARIES / f"{name}-{facts}.npy"
        try:
            content = read_regular(path)
            if zlib.crc32(content[:-4]) != int.from_bytes(content[-4:], "little"):
                raise ValueError("damaged")
            found: NDArray[Any] = np.load(io.BytesIO(content[:-4]), allow_pickle=False)
            return found
        except (OSError, ValueError):
            computed = compute()
        if self._seen:  # else there is no store
            file = io.BytesIO()
            np.save(file, computed, allow_pickle=False)
            content = file.getvalue()
            with contextlib.suppress(OSError, ConfigError):  # a shared cache may not be writable
                make_folder(path.parent)
                write_whole(path, content + zlib.crc32(content).to_bytes(4, "little"), follow_links=False)
        return computed

    def missing(self, digests: Digests) -> Rows:
        """Indices (n,) of the rows that are not stored, each digest once."""
        missing = np.flatnonzero(self._read().find(digests) < 0)
        first: Rows = missing[_firsts(digests[missing])]
        return first

    # Reading

    def _read(self, *, held: bool = False) -> _Table:
        """All rows of intact segments; none if there is no store or it cannot be read.

        Args:
            held: whether this process holds the lock of the store.
        """
        try:
            width = self._width()
            segments, damaged = self._verify(width) if held else self._verified(width)
            rows, items = _totals(segments)
            digests = _numbers(self.folder / _DIGESTS, np.uint64, 2 * rows).reshape(-1, 2)
            ends = _numbers(self.folder / _ENDS, np.int64, rows) if self._ragged else np.arange(1, rows + 1)
            path = self.folder / _VALUES
            items = min(items, path.stat().st_size // (width * self._dtype.itemsize))
            # Copy-on-write, because torch warns of read-only arrays. Nothing is written back.
            shape = (items, width)
            values = np.memmap(path, self._dtype, "c", shape=shape) if items else np.zeros(shape, self._dtype)
        except (OSError, ValueError, KeyError, TypeError):
            self._seen = 0
            return _Table(np.zeros((0, 2), np.uint64), StoredRows(np.zeros((0, 1), self._dtype), *_NO_ROWS))
        mark_used(self.folder)
        self._seen, self._damaged = len(segments), damaged
        starts = np.concatenate([[0], ends])[:-1].astype(np.int64)
        intact = np.ones(rows, bool)
        row = item = 0
        for index, segment in enumerate(segments):
            if segment.rows:
                starts[row] = item
            if index in damaged:
                intact[row : row + segment.rows] = False
            row, item = row + segment.rows, item + segment.items
        stored = StoredRows(values, starts, ends - starts)
        if intact.all():
            return _Table(digests, stored)
        return _Table(digests[intact], stored.take(np.flatnonzero(intact)))

    def _verified(self, width: int) -> tuple[list[Segment], frozenset[int]]:
        """The segments, and the indices of damaged ones. Checksums are computed only if a file has changed."""
        segments, _ = read_segments(self.folder)
        damaged = recorded_damage(self.folder, self._names)
        if damaged is not None:
            return segments, damaged
        try:
            with locked(self.folder):  # a process may be appending
                return self._verify(width)
        except OSError:  # a shared cache may not be writable
            return self._verify(width)

    def _verify(self, width: int) -> tuple[list[Segment], frozenset[int]]:
        segments, _ = read_segments(self.folder)
        known = recorded_damage(self.folder, self._names)
        if known is not None:
            return segments, known
        damaged, row, item = set(), 0, 0
        for index, segment in enumerate(segments):
            for name, start, count in self._ranges(width, row, item, segment.rows, segment.items):
                if segment.checksums.get(name) != _checksum(self.folder / name, start, count):
                    damaged.add(index)
            row, item = row + segment.rows, item + segment.items
        if damaged:
            count = sum(segments[index].rows for index in damaged)
            _log.warning("%s: %d cached rows are damaged, and are computed again", self.folder, count)
        record_damage(self.folder, self._names, damaged)
        return segments, frozenset(damaged)

    def _ranges(self, width: int, row: int, item: int, rows: int, items: int) -> Iterator[tuple[str, int, int]]:
        """File, offset and number of the bytes of a segment."""
        yield _DIGESTS, 16 * row, 16 * rows
        yield _VALUES, self._dtype.itemsize * width * item, self._dtype.itemsize * width * items
        if self._ragged:
            yield _ENDS, 8 * row, 8 * rows

    # Writing

    def _appended(self, chunk: Chunk, in_memory: bool) -> bool:
        """Append a segment. Returns False, after a warning, if the folder cannot be written to."""
        try:
            with locked(self.folder):
                self._append(chunk)
            return True
        except (OSError, DalError) as error:
            if not in_memory:
                text = f"{self.kind} cannot be stored in {self.folder}: {one_line(error)}; {_REMEDY}"
                raise LearnerError(text) from error
            _say_kept(self.kind, self.folder, one_line(error))
            return False

    def _append(self, chunk: Chunk) -> None:
        width = chunk.values.shape[1]
        try:
            if self._width() != width:
                raise ValueError("damaged")
        except (OSError, ValueError, KeyError, TypeError):
            create(self.folder, {**self._facts, "width": width})
        segments, damaged = self._verify(width)
        alone = len(segments) == self._seen
        if not alone:  # other processes have stored rows since, or the store was removed
            lacking = self._read(held=True).find(chunk.digests) < 0
            kept = np.repeat(lacking, chunk.lengths)
            chunk = Chunk(chunk.digests[lacking], chunk.lengths[lacking], chunk.values[kept])
            self._seen = -1  # until rows are read again, the rows of others are compared with every chunk
        if not len(chunk.lengths):
            return
        row, item = _totals(segments)
        rows, items = len(chunk.lengths), len(chunk.values)
        content = {_DIGESTS: chunk.digests, _VALUES: chunk.values, _ENDS: item + np.cumsum(chunk.lengths)}
        parts = {
            name: (start, np.ascontiguousarray(content[name]).data.cast("B"))
            for name, start, _ in self._ranges(width, row, item, rows, items)
        }
        append_segment(self.folder, read_segments(self.folder)[1], parts, rows, items)
        record_damage(self.folder, self._names, damaged)
        if alone:
            self._seen = len(segments) + 1

    def _width(self) -> int:
        """Width of the stored values, from the facts of the store."""
        check_files(self.folder, self._names)
        facts = read_facts(self.folder)
        width: int = facts["width"]
        if (facts["format"], facts["dtype"]) != (_FORMAT, self._dtype.name) or type(width) is not int:
            raise ValueError("damaged")
        if not 0 < width < 2**31:
            raise ValueError("damaged")
        return width


@cache  # once per store and reason: each part of the data opens the store again
def _say_kept(kind: str, folder: Path, reason: str) -> None:
    _log.warning("%s are kept in memory, not in %s: %s; to keep them on disk, %s", kind, folder, reason, _REMEDY)


_NO_ROWS = np.zeros(0, np.int64), np.zeros(0, np.int64)


def digest_key(*facts: object) -> str:
    """Key of a store: digest of all that determines its values."""
    return blake2b("|".join(map(str, (_FORMAT, *facts))).encode(), digest_size=16).hexdigest()


def _numbers(path: Path, dtype: Any, count: int) -> NDArray[Any]:
    """The first numbers in a file; zeros beyond its end, where a segment is damaged."""
    found = np.fromfile(path, dtype, count)
    return np.concatenate([found, np.zeros(count - len(found), dtype)])


def _totals(segments: Sequence[Segment]) -> tuple[int, int]:
    """Number of rows and items."""
    return sum(segment.rows for segment in segments), sum(segment.items for segment in segments)


def _checksum(path: Path, start: int, count: int) -> int | None:
    """CRC-32 of a range of bytes; None if the file is too short."""
    try:
        if path.stat().st_size < start + count:
            return None
        return zlib.crc32(np.memmap(path, np.uint8, "r", offset=start, shape=(count,)).data) if count else 0
    except OSError:
        return None


def _firsts(digests: Digests) -> Rows:
    """Index of the first row of each distinct digest, in order."""
    order = np.lexsort((digests[:, 1], digests[:, 0]))  # stable: the first of equal ones comes first
    ordered = digests[order]
    new = np.ones(len(order), bool)
    new[1:] = (ordered[1:] != ordered[:-1]).any(1)
    first: Rows = np.sort(order[new])
    return first


def _table_of(chunks: Sequence[Chunk]) -> _Table | None:
    """The values in memory by digest."""
    if not chunks:
        return None
    lengths = np.concatenate([chunk.lengths for chunk in chunks]).astype(np.int64)
    values = np.concatenate([chunk.values for chunk in chunks])
    stored = StoredRows(values, np.cumsum(lengths) - lengths, lengths)
    return _Table(np.concatenate([chunk.digests for chunk in chunks]), stored)


def _joined(table: _Table, held: _Table, digests: Digests, found: Rows) -> StoredRows:
    """Rows of which some are in memory: all of them in memory."""
    inside = np.flatnonzero(found >= 0)
    stored = table.rows.take(found[inside])
    copied = stored.values[items_of(stored.starts, stored.lengths)] if len(inside) else held.rows.values[:0]
    starts, lengths = np.zeros((2, len(digests)), np.int64)
    starts[inside], lengths[inside] = np.cumsum(stored.lengths) - stored.lengths, stored.lengths
    outside = np.flatnonzero(found < 0)
    kept = held.rows.take(held.find(digests[outside]))
    starts[outside], lengths[outside] = len(copied) + kept.starts, kept.lengths
    return StoredRows(np.concatenate([copied, held.rows.values]), starts, lengths)


def items_of(starts: Rows, lengths: Rows) -> Rows:
    """Indices of the items of rows, in order, (sum of lengths,)."""
    before = np.cumsum(lengths) - lengths
    items: Rows = np.arange(int(lengths.sum())) + np.repeat(starts - before, lengths)
    return items
