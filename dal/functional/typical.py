"""Typicality: a density estimate from the distances to nearest neighbours."""

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from dal.functional.checked_tensors import integers
from dal.functional.checking import whole
from dal.functional.neighbors import k_nearest
from dal.functional.points import Points, as_points, check_finite

#: Added to mean distances, so that points surrounded by duplicates have a finite typicality, 1e5.
SOFTENING = 1e-5


@torch.no_grad()
def typicality(
    points: Points | Float[Tensor, "N D"], neighbors: int = 20, *, among: Int64[Tensor, " M"] | None = None
) -> Float[Tensor, " N"]:
    """Inverse mean distance of each point to its nearest neighbours, (N,), between 0 and 1e5; high means typical.

    `1 / (1e-5 + mean distance to the k nearest)`, with k = `neighbors` or the number of other points if that is
    smaller; 0 without other points. Takes N M D multiplications.

    Hacohen, Dekel and Weinshall 2022, "Active Learning on a Budget: Opposite Strategies Suit High and Low Budgets".

    Args:
        points: N points.
        neighbors: number k of nearest neighbours, at least 1.
        among: indices of the M points among which neighbours are searched; all points by default.

    Raises:
        ValueError: `neighbors` is below 1, or a point is not finite.

    >>> typicality(torch.tensor([[0.0], [1.0], [5.0]]), 1)
    tensor([1.0000, 1.0000, 0.2500])
    """
    neighbors, points = whole(neighbors, "neighbors", 1), as_points(points)
    if among is None:
        return _typicality(points, neighbors, None)
    among = integers(among, "among", 0, len(points))
    inside = torch.zeros(len(points), dtype=torch.bool, device=points.device)
    inside[among] = True
    chosen = points[inside.nonzero().flatten()]
    out = points.squared_norms()
    out[inside] = _typicality(chosen, neighbors, None)
    out[~inside] = _typicality(points[(~inside).nonzero().flatten()], neighbors, chosen)
    return out


def _typicality(points: Points, neighbors: int, among: Points | None) -> Tensor:
    """`typicality` with neighbours among other points, or without any given among the points themselves."""
    k = min(neighbors, len(points) - 1 if among is None else len(among))
    if k < 1 or not len(points):
        check_finite(points)
        return torch.zeros_like(points.squared_norms())
    return 1 / (k_nearest(points, k, among=among).distances.mean(1) + SOFTENING)
