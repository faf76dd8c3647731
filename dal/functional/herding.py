"""Generalised coverage with a Gaussian kernel (MaxHerding)."""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from dal.functional import blocks as sizes
from dal.functional.blocks import blocks
from dal.functional.checked_tensors import aligned, not_negative
from dal.functional.checking import MAX_SCALE, MIN_SCALE, chosen, number
from dal.functional.neighbors import k_nearest
from dal.functional.points import DensePoints, as_points, check_finite, checked, vectors
from dal.functional.precision import true_float32
from dal.functional.window import WindowSchedule

#: Error bound of an expanded squared distance, in units of eps times the sum of the squared norms.
ROUNDING = 32

#: Gains are rounded to multiples of this, which is far above the effect of summation order. Gains that differ only by
#: summation order may still be rounded to neighbouring multiples, so neighbouring multiples count as equal.
_GRAIN = 2.0**-44


@dataclass(frozen=True, eq=False)
class HerdingState:
    """Result of `max_herding`.

    Attributes:
        positions: (n,) int64, distinct, in the order of selection.
        gains: (n,) increase of the coverage by each selected point.
        coverage: weighted mean over the targets of the similarity to the most similar center or selected point,
            between 0 and the mean weight.
    """

    positions: Int64[Tensor, " n"]
    gains: Float[Tensor, " n"]
    coverage: float


@torch.no_grad()
def max_herding(
    points: DensePoints | Float[Tensor, "N D"],
    n: int,
    *,
    targets: Float[Tensor, "M D"] | None = None,
    centers: Float[Tensor, "L D"] | None = None,
    weights: Float[Tensor, " M"] | None = None,
    sigma: float = 1.0,
) -> HerdingState:
    """Select n points that greedily maximise the targets' mean similarity to the nearest selected point.

    The similarity is `k(x, y) = exp(-|x - y|^2 / sigma^2)`. Each step selects the point of largest
    `gain(i) = mean_j w_j max(0, k(x_i, y_j) - c_j)`, with c_j the similarity of target j to the most similar center or
    selected point. Ties go to the point most similar to all targets, then to the lowest position; once no point has a
    gain, the order of the remaining points is arbitrary.

    Gains never increase as points are selected, so an earlier gain is an upper bound (Minoux 1978). The result is that
    of an exhaustive search in float64, but only points whose bound exceeds the best known gain are evaluated again. One
    pass of N M D multiplications gives the first bounds. Extra memory: `10 N + 3 M D` numbers and blocks.

    Bae, Noh and Sutherland 2024, "Generalized Coverage for More Robust Low-Budget Active Learning"; with weights Bae,
    Oliveira and Sutherland 2025, "Uncertainty Herding: One Active Learning Method for All Label Budgets".

    Args:
        points: N candidates.
        n: number of points to select, 1 <= n <= N.
        targets: M points to cover; the candidates themselves by default.
        centers: L points that are selected already.
        weights: (M,) non-negative weights of the targets; ones by default.
        sigma: bandwidth of the kernel, from 1e-16 to 1e16.

    Raises:
        ValueError: n is not within 1..N, sigma is out of range, a weight is negative, or a number is not finite.

    >>> max_herding(torch.tensor([[0.0], [1.0], [2.0], [9.0]]), 2).positions
    tensor([1, 3])
    """
    x = vectors(checked(points, n), "herding")
    n, sigma = chosen(n, len(x)), number(sigma, "sigma", MIN_SCALE, MAX_SCALE)
    y = x if targets is None else vectors(as_points(targets), "herding").to(x.dtype)
    check_finite(DensePoints(y))
    if weights is None:
        weights = y.new_ones(len(y))
    else:
        weights = not_negative(weights, "weights")
        aligned(weights=weights, targets=y)
    similarity = torch.zeros(len(y), dtype=torch.float64, device=x.device)  # (M,)
    if centers is not None and len(centers):
        centers = vectors(as_points(centers), "herding").to(x.dtype)
        nearest = k_nearest(y, 1, among=centers).indices.squeeze(1)
        for rows in blocks(len(y), y.shape[1], y.device):
            squared = (y[rows].double() - centers[nearest[rows]].double()).square_().sum(1)
            similarity[rows] = squared.mul_(-1 / sigma**2).exp_()
    return _Herder(x, y, weights.double() / max(1, len(y)), similarity, sigma).choose(n)


class _Herder:
    """Lazy greedy search, with an upper bound of every point's gain.

    Attributes:
        bounds: (N,) float64 upper bounds of the gains; -1 for selected points.
        seen: (N,) twice the number of picks when the bound was last computed, plus 1 if it was exact.
        made: number of points selected.
    """

    def __init__(self, x: Tensor, y: Tensor, weights: Tensor, similarity: Tensor, sigma: float) -> None:
        self.x, self.y, self.weights, self.similarity, self.sigma = x, y, weights, similarity, sigma
        self.shift = y.mean(0) if len(y) else x.new_zeros(x.shape[1])
        self.moved = y - self.shift  # avoids cancellation far from the origin
        self.norms = self.moved.square().sum(1)  # (M,)
        self.double = y.double() - self.shift.double()
        self.pace, self.made = WindowSchedule(x.device), 0
        self.picks: list[Tensor] = []
        self.gains: list[Tensor] = []
        self.bounds = torch.empty(len(x), dtype=torch.float64, device=x.device)
        self.seen = torch.zeros(len(x), dtype=torch.int64, device=x.device)
        self._bound(torch.arange(len(x), device=x.device))

    def choose(self, n: int) -> HerdingState:
        """Select n points: from the window while its best point exceeds the bounds of all others."""
        while self.made < n:
            rows, bar = self._highest()
            kernel = self._kernel(self.x[rows])  # (W, M)
            total, room = self._rounded(kernel @ self.weights), torch.empty_like(kernel)
            whole = True
            while self.made < n and whole:
                whole = self._pick_block(rows, bar, kernel, total, room, min(self.pace.size, n - self.made))
            if self.made < n:
                pick = self._search()
                self._take(pick, self.bounds[pick], self._kernel(self.x[pick]))
        coverage = float(self.weights @ self.similarity)
        return HerdingState(torch.cat(self.picks), torch.cat(self.gains).to(self.x.dtype), coverage)

    def _highest(self) -> tuple[Tensor, Tensor]:
        """The W points of highest bound, by position, with W as large as a block allows, and the next bound, ()."""
        elements = sizes.ELEMENTS if self.x.device.type == "cpu" else sizes.ACCELERATOR_ELEMENTS
        W = max(16, elements // max(1, len(self.y)))
        highest = self.bounds.topk(min(W + 1, len(self.bounds)))
        bar = highest.values[-1] if len(self.bounds) > W else highest.values.new_tensor(-1)
        return highest.indices[:W].sort().values, bar

    def _pick_block(self, rows: Tensor, bar: Tensor, kernel: Tensor, total: Tensor, room: Tensor, count: int) -> bool:
        """Make up to `count` picks from the window until a point outside may be better. Returns whether all are valid.

        All picks are made before the host looks at them once; those from the first invalid one on are discarded.
        """
        free, similarity = self.bounds[rows] >= 0, self.similarity
        steps, places = [], torch.empty(count, dtype=torch.int64, device=rows.device)
        holds = torch.empty_like(places)
        for step in range(count):
            more = torch.sub(kernel, similarity, out=room).clamp_min_(0)
            gains = self._rounded(more @ self.weights).masked_fill_(~free, -1)
            best = gains.amax()
            at = _first_of_largest(total.masked_fill(gains < best - _GRAIN, -1))
            places[step : step + 1], holds[step] = at, (best >= bar) & ((bar <= 0) | (best - _GRAIN > bar))
            steps.append(gains)
            similarity = torch.maximum(similarity, kernel.index_select(0, at).squeeze(0))
            free = free.index_fill(0, at, False)
        good = int(holds.cumprod(0).sum())
        if good:
            picks = places[:good]
            self._take(rows[picks], torch.stack(steps[:good]).gather(1, picks[:, None]).squeeze(1), kernel[picks])
        if good < count:  # the gains of the first invalid step account for all valid picks, so they are exact bounds
            self.bounds[rows] = steps[good]
            self.seen[rows] = 2 * self.made + 1
        return self.pace.all_held(count, good)

    def _take(self, picks: Tensor, gains: Tensor, kernel: Tensor) -> None:
        """Select the points at these positions, in this order, with their gains and their kernel rows (P, M)."""
        self.picks.append(picks)
        self.gains.append(gains.clamp_min(0))
        self.made += len(picks)
        self.similarity = torch.maximum(self.similarity, kernel.amax(0))
        self.bounds[picks] = -1

    def _search(self) -> Tensor:
        """The point of largest gain among all, (1,): evaluates the highest bounds, twice as many in each iteration.

        A stale bound is first recomputed in the precision of the points, and exactly only if it is still high enough.
        """
        now, step = 2 * self.made, 2 * sizes.ELEMENTS // max(1, len(self.y)) + 16
        while True:
            exact = self.seen == now + 1
            known = (self.bounds.masked_fill(~exact, -1).amax() - _GRAIN).clamp_min(_GRAIN / 2)
            highest = self.bounds.masked_fill(exact, -1).topk(min(step, len(exact)))
            likely = highest.values >= known  # a prefix, since the values are sorted
            stale = likely & (self.seen[highest.indices] < now)
            count, old = torch.stack([likely.sum(), stale.sum()]).tolist()
            if not count:
                return self._first_of_equals()
            rows = highest.indices[stale[:count].argsort(descending=True, stable=True)]
            self._bound(rows[:old])
            self._settle(rows[old:])
            step *= 2

    def _first_of_equals(self) -> Tensor:
        """Among the points of highest bound, the one most similar to all targets, (1,)."""
        rows = (self.bounds >= self.bounds.amax() - _GRAIN).nonzero().flatten()
        if len(rows) == 1:
            return rows
        total = self.bounds.new_empty(len(rows))
        for some in blocks(len(rows), max(len(self.y), self.x.shape[1]), self.x.device):
            total[some] = self._rounded(self._kernel(self.x[rows[some]]) @ self.weights)
        return rows[_first_of_largest(total)]

    def _bound(self, rows: Tensor) -> None:
        """Compute bounds for the points at `rows`: distances are lowered by the maximum rounding error."""
        scale = 1 / self.sigma**2
        now = self.similarity.to(self.x.dtype)
        weights = self.weights.to(self.x.dtype)
        for some in blocks(len(rows), max(len(self.y), self.x.shape[1]), self.x.device):
            moved = self.x[rows[some]] - self.shift  # (B, D)
            norms = moved.square().sum(1)[:, None] + self.norms  # (B, M)
            norms.mul_(-scale * (1 - ROUNDING * torch.finfo(norms.dtype).eps))
            with true_float32():
                kernel = norms.addmm_(moved, self.moved.T, alpha=2 * scale).clamp_max_(0).exp_()
                gains = kernel.sub_(now).clamp_min_(0) @ weights
            # Raised by more than the rounding of the sum, so that it stays an upper bound of the exact gain.
            self.bounds[rows[some]] = gains.double() * (1 + 1e-5) + 1e-7 * self.weights.sum()
        self.seen[rows] = 2 * self.made

    def _settle(self, rows: Tensor) -> None:
        """Compute the exact gains of the points at `rows`."""
        for some in blocks(len(rows), max(len(self.y), self.x.shape[1]), self.x.device):
            more = (self._kernel(self.x[rows[some]]) - self.similarity).clamp_min_(0)  # (B, M)
            self.bounds[rows[some]] = self._rounded(more @ self.weights)
        self.seen[rows] = 2 * self.made + 1

    def _kernel(self, x: Tensor) -> Tensor:
        """Similarity of B points to each target, in float64, (B, M)."""
        moved = x.double() - self.shift.double()
        norms = moved.square().sum(1)[:, None] + self.double.square().sum(1)
        squared = norms.addmm_(moved, self.double.T, alpha=-2).clamp_min_(0)
        return squared.mul_(-1 / self.sigma**2).exp_()

    @staticmethod
    def _rounded(sums: Tensor) -> Tensor:
        # To a grid, so that sums in another order (other block sizes, another device) give the same ties.
        return sums.div_(_GRAIN).round_().mul_(_GRAIN)


def _first_of_largest(rounded: Tensor) -> Tensor:
    """The first position whose value is the largest one or its neighbouring multiple of the grain, (1,)."""
    return (rounded >= rounded.amax() - _GRAIN).to(torch.uint8).argmax().view(1)


@torch.no_grad()
def closest_distance(points: DensePoints | Float[Tensor, "N D"], *, beyond: float = 0.0) -> float:
    """Smallest distance between two points that is larger than `beyond`; infinite if there is none.

    Extra memory: blocks of the distances.

    Raises:
        ValueError: a point is not finite.

    >>> closest_distance(torch.tensor([[0.0], [0.0], [3.0], [7.0]]))
    3.0
    """
    dense, beyond = as_points(points), number(beyond, "beyond", 0)
    check_finite(dense)
    best = vectors(dense, "herding").new_full((), torch.inf)
    for rows in blocks(len(dense), max(len(dense), dense.width), dense.device):
        squared = dense[rows].squared_distances(dense)  # type: ignore[arg-type]
        best = torch.minimum(best, squared.masked_fill_(squared <= beyond**2, torch.inf).amin())
    return float(best.sqrt())
