"""How unsure a model is of a row, from its probabilities alone."""

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from dal.functional.blocks import blocks


def least_confidence(probs: Float[Tensor, "N C"], *, multilabel: bool = False) -> Float[Tensor, " N"]:
    """One minus the probability of the most probable class, (N,); high means unsure.

    Between 0 and 1 - 1/C. With `multilabel`, probs are C independent Bernoullis and the result is the mean over the
    classes of the binary quantity `1 - max(p, 1 - p)`, between 0 and 1/2.

    Lewis and Gale 1994, "A Sequential Algorithm for Training Text Classifiers".

    >>> least_confidence(torch.tensor([[0.7, 0.2, 0.1], [0.5, 0.5, 0.0]]))
    tensor([0.3000, 0.5000])
    """
    return _by_blocks(_binary_least_confidence if multilabel else _least_confidence, probs)


def margin(probs: Float[Tensor, "N C"], *, multilabel: bool = False) -> Float[Tensor, " N"]:
    """The most probable class's probability minus the second's, (N,), between 0 and 1; low means unsure.

    With `multilabel`, probs are C independent Bernoullis and the result is the mean over the classes of the binary
    margin `|p - (1 - p)|`.

    Scheffer, Decomain and Wrobel 2001, "Active Hidden Markov Models for Information Extraction".

    >>> margin(torch.tensor([[0.7, 0.2, 0.1], [0.5, 0.5, 0.0]]))
    tensor([0.5000, 0.0000])
    """
    return _by_blocks(_binary_margin if multilabel else _margin, probs)


def entropy(probs: Float[Tensor, "N C"], *, multilabel: bool = False) -> Float[Tensor, " N"]:
    """Entropy of the probabilities in nats, (N,), between 0 and log C; high means unsure.

    With `multilabel`, probs are C independent Bernoullis and the result is the mean over the classes of the binary
    entropy, between 0 and log 2.

    Shannon 1948; for active learning Settles 2009, "Active Learning Literature Survey".

    >>> entropy(torch.tensor([[0.5, 0.5, 0.0], [1.0, 0.0, 0.0]]))
    tensor([0.6931, 0.0000])
    """
    return _by_blocks(_binary_entropy if multilabel else _entropy, probs)


def _by_blocks(score: Callable[[Tensor], Tensor], probs: Tensor) -> Tensor:
    out = probs.new_empty(len(probs))
    for block in blocks(len(probs), probs.shape[1], probs.device):
        out[block] = score(probs[block])
    return out


def _least_confidence(probs: Tensor) -> Tensor:
    return 1 - probs.amax(-1)


def _binary_least_confidence(probs: Tensor) -> Tensor:
    return torch.minimum(probs, 1 - probs).mean(-1)


def _margin(probs: Tensor) -> Tensor:
    best, second = probs.topk(2, -1).values.unbind(-1)
    return best - second


def _binary_margin(probs: Tensor) -> Tensor:
    return (2 * probs - 1).abs().mean(-1)


def _entropy(probs: Tensor) -> Tensor:
    total: Tensor = torch.special.entr(probs).sum(-1)
    return total


def _binary_entropy(probs: Tensor) -> Tensor:
    mean: Tensor = (torch.special.entr(probs) + torch.special.entr(1 - probs)).mean(-1)
    return mean
