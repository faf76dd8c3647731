"""Which of many centers to measure every point against, so that few points need all of them."""

import torch
from jaxtyping import Int64
from torch import Tensor

from dal.functional.blocks import blocks
from dal.functional.centers import measured
from dal.functional.points import Points
from dal.functional.threads import one_thread

#: Points from which it is learned which centers tell most: one in so many, up to so many, and none below so many.
SHARE, SAMPLE, LEAST = 64, 1024, 128

#: Centers that are tried on the sample, and of those that are searched.
TRIED, SEARCHED = 2048, 128

#: A center is worth a pass over the points when it settles at least one in so many.
WORTH = 400

#: Multiples of it, less their whole part, are spread evenly over 0 to 1, however many are taken.
GOLDEN = 0.6180339887498949


def first_of_each(points: Points) -> Int64[Tensor, " U"]:
    """Positions of the points, ascending, without most of those that equal an earlier one.

    Points are grouped by one number each; what is dropped is compared whole, so that nothing else ever is.
    """
    if len(points) < 2:
        return torch.arange(len(points), device=points.device)
    keys, order = points.squared_norms().sort(stable=True)
    twins = (keys.diff() == 0).nonzero().flatten()
    kept = torch.ones(len(points), dtype=torch.bool, device=points.device)
    for part in blocks(len(twins), points.width, points.device):
        one, other = order[twins[part]], order[twins[part] + 1]
        gap = points[one].squared_differences(points[other])  # type: ignore[arg-type]
        kept[other[gap == 0]] = False
    return kept.nonzero().flatten()


def searching_order(points: Points, centers: Points, n: int) -> tuple[Int64[Tensor, " L"], int]:
    """The centers (L,) in the order in which to search them, and how many of them to search for every point.

    A point is out of the question for n picks as soon as one center is nearer to it than the last pick will be. That
    distance is estimated by picking from a sample, and the centers that rule out most of the sample come first.
    """
    N, L = len(points), len(centers)
    spread = (torch.arange(L, device=centers.device, dtype=torch.float64) * GOLDEN % 1).argsort()
    S = min(N // SHARE, SAMPLE)
    if S < LEAST or L <= 16:
        return spread, L
    origin, tried = centers.origin(), spread[:TRIED]
    sample = measured(points[torch.arange(S, device=points.device) * N // S], origin)
    table = sample.table(measured(centers[tried], origin))  # (S, tried)
    with one_thread():
        last = _last_distance(table.amin(1), sample.table(sample), min(S - 1, S * (n + 256) // N + 1))
        chosen = _most_covering((table <= last).to(table.dtype))
    rest = torch.ones(L, dtype=torch.bool, device=centers.device)
    rest[tried[chosen]] = False
    return torch.cat([tried[chosen], spread[rest[spread]]]), len(chosen)


def _last_distance(squared: Tensor, table: Tensor, steps: int) -> Tensor:
    """The largest squared distance left after so many picks from the sample."""
    for _ in range(steps):
        squared = torch.minimum(squared, table[squared.argmax().view(1)][0])
    return squared.amax()


def _most_covering(near: Tensor) -> Int64[Tensor, " S"]:
    """Columns of (S, T) zeros and ones, each with the most ones among rows that those before it have not covered."""
    left, gains, chosen = near.new_ones(len(near)), [], []
    columns = near.T.contiguous()
    for _ in range(min(SEARCHED, near.shape[1])):
        gain, best = (columns @ left).max(0, keepdim=True)
        gains.append(gain)
        chosen.append(best)
        left = left * (1 - columns[best][0])
    worth = int((torch.cat(gains) >= len(near) / WORTH).sum())
    return torch.cat(chosen)[: max(1, worth)]
