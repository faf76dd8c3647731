"""Detection of probable label errors: confident learning from out-of-sample probabilities.

Northcutt, Jiang and Chuang 2021, "Confident Learning: Estimating Uncertainty in Dataset Labels".
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from dal.config.moved import renamed_attributes
from dal.evaluation.checked_inputs import checked

#: Tolerance of threshold comparisons: the mean of equal probabilities may be rounded to a value above them.
_SLACK = 1e-9


@dataclass(frozen=True, eq=False)
class LabelIssues:
    """Rows with a probable label error, the most probable first.

    Attributes:
        rows: (d,) int64, positions among the labeled rows.
        given: (d,) int64 given labels; (d, C) bool when multi-label.
        suggested: suggested labels, in the same shape.
        confidence: (d,) float64, probability of the suggested label; multi-label: of the suggested decision with the
            smallest margin.
        margin: (d,) float64, -1 to 1, ascending: probability of the given label minus that of the best other one.
    """

    rows: Tensor
    given: Tensor
    suggested: Tensor
    confidence: Tensor
    margin: Tensor

    def __len__(self) -> int:
        return len(self.rows)


def thresholds(probs: Tensor, labels: Tensor) -> Tensor:
    """Confidence threshold of each class, (C,): its mean probability among the rows labeled with it.

    Infinite for a class that no row has, so that it is never suggested. Shapes: probs (N, C), labels (N,) int64.
    """
    sums = torch.zeros(probs.shape[1], dtype=torch.float64)
    sums.index_add_(0, labels, probs.double().gather(1, labels[:, None]).squeeze(1))
    counts = torch.bincount(labels, minlength=probs.shape[1])
    return torch.where(counts > 0, sums / counts, torch.inf)


def confident_classes(probs: Tensor, labels: Tensor) -> Tensor:
    """Most probable class among those above their threshold, (N,) int64; -1 where no class is."""
    confident = probs.double() >= thresholds(probs, labels) - _SLACK
    best = probs.double().masked_fill(~confident, -1.0).max(1)
    return torch.where(best.values >= 0, best.indices, -1)


def confident_joint(probs: Tensor, labels: Tensor) -> Tensor:
    """Confident joint, (C, C) int64: number of rows labeled i that are confidently of class j.

    Rows on the diagonal agree with their label; the others are probable errors.

    Example:
        >>> probs = torch.tensor([[0.9, 0.1], [0.8, 0.2], [0.1, 0.9], [0.9, 0.1]])
        >>> confident_joint(probs, torch.tensor([0, 0, 1, 1])).tolist()
        [[1, 0], [1, 1]]
    """
    probs, labels = _checked(probs, labels)
    classes = probs.shape[1]
    counted = confident_classes(probs, labels)
    pairs = (labels * classes + counted)[counted >= 0]
    return torch.bincount(pairs, minlength=classes**2).view(classes, classes)


def estimated_joint(probs: Tensor, labels: Tensor) -> Tensor:
    """Estimated joint distribution of given and true labels, (C, C) float64 that sums to 1.

    The confident joint with each row scaled to the count of its given label. The sum off its diagonal is the estimated
    share of wrong labels. A given class without confident rows is assumed to be correct.
    """
    counts = confident_joint(probs, labels).double()
    given = torch.bincount(labels, minlength=len(counts)).double()
    # Without a confident row, the given labels of a class are taken to be correct, instead of dividing by 0.
    counts = torch.where((counts.sum(1) > 0)[:, None], counts, torch.eye(len(counts), dtype=torch.float64))
    scaled = counts / counts.sum(1, keepdim=True) * given[:, None]
    return scaled / scaled.sum()


def label_issues(probs: Tensor, labels: Tensor) -> LabelIssues:
    """Rows off the diagonal of the confident joint, ranked by margin: probable label errors.

    The probabilities must come from models that were not trained on the row: a model fits the labels it was trained on.
    Multi-label: each label is a separate binary problem, and a row is returned when any of its labels is suspect.

    Args:
        probs: (N, C).
        labels: (N,) int64; (N, C) bool when multi-label.

    Raises:
        DataError: there are no rows, a row has no label, or a probability is not finite.

    Example:
        >>> probs = torch.tensor([[0.9, 0.1], [0.8, 0.2], [0.1, 0.9], [0.9, 0.1]])
        >>> issues = label_issues(probs, torch.tensor([0, 0, 1, 1]))
        >>> issues.rows.tolist(), issues.suggested.tolist()
        ([3], [0])
    """
    probs, labels = _checked(probs, labels)
    if labels.dim() == 2:
        return _multilabel_issues(probs, labels)
    counted = confident_classes(probs, labels)
    margin = _margins(probs, labels)
    rows = ((counted >= 0) & (counted != labels)).nonzero().flatten()
    rows = rows[margin[rows].argsort(stable=True)]
    suggested = counted[rows]
    return LabelIssues(rows, labels[rows], suggested, probs[rows, suggested], margin[rows])


def _multilabel_issues(probs: Tensor, labels: Tensor) -> LabelIssues:
    wrong, margins = torch.zeros_like(labels), torch.full_like(probs, torch.inf)
    for label in range(probs.shape[1]):
        # Each label is a binary problem of its own: code 0 for no and 1 for yes.
        both, given = torch.stack([1 - probs[:, label], probs[:, label]], 1), labels[:, label].long()
        counted = confident_classes(both, given)
        wrong[:, label] = (counted >= 0) & (counted != given)
        margins[:, label] = _margins(both, given)
    worst = margins.masked_fill(~wrong, torch.inf).min(1)
    rows = wrong.any(1).nonzero().flatten()
    rows = rows[worst.values[rows].argsort(stable=True)]
    margin = worst.values[rows]
    # The margin is p(given) - p(other) of the worst label, with both summing to 1: p(other) = (1 - margin) / 2.
    return LabelIssues(rows, labels[rows], labels[rows] ^ wrong[rows], (1 - margin) / 2, margin)


def _margins(probs: Tensor, labels: Tensor) -> Tensor:
    """Probability of the given label minus the greatest of the others, (N,)."""
    given = probs.gather(1, labels[:, None])
    others = probs.scatter(1, labels[:, None], -torch.inf).amax(1) if probs.shape[1] > 1 else torch.zeros(len(probs))
    return given.squeeze(1) - others


def _checked(probs: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    probs = probs.detach().cpu().double()
    return probs, checked(labels, probs, labels.dim() == 2, "labeled rows")


#: Names of version 0.1.
__getattr__ = renamed_attributes(__name__)
