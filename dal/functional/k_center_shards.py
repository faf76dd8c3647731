"""Greedy k-center selection of points that are distributed over several ranks, with few messages.

Each rank keeps bounds of its own points (`FarthestFirst`) and knows all centers. In an exchange it sends its farthest
points, with exact distances, and a bound of all others; all ranks then pick among the points sent. All distances that
decide are float64, by differences of the same two points on every rank, so ties are exact and the picks are those of
one process.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from dal.functional.centers import Centers
from dal.functional.exchange import Shard, Window, exchange, packed, unpacked
from dal.functional.farthest import FarthestFirst, farthest_from, slack
from dal.functional.points import Points
from dal.functional.row_source import PoolPoints

#: Sizes of the first and of the largest window, in rows per rank.
WINDOW, LARGEST = 512, 2048


@dataclass(frozen=True, eq=False)
class FirstPoint:
    """The first pick of a selection without centers.

    Attributes:
        row: (1,) its position among all rows.
        squared: (1,) its squared distance from the mean of all rows, float64.
        point: the point.
    """

    row: Int64[Tensor, " 1"]
    squared: Float[Tensor, " 1"]
    point: Points


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


def farthest_from_mean(points: PoolPoints, shard: Shard) -> FirstPoint:
    """The point farthest from the mean of all rows, in two collectives; ties go to the lowest position.

    The mean depends on the distribution of the rows by its rounding errors in float64, which the comparison allows for.

    Raises:
        ValueError: a point is not finite.
    """
    mean = torch.stack(shard.comm.all_gather(points.sum())).sum(0) / shard.total
    length = mean.square().sum()
    local = torch.arange(0, device=points.device)
    squared = length[None][:0]
    if len(points):
        local = farthest_from(points, mean)[0]
        squared = points[local].to(torch.float64).squared_distances_from(mean)
    window = exchange(shard, 1, local, squared, vectors=packed(points[local]))
    farthest = window.values.amax()
    first = (window.values >= farthest - slack(farthest, length)).nonzero()[0]
    return FirstPoint(window.rows[first], window.values[first], unpacked(window.vectors[first], points))


def pick_on_shards(
    search: FarthestFirst,
    centers: SharedCenters,
    n: int,
    first: FirstPoint | None,
    window: int | None,
    shard: Shard,
) -> tuple[Int64[Tensor, " n"], Float[Tensor, " n"], float]:
    """Positions among all rows and squared distances at selection of n picks, (n,) each, and the radius.

    Args:
        search: state of the rows of this rank.
        centers: centers of the search.
        n: number of picks, with the first.
        first: the first pick, which is the only center so far; `None` if there are given centers.
        window: number of rows in a window per rank; adapted to the data by default.
        shard: the rows of this rank.
    """
    positions, squared = [centers.picks[:0]], [search.upper[:0]]
    if first is not None:
        positions, squared = [first.row], [first.squared]
        search.remove(shard.places(first.row)[1])
        n -= 1
    size, largest = (WINDOW, LARGEST) if window is None else (window, window)
    while n:
        sent = _exchange(search, min(size, shard.total), shard)
        places, values = _pick(search, centers, sent, n, shard)
        positions.append(sent.rows[places])
        squared.append(values)
        n -= len(places)
        if len(places) > size // 4:  # larger windows save messages
            size = min(2 * size, largest)
    left = torch.cat(shard.comm.all_gather(search.upper.new_tensor([search.farthest_left()])))
    return torch.cat(positions), torch.cat(squared), float(left.amax()) ** 0.5


def _exchange(search: FarthestFirst, size: int, shard: Shard) -> Window:
    """Send the `size` farthest points of this rank, and receive those of all ranks."""
    rows, next_ = search.leaders(size)
    bound = search.upper[next_], next_
    return exchange(shard, size, rows, search.upper[rows], next_=bound, vectors=packed(search.points[rows]))


def _pick(
    search: FarthestFirst, centers: SharedCenters, sent: Window, wanted: int, shard: Shard
) -> tuple[Int64[Tensor, " P"], Float[Tensor, " P"]]:
    """Places in the window and squared distances of up to `wanted` picks, until a row that was not sent may be next."""
    points = unpacked(sent.vectors, search.points).to(torch.float64)
    current = sent.values.clone()  # (M,)
    places: list[Tensor] = []
    squared: list[Tensor] = []
    while len(places) < min(wanted, len(current)):
        place = current.argmax()  # the first maximum, which is the lowest row
        value, row = current[place].clone(), sent.rows[place]
        if not sent.precedes(float(value), int(row)):
            break
        places.append(place)
        squared.append(value)
        if value > 0:  # otherwise all points left are duplicates of centers
            torch.minimum(current, points.squared_differences(points[place[None]]), out=current)  # type: ignore[arg-type]
        current[place] = -1
    picked = torch.stack(places)
    centers.append(unpacked(sent.vectors[picked], search.points))
    held, local = shard.places(sent.rows)
    search.set_exact(local, current[held].clamp_min(0))
    search.remove(local[current[held] < 0])
    return picked, torch.stack(squared)
