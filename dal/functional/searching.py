"""Search order of centers: which ones to measure every point against, so that few points need all of them."""

import torch
from jaxtyping import Int64
from torch import Tensor

from dal.functional.blocks import blocks
from dal.functional.centers import measured
from dal.functional.points import Points
from dal.functional.row_source import PoolPoints
from dal.functional.threads import one_thread

#: Sample of points that ranks the centers: one point in SHARE, at most SAMPLE points; no ranking below LEAST points.
SHARE, SAMPLE, LEAST = 64, 1024, 128

#: Maximum numbers of centers that are tried on the sample, and that are then searched for all points.
TRIED, SEARCHED = 2048, 128

#: A center is searched for all points if it rules out at least one in WORTH points of the sample.
WORTH = 400

#: The fractional parts of its first multiples are spread evenly over 0..1, for any number of them (golden ratio).
GOLDEN = 0.6180339887498949


def first_of_each(points: Points) -> Int64[Tensor, " U"]:
    """Ascending positions of the points, with most duplicates of earlier points removed.

    Candidates are found by equal norms and compared in full, so that only true duplicates are removed.
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


def searching_order(points: PoolPoints, centers: Points, n: int) -> tuple[Int64[Tensor, " L"], int]:
    """Search order of the centers (L,), and the number of leading centers to measure every point against.

    A point cannot be among n picks once a center is nearer to it than the distance of the last pick. That distance is
    estimated by picking from a sample, and the centers that rule out most of the sample come first.
    """
    N, L = len(points), len(centers)
    spread = (torch.arange(L, device=centers.device, dtype=torch.float64) * GOLDEN % 1).argsort()
    S = min(N // SHARE, SAMPLE)
    if S < LEAST or L <= 16:
        return spread, L
    origin, tried = centers.origin(), spread[:TRIED]
    sample = measured(points[torch.arange(S, device=points.device) * N // S], origin)
    table = sample.table(measured(centers[tried], origin))  # (S, tried)
    squared, mutual = table.amin(1), sample.table(sample)  # (S,), (S, S)
    with one_thread():
        # The sample's share of n picks and of 256 more: with a smaller distance, fewer points count as ruled out.
        for _ in range(min(S - 1, S * (n + 256) // N + 1)):
            squared = torch.minimum(squared, mutual[squared.argmax().view(1)][0])
        chosen = _most_covering((table <= squared.amax()).to(table.dtype))
    rest = torch.ones(L, dtype=torch.bool, device=centers.device)
    rest[tried[chosen]] = False
    return torch.cat([tried[chosen], spread[rest[spread]]]), len(chosen)


def _most_covering(near: Tensor) -> Int64[Tensor, " S"]:
    """Greedy cover: columns of a 0/1 matrix (S, T), each with the most ones in rows not covered by earlier columns."""
    left, gains, chosen = near.new_ones(len(near)), [], []
    columns = near.T.contiguous()
    for _ in range(min(SEARCHED, near.shape[1])):  # to the end: a test for `gain` would synchronise in every step
        gain, best = (columns @ left).max(0, keepdim=True)
        gains.append(gain)
        chosen.append(best)
        left = left * (1 - columns[best][0])
    worth = int((torch.cat(gains) >= len(near) / WORTH).sum())
    return torch.cat(chosen)[: max(1, worth)]
