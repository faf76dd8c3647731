"""Confusion counts of each class, and the metrics that are computed from them alone."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Counts:
    """Counts of true, predicted and correctly predicted rows of each class, (C,) float64 each.

    Attributes:
        both: number of rows of the class that were predicted as it (true positives).
        true: number of rows of the class.
        predicted: number of rows predicted as the class.
        rows: number of rows N.
        multilabel: whether a row may have several classes.
    """

    both: Tensor
    true: Tensor
    predicted: Tensor
    rows: int
    multilabel: bool

    @classmethod
    def of(cls, decided: Tensor, labels: Tensor, classes: int) -> "Counts":
        """Count predictions and labels, both (N,) int64, or (N, C) bool when multi-label."""
        if labels.dim() == 2:
            counts = [(decided & labels).sum(0), labels.sum(0), decided.sum(0)]
        else:
            counts = [torch.bincount(x, minlength=classes) for x in (labels[decided == labels], labels, decided)]
        both, true, predicted = (count.double() for count in counts)
        return cls(both, true, predicted, len(labels), labels.dim() == 2)

    def precision(self) -> Tensor:
        """Precision of each class, (C,); NaN where the class is never predicted."""
        return self.both / self.predicted

    def recall(self) -> Tensor:
        """Recall of each class, (C,); NaN where the class does not occur."""
        return self.both / self.true

    def f1(self) -> Tensor:
        """F1 of each class, (C,); NaN where the class neither occurs nor is predicted."""
        return 2 * self.both / (self.true + self.predicted)

    def macro_f1(self) -> float:
        """Mean F1 of the classes that occur among labels or predictions."""
        f1 = self.f1()
        occurs = ~f1.isnan()
        return f1[occurs].mean().item() if bool(occurs.any()) else 1.0  # nothing to find, nothing claimed

    def micro_f1(self) -> float:
        """F1 of all decisions counted together."""
        total = (self.true + self.predicted).sum().item()
        return 2 * self.both.sum().item() / total if total else 1.0  # nothing to find, nothing claimed

    def balanced_accuracy(self) -> float:
        """Mean recall of the classes that occur; multi-label: mean recall of yes and no, averaged over the labels."""
        recall = self.recall()
        if not self.multilabel:
            return recall[self.true > 0].mean().item()
        negatives = self.rows - self.true  # each label is a binary problem, whose other class is "no"
        specificity = (negatives - (self.predicted - self.both)) / negatives
        return torch.stack([recall, specificity]).nanmean(0).mean().item()  # NaN: no such row

    def matthews(self) -> float | None:
        """Matthews correlation coefficient, -1 to 1; None where the labels are all the same.

        With s rows, c correct ones, t_k rows of class k and p_k predictions of it:
        (c s - sum_k p_k t_k) / sqrt((s^2 - sum_k p_k^2) (s^2 - sum_k t_k^2)). Multi-label: the mean of the two-class
        coefficient over the labels that are true for some rows and false for others. 0 where all predictions are the
        same.

        Matthews 1975; several classes: Gorodkin 2004, "Comparing Two K-Category Assignments by a K-Category
        Correlation Coefficient".
        """
        if not self.multilabel:
            return _correlation(self.both, self.true, self.predicted, self.rows)
        each = [
            _correlation(
                torch.stack([both, self.rows - true - predicted + both]),
                torch.stack([true, self.rows - true]),
                torch.stack([predicted, self.rows - predicted]),
                self.rows,
            )
            for both, true, predicted in zip(self.both, self.true, self.predicted, strict=True)
        ]
        defined = [value for value in each if value is not None]
        return sum(defined) / len(defined) if defined else None


def _correlation(both: Tensor, true: Tensor, predicted: Tensor, rows: int) -> float | None:
    # Gorodkin 2004, "Comparing two K-category assignments by a K-category correlation coefficient", in counts.
    labels, answers = rows**2 - (true @ true).item(), rows**2 - (predicted @ predicted).item()
    if labels <= 0:
        return None
    if answers <= 0:  # the same answer for every row: 0 / 0, taken as no correlation
        return 0.0
    shared: float = both.sum().item() * rows - (predicted @ true).item()
    return shared / math.sqrt(labels * answers)
