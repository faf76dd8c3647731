"""k-means++ seeding: points drawn in proportion to their squared distance to those drawn before."""

from contextlib import nullcontext
from typing import Literal

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from dal.functional.blocks import blocks
from dal.functional.checking import chosen, not_negative
from dal.functional.points import NEAR, Points, as_points, check_finite, finite_norms, recompute
from dal.functional.threads import one_thread

#: Points whose clocks are followed exactly between two looks at the bounds of all others.
WINDOW = 512

#: What a pair costs in an update of the whole pool, against one in a window, whose distances need no running minimum.
PAIR = 2

#: Picks made before the host asks how many of them hold. On an accelerator every question stops the queue.
BLOCK = 32

#: Points of a window, the first whose clocks run out, whose distances to all of it are measured at once. Half of them
#: are chosen next or so; an accelerator is asked for all at once instead, which costs it less than a question.
AHEAD, ACCELERATOR_AHEAD = 64, WINDOW

#: Work that is as good as none.
TINY = 1e-300

#: How much longer than its two sides the third side of a triangle may come out in float32.
MARGIN = 1 + 1e-4


@torch.no_grad()
def kmeans_plusplus(
    points: Points | Float[Tensor, "N D"],
    n: int,
    *,
    generator: torch.Generator,
    first: Literal["largest", "uniform"] = "largest",
    weights: Float[Tensor, " N"] | None = None,
) -> Int64[Tensor, " n"]:
    """Positions of n points (n,), each drawn with probability proportional to its squared distance to those before it.

    The first is the one of largest norm (as in BADGE), or drawn uniformly (as in k-means). With weights, the squared
    distance (or squared norm, or 1 for the uniform draw) of every point counts times its weight. Once every point left
    is a duplicate of a chosen one, the rest are drawn uniformly (by weight), those of weight 0 last.

    The draw: every point has a clock, exponentially distributed with mean 1, that runs at the speed of its squared
    distance; the first to run out is chosen, all speeds change, and the others run on. What is left of an exponential
    time is exponential again whatever has passed, so every draw has exactly the law stated, though each point's only
    random number is drawn at the start. This makes the choice stable: where the distances change a little (reduced
    precision, another device), each draw still has the same winner unless two clocks were about to run out together.

    It does not look at all points at every pick. Speeds only fall, so an old one tells the earliest moment at which a
    clock can run out; only the `WINDOW` clocks that can be first are followed, until one of the others may be before
    them. The speeds start from `(|x| + |first|)^2`, which takes the norms alone: a choice of a few hundred points often
    reads the pool once. Besides the points it holds about 48 bytes per point and 16 MiB + 16 bytes * WINDOW * width,
    where the width is D, or C + D of factors.

    Arthur and Vassilvitskii 2007, "k-means++: The Advantages of Careful Seeding"; for active learning Ash et al. 2020,
    "Deep Batch Active Learning by Diverse, Uncertain Gradient Lower Bounds".

    Args:
        points: N of them.
        n: how many, 1 <= n <= N.
        generator: on the CPU; N numbers are drawn from it, whatever n is.
        first: "largest" or "uniform".
        weights: (N,) not negative.

    Raises:
        ValueError: n is not within 1..N, a point or weight is not finite, or `first` is neither of the two.

    >>> kmeans_plusplus(torch.tensor([[0.0], [3.0], [3.0]]), 2, generator=torch.Generator().manual_seed(0))
    tensor([1, 0])
    """
    if first not in ("largest", "uniform"):
        raise ValueError(f"first must be 'largest' or 'uniform', not {first!r}")
    points = as_points(points)
    n = chosen(n, len(points))
    norms = finite_norms(points).double()
    clock = torch.empty(len(points), dtype=torch.float64).exponential_(generator=generator).to(points.device)
    race = _Race(points, clock, checked_weights(weights, len(points), points.device))
    with one_thread():
        race.start(norms, first)
    share = 1 / 3  # of the points in a window that are chosen
    while left := n - race.count:
        size = int(min(WINDOW, max(64, 1.2 * left / share)))
        with one_thread():
            found = race.run_window(size, left, whole=share > 0.5)
        if not found and not race.behind:
            race.finish(n)
        elif race.update_pays(size, found, left - found):
            race.update()
            share = 1.0
        else:
            share = found / size
    return torch.cat(race.picks)


def checked_weights(weights: Tensor | None, count: int, device: torch.device) -> Tensor | None:
    """The weights as float64 on the device, once it is sure that there are so many, finite and not negative."""
    if weights is None:
        return None
    weights = not_negative(weights, "weights")
    if len(weights) != count:
        raise ValueError(f"{count} points need as many weights, not {len(weights)}")
    return weights.to(device, torch.float64)


class _Race:
    """The clocks of N points: as they stood at the last update of all of them, and what has happened since.

    Times are counted from that update. `work` (N,) is what was left on each clock then, and `speed` (N,) no less than
    the speed of each since: its squared distance (times weight) to the picks known then. No clock runs out before its
    `bound` (N,), infinite for those that were chosen or stand still. `behind` are the P picks that the speeds do not
    know of, window by window, and `spans` (P + 1,) for how long the race ran before the first of them, and after each.
    """

    def __init__(self, points: Points, clock: Tensor, weights: Tensor | None) -> None:
        self.points, self.weights = points, weights
        self.work, self.speed, self.bound = clock, clock, clock
        self.picks: list[Tensor] = []
        self.behind: list[Tensor] = []
        self.spans = clock.new_zeros(1)

    @property
    def count(self) -> int:
        """How many were chosen."""
        return sum(map(len, self.picks))

    def start(self, norms: Tensor, first: str) -> None:
        """Choose the first point, and bound all speeds by the norms (N,): a third side is no longer than the others."""
        if first == "largest":
            pick = _weighted(norms, self.weights).argmax().view(1)
        else:
            speed = torch.ones_like(self.work) if self.weights is None or not self.weights.any() else self.weights
            step, pick = _ring(self.work, speed).min(0, keepdim=True)
            self.work = torch.addcmul(self.work, step, speed, value=-1).clamp_min_(0)
        self.picks.append(pick)
        self.behind.append(pick)
        self.spans = self.spans.new_zeros(2)
        lengths = norms.sqrt()
        self.speed = _weighted(lengths.add_(lengths[pick].clone()).square_().mul_(MARGIN), self.weights)
        self.speed[pick] = 0
        self.bound = _ring(self.work, self.speed)

    def run_window(self, size: int, wanted: int, *, whole: bool = False) -> int:
        """Follow the clocks that can run out first until another one may, or enough are chosen; how many were."""
        latest, rows = self.bound.topk(min(size + 1, len(self.bound)), largest=False)
        if len(rows) > size:
            limit, rows = latest[-1] - self.spans.sum(), rows[:-1]
        else:
            limit = latest.new_tensor(torch.inf)
        points = self.points[rows]
        work, speed = self._now(points, rows)
        speed = speed.where(latest[: len(rows)].isfinite(), 0)
        table = _Table(points, None if self.weights is None else self.weights[rows], whole=whole)
        found, spans = _first_to_ring(work, speed, table, limit, wanted)
        if len(found):
            self.picks.append(rows[found])
            self.behind.append(rows[found])
            self.spans[-1] += spans[0]
            self.spans = torch.cat([self.spans, spans[1:], spans.new_zeros(1)])
            work, speed = _ran(work, speed, table.lines[found], spans)
        self.bound[rows] = self.spans.sum() + _ring(work, speed)
        return len(found)

    def update_pays(self, size: int, found: int, left: int) -> bool:
        """Whether to `update` costs less than windows like the last one, which gave so many picks, for all those left.

        Costs are counted in pairs of points. Without an update in sight a window of no picks would be repeated forever.
        """
        pairs = (size + len(self.spans)) * size
        return left > 0 and left * pairs > PAIR * len(self.points) * len(self.spans) * found

    def update(self) -> None:
        """Let all points know of all picks, in blocks: matrix products with those they do not know of."""
        self.work, self.speed = self.work.clone(), self.speed.clone()
        width = max(self.points.width, 4 * min(WINDOW, sum(map(len, self.behind))))
        for rows in blocks(len(self.points), width, self.points.device):
            self.work[rows], self.speed[rows] = self._now(self.points[rows], rows)
        self.speed[torch.cat(self.picks)] = 0
        self.behind, self.spans = [], self.spans.new_zeros(1)
        self.bound = _ring(self.work, self.speed)

    def finish(self, n: int) -> None:
        """Choose what is missing to n of the points left, none of which has any distance to those chosen."""
        chosen = torch.zeros_like(self.work, dtype=torch.bool)
        chosen[torch.cat(self.picks)] = True
        order = self.work.argsort(stable=True)
        if self.weights is not None:
            order = order[_ring(self.work, self.weights)[order].argsort(stable=True)]
        self.picks.append(order[~chosen[order]][: n - self.count])

    def _now(self, points: Points, rows: Tensor | slice) -> tuple[Tensor, Tensor]:
        """What is left now on the clocks of the R points at these rows, and their speeds, (R,) each.

        Between two picks a clock runs at the smallest of its squared distances to those before.
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
    """Speeds that W points leave to each other, measured line by line when they are wanted.

    Line i of `lines` (W, W) float64 holds those of all points after point i was chosen, where `known` (W,).
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
        """Measure the lines of the points whose clocks run out first, at these times (W,)."""
        if self._whole:
            return
        first = torch.cat([times.min(0, keepdim=True).indices, times.topk(self._ahead, largest=False).indices[1:]])
        if len(new := first[~self.known[first]]):
            self._measure(new)

    def _measure(self, at: Tensor) -> None:
        some, everything = self.points[at], self.points
        squared, sums = some.expanded_distances(everything)  # type: ignore[arg-type]
        itself = torch.arange(len(at), device=at.device), at
        near = squared < sums.mul_(NEAR)
        near[itself] = False
        squared = recompute(some, everything, squared, near).clamp_min_(0)
        squared[itself] = 0
        self.lines[at] = squared.double() if self.weights is None else squared.double().mul_(self.weights)
        self.known[at] = True


def _first_to_ring(work: Tensor, speed: Tensor, table: _Table, limit: Tensor, wanted: int) -> tuple[Tensor, Tensor]:
    """Which of W clocks run out one after the other before the limit, and how long after the one before, (F,) each.

    A block of picks is made on the device before the host asks how many of them hold; what follows the first that does
    not, or whose line in the table was not measured, is thrown away.

    Args:
        work: (W,) what is left on the clocks.
        speed: (W,) theirs.
    """
    found, spans = [work.new_empty(0, dtype=torch.int64)], [work.new_empty(0)]
    passed = torch.zeros_like(limit)
    work = work.clamp_min(TINY)  # over a speed of 0 it is infinite
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
        if valid == in_time < len(picks):
            break
        if valid < in_time:
            work, speed = _ran(*before, table.lines[rows], block)
            work.clamp_min_(TINY)
        passed, wanted = passed + block.sum(), wanted - valid
    return torch.cat(found), torch.cat(spans)


def _ran(work: Tensor, speed: Tensor, lines: Tensor, spans: Tensor) -> tuple[Tensor, Tensor]:
    """What is left of work and speed (W,) after so many picks, of these lines (F, W) and spans (F,) before each."""
    speeds = torch.cat([speed[None], lines]).cummin(0).values  # (F + 1, W)
    return (work - spans @ speeds[:-1]).clamp_min_(0), speeds[-1]


def _ring(work: Tensor, speed: Tensor) -> Tensor:
    """How long until clocks run out, infinite where they stand still."""
    return torch.where(speed > 0, work / speed, torch.inf)


def _weighted(values: Tensor, weights: Tensor | None) -> Tensor:
    return values if weights is None else values * weights


@torch.no_grad()
def distances_at_selection(points: Points | Float[Tensor, "n D"]) -> Float[Tensor, " n"]:
    """Distance of every point to the nearest of those before it in order, (n,); the first's is that to the origin.

    Holds about 8 * `blocks.ELEMENTS` numbers besides the points: 8 MiB on a CPU.

    >>> distances_at_selection(torch.tensor([[3.0], [1.0], [0.5]]))
    tensor([3.0000, 2.0000, 0.5000])
    """
    points = as_points(points)
    check_finite(points)
    with one_thread() if len(points) <= WINDOW else nullcontext():
        return _squared_at_selection(points).sqrt()


def _squared_at_selection(points: Points) -> Tensor:
    squared = points.squared_norms()
    order = torch.arange(len(points), device=points.device)
    for rows in blocks(len(points), max(len(points), points.width), points.device):
        distance = points[rows].squared_distances(points[: rows.stop])  # type: ignore[arg-type]
        later = order[: rows.stop] >= order[rows, None]
        closest = distance.masked_fill_(later, torch.inf).amin(1)
        squared[rows] = torch.where(order[rows] > 0, closest, squared[rows])
    return squared
