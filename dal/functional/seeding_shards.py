"""k-means++ seeding of points that are distributed over several ranks, with few messages.

Each rank follows the exponential clocks of its own points, as `seeding.py` does, and all ranks draw the same clocks. In
an exchange each rank sends the points whose clocks run out first, with exact times, and the earliest time at which
another one can; all ranks then run these clocks until one that was not sent may precede them. Times are computed in
float64, so that the picks do not depend on the number of ranks unless two clocks run out within its rounding errors.
"""

from typing import Literal

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from dal.functional.blocks import blocks
from dal.functional.exchange import Shard, Window, exchange, packed, unpacked
from dal.functional.points import Points
from dal.functional.row_source import PoolPoints

#: Largest number of rows that a rank sends in one exchange.
WINDOW = 512

#: Tolerance of the triangle inequality for norms computed in float32.
MARGIN = 1 + 1e-4

#: A rank updates all its clocks once it would follow more than one in SHARE of them exactly.
SHARE = 8


def seed_on_shards(
    points: PoolPoints,
    n: int,
    clock: Float[Tensor, " R"],
    norms: Float[Tensor, " R"],
    weights: Float[Tensor, " R"] | None,
    first: Literal["largest", "uniform"],
    shard: Shard,
) -> Int64[Tensor, " n"]:
    """The picks of `kmeans_plusplus` as positions among all rows, on every rank, (n,).

    Args:
        points: points of the rows of this rank.
        n: number of points to draw.
        clock: (R,) float64 work on the clocks of these rows.
        norms: (R,) squared norms, float64.
        weights: (R,) float64 weights; `None` for ones.
        first: rule for the first point.
        shard: the rows of this rank.
    """
    race = _Race(points, clock, norms, torch.ones_like(clock) if weights is None else weights, shard)
    picks = [race.start(first)]
    left = n - 1
    while left:
        made = race.run_window(min(WINDOW, 2 * left + 16), left)
        picks.append(made if len(made) else race.finish(left))
        left -= len(picks[-1])
    return torch.cat(picks)


class _Race:
    """Clocks of the R points of this rank: their state at the last update of all, and the picks of all ranks since.

    Times are relative to that update. `work` (R,) is the work left on each clock at the update, and `speed` (R,) an
    upper bound of its speed since. No clock runs out before its `bound` (R,), infinite for picked points and for clocks
    of speed 0; where `exact` (R,) is true, the clock runs out at that time unless another point is picked before.
    `behind` are the P points picked since the update, and `spans` (P + 1,) the times before the first and after each.
    """

    def __init__(self, points: PoolPoints, clock: Tensor, norms: Tensor, weights: Tensor, shard: Shard) -> None:
        self.points, self.norms, self.weights, self.shard = points, norms, weights, shard
        self.work, self.speed, self.bound = clock, clock, clock
        self.exact = torch.zeros(len(points), dtype=torch.bool, device=points.device)
        self.picked = torch.zeros_like(self.exact)
        self.behind: list[Points] = []
        self.spans = clock.new_zeros(1)

    def start(self, first: str) -> Int64[Tensor, " 1"]:
        """Pick the first point, and bound all speeds by the norms, using the triangle inequality."""
        # Whether any weight is positive is known after the exchange, so both candidates for a uniform draw are sent.
        some = self.weights > 0
        by_weight = -_time_left(self.work, self.weights)
        values = self.norms * self.weights if first == "largest" else by_weight.where(some, -torch.inf)
        best = torch.stack([values.argmax(), (-self.work).argmax()]).unique() if len(self.points) else _none(values)
        state = torch.stack([self.work, self.norms, self.weights], 1)[best]
        sent = exchange(self.shard, 2, best, values[best], state=state, vectors=packed(self.points[best]))
        work, norms, weights = sent.state.T
        if first == "largest":
            at = sent.values.argmax()  # the first maximum, which is the lowest row
        else:
            all_zero = bool(sent.values.amax() == -torch.inf)
            at = work.argmin() if all_zero else sent.values.argmax()
            speed = torch.ones_like(self.work) if all_zero else self.weights
            step = work[at] if all_zero else work[at] / weights[at]
            self.work = torch.addcmul(self.work, step, speed, value=-1).clamp_min_(0)
        self._add(unpacked(sent.vectors[at[None]], self.points), sent.rows[at[None]], self.spans.new_zeros(1))
        self.speed = (self.norms.sqrt() + norms[at].sqrt()).square_().mul_(MARGIN).mul_(self.weights)
        self.bound = _time_left(self.work, self.speed).masked_fill_(self.picked, torch.inf)
        return sent.rows[at[None]]

    def run_window(self, size: int, wanted: int) -> Int64[Tensor, " P"]:
        """Pick up to `wanted` points in one exchange, and return their positions among all rows.

        At least one is picked, unless all points left are at distance 0 from the picks.
        """
        rows, next_ = self._leaders(size)
        points = self.points[rows]
        work, speed = self._now(points.to(torch.float64), rows)
        state = torch.stack([work, speed, self.weights[rows]], 1)
        bound = -self.bound[next_], next_
        sent = exchange(self.shard, size, rows, -self.bound[rows], next_=bound, state=state, vectors=packed(points))
        places, spans = _first_to_run_out(sent, self.points, -sent.outside[:, 0].amax() - self.spans.sum(), wanted)
        if len(places):
            self._add(unpacked(sent.vectors[places], self.points), sent.rows[places], spans)
        return sent.rows[places]

    def finish(self, wanted: int) -> Int64[Tensor, " P"]:
        """Positions of the last picks, once all points left are at distance 0 from the picks."""
        self._update()
        time = _time_left(self.work, self.weights)
        left = (~self.picked).nonzero().flatten()
        left = left[self.work[left].argsort(stable=True)]
        rows = left[time[left].argsort(stable=True)][:wanted]
        sent = exchange(self.shard, wanted, rows, -time[rows], state=self.work[rows, None])
        order = sent.state[:, 0].argsort(stable=True)
        return sent.rows[order[(-sent.values)[order].argsort(stable=True)]][:wanted]

    def _add(self, picks: Points, rows: Int64[Tensor, " P"], spans: Float[Tensor, " P"]) -> None:
        """Record picks of any rank, and the time before each."""
        self.behind.append(picks.to(torch.float64))
        self.spans[-1] += spans[0]
        self.spans = torch.cat([self.spans, spans[1:], spans.new_zeros(1)])
        own = self.shard.places(rows)[1]
        self.picked[own], self.bound[own] = True, torch.inf
        self.exact.fill_(False)

    def _leaders(self, size: int) -> tuple[Int64[Tensor, " m"], Int64[Tensor, " o"]]:
        """The `size` clocks of this rank that run out first, with exact bounds, and the next one, if there is one."""
        count, followed = size + 1, 0
        while True:
            latest, rows = self.bound.topk(min(count, len(self.bound)), largest=False, sorted=True)
            rows = rows[latest.isfinite()]
            stale = rows[~self.exact[rows]]
            if not bool((~self.exact[rows[:size]]).any()):
                return rows[:size], rows[size : size + 1]
            followed += len(stale)
            if SHARE * followed > len(self.bound):
                self._update()
                continue
            work, speed = self._now(self.points[stale].to(torch.float64), stale)
            self.bound[stale] = self.spans.sum() + _time_left(work, speed)
            self.exact[stale] = True
            count = min(2 * count, len(self.bound))

    def _update(self) -> None:
        """Bring all points of this rank up to date with all picks, in blocks of matrix products."""
        if not self.behind:
            return
        self.work, self.speed = self.work.clone(), self.speed.clone()
        width = max(self.points.width, 4 * min(WINDOW, len(self.spans)))
        for rows in blocks(len(self.points), width, self.points.device):
            self.work[rows], self.speed[rows] = self._now(self.points[rows].to(torch.float64), rows)
        self.speed[self.picked] = 0
        self.behind, self.spans = [], self.spans.new_zeros(1)
        self.bound = _time_left(self.work, self.speed)
        self.exact.fill_(True)

    def _now(self, points: Points, rows: Tensor | slice) -> tuple[Tensor, Tensor]:
        """Work left at present on the clocks of some points, given in float64, and their speeds."""
        speed = self.speed[rows]
        work = self.work[rows] - self.spans[0] * speed
        known = 1
        for picks in self.behind:
            for part in torch.arange(len(picks), device=work.device).split(WINDOW):
                squared = points.squared_distances(picks[part]).mul_(self.weights[rows, None])  # type: ignore[arg-type]
                speeds = torch.cat([speed[:, None], squared], 1).cummin(1).values[:, 1:]
                work = work - speeds @ self.spans[known : known + len(part)]
                speed = speeds[:, -1]
                known += len(part)
        return work.clamp_min_(0), speed


def _first_to_run_out(sent: Window, like: PoolPoints, limit: Tensor, wanted: int) -> tuple[Tensor, Tensor]:
    """Places in the window of the clocks that run out before the limit, and the time before each, (P,) each.

    The first is not compared with the limit, which it can exceed by rounding errors only.
    """
    work, speed, weights = sent.state.T
    points = unpacked(sent.vectors, like[:0].to(torch.float64))
    places, spans = [sent.rows[:0]], [work[:0]]
    passed = torch.zeros_like(limit)
    while len(places) <= wanted and len(work):
        step, place = _time_left(work, speed).min(0, keepdim=True)
        if bool(step.isinf()) or (len(places) > 1 and bool(passed + step > limit)):
            break
        places.append(place)
        spans.append(step)
        passed = passed + step
        work = torch.addcmul(work, step, speed, value=-1).clamp_min_(0)
        speed = torch.minimum(speed, points.squared_differences(points[place]).mul_(weights))  # type: ignore[arg-type]
    return torch.cat(places), torch.cat(spans)


def _time_left(work: Tensor, speed: Tensor) -> Tensor:
    """Time until clocks run out; infinite for clocks of speed 0."""
    return torch.where(speed > 0, work / speed, torch.inf)


def _none(values: Tensor) -> Int64[Tensor, " 0"]:
    return torch.empty(0, dtype=torch.int64, device=values.device)
