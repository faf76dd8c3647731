"""How much several predictions for one row disagree: dropout masks, committee members or samples of an LLM."""

import math
from collections.abc import Callable

import torch
from jaxtyping import Bool, Float, Num
from torch import Tensor

from dal.functional.blocks import blocks, by_blocks
from dal.functional.checking import dense, floats, refuse_rows


@torch.no_grad()
def mutual_information(mc_log_probs: Float[Tensor, "N K C"], *, multilabel: bool = False) -> Float[Tensor, " N"]:
    """Mutual information of a row's label and the sampled model, in nats, (N,); high means disagreement (BALD).

    The entropy of the mean prediction minus the mean entropy of the K predictions, between 0 and log min(K, C). With
    `multilabel`, mc_log_probs are those of C independent Bernoullis and the result is the mean over the classes of the
    binary quantity, between 0 and log 2. Log-probabilities must be finite (`dal.outputs.log_probs` floors them): a
    `ValueError` names the rows where they are not.

    The same number is the mean over the samples of the Kullback-Leibler divergence from the mean prediction
    `KL(p_k || mean_k p_k)`. Each class's share of it, `mean_k p_kc log p_kc - m_c log m_c` with m the mean, is positive
    by itself (x log x is convex), so that rounding is cut off class by class. Where all samples are the same numbers it
    is exactly 0, so that such rows are ties.

    Houlsby et al. 2011, "Bayesian Active Learning for Classification and Preference Learning"; with dropout Gal, Islam
    and Ghahramani 2017, "Deep Bayesian Active Learning with Image Data".

    >>> sure_but_opposed = torch.tensor([[[1.0, 0.0], [0.0, 1.0]]]).clamp_min(1e-30).log()
    >>> mutual_information(sure_but_opposed)
    tensor([0.6931])
    """
    information = _by_blocks(_binary_information if multilabel else _information, mc_log_probs)
    if not bool(torch.isfinite(information.sum())):  # a value that is not finite leaves no finite information
        refuse_rows(mc_log_probs, "mc_log_probs")
    return without_rounding(information, mc_log_probs)


@torch.no_grad()
def consensus(mc_log_probs: Float[Tensor, "N K C"]) -> Float[Tensor, "N C"]:
    """The mean of the K predictions for every row, (N, C): what the committee predicts together.

    Probabilities of the classes, or of C independent Bernoullis where mc_log_probs are those. Its `entropy` is the
    consensus entropy of query by committee.

    Settles 2009, "Active Learning Literature Survey".

    >>> consensus(torch.tensor([[[0.9, 0.1], [0.3, 0.7]]]).log())
    tensor([[0.6000, 0.4000]])
    """
    return _by_blocks(block_consensus, mc_log_probs, check=True)


@torch.no_grad()
def mean_std(mc_log_probs: Float[Tensor, "N K C"]) -> Float[Tensor, " N"]:
    """Standard deviation of a class's probability over the K predictions, mean over the classes, (N,), 0 to 1/2.

    `sqrt(mean_k (p_kc - mean_k p_kc)^2)`: that of the K predictions themselves, not an estimate from them. The same
    for C independent Bernoullis. Exactly 0 where all samples are the same numbers.

    Kampffmeyer, Salberg and Jenssen 2016, "Semantic Segmentation of Small Objects and Modeling of Uncertainty in Urban
    Remote Sensing Images Using Deep Convolutional Neural Networks"; Kendall, Badrinarayanan and Cipolla 2015,
    "Bayesian SegNet".

    >>> mean_std(torch.tensor([[[0.9, 0.1], [0.3, 0.7]]]).log())
    tensor([0.3000])
    """
    return _by_blocks(block_mean_std, mc_log_probs, check=True)


# The same for one block of rows, unchecked: a NaN comes out as NaN, for those who say better where it came from.


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
    """The disagreement (N,) of samples, exactly 0 where the K samples are the same numbers. Writes to `values`.

    Rounding of means alone would rank such rows by noise. Only rows that are so near to 0 that rounding can have made
    all of it are compared.
    """
    K, C = samples.shape[1:]
    largest = (K + 16) * torch.finfo(values.dtype).eps * (2 + math.log(max(1, C)))
    if values.device.type != "cpu":  # a look at the device costs more than comparing all
        return values.masked_fill_((values <= largest) & agree(samples), 0)
    near = (values <= largest).nonzero().flatten()
    for some in blocks(len(near), K * C, values.device):
        rows = near[some]
        values[rows[agree(samples[rows])]] = 0
    return values


def agree(samples: Num[Tensor, "N K C"]) -> Bool[Tensor, " N"]:
    """Whether all samples of a row are the same numbers, (N,) bool."""
    return (samples == samples[:, :1]).flatten(1).all(1)


def _by_blocks(function: Callable[[Tensor], Tensor], mc_log_probs: Tensor, *, check: bool = False) -> Tensor:
    """`function` of every block of rows. Besides the result, a few tables of 1 MiB are held on the CPU.

    With `check`, values that are not finite are refused.
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
    p, q = log_p.exp(), -torch.expm1(log_p)  # (B, K, C): for and against, each exact where it is tiny
    log_q = q.clamp_min(torch.finfo(q.dtype).tiny).log_()
    mean: Tensor = _divergence(p, log_p).add_(_divergence(q, log_q)).mean(-1)
    return mean


def _divergence(p: Tensor, log_p: Tensor) -> Tensor:
    """Each class's share of the mean divergence from the mean, (B, C). Overwrites p (B, K, C)."""
    mean = p.mean(1)  # (B, C)
    own = mean.clamp_min(torch.finfo(mean.dtype).tiny).log_().mul_(mean)
    return p.mul_(log_p).mean(1).sub_(own).clamp_min_(0)
