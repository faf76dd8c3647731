"""Consistency of repeated answers of a language model to the same text."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from dal.functional.uncertainty import entropy

UNKNOWN = "unknown"

#: Logit of the columns that a sample did not vote for: the log of the smallest normal float32, so that it is finite.
FLOOR = math.log(torch.finfo(torch.float32).tiny)


@dataclass(frozen=True, eq=False)
class Consistency:
    """Distribution of K answers to each of N texts.

    Attributes:
        columns: names of the M columns: the classes, and `unknown` if any answer could not be parsed.
        shares: (N, M), share of the K answers per column.
        mode: (N,) int64, column with the most answers, the first one in case of ties.
        consistency: (N,), share of the mode, which is 1 if all answers are equal.
        bits: (N,), entropy of the shares in bits.
        normalized: (N,), entropy divided by log2(M), 0 to 1.
    """

    columns: tuple[str, ...]
    shares: Tensor
    mode: Tensor
    consistency: Tensor
    bits: Tensor
    normalized: Tensor


def consistency(votes: Int[Tensor, "N K"], classes: Sequence[str]) -> Consistency:
    """Return the distribution of K answers to each of N texts, with its mode and entropy.

    Wang et al. 2023, "Self-Consistency Improves Chain of Thought Reasoning in Language Models".

    Args:
        votes: (N, K), class codes, -1 for answers that could not be parsed. If there are any, they have an additional
            column, which is included in the normalisation of the entropy.
        classes: C class names.

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
    """Return the share of the K answers in each column, (N, M); -1 counts for the last column."""
    hits: Tensor = votes.remainder(columns)[..., None] == torch.arange(columns)  # (N, K, M)
    return hits.float().mean(1)


def entropy_bits(shares: Float[Tensor, "N M"]) -> Float[Tensor, " N"]:
    """Return the entropy of shares in bits, (N,), from 0 to log2(M).

    >>> entropy_bits(torch.tensor([[0.5, 0.25, 0.25]]))
    tensor([1.5000])
    """
    return entropy(shares) / math.log(2)


def vote_logits(votes: Int[Tensor, "N K"], classes: int) -> Float[Tensor, "N K M"]:
    """Convert the answers to finite `mc_logits`: 0 for the answer of sample k, `FLOOR` for all other columns.

    M is C, or C + 1 if any answer could not be parsed, which is a vote for the last column.
    """
    columns = classes + bool((votes < 0).any())
    hits = votes.remainder(columns)[..., None] == torch.arange(columns)
    return torch.where(hits, 0.0, FLOOR)


def class_logits(votes: Int[Tensor, "N K"], classes: int) -> Float[Tensor, "N C"]:
    """Return log-probabilities of the classes, (N, C), where an unparsed answer counts 1/C for each class.

    The C classes of a learner do not include `unknown`, and ignoring unparsed answers would give full confidence to a
    text with only one parsed answer. Probabilities are at least 1e-6.
    """
    known = shares_of(votes.where(votes >= 0, classes), classes + 1)
    return (known[:, :classes] + known[:, classes:] / classes).clamp_min(1e-6).log()


def columns_of(classes: Sequence[str], width: int) -> tuple[str, ...]:
    """Return the names of the columns of `mc_logits` (N, K, width): the classes, and `unknown` if there is one more.

    >>> columns_of(["no", "yes"], 3)
    ('no', 'yes', 'unknown')
    """
    names = tuple(classes)
    return names if width == len(names) else (*names, UNKNOWN if UNKNOWN not in names else f"{UNKNOWN} (no answer)")
