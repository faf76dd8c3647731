"""Metrics of parts of the rows: per class, and per group."""

import math
from collections import Counter
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from dal.config.moved import accepts_old_keywords
from dal.errors import DataError
from dal.evaluation.checked_inputs import checked, distributions
from dal.evaluation.counts import Counts
from dal.functional.checking import whole
from dal.outputs import Outputs

#: Largest number of groups that are reported.
MAX_GROUPS = 50

#: Metrics by name; None where a metric is undefined on the rows.
Figures = dict[str, float | None]


def per_class(outputs: Outputs, labels: Tensor, classes: Sequence[str]) -> dict[str, Figures]:
    """Precision, recall, F1 and number of true rows ("count") of every class, by class name.

    None where a metric is undefined: precision of a class that is never predicted, recall of one that does not occur,
    F1 of one that does neither. Also "threshold", the probability above which the class is assigned, where the outputs
    have thresholds.

    Args:
        outputs: N rows with `logits` or `probs` (N, C).
        labels: (N,) int64; (N, C) bool when `outputs.multilabel`.
        classes: C class names.

    Raises:
        DataError: as `evaluate`.
    """
    predicted, labels = _decided(outputs, labels)
    if len(classes) != outputs.probs.shape[-1]:
        raise DataError(f"classes has {len(classes)} names for {outputs.probs.shape[-1]} classes of outputs")
    counts = Counts.of(predicted, labels, len(classes))
    columns = (counts.precision(), counts.recall(), counts.f1(), counts.true)
    found: dict[str, Figures] = {
        name: {"precision": _none_if_nan(p), "recall": _none_if_nan(r), "f1": _none_if_nan(f), "count": int(n)}
        for name, p, r, f, n in zip(classes, *(column.tolist() for column in columns), strict=True)
    }
    if outputs.thresholds is not None:
        for name, threshold in zip(classes, outputs.thresholds.double().sigmoid().tolist(), strict=True):
            found[name]["threshold"] = threshold
    return found


@accepts_old_keywords
def per_group(
    outputs: Outputs, labels: Tensor, groups: Sequence[str], *, max_groups: int = MAX_GROUPS
) -> dict[str, Figures]:
    """Accuracy, macro-F1 (over the classes that occur in the group) and count of the largest groups, largest first.

    Args:
        outputs: N rows with `logits` or `probs` (N, C).
        labels: (N,) int64; (N, C) bool when `outputs.multilabel`.
        groups: N group names. Groups of equal size are ordered by name.
        max_groups: largest number of groups to report.

    Raises:
        DataError: as `evaluate`.
    """
    max_groups = whole(max_groups, "max_groups", 1)
    predicted, labels = _decided(outputs, labels)
    if len(groups) != len(labels):
        raise DataError(f"groups has {len(groups)} names for {len(labels)} rows")
    names = np.asarray(list(groups), dtype=object)
    sizes = sorted(Counter(names.tolist()).items(), key=lambda item: (-item[1], item[0]))[:max_groups]
    figures: dict[str, Figures] = {}
    for name, count in sizes:
        rows = torch.from_numpy(np.flatnonzero(names == name))
        correct = (predicted[rows] == labels[rows]).view(count, -1).all(1)
        counts = Counts.of(predicted[rows], labels[rows], outputs.to("cpu").probs.shape[1])
        figures[name] = {"accuracy": correct.double().mean().item(), "macro_f1": counts.macro_f1(), "count": count}
    return figures


def _decided(outputs: Outputs, labels: Tensor) -> tuple[Tensor, Tensor]:
    probs = distributions(outputs)[1]
    return outputs.to("cpu").decisions, checked(labels, probs, outputs.multilabel)


def _none_if_nan(value: float) -> float | None:
    return None if math.isnan(value) else value
