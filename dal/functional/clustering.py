"""k-means: clusters around their means."""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from dal.functional.blocks import blocks
from dal.functional.neighbors import nearest
from dal.functional.points import DensePoints, checked
from dal.functional.precision import true_float32
from dal.functional.seeding import kmeans_plusplus


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
    dense = checked(points, k)
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
