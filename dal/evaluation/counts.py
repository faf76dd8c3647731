"""How often each class was true, predicted and both, and the figures that follow from these counts alone."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Counts:
    """How often each class was true, predicted and both, (C,) each, float64.

    Attributes:
        both: rows of the class that were answered with it.
        true: rows of the class.
        predicted: rows that were answered with it.
        rows: N.
        multilabel: whether a row may have several classes.
    """

    both: Tensor
    true: Tensor
    predicted: Tensor
    rows: int
    multilabel: bool

    @classmethod
    def of(cls, decided: Tensor, labels: Tensor, classes: int) -> "Counts":
        """The counts of answers and labels, both (N,) int64, or (N, C) bool when multi-label."""
        if labels.dim() == 2:
            counts = [(decided & labels).sum(0), labels.sum(0), decided.sum(0)]
        else:
            counts = [torch.bincount(x, minlength=classes) for x in (labels[decided == labels], labels, decided)]
        both, true, predicted = (count.double() for count in counts)
        return cls(both, true, predicted, len(labels), labels.dim() == 2)

    def precision(self) -> Tensor:
        """(C,) share of the answers that are right; NaN where the class was never answered."""
        return self.both / self.predicted

    def recall(self) -> Tensor:
        """(C,) share of the class that was found; NaN where it does not occur."""
        return self.both / self.true

    def f1(self) -> Tensor:
        """(C,) harmonic mean of both; NaN where the class neither occurs nor was answered."""
        return 2 * self.both / (self.true + self.predicted)

    def macro_f1(self) -> float:
        """Mean F1 of the classes that occur among labels or answers."""
        f1 = self.f1()
        occurs = ~f1.isnan()
        return f1[occurs].mean().item() if bool(occurs.any()) else 1.0  # nothing to find, nothing claimed

    def micro_f1(self) -> float:
        """F1 of all decisions counted together."""
        total = (self.true + self.predicted).sum().item()
        return 2 * self.both.sum().item() / total if total else 1.0  # nothing to find, nothing claimed

    def balanced_accuracy(self) -> float:
        """Mean recall of the classes that occur; multi-label: of yes and no, mean over the labels."""
        recall = self.recall()
        if not self.multilabel:
            return recall[self.true > 0].mean().item()
        negatives = self.rows - self.true
        specificity = (negatives - (self.predicted - self.both)) / negatives
        return torch.stack([recall, specificity]).nanmean(0).mean().item()  # nan: that answer never occurs

    def matthews(self) -> float | None:
        """Matthews' correlation coefficient, -1 to 1; None where the labels are all the same.

        With s rows, c right ones, t_k rows of class k and p_k answers with it:
        (c s - sum_k p_k t_k) / sqrt((s^2 - sum_k p_k^2) (s^2 - sum_k t_k^2)). Multi-label: the mean of the two-class
        coefficient over the labels that occur with both answers. 0 where all answers are the same: they say nothing.

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
    labels, answers = rows**2 - (true @ true).item(), rows**2 - (predicted @ predicted).item()
    if labels <= 0:
        return None
    if answers <= 0:
        return 0.0
    shared: float = both.sum().item() * rows - (predicted @ true).item()
    return shared / math.sqrt(labels * answers)
