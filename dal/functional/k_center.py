"""Greedy k-center selection (farthest-first traversal)."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from dal.functional.blocks import blocks
from dal.functional.centers import Centers
from dal.functional.checking import as_integer
from dal.functional.checking import chosen as checked_count
from dal.functional.exchange import Shard, rows_of_ranks
from dal.functional.farthest import FarthestFirst, farthest_from
from dal.functional.k_center_shards import SharedCenters, first_window, likely_first, pick_on_shards
from dal.functional.points import Points, as_points, check_finite
from dal.functional.precision import true_float32
from dal.functional.row_source import PoolPoints, RowSource, as_pool_points
from dal.functional.searching import first_of_each, searching_order


@dataclass(frozen=True, eq=False)
class Bounds:
    """Distance bounds from an earlier run, so that only distances to new centers are computed.

    Attributes:
        squared: (N,) upper bounds of the squared distance of each point to the nearest center that is not new: the
            `bounds` of an earlier `Cover`, restricted to the points that remain. Infinite where nothing is known.
        new: (L,) bool, whether the bounds do not account for a center.
    """

    squared: Float[Tensor, " N"]
    new: Bool[Tensor, " L"]


@dataclass(frozen=True, eq=False)
class Cover:
    """Result of a greedy k-center selection.

    Attributes:
        positions: (n,) int64, distinct, in the order of selection.
        distances: (n,) distance of each selected point to the nearest center or earlier selection.
        radius: largest distance of a point that was not selected to its nearest center; 0 if all were selected.
        bounds: (N,) float64 upper bounds of the squared distance of each point to the nearest center or selected
            point, for the `Bounds` of a later run in which all of these are centers.
    """

    positions: Int64[Tensor, " n"]
    distances: Float[Tensor, " n"]
    radius: float
    bounds: Float[Tensor, " N"]


@torch.no_grad()
def k_center_greedy(
    points: PoolPoints | RowSource | Float[Tensor, "N D"],
    n: int,
    *,
    centers: Points | Float[Tensor, "L D"] | None = None,
    bounds: Bounds | None = None,
    window: int | None = None,
    chunk: int | None = None,
    shard: Shard | None = None,
) -> Cover:
    """Select n points, each the farthest from all centers and from the points selected before it.

    The resulting radius is at most twice the smallest possible. Without centers the first point is the one farthest
    from the mean. Ties go to the lowest position; duplicates are selected after all other points. The selection is that
    of float64 arithmetic, for points of any precision.

    One pass over the points computes upper bounds of all distances from the few centers that rule out most points (from
    the new ones, given `bounds`); after that only points that may win are read. Bounds in float32 are raised by the
    maximum rounding error, and picks are compared in float64. Extra memory in bytes for float32 points, with W numbers
    per point (D, or C + D for factors), windows of at most 512 rows and chunks of 2 MiB on a CPU:
    `64 N + 4 (L + n) (W + 2) + 2 chunk + 16 window (window + W) + 24 * 2**20`.

    With a shard, the points and bounds are those of the rows of this rank, and the centers are the same on all ranks.
    The positions among all rows, the distances and the radius are then those of one process, on every rank, and
    `Cover.bounds` has the rows of this rank. Without centers, windows have 8,192 rows of all ranks.

    Gonzalez 1985, "Clustering to minimize the maximum intercluster distance"; for active learning Sener and Savarese
    2018, "Active Learning for Convolutional Neural Networks: A Core-Set Approach".

    Args:
        points: N points. Sources are read block by block, with the same result.
        n: number of points to select, 1 <= n <= N.
        centers: L centers that exist already; `None` for none.
        bounds: bounds from an earlier run on the same points; does not affect the result.
        window: number of points in a window of picks; does not affect the result.
        chunk: number of points that the pass measures at once; does not affect the result.
        shard: the rows of this rank if the points are distributed over several.

    Raises:
        ValueError: n is not within 1..N, a point is not finite, or `bounds` do not fit.

    >>> cover = k_center_greedy(torch.tensor([[0.0], [1.0], [9.0]]), 2, centers=torch.tensor([[0.0]]))
    >>> cover.positions, cover.distances, cover.radius
    (tensor([2, 1]), tensor([9., 1.]), 0.0)
    """
    points = as_pool_points(points)
    n = checked_count(n, len(points) if shard is None else shard.total)
    given = points[:0] if centers is None else as_points(centers)
    kind = torch.promote_types(points.dtype, given.dtype)
    points, given = points.to(kind), given.to(kind)
    check_finite(given)
    _check(bounds, len(points), len(given))
    if any(rows is not None and (as_integer(rows) or 0) < 1 for rows in (window, chunk)):
        raise ValueError(f"window and chunk are numbers of rows, at least 1, not {window} and {chunk}")
    if shard is not None:
        return _on_shards(points, given, n, bounds, window, chunk, shard)
    with true_float32():
        search, squared = _farthest_first(points, given, n, bounds, window, chunk)
        radius = search.farthest_left() ** 0.5
    return Cover(search.centers.picks, squared.sqrt().to(kind), radius, search.upper.clamp_min(0))


@torch.no_grad()
def farthest_others(
    x: Float[Tensor, "N D"] | RowSource,
    chosen: Int64[Tensor, " M"],
    n: int,
    *,
    centers: Float[Tensor, "L D"] | None = None,
    shard: Shard | None = None,
) -> Int64[Tensor, " n"]:
    """Positions of n more points (n,), each the farthest from the centers, the chosen points and those before it.

    With a shard, x has the rows of this rank, and all positions are those among the rows of all ranks.

    >>> farthest_others(torch.tensor([[0.0], [1.0], [9.0]]), torch.tensor([0]), 1)
    tensor([2])
    """
    near = x[chosen] if shard is None else rows_of_ranks(x, chosen, shard)
    near = near if centers is None else torch.cat([centers, near])
    free = torch.ones(len(x) if shard is None else shard.total, dtype=torch.bool, device=x.device)
    free[chosen] = False
    others = free.nonzero().flatten()  # the chosen, at distance 0, would compete with duplicates of centers
    own, shard = (others, None) if shard is None else shard.take(others)
    left = x.take(own) if isinstance(x, RowSource) else x[own]
    return others[k_center_greedy(left, n, centers=near, shard=shard).positions]


def _check(bounds: Bounds | None, N: int, L: int) -> None:
    if bounds is None:
        return
    if not L or (len(bounds.squared), len(bounds.new)) != (N, L):
        raise ValueError(
            f"bounds of {len(bounds.squared)} points to {len(bounds.new)} centers do not fit {N} points and {L} centers"
        )
    if not bool((bounds.squared >= 0).all()):
        raise ValueError("bounds are squared distances: none may be negative or NaN")


def _farthest_first(
    points: PoolPoints, given: Points, n: int, bounds: Bounds | None, window: int | None, chunk: int | None
) -> tuple[FarthestFirst, Float[Tensor, " n"]]:
    """Search state after n picks, and the squared distances of the picks at selection, (n,) float64."""
    if len(given):
        given, searched = _in_searching_order(points, given, n, bounds)
        centers = Centers(points, given, n, given.origin())
    else:
        first, gap, origin = _farthest_from_mean(points)
        centers, searched = Centers(points, given, n, origin), 1
        centers.add(first)
    upper = _bounds(centers, searched, bounds, chunk)
    if not len(given):
        upper[first] = -1
    search = FarthestFirst(centers, upper, searched, window)
    squared = search.pick(n - (not len(given)))
    return search, squared if len(given) else torch.cat([gap, squared])


def _on_shards(
    points: PoolPoints,
    given: Points,
    n: int,
    bounds: Bounds | None,
    window: int | None,
    chunk: int | None,
    shard: Shard,
) -> Cover:
    """The `Cover` of points that are distributed over several ranks."""
    shard.check_length(len(points))
    first, sent = None, None
    with true_float32():
        if not len(given):
            first = likely_first(points, shard)
        while True:
            ordered, searched = _in_searching_order(points, given if first is None else first.point, n, bounds)
            centers = SharedCenters(points, ordered, n, ordered.origin())
            upper = _bounds(centers, searched, bounds, chunk)
            search = FarthestFirst(centers, upper, searched)
            if first is None:
                break
            search.remove(shard.places(first.row)[1])
            likely = first.row
            first, sent = first_window(first, search, window, shard)
            if torch.equal(first.row, likely):
                break
        positions, squared, radius = pick_on_shards(search, centers, n - (first is not None), window, shard, sent)
    if first is not None:
        positions, squared = torch.cat([first.row, positions]), torch.cat([first.squared, squared])
    return Cover(positions, squared.sqrt().to(points.dtype), radius, upper.clamp_min(0))


def _in_searching_order(points: PoolPoints, given: Points, n: int, bounds: Bounds | None) -> tuple[Points, int]:
    """Centers without duplicates in search order, and the number of leading ones to measure all points against.

    Given bounds, the new centers come first, and all points are measured against these.
    """
    kept = first_of_each(given)
    if bounds is not None:
        new = bounds.new.to(given.device)[kept]
        return given[torch.cat([kept[new], kept[~new]])], int(new.sum())
    order, searched = searching_order(points, given[kept], n)
    return given[kept[order]], searched


def _bounds(centers: Centers, searched: int, bounds: Bounds | None, chunk: int | None) -> Float[Tensor, " N"]:
    """Upper bounds of the squared distances of all points to the nearest center, (N,) float64.

    Raises:
        ValueError: a point is not finite; detected by its distance.
    """
    points = centers.points
    upper = torch.full((len(points),), torch.inf, dtype=torch.float64, device=points.device)
    if searched:
        if chunk is None:
            parts = blocks(len(points), max(1, points.width // 2), points.device)  # 2 MiB on a CPU
        else:
            parts = (slice(start, min(start + chunk, len(points))) for start in range(0, len(points), chunk))
        for part in parts:
            upper[part] = centers.bounds(points[part], slice(0, searched))
    if not bool(upper.isfinite().all()):  # infinite also if nothing was measured, so the points themselves decide
        check_finite(points)
    upper.clamp_min_(0)
    if bounds is None:
        return upper
    known = bounds.squared.to(upper.device)
    # Raised by one rounding: bounds may have been stored in float32, and a bound must not be below the true value.
    return torch.minimum(upper, known.double() * (1 + torch.finfo(known.dtype).eps))


def _farthest_from_mean(points: PoolPoints) -> tuple[Int64[Tensor, " 1"], Tensor, Tensor | None]:
    """The point farthest from the mean, its squared distance, and an origin that limits cancellation, if needed."""
    mean = points.mean()
    row, gap, average = farthest_from(points, mean)
    moved = mean.dim() == 1 and bool(mean.square().sum() > average)
    return row, gap, mean if moved else None
