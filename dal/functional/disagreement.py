"""How much several predictions for one row disagree: dropout masks, committee members or samples of an LLM."""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from dal.functional.blocks import blocks


def mutual_information(mc_log_probs: Float[Tensor, "N K C"], *, multilabel: bool = False) -> Float[Tensor, " N"]:
    """Mutual information of a row's label and the sampled model, in nats, (N,); high means disagreement (BALD).

    The entropy of the mean prediction minus the mean entropy of the K predictions, between 0 and log min(K, C). With
    `multilabel`, mc_log_probs are those of C independent Bernoullis and the result is the mean over the classes of the
    binary quantity, between 0 and log 2. Log-probabilities must be finite (`dal.outputs.log_probs` floors them).

    Houlsby et al. 2011, "Bayesian Active Learning for Classification and Preference Learning"; with dropout Gal, Islam
    and Ghahramani 2017, "Deep Bayesian Active Learning with Image Data".

    >>> sure_but_opposed = torch.tensor([[[1.0, 0.0], [0.0, 1.0]]]).clamp_min(1e-30).log()
    >>> mutual_information(sure_but_opposed)
    tensor([0.6931])
    """
    N, K, C = mc_log_probs.shape
    information = _binary_information if multilabel else _information
    out = mc_log_probs.new_empty(N)
    for block in blocks(N, K * C, mc_log_probs.device):
        out[block] = information(mc_log_probs[block])
    return out.clamp_min(0)  # rounding


def _information(log_p: Tensor) -> Tensor:
    log_mean = log_p.logsumexp(1) - math.log(log_p.shape[1])  # (N, C)
    return _entropy(log_mean) - _entropy(log_p).mean(1)


def _entropy(log_p: Tensor) -> Tensor:
    return -(log_p.exp() * log_p).sum(-1)


def _binary_information(log_p: Tensor) -> Tensor:
    p, q = log_p.exp(), -torch.expm1(log_p)  # (N, K, C): for and against, each exact where it is tiny
    each = torch.special.entr(p) + torch.special.entr(q)
    mean = torch.special.entr(p.mean(1)) + torch.special.entr(q.mean(1))
    information: Tensor = (mean - each.mean(1)).mean(-1)
    return information
