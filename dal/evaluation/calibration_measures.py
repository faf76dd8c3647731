"""Calibration of predicted probabilities: calibration errors, the reliability diagram, temperature scaling."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from dal.evaluation.checked_inputs import checked
from dal.functional.blocks import blocks
from dal.functional.checking import number, whole
from dal.outputs import Outputs, log_probs

#: Default number of confidence bins.
BINS = 15

#: Limits of a temperature: held-out rows that are all correct would drive it to 0.
_LIMITS = (1 / 20, 20.0)


def calibration_error(probs: Tensor, labels: Tensor, *, bins: int = BINS) -> float:
    """Expected calibration error, 0 to 1: mean gap between confidence and accuracy over confidence bins.

    The bins have equal width over (0, 1] and are weighted by their counts. Single-label: a row's confidence is its
    highest probability. Multi-label (labels (N, C) bool): each of the N*C decisions counts separately, with the
    confidence max(p, 1 - p) of the likelier answer, whatever the model's thresholds, so none is below 1/2.

    Naeini et al. 2015, "Obtaining Well Calibrated Probabilities Using Bayesian Binning"; Guo et al. 2017.

    Example:
        >>> probs = torch.tensor([[0.8, 0.2], [0.8, 0.2]])
        >>> round(calibration_error(probs, torch.tensor([0, 1])), 3)
        0.3
    """
    return confidence_calibration_error(*_decisions(probs, labels), bins=bins)


def confidence_calibration_error(confidence: Tensor, right: Tensor, *, bins: int = BINS) -> float:
    """Expected calibration error of a confidence that need not be a class probability, 0 to 1.

    Args:
        confidence: (N,), 0 to 1.
        right: (N,) bool, whether each answer is correct.
        bins: number of bins of equal width.

    Example:
        >>> round(confidence_calibration_error(torch.tensor([0.8, 0.8]), torch.tensor([True, False])), 3)
        0.3
    """
    sums = _Binned.of(confidence, right, whole(bins, "bins", 1))
    return (sums.confidence - sums.right).abs().sum().item() / sums.count.sum().item()


def adaptive_calibration_error(probs: Tensor, labels: Tensor, *, bins: int = BINS) -> float:
    """Adaptive calibration error, 0 to 1: calibration error over all classes, in bins of equal mass.

    For each class the rows are sorted by its probability and split into `bins` parts of equal size (as many parts as
    rows, when there are fewer); the error is the mean, over classes and parts, of |mean probability - share of the
    class|. Rows of equal probability share their mean outcome, so that their order does not matter. With many classes
    most probabilities are near 0 and so is the error: compare it only between models on the same data.

    Nixon et al. 2019, "Measuring Calibration in Deep Learning".

    Args:
        probs: (N, C).
        labels: (N,) int64; (N, C) bool when multi-label.

    Example:
        >>> probs = torch.tensor([[0.8, 0.2], [0.8, 0.2]])
        >>> round(adaptive_calibration_error(probs, torch.tensor([0, 1])), 3)
        0.3
    """
    probs = probs.detach().double()
    labels = checked(labels, probs, labels.dim() == 2)
    rows, classes = probs.shape
    parts = min(whole(bins, "bins", 1), rows)
    sizes = torch.full((parts,), rows // parts) + (torch.arange(parts) < rows % parts)
    part = torch.arange(parts).repeat_interleave(sizes)  # (N,) the part of each sorted row
    total = 0.0
    for block in blocks(classes, rows, probs.device):
        p, order = probs[:, block].T.contiguous().sort(dim=1)  # (c, N)
        has = labels[:, block].T if labels.dim() == 2 else labels == torch.arange(block.start, block.stop)[:, None]
        gaps = p - _shared_outcomes(p, has.double().gather(1, order))
        sums = gaps.new_zeros(len(gaps), parts).index_add_(1, part, gaps)
        total += (sums.abs() / sizes).sum().item()
    return total / (classes * parts)


def _shared_outcomes(p: Tensor, outcomes: Tensor) -> Tensor:
    """Outcomes (c, N), averaged over ties of p (c, N), whose rows are sorted."""
    new = torch.ones_like(p, dtype=torch.bool)
    new[:, 1:] = p[:, 1:] != p[:, :-1]
    group = new.flatten().cumsum(0) - 1  # ties never cross classes: each class starts a new group
    sums = torch.zeros(int(group[-1]) + 1, dtype=p.dtype).index_add_(0, group, outcomes.flatten())
    return (sums / group.bincount())[group].view_as(p)


def reliability(outputs: Outputs, labels: Tensor, *, bins: int = BINS) -> dict[str, list[float | None]]:
    """Reliability diagram: "confidence" and "accuracy" of each bin, None where it is empty, and its "count".

    Bins and confidences are those of `calibration_error`, whose value is the mean gap weighted by count.

    DeGroot and Fienberg 1983, "The Comparison and Evaluation of Forecasters"; Niculescu-Mizil and Caruana 2005.
    """
    return confidence_reliability(*_decisions(outputs.to("cpu").probs, labels), bins=bins)


def confidence_reliability(confidence: Tensor, right: Tensor, *, bins: int = BINS) -> dict[str, list[float | None]]:
    """Reliability diagram of a confidence that need not be a class probability, with the keys of `reliability`.

    Args:
        confidence: (N,), 0 to 1.
        right: (N,) bool, whether each answer is correct.
        bins: number of bins of equal width.
    """
    sums = _Binned.of(confidence, right, whole(bins, "bins", 1))

    def means(totals: Tensor) -> list[float | None]:
        return [total / n if n else None for total, n in zip(totals.tolist(), sums.count.tolist(), strict=True)]

    count: list[float | None] = [int(n) for n in sums.count.tolist()]
    return {"confidence": means(sums.confidence), "accuracy": means(sums.right), "count": count}


@dataclass(frozen=True, eq=False)
class _Binned:
    """Sums over the decisions in each confidence bin, (bins,) float64 each."""

    confidence: Tensor
    right: Tensor
    count: Tensor

    @classmethod
    def of(cls, confidence: Tensor, right: Tensor, bins: int) -> "_Binned":
        confidence, right = torch.as_tensor(confidence).double(), torch.as_tensor(right).double()
        index = (confidence * bins).ceil().long().clamp(1, bins) - 1  # bins are open below and closed above
        empty = torch.zeros(bins, dtype=torch.float64, device=confidence.device)
        columns = (confidence, right, torch.ones_like(right))
        return cls(*(empty.index_add(0, index, column) for column in columns))


def _decisions(probs: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Confidence and correctness of each decision, (N,) or, when multi-label, (N * C,)."""
    probs = probs.detach().double()
    multilabel = labels.dim() == 2
    labels = checked(labels, probs, multilabel)
    likelier = probs > 0.5 if multilabel else probs.argmax(-1)  # the confidence is that of the likelier answer
    right = (likelier == labels).flatten()
    return torch.maximum(probs, 1 - probs).flatten() if multilabel else probs.amax(-1), right


@dataclass(frozen=True)
class Temperature:
    """Temperature scaling: one divisor of all logits. Above 1 it lowers the confidence; predictions do not change.

    Guo et al. 2017, "On Calibration of Modern Neural Networks". Multi-label: the same divisor for every label's logit.

    Args:
        value: divisor of the logits, above 0; a fitted one is 1/20 to 20.

    Example:
        >>> sure = torch.tensor([[4.0, 0.0]]).repeat(4, 1)
        >>> round(Temperature.fit(sure, torch.tensor([0, 0, 0, 1])).value, 2)  # 3 of 4 are right: log 3 is enough
        3.64
    """

    value: float = 1.0

    def __post_init__(self) -> None:
        number(self.value, "value", above=0)

    @classmethod
    def fit(cls, logits: Tensor, labels: Tensor, *, limits: tuple[float, float] = _LIMITS) -> "Temperature":
        """Fit the temperature that minimises the log loss on rows that the model was not trained on.

        The log loss is convex in the inverse temperature, so there is one minimum; it is searched within the limits, by
        default between 1/20 and 20, and 1 is kept where the search finds nothing better.

        Args:
            logits: (N, C).
            labels: (N,) int64; (N, C) bool when multi-label.
            limits: smallest and largest temperature.

        Raises:
            DataError: there are no rows, a row has no label, or a logit is NaN.
        """
        from scipy.optimize import minimize_scalar

        logits, multilabel = logits.detach().cpu().double(), labels.dim() == 2
        probs = logits.sigmoid() if multilabel else logits.softmax(-1)
        labels = checked(labels, probs, multilabel, "held-out rows")

        def loss(log_temperature: float) -> float:
            scaled = logits / math.exp(log_temperature)
            if multilabel:  # 1 - sigmoid(z) is sigmoid(-z), without cancellation
                return -log_probs(torch.where(labels, scaled, -scaled), True).mean().item()
            return F.nll_loss(log_probs(scaled), labels).item()

        # Searched on a log scale, on which halving and doubling the temperature are steps of the same size.
        bounds = (math.log(limits[0]), math.log(limits[1]))
        best = minimize_scalar(loss, bounds=bounds, method="bounded", options={"xatol": 1e-6})
        return cls(math.exp(float(best.x)) if best.fun < loss(0.0) else 1.0)

    def apply(self, logits: Tensor) -> Tensor:
        """The logits divided by the temperature."""
        return logits / self.value
