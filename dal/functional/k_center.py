"""Greedy k-center: points that leave no other point far from all of them."""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from dal.functional.neighbors import nearest
from dal.functional.points import Points, as_points, check_finite, checked


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
    points = checked(points, n)
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
