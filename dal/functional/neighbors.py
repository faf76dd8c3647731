"""Exact nearest-neighbour search in blocks of distances."""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from dal.functional.blocks import blocks, by_blocks
from dal.functional.checking import whole
from dal.functional.points import DensePoints, Points, as_points, finite_norms, recompute, row_squares
from dal.functional.precision import true_float32
from dal.functional.row_source import PointSource, PoolPoints, RowSource, as_pool_points

#: Error bound of an expanded squared distance, in units of eps times the sum of the squared norms.
ROUNDING = 32

#: Number of candidates beyond k, which usually prove that no other point can be nearer.
SPARE = 4

#: Size of a tile of distances in units of `blocks.ELEMENTS`: wide tiles make the search for the smallest cheap.
TILE = 8


@dataclass(frozen=True, eq=False)
class Neighbors:
    """k nearest neighbours of each row, nearest first.

    Attributes:
        distances: (N, k) distances.
        indices: (N, k) int64 indices of the neighbours.
    """

    distances: Float[Tensor, "N k"]
    indices: Int64[Tensor, "N k"]


@torch.no_grad()
def k_nearest(
    points: PoolPoints | RowSource | Float[Tensor, "N D"],
    k: int,
    *,
    among: Points | Float[Tensor, "M D"] | None = None,
) -> Neighbors:
    """Exact k nearest neighbours of each point in `among`, or by default among the other points.

    Ties go to the lowest index. A duplicate of a point is a neighbour at distance 0; a point is not its own neighbour.
    Distances are compared as computed by differences, in the dtype of the points.

    Matrix products give expanded distances, and the k + 4 smallest are computed again by differences. Further
    candidates are examined only if rounding leaves open whether one is nearer. Sources are read block by block, with
    the same result, and need `among`. Extra memory: 8 bytes per point and
    32 * `blocks.ELEMENTS` numbers, 32 MiB (64 times that on an accelerator), for any N and M, and k up to 500.

    Raises:
        ValueError: there are fewer than k neighbours, or a point is not finite.

    >>> k_nearest(torch.tensor([[0.0], [1.0], [5.0]]), 1).indices
    tensor([[1],
            [0],
            [1]])
    """
    points = as_pool_points(points)
    if among is not None:
        others = as_points(among)
    elif isinstance(points, PointSource):
        raise TypeError("points that are read block by block need others in memory: give `among`")
    else:
        others = points
    available = len(others) - (among is None)
    k = whole(k, "k")
    if not 1 <= k <= available:
        possible = f"k must be from 1 to {available}" if available > 0 else "there are no others"
        raise ValueError(f"{k} nearest neighbours were asked for among {available}: {possible}")
    if others.dtype != points.dtype:
        points, others = points.to(torch.float64), others.to(torch.float64)
    finite_norms(points)
    if among is not None:
        finite_norms(others)
    squared, indices = _k_nearest(points, others, k, themselves=among is None)
    return Neighbors(squared.sqrt(), indices)


@torch.no_grad()
def nearest_distance(
    points: Points | Float[Tensor, "N D"], *, among: Points | Float[Tensor, "M D"] | None = None
) -> Float[Tensor, " N"]:
    """Distance of each point to the nearest point in `among`, or by default to the nearest other point, (N,).

    Infinite if there is none.

    >>> nearest_distance(torch.tensor([[0.0], [1.0], [5.0]]))
    tensor([1., 1., 4.])
    """
    points = as_points(points)
    available = len(points) - 1 if among is None else len(among)
    if available < 1:
        return finite_norms(points).fill_(torch.inf)
    return k_nearest(points, 1, among=among).distances.squeeze(1)


def nearest(points: Points, others: Points) -> tuple[Float[Tensor, " N"], Int64[Tensor, " N"]]:
    """Squared distance of each point to the nearest of M others (N,), and the index of that one (N,).

    Ties go to the lowest index.
    """
    squared, indices = _k_nearest(points, others, 1, themselves=False)
    return squared.squeeze(1), indices.squeeze(1)


def _k_nearest(points: PoolPoints, others: Points, k: int, *, themselves: bool) -> tuple[Tensor, Tensor]:
    """Squared distances and indices (N, k) of the k nearest others; with `themselves`, the others are the points."""
    search = _Search(others)
    squared = search.halves.new_empty(len(points), k)
    indices = torch.empty(len(points), k, dtype=torch.int64, device=points.device)
    available = len(others) - themselves
    count = min(k + (SPARE if k > 1 else 1), available)
    unsure = [torch.empty(0, dtype=torch.int64, device=points.device)]  # rows for which another point may be nearer
    for rows in blocks(len(points), max(points.width, 4 * count, 512), points.device):
        block = points[rows]
        candidates = search.smallest(block, count, rows.start if themselves else None)
        exact = _exact(block, others, candidates.indices, candidates.may_be_among(k))
        # First by index, then stably by distance, so that ties go to the lowest index.
        order = candidates.indices.argsort(1)
        order = order.gather(1, exact.gather(1, order).argsort(dim=1, stable=True))[:, :k]
        squared[rows], indices[rows] = exact.gather(1, order), candidates.indices.gather(1, order)
        if count < available:  # a point that is no candidate is no nearer than the last one
            nearer = candidates.lower[:, -1] <= squared[rows, -1] * (1 + 4 * ROUNDING * search.eps)
            unsure.append(nearer.nonzero().flatten() + rows.start)
    left = torch.cat(unsure)
    for rows in blocks(len(left), max(points.width, 512), points.device):
        some = left[rows]
        own = some[:, None] if themselves else None
        squared[some], indices[some] = _k_nearest_of_open(points[some], others, k, own, squared[some, -1:])
    return squared, indices


@dataclass(frozen=True, eq=False)
class _NearCandidates:
    """Neighbour candidates of B points, nearest first up to rounding.

    Attributes:
        indices: (B, c) indices among the others; points that are not listed are no nearer than the last candidate.
        lower: (B, c) lower bounds of the squared distances.
        upper: (B, c) upper bounds of the squared distances.
    """

    indices: Tensor
    lower: Tensor
    upper: Tensor

    def may_be_among(self, k: int) -> Tensor:
        """Whether each candidate can be among the k nearest, (B, c) bool."""
        return self.lower <= self.upper[:, :k].amax(1, keepdim=True)


class _Search:
    """Search for the smallest expanded distances to M others, in tiles.

    Points are taken relative to the mean of the others to limit cancellation: `|x - y|^2 / 2 = |y - mean|^2 / 2 -
    <x - mean, y> + c(x)`. The first term is computed once, and the last does not affect which distance is smallest.
    """

    def __init__(self, others: Points) -> None:
        self.others = others
        if isinstance(others, DensePoints):
            self.mean = others.x.mean(0)
            squares = by_blocks(
                lambda rows: row_squares(others.x[rows] - self.mean), len(others), others.width, others.device
            )
            self.halves = squares.div_(2)
        else:
            self.halves = others.squared_norms().div_(2)
        self.eps = torch.finfo(self.halves.dtype).eps

    def smallest(self, points: Points, count: int, first: int | None) -> _NearCandidates:
        """`count` candidates of B points. If `first` is given, the points are the others from that index on."""
        if isinstance(points, DensePoints):
            points = DensePoints(points.x - self.mean)
        best, at = self.halves.new_empty(len(points), 0), self.halves.new_empty(len(points), 0, dtype=torch.int64)
        for columns in blocks(len(self.others), max(1, len(points) // TILE), points.device):
            values, near = self._lowest_in_tile(points, columns, count, first)
            best, at = torch.cat([best, values], 1), torch.cat([at, near + columns.start], 1)
            if best.shape[1] > count:
                best, near = best.topk(count, 1, largest=False)
                at = at.gather(1, near)
        return self._with_bounds(points, at, best)

    def _lowest_in_tile(self, points: Points, columns: slice, count: int, first: int | None) -> tuple[Tensor, Tensor]:
        """Smallest half distances to a slice of the others, and their places in the slice, (B, up to count)."""
        tile = self._tile(points, columns)
        if first is not None:
            low, high = max(first, columns.start), min(first + len(points), columns.stop)
            own = torch.arange(low, max(low, high), device=tile.device)
            tile[own - first, own - columns.start] = torch.inf
        return _lowest(tile, count)

    def _tile(self, points: Points, columns: slice) -> Tensor:
        """Half the squared distances of B points to a slice of the others, minus a constant per row, (B, M)."""
        with true_float32():
            if isinstance(self.others, DensePoints):
                return torch.addmm(self.halves[columns], points.x, self.others.x[columns].T, alpha=-1)  # type: ignore[union-attr]
            others = self.others[columns]
            return points.inner_products(others).neg_().add_(self.halves[columns])  # type: ignore[arg-type]

    def _with_bounds(self, points: Points, indices: Tensor, halves: Tensor) -> _NearCandidates:
        """Candidates with bounds of their squared distances, from the values (B, c) of the tiles.

        Rounding errors are a multiple of `|x|^2 + |y|^2 + 2|x||mean|`, and `|y|^2 <= 2|x|^2 + 2|x - y|^2`.
        """
        norms = points.squared_norms()
        if isinstance(points, DensePoints):
            common = norms + 2 * (points.x @ self.mean)
            rounding = 3 * norms + 2 * (norms * self.mean.square().sum()).sqrt()
        else:
            common, rounding = norms, 3 * norms
        squared = halves.mul(2).add_(common[:, None])
        slack = squared.abs().mul_(2).add_(rounding[:, None]).mul_(ROUNDING * self.eps)
        return _NearCandidates(indices, squared - slack, squared + slack)


def _exact(points: Points, others: Points, indices: Tensor, where: Tensor) -> Tensor:
    """Squared distances of B points to others by differences, (B, c); infinite except where requested.

    Shapes: indices (B, c), where (B, c) bool.
    """
    exact = torch.full(indices.shape, torch.inf, dtype=points.dtype, device=indices.device)
    i, j = where.nonzero(as_tuple=True)
    for pairs in blocks(len(i), points.width, points.device):
        at = i[pairs], j[pairs]
        exact[at] = points.pair_distances(others, at[0], indices[at])  # type: ignore[arg-type]
    return exact


def _lowest(table: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Lowest values of each row and their columns, lowest first, (B, up to count). Overwrites the table."""
    count = min(count, table.shape[1])
    if count > 2:
        found = table.topk(count, 1, largest=False)
        return found.values, found.indices
    values, columns = table.min(1, keepdim=True)  # several times faster than topk
    if count == 2:
        others, second = table.scatter_(1, columns, torch.inf).min(1, keepdim=True)
        values, columns = torch.cat([values, others], 1), torch.cat([columns, second], 1)
    return values, columns


def _k_nearest_of_open(
    points: Points, others: Points, k: int, own: Tensor | None, known: Tensor
) -> tuple[Tensor, Tensor]:
    """k nearest of B points whose candidates were inconclusive, from all others that can be among them.

    `own` (B, 1) are the indices of the points among the others, if they are. `known` (B, 1) is a squared distance
    within which there are k neighbours. Expanded distances with error bounds determine which others can be within it,
    and those are compared by differences, so that ties are independent of the blocks. Once k neighbours at distance 0
    are found, no later one can precede them, so large groups of duplicates are not compared with each other.
    """
    best = known.new_empty(len(points), 0)  # (B, up to k)
    at = torch.empty(len(points), 0, dtype=torch.int64, device=points.device)
    some = min(len(others), 4 * k)
    rest = (slice(c.start + some, c.stop + some) for c in blocks(len(others) - some, len(points), points.device))
    for columns in (slice(0, some), *rest):
        index = torch.arange(columns.start, columns.stop, device=points.device).expand(len(points), -1)  # (B, M)
        block = others[columns]
        squared, sums = points.expanded_distances(block)  # type: ignore[arg-type]
        if own is not None:
            squared.masked_fill_(index == own, torch.inf)
        possible = squared - sums.mul_(ROUNDING * torch.finfo(sums.dtype).eps) <= known
        if best.shape[1] == k:
            possible &= best[:, -1:] > 0
        if not possible.any():
            continue
        exact = recompute(points, block, squared.fill_(torch.inf), possible)
        best, at = torch.cat([best, exact], 1), torch.cat([at, index], 1)
        chosen = _smallest(best, min(k, best.shape[1]))
        best, at = best.gather(1, chosen), at.gather(1, chosen)
        if best.shape[1] == k and not best[:, -1].any():
            break
    return best, at


def _smallest(values: Tensor, k: int) -> Tensor:
    """Columns of the k smallest values of each row, smallest first, ties in column order, (B, k).

    `topk` does not define which of several equal values it takes, so rows where this matters are sorted entirely.
    """
    if k == 1:
        return values.argmin(1, keepdim=True)  # the first minimum, as torch documents
    lowest = values.topk(k, 1, largest=False)
    chosen = lowest.indices.sort(1).values
    chosen = chosen.gather(1, values.gather(1, chosen).argsort(dim=1, stable=True))  # (B, k)
    tied = ((values <= lowest.values[:, -1:]).sum(1) > k).nonzero().flatten()
    if len(tied):
        chosen[tied] = values[tied].argsort(dim=1, stable=True)[:, :k]
    return chosen
