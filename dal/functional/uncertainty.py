"""Uncertainty scores computed from predicted probabilities."""

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from dal.functional.blocks import by_blocks
from dal.functional.checked_tensors import dense, floats, refuse_rows
from dal.functional.precision import true_float32


@torch.no_grad()
def least_confidence(probs: Float[Tensor, "N C"], *, multilabel: bool = False) -> Float[Tensor, " N"]:
    """One minus the probability of the most probable class, (N,); high means uncertain.

    Between 0 and 1 - 1/C. With `multilabel`, probs are C independent Bernoullis and the result is the mean over the
    classes of the binary quantity `1 - max(p, 1 - p)`, between 0 and 1/2.

    Lewis and Gale 1994, "A Sequential Algorithm for Training Text Classifiers".

    >>> least_confidence(torch.tensor([[0.7, 0.2, 0.1], [0.5, 0.5, 0.0]]))
    tensor([0.3000, 0.5000])
    """
    if multilabel:
        return _by_blocks(lambda p: torch.minimum(p, 1 - p).mean(-1), probs)
    return _by_blocks(_least_confidence, probs)


@torch.no_grad()
def margin(probs: Float[Tensor, "N C"], *, multilabel: bool = False) -> Float[Tensor, " N"]:
    """Difference between the two largest class probabilities, (N,), between 0 and 1; low means uncertain.

    With a single class it is the probability of that class. With `multilabel`, probs are C independent Bernoullis and
    the result is the mean over the classes of the binary margin `|p - (1 - p)|`.

    Scheffer, Decomain and Wrobel 2001, "Active Hidden Markov Models for Information Extraction".

    >>> margin(torch.tensor([[0.7, 0.2, 0.1], [0.5, 0.5, 0.0]]))
    tensor([0.5000, 0.0000])
    """
    if multilabel:
        return _by_blocks(lambda p: (2 * p - 1).abs_().mean(-1), probs, times=2)
    return _by_blocks(_margin, probs, times=2)


@torch.no_grad()
def entropy(probs: Float[Tensor, "N C"], *, multilabel: bool = False) -> Float[Tensor, " N"]:
    """Entropy of the probabilities in nats, (N,), between 0 and log C; high means uncertain.

    With `multilabel`, probs are C independent Bernoullis and the result is the mean over the classes of the binary
    entropy, between 0 and log 2.

    Shannon 1948; for active learning Settles 2009, "Active Learning Literature Survey".

    >>> entropy(torch.tensor([[0.5, 0.5, 0.0], [1.0, 0.0, 0.0]]))
    tensor([0.6931, 0.0000])
    """

    def total(p: Tensor) -> Tensor:
        terms = _p_log_p(p).add_(_p_log_p(1 - p)) if multilabel else _p_log_p(p)
        return terms.mv(p.new_ones(p.shape[1]))  # not `sum`: reductions along short rows are slow

    totals = _by_blocks(total, probs, shows=True)
    nats = (0 - totals).clamp_min_(0)  # a probability may be rounded to above 1
    return nats.div_(probs.shape[1]) if multilabel else nats


def _by_blocks(score: Callable[[Tensor], Tensor], probs: Tensor, *, times: int = 4, shows: bool = False) -> Tensor:
    """Apply `score` to blocks of rows and refuse non-finite probabilities. Extra memory: about 12 MiB on the CPU.

    Blocks are `times` the usual size, so that an operation over one class is long enough for all threads. With `shows`,
    non-finite probabilities make the scores non-finite, so that only the scores need checking.
    """
    given = dense(probs, "probs", 2)

    def scored(block: slice) -> Tensor:
        p = floats(given[block], "probs")
        scores = score(p)
        if not bool(torch.isfinite((scores if shows else p).sum())):  # after scoring, while the block is in the cache
            refuse_rows(given, "probs")
        return scores

    with true_float32():
        return by_blocks(scored, len(given), given.shape[1] // times, given.device)


def _least_confidence(probs: Tensor) -> Tensor:
    if 4 < probs.shape[1] <= 32:  # elementwise maximum of two halves first: reductions along short rows are slow
        half = (probs.shape[1] + 1) // 2
        probs = torch.maximum(probs[:, :half], probs[:, -half:])
    return probs.amax(-1).neg_().add_(1)


def _margin(probs: Tensor) -> Tensor:
    """Two running maxima over contiguous class columns: several times faster than a sort or topk per row."""
    if probs.shape[1] == 1:
        return probs[:, 0].clone()
    first, other, *rest = probs.T.contiguous().unbind(0)  # C of (B,)
    best, second = torch.maximum(first, other), torch.minimum(first, other)
    lesser = torch.empty_like(best)
    for column in rest:
        torch.minimum(best, column, out=lesser)
        torch.maximum(second, lesser, out=second)
        torch.maximum(best, column, out=best)
    return best.sub_(second)


def _p_log_p(probs: Tensor) -> Tensor:
    """p log p; 0 where p is 0."""
    return probs.clamp_min(torch.finfo(probs.dtype).tiny).log_().mul_(probs)
