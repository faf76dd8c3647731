"""Confidence and correctness of a model's whole answer to a row."""

import torch
from torch import Tensor
from torch.nn import functional as F

from dal.functional.checking import number
from dal.outputs import Outputs


def confidence(
    logits: Tensor, temperature: float = 1.0, *, multilabel: bool = False, thresholds: Tensor | None = None
) -> Tensor:
    """Predicted probability of the whole answer to each row, (N,) float64, 0 to 1.

    Single-label: the highest probability. Multi-label: the product over the labels of p where the class is assigned and
    of 1 - p where it is not, since an answer is correct when every decision is.

    Args:
        logits: (N, C).
        temperature: divisor of the logits, fitted by `dal.evaluation.Temperature`. With two classes, or one label, it
            preserves the order of confidences; with more it may not, so rows that the temperature was fitted on must
            not be reused for anything that depends on that order.
        multilabel: whether a row may have several classes.
        thresholds: (C,), logits above which classes are assigned when multi-label; None for 0.

    Example:
        >>> import torch
        >>> confidence(torch.tensor([[0.0, 0.0]])).item(), confidence(torch.zeros(1, 2), multilabel=True).item()
        (0.5, 0.25)
    """
    scaled = logits.detach().double() / number(temperature, "temperature", above=0)
    if multilabel:  # a decision has the probability sigmoid(z) or sigmoid(-z); logarithms, as C may be large
        assigned = answers(logits.detach(), multilabel=True, thresholds=thresholds)
        return F.logsigmoid(torch.where(assigned, scaled, -scaled)).sum(-1).exp()
    return scaled.softmax(-1).amax(-1)


def answers(logits: Tensor, *, multilabel: bool = False, thresholds: Tensor | None = None) -> Tensor:
    """Predicted answers: (N,) int64; multi-label (N, C) bool, True for logits above `thresholds` (C,), None for 0."""
    return Outputs({"logits": logits}, multilabel=multilabel, thresholds=thresholds).decisions


def is_right(given: Tensor, labels: Tensor) -> Tensor:
    """Whether each answer is correct, (N,) bool. Multi-label: whether every decision of the row is."""
    return (given == labels).flatten(1).all(1) if given.dim() == 2 else given == labels
