"""Exchange of rows between ranks, so that a selection on distributed rows equals that of one process.

A greedy selection whose scores only fall as rows are picked needs few messages. In one exchange, each rank sends its
best rows with exact values and vectors, and the value and number of the next row, which bounds all others. All ranks
then make the same picks among the rows sent, without further messages, for as long as each pick precedes every row that
was not sent (`Window.precedes`). At least one pick is valid per exchange, since the best row of all precedes the rest.

Worked example: rows 0, 2 and 4 lie on rank 0, rows 1 and 3 on rank 1, and each rank sends one row. With values 9, 5, 7,
8 and 5 of the rows 0 to 4:

>>> window = Window(
...     rows=torch.tensor([0, 3]),
...     values=torch.tensor([9.0, 8.0], dtype=torch.float64),
...     state=torch.empty(2, 0, dtype=torch.float64),
...     vectors=torch.empty(2, 0, dtype=torch.float64),
...     outside=torch.tensor([[7.0, 2.0], [5.0, 1.0]], dtype=torch.float64),
... )
>>> window.precedes(9.0, 0), window.precedes(8.0, 3), window.precedes(7.0, 0), window.precedes(7.0, 3)
(True, True, True, False)

Rows 0 and 3 are the best two of all. A row of value 7 precedes row 2, which has the same value, only at a lower number.
"""

from dataclasses import dataclass
from typing import Protocol, TypeVar, overload, runtime_checkable

import torch
from jaxtyping import Float, Float64, Int64
from torch import Tensor

from dal.functional.points import DensePoints, OuterPoints, Points
from dal.functional.row_source import PointSource, PoolPoints, RowSource, as_pool_points

AnyPoints = TypeVar("AnyPoints", bound=Points)


@runtime_checkable
class Comm(Protocol):
    """Communication between the ranks of a group, all of which make the same calls in the same order."""

    @property
    def rank(self) -> int:
        """Number of this rank, from 0."""

    @property
    def size(self) -> int:
        """Number of ranks."""

    def all_gather(self, tensor: Tensor) -> list[Tensor]:
        """Return the tensor of each rank, in the order of ranks, on the device of the tensor.

        The tensors have the same shape and dtype on all ranks.
        """


@dataclass(frozen=True, eq=False)
class Shard:
    """The rows of one rank among rows that are distributed over all ranks.

    Every row lies on exactly one rank. A rank may have any rows, or none.

    Attributes:
        comm: communication with the other ranks.
        rows: (R,) int64, position of each row of this rank among all rows, ascending.
        total: number of rows on all ranks.

    Raises:
        ValueError: the rows are not ascending, or not within 0..total.
    """

    comm: Comm
    rows: Int64[Tensor, " R"]
    total: int

    def __post_init__(self) -> None:
        rows = self.rows
        if rows.dtype != torch.int64 or rows.dim() != 1:
            raise ValueError(f"rows of a shard must be int64 of one dimension, not {rows.dtype} {tuple(rows.shape)}")
        if len(rows) and not (int(rows[0]) >= 0 and int(rows[-1]) < self.total and bool((rows.diff() > 0).all())):
            raise ValueError(f"rows of a shard must be distinct, ascending and within 0..{self.total - 1}")

    def __len__(self) -> int:
        return len(self.rows)

    def check_length(self, count: int) -> None:
        """Check that `count` rows were given for the rows of this rank (`ValueError`)."""
        if count != len(self.rows):
            raise ValueError(f"a shard of {len(self.rows)} rows does not fit {count} rows")

    def places(self, positions: Int64[Tensor, " P"]) -> tuple[Int64[Tensor, " Q"], Int64[Tensor, " Q"]]:
        """Which of the positions lie on this rank, as indices (Q,) into them, and the local rows there, (Q,)."""
        if not len(self.rows):
            return positions[:0], positions[:0]
        local = torch.searchsorted(self.rows, positions).clamp_max_(len(self.rows) - 1)
        held = (self.rows[local] == positions).nonzero().flatten()
        return held, local[held]

    def take(self, positions: Int64[Tensor, " P"]) -> tuple[Int64[Tensor, " Q"], "Shard"]:
        """The local rows at some of P distinct positions, (Q,), and the shard of these P rows, in the given order."""
        held, local = self.places(positions)
        return local, Shard(self.comm, held, len(positions))


@dataclass(frozen=True, eq=False)
class Window:
    """The rows that all ranks sent in one exchange; the same on every rank.

    Attributes:
        rows: (M,) int64 positions among all rows, ascending.
        values: (M,) float64 exact values; the highest is best, and the lowest row among equals.
        state: (M, E) float64 further numbers of each row.
        vectors: (M, D) vectors of the rows (`unpacked`), in the dtype in which they were sent.
        outside: (W, 2) float64 value and row of the best row that each rank did not send; minus infinity if none.
    """

    rows: Int64[Tensor, " M"]
    values: Float64[Tensor, " M"]
    state: Float64[Tensor, "M E"]
    vectors: Float[Tensor, "M D"]
    outside: Float64[Tensor, "W 2"]

    def precedes(self, value: float, row: int) -> bool:
        """Whether a row of this value comes before all rows that were not sent."""
        bound, other = self.outside.T
        return bool(((value > bound) | ((value == bound) & (row < other))).all())


def exchange(
    shard: Shard,
    size: int,
    local: Int64[Tensor, " m"],
    values: Float64[Tensor, " m"],
    *,
    next_: tuple[Float64[Tensor, " o"], Int64[Tensor, " o"]] | None = None,
    state: Float64[Tensor, "m E"] | None = None,
    vectors: Float[Tensor, "m D"] | None = None,
) -> Window:
    """Send the best rows of this rank to all ranks, and receive theirs, in one collective.

    Args:
        shard: the rows of this rank.
        size: largest number of rows that a rank may send; the same on all ranks.
        local: m <= size local rows.
        values: (m,) their exact values.
        next_: bound of the value of the best row that is not sent, and this local row; (1,) each, or (0,) without one.
        state: (m, E) numbers to send along, with the same E on all ranks.
        vectors: (m, D) vectors to send along (`packed`), with the same D on all ranks.
    """
    parts = [values[:, None], shard.rows[local, None].double(), *([] if state is None else [state])]
    if vectors is None:
        vectors = values.new_empty(len(values), 0)
    width = 2 + (0 if state is None else state.shape[1])
    numbers = torch.full((size + 1, width), -1.0, dtype=torch.float64, device=values.device)  # a row of -1 is no row
    numbers[: len(values)] = torch.cat(parts, 1)
    numbers[size, 0] = -torch.inf
    if next_ is not None and len(next_[0]):
        numbers[size, :1], numbers[size, 1:2] = next_[0], shard.rows[next_[1]].double()
    padded = vectors.new_zeros(size, vectors.shape[1])
    padded[: len(vectors)] = vectors
    # Vectors are sent in their own dtype, as bytes after those of the numbers.
    message = torch.cat([numbers.flatten().view(torch.uint8), padded.flatten().view(torch.uint8)])
    received = torch.stack(shard.comm.all_gather(message))  # (W, bytes)
    length = numbers.numel() * numbers.itemsize
    lines = received[:, :length].contiguous().view(numbers.dtype).view(-1, *numbers.shape)
    rows = lines[:, :size].flatten(0, 1)
    every = received[:, length:].contiguous().view(vectors.dtype).view(len(received) * size, vectors.shape[1])
    sent = (rows[:, 1] >= 0).nonzero().flatten()
    sent = sent[rows[sent, 1].argsort()]
    rows = rows[sent]
    return Window(rows[:, 1].long(), rows[:, 0], rows[:, 2:], every[sent], lines[:, size, :2])


@overload
def gather_rows(points: AnyPoints, positions: Int64[Tensor, " P"], shard: Shard) -> AnyPoints: ...
@overload
def gather_rows(points: PointSource, positions: Int64[Tensor, " P"], shard: Shard) -> Points: ...
def gather_rows(points: PoolPoints, positions: Int64[Tensor, " P"], shard: Shard) -> Points:
    """The points at P positions among all rows, on every rank, in two collectives.

    Args:
        points: points of the rows of this rank.
        positions: distinct positions among all rows, the same on all ranks.
        shard: the rows of this rank.
    """
    held, local = shard.places(positions)
    mine = torch.zeros(len(positions), dtype=torch.uint8, device=positions.device)
    mine[held] = 1
    owners = torch.stack(shard.comm.all_gather(mine)).bool()  # (W, P)
    counts = owners.sum(1)
    own = packed(points[local])
    message = own.new_zeros(int(counts.max()), own.shape[1])
    message[: len(own)] = own
    out = own.new_empty(len(positions), own.shape[1])
    for owner, rows in zip(owners, shard.comm.all_gather(message), strict=True):
        out[owner] = rows[: int(owner.sum())]
    return unpacked(out, points)


def rows_of_ranks(
    x: Float[Tensor, "R D"] | RowSource, positions: Int64[Tensor, " P"], shard: Shard
) -> Float[Tensor, "P D"]:
    """The vectors at P positions among all rows, on every rank; see `gather_rows`."""
    vectors: Tensor = gather_rows(as_pool_points(x), positions, shard).x  # type: ignore[union-attr]
    return vectors


def packed(points: Points) -> Float[Tensor, "m D"]:
    """The numbers of each point as one row."""
    return points.x if isinstance(points, DensePoints) else torch.cat([points.a, points.b], 1)


def unpacked(rows: Float[Tensor, "m D"], like: PoolPoints) -> Points:
    """Points of the kind and dtype of `like`, from `packed` rows."""
    like = like[:0]
    if isinstance(like, DensePoints):
        return DensePoints(rows.to(like.dtype))
    a, b = rows.split([like.a.shape[1], like.b.shape[1]], 1)
    return OuterPoints(a.to(like.dtype), b.to(like.dtype))
