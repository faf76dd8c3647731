"""How good a model's outputs are against known labels: accuracy, F1, log loss, calibration."""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from dal.errors import DataError
from dal.outputs import Outputs, log_probs

#: Log-probabilities below this are raised to it, so that one confident mistake leaves the log loss finite.
_FLOOR = torch.finfo(torch.float32).tiny


def evaluate(outputs: Outputs, labels: Tensor) -> dict[str, float]:
    """Every figure of `metrics.jsonl`, by name, over N labeled rows. All finite.

    | name | range | meaning |
    |---|---|---|
    | accuracy | 0 to 1 | share of rows that are right; multi-label: right in every label (subset accuracy) |
    | label_accuracy | 0 to 1 | multi-label only: share of single yes-or-no decisions that are right |
    | macro_f1 | 0 to 1 | mean F1 of the classes that occur among labels or predictions |
    | micro_f1 | 0 to 1 | F1 of all decisions counted together; equals accuracy unless multi-label |
    | balanced_accuracy | 0 to 1 | mean recall of the classes that occur; multi-label: of yes and no, mean over labels |
    | log_loss | nats, 0 to 87.4 | mean negative log-probability of the truth; multi-label: mean over rows and labels |
    | ece | 0 to 1 | expected calibration error, see `calibration_error` |
    | brier | 0 to 2 | squared error of the probabilities, summed over classes; multi-label: mean, 0 to 1 |

    Args:
        outputs: N rows with `logits` (N, C), or `probs` (N, C) alone.
        labels: (N,) int64 class indices; (N, C) bool when `outputs.multilabel`.

    Raises:
        DataError: there are no rows, a row has no label, or the shapes do not fit.

    Example:
        >>> outputs = Outputs({"logits": torch.tensor([[2.0, 0.0], [0.0, 1.0], [1.0, 0.0]])})
        >>> round(evaluate(outputs, torch.tensor([0, 1, 1]))["accuracy"], 3)
        0.667
    """
    logs, probs = _distributions(outputs.to("cpu"))  # a GPU adds up in an order of its own each time
    labels = _checked(labels.to(probs.device), probs, outputs.multilabel)
    decided = probs > 0.5 if outputs.multilabel else probs.argmax(-1)
    right = decided == labels  # (N,) or (N, C)
    counts = _Counts.of(decided, labels, probs.shape[1])
    metrics = {"accuracy": right.flatten(1).all(1) if outputs.multilabel else right}
    if outputs.multilabel:
        metrics["label_accuracy"] = right
    figures = {name: value.double().mean().item() for name, value in metrics.items()}
    return figures | {
        "macro_f1": counts.macro_f1(),
        "micro_f1": counts.micro_f1(),
        "balanced_accuracy": counts.balanced_accuracy(outputs.multilabel),
        "log_loss": _log_loss(logs, labels),
        "ece": calibration_error(probs, labels),
        "brier": brier_score(probs, labels),
    }


def calibration_error(probs: Tensor, labels: Tensor, *, bins: int = 15) -> float:
    """The expected calibration error, 0 to 1: how far confidence is from accuracy, weighted over confidence bins.

    Confidences fall into `bins` bins of equal width over (0, 1]. One class: a row's confidence is its highest
    probability. Multi-label (labels (N, C) bool): every one of the N*C decisions counts by itself, with the confidence
    max(p, 1 - p) of the answer that was given, so nothing is below 1/2.

    Naeini et al. 2015, "Obtaining Well Calibrated Probabilities Using Bayesian Binning"; Guo et al. 2017.

    Example:
        >>> probs = torch.tensor([[0.8, 0.2], [0.8, 0.2]])
        >>> round(calibration_error(probs, torch.tensor([0, 1])), 3)
        0.3
    """
    probs = probs.double()
    multilabel = labels.dim() == 2
    labels = _checked(labels.to(probs.device), probs, multilabel)
    if multilabel:
        confidence, right = torch.maximum(probs, 1 - probs).flatten(), ((probs > 0.5) == labels).flatten()
    else:
        confidence, decided = probs.max(-1)
        right = decided == labels
    index = (confidence * bins).ceil().long().clamp(1, bins) - 1  # bins are open below and closed above
    gap = torch.zeros(bins, dtype=torch.float64, device=probs.device)
    gap.index_add_(0, index, confidence - right.double())  # count * (mean confidence - accuracy), per bin
    return (gap.abs().sum() / len(confidence)).item()


def brier_score(probs: Tensor, labels: Tensor) -> float:
    """The Brier score: mean squared distance of the probabilities from the truth, lower is better.

    Summed over the classes (0 to 2) for labels (N,); mean over the labels (0 to 1) when multi-label, (N, C) bool.
    """
    probs = probs.double()
    labels = _checked(labels.to(probs.device), probs, labels.dim() == 2)
    if labels.dim() == 2:
        return (probs - labels.double()).square().mean().item()
    true = probs.gather(1, labels[:, None]).squeeze(1)
    return (probs.square().sum(1) - 2 * true + 1).mean().item()  # |p - y|^2 with y one-hot


def _distributions(outputs: Outputs) -> tuple[Tensor, Tensor]:
    """Log-probabilities and probabilities (N, C), float64."""
    if "logits" in outputs.names:
        logs: Tensor = log_probs(outputs.logits.float(), outputs.multilabel)
        logits = outputs.logits.double()
        if outputs.multilabel:
            return torch.stack([logs, log_probs(-outputs.logits.float(), True)], -1).double(), logits.sigmoid()
        return logs.double(), logits.softmax(-1)
    probs = outputs.probs.double()
    both = torch.stack([probs, 1 - probs], -1) if outputs.multilabel else probs
    return both.clamp_min(_FLOOR).log(), probs


def _log_loss(logs: Tensor, labels: Tensor) -> float:
    """Mean negative log-probability of the truth: logs (N, C), or (N, C, 2) for yes and no when multi-label."""
    if logs.dim() == 3:
        return -torch.where(labels, logs[..., 0], logs[..., 1]).mean().item()
    return F.nll_loss(logs, labels).item()


def _checked(labels: Tensor, probs: Tensor, multilabel: bool) -> Tensor:
    rows, classes = probs.shape
    if not rows:
        raise DataError("there are no test rows to evaluate on: give a test split, or hold a share out")
    expected = (rows, classes) if multilabel else (rows,)
    if tuple(labels.shape) != expected:
        raise DataError(f"labels have shape {tuple(labels.shape)}, expected {expected} for {rows} rows of outputs")
    if not bool(torch.isfinite(probs).all()):
        bad = int((~torch.isfinite(probs)).any(1).sum())
        raise DataError(f"the model's outputs are NaN or infinite for {bad} of {rows} test rows")
    if multilabel:
        return labels.bool()
    outside = int(((labels < 0) | (labels >= classes)).sum())
    if outside:
        raise DataError(f"{outside} of {rows} test rows have no label, or one outside the {classes} classes")
    return labels.long()


@dataclass(frozen=True, eq=False)
class _Counts:
    """How often each class was true, predicted and both, (C,) each, float64."""

    both: Tensor
    true: Tensor
    predicted: Tensor
    rows: int

    @classmethod
    def of(cls, decided: Tensor, labels: Tensor, classes: int) -> "_Counts":
        if labels.dim() == 2:
            counts = [(decided & labels).sum(0), labels.sum(0), decided.sum(0)]
        else:
            counts = [torch.bincount(x, minlength=classes) for x in (labels[decided == labels], labels, decided)]
        both, true, predicted = (count.double() for count in counts)
        return cls(both, true, predicted, len(labels))

    def macro_f1(self) -> float:
        total = self.true + self.predicted
        occurs = total > 0
        return (2 * self.both / total)[occurs].mean().item() if bool(occurs.any()) else 1.0

    def micro_f1(self) -> float:
        total = (self.true + self.predicted).sum().item()
        return 2 * self.both.sum().item() / total if total else 1.0  # nothing to find, nothing claimed

    def balanced_accuracy(self, multilabel: bool) -> float:
        recall = self.both / self.true
        if not multilabel:
            return recall[self.true > 0].mean().item()
        negatives = self.rows - self.true
        specificity = (negatives - (self.predicted - self.both)) / negatives
        return torch.stack([recall, specificity]).nanmean(0).mean().item()  # nan: that answer never occurs
