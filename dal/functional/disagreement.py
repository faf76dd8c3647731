"""Disagreement between several predictions for one row, such as dropout samples, committee members or LLM samples."""

import math
from collections.abc import Callable

import torch
from jaxtyping import Bool, Float, Num
from torch import Tensor

from dal.functional.blocks import blocks, by_blocks
from dal.functional.checked_tensors import dense, floats, refuse_rows


@torch.no_grad()
def mutual_information(mc_log_probs: Float[Tensor, "N K C"], *, multilabel: bool = False) -> Float[Tensor, " N"]:
    """Mutual information between the label of a row and the model (BALD), in nats, (N,); high means disagreement.

    The entropy of the mean prediction minus the mean entropy of the K predictions, between 0 and log min(K, C). With
    `multilabel`, mc_log_probs are those of C independent Bernoullis and the result is the mean over the classes of the
    binary quantity, between 0 and log 2. Log-probabilities must be finite (`dal.outputs.log_probs` floors them),
    otherwise a `ValueError` names the rows.

    It is computed as the mean over the samples of the Kullback-Leibler divergence `KL(p_k || mean_k p_k)` from the mean
    prediction. The contribution of each class, `mean_k p_kc log p_kc - m_c log m_c` with m the mean, is non-negative
    because x log x is convex, so negative rounding errors are clipped per class. The result is exactly 0 if all samples
    are equal, so that such rows tie.

    Houlsby et al. 2011, "Bayesian Active Learning for Classification and Preference Learning"; with dropout Gal, Islam
    and Ghahramani 2017, "Deep Bayesian Active Learning with Image Data".

    >>> sure_but_opposed = torch.tensor([[[1.0, 0.0], [0.0, 1.0]]]).clamp_min(1e-30).log()
    >>> mutual_information(sure_but_opposed)
    tensor([0.6931])
    """
    information = _by_blocks(_binary_information if multilabel else _information, mc_log_probs)
    if not bool(torch.isfinite(information.sum())):  # a non-finite input makes the information non-finite
        refuse_rows(mc_log_probs, "mc_log_probs")
    return without_rounding(information, mc_log_probs)


@torch.no_grad()
def consensus(mc_log_probs: Float[Tensor, "N K C"]) -> Float[Tensor, "N C"]:
    """Mean of the K predictions for each row, (N, C): the prediction of the committee.

    Class probabilities, or those of C independent Bernoullis for such mc_log_probs. The `entropy` of the result is the
    consensus entropy of query by committee.

    Settles 2009, "Active Learning Literature Survey".

    >>> consensus(torch.tensor([[[0.9, 0.1], [0.3, 0.7]]]).log())
    tensor([[0.6000, 0.4000]])
    """
    return _by_blocks(block_consensus, mc_log_probs, check=True)


@torch.no_grad()
def mean_std(mc_log_probs: Float[Tensor, "N K C"]) -> Float[Tensor, " N"]:
    """Standard deviation of the class probabilities over the K predictions, mean over the classes, (N,), 0 to 1/2.

    The population formula `sqrt(mean_k (p_kc - mean_k p_kc)^2)`, also for C independent Bernoullis. Exactly 0 if all
    samples are equal.

    Kampffmeyer, Salberg and Jenssen 2016, "Semantic Segmentation of Small Objects and Modeling of Uncertainty in Urban
    Remote Sensing Images Using Deep Convolutional Neural Networks"; Kendall, Badrinarayanan and Cipolla 2015,
    "Bayesian SegNet".

    >>> mean_std(torch.tensor([[[0.9, 0.1], [0.3, 0.7]]]).log())
    tensor([0.3000])
    """
    return _by_blocks(block_mean_std, mc_log_probs, check=True)


# Unchecked variants for one block of rows: a NaN stays NaN, so that callers can report its origin.


def block_information(log_p: Float[Tensor, "B K C"], *, multilabel: bool = False) -> Float[Tensor, " B"]:
    """`mutual_information` of one block."""
    return without_rounding(_binary_information(log_p) if multilabel else _information(log_p), log_p)


def block_consensus(log_p: Float[Tensor, "B K C"]) -> Float[Tensor, "B C"]:
    """`consensus` of one block."""
    return log_p.exp().mean(1)


def block_mean_std(log_p: Float[Tensor, "B K C"]) -> Float[Tensor, " B"]:
    """`mean_std` of one block."""
    p = log_p.exp()
    std = p.sub_(p.mean(1, keepdim=True)).square_().mean(1).sqrt_()  # (B, C)
    return without_rounding(std.mean(-1), log_p)


def without_rounding(values: Float[Tensor, " N"], samples: Num[Tensor, "N K C"]) -> Float[Tensor, " N"]:
    """Set disagreements (N,) to exactly 0 where all K samples are equal, in place.

    Rounding errors of the means would otherwise rank such rows by noise. Only rows whose value is within rounding
    errors of 0 are compared.
    """
    K, C = samples.shape[1:]
    largest = (K + 16) * torch.finfo(values.dtype).eps * (2 + math.log(max(1, C)))
    if values.device.type != "cpu":  # a synchronisation costs more than comparing all rows
        return values.masked_fill_((values <= largest) & agree(samples), 0)
    near = (values <= largest).nonzero().flatten()
    for some in blocks(len(near), K * C, values.device):
        rows = near[some]
        values[rows[agree(samples[rows])]] = 0
    return values


def agree(samples: Num[Tensor, "N K C"]) -> Bool[Tensor, " N"]:
    """Whether all samples of a row are equal, (N,) bool."""
    return (samples == samples[:, :1]).flatten(1).all(1)


def _by_blocks(function: Callable[[Tensor], Tensor], mc_log_probs: Tensor, *, check: bool = False) -> Tensor:
    """Apply `function` to blocks of rows. Extra memory: a few blocks of 1 MiB on the CPU.

    With `check`, non-finite values are refused.
    """
    samples = dense(mc_log_probs, "mc_log_probs", 3)
    N, K, C = samples.shape

    def checked(block: slice) -> Tensor:
        log_p = floats(samples[block], "mc_log_probs")
        if check and not bool(torch.isfinite(log_p.sum())):
            refuse_rows(samples, "mc_log_probs")
        return function(log_p)

    return by_blocks(checked, N, K * C, samples.device)


def _information(log_p: Tensor) -> Tensor:
    return _divergence(log_p.exp(), log_p).sum(-1)


def _binary_information(log_p: Tensor) -> Tensor:
    p, q = log_p.exp(), -torch.expm1(log_p)  # (B, K, C): expm1 keeps 1 - p accurate where it is tiny
    log_q = q.clamp_min(torch.finfo(q.dtype).tiny).log_()
    mean: Tensor = _divergence(p, log_p).add_(_divergence(q, log_q)).mean(-1)
    return mean


def _divergence(p: Tensor, log_p: Tensor) -> Tensor:
    """Contribution of each class to the mean divergence from the mean, (B, C). Overwrites p (B, K, C)."""
    mean = p.mean(1)  # (B, C)
    mean_log_mean = mean.clamp_min(torch.finfo(mean.dtype).tiny).log_().mul_(mean)
    # By Jensen's inequality no class contributes less than 0: clamping each removes rounding errors before the sum.
    return p.mul_(log_p).mean(1).sub_(mean_log_mean).clamp_min_(0)
