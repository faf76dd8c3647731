"""How sure a model is of its whole answer, made honest by one temperature that held-out labels choose."""

import math

from scipy.optimize import minimize_scalar
from torch import Tensor
from torch.nn import functional as F

#: The log of the temperature stays within these ends: labels that the model gets all right would make it 0.
_LOG_ENDS = (math.log(0.05), math.log(20.0))


def temperature(logits: Tensor, labels: Tensor) -> float:
    """The T > 0 for which softmax(logits / T) (multi-label: sigmoid) gives the labels the highest likelihood.

    Within .05 and 20; 1 without any row. It changes no answer. With two classes, or one label, it keeps the order of
    confidences; with more, it may not, so rows that choose it cannot be used again for what depends on the order.

    Guo, Pleiss, Sun and Weinberger 2017, "On Calibration of Modern Neural Networks".

    Args:
        logits: (h, C).
        labels: (h,) int64; multi-label (h, C) bool.

    Example:
        >>> import torch
        >>> logits = torch.tensor([[4.0, 0.0]] * 4)
        >>> t = temperature(logits, torch.tensor([0, 0, 0, 1]))
        >>> round((logits / t).softmax(-1)[0, 0].item(), 3)
        0.75
    """
    x, y = logits.detach().double().cpu(), labels.cpu()
    if not len(x):
        return 1.0

    def loss(log_temperature: float) -> float:
        scaled = x * math.exp(-log_temperature)
        if y.dim() == 2:
            return float(F.binary_cross_entropy_with_logits(scaled, y.double()))
        return float(F.cross_entropy(scaled, y))

    found = minimize_scalar(loss, bounds=_LOG_ENDS, method="bounded", options={"xatol": 1e-6})
    return math.exp(float(found.x))


def confidence(logits: Tensor, temperature: float = 1.0, *, multilabel: bool = False) -> Tensor:
    """The probability that the model gives to its whole answer, (N,) float64, 0 to 1.

    One class: the highest probability. Multi-label: the product over the labels of max(p, 1 - p), since an answer is
    right when every decision of it is.

    Example:
        >>> import torch
        >>> confidence(torch.tensor([[0.0, 0.0]])).item(), confidence(torch.zeros(1, 2), multilabel=True).item()
        (0.5, 0.25)
    """
    scaled = logits.detach().double() / temperature
    if multilabel:
        return F.logsigmoid(scaled.abs()).sum(-1).exp()
    return scaled.softmax(-1).amax(-1)


def answers(logits: Tensor, *, multilabel: bool = False) -> Tensor:
    """The model's answers: (N,) int64 class indices; multi-label (N, C) bool, yes where p > 1/2."""
    return logits > 0 if multilabel else logits.argmax(-1)


def is_right(given: Tensor, labels: Tensor) -> Tensor:
    """Whether each answer is right, (N,) bool. Multi-label: whether every decision of the row is."""
    return (given == labels).flatten(1).all(1) if given.dim() == 2 else given == labels
