"""How much a language model's answers to one text differ from draw to draw."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from dal.functional.uncertainty import entropy

UNKNOWN = "unknown"

#: The logit of what a sample did not vote for: the log of the smallest normal float32, so that nothing is infinite.
FLOOR = math.log(torch.finfo(torch.float32).tiny)


@dataclass(frozen=True, eq=False)
class Consistency:
    """What K answers to each of N texts say together.

    Attributes:
        columns: names of the M columns: the classes, and `unknown` where an answer could not be read.
        shares: (N, M), of the K answers.
        mode: (N,) int64, the column with the most answers, the first of several.
        consistency: (N,), its share: 1 where all answers are alike.
        bits: (N,), entropy of the shares, in bits.
        normalized: (N,), the same over log2(M): 0 to 1.
    """

    columns: tuple[str, ...]
    shares: Tensor
    mode: Tensor
    consistency: Tensor
    bits: Tensor
    normalized: Tensor


def consistency(votes: Int[Tensor, "N K"], classes: Sequence[str]) -> Consistency:
    """The distribution of K answers to each of N texts, its mode, share and entropy.

    Wang et al. 2023, "Self-Consistency Improves Chain of Thought Reasoning in Language Models".

    Args:
        votes: codes of the classes, -1 where an answer could not be read. Such answers have a column of their own,
            which the normaliser counts; without any there is no such column.
        classes: C names.

    >>> found = consistency(torch.tensor([[0, 0, 0, 1], [1, 1, 1, 1]]), ["no", "yes"])
    >>> found.bits, found.consistency
    (tensor([0.8113, 0.0000]), tensor([0.7500, 1.0000]))
    """
    columns = columns_of(classes, len(classes) + bool((votes < 0).any()))
    shares = shares_of(votes, len(columns))
    bits = entropy_bits(shares)
    return Consistency(
        columns,
        shares,
        shares.argmax(-1),
        shares.amax(-1),
        bits,
        bits / math.log2(len(columns)) if len(columns) > 1 else torch.zeros_like(bits),
    )


def shares_of(votes: Int[Tensor, "N K"], columns: int) -> Float[Tensor, "N M"]:
    """Share of the K answers for each column, (N, M); -1 counts for the last."""
    hits: Tensor = votes.remainder(columns)[..., None] == torch.arange(columns)  # (N, K, M)
    return hits.float().mean(1)


def entropy_bits(shares: Float[Tensor, "N M"]) -> Float[Tensor, " N"]:
    """Entropy of shares in bits, (N,), from 0 to log2(M).

    >>> entropy_bits(torch.tensor([[0.5, 0.25, 0.25]]))
    tensor([1.5000])
    """
    return entropy(shares) / math.log(2)


def vote_logits(votes: Int[Tensor, "N K"], classes: int) -> Float[Tensor, "N K M"]:
    """The answers as `mc_logits`: 0 for what sample k says, `FLOOR` for all else. All finite.

    M is C, or C + 1 where an answer could not be read: such a sample votes for the last column.
    """
    columns = classes + bool((votes < 0).any())
    hits = votes.remainder(columns)[..., None] == torch.arange(columns)
    return torch.where(hits, 0.0, FLOOR)


def class_logits(votes: Int[Tensor, "N K"], classes: int) -> Float[Tensor, "N C"]:
    """Log-probabilities of the classes alone, (N, C): an answer that could not be read counts 1/C for each of them.

    The learner's C classes have no room for `unknown`, and to leave such answers out would make a text sure of which
    one answer in five could be read. A class that no answer names is floored at a millionth.
    """
    known = shares_of(votes.where(votes >= 0, classes), classes + 1)
    return (known[:, :classes] + known[:, classes:] / classes).clamp_min(1e-6).log()


def columns_of(classes: Sequence[str], width: int) -> tuple[str, ...]:
    """Names of the columns of `mc_logits` (N, K, width): the classes, and `unknown` where there is one more.

    >>> columns_of(["no", "yes"], 3)
    ('no', 'yes', 'unknown')
    """
    names = tuple(classes)
    return names if width == len(names) else (*names, UNKNOWN if UNKNOWN not in names else f"{UNKNOWN} (no answer)")
