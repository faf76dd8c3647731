"""Top-n selection of scores with a defined tie-breaking rule."""

import torch
from jaxtyping import Int64, Shaped
from torch import Tensor

from dal.functional.checked_tensors import NotFiniteError, dense
from dal.functional.checking import chosen

_GROUP = 64  # scores per group; groups whose maximum is too small are excluded without reading them again


@torch.no_grad()
def top(scores: Shaped[Tensor, " N"], n: int, *, generator: torch.Generator | None = None) -> Int64[Tensor, " n"]:
    """Positions of the n highest scores (N,), highest first, as (n,) int64.

    `torch.topk` leaves the order of equal scores undefined and different between devices, so it only gives the
    threshold. Equal scores are ordered at random by `generator` (on the CPU), or by position without one. The number of
    random draws is the number of scores not below the threshold, independent of N.

    Raises:
        ValueError: n is not within 1..N, or a score is NaN.

    >>> top(torch.tensor([0.1, 0.9, 0.4, 0.9]), 3)
    tensor([1, 3, 2])
    """
    scores = dense(scores, "scores", 1)
    n = chosen(n, len(scores), "scores")
    if scores.dtype == torch.bool:
        scores = scores.to(torch.uint8)  # bool has no topk
    positions, peak = _candidates(scores, n), scores.amax()
    values = scores[positions]
    threshold = torch.where(peak.isnan(), peak, values.topk(n).values[-1])
    positions = positions[values >= threshold]  # empty if a score is NaN
    if not len(positions):
        raise NotFiniteError(f"{int(torch.isnan(scores).sum())} of {len(scores)} scores are NaN, which have no rank")
    if generator is not None:
        positions = positions[torch.randperm(len(positions), generator=generator).to(positions.device)]
    return positions[scores[positions].argsort(descending=True, stable=True)[:n]]


def _candidates(scores: Tensor, n: int) -> Tensor:
    """Ascending positions that include the n highest scores and all scores equal to them; few if N is large.

    The n-th highest group maximum is a lower bound of the n-th highest score, so groups with a smaller maximum can be
    excluded.
    """
    groups = len(scores) // _GROUP
    if groups <= n:
        return torch.arange(len(scores), device=scores.device)
    grouped = groups * _GROUP
    maxima = scores[:grouped].reshape(groups, _GROUP).amax(1)
    low = maxima < maxima.topk(n).values[-1]  # all False if a maximum is NaN
    high = (~low).nonzero()  # (G, 1)
    inside = (high * _GROUP + torch.arange(_GROUP, device=scores.device)).flatten()
    return torch.cat([inside, torch.arange(grouped, len(scores), device=scores.device)])
