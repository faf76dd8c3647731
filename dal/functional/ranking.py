"""Top-n selection of scores with a defined tie-breaking rule."""

import torch
from jaxtyping import Bool, Float64, Int64, Shaped
from torch import Tensor

from dal.functional.checked_tensors import NotFiniteError, dense
from dal.functional.checking import chosen
from dal.functional.exchange import Shard, exchange

_GROUP = 64  # scores per group; groups whose maximum is too small are excluded without reading them again


@torch.no_grad()
def top(
    scores: Shaped[Tensor, " N"], n: int, *, generator: torch.Generator | None = None, shard: Shard | None = None
) -> Int64[Tensor, " n"]:
    """Positions of the n highest scores (N,), highest first, as (n,) int64.

    `torch.topk` leaves the order of equal scores undefined and different between devices, so it only gives the
    threshold. Equal scores are ordered at random by `generator` (on the CPU), or by position without one. The number of
    random draws is the number of scores not below the threshold, independent of N.

    With a shard, the scores are those of the rows of this rank, and the result has the positions among all rows, on
    every rank: those of one process, after one collective, or two if `generator` breaks more ties than a rank sends.

    Raises:
        ValueError: n is not within 1..N, or a score is NaN.

    >>> top(torch.tensor([0.1, 0.9, 0.4, 0.9]), 3)
    tensor([1, 3, 2])
    """
    if shard is not None:
        return top_of_all(scores, n, generator, shard)[0]
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


@torch.no_grad()
def top_of_all(
    scores: Shaped[Tensor, " R"], n: int, generator: torch.Generator | None, shard: Shard
) -> tuple[Int64[Tensor, " n"], Float64[Tensor, " n"]]:
    """The positions of `top` among the scores (R,) of all ranks, and their scores as float64, (n,) each.

    Each rank sends its n best rows. They include the n best of all by score and position. The order that a generator
    gives to equal scores depends on all scores not below the threshold: if a rank has more of them than it has sent,
    every rank sends one bit per row.
    """
    scores = dense(scores, "scores", 1).double()
    shard.check_length(len(scores))
    n = chosen(n, shard.total, "scores")
    nan = scores.isnan()
    count = min(n + 1, len(scores))
    best = nan.nonzero().flatten()[:count] if bool(nan.any()) else top(scores, count) if count else scores[:0].long()
    window = exchange(shard, n, best[:n], scores[best[:n]], next_=(scores[best[n:]], best[n:]))
    if bool(window.values.isnan().any()):
        raise NotFiniteError("a score is NaN, which has no rank")
    threshold = window.values.topk(n).values[-1]
    kept = window.values >= threshold
    rows, values = window.rows[kept], window.values[kept]
    unsent = (window.outside[:, 0] >= threshold) & (window.outside[:, 1] >= 0)
    if generator is not None and bool(unsent.any()):
        rows = _rows_of_all(scores >= threshold, shard)
        # Rows that no rank has sent equal the threshold.
        sent = torch.searchsorted(rows, window.rows[kept])
        values = threshold.repeat(len(rows)).index_copy(0, sent, window.values[kept])
    if generator is not None:
        drawn = torch.randperm(len(rows), generator=generator).to(rows.device)
        rows, values = rows[drawn], values[drawn]
    order = values.argsort(descending=True, stable=True)[:n]
    return rows[order], values[order]


def _rows_of_all(mask: Bool[Tensor, " R"], shard: Shard) -> Int64[Tensor, " T"]:
    """Ascending positions of the rows of all ranks where a mask is true, from one bit per row and rank."""
    bits = torch.zeros(-(-shard.total // 8) * 8, dtype=torch.uint8, device=mask.device)
    bits[shard.rows[mask]] = 1
    weights = 2 ** torch.arange(8, dtype=torch.uint8, device=mask.device)
    sent = (bits.view(-1, 8) * weights).sum(1, dtype=torch.uint8)
    received = torch.stack(shard.comm.all_gather(sent))  # (W, total / 8)
    return ((received[:, :, None] & weights) > 0).any(0).flatten().nonzero().flatten()


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
