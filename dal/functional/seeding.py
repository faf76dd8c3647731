"""k-means++ seeding: points drawn with probability proportional to their squared distance to those drawn before.

Worked example: points on a line at 0, 4, 6 and 10 whose exponential clocks were drawn as 2, 0.36, 0.8 and 1.

>>> from dal.functional.points import DensePoints
>>> points = DensePoints(torch.tensor([[0.0], [4.0], [6.0], [10.0]]))
>>> race = _Race(points, torch.tensor([2.0, 0.36, 0.8, 1.0], dtype=torch.float64), None)
>>> race.start(points.squared_norms().double(), "largest")
>>> race.run_window(2, 1), race.bound
(1, tensor([0.0200,    inf, 0.1700,    inf], dtype=torch.float64))
>>> race.run_window(2, 1), race.run_window(2, 1), torch.cat(race.picks)
(1, 1, tensor([3, 1, 0, 2]))

1. `start` picks position 3, of largest norm. The true speeds are the squared distances to it: 100, 36 and 16. Without
   measuring any, `(|x| + |first|)^2` bounds them by 100, 196 and 256, so no clock runs out before clock / speed =
   0.0200, 0.0018 and 0.0031.
2. The first window follows the two earliest, positions 1 and 2, up to the limit 0.0200 of position 0. At their true
   speeds they run out at 0.36 / 36 = 0.01 and 0.8 / 16 = 0.05. The first is before the limit: position 1 is picked.
   Position 2 then has 0.8 - 0.01 * 16 = 0.64 left at the speed (6 - 4)^2 = 4, so its bound is 0.01 + 0.64 / 4 = 0.17.
3. Position 0 was not looked at: its bound is still 0.0200, and `behind` lists the picks it has not been told of. The
   second window replays them: 2 - 0.01 * 100 = 1 is left at the speed min(100, 16) = 16, which takes 0.0625. Position
   2 needs 0.16, so position 0 is picked, at the time 0.0725. Position 2 is last.

Invariants to keep: `bound` is never later than the true time, since speeds only fall; a pick is made only if it comes
before every bound outside the window. The result is then that of following all clocks exactly.
"""

from contextlib import nullcontext
from typing import Literal

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from dal.functional.blocks import blocks
from dal.functional.checked_tensors import not_negative
from dal.functional.checking import chosen
from dal.functional.exchange import Shard
from dal.functional.points import NEAR, Points, as_points, check_finite, finite_norms, recompute
from dal.functional.row_source import PoolPoints, RowSource, as_pool_points
from dal.functional.seeding_shards import seed_on_shards
from dal.functional.threads import one_thread

#: Number of points whose clocks are followed exactly before the bounds of all others are consulted again.
WINDOW = 512

#: Cost of a pair of points in an update of the whole pool relative to one in a window, which needs no running minimum.
PAIR = 2

#: Number of picks made before the host asks how many are valid, since a synchronisation stalls an accelerator.
BLOCK = 32

#: Number of points of a window, those whose clocks run out first, whose distances to the window are computed at once.
#: About half of them are picked soon. An accelerator computes all at once, which costs less than a synchronisation.
AHEAD, ACCELERATOR_AHEAD = 64, WINDOW

#: Smallest positive amount of work left on a clock.
TINY = 1e-300

#: Tolerance of the triangle inequality for squared distances computed in float32.
MARGIN = 1 + 1e-4


@torch.no_grad()
def kmeans_plusplus(
    points: PoolPoints | RowSource | Float[Tensor, "N D"],
    n: int,
    *,
    generator: torch.Generator,
    first: Literal["largest", "uniform"] = "largest",
    weights: Float[Tensor, " N"] | None = None,
    shard: Shard | None = None,
) -> Int64[Tensor, " n"]:
    """Positions of n points (n,), each drawn with probability proportional to its squared distance to those before it.

    The first point is the one of largest norm (as in BADGE) or drawn uniformly (as in k-means). With weights, the
    squared distance (or squared norm, or 1 for the uniform draw) of a point is multiplied by its weight. Once all
    remaining points are duplicates of drawn ones, the rest are drawn uniformly (by weight), those of weight 0 last.

    Sampling uses exponential clocks. Each point has a clock with an exponentially distributed amount of work of mean 1,
    which runs at the speed of its squared distance. The first clock to run out is drawn, all speeds change, and the
    other clocks continue. Since the exponential distribution is memoryless, every draw has exactly the stated
    distribution, although each point draws a single random number at the start. This makes the selection stable: small
    changes of the distances (reduced precision, another device) change a draw only if two clocks were about to run out
    at almost the same time.

    The pool is not read for every draw. Speeds only decrease, so an outdated speed gives the earliest time at which a
    clock can run out. Only the `WINDOW` earliest clocks are followed, until another one may precede them. Initial
    speeds are `(|x| + |first|)^2`, which needs only the norms: selecting a few hundred points often reads the pool
    once. Extra memory: about 48 bytes per point and 16 MiB + 16 bytes * WINDOW * width, where the width is D, or C + D
    for factors.

    With a shard, the points and weights are those of the rows of this rank, and the result has the positions among all
    rows, on every rank. All ranks draw the same N numbers. The picks are then those of one process, unless two clocks
    run out within the rounding errors of float32.

    Arthur and Vassilvitskii 2007, "k-means++: The Advantages of Careful Seeding"; for active learning Ash et al. 2020,
    "Deep Batch Active Learning by Diverse, Uncertain Gradient Lower Bounds".

    Args:
        points: N points. Sources are read block by block, with the same result.
        n: number of points to draw, 1 <= n <= N.
        generator: generator on the CPU; N numbers are drawn from it for any n.
        first: rule for the first point: "largest" norm or "uniform".
        weights: (N,) non-negative weights; ones by default.
        shard: the rows of this rank if the points are distributed over several.

    Raises:
        ValueError: n is not within 1..N, a point or weight is not finite, or `first` is neither of the two.

    >>> kmeans_plusplus(torch.tensor([[0.0], [3.0], [3.0]]), 2, generator=torch.Generator().manual_seed(0))
    tensor([1, 0])
    """
    if first not in ("largest", "uniform"):
        raise ValueError(f"first must be 'largest' or 'uniform', not {first!r}")
    points = as_pool_points(points)
    total = len(points) if shard is None else shard.total
    n = chosen(n, total)
    norms = finite_norms(points).double()
    clock = torch.empty(total, dtype=torch.float64).exponential_(generator=generator).to(points.device)
    weights = checked_weights(weights, len(points), points.device)
    if shard is not None:
        shard.check_length(len(points))
        with one_thread():
            return seed_on_shards(points, n, clock[shard.rows], norms, weights, first, shard)
    race = _Race(points, clock, weights)
    with one_thread():
        race.start(norms, first)
    share = 1 / 3  # expected share of the points of a window that are picked
    while left := n - race.count:
        size = int(min(WINDOW, max(64, 1.2 * left / share)))
        with one_thread():
            made = race.run_window(size, left, whole=share > 0.5)
        if not made and not race.behind:
            race.finish(n)
        elif race.update_pays(size, made, left - made):
            race.update()
            share = 1.0
        else:
            share = made / size
    return torch.cat(race.picks)


def checked_weights(weights: Tensor | None, count: int, device: torch.device) -> Tensor | None:
    """Check that there are `count` finite, non-negative weights, and return them as float64 on the device."""
    if weights is None:
        return None
    weights = not_negative(weights, "weights")
    if len(weights) != count:
        raise ValueError(f"{count} points need as many weights, not {len(weights)}")
    return weights.to(device, torch.float64)


class _Race:
    """Clocks of N points: their state at the last update of all points, and the picks made since.

    Times are relative to that update. `work` (N,) is the work left on each clock at the update, and `speed` (N,) an
    upper bound of its speed since: the squared distance (times weight) to the picks known at the update. No clock runs
    out before its `bound` (N,), which is infinite for picked points and for clocks of speed 0. `behind` lists the P
    picks made since the update, window by window, and `spans` (P + 1,) the times before the first and after each pick.
    """

    def __init__(self, points: PoolPoints, clock: Tensor, weights: Tensor | None) -> None:
        self.points, self.weights = points, weights
        self.work, self.speed, self.bound = clock, clock, clock
        self.picks: list[Tensor] = []
        self.behind: list[Tensor] = []
        self.spans = clock.new_zeros(1)

    @property
    def count(self) -> int:
        """Number of picks."""
        return sum(map(len, self.picks))

    def start(self, norms: Tensor, first: str) -> None:
        """Pick the first point, and bound all speeds by the norms (N,), using the triangle inequality."""
        if first == "largest":
            pick = _weighted(norms, self.weights).argmax().view(1)
        else:
            speed = torch.ones_like(self.work) if self.weights is None or not self.weights.any() else self.weights
            step, pick = _time_left(self.work, speed).min(0, keepdim=True)
            self.work = torch.addcmul(self.work, step, speed, value=-1).clamp_min_(0)
        self.picks.append(pick)
        self.behind.append(pick)
        self.spans = self.spans.new_zeros(2)
        lengths = norms.sqrt()
        self.speed = _weighted(lengths.add_(lengths[pick].clone()).square_().mul_(MARGIN), self.weights)
        self.speed[pick] = 0
        self.bound = _time_left(self.work, self.speed)

    def run_window(self, size: int, wanted: int, *, whole: bool = False) -> int:
        """Follow the `size` earliest clocks until one outside may precede them or `wanted` are picked.

        Returns the number of picks. `whole` computes all distances within the window at once.
        """
        latest, rows = self.bound.topk(min(size + 1, len(self.bound)), largest=False)
        if len(rows) > size:
            limit, rows = latest[-1] - self.spans.sum(), rows[:-1]
        else:
            limit = latest.new_tensor(torch.inf)
        points = self.points[rows]
        work, speed = self._now(points, rows)
        speed = speed.where(latest[: len(rows)].isfinite(), 0)
        table = _Table(points, None if self.weights is None else self.weights[rows], whole=whole)
        picks, spans = _first_to_run_out(work, speed, table, limit, wanted)
        if len(picks):
            self.picks.append(rows[picks])
            self.behind.append(rows[picks])
            self.spans[-1] += spans[0]
            self.spans = torch.cat([self.spans, spans[1:], spans.new_zeros(1)])
            work, speed = _after_picks(work, speed, table.lines[picks], spans)
        self.bound[rows] = self.spans.sum() + _time_left(work, speed)
        return len(picks)

    def update_pays(self, size: int, made: int, left: int) -> bool:
        """Whether `update` costs less than `left` more picks in windows like the last one, which made `made` picks.

        Costs are counted in pairs of points. A window without picks always leads to an update; it would otherwise be
        repeated forever.
        """
        pairs = (size + len(self.spans)) * size
        return left > 0 and left * pairs > PAIR * len(self.points) * len(self.spans) * made

    def update(self) -> None:
        """Bring all points up to date with all picks, in blocks of matrix products."""
        self.work, self.speed = self.work.clone(), self.speed.clone()
        width = max(self.points.width, 4 * min(WINDOW, sum(map(len, self.behind))))
        for rows in blocks(len(self.points), width, self.points.device):
            self.work[rows], self.speed[rows] = self._now(self.points[rows], rows)
        self.speed[torch.cat(self.picks)] = 0
        self.behind, self.spans = [], self.spans.new_zeros(1)
        self.bound = _time_left(self.work, self.speed)

    def finish(self, n: int) -> None:
        """Complete the selection to n when all points left are at distance 0 from the picks."""
        chosen = torch.zeros_like(self.work, dtype=torch.bool)
        chosen[torch.cat(self.picks)] = True
        order = self.work.argsort(stable=True)
        if self.weights is not None:
            order = order[_time_left(self.work, self.weights)[order].argsort(stable=True)]
        self.picks.append(order[~chosen[order]][: n - self.count])

    def _now(self, points: Points, rows: Tensor | slice) -> tuple[Tensor, Tensor]:
        """Work left at present on the clocks of the R points at `rows`, and their speeds, (R,) each.

        Between two picks, the speed of a clock is the smallest of its squared distances to the earlier picks.
        """
        speed = self.speed[rows]
        work = self.work[rows] - self.spans[0] * speed
        known = 1
        for picks in torch.cat(self.behind).split(WINDOW) if self.behind else ():
            squared = points.squared_distances(self.points[picks]).double()  # type: ignore[arg-type]
            if self.weights is not None:
                squared.mul_(self.weights[rows, None])
            speeds = torch.cat([speed[:, None], squared], 1).cummin(1).values[:, 1:]  # (R, P)
            work = work - speeds @ self.spans[known : known + len(picks)]
            speed = speeds[:, -1]
            known += len(picks)
        return work.clamp_min_(0), speed


class _Table:
    """Squared distances (times weights) between the W points of a window, computed row by row on demand.

    Row i of `lines` (W, W) float64 holds the speeds that remain to all points once point i is picked. It is valid
    where `known` (W,) is true.
    """

    def __init__(self, points: Points, weights: Tensor | None, *, whole: bool) -> None:
        W = len(points)
        self.points, self.weights = points, weights
        self.lines = torch.empty(W, W, dtype=torch.float64, device=points.device)
        self.known = torch.zeros(W, dtype=torch.bool, device=points.device)
        self._ahead = AHEAD if points.device.type == "cpu" else ACCELERATOR_AHEAD
        self._whole = whole or 2 * self._ahead >= W
        if self._whole:
            self._measure(torch.arange(W, device=points.device))

    def foresee(self, times: Tensor) -> None:
        """Compute the rows of the points whose clocks run out first, given the times (W,) at which they do."""
        if self._whole:
            return
        first = torch.cat([times.min(0, keepdim=True).indices, times.topk(self._ahead, largest=False).indices[1:]])
        if len(new := first[~self.known[first]]):
            self._measure(new)

    def _measure(self, at: Tensor) -> None:
        some = self.points[at]
        squared, sums = some.expanded_distances(self.points)  # type: ignore[arg-type]
        diagonal = torch.arange(len(at), device=at.device), at
        near = squared < sums.mul_(NEAR)
        near[diagonal] = False
        squared = recompute(some, self.points, squared, near).clamp_min_(0)
        squared[diagonal] = 0
        self.lines[at] = squared.double() if self.weights is None else squared.double().mul_(self.weights)
        self.known[at] = True


def _first_to_run_out(work: Tensor, speed: Tensor, table: _Table, limit: Tensor, wanted: int) -> tuple[Tensor, Tensor]:
    """Clocks that run out one after another before the limit, and the time between them, (F,) each.

    A block of picks is made on the device before the host asks how many are valid. Everything from the first pick on
    that comes too late, or whose row of the table had not been computed, is discarded.

    Args:
        work: (W,) work left on the clocks.
        speed: (W,) speeds of the clocks.
        table: distances within the window.
        limit: earliest time at which a clock outside the window may run out.
        wanted: maximum number of picks.
    """
    found, spans = [work.new_empty(0, dtype=torch.int64)], [work.new_empty(0)]
    passed = torch.zeros_like(limit)
    work = work.clamp_min(TINY)  # so that work / speed is infinite, not NaN, where the speed is 0
    while wanted > 0:
        before, picks, steps = (work, speed), [], []
        table.foresee(work / speed)
        for _ in range(min(BLOCK, wanted)):
            step, pick = (work / speed).min(0, keepdim=True)
            work = torch.addcmul(work, step, speed, value=-1).clamp_min_(TINY)
            speed = torch.minimum(speed, table.lines.index_select(0, pick).squeeze(0))
            picks.append(pick)
            steps.append(step)
        rows, block = torch.cat(picks), torch.cat(steps)
        times = passed + block.cumsum(0)
        holds = ((times <= limit) & times.isfinite()).long().cumprod(0)
        in_time, valid = torch.stack([holds.sum(), (holds * table.known[rows]).cumprod(0).sum()]).tolist()
        rows, block = rows[:valid], block[:valid]
        found.append(rows)
        spans.append(block)
        if valid == in_time < len(picks):  # the next clock runs out after the limit
            break
        if valid < in_time:  # a row of the table was missing: repeat from there with that row
            work, speed = _after_picks(*before, table.lines[rows], block)
            work.clamp_min_(TINY)
        passed, wanted = passed + block.sum(), wanted - valid
    return torch.cat(found), torch.cat(spans)


def _after_picks(work: Tensor, speed: Tensor, lines: Tensor, spans: Tensor) -> tuple[Tensor, Tensor]:
    """Work and speed (W,) after F picks, given their table rows (F, W) and the time before each, `spans` (F,)."""
    speeds = torch.cat([speed[None], lines]).cummin(0).values  # (F + 1, W)
    return (work - spans @ speeds[:-1]).clamp_min_(0), speeds[-1]


def _time_left(work: Tensor, speed: Tensor) -> Tensor:
    """Time until clocks run out; infinite for clocks of speed 0."""
    return torch.where(speed > 0, work / speed, torch.inf)


def _weighted(values: Tensor, weights: Tensor | None) -> Tensor:
    return values if weights is None else values * weights


@torch.no_grad()
def distances_at_selection(points: Points | Float[Tensor, "n D"]) -> Float[Tensor, " n"]:
    """Distance of each point to the nearest earlier point, (n,); for the first point, the distance to the origin.

    Extra memory: about 8 * `blocks.ELEMENTS` numbers, 8 MiB on a CPU.

    >>> distances_at_selection(torch.tensor([[3.0], [1.0], [0.5]]))
    tensor([3.0000, 2.0000, 0.5000])
    """
    points = as_points(points)
    check_finite(points)
    with one_thread() if len(points) <= WINDOW else nullcontext():
        squared = points.squared_norms()
        order = torch.arange(len(points), device=points.device)
        for rows in blocks(len(points), max(len(points), points.width), points.device):
            distance = points[rows].squared_distances(points[: rows.stop])  # type: ignore[arg-type]
            later = order[: rows.stop] >= order[rows, None]
            closest = distance.masked_fill_(later, torch.inf).amin(1)
            squared[rows] = torch.where(order[rows] > 0, closest, squared[rows])
        return squared.sqrt()
