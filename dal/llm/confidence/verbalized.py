"""Convert a stated label and confidence to a distribution over the classes."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from dal.llm.prompting.reply_parsing import Parsed

#: Minimum probability of a class, so that all log-probabilities are finite.
FLOOR = 1e-6
_LEAD = 1e-4  # nats added to the stated label, which breaks ties in its favour


def distribution(
    classes: int, label: int | None, confidence: float | None, alternatives: Mapping[int, float]
) -> list[float]:
    """Return probabilities of the C classes for a stated answer.

    The stated label gets the stated confidence, at least 1/C. The remainder is distributed over the alternatives in
    proportion to their stated probabilities, capped at the probability of the label, and then uniformly over all other
    classes. Without a label, the distribution is uniform.

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
    while named and left > 0:  # capped alternatives leave more to the others, so repeat until none is capped
        total = sum(named.values())
        capped = [code for code, weight in named.items() if left * weight / total >= top]
        for code in capped or named:
            shares[code] = top if capped else left * named[code] / total
        left = max(0.0, left - top * len(capped)) if capped else 0.0
        named = {code: weight for code, weight in named.items() if code not in capped} if capped else {}
    others = [code for code in range(classes) if shares[code] == 0]
    for code in others:
        shares[code] = min(top, left / len(others))
    return shares


def logits_of(answers: Sequence[Parsed], classes: int) -> Tensor:
    """Return finite log-probabilities (nats) of the classes, (N, C) float32, highest for the stated label.

    The stated label is raised by 1e-4 nats, so that it is the prediction even if the distribution is uniform.
    """
    shares = [distribution(classes, each.label, each.confidence, each.alternatives) for each in answers]
    logits = torch.tensor(shares, dtype=torch.float64).view(len(answers), classes).clamp_min(FLOOR).log()
    for row, answer in enumerate(answers):
        if answer.label is not None:
            logits[row, answer.label] += _LEAD
    return logits.float()


def confidences_of(answers: Sequence[Parsed]) -> Tensor:
    """Return the stated confidences, (N,) float32 from 0 to 1; 0 if no label or no confidence could be parsed."""
    return torch.tensor([0.0 if each.label is None else each.confidence or 0.0 for each in answers])


def unparsed_rate(answers: Sequence[Parsed]) -> float:
    """Return the share of answers without a parsed label, 0 to 1; 0 for no answers."""
    return sum(each.label is None for each in answers) / max(1, len(answers))
