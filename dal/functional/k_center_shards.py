"""Greedy k-center selection of points that are distributed over several ranks, with few messages.

Each rank keeps bounds of its own points (`FarthestFirst`) and knows all centers. In an exchange it sends its farthest
points, with exact distances, and a bound of all others; all ranks then pick among the points sent. All distances that
decide are float64, by differences of the same two points on every rank, so ties are exact and the picks are those of
one process.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Float64, Int64
from torch import Tensor

from dal.functional.centers import Centers
from dal.functional.exchange import Shard, Window, exchange, packed, unpacked
from dal.functional.farthest import FarthestFirst, farthest_from, slack
from dal.functional.points import Points
from dal.functional.row_source import PoolPoints

#: Sizes of the first and of the largest window, in rows per rank.
WINDOW, LARGEST = 512, 2048

#: Size of a window, in rows of all ranks, if there are no labeled rows: each of the first picks lowers most distances.
COLD = 8192

#: Number of rows per rank among which the row farthest from the mean of all ranks is expected.
FIRST = 8


@dataclass(frozen=True, eq=False)
class FirstPoint:
    """The point farthest from the mean of all rows, the first pick of a selection without centers.

    Attributes:
        row: (1,) its position among all rows.
        squared: (1,) its squared distance from the mean, float64.
        point: the point.
        mean: the mean of all rows.
    """

    row: Int64[Tensor, " 1"]
    squared: Float[Tensor, " 1"]
    point: Points
    mean: Float64[Tensor, "..."]

    @classmethod
    def of(cls, rows: Tensor, squared: Tensor, points: Points, mean: Tensor) -> "FirstPoint":
        """The farthest of some points (ascending); the comparison allows for the rounding errors of the mean."""
        farthest = squared.amax()
        place = (squared >= farthest - slack(farthest, mean.square().sum())).nonzero()[0]
        return cls(rows[place], squared[place], points[place], mean)


class SharedCenters(Centers):
    """Centers whose picks may lie on any rank, so that each rank holds copies of them.

    Args:
        points: points of the rows of this rank.
        given: initial centers without duplicates; the same points on all ranks.
        room: maximum number of picks.
        origin: as for `Centers`.
    """

    def __init__(self, points: PoolPoints, given: Points, room: int, origin: Tensor | None) -> None:
        super().__init__(points, given, room, origin)
        self._copies = points.empty(room)

    def append(self, picks: Points) -> None:
        """Append points to the centers."""
        made = len(self) - len(self.given)
        self._copies.put(slice(made, made + len(picks)), picks)  # type: ignore[arg-type]
        self._put(picks)

    def _picked(self, numbers: Tensor) -> Points:
        return self._copies[numbers]


def likely_first(points: PoolPoints, shard: Shard) -> FirstPoint:
    """The farthest from the mean of all rows among the points of each rank that are farthest from its own mean.

    One collective. The mean depends on the distribution of the rows by its rounding errors in float64.
    """
    total, width = points.sum(), 1 + points.width
    local = torch.arange(0, device=points.device)
    if len(points):
        local = points.squared_distances_from(total / len(points)).topk(min(FIRST, len(points))).indices
    rows = torch.full((FIRST, width), -1.0, dtype=torch.float64, device=points.device)
    rows[: len(local)] = torch.cat([shard.rows[local, None].double(), packed(points[local])], 1)
    received = torch.stack(shard.comm.all_gather(torch.cat([total.flatten(), rows.flatten()])))
    mean = received[:, : total.numel()].sum(0).view_as(total) / shard.total
    rows = received[:, total.numel() :].reshape(-1, width)
    rows = rows[rows[:, 0] >= 0]
    rows = rows[rows[:, 0].argsort()]
    candidates = unpacked(rows[:, 1:], points)
    squared = candidates.to(torch.float64).squared_distances_from(mean)
    return FirstPoint.of(rows[:, 0].long(), squared, candidates, mean)


def first_window(
    likely: FirstPoint, search: FarthestFirst, window: int | None, shard: Shard
) -> tuple[FirstPoint, Window]:
    """The point that is farthest from the mean, and a window after the likely one as a center, in one collective.

    Args:
        likely: the only center so far; the window is useless if another point is farther.
        search: state of the rows of this rank.
        window: number of rows in a window per rank; adapted to the number of ranks by default.
        shard: the rows of this rank.

    Raises:
        ValueError: a point is not finite.
    """
    points, size = search.points, max(2, _cold_size(window, shard))
    rows, next_ = search.leaders(size)
    gaps = search.upper.new_full((len(rows), 1), -1)
    if len(points):
        own = farthest_from(points, likely.mean)[0]
        if bool(search.upper[own] >= 0) and not bool((rows == own).any()):  # to be sent, too
            rows, next_ = torch.cat([rows[: size - 1], own]), rows[size - 1 :]
            search.make_exact(own)
        gaps[rows == own] = points[own].to(torch.float64).squared_distances_from(likely.mean)
    sent = _exchange(search, size, rows, next_, shard, gaps)
    farthest = sent.state[:, 0] >= 0
    candidates = torch.cat([sent.rows[farthest], likely.row])
    order = candidates.argsort()
    every = likely.point.empty(len(candidates))
    every.put(slice(0, len(candidates) - 1), unpacked(sent.vectors[farthest], points))  # type: ignore[arg-type]
    every.put(slice(len(candidates) - 1, None), likely.point)  # type: ignore[arg-type]
    squared = torch.cat([sent.state[farthest, 0], likely.squared])
    return FirstPoint.of(candidates[order], squared[order], every[order], likely.mean), sent


def pick_on_shards(
    search: FarthestFirst,
    centers: SharedCenters,
    n: int,
    window: int | None,
    shard: Shard,
    sent: Window | None = None,
) -> tuple[Int64[Tensor, " n"], Float[Tensor, " n"], float]:
    """Positions among all rows and squared distances at selection of n picks, (n,) each, and the radius.

    Args:
        search: state of the rows of this rank.
        centers: centers of the search.
        n: number of picks.
        window: number of rows in a window per rank; adapted to the data by default.
        shard: the rows of this rank.
        sent: the first window; `None` to exchange one. Without labeled rows, all windows are large.
    """
    positions, squared, radius = [centers.picks[:0]], [search.upper[:0]], None
    size, largest = (WINDOW, LARGEST) if window is None else (window, window)
    if sent is not None:
        size = largest = _cold_size(window, shard)
    while n:
        if sent is None:
            sent = _exchange(search, min(size, shard.total), *search.leaders(min(size, shard.total)), shard)
        places, values, radius = _pick(search, centers, sent, n, shard)
        positions.append(sent.rows[places])
        squared.append(values)
        n -= len(places)
        if len(places) > size // 4:  # larger windows save messages
            size = min(2 * size, largest)
        sent = None
    if radius is None:
        left = torch.cat(shard.comm.all_gather(search.upper.new_tensor([search.farthest_left()])))
        radius = float(left.amax())
    return torch.cat(positions), torch.cat(squared), radius**0.5


def _cold_size(window: int | None, shard: Shard) -> int:
    return min(shard.total, -(-COLD // shard.comm.size) if window is None else window)


def _exchange(
    search: FarthestFirst, size: int, rows: Tensor, next_: Tensor, shard: Shard, state: Tensor | None = None
) -> Window:
    """Send at most `size` rows of this rank, the farthest but for `next_`, and receive those of all ranks."""
    bound = search.upper[next_], next_
    vectors = packed(search.points[rows])
    return exchange(shard, size, rows, search.upper[rows], next_=bound, state=state, vectors=vectors)


def _pick(
    search: FarthestFirst, centers: SharedCenters, sent: Window, wanted: int, shard: Shard
) -> tuple[Int64[Tensor, " P"], Float[Tensor, " P"], float | None]:
    """Pick up to `wanted` rows of a window, until a row that was not sent may be next.

    Returns:
        Their places in the window and squared distances; and the largest squared distance of a row that is left after
        `wanted` picks, `None` if a row that was not sent may have it.
    """
    points = unpacked(sent.vectors, search.points).to(torch.float64)
    current = sent.values.clone()  # (M,)
    places: list[Tensor] = []
    squared: list[Tensor] = []
    radius = None
    while True:
        place = current.argmax()  # the first maximum, which is the lowest row
        value, row = current[place].clone(), sent.rows[place]
        if not sent.precedes(float(value), int(row)):
            break
        if len(places) == wanted:
            radius = max(0.0, float(value))
            break
        places.append(place)
        squared.append(value)
        if value > 0:  # otherwise all points left are duplicates of centers
            torch.minimum(current, points.squared_differences(points[place[None]]), out=current)  # type: ignore[arg-type]
        current[place] = -1
    picked = torch.stack(places) if places else sent.rows[:0]
    centers.append(unpacked(sent.vectors[picked], search.points))
    held, local = shard.places(sent.rows)
    search.set_exact(local, current[held].clamp_min(0))
    search.remove(local[current[held] < 0])
    return picked, torch.stack(squared) if places else sent.values[:0], radius
