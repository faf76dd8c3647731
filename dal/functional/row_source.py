"""Rows and points that are read when they are indexed, so that a pool of vectors need not fit into memory."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Float, Float64, Int64
from torch import Tensor

from dal.functional.blocks import blocks, by_blocks
from dal.functional.points import DensePoints, OuterPoints, Points, as_points

#: Size in bytes up to which the engine reads rows into one tensor; larger ones stay a source.
AT_ONCE = 2**28


@dataclass(frozen=True, eq=False)
class RowSource:
    """N rows of D float32 numbers on the CPU that are computed, or read from a file, when they are indexed.

    `source[index]` is a tensor; `source.take(index)` selects rows without reading any. `k_center_greedy`,
    `kmeans_plusplus`, `max_coverage` (with targets) and `k_nearest` (with `among`) take a source instead of a tensor
    (N, D), read it block by block, and give the same result to the last bit.

    Args:
        read: function from numbers of rows (n,) int64 to these rows (n, D) float32, which nobody changes afterwards.
            The bits of a row must not depend on the rows that are read with it.
        rows: (N,) int64 numbers of the rows, in order.
        width: D, at least 1.

    >>> squares = RowSource(lambda rows: rows[:, None].float() ** 2, torch.arange(4), 1)
    >>> squares.shape, squares[1:3].tolist(), squares.take(torch.tensor([3, 0])).tensor().tolist()
    (torch.Size([4, 1]), [[1.0], [4.0]], [[9.0], [0.0]])
    """

    read: Callable[[Tensor], Tensor]
    rows: Int64[Tensor, " N"]
    width: int

    dtype = torch.float32
    device = torch.device("cpu")

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def shape(self) -> torch.Size:
        """Shape (N, D) of the rows."""
        return torch.Size((len(self), self.width))

    @property
    def at_once(self) -> int:
        """Size in bytes up to which the engine reads selected rows into one tensor."""
        return AT_ONCE

    @property
    def nbytes(self) -> int:
        """Size of all rows as one tensor."""
        return len(self) * self.width * self.dtype.itemsize

    def __getitem__(self, index: Any) -> Float[Tensor, "n D"]:
        """Read the rows at some positions: a slice, or a tensor (n,) int64 or (N,) bool."""
        return self.read(self.rows[index])

    def take(self, index: Any) -> "RowSource":
        """Select rows without reading them."""
        return replace(self, rows=self.rows[index])

    def mapped(self, function: Callable[[Tensor], Tensor]) -> "RowSource":
        """Rows after a function that keeps their shape and computes each on its own, such as `F.normalize`."""
        return replace(self, read=lambda rows: function(self.read(rows)))

    def tensor(self) -> Float[Tensor, "N D"]:
        """Read all rows into one tensor."""
        return by_blocks(self.__getitem__, len(self), self.width, self.device)


@dataclass(frozen=True, eq=False)
class PointSource:
    """N points that are read when they are indexed: `DensePoints`, or `OuterPoints` if their first factors are given.

    Methods read block by block, and give the bits that they give for points in memory.

    Attributes:
        b: the points (N, D); with `a`, their second factors.
        a: (N, C) first factors in memory, on the CPU, or None.
        dtype: dtype of the points, to which they are converted as they are read.
    """

    b: RowSource
    a: Float[Tensor, "N C"] | None = None
    dtype: torch.dtype = torch.float32

    def __post_init__(self) -> None:
        if self.a is not None and len(self.a) != len(self.b):
            raise ValueError(f"the factors of PointSource have {len(self.a)} and {len(self.b)} rows")

    def __len__(self) -> int:
        return len(self.b)

    def __getitem__(self, index: Tensor | slice) -> Points:
        """Read some points."""
        b = self.b[index].to(self.dtype)
        return DensePoints(b) if self.a is None else OuterPoints(self.a[index].to(self.dtype), b)

    def take(self, index: Tensor | slice) -> "PointSource":
        """Select points without reading them."""
        return replace(self, b=self.b.take(index), a=None if self.a is None else self.a[index])

    @property
    def device(self) -> torch.device:
        """Device of the points, the CPU."""
        return self.b.device

    @property
    def width(self) -> int:
        """Number of values stored per point."""
        return self.b.width + (0 if self.a is None else self.a.shape[1])

    @property
    def at_once(self) -> int:
        """Size in bytes up to which the engine reads selected points into one tensor."""
        return self.b.at_once

    @property
    def nbytes(self) -> int:
        """Size in memory of what is read, as one tensor."""
        return self.b.nbytes

    def to(self, dtype: torch.dtype) -> "PointSource":
        """Convert the points to another dtype, as they are read."""
        return replace(self, dtype=dtype)

    def tensor(self) -> OuterPoints:
        """Read the second factors of outer products into one tensor."""
        if self.a is None:
            raise TypeError("plain vectors are read by `RowSource.tensor`")
        return OuterPoints(self.a, self.b.tensor())

    def empty(self, count: int) -> Points:
        """Allocate uninitialised storage for `count` points of the same kind."""
        return self[:0].empty(count)

    def squared_norms(self) -> Float[Tensor, " N"]:
        """Squared distance of each point to the origin, (N,)."""
        return self._by_blocks(lambda points: points.squared_norms())

    def mean(self) -> Float64[Tensor, "..."]:
        """The mean of the points, summed in float64: (D,), or a matrix (C, D) for factors."""
        return self.sum() / len(self)

    def sum(self) -> Float64[Tensor, "..."]:
        """The sum of the points in float64: (D,), or a matrix (C, D) for factors."""
        total = self[:0].sum()
        for block in blocks(len(self), self.width, self.device):
            self[block].add_sum_to(total)
        return total

    def squared_distances_from(self, mean: Tensor) -> Float[Tensor, " N"]:
        """Squared distance of each point to the result of `mean`, (N,)."""
        return self._by_blocks(lambda points: points.squared_distances_from(mean))

    def _by_blocks(self, function: Callable[[Points], Tensor]) -> Tensor:
        """Apply a function of one number per point to blocks, (N,)."""
        return by_blocks(lambda block: function(self[block]), len(self), self.width, self.device)


#: Points of a pool: in memory, or read when they are indexed.
PoolPoints = Points | PointSource


def as_pool_points(points: PoolPoints | RowSource | Float[Tensor, "N D"]) -> PoolPoints:
    """Wrap a tensor (N, D) as points, as `as_points` does, or a source of rows as a source of points.

    Raises:
        ValueError: not a dense tensor of real numbers with columns.
    """
    if isinstance(points, PointSource):
        return points
    return PointSource(points) if isinstance(points, RowSource) else as_points(points)
