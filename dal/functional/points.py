"""Points as dense vectors or as factors of outer products, with distances that never hold N x N or N x (C*D) numbers.

Squared distances to many points come from matrix products, `|x|^2 + |y|^2 - 2<x, y>`. This expanded form suffers from
cancellation for near-duplicates, which are common in real pools. Pairs for which it gives less than `NEAR` times
`|x|^2 + |y|^2` are therefore computed again by differences, so that equal points have a distance of exactly 0.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float, Float64
from torch import Tensor

from dal.functional.blocks import blocks, by_blocks
from dal.functional.checked_tensors import NotFiniteError, floats, listed
from dal.functional.checking import chosen
from dal.functional.precision import true_float32

#: Pairs whose squared distance is below this share of the sum of their squared norms are computed by differences.
NEAR = 1e-4


@dataclass(frozen=True, eq=False)
class DensePoints:
    """N points in D dimensions. Shape: x (N, D)."""

    x: Float[Tensor, "N D"]

    def __len__(self) -> int:
        return len(self.x)

    def __getitem__(self, index: Tensor | slice) -> "DensePoints":
        return DensePoints(self.x[index])

    @property
    def device(self) -> torch.device:
        """Device of the points."""
        return self.x.device

    @property
    def width(self) -> int:
        """Number of values stored per point."""
        return self.x.shape[1]

    def to(self, *args: object, **kwargs: object) -> "DensePoints":
        """Apply `Tensor.to` to the points."""
        return DensePoints(self.x.to(*args, **kwargs))  # type: ignore[call-overload]

    def squared_norms(self) -> Float[Tensor, " N"]:
        """Squared distance of each point to the origin, (N,)."""
        return row_squares(self.x)

    def squared_distances_to_mean(self) -> Float[Tensor, " N"]:
        """Squared distance of each point to the mean of all of them, (N,)."""
        mean = self.x.mean(0)
        return _by_blocks(self, lambda block: (self.x[block] - mean).square_().sum(1))

    def squared_distances_to(self, point: "DensePoints") -> Float[Tensor, " N"]:
        """Squared distance of each point to one point, by differences, (N,)."""
        return _by_blocks(self, lambda block: (self.x[block] - point.x).square_().sum(1))

    def squared_distances(self, others: "DensePoints") -> Float[Tensor, "N M"]:
        """Squared distance of each point to each of M others, (N, M). For blocks of points only."""
        squared, sums = self.expanded_distances(others)
        return recompute(self, others, squared, squared < NEAR * sums).clamp_min_(0)

    def expanded_distances(self, others: "DensePoints") -> tuple[Float[Tensor, "N M"], Float[Tensor, "N M"]]:
        """Expanded squared distances, and the sums `|x|^2 + |y|^2` that scale their rounding errors, (N, M)."""
        shift = others.x.mean(0)  # limits cancellation far from the origin
        x, y = self.x - shift, others.x - shift
        sums = x.square().sum(1)[:, None] + y.square().sum(1)
        with true_float32():
            return torch.addmm(sums, x, y.T, alpha=-2), sums

    def pair_distances(self, others: "DensePoints", i: Tensor, j: Tensor) -> Float[Tensor, " P"]:
        """Squared distances of the points at i to the others at j, by differences, (P,)."""
        return (self.x[i] - others.x[j]).square_().sum(1)

    @property
    def dtype(self) -> torch.dtype:
        """Dtype of the points."""
        return self.x.dtype

    def empty(self, count: int) -> "DensePoints":
        """Allocate uninitialised storage for `count` points of the same kind."""
        return DensePoints(self.x.new_empty(count, self.x.shape[1]))

    def put(self, at: Tensor | slice, others: "DensePoints") -> None:
        """Overwrite the points at `at` with others."""
        self.x[at] = others.x

    def mean(self) -> Float[Tensor, " D"]:
        """The mean of the points, summed in float64, (D,) float64."""
        return self.sum() / len(self)

    def sum(self) -> Float[Tensor, " D"]:
        """The sum of the points in float64, (D,) float64."""
        total = self.x.new_zeros(self.x.shape[1], dtype=torch.float64)
        self.add_sum_to(total)
        return total

    def add_sum_to(self, total: Float64[Tensor, " D"]) -> None:
        """Add the sum of the points to a total."""
        for block in blocks(len(self), self.width, self.device):
            total += self.x[block].double().sum(0)

    def squared_distances_from(self, mean: Float[Tensor, " D"]) -> Float[Tensor, " N"]:
        """Squared distance of each point to the result of `mean`, (N,)."""
        mean = mean.to(self.dtype)
        return _by_blocks(self, lambda block: (self.x[block] - mean).square_().sum(1))

    def shifted(self, origin: Float[Tensor, " D"] | None) -> "DensePoints":
        """Translate the points to another origin, which limits cancellation; `None` returns them unchanged."""
        return self if origin is None else DensePoints(self.x - origin.to(self.dtype))

    def origin(self) -> Float[Tensor, " D"] | None:
        """Mean of the points as an origin for `moved`; `None` if they are already centered well enough."""
        mean = self.x.mean(0)
        return mean if mean.square().sum() > self.x.square().mean(0).sum() / 2 else None

    def squared_differences(self, others: "DensePoints") -> Float[Tensor, " N"]:
        """Squared distances to N others, pair by pair, by differences in float64, (N,)."""
        return self.x.to(torch.float64, copy=True).sub_(others.x).square_().sum(1)

    def inner_products(self, others: "DensePoints") -> Float[Tensor, "N M"]:
        """Inner product of each point with each of M others, (N, M)."""
        return self.x @ others.x.T


@dataclass(frozen=True, eq=False)
class OuterPoints:
    """N points in C*D dimensions, kept as factors: row i is `vec(a_i (x) b_i)`, never materialised.

    Shapes: a (N, C), b (N, D), one device. Memory is N*(C + D) numbers.
    """

    a: Float[Tensor, "N C"]
    b: Float[Tensor, "N D"]

    def __post_init__(self) -> None:
        if len(self.a) != len(self.b):
            raise ValueError(f"the factors of OuterPoints have {len(self.a)} and {len(self.b)} rows")

    def __len__(self) -> int:
        return len(self.a)

    def __getitem__(self, index: Tensor | slice) -> "OuterPoints":
        return OuterPoints(self.a[index], self.b[index])

    @property
    def device(self) -> torch.device:
        """Device of both factors."""
        return self.a.device

    @property
    def width(self) -> int:
        """Number of values stored per point."""
        return self.a.shape[1] + self.b.shape[1]

    def to(self, *args: object, **kwargs: object) -> "OuterPoints":
        """Apply `Tensor.to` to both factors."""
        return OuterPoints(self.a.to(*args, **kwargs), self.b.to(*args, **kwargs))  # type: ignore[call-overload]

    def materialise(self) -> Float[Tensor, "N CD"]:
        """Dense rows, (N, C*D). For tests and small pools only."""
        return torch.einsum("nc,nd->ncd", self.a, self.b).flatten(1)

    def squared_norms(self) -> Float[Tensor, " N"]:
        """Squared distance of each point to the origin, (N,)."""
        return row_squares(self.a) * row_squares(self.b)

    def squared_distances_to_mean(self) -> Float[Tensor, " N"]:
        """Squared distance of each point to the mean of all of them, (N,). The mean holds C*D numbers."""
        with true_float32():
            mean = self.a.T @ self.b / len(self)  # (C, D)

            # <a (x) b, mean> = a' mean b, so that no outer product is formed.
            def distance(block: slice) -> Tensor:
                a, b = self.a[block], self.b[block]
                norms = a.square().sum(1) * b.square().sum(1)
                return norms - 2 * ((a @ mean) * b).sum(1) + mean.square().sum()

            return _by_blocks(self, distance).clamp_min_(0)

    def squared_distances_to(self, point: "OuterPoints") -> Float[Tensor, " N"]:
        """Squared distance of each point to one point, by differences, (N,)."""
        return _by_blocks(self, lambda block: _outer_difference(self.a[block], self.b[block], point.a, point.b))

    def squared_distances(self, others: "OuterPoints") -> Float[Tensor, "N M"]:
        """Squared distance of each point to each of M others, (N, M). For blocks of points only."""
        squared, sums = self.expanded_distances(others)
        return recompute(self, others, squared, squared < NEAR * sums).clamp_min_(0)

    def expanded_distances(self, others: "OuterPoints") -> tuple[Float[Tensor, "N M"], Float[Tensor, "N M"]]:
        """Expanded squared distances, and the sums `|x|^2 + |y|^2` that scale their rounding errors, (N, M)."""
        sums = self.squared_norms()[:, None] + others.squared_norms()
        with true_float32():
            return torch.addcmul(sums, self.a @ others.a.T, self.b @ others.b.T, value=-2), sums

    def pair_distances(self, others: "OuterPoints", i: Tensor, j: Tensor) -> Float[Tensor, " P"]:
        """Squared distances of the points at i to the others at j, by differences, (P,)."""
        return _outer_difference(self.a[i], self.b[i], others.a[j], others.b[j])

    @property
    def dtype(self) -> torch.dtype:
        """Dtype of the points."""
        return self.b.dtype

    def empty(self, count: int) -> "OuterPoints":
        """Allocate uninitialised storage for `count` points of the same kind."""
        return OuterPoints(self.a.new_empty(count, self.a.shape[1]), self.b.new_empty(count, self.b.shape[1]))

    def put(self, at: Tensor | slice, others: "OuterPoints") -> None:
        """Overwrite the points at `at` with others."""
        self.a[at], self.b[at] = others.a, others.b

    def mean(self) -> Float[Tensor, "C D"]:
        """The mean of the points, summed in float64, as a matrix (C, D) float64."""
        return self.sum() / len(self)

    def sum(self) -> Float[Tensor, "C D"]:
        """The sum of the points in float64, as a matrix (C, D) float64."""
        total = self.a.new_zeros(self.a.shape[1], self.b.shape[1], dtype=torch.float64)
        self.add_sum_to(total)
        return total

    def add_sum_to(self, total: Float64[Tensor, "C D"]) -> None:
        """Add the sum of the points to a total."""
        for block in blocks(len(self), self.width, self.device):
            total.addmm_(self.a[block].double().T, self.b[block].double())

    def squared_distances_from(self, mean: Float[Tensor, "C D"]) -> Float[Tensor, " N"]:
        """Squared distance of each point to the result of `mean`, (N,)."""
        mean = mean.to(self.dtype)

        def distance(block: slice) -> Tensor:
            a, b = self.a[block], self.b[block]
            norms = a.square().sum(1) * b.square().sum(1)
            return norms - 2 * ((a @ mean) * b).sum(1) + mean.square().sum()

        with true_float32():
            return _by_blocks(self, distance).clamp_min_(0)

    def shifted(self, origin: Tensor | None) -> "OuterPoints":
        """Return the points unchanged: translated outer products are not outer products."""
        return self

    def origin(self) -> Tensor | None:
        """`None`, because outer products cannot be translated."""
        return None

    def squared_differences(self, others: "OuterPoints") -> Float[Tensor, " N"]:
        """Squared distances to N others, pair by pair, by differences in float64, (N,)."""
        return _outer_difference(self.a.double(), self.b.double(), others.a.double(), others.b.double())

    def inner_products(self, others: "OuterPoints") -> Float[Tensor, "N M"]:
        """Inner product of each point with each of M others, (N, M)."""
        return (self.a @ others.a.T).mul_(self.b @ others.b.T)


Points = DensePoints | OuterPoints


def as_points(points: Points | Float[Tensor, "N D"]) -> Points:
    """Wrap a tensor (N, D) as points. Integers, bools and half precision become float32; tensors are detached.

    Raises:
        ValueError: not a dense tensor of real numbers with columns.
    """
    if isinstance(points, OuterPoints):
        a, b = floats(points.a, "points.a", 2), floats(points.b, "points.b", 2)
        if a.dtype != b.dtype:
            a, b = a.double(), b.double()
        return points if a is points.a and b is points.b else OuterPoints(a, b)
    x = points.x if isinstance(points, DensePoints) else points
    kept = floats(x, "points", 2)
    return points if isinstance(points, DensePoints) and kept is x else DensePoints(kept)


def vectors(points: Points, what: str) -> Float[Tensor, "N D"]:
    """The points as plain vectors (N, D); `TypeError` for factors, which the operation `what` does not support."""
    if not isinstance(points, DensePoints):
        raise TypeError(f"{what} needs plain vectors: the mean of outer products is not an outer product")
    return points.x


@runtime_checkable
class HasNorms(Protocol):
    """Points whose squared norms are known."""

    def squared_norms(self) -> Float[Tensor, " N"]:
        """Squared distance of each point to the origin, (N,)."""


def check_finite(points: HasNorms) -> None:
    """Raise a `ValueError` that names the rows with NaN, infinite or too large values, if there are any."""
    bad = (~torch.isfinite(points.squared_norms())).nonzero().flatten().tolist()
    if bad:
        raise NotFiniteError(f"points must be finite and of finite length; {len(bad)} rows are not: {listed(bad)}")


def checked(points: Points | Float[Tensor, "N D"], n: Any, name: str = "n") -> Points:
    """Wrap points, and check that they are finite and that n of them can be selected (`ValueError`)."""
    points = as_points(points)
    chosen(n, len(points), name=name)
    check_finite(points)
    return points


def row_squares(x: Float[Tensor, "N D"]) -> Float[Tensor, " N"]:
    """Sum of squares of each row, (N,), in one memory-bound pass without copies of x."""
    squares: Tensor = torch.linalg.vector_norm(x, dim=1).square_()
    return squares


def finite_norms(points: HasNorms) -> Float[Tensor, " N"]:
    """Squared norms of all points, (N,), after checking that they are finite (`check_finite`)."""
    norms = points.squared_norms()
    if not torch.isfinite(norms).all():
        check_finite(points)
    return norms


def recompute(
    points: Points, others: Points, squared: Float[Tensor, "N M"], where: Bool[Tensor, "N M"]
) -> Float[Tensor, "N M"]:
    """Replace the distances selected by `where` with those computed by differences, in place."""
    i, j = where.nonzero(as_tuple=True)
    for pairs in blocks(len(i), points.width, points.device):
        squared[i[pairs], j[pairs]] = points.pair_distances(others, i[pairs], j[pairs])  # type: ignore[arg-type]
    return squared


def _by_blocks(points: Points, function: Callable[[slice], Tensor]) -> Tensor:
    """Apply `function` to blocks of rows; one number per row, (N,)."""
    return by_blocks(function, len(points), points.width, points.device)


def _outer_difference(a: Tensor, b: Tensor, c: Tensor, d: Tensor) -> Tensor:
    """Squared length of a (x) b - c (x) d from differences and means of the factors; exactly 0 for equal factors."""
    # a (x) b - c (x) d = da (x) mb + ma (x) db, whose squared length expands into inner products of the factors.
    da, db, ma, mb = a - c, b - d, (a + c) / 2, (b + d) / 2
    squared = da.square().sum(1) * mb.square().sum(1) + ma.square().sum(1) * db.square().sum(1)
    return (squared + 2 * (da * ma).sum(1) * (db * mb).sum(1)).clamp_min_(0)
