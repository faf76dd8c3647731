"""Validated labels and weights for the training loss."""

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from dal.errors import LearnerError


def checked_labels(labels: Tensor, classes: Sequence[str], multilabel: bool) -> Tensor:
    """Validate the labels and encode them as zeros and ones (L, C), float32.

    Args:
        labels: (L,) int64 codes, or (L, C) bool when multi-label.
        classes: C class names.
        multilabel: whether rows may have several classes.

    Raises:
        LearnerError: there are no labels, a label is out of range, or all labels are equal.
    """
    if not len(labels):
        raise LearnerError("nothing is labeled yet, so there is nothing to train on")
    if multilabel:
        if labels.shape != (len(labels), len(classes)):
            raise LearnerError(
                f"multi-label training reads labels of shape (rows, {len(classes)}), got {tuple(labels.shape)}"
            )
        return labels.cpu().float()
    if labels.dim() != 1 or int(labels.min()) < 0 or int(labels.max()) >= len(classes):
        raise LearnerError(
            f"labels must be codes from 0 to {len(classes) - 1}, got shape {tuple(labels.shape)} from "
            f"{int(labels.min())} to {int(labels.max())}"
        )
    if len(labels.unique()) == 1:
        raise LearnerError(
            f"all {len(labels)} labels are {classes[int(labels[0])]!r}: a classifier needs at least two classes. "
            "Label more rows, or start from a larger or more varied set"
        )
    return F.one_hot(labels.cpu().long(), len(classes)).float()


def class_weights_of(targets: Tensor, rule: Literal["balanced"] | None, multilabel: bool) -> Tensor | None:
    """Return one weight per class (C,) with a mean of 1 over the rows; None without a rule.

    "balanced" weights a class by the inverse of its frequency among the targets (L, C). When multi-label, the weight
    applies to positive targets: it is the number of negatives per positive, between 0.01 and 100. Absent classes have
    weight 1.
    """
    if rule is None:
        return None
    counts = targets.sum(0)
    if multilabel:
        return torch.where(counts > 0, (len(targets) - counts) / counts.clamp_min(1), 1.0).clamp(0.01, 100.0)
    present = int((counts > 0).sum())
    return torch.where(counts > 0, len(targets) / (present * counts.clamp_min(1)), 1.0)


def row_weights(targets: Tensor, weights: Tensor | None, rule: Literal["balanced"] | None, multilabel: bool) -> Tensor:
    """Return the weight of each row in the loss (L,): its sample weight times its class weight.

    The class weight of a row with several labels is the mean over its classes.

    Raises:
        LearnerError: the number of weights differs from that of the rows, or a weight is negative or not finite.
    """
    rows = checked_weights(weights, len(targets))
    by_class = class_weights_of(targets, rule, multilabel)
    if by_class is None:
        return rows
    if multilabel:
        applies = targets.sum(1)
        return rows * torch.where(applies > 0, targets @ by_class / applies.clamp_min(1), 1.0)
    return rows * (targets @ by_class)


def checked_weights(weights: Tensor | None, count: int) -> Tensor:
    """Validate sample weights (L,) and convert them to float32; ones if None.

    Raises:
        LearnerError: their number differs from `count`, one is negative or not finite, or all are zero.
    """
    if weights is None:
        return torch.ones(count)
    weights = weights.detach().cpu().float()
    if weights.shape != (count,) or not bool(torch.isfinite(weights).all()) or bool((weights < 0).any()):
        raise LearnerError(f"sample weights must be {count} finite, non-negative numbers")
    if not bool(weights.any()):
        raise LearnerError("all sample weights are 0, so there is nothing to train on")
    return weights
