"""The n highest of many scores, with a stated rule for ties."""

import torch
from jaxtyping import Int64, Shaped
from torch import Tensor


def top(scores: Shaped[Tensor, " N"], n: int, *, generator: torch.Generator | None = None) -> Int64[Tensor, " n"]:
    """Positions of the n highest scores (N,), highest first, as (n,) int64.

    `torch.topk` leaves the order of equal scores undefined and different between devices, so it gives the threshold
    only. Equal scores are ordered by `generator` (on the CPU), or by position without one.
    """
    order = torch.arange(len(scores)) if generator is None else torch.randperm(len(scores), generator=generator)
    rank = order.to(scores.device)  # (N,) unique, decides between equals
    threshold = scores.topk(n).values[-1]
    above = (scores > threshold).nonzero().flatten()
    ties = (scores == threshold).nonzero().flatten()
    ties = ties[rank[ties].argsort()][: n - len(above)]
    above = above[rank[above].argsort()]
    above = above[scores[above].argsort(descending=True, stable=True)]
    return torch.cat([above, ties])
