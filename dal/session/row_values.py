"""Immutable values per row, kept in chunks, so that a change of a few rows copies only the chunks of these rows."""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

_CHUNK_BYTES = 1 << 18  # a change of one row copies this much: about 20 microseconds


class RowValues:
    """Immutable tensor (N, ...) with one value per row. A changed copy shares the chunks that did not change.

    Args:
        chunks: non-empty tensors of `chunk_rows` rows each, except a shorter last one. They must not be modified
            afterwards.
        chunk_rows: number of rows of a chunk.
    """

    __slots__ = ("_chunk_rows", "_chunks")

    def __init__(self, chunks: tuple[Tensor, ...], chunk_rows: int) -> None:
        self._chunks, self._chunk_rows = chunks, chunk_rows

    @classmethod
    def of(cls, values: Tensor) -> "RowValues":
        """The rows of a tensor (N, ...), which is not copied and must not be modified afterwards."""
        chunk_rows = _rows_of_chunk(values)
        return cls(values.split(chunk_rows), chunk_rows)

    @classmethod
    def full(cls, size: int, value: Tensor) -> "RowValues":
        """`size` rows with the same value, in the memory of one chunk."""
        chunk_rows = _rows_of_chunk(value[None])
        chunk = value.expand(min(chunk_rows, size), *value.shape).contiguous()
        whole, rest = divmod(size, chunk_rows)
        return cls((chunk,) * whole + ((chunk[:rest],) if rest or not size else ()), chunk_rows)

    def __len__(self) -> int:
        return sum(map(len, self._chunks))

    def all(self) -> Tensor:
        """A copy of all values, (N, ...)."""
        return torch.cat(self._chunks)

    def at(self, rows: Tensor) -> Tensor:
        """A copy of the values of `rows`, (n, ...), in their order."""
        if 8 * len(rows) > len(self):  # to sort many rows by chunk takes longer than to copy all values
            return self.all()[rows]
        values = self._chunks[0].new_empty(len(rows), *self._chunks[0].shape[1:])
        for chunk, where, inside in self._by_chunk(rows):
            values[where] = self._chunks[chunk][inside]
        return values

    def changed(self, rows: Tensor, values: Tensor) -> "RowValues":
        """The same values, except those of `rows`.

        Args:
            rows: (n,) int64 distinct rows.
            values: (n, ...) new values, or one value for all of them.
        """
        if 8 * len(rows) > len(self):  # as in `at`
            changed = self.all()
            changed[rows] = values
            return RowValues(changed.split(self._chunk_rows), self._chunk_rows)
        chunks = list(self._chunks)
        single = values.dim() < self._chunks[0].dim()
        for chunk, where, inside in self._by_chunk(rows):
            chunks[chunk] = chunks[chunk].clone()
            chunks[chunk][inside] = values if single else values[where]
        return RowValues(tuple(chunks), self._chunk_rows)

    def _by_chunk(self, rows: Tensor) -> Iterator[tuple[int, Tensor, Tensor]]:
        """For each chunk that holds some of the rows: its number, their positions in `rows`, and within the chunk."""
        order = rows.argsort()
        ordered = rows[order]
        numbers, counts = (ordered // self._chunk_rows).unique_consecutive(return_counts=True)
        parts = order.split(counts.tolist()), ordered.split(counts.tolist())
        for number, where, inside in zip(numbers.tolist(), *parts, strict=True):
            yield number, where, inside - number * self._chunk_rows

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle one tensor: a chunk may be a view, which is pickled with the whole memory that it is a view of."""
        return RowValues.of, (self.all(),)


def _rows_of_chunk(values: Tensor) -> int:
    """Number of rows in a chunk of values (N, ...)."""
    return max(1, _CHUNK_BYTES // max(1, values[:1].numel() * values.element_size()))
