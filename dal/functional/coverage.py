"""Covering points with balls of one radius."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from dal.functional import blocks as sizes
from dal.functional.blocks import blocks
from dal.functional.checking import aligned, chosen, integers, number
from dal.functional.points import DensePoints, as_points, check_finite, checked
from dal.functional.precision import true_float32
from dal.functional.window import WindowSchedule

#: Rows whose counts are kept up to date from pick to pick, at most.
WINDOW = 1024

#: Numbers that the table of a window may hold on a CPU: 8 MiB.
TABLE = 2**21

#: An expanded squared distance is off by less than this many roundings of the sum of the squared norms.
ROUNDING = 16

_TILE = 512  # rows and columns of a block of distances, at least


@dataclass(frozen=True, eq=False)
class Coverage:
    """Balls chosen to cover many targets.

    Attributes:
        positions: (m,) int64, the centers of the balls in the order in which they were chosen.
        gains: (m,) int64, how many targets each covered that none before it did; never 0.
        covered: (M,) the targets that are covered in the end.
    """

    positions: Int64[Tensor, " m"]
    gains: Int64[Tensor, " m"]
    covered: Bool[Tensor, " M"]


@torch.no_grad()
def max_coverage(
    points: DensePoints | Float[Tensor, "N D"],
    n: int,
    radius: float,
    *,
    targets: Float[Tensor, "M D"] | None = None,
    centers: Float[Tensor, "L D"] | None = None,
    generator: torch.Generator | None = None,
) -> Coverage:
    """Up to n of the points, each with the most targets within `radius` that are not covered yet, as a `Coverage`.

    Fewer than n where none of the points covers any more. What the greedy choice covers is at least 1 - 1/e of the most
    that so many balls can. Equal counts are decided by the generator (on the CPU), or by position without one. A
    target at the radius exactly is covered.

    Every target is counted for all points once, and subtracted from all of them once, after it is covered: 2 N M D
    multiplications at most, whatever n is. Between these passes only the counts of a window of the best points are
    kept up to date; those of all others are upper bounds. Which targets the balls of a window hold is decided once, in
    a table: a pick is then a few operations on it, and an accelerator makes up to 64 of them between two looks.
    Extra memory: `10 N + 2 M D` numbers, blocks, and the table, 8 MiB (`64 M` bytes where that is more; 64 MiB on an
    accelerator).

    Nemhauser, Wolsey and Fisher 1978, "An analysis of approximations for maximizing submodular set functions"; for
    active learning Yehuda, Dekel, Hacohen and Weinshall 2022, "Active Learning Through a Covering Lens".

    Args:
        points: N candidates.
        n: how many to choose at most, 1 <= n <= N.
        radius: of the balls.
        targets: M points to cover; the candidates themselves when not given.
        centers: L balls that are there already.
        generator: decides between equals.

    Raises:
        ValueError: n is not within 1..N, the radius is negative or NaN, or a point is not finite.

    >>> max_coverage(torch.tensor([[0.0], [1.0], [2.0], [9.0]]), 2, radius=1.0).gains
    tensor([3, 1])
    """
    x = _dense(checked(points, n))
    n, radius = chosen(n, len(x)), number(radius, "radius", 0, infinite=True)
    balls = _Balls.of(x if targets is None else _finite(targets, x), radius)
    free = torch.ones(len(balls.y), dtype=torch.bool, device=x.device)  # (M,) targets not covered
    if centers is not None and len(centers):
        free = _Balls.of(_finite(centers, x), radius).count(balls.y) == 0
    order = torch.arange(len(x)) if generator is None else torch.randperm(len(x), generator=generator)
    turn = len(x) - 1 - order.to(x.device)  # unique: the highest of equals is chosen
    return _Coverer(x, balls, free, turn).choose(n)


@torch.no_grad()
def pure_radius(
    points: DensePoints | Float[Tensor, "N D"],
    clusters: Int64[Tensor, " N"],
    *,
    purity: float = 0.95,
    rows: Int64[Tensor, " S"] | None = None,
) -> float:
    """The largest radius at which a share `purity` of the balls around the points holds points of one cluster only.

    The ball around a point is pure as long as its radius stays below the distance to the nearest point of another
    cluster, so the radius sought is just below a quantile of these distances: no search is needed. Infinite where so
    many balls are pure at any radius. With S `rows`, only the balls around those are looked at, each among all N
    points. Takes S N D multiplications; extra memory `3 S + S D` numbers and blocks.

    Yehuda, Dekel, Hacohen and Weinshall 2022, "Active Learning Through a Covering Lens", section 4.2.

    Raises:
        ValueError: purity is not within 0..1, or a point is not finite.

    >>> round(pure_radius(torch.tensor([[0.0], [1.0], [4.0]]), torch.tensor([0, 0, 1]), purity=0.6), 4)
    3.0
    """
    purity, x = number(purity, "purity", above=0, most=1), _dense(checked(points, 1))
    clusters = integers(clusters, "clusters", torch.iinfo(torch.int64).min)
    aligned(points=x, clusters=clusters)
    if rows is None:
        rows = torch.arange(len(x), device=x.device)
    rows = integers(rows, "rows", 0, len(x)).to(x.device)
    if not len(rows):
        raise ValueError("rows must name at least one point")
    distances = _foreign_distances(x, clusters.to(x.device), rows).sort().values  # (S,)
    impure = int((1 - purity) * len(rows) + 1e-9)  # so many balls may be
    if impure == len(rows):
        return float("inf")
    first = distances[impure]
    return float(torch.nextafter(first, torch.zeros_like(first))) if bool(first.isfinite()) else float("inf")


@dataclass(frozen=True, eq=False)
class _Balls:
    """Balls of one radius around y (M, D): who lies in which is decided alike in every block and on every device.

    Attributes:
        y: (M, D).
        limit: the squared radius.
        moved: y less `shift`, so that nothing cancels far from the origin.
        norms: the squared norms of those, (M,).
        shift: (D,).
    """

    y: Tensor
    limit: float
    moved: Tensor
    norms: Tensor
    shift: Tensor

    @classmethod
    def of(cls, y: Tensor, radius: float) -> "_Balls":
        shift = y.mean(0) if len(y) else y.new_zeros(y.shape[1])
        moved = y - shift
        return cls(y, radius * radius, moved, moved.square().sum(1), shift)

    def __getitem__(self, some: Tensor | slice) -> "_Balls":
        return _Balls(self.y[some], self.limit, self.moved[some], self.norms[some], self.shift)

    def excess(self, x: Tensor) -> Tensor:
        """Negative where one of B points lies in a ball, else positive, never 0, (B, M): one look at the device.

        The expanded squared distance less the squared radius; pairs that rounding could decide take differences.
        """
        moved = x - self.shift
        norms = moved.square().sum(1)[:, None]  # (B, 1)
        with true_float32():
            over = (norms + (self.norms - self.limit)).addmm_(moved, self.moved.T, alpha=-2)
        if not over.numel():
            return over
        unsure = ROUNDING * torch.finfo(x.dtype).eps * (norms.amax() + self.norms.amax() + self.limit)
        i, j = (over.abs() <= unsure).nonzero(as_tuple=True)
        for pairs in blocks(len(i), x.shape[1], x.device):
            exact = (x[i[pairs]] - self.y[j[pairs]]).square_().sum(1)
            over[i[pairs], j[pairs]] = torch.where(exact <= self.limit, -1.0, 1.0).to(x.dtype)
        return over

    def count(self, x: Tensor, among: Tensor | None = None) -> Tensor:
        """In how many of the balls each of N points lies, (N,) int64; of those at `among` (F,) only, where given."""
        counts = torch.zeros(len(x), dtype=torch.int64, device=x.device)
        for columns in blocks(len(self.y) if among is None else len(among), max(x.shape[1], _TILE), x.device):
            balls = self[columns if among is None else among[columns]]
            for rows in blocks(len(x), max(x.shape[1], len(balls.y)), x.device):
                more = balls.excess(x[rows]).sign_().sum(1)  # balls without it less balls with it
                counts[rows] += (len(balls.y) - more.long()) // 2
        return counts

    def table(self, x: Tensor, among: Tensor) -> Tensor:
        """1 where one of W points lies in one of the balls at `among`, else 0, (W, F), for sums that are exact."""
        exact = torch.float32 if len(among) <= 2**24 else torch.float64
        out = torch.empty(len(x), len(among), dtype=exact, device=x.device)
        for columns in blocks(len(among), max(x.shape[1], len(x)), x.device):
            out[:, columns] = self[among[columns]].excess(x) < 0
        return out


class _Window:
    """The points with the highest counts, and which of the F targets not covered yet their balls hold.

    Attributes:
        table: (W, F) ones and zeros.
        counts: (W,) how many targets that are not covered each ball holds, kept up to date.
        turn: (W,) which of equals is chosen: that of the highest.
        bar: (1,) the key, `counts * N + turn`, of the best point outside; -1 when there is none.
        open: (F,) ones for the targets that are still not covered, else zeros.
    """

    def __init__(self, table: Tensor, counts: Tensor, turn: Tensor, points: int, bar: Tensor) -> None:
        self.table, self.counts, self.turn, self.points, self.bar = table, counts, turn, points, bar
        self.open = table.new_ones(table.shape[1])

    def pick_block(self, count: int) -> tuple[Tensor, Tensor]:
        """Places and gains of up to `count` picks, fewer where a point outside is better or none covers more.

        They are made in one go and looked at once; what follows the first that does not hold is taken back. The counts
        are wrong after that, as the window is then of no use.
        """
        before, steps = self.open.clone(), []
        for _ in range(count):
            best, place = (self.counts * self.points + self.turn).max(0, keepdim=True)
            holds = best >= self.bar.clamp_min(self.points)  # the key of a ball that covers something new
            steps.append(torch.cat([place, self.counts[place], holds.long()]))
            reached = self.table.index_select(0, place).squeeze(0) * self.open
            self.counts = self.counts - (self.table @ reached).long()
            self.open = self.open - reached
        places, gains, hold = torch.stack(steps).T
        good = int(hold.sum())  # the keys only fall: once one does not hold, none does
        if good < count:
            self.open = before * (1 - self.table[places[:good]]).prod(0)
        return places[:good], gains[:good]


class _Coverer:
    """The greedy choice, window by window.

    Attributes:
        free: (M,) bool, the targets not covered.
        turn: (N,) which of equals is chosen: that of the highest.
    """

    def __init__(self, x: Tensor, balls: _Balls, free: Tensor, turn: Tensor) -> None:
        self.x, self.balls, self.free, self.turn = x, balls, free, turn
        self.pace = WindowSchedule(x.device)
        self.picks = [turn[:0]]
        self.gains = [turn[:0]]

    def choose(self, n: int) -> Coverage:
        """Up to n picks."""
        left = self.free.nonzero().flatten()
        counts = self.balls.count(self.x, left)  # (N,)
        while len(left):
            made = self._pick_in_window(counts, left, n)
            n -= made
            if not n or not made:  # no point reaches what is left
                break
            still = self.free[left]
            counts -= self.balls.count(self.x, left[~still])
            left = left[still]
        return Coverage(torch.cat(self.picks), torch.cat(self.gains), ~self.free)

    def _pick_in_window(self, counts: Tensor, left: Tensor, wanted: int) -> int:
        """Picks from one window until a point outside could be better. How many were made."""
        elements = TABLE if self.x.device.type == "cpu" else sizes.ACCELERATOR_ELEMENTS
        rows, bar = _highest(counts * len(self.x) + self.turn, min(WINDOW, max(16, elements // len(left))))
        window = _Window(self.balls.table(self.x[rows], left), counts[rows], self.turn[rows], len(self.x), bar)
        made = 0
        while made < wanted:
            asked = min(self.pace.size, wanted - made)
            places, gains = window.pick_block(asked)
            self.picks.append(rows[places])
            self.gains.append(gains)
            made += len(places)
            if not self.pace.all_held(asked, len(places)):
                break
        self.free[left] = window.open > 0
        return made


def _highest(keys: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """Positions of the highest of N unique keys, so many, and the highest key left out (1,), -1 if there is none."""
    found = keys.topk(min(size + 1, len(keys)))
    bar = found.values[size:] if len(keys) > size else keys.new_full((1,), -1)
    return found.indices[:size], bar


def _foreign_distances(x: Tensor, clusters: Tensor, rows: Tensor) -> Tensor:
    """Distance of the S points at `rows` to the nearest point of another cluster, (S,), infinite where there is none.

    Which one is nearest is found by the expanded form, how far it is by differences.
    """
    best = x.new_full((len(rows),), torch.inf)
    nearest = torch.zeros_like(rows)
    shift = x.mean(0)
    for some in blocks(len(rows), max(x.shape[1], _TILE), x.device):
        here = x[rows[some]] - shift
        for columns in blocks(len(x), max(x.shape[1], len(here)), x.device):
            there = x[columns] - shift
            with true_float32():
                squared = torch.addmm(there.square().sum(1), here, there.T, alpha=-2)
            squared.masked_fill_(clusters[rows[some], None] == clusters[columns], torch.inf)
            found = squared.min(1)
            nearer = found.values < best[some]
            best[some] = torch.where(nearer, found.values, best[some])
            nearest[some] = torch.where(nearer, found.indices + columns.start, nearest[some])
    for some in blocks(len(rows), x.shape[1], x.device):
        exact = (x[rows[some]] - x[nearest[some]]).square_().sum(1).sqrt()
        best[some] = torch.where(best[some].isfinite(), exact, torch.inf)
    return best


def _dense(points: object) -> Tensor:
    if not isinstance(points, DensePoints):
        raise TypeError("balls need dense points")
    return points.x


def _finite(x: Tensor, like: Tensor) -> Tensor:
    points = as_points(x)
    check_finite(points)
    return _dense(points).to(like.dtype)
