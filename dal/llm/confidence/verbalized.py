"""From a stated label and confidence to a distribution over the classes."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from dal.llm.prompting.reply_parsing import Parsed

#: The least probability of a class, so that no log-probability is infinite.
FLOOR = 1e-6
_LEAD = 1e-4  # nats by which the stated label leads where all are alike


def distribution(
    classes: int, label: int | None, confidence: float | None, alternatives: Mapping[int, float]
) -> list[float]:
    """Probabilities of the C classes that a stated answer stands for.

    The stated label has the stated confidence, 1/C at the least, so that no other is more probable. The rest goes to
    the named alternatives in proportion to their rough probabilities, none of which may exceed the stated label; what
    is left then goes to all others evenly. Without a label all classes are alike: as unsure as can be.

    >>> [round(p, 3) for p in distribution(4, 0, 0.7, {1: 0.2, 2: 0.1})]
    [0.7, 0.2, 0.1, 0.0]
    >>> distribution(4, 0, None, {})
    [0.25, 0.25, 0.25, 0.25]
    """
    if label is None:
        return [1 / classes] * classes
    top = max(confidence or 0.0, 1 / classes)
    shares = [0.0] * classes
    shares[label] = top
    left = 1 - top
    named = {code: weight for code, weight in alternatives.items() if code != label and weight > 0}
    while named and left > 0:  # those that reach the top stay there, and the others share what is left
        total = sum(named.values())
        full = [code for code, weight in named.items() if left * weight / total >= top]
        for code in full or named:
            shares[code] = top if full else left * named[code] / total
        left = max(0.0, left - top * len(full)) if full else 0.0
        named = {code: weight for code, weight in named.items() if code not in full} if full else {}
    others = [code for code in range(classes) if shares[code] == 0]
    for code in others:
        shares[code] = min(top, left / len(others))
    return shares


def logits_of(answers: Sequence[Parsed], classes: int) -> Tensor:
    """Log-probabilities (nats) of the classes, (N, C) float32: finite, and the stated label is ahead of all others.

    Where an answer makes all classes alike, its label leads by a hair, so that it is still the predicted one.
    """
    shares = [distribution(classes, each.label, each.confidence, each.alternatives) for each in answers]
    logits = torch.tensor(shares, dtype=torch.float64).view(len(answers), classes).clamp_min(FLOOR).log()
    for row, answer in enumerate(answers):
        if answer.label is not None:
            logits[row, answer.label] += _LEAD
    return logits.float()


def confidences_of(answers: Sequence[Parsed]) -> Tensor:
    """The confidences as stated, (N,) float32 from 0 to 1; 0 where no label or no confidence could be read."""
    return torch.tensor([0.0 if each.label is None else each.confidence or 0.0 for each in answers])


def unparsed_rate(answers: Sequence[Parsed]) -> float:
    """Share of the answers, 0 to 1, in which no label could be read; 0 of none."""
    return sum(each.label is None for each in answers) / max(1, len(answers))
