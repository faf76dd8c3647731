"""Text columns in Arrow memory with the interface of Python sequences, and hashes of their rows."""

from collections.abc import Iterable, Iterator, Sequence
from hashlib import blake2b
from itertools import pairwise
from typing import Any, overload

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from numpy.typing import NDArray
from torch import Tensor

from dal.data.label_values import NOT_ENCODABLE, first_not_encodable, is_missing, shown
from dal.errors import DataError

#: Rows converted to Python objects at a time.
BLOCK = 8192

Positions = Tensor | NDArray[Any] | Sequence[int] | slice


def positions(rows: Positions, length: int) -> NDArray[np.int64]:
    """Convert a tensor, array, list, slice or mask to row indices, (n,); negative ones count from the end.

    Raises:
        IndexError: an index is out of range, or a mask does not have `length` items.
    """
    if isinstance(rows, slice):
        return np.arange(*rows.indices(length), dtype=np.int64)
    index = np.asarray(rows.cpu() if isinstance(rows, Tensor) else rows)
    if index.dtype == np.bool_:
        if index.shape != (length,):
            raise IndexError(f"a mask of {index.shape} for {length} rows")
        return np.flatnonzero(index).astype(np.int64)
    index = index.astype(np.int64).reshape(-1)
    if index.min(initial=0) < 0:
        index = np.where(index < 0, index + length, index)
    if len(index) and not 0 <= index.min() <= index.max() < length:
        raise IndexError(f"row {index[(index < 0) | (index >= length)][0]} is outside 0 .. {length - 1}")
    return index


class TextColumn(Sequence[str]):
    """Sequence of strings in Arrow memory or a memory-mapped file.

    Args:
        array: Arrow string array, chunked or not, without nulls.
        index: (n,) selected rows of `array`, in order; None for all. `take` changes only the index and copies no text.

    Example:
        >>> column = TextColumn.of(["one", "two", "three"])
        >>> column[1], list(column.take([2, 0]))
        ('two', ['three', 'one'])
    """

    __slots__ = ("_array", "_digests", "_index", "_starts")

    def __init__(self, array: Any, index: NDArray[np.int64] | None = None) -> None:
        chunked = array if isinstance(array, pa.ChunkedArray) else pa.chunked_array([array])
        self._array = chunked if chunked.type == pa.large_string() else chunked.cast(pa.large_string())
        self._starts = np.cumsum([0, *(len(chunk) for chunk in self._array.chunks)])
        self._index = index
        self._digests: NDArray[np.uint64] | None = None

    @classmethod
    def of(cls, values: Iterable[str]) -> "TextColumn":
        """Build a column from Python strings."""
        return cls(pa.array(values, pa.large_string()))

    def __len__(self) -> int:
        return len(self._array) if self._index is None else len(self._index)

    @overload
    def __getitem__(self, item: int) -> str: ...
    @overload
    def __getitem__(self, item: slice) -> "TextColumn": ...
    def __getitem__(self, item: int | slice) -> "str | TextColumn":
        if isinstance(item, slice):
            return self.take(item)
        row = int(positions([int(item)], len(self))[0])
        text: str = self._array[row if self._index is None else int(self._index[row])].as_py()
        return text

    def __iter__(self) -> Iterator[str]:
        for block in self.blocks():
            yield from block.to_pylist()

    def __repr__(self) -> str:
        return f"Column({len(self)} strings)"

    def take(self, rows: Positions) -> "TextColumn":
        """Select rows, in the given order, without copying the strings."""
        index = positions(rows, len(self))
        taken = TextColumn(self._array, index if self._index is None else self._index[index])
        taken._digests = None if self._digests is None else self._digests[index]
        return taken

    @property
    def digests(self) -> NDArray[np.uint64]:
        """64-bit hash of each string, (N,), computed once."""
        if self._digests is None:
            hashed = blake2b  # a local variable: global lookups are slow in a loop over millions of rows
            digests = []
            for block in self.blocks():
                offsets, data = _bytes_of(block)
                each = [hashed(data[a:b], digest_size=8).digest() for a, b in pairwise(offsets.tolist())]
                digests.append(b"".join(each))  # by block: millions of small strings take several times the memory
            self._digests = np.frombuffer(b"".join(digests), "<u8")
        return self._digests

    def arrow(self, rows: Positions | None = None) -> Any:
        """The strings of `rows` (all rows by default) as one Arrow array."""
        if rows is None and self._index is None:
            return self._array.combine_chunks() if self._array.num_chunks != 1 else self._array.chunk(0)
        index = positions(slice(None) if rows is None else rows, len(self))
        return self._gather(index if self._index is None else self._index[index])

    def blocks(self, size: int = BLOCK) -> Iterator[Any]:
        """Arrow arrays of up to `size` strings each, in order."""
        if self._index is not None:
            for start in range(0, len(self), size):
                yield self._gather(self._index[start : start + size])
            return
        for chunk in self._array.chunks:
            for start in range(0, len(chunk), size):
                yield chunk.slice(start, size)

    def _gather(self, index: NDArray[np.int64]) -> Any:
        if self._array.num_chunks == 1:
            return self._array.chunk(0).take(pa.array(index))
        which = np.searchsorted(self._starts, index, side="right") - 1  # ChunkedArray.take would join all chunks
        order = np.argsort(which, kind="stable")
        parts = [
            self._array.chunk(int(chunk)).take(pa.array(index[which == chunk] - self._starts[chunk]))
            for chunk in np.unique(which)
        ]
        if not parts:
            return pa.array([], pa.large_string())
        return pa.concat_arrays(parts).take(pa.array(np.argsort(order, kind="stable")))


class IdPages:
    """A column of strings that is built page by page, without keeping a Python object for each."""

    def __init__(self) -> None:
        self._chunks: list[Any] = []

    def add(self, page: Sequence[str]) -> int:
        """Append strings and return their number."""
        self._chunks.append(pa.array(page, pa.large_string()))
        return len(page)

    def column(self) -> TextColumn:
        """All strings so far."""
        return TextColumn(pa.chunked_array(self._chunks, pa.large_string()))


class TextPairs(Sequence[tuple[str, str]]):
    """Sequence of (first, second) pairs from two text columns.

    Example:
        >>> TextPairs(TextColumn.of(["a"]), TextColumn.of(["b"]))[0]
        ('a', 'b')
    """

    __slots__ = ("_digests", "first", "second")

    def __init__(self, first: TextColumn, second: TextColumn) -> None:
        self.first = first
        self.second = second
        self._digests: NDArray[np.uint64] | None = None

    def __len__(self) -> int:
        return len(self.first)

    @overload
    def __getitem__(self, item: int) -> tuple[str, str]: ...
    @overload
    def __getitem__(self, item: slice) -> "TextPairs": ...
    def __getitem__(self, item: int | slice) -> "tuple[str, str] | TextPairs":
        return self.take(item) if isinstance(item, slice) else (self.first[item], self.second[item])

    def __iter__(self) -> Iterator[tuple[str, str]]:
        return zip(self.first, self.second, strict=True)

    def __repr__(self) -> str:
        return f"Pairs({len(self)} pairs of strings)"

    def take(self, rows: Positions) -> "TextPairs":
        """Select rows, in the given order."""
        taken = TextPairs(self.first.take(rows), self.second.take(rows))
        taken._digests = None if self._digests is None else self._digests[positions(rows, len(self))]
        return taken

    @property
    def digests(self) -> NDArray[np.uint64]:
        """64-bit hash of each pair, (N,), computed once."""
        if self._digests is None:
            self._digests = _hashed(_items(self))
        return self._digests


Texts = TextColumn | TextPairs


def in_rows(values: Any, what: str) -> Any:
    """Convert values to a sequence with one item per row. Lists, tensors, arrays and columns are returned unchanged.

    A pandas object loses its index, and its missing values become None.

    Raises:
        DataError: the values are a scalar or unordered, such as a set.
    """
    if getattr(values, "ndim", 1) == 0:
        raise DataError(f"{what} must be a list, an array, a tensor or a column, not a single value")
    if isinstance(values, Tensor | np.ndarray | TextColumn | TextPairs | pa.Array | pa.ChunkedArray | list | tuple):
        return values
    if hasattr(values, "isna") and hasattr(values, "to_numpy"):  # a pandas Series, DataFrame, Index or array
        return _of_pandas(values)
    if isinstance(values, str | bytes | dict | set | frozenset) or not isinstance(values, Iterable):
        raise DataError(f"{what} must be a list, an array, a tensor or a column, not {type(values).__name__}")
    return values if isinstance(values, Sequence) else list(values)


def labels_in_rows(values: Any, what: str) -> Any:
    """`in_rows` for labels.

    Raises:
        DataError: the labels are a table, whose column names would be lost.
    """
    if hasattr(values, "columns") and getattr(values, "ndim", 0) == 2:
        raise DataError(
            f"{what} are a table: give one column of it, or when multi-label `table.to_numpy()` as labels and "
            "`list(table.columns)` as `classes`"
        )
    return in_rows(values, what)


def _of_pandas(values: Any) -> Any:
    """The values of a Series as a list; the rows of a DataFrame as tuples, or as an array if all are numbers."""
    array = values.to_numpy()
    if array.ndim == 2 and array.dtype.kind in "biuf":
        return array
    if array.ndim == 2:
        return [tuple(None if is_missing(item) else item for item in row) for row in array.tolist()]
    return [None if is_missing(item) else item for item in values.tolist()]


def as_inputs(inputs: Any) -> Any:
    """Convert texts to a `TextColumn` and pairs to `TextPairs`; other inputs are returned unchanged.

    Raises:
        DataError: the inputs are not a sequence, or a text cannot be encoded as UTF-8.
    """
    if isinstance(inputs, pa.Array | pa.ChunkedArray):
        return TextColumn(inputs)
    inputs = in_rows(inputs, "inputs")
    if isinstance(inputs, Tensor | np.ndarray) and not inputs.ndim:
        raise DataError("inputs must be a sequence of texts, a tensor or an array, not a single number")
    if isinstance(inputs, np.ndarray) and inputs.dtype.kind in "OU":
        inputs = inputs.tolist()
    if isinstance(inputs, TextColumn | TextPairs | Tensor | np.ndarray):
        return inputs
    if len(inputs) and all(isinstance(item, str) for item in inputs):
        return texts_in_utf8(inputs, "inputs: row {} of the texts")
    if len(inputs) and all(
        isinstance(item, tuple | list) and len(item) == 2 and all(isinstance(text, str) for text in item)
        for item in inputs
    ):
        return TextPairs(*(texts_in_utf8([item[i] for item in inputs], "inputs: row {} of the texts") for i in (0, 1)))
    return inputs


def texts_in_utf8(texts: Sequence[str], where: str) -> TextColumn:
    """Build a column from texts.

    Args:
        texts: Python strings.
        where: name of a row in messages, with {} for its number, counted from 1.

    Raises:
        DataError: a text cannot be encoded as UTF-8; the message names its row.
    """
    try:
        return TextColumn.of(texts)
    except UnicodeEncodeError:
        row = first_not_encodable(texts) or 0
        raise DataError(f"{where.format(row + 1)}: {shown(texts[row])} {NOT_ENCODABLE}") from None


def first_not_finite(inputs: Any) -> int | None:
    """Index of the first row with a NaN or infinite number; None if all are finite or the inputs are not numbers."""
    if isinstance(inputs, TextColumn | TextPairs):
        return None
    if isinstance(inputs, Tensor | np.ndarray):
        for start in range(0, len(inputs) if inputs.ndim and _is_float(inputs) else 0, BLOCK):
            finite = _isfinite(inputs[start : start + BLOCK])
            if not finite.all():
                return start + int(np.argmin(finite.reshape(len(finite), -1).all(1)))
        return None
    return next((row for row, item in enumerate(inputs) if _is_float(item) and not _isfinite(item).all()), None)


def _is_float(item: Any) -> bool:
    if isinstance(item, Tensor):
        return item.is_floating_point() or item.is_complex()
    return isinstance(item, float) or (isinstance(item, np.ndarray | np.generic) and item.dtype.kind in "fc")


def _isfinite(item: Any) -> NDArray[np.bool_]:
    """Whether each number of a tensor, an array or a float is finite, on the CPU."""
    return np.asarray(torch.isfinite(item.detach()).cpu() if isinstance(item, Tensor) else np.isfinite(item))


def select(inputs: Any, rows: NDArray[np.int64]) -> Any:
    """Select rows of any inputs, in the given order."""
    if isinstance(inputs, TextColumn | TextPairs):
        return inputs.take(rows)
    if isinstance(inputs, Tensor):
        return inputs[torch.from_numpy(rows).to(inputs.device)]
    return inputs[rows] if isinstance(inputs, np.ndarray) else [inputs[int(row)] for row in rows]


def _bytes_of(block: Any) -> tuple[NDArray[np.int64], memoryview]:
    """Offsets of the strings of an Arrow block, (n + 1,), and the buffer that holds them."""
    _, offset_buffer, data = block.buffers()
    if offset_buffer is None or not len(block):
        return np.zeros(len(block) + 1, np.int64), memoryview(b"")
    offsets = np.frombuffer(offset_buffer, np.int64)[block.offset : block.offset + len(block) + 1]
    return offsets, memoryview(data) if data is not None else memoryview(b"")


def _items(inputs: Any) -> Iterator[bytes | memoryview]:
    """One byte string per row, equal for equal rows only."""
    if isinstance(inputs, TextColumn):
        for block in inputs.blocks():
            offsets, data = _bytes_of(block)
            for start, end in pairwise(offsets.tolist()):
                yield data[start:end]
    elif isinstance(inputs, TextPairs):
        for first, second in zip(_items(inputs.first), _items(inputs.second), strict=True):
            yield len(first).to_bytes(8, "little") + bytes(first) + bytes(second)
    else:
        for item in inputs:
            yield _raw(item)


def _raw(item: Any) -> bytes:
    if isinstance(item, str):
        return item.encode()
    if isinstance(item, Tensor):
        flat = item.detach().cpu().contiguous().reshape(-1)
        return f"{item.dtype}{tuple(item.shape)}".encode() + flat.view(torch.uint8).numpy().tobytes()
    try:
        array = np.asarray(item)
    except ValueError as error:
        raise DataError(
            f"inputs of type {type(item).__name__} cannot be hashed: use texts, tensors or arrays"
        ) from error
    if array.dtype == object:
        raise DataError(f"inputs of type {type(item).__name__} cannot be hashed: use texts, tensors or arrays")
    return f"{array.dtype}{array.shape}".encode() + array.tobytes()


def digests(inputs: Any) -> NDArray[np.uint64]:
    """64-bit hash of each row, (N,), independent of the file, the order of the rows and the process."""
    return inputs.digests if isinstance(inputs, TextColumn | TextPairs) else _hashed(_items(inputs))


def _hashed(items: Iterable[bytes | memoryview]) -> NDArray[np.uint64]:
    return np.frombuffer(b"".join([blake2b(item, digest_size=8).digest() for item in items]), "<u8")


def wide_digests(inputs: Any) -> NDArray[np.uint64]:
    """128-bit hash of each row, (N, 2), equal for equal rows only: the key of what is cached for a row."""
    hashed = blake2b
    if not isinstance(inputs, TextColumn):
        kind = b"pair" if isinstance(inputs, TextPairs) else b""  # or a text could have the bytes of a pair
        keys = [b"".join([hashed(item, digest_size=16, person=kind).digest() for item in _items(inputs)])]
    else:
        keys = []
        for block in inputs.blocks():  # by block: millions of small strings take several times the memory
            offsets, data = _bytes_of(block)
            keys.append(b"".join([hashed(data[a:b], digest_size=16).digest() for a, b in pairwise(offsets.tolist())]))
    return np.frombuffer(b"".join(keys), "<u8").reshape(-1, 2)


def hash_ids(digest: NDArray[np.uint64]) -> TextColumn:
    """Ids from row hashes, (N,): 16 hexadecimal digits, with "-2", "-3", ... appended to repetitions of a hash."""
    pairs = np.array([f"{byte:02x}" for byte in range(256)], "S2")
    flat = pairs[digest.astype("<u8").view(np.uint8)].view(np.uint8)
    offsets = np.arange(len(digest) + 1, dtype=np.int64) * 16
    base = pa.LargeStringArray.from_buffers(len(digest), pa.py_buffer(offsets), pa.py_buffer(flat))
    repeated, occurrence = _repetitions(digest)
    if len(repeated):
        texts = base.take(pa.array(repeated)).to_pylist()
        suffix = [f"{text}-{count + 1}" for text, count in zip(texts, occurrence.tolist(), strict=True)]
        mask = np.zeros(len(digest), np.bool_)
        mask[repeated] = True
        base = pc.replace_with_mask(base, pa.array(mask), pa.array(suffix, pa.large_string()))
    return TextColumn(base)


def _repetitions(digest: NDArray[np.uint64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Rows, ascending, whose hash an earlier row has, and the number of these earlier rows, from 1."""
    ordered = np.sort(digest)  # faster than the order of all rows, which only rows with a repeated hash need
    several = ordered[1:][ordered[1:] == ordered[:-1]]
    rows = np.flatnonzero(np.asarray(pc.is_in(pa.array(digest), value_set=pa.array(several))))
    order = np.argsort(digest[rows], kind="stable")
    hashes = digest[rows][order]
    new = np.r_[True, hashes[1:] != hashes[:-1]][: len(rows)]
    first = np.flatnonzero(new)
    occurrence = np.empty(len(rows), np.int64)
    occurrence[order] = np.arange(len(rows)) - first[np.cumsum(new) - 1]
    later = occurrence > 0
    return rows[later], occurrence[later]


def fingerprint(inputs: Any) -> str:
    """Hash of all rows in order, independent of how they were loaded or chunked."""
    lengths, data = blake2b(digest_size=16), blake2b(digest_size=16)
    if isinstance(inputs, TextPairs):
        data.update((fingerprint(inputs.first) + fingerprint(inputs.second)).encode())
    elif isinstance(inputs, TextColumn):
        for block in inputs.blocks(65536):
            offsets, buffer = _bytes_of(block)
            lengths.update(np.diff(offsets).tobytes())
            data.update(buffer[int(offsets[0]) : int(offsets[-1])])
    else:
        for item in _items(inputs):
            lengths.update(len(item).to_bytes(8, "little"))
            data.update(item)
    return blake2b(lengths.digest() + data.digest(), digest_size=16).hexdigest()
