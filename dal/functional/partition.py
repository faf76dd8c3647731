"""k-means of large point sets, fitted to a random sample."""

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from dal.functional.checking import whole
from dal.functional.clustering import kmeans
from dal.functional.drawing import some_rows
from dal.functional.neighbors import k_nearest
from dal.functional.points import checked, vectors


@torch.no_grad()
def partition(
    x: Float[Tensor, "N D"], k: int, *, at_most: int = 50_000, generator: torch.Generator
) -> Int64[Tensor, " N"]:
    """k-means cluster index of each point, (N,).

    With more than `at_most` points, the centers are fitted to a random sample of that size (at least k points), and
    each point is assigned to the nearest center, so the cost of the iterations does not grow with N.

    Raises:
        ValueError: k is not within 1..N, or a point is not finite.
        TypeError: the points are not plain vectors.

    >>> partition(torch.tensor([[0.0], [1.0], [9.0]]), 1, generator=torch.Generator())
    tensor([0, 0, 0])
    """
    x = vectors(checked(x, k, "k"), "partition")
    some = some_rows(len(x), max(whole(at_most, "at_most", 1), k), generator=generator)
    if len(some) == len(x):
        return kmeans(x, k, generator=generator).assignment
    centers = kmeans(x[some.to(x.device)], k, generator=generator).centers
    return k_nearest(x, 1, among=centers).indices.squeeze(1)
