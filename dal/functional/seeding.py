"""k-means++ seeding: points drawn in proportion to their squared distance to those drawn before."""

from typing import Literal

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from dal.functional.blocks import blocks
from dal.functional.points import Points, as_points, checked


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
    points = checked(points, n)
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
