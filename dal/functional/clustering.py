"""k-means: clusters around their means, and the rows that stand for them."""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from dal.functional.blocks import blocks, by_blocks
from dal.functional.checking import chosen, number, whole
from dal.functional.checking import dense as as_dense
from dal.functional.neighbors import k_nearest, nearest
from dal.functional.points import DensePoints, as_points, check_finite, finite_norms, row_squares, vectors
from dal.functional.precision import true_float32
from dal.functional.seeding import checked_weights, kmeans_plusplus

#: Candidates drawn for every center: the best of them start the clusters.
OVERSAMPLING = 3

#: Candidates at most, whose distances to each other are held.
CANDIDATES = 2048

#: Points per candidate that say how much it stands for.
VOTERS = 48

#: Distances that differ by fewer roundings than this may be equal.
ROUNDING = 64


@dataclass(frozen=True, eq=False)
class Clusters:
    """A k-means clustering.

    Attributes:
        centers: (k, D).
        assignment: (N,) int64, the nearest center of every point.
        distances: (N,) the distance to it.
        inertia: the sum of its squares, each times the weight of its point.
    """

    centers: Float[Tensor, "k D"]
    assignment: Int64[Tensor, " N"]
    distances: Float[Tensor, " N"]
    inertia: float


@torch.no_grad()
def kmeans(
    points: DensePoints | Float[Tensor, "N D"],
    k: int,
    *,
    generator: torch.Generator,
    weights: Float[Tensor, " N"] | None = None,
    init: Int64[Tensor, " k"] | Float[Tensor, "k D"] | None = None,
    iterations: int = 100,
    tolerance: float = 1e-4,
) -> Clusters:
    """k clusters of the points that locally minimise the sum of squared distances to their centers, as `Clusters`.

    Lloyd's algorithm, until an iteration lowers the inertia by no more than a `tolerance` share of it, or `iterations`
    are over. A cluster that loses all its points starts again at the point farthest from its center; only where fewer
    than k points are distinct can a cluster stay empty.

    It starts from k of `OVERSAMPLING` * k candidates that k-means++ draws. Each stands for as many of a sample of the
    points as it is nearest to, and greedy k-means++ chooses among them: the best of 2 + log k drawn at every step. A
    plain k-means++ seeding misses clusters that no iteration of Lloyd's finds again. (Where the candidates would be
    more than `CANDIDATES`, for k above 682, it is the plain one.)

    Within the iterations the expanded form of the distances decides; the clusters returned are by exact distances, of
    equally near centers the first. Besides the points it holds about 48 bytes per point, 32 bytes * k * D and 32 MiB.

    Lloyd 1982, "Least squares quantization in PCM"; Arthur and Vassilvitskii 2007, "k-means++: The Advantages of
    Careful Seeding"; for the candidates Bahmani et al. 2012, "Scalable K-Means++".

    Args:
        points: N of them.
        k: how many clusters, 1 <= k <= N.
        generator: on the CPU.
        weights: (N,) not negative: how much every point counts, 1 by default.
        init: where to start instead, as k positions among the points or as k centers.
        iterations: of Lloyd's algorithm at most.
        tolerance: share of the inertia.

    Raises:
        ValueError: k is not within 1..N, a point or weight is not finite, or `init` does not hold k starts.

    >>> kmeans(torch.tensor([[0.0], [2.0], [9.0]]), 2, generator=torch.Generator().manual_seed(0)).inertia
    2.0
    """
    dense = DensePoints(vectors(as_points(points), "k-means"))
    k, iterations = chosen(k, len(dense), name="k"), whole(iterations, "iterations", 0)
    tolerance = number(tolerance, "tolerance", 0)
    finite_norms(dense)
    weights = checked_weights(weights, len(dense), dense.device)
    if init is None:
        centers = dense.x[_seeds(dense, k, weights, generator)]
    else:
        centers = _given(dense, k, init)
    lloyd, inertias = _Lloyd(dense, weights), []
    for _ in range(iterations):
        centers, inertia = lloyd.step(centers)
        inertias.append(inertia)
        if len(inertias) > 1 and inertias[-2] - inertia <= tolerance * inertias[-2]:
            break
    squared, assignment = nearest(dense, DensePoints(centers))
    total = squared.double() if weights is None else squared * weights
    return Clusters(centers, assignment, squared.sqrt(), float(total.sum()))


@torch.no_grad()
def medoids(points: DensePoints | Float[Tensor, "N D"], clusters: Clusters) -> Int64[Tensor, " k"]:
    """The row nearest the center of every cluster among its members (k,), the first of equals; N where it has none.

    The two rows of a cluster of two are equally near: which of them rounding favours must not decide. So distances
    count as equal that rounding of the center, or of the distance, can have made different.

    >>> x = torch.tensor([[0.0], [2.0], [3.0], [9.0]])
    >>> medoids(x, kmeans(x, 2, generator=torch.Generator().manual_seed(0), init=torch.tensor([0, 3])))
    tensor([1, 3])
    """
    check_finite(as_points(points))
    N, k = len(points), len(clusters.centers)
    if len(clusters.assignment) != N:
        raise ValueError(f"the clusters are of {len(clusters.assignment)} points, not of these {N}")
    distances, eps = clusters.distances, torch.finfo(clusters.distances.dtype).eps
    closest = distances.new_full((k,), torch.inf)
    closest = closest.scatter_reduce(0, clusters.assignment, distances, "amin")
    slack = row_squares(clusters.centers).sqrt().mul_(ROUNDING / 4 * eps)  # (k,) of the centers' own rounding
    wins = distances <= (closest * (1 + ROUNDING * eps) + slack)[clusters.assignment]  # (N,)
    rows = torch.arange(N, device=wins.device)
    first = torch.full((k,), N, device=wins.device)
    return first.scatter_reduce(0, clusters.assignment, rows.where(wins, rows.new_tensor(N)), "amin")


@torch.no_grad()
def distinct_medoids(points: DensePoints | Float[Tensor, "N D"], clusters: Clusters) -> Int64[Tensor, " k"]:
    """k different rows (k,), one for every cluster: its medoid, or without members the nearest row not yet taken.

    Clusters without members come last, in order, and of equally near rows each takes the first that is left.

    >>> x = torch.tensor([[1.0], [1.0], [9.0]])
    >>> distinct_medoids(x, kmeans(x, 3, generator=torch.Generator().manual_seed(0), init=torch.tensor([0, 1, 2])))
    tensor([0, 1, 2])
    """
    rows, N = medoids(points, clusters), len(points)
    empty = (rows == N).nonzero().flatten()
    if not len(empty):
        return rows
    taken = set(rows.tolist())
    near = k_nearest(DensePoints(clusters.centers[empty]), min(N, len(rows)), among=as_points(points))
    for cluster, candidates in zip(empty.tolist(), near.indices.tolist(), strict=True):
        rows[cluster] = row = next(row for row in candidates if row not in taken)
        taken.add(row)
    return rows


def _given(points: DensePoints, k: int, init: Tensor) -> Tensor:
    """The centers (k, D) that a caller wants to start from."""
    centers = as_dense(init, "init").to(points.device)
    if not centers.is_floating_point():
        if centers.numel() and not bool(((centers >= 0) & (centers < len(points))).all()):
            raise ValueError(f"init must hold positions among the {len(points)} points")
        centers = points.x[centers]
    if centers.shape != (k, points.width):
        raise ValueError(f"init must hold {k} positions or {k} centers of {points.width} numbers")
    finite_norms(DensePoints(centers))
    return centers.to(points.x.dtype)


def _seeds(points: DensePoints, k: int, weights: Tensor | None, generator: torch.Generator) -> Tensor:
    """Positions of k points to start from, (k,)."""
    count = min(OVERSAMPLING * k, len(points))
    if k == 1 or not k < count <= CANDIDATES:
        return kmeans_plusplus(points, k, generator=generator, first="uniform", weights=weights)
    positions = kmeans_plusplus(points, count, generator=generator, first="uniform", weights=weights)
    candidates = points[positions]
    mass = _stand_for(points, candidates, weights, generator)
    return positions[_greedy(candidates, mass, k, generator)]


def _stand_for(
    points: DensePoints, candidates: DensePoints, weights: Tensor | None, generator: torch.Generator
) -> Tensor:
    """How much of a sample of the points every candidate is nearest to, (m,) float64."""
    m, voters = len(candidates), VOTERS * len(candidates)
    sample = None
    if voters < len(points):
        sample = torch.randperm(len(points), generator=generator)[:voters].to(points.device)
    view = _View(candidates.x, candidates.x.mean(0))
    mass = torch.zeros(m, dtype=torch.float64, device=points.device)
    for block in blocks(min(voters, len(points)), _width(points, m), points.device):
        rows = block if sample is None else sample[block]
        assignment = view.nearest(points.x[rows])[1]
        mass += _sizes(assignment, m, None if weights is None else weights[rows])
    return mass


def _greedy(points: DensePoints, mass: Tensor, k: int, generator: torch.Generator) -> Tensor:
    """Which k of m points of some mass (m,) leave a small sum of mass times squared distance, (k,).

    At every step the best of 2 + log k that are drawn by the k-means++ law, without a question to the host.
    """
    m, trials = len(points), 2 + int(math.log(k))
    table = by_blocks(lambda rows: points[rows].squared_distances(points), m, m, points.device).double()
    clocks = torch.empty(k, m, dtype=torch.float64).exponential_(generator=generator).to(points.device)
    gap = torch.full_like(mass, torch.inf)
    pull, free = mass, torch.ones_like(mass)
    picks = []
    for clock in clocks:
        drawn = (clock / (pull.clamp_min(1e-300) * free)).topk(trials, largest=False).indices  # (t,)
        left = torch.minimum(table.index_select(0, drawn), gap)  # (t, m)
        best = (left @ mass).argmin().view(1)
        pick, gap = drawn.index_select(0, best), left.index_select(0, best).squeeze(0)
        pull, free = mass * gap, free.index_fill(0, pick, 0)
        picks.append(pick)
    return torch.cat(picks)


class _View:
    """k centers (k, D) seen from an origin, which is folded into a constant: points far from zero are not copied."""

    def __init__(self, centers: Tensor, origin: Tensor) -> None:
        self.centers = centers - origin
        self.constant = row_squares(self.centers) / 2 + self.centers @ origin

    def nearest(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Half the squared distance of B points to their nearest center less half their own square, and which, (B,)."""
        with true_float32():
            best = torch.addmm(self.constant, x, self.centers.T, alpha=-1).min(1)
        return best.values, best.indices


class _Lloyd:
    """The iterations of Lloyd's algorithm, each in one pass over the points."""

    def __init__(self, points: DensePoints, weights: Tensor | None) -> None:
        self.points, self.weights = points, weights
        self.origin = points.x.mean(0)
        self.squares = torch.empty(len(points), dtype=points.x.dtype, device=points.device)  # seen from there
        for rows in blocks(len(points), points.width, points.device):
            self.squares[rows] = row_squares(points.x[rows] - self.origin)

    def step(self, centers: Tensor) -> tuple[Tensor, float]:
        """The means (k, D) of the points nearest to each of these centers, and the inertia about these.

        The sums of a block are in the points' own type, those over the blocks in float64.
        """
        k, view = len(centers), _View(centers, self.origin)
        sums = torch.zeros(centers.shape, dtype=torch.float64, device=centers.device)
        sizes = sums.new_zeros(k)
        gap = sums.new_empty(len(self.points))  # squared distance, times weight
        for rows in blocks(len(self.points), _width(self.points, k), self.points.device):
            x = self.points.x[rows]
            half, assignment = view.nearest(x)
            gap[rows] = (self.squares[rows] + 2 * half).clamp_min_(0)
            weights = None if self.weights is None else self.weights[rows]
            if weights is not None:
                x = x * weights[:, None].to(x.dtype)
                gap[rows] *= weights
            sums += _grouped(x, assignment, k)
            sizes += _sizes(assignment, k, weights)
        means = (sums / sizes.where(sizes > 0, 1)[:, None]).to(centers.dtype)
        empty = (sizes == 0).nonzero().flatten()
        if len(empty):
            means[empty] = self.points.x[gap.argsort(descending=True, stable=True)[: len(empty)]]
        return means, float(gap.sum())


def _width(points: DensePoints, k: int) -> int:
    """A width for `blocks` of about 2,000 points, or fewer where there are many centers."""
    return -(-max(points.width, k) // 4)


def _grouped(values: Tensor, assignment: Tensor, k: int) -> Tensor:
    """The sums of the values (B, V) of every one of k groups, (k, V).

    An accelerator adds to a group in any order, so that sums would differ from run to run; a matrix product does not.
    """
    if values.device.type == "cpu":
        return values.new_zeros(k, values.shape[1]).index_add_(0, assignment, values)
    with true_float32():
        return torch.nn.functional.one_hot(assignment, k).to(values.dtype).T @ values


def _sizes(assignment: Tensor, k: int, weights: Tensor | None) -> Tensor:
    """How many there are of every one of k groups, or how much weight (B,), (k,) float64."""
    if weights is None:
        return torch.bincount(assignment, minlength=k).double()
    return _grouped(weights[:, None], assignment, k).squeeze(1)
