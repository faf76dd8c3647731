"""k-means clustering, and medoids of the clusters."""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from dal.functional.blocks import blocks, by_blocks
from dal.functional.checked_tensors import dense as as_dense
from dal.functional.checking import chosen, number, whole
from dal.functional.neighbors import k_nearest, nearest
from dal.functional.points import DensePoints, as_points, check_finite, finite_norms, row_squares, vectors
from dal.functional.precision import true_float32
from dal.functional.seeding import checked_weights, kmeans_plusplus

#: Number of seeding candidates per center.
OVERSAMPLING = 3

#: Maximum number of seeding candidates, whose mutual distances are held.
CANDIDATES = 2048

#: Number of sampled points per candidate that determine the candidate masses.
VOTERS = 48

#: Distances within this many rounding errors count as equal.
ROUNDING = 64


@dataclass(frozen=True, eq=False)
class Clusters:
    """A k-means clustering.

    Attributes:
        centers: (k, D) cluster centers.
        assignment: (N,) int64, index of the nearest center of each point.
        distances: (N,) distance of each point to that center.
        inertia: weighted sum of the squared distances.
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
    """k-means clustering: k centers that locally minimise the sum of squared distances to the points.

    Lloyd's algorithm runs until an iteration reduces the inertia by at most a share `tolerance`, or for `iterations`. A
    cluster that loses all its points restarts at the point farthest from its center; a cluster can stay empty only if
    fewer than k points are distinct.

    Seeding: k-means++ draws `OVERSAMPLING` * k candidates, each weighted by the number of sampled points to which it is
    nearest, and greedy k-means++ selects k of them, taking the best of 2 + log k draws in each step. Plain k-means++
    seeding often misses clusters that Lloyd's algorithm cannot recover. (For k above 682, where there would be more
    than `CANDIDATES` candidates, plain k-means++ is used.)

    The iterations use expanded distances; the returned assignment uses exact distances, and ties go to the first
    center. Extra memory: about 48 bytes per point, 32 bytes * k * D and 32 MiB.

    Lloyd 1982, "Least squares quantization in PCM"; Arthur and Vassilvitskii 2007, "k-means++: The Advantages of
    Careful Seeding"; for the candidates Bahmani et al. 2012, "Scalable K-Means++".

    Args:
        points: N points.
        k: number of clusters, 1 <= k <= N.
        generator: generator on the CPU, for the seeding.
        weights: (N,) non-negative weights of the points; ones by default.
        init: initial centers that replace the seeding, as k positions among the points or as k vectors.
        iterations: maximum number of iterations of Lloyd's algorithm.
        tolerance: smallest relative decrease of the inertia that continues the iterations.

    Raises:
        ValueError: k is not within 1..N, a point or weight is not finite, or `init` does not hold k centers.

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
    """Position of the member nearest the center of each cluster, (k,); N for empty clusters. Ties go to the first.

    The two rows of a cluster of two are equally near its center, and rounding must not decide between them. Distances
    therefore count as equal within the rounding errors of the center and of the distance.

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
    slack = row_squares(clusters.centers).sqrt().mul_(ROUNDING / 4 * eps)  # (k,) rounding errors of the centers
    wins = distances <= (closest * (1 + ROUNDING * eps) + slack)[clusters.assignment]  # (N,)
    rows = torch.arange(N, device=wins.device)
    first = torch.full((k,), N, device=wins.device)
    return first.scatter_reduce(0, clusters.assignment, rows.where(wins, rows.new_tensor(N)), "amin")


@torch.no_grad()
def distinct_medoids(points: DensePoints | Float[Tensor, "N D"], clusters: Clusters) -> Int64[Tensor, " k"]:
    """k distinct rows (k,), one for each cluster: its medoid, or for an empty cluster the nearest row not yet taken.

    Empty clusters take their rows last, in order; ties go to the first row that is left.

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
    """Initial centers (k, D) from the `init` argument."""
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
    """Positions of k initial centers, (k,)."""
    count = min(OVERSAMPLING * k, len(points))
    if k == 1 or not k < count <= CANDIDATES:
        return kmeans_plusplus(points, k, generator=generator, first="uniform", weights=weights)
    positions = kmeans_plusplus(points, count, generator=generator, first="uniform", weights=weights)
    candidates = points[positions]
    mass = _masses(points, candidates, weights, generator)
    return positions[_greedy(candidates, mass, k, generator)]


def _masses(points: DensePoints, candidates: DensePoints, weights: Tensor | None, generator: torch.Generator) -> Tensor:
    """Total weight of the sampled points to which each of m candidates is nearest, (m,) float64."""
    m, voters = len(candidates), VOTERS * len(candidates)
    sample = None
    if voters < len(points):
        sample = torch.randperm(len(points), generator=generator)[:voters].to(points.device)
    search = _NearestCenter(candidates.x, candidates.x.mean(0))
    mass = torch.zeros(m, dtype=torch.float64, device=points.device)
    for block in blocks(min(voters, len(points)), _width(points, m), points.device):
        rows = block if sample is None else sample[block]
        assignment = search.nearest(points.x[rows])[1]
        mass += _sizes(assignment, m, None if weights is None else weights[rows])
    return mass


def _greedy(points: DensePoints, mass: Tensor, k: int, generator: torch.Generator) -> Tensor:
    """Greedy k-means++ on m points with masses (m,): positions of k points, (k,).

    Each step takes the best of 2 + log k points drawn from the k-means++ distribution, without synchronisation.
    """
    m, trials = len(points), 2 + int(math.log(k))
    table = by_blocks(lambda rows: points[rows].squared_distances(points), m, m, points.device).double()
    # All random numbers at once: one transfer to the device instead of one in each step.
    clocks = torch.empty(k, m, dtype=torch.float64).exponential_(generator=generator).to(points.device)
    gap = torch.full_like(mass, torch.inf)
    rate, free = mass, torch.ones_like(mass)
    picks = []
    for clock in clocks:
        # Points with the smallest exponential times / rates are draws without replacement in proportion to the rates.
        drawn = (clock / (rate.clamp_min(1e-300) * free)).topk(trials, largest=False).indices  # (t,)
        left = torch.minimum(table.index_select(0, drawn), gap)  # (t, m)
        best = (left @ mass).argmin().view(1)
        pick, gap = drawn.index_select(0, best), left.index_select(0, best).squeeze(0)
        rate, free = mass * gap, free.index_fill(0, pick, 0)
        picks.append(pick)
    return torch.cat(picks)


class _NearestCenter:
    """Nearest-center search relative to an origin, which is folded into a constant so that points are not copied."""

    def __init__(self, centers: Tensor, origin: Tensor) -> None:
        self.centers = centers - origin
        self.constant = row_squares(self.centers) / 2 + self.centers @ origin

    def nearest(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Nearest center of B points: half the squared distance minus half the point's square, and its index, (B,)."""
        with true_float32():
            best = torch.addmm(self.constant, x, self.centers.T, alpha=-1).min(1)
        return best.values, best.indices


class _Lloyd:
    """Iterations of Lloyd's algorithm, each in one pass over the points."""

    def __init__(self, points: DensePoints, weights: Tensor | None) -> None:
        self.points, self.weights = points, weights
        self.origin = points.x.mean(0)
        self.squares = torch.empty(len(points), dtype=points.x.dtype, device=points.device)  # relative to the origin
        for rows in blocks(len(points), points.width, points.device):
            self.squares[rows] = row_squares(points.x[rows] - self.origin)

    def step(self, centers: Tensor) -> tuple[Tensor, float]:
        """Means (k, D) of the points nearest to each center, and the inertia with respect to the given centers.

        Sums within a block use the dtype of the points, sums over blocks float64.
        """
        k, search = len(centers), _NearestCenter(centers, self.origin)
        sums = torch.zeros(centers.shape, dtype=torch.float64, device=centers.device)
        sizes = sums.new_zeros(k)
        gap = sums.new_empty(len(self.points))  # squared distance, times weight
        for rows in blocks(len(self.points), _width(self.points, k), self.points.device):
            x = self.points.x[rows]
            half, assignment = search.nearest(x)
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
    """Width for `blocks` such that a block holds about 2,000 points, fewer if there are many centers."""
    return -(-max(points.width, k) // 4)


def _grouped(values: Tensor, assignment: Tensor, k: int) -> Tensor:
    """Sums of the values (B, V) within each of k groups, (k, V).

    On an accelerator, `index_add_` adds in arbitrary order, so sums would differ between runs; a matrix product is
    deterministic.
    """
    if values.device.type == "cpu":
        return values.new_zeros(k, values.shape[1]).index_add_(0, assignment, values)
    with true_float32():
        return torch.nn.functional.one_hot(assignment, k).to(values.dtype).T @ values


def _sizes(assignment: Tensor, k: int, weights: Tensor | None) -> Tensor:
    """Number of members of each of k groups, or their total weight, (k,) float64."""
    if weights is None:
        return torch.bincount(assignment, minlength=k).double()
    return _grouped(weights[:, None], assignment, k).squeeze(1)
