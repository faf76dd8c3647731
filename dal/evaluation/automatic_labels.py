"""Decide from logits which remaining rows the model labels automatically and which go to a person."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from dal.evaluation.automation import Automation, promising, quantiles, threshold
from dal.evaluation.calibration_measures import Temperature
from dal.evaluation.confidence import answers, confidence, is_right

#: One in this many held-out rows calibrates the temperature and the first threshold; the others test the thresholds.
CALIBRATING = 4
#: Smallest number of these with a label from which a temperature is fitted.
MIN_CALIBRATING = 20


@dataclass(frozen=True, eq=False)
class Decisions:
    """Automatic labels of N rows, and which of them are confident enough to be used.

    Attributes:
        result: the threshold and its guarantee.
        answers: the model's answers, (N,) int64; multi-label (N, C) bool.
        confidence: (N,) float64, calibrated.
        automatic: (N,) bool, True where the model may answer alone.
        temperature: divisor of the logits.
        calibrating: number of held-out rows that chose the temperature and the first threshold.
        testing: number of held-out rows that tested the thresholds.
    """

    result: Automation
    answers: Tensor
    confidence: Tensor
    automatic: Tensor
    temperature: float
    calibrating: int
    testing: int


def decide(
    logits: Tensor,
    held_logits: Tensor,
    held_labels: Tensor,
    max_error: float,
    *,
    delta: float = 0.05,
    known: Tensor | None = None,
    thresholds: Tensor | None = None,
) -> Decisions:
    """Select the rows of N that the model may label alone, so that at most `max_error` of these labels are wrong.

    A quarter of the held-out rows chooses the temperature and the first threshold to test; the other three quarters are
    used for the test only. Rows cannot serve for both: with three classes or more a temperature changes the order of
    confidences, and with it which rows are automated. The grid consists of confidences of the remaining rows, which
    have no labels. See `dal.evaluation.automation.threshold` for the guarantee: it covers rows from the distribution
    that the held-out rows were sampled from.

    Args:
        logits: (N, C) of the remaining rows.
        held_logits: (m, C) of rows that the model was not trained on, in random order.
        held_labels: (m,) int64; multi-label (m, C) bool, where an error is any wrong decision in a row.
        max_error: the highest error rate allowed, 0 to 1, both excluded.
        delta: probability that the error rate nevertheless exceeds `max_error`.
        known: (m,) bool, False for held-out rows that nobody could label, which count as errors. None: all are known.
        thresholds: (C,), logits above which classes are assigned when multi-label; None for 0.

    Example:
        >>> x = torch.linspace(-5, 7, 400)
        >>> logits = torch.stack([x, -x], 1)[torch.randperm(400, generator=torch.Generator().manual_seed(0))]
        >>> found = decide(logits, logits, (logits[:, 0] < 0.5).long(), 0.05)
        >>> int(found.automatic.sum()), found.calibrating, found.testing
        (384, 100, 300)
    """
    multilabel = held_labels.dim() == 2
    known = torch.ones(len(held_logits), dtype=torch.bool) if known is None else known
    how: dict[str, Any] = {"multilabel": multilabel, "thresholds": thresholds}
    right = (is_right(answers(held_logits, **how), held_labels) & known).numpy()
    first = len(held_logits) // CALIBRATING
    # Fitted to other rows than those of the test, whose guarantee holds for a confidence chosen without them.
    t = fitted_temperature(held_logits, held_labels, known)
    sure = confidence(logits, t, **how)
    held = confidence(held_logits, t, **how).numpy()
    rest = len(held) - first
    # Thresholds from the unlabeled rows: their quantiles say nothing about which held-out answers are wrong.
    grid = promising(quantiles(sure.numpy()), held[:first], right[:first], max_error, rows=rest)
    result = threshold(held[first:], right[first:], max_error, grid=grid, delta=delta)
    automatic = torch.zeros(len(sure), dtype=torch.bool) if result.threshold is None else sure >= result.threshold
    return Decisions(result, answers(logits, **how), sure, automatic, t, first, rest)


def fitted_temperature(logits: Tensor, labels: Tensor, known: Tensor) -> float:
    """Temperature fitted to the first quarter of the held-out rows, as `decide` applies it.

    It is 1 if fewer than `MIN_CALIBRATING` of them have a label: a few rows that are all right would drive it to its
    lower limit, and all confidences to 1.

    Args:
        logits: (m, C) of held-out rows, in random order.
        labels: (m,) int64; multi-label (m, C) bool.
        known: (m,) bool, False for rows without a label.
    """
    first = len(logits) // CALIBRATING
    labeled = known[:first]
    enough = int(labeled.sum()) >= MIN_CALIBRATING
    return Temperature.fit(logits[:first][labeled], labels[:first][labeled]).value if enough else 1.0
