"""How sure a model is of its whole answer, and whether that is right."""

from torch import Tensor
from torch.nn import functional as F

from dal.functional.checking import number


def confidence(logits: Tensor, temperature: float = 1.0, *, multilabel: bool = False) -> Tensor:
    """The probability that the model gives to its whole answer, (N,) float64, 0 to 1.

    One class: the highest probability. Multi-label: the product over the labels of max(p, 1 - p), since an answer is
    right when every decision of it is.

    Args:
        logits: (N, C).
        temperature: that they are divided by, as `dal.evaluation.calibration.Temperature` fits it. With two classes, or
            one label, it keeps the order of confidences; with more, it may not, so rows that choose it cannot be used
            again for what depends on the order.
        multilabel: whether a row may have several classes.

    Example:
        >>> import torch
        >>> confidence(torch.tensor([[0.0, 0.0]])).item(), confidence(torch.zeros(1, 2), multilabel=True).item()
        (0.5, 0.25)
    """
    scaled = logits.detach().double() / number(temperature, "temperature", above=0)
    if multilabel:
        return F.logsigmoid(scaled.abs()).sum(-1).exp()
    return scaled.softmax(-1).amax(-1)


def answers(logits: Tensor, *, multilabel: bool = False) -> Tensor:
    """The model's answers: (N,) int64 class indices; multi-label (N, C) bool, yes where p > 1/2."""
    return logits > 0 if multilabel else logits.argmax(-1)


def is_right(given: Tensor, labels: Tensor) -> Tensor:
    """Whether each answer is right, (N,) bool. Multi-label: whether every decision of the row is."""
    return (given == labels).flatten(1).all(1) if given.dim() == 2 else given == labels
