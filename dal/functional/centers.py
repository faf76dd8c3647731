"""Choosing points that stand for many: greedy k-center, k-means++ and k-means."""

from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from dal.functional.blocks import blocks
from dal.functional.neighbors import nearest
from dal.functional.points import DensePoints, Points, as_points, check_finite
from dal.functional.precision import true_float32


@dataclass(frozen=True, eq=False)
class Cover:
    """Points chosen to cover all others.

    Attributes:
        positions: (n,) int64, distinct, in the order in which they were chosen.
        distances: (n,) how far each was from everything chosen before it.
        radius: the largest distance that a point not chosen still has to its nearest center; 0 when none is left.
    """

    positions: Int64[Tensor, " n"]
    distances: Float[Tensor, " n"]
    radius: float


@dataclass(frozen=True, eq=False)
class Clusters:
    """A k-means clustering.

    Attributes:
        centers: (k, D).
        assignment: (N,) int64, the nearest center of every point.
        distances: (N,) the distance to it.
        inertia: the sum of its squares.
    """

    centers: Float[Tensor, "k D"]
    assignment: Int64[Tensor, " N"]
    distances: Float[Tensor, " N"]
    inertia: float


def k_center_greedy(
    points: Points | Float[Tensor, "N D"], n: int, *, centers: Points | Float[Tensor, "L D"] | None = None
) -> Cover:
    """n points, each the farthest from all centers and from those chosen before it, as a `Cover`.

    The largest distance left is at most twice the smallest possible. Without centers (None, or none of them) the first
    is the point farthest from the mean. Of equally far ones the first is taken; duplicates are chosen once all others
    are. Takes n passes over the points and holds O(N) numbers beside them.

    Gonzalez 1985, "Clustering to minimize the maximum intercluster distance"; for active learning Sener and Savarese
    2018, "Active Learning for Convolutional Neural Networks: A Core-Set Approach".

    Raises:
        ValueError: n is not within 1..N, or a point is not finite.

    >>> k_center_greedy(torch.tensor([[0.0], [1.0], [9.0]]), 2, centers=torch.tensor([[0.0]]))
    Cover(positions=tensor([2, 1]), distances=tensor([9., 1.]), radius=0.0)
    """
    points = _checked(points, n)
    if centers is None or not len(centers):
        covered, gap = False, points.squared_distances_to_mean()  # (N,)
    else:
        centers = as_points(centers)
        check_finite(centers)
        covered, gap = True, nearest(points, centers)[0]
    positions = torch.empty(n, dtype=torch.int64, device=points.device)
    squared = gap.new_empty(n)
    for step in range(n):
        pick = gap.argmax().view(1)  # the first of equals, by contract
        positions[step : step + 1], squared[step : step + 1] = pick, gap[pick]
        reached = points.squared_distances_to(points[pick])  # type: ignore[arg-type]
        gap = torch.minimum(gap, reached) if covered else reached
        gap[pick] = -1  # never again, even when every other distance is 0
        covered = True
    return Cover(positions, squared.sqrt(), float(gap.amax().clamp_min(0).sqrt()))


def kmeans_plusplus(
    points: Points | Float[Tensor, "N D"],
    n: int,
    *,
    generator: torch.Generator,
    first: Literal["largest", "uniform"] = "largest",
) -> Int64[Tensor, " n"]:
    """Positions of n points (n,), each drawn with probability proportional to its squared distance to those before it.

    The first is the one of largest norm (as in BADGE), or drawn uniformly (as in k-means). Once every point left is a
    duplicate of a chosen one, the rest are drawn uniformly.

    The draw: every point has a clock, exponentially distributed with mean 1, that runs at the speed of its squared
    distance; the first to run out is chosen, all speeds change, and the others run on. What is left of an exponential
    time is exponential again whatever has passed, so every draw has exactly the law stated, though each point's only
    random number is drawn at the start. This makes the choice stable: where the distances change a little (reduced
    precision, another device), each draw still has the same winner unless two clocks were about to run out together.

    Arthur and Vassilvitskii 2007, "k-means++: The Advantages of Careful Seeding"; for active learning Ash et al. 2020,
    "Deep Batch Active Learning by Diverse, Uncertain Gradient Lower Bounds".

    Args:
        points: N of them.
        n: how many, 1 <= n <= N.
        generator: on the CPU; N numbers are drawn from it, whatever n is.
        first: "largest" or "uniform".

    Raises:
        ValueError: n is not within 1..N, a point is not finite, or `first` is neither of the two.

    >>> kmeans_plusplus(torch.tensor([[0.0], [3.0], [3.0]]), 2, generator=torch.Generator().manual_seed(0))
    tensor([1, 0])
    """
    if first not in ("largest", "uniform"):
        raise ValueError(f"first must be 'largest' or 'uniform', not {first!r}")
    points = _checked(points, n)
    clock = torch.empty(len(points), dtype=torch.float64).exponential_(generator=generator).to(points.device)
    left = torch.ones_like(clock)  # 0 once chosen
    gap = points.squared_norms().double() if first == "largest" else left.clone()  # (N,)
    positions = torch.empty(n, dtype=torch.int64, device=points.device)
    for step in range(n):
        if step == 0 and first == "largest":
            pick = gap.argmax().view(1)
        else:
            pick, clock = _next_to_ring(clock, gap, left)
        positions[step : step + 1] = pick
        reached = points.squared_distances_to(points[pick]).double()  # type: ignore[arg-type]
        gap = reached if step == 0 else torch.minimum(gap, reached)
        left[pick] = gap[pick] = 0
    return positions


def _next_to_ring(clock: Tensor, speed: Tensor, left: Tensor) -> tuple[Tensor, Tensor]:
    """The first of the clocks (N,) left to run out at these speeds (1,), and what is then left of all of them (N,)."""
    top = speed.amax()
    speed = torch.where(top > 0, speed / top, left)  # all mass gone: uniform over those left
    time = torch.where(speed > 0, clock / speed, torch.inf)
    pick = time.argmin().view(1)
    return pick, (clock - time[pick] * speed).clamp_min_(0)


def distances_at_selection(points: Points | Float[Tensor, "n D"]) -> Float[Tensor, " n"]:
    """Distance of every point to the nearest of those before it in order, (n,); the first's is that to the origin.

    >>> distances_at_selection(torch.tensor([[3.0], [1.0], [0.5]]))
    tensor([3.0000, 2.0000, 0.5000])
    """
    points = as_points(points)
    squared = points.squared_norms()
    order = torch.arange(len(points), device=points.device)
    for rows in blocks(len(points), max(len(points), points.width), points.device):
        distance = points[rows].squared_distances(points[: rows.stop])  # type: ignore[arg-type]
        later = order[: rows.stop] >= order[rows, None]
        closest = distance.masked_fill_(later, torch.inf).amin(1)
        squared[rows] = torch.where(order[rows] > 0, closest, squared[rows])
    return squared.sqrt()


def kmeans(
    points: DensePoints | Float[Tensor, "N D"],
    k: int,
    *,
    generator: torch.Generator,
    iterations: int = 100,
    tolerance: float = 1e-4,
) -> Clusters:
    """k clusters of the points that locally minimise the sum of squared distances to their centers, as `Clusters`.

    Lloyd's algorithm from k-means++ seeds, until an iteration lowers the inertia by no more than a `tolerance` share of
    it, or `iterations` are over. A cluster that loses all its points starts again at the point farthest from its
    center; only where fewer than k points are distinct can a cluster stay empty.

    Lloyd 1982, "Least squares quantization in PCM".

    Raises:
        ValueError: k is not within 1..N, or a point is not finite.

    >>> kmeans(torch.tensor([[0.0], [2.0], [9.0]]), 2, generator=torch.Generator().manual_seed(0)).inertia
    2.0
    """
    dense = _checked(points, k)
    if not isinstance(dense, DensePoints):
        raise TypeError("k-means needs dense points: the mean of outer products is not an outer product")
    centers = dense[kmeans_plusplus(dense, k, generator=generator, first="uniform")]
    squared, assignment = nearest(dense, centers)
    for _ in range(iterations):
        before = float(squared.double().sum())
        centers = _centers(dense, assignment, squared, k)
        squared, assignment = nearest(dense, centers)
        if before - float(squared.double().sum()) <= tolerance * before:
            break
    return Clusters(centers.x, assignment, squared.sqrt(), float(squared.double().sum()))


def _centers(points: DensePoints, assignment: Tensor, squared: Tensor, k: int) -> DensePoints:
    """The mean of every cluster, and for empty ones the points farthest from their own center."""
    origin = points.x.mean(0)
    sums = points.x.new_zeros(k, points.width)
    with true_float32():
        for rows in blocks(len(points), max(points.width, k), points.device):
            members = torch.nn.functional.one_hot(assignment[rows], k).to(sums.dtype)  # (B, k)
            sums += members.T @ (points.x[rows] - origin)
    sizes = torch.bincount(assignment, minlength=k)
    means = sums / sizes.clamp_min(1)[:, None] + origin
    empty = (sizes == 0).nonzero().flatten()
    if len(empty):
        means[empty] = points.x[squared.argsort(descending=True, stable=True)[: len(empty)]]
    return DensePoints(means)


def _checked(points: Points | Tensor, n: int) -> Points:
    points = as_points(points)
    if not 1 <= n <= len(points):
        raise ValueError(f"{n} of {len(points)} points were asked for")
    check_finite(points)
    return points
