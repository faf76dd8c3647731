"""Maximum coverage of points with balls of a fixed radius."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from dal.functional import blocks as sizes
from dal.functional.blocks import blocks
from dal.functional.checked_tensors import aligned, integers
from dal.functional.checking import chosen, number
from dal.functional.exchange import Shard, exchange
from dal.functional.points import DensePoints, as_points, check_finite, checked
from dal.functional.precision import true_float32
from dal.functional.row_source import RowSource, as_pool_points
from dal.functional.window import WindowSchedule

#: Maximum number of rows whose counts are updated after every pick.
WINDOW = 1024

#: Maximum number of elements in the table of a window on a CPU: 8 MiB.
TABLE = 2**21

#: Number of rows in a window of all ranks, if the points are distributed.
SHARED = 8192

#: Error bound of an expanded squared distance, in units of eps times the sum of the squared norms.
ROUNDING = 16

_TILE = 512  # minimum number of rows and columns of a block of distances


@dataclass(frozen=True, eq=False)
class Coverage:
    """Result of a greedy coverage maximisation.

    Attributes:
        positions: (m,) int64, centers of the balls, in the order of selection.
        gains: (m,) int64, number of targets newly covered by each ball; at least 1.
        covered: (M,) bool, the targets that are covered in the end.
    """

    positions: Int64[Tensor, " m"]
    gains: Int64[Tensor, " m"]
    covered: Bool[Tensor, " M"]


@torch.no_grad()
def max_coverage(
    points: DensePoints | RowSource | Float[Tensor, "N D"],
    n: int,
    radius: float,
    *,
    targets: Float[Tensor, "M D"] | None = None,
    centers: Float[Tensor, "L D"] | None = None,
    generator: torch.Generator | None = None,
    shard: Shard | None = None,
) -> Coverage:
    """Select up to n points, each with the most uncovered targets within `radius`.

    Fewer than n are selected if no point covers further targets. Greedy selection covers at least 1 - 1/e of the
    maximum. Ties are broken by the generator (on the CPU), or by position without one. A target at exactly the radius
    is covered.

    Each target is counted once for all points, and subtracted once after it is covered: at most 2 N M D multiplications
    for any n. Between these passes only the counts of a window of the best points are updated; all other counts are
    upper bounds. A table holds the targets in the balls of the window, so a pick costs a few operations, and an
    accelerator makes up to 64 picks between two synchronisations. Extra memory: `10 N + 2 M D` numbers, blocks, and the
    table of 8 MiB (`64 M` bytes if that is more; 64 MiB on an accelerator).

    With a shard, the points are those of the rows of this rank, and targets and centers are the same on all ranks. The
    result has the positions among all rows, on every rank: those of one process. Each window is one collective, with
    8,192 rows of all ranks, and without a table.

    Nemhauser, Wolsey and Fisher 1978, "An analysis of approximations for maximizing submodular set functions"; for
    active learning Yehuda, Dekel, Hacohen and Weinshall 2022, "Active Learning Through a Covering Lens".

    Args:
        points: N candidates. A source is read block by block, with the same result, and needs `targets`.
        n: maximum number of points to select, 1 <= n <= N.
        radius: radius of the balls, not negative.
        targets: M points to cover; the candidates themselves by default.
        centers: centers of L balls that exist already.
        generator: breaks ties.
        shard: the rows of this rank if the candidates are distributed over several; `targets` must be given.

    Raises:
        ValueError: n is not within 1..N, the radius is negative or NaN, or a point is not finite.

    >>> max_coverage(torch.tensor([[0.0], [1.0], [2.0], [9.0]]), 2, radius=1.0).gains
    tensor([3, 1])
    """
    x = points if isinstance(points, RowSource) else _dense(as_points(points))
    check_finite(as_pool_points(x))
    total = len(x) if shard is None else shard.total
    n, radius = chosen(n, total), number(radius, "radius", 0, infinite=True)
    if shard is not None:
        shard.check_length(len(x))
        if targets is None:
            raise ValueError("candidates on several ranks need targets, the same on all of them")
    if targets is None and isinstance(x, RowSource):
        raise TypeError("candidates that are read block by block need targets in memory")
    balls = _Balls.of(x if targets is None else _finite(targets, x.dtype), radius)  # type: ignore[arg-type]
    free = torch.ones(len(balls.y), dtype=torch.bool, device=x.device)  # (M,) targets not covered
    if centers is not None and len(centers):
        free = _Balls.of(_finite(centers, x.dtype), radius).count(balls.y) == 0
    order = torch.arange(total) if generator is None else torch.randperm(total, generator=generator)
    priority = total - 1 - order.to(x.device)  # unique; the highest wins ties
    if shard is not None:
        return _CovererOnShards(x, balls, free, priority, shard).choose(n)
    return _Coverer(x, balls, free, priority).choose(n)


@torch.no_grad()
def pure_radius(
    points: DensePoints | Float[Tensor, "N D"],
    clusters: Int64[Tensor, " N"],
    *,
    purity: float = 0.95,
    rows: Int64[Tensor, " S"] | None = None,
) -> float:
    """Largest radius at which a share `purity` of the balls around the points contains points of one cluster only.

    The ball around a point is pure while its radius is below the distance to the nearest point of another cluster, so
    the result lies just below a quantile of these distances and needs no search. It is infinite if enough balls are
    pure at any radius. With S `rows`, only the balls around these rows count, each among all N points. Takes S N D
    multiplications; extra memory `3 S + S D` numbers and blocks.

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
    impure = int((1 - purity) * len(rows) + 1e-9)  # number of balls that may be impure
    if impure == len(rows):
        return float("inf")
    first = distances[impure]
    return float(torch.nextafter(first, torch.zeros_like(first))) if bool(first.isfinite()) else float("inf")


@dataclass(frozen=True, eq=False)
class _Balls:
    """Balls of one radius around y (M, D). Membership is independent of block sizes and devices.

    Attributes:
        y: (M, D) centers.
        limit: squared radius.
        moved: y minus `shift`, which avoids cancellation far from the origin.
        norms: (M,) squared norms of `moved`.
        shift: (D,) mean of the centers.
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
        """Negative where one of B points lies in a ball, positive otherwise, never 0, (B, M). Synchronises once.

        The value is the expanded squared distance minus the squared radius; pairs within rounding errors of 0 are
        decided by exact differences.
        """
        moved = x - self.shift
        norms = moved.square().sum(1)[:, None]  # (B, 1)
        with true_float32():
            over = (norms + (self.norms - self.limit)).addmm_(moved, self.moved.T, alpha=-2)
        if not over.numel():
            return over
        error = ROUNDING * torch.finfo(x.dtype).eps * (norms.amax() + self.norms.amax() + self.limit)
        i, j = (over.abs() <= error).nonzero(as_tuple=True)
        for pairs in blocks(len(i), x.shape[1], x.device):
            exact = (x[i[pairs]] - self.y[j[pairs]]).square_().sum(1)
            over[i[pairs], j[pairs]] = torch.where(exact <= self.limit, -1.0, 1.0).to(x.dtype)
        return over

    def count(self, x: Tensor | RowSource, among: Tensor | None = None) -> Tensor:
        """Number of balls that contain each of N points, (N,) int64; of the balls at `among` (F,) only, if given."""
        counts = torch.zeros(len(x), dtype=torch.int64, device=x.device)
        for columns in blocks(len(self.y) if among is None else len(among), max(x.shape[1], _TILE), x.device):
            balls = self[columns if among is None else among[columns]]
            for rows in blocks(len(x), max(x.shape[1], len(balls.y)), x.device):
                outside_minus_inside = balls.excess(x[rows]).sign_().sum(1)
                counts[rows] += (len(balls.y) - outside_minus_inside.long()) // 2
        return counts

    def table(self, x: Tensor, among: Tensor) -> Tensor:
        """Membership table (W, F): 1 where one of W points lies in a ball at `among`, else 0; sums of it are exact."""
        dtype = torch.float32 if len(among) <= 2**24 else torch.float64  # float32 counts exactly up to 2**24
        out = torch.empty(len(x), len(among), dtype=dtype, device=x.device)
        for columns in blocks(len(among), max(x.shape[1], len(x)), x.device):
            out[:, columns] = self[among[columns]].excess(x) < 0
        return out


class _Window:
    """Points with the highest counts, and the membership of the F uncovered targets in their balls.

    Attributes:
        table: (W, F) ones and zeros.
        counts: (W,) number of uncovered targets in each ball, kept up to date.
        priority: (W,) unique tie-breaking priorities; the highest wins.
        points: N, the number of all points.
        bar: (1,) key `counts * N + priority` of the best point outside; -1 if there is none.
        open: (F,) ones for the targets that are still uncovered, else zeros.
    """

    def __init__(self, table: Tensor, counts: Tensor, priority: Tensor, points: int, bar: Tensor) -> None:
        self.table, self.counts, self.priority, self.points, self.bar = table, counts, priority, points, bar
        self.open = table.new_ones(table.shape[1])

    def pick_block(self, count: int) -> tuple[Tensor, Tensor]:
        """Places and gains of up to `count` picks; fewer if a point outside is better or no target can be covered.

        All picks are made before the host looks at them once, and those after the first invalid one are undone. The
        counts are then wrong, but the window is discarded anyway.
        """
        before, steps = self.open.clone(), []
        for _ in range(count):
            best, place = (self.counts * self.points + self.priority).max(0, keepdim=True)
            valid = best >= self.bar.clamp_min(self.points)  # at least the smallest key of a ball with a gain
            steps.append(torch.cat([place, self.counts[place], valid.long()]))
            reached = self.table.index_select(0, place).squeeze(0) * self.open
            self.counts = self.counts - (self.table @ reached).long()
            self.open = self.open - reached
        places, gains, valid_steps = torch.stack(steps).T
        good = int(valid_steps.sum())  # keys never increase, so all picks after an invalid one are invalid
        if good < count:
            self.open = before * (1 - self.table[places[:good]]).prod(0)
        return places[:good], gains[:good]


class _Coverer:
    """Greedy selection, window by window.

    Attributes:
        free: (M,) bool, the uncovered targets.
        priority: (N,) unique tie-breaking priorities; the highest wins.
    """

    def __init__(self, x: Tensor | RowSource, balls: _Balls, free: Tensor, priority: Tensor) -> None:
        self.x, self.balls, self.free, self.priority = x, balls, free, priority
        self.pace = WindowSchedule(x.device)
        self.picks = [priority[:0]]
        self.gains = [priority[:0]]

    def choose(self, n: int) -> Coverage:
        """Make up to n picks."""
        left = self.free.nonzero().flatten()
        counts = self.balls.count(self.x, left)  # (N,)
        while len(left):
            made = self._pick_in_window(counts, left, n)
            n -= made
            if not n or not made:  # no ball contains any of the targets left
                break
            still = self.free[left]
            counts -= self.balls.count(self.x, left[~still])
            left = left[still]
        return Coverage(torch.cat(self.picks), torch.cat(self.gains), ~self.free)

    def _pick_in_window(self, counts: Tensor, left: Tensor, wanted: int) -> int:
        """Pick from one window until a point outside could be better, and return the number of picks."""
        elements = TABLE if self.x.device.type == "cpu" else sizes.ACCELERATOR_ELEMENTS
        size = min(WINDOW, max(16, elements // len(left)))
        rows, x, counts, bar = self._highest(counts, size)
        window = _Window(self.balls.table(x, left), counts, self.priority[rows], len(self.priority), bar)
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

    def _highest(self, counts: Tensor, size: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """The `size` best points: positions, vectors and counts; and the key of the best point outside, (1,)."""
        keys = counts * len(self.priority) + self.priority  # (N,), unique: by count, then by priority
        highest = keys.topk(min(size + 1, len(keys)))
        bar = highest.values[size:] if len(keys) > size else keys.new_full((1,), -1)
        rows = highest.indices[:size]
        return rows, self.x[rows], counts[rows], bar


class _CovererOnShards(_Coverer):
    """Greedy selection of points of all ranks: each rank counts for its own, and windows have the best of each.

    Attributes:
        priority: (N,) as for `_Coverer`, of the rows of all ranks.
    """

    def __init__(self, x: Tensor | RowSource, balls: _Balls, free: Tensor, priority: Tensor, shard: Shard) -> None:
        super().__init__(x, balls, free, priority)
        self.shard = shard

    def _pick_in_window(self, counts: Tensor, left: Tensor, wanted: int) -> int:
        # Without a table, whose size would limit the window: few windows need large ones, since one pick lowers the
        # counts of all points near it. Of these, only the targets are measured that a pick covers.
        rows, x, counts, bar = self._highest(counts, -(-SHARED // self.shard.comm.size))
        balls, is_open, made = self.balls[left], torch.ones_like(left, dtype=torch.bool), 0
        while made < wanted:
            key, place = (counts * len(self.priority) + self.priority[rows]).max(0, keepdim=True)
            if bool(key < bar.clamp_min(len(self.priority))):
                break
            self.picks.append(rows[place])
            self.gains.append(counts[place])
            reached = (balls.excess(x[place])[0] < 0) & is_open
            is_open &= ~reached
            counts = counts - self.balls.count(x, left[reached])
            made += 1
        self.free[left] = is_open
        return made

    def _highest(self, counts: Tensor, size: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        keys = (counts * len(self.priority) + self.priority[self.shard.rows]).double()  # exact up to 2**53
        size = min(size, len(self.priority))
        best = keys.topk(min(size + 1, len(keys))).indices
        rows, next_ = best[:size], best[size:]
        sent = exchange(
            self.shard,
            size,
            rows,
            keys[rows],
            next_=(keys[next_], next_),
            state=counts[rows, None].double(),
            vectors=self.x[rows],
        )
        bar = sent.outside[:, 0].amax(0, keepdim=True).clamp_min(-1).long()
        return sent.rows, sent.vectors.to(self.x.dtype), sent.state[:, 0].long(), bar


def _foreign_distances(x: Tensor, clusters: Tensor, rows: Tensor) -> Tensor:
    """Distance of the S points at `rows` to the nearest point of another cluster, (S,); infinite if there is none.

    The nearest point is found by expanded distances; its distance is then computed from differences.
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
            lowest = squared.min(1)
            nearer = lowest.values < best[some]
            best[some] = torch.where(nearer, lowest.values, best[some])
            nearest[some] = torch.where(nearer, lowest.indices + columns.start, nearest[some])
    for some in blocks(len(rows), x.shape[1], x.device):
        exact = (x[rows[some]] - x[nearest[some]]).square_().sum(1).sqrt()
        best[some] = torch.where(best[some].isfinite(), exact, torch.inf)
    return best


def _dense(points: object) -> Tensor:
    if not isinstance(points, DensePoints):
        raise TypeError("balls need dense points")
    return points.x


def _finite(x: Tensor, dtype: torch.dtype) -> Tensor:
    points = as_points(x)
    check_finite(points)
    return _dense(points).to(dtype)
