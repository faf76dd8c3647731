"""From the logits of held-out and of remaining rows to what the model labels alone and what goes to a person."""

from dataclasses import dataclass

import torch
from torch import Tensor

from dal.evaluation.automation import Automation, promising, quantiles, threshold
from dal.evaluation.calibration import Temperature
from dal.evaluation.confidence import answers, confidence, is_right

#: One in so many held-out rows chooses the temperature and where the search begins; the others decide.
CALIBRATING = 4


@dataclass(frozen=True, eq=False)
class Decisions:
    """What becomes of N rows.

    Attributes:
        result: the threshold and its guarantee.
        answers: the model's, (N,) int64; multi-label (N, C) bool.
        confidence: (N,) float64, calibrated.
        automatic: (N,) bool: the model may answer alone.
        temperature: that the logits were divided by.
        calibrating: held-out rows that chose the temperature and where the search begins.
        testing: held-out rows that decided.
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
) -> Decisions:
    """Which of N rows the model may label alone, so that at most `max_error` of these labels are wrong.

    A quarter of the held-out rows chooses the temperature and the first threshold to test; the other three quarters are
    read for nothing but the test. Rows cannot serve for both: with three classes or more a temperature changes the
    order of confidences, and with it which rows are automated. The grid is made of the confidences of the remaining
    rows, which have no labels. See `dal.evaluation.automation.threshold` for the guarantee: it is for rows from the law
    that the held-out ones were drawn from.

    Args:
        logits: (N, C) of the remaining rows.
        held_logits: (m, C) of rows that the model was not trained on, in random order.
        held_labels: (m,) int64; multi-label (m, C) bool, where an error is any wrong decision in a row.
        max_error: the highest error rate allowed, 0 to 1, both excluded.
        delta: the probability that it is exceeded all the same.
        known: (m,) bool; a held-out row that nobody could label counts as an error. None: all are known.

    Example:
        >>> x = torch.linspace(-5, 7, 400)
        >>> logits = torch.stack([x, -x], 1)[torch.randperm(400, generator=torch.Generator().manual_seed(0))]
        >>> found = decide(logits, logits, (logits[:, 0] < 0.5).long(), 0.05)
        >>> int(found.automatic.sum()), found.calibrating, found.testing
        (384, 100, 300)
    """
    multilabel = held_labels.dim() == 2
    known = torch.ones(len(held_logits), dtype=torch.bool) if known is None else known
    right = (is_right(answers(held_logits, multilabel=multilabel), held_labels) & known).numpy()
    first = len(held_logits) // CALIBRATING
    labeled = known[:first]
    t = _temperature(held_logits[:first][labeled], held_labels[:first][labeled])
    sure = confidence(logits, t, multilabel=multilabel)
    held = confidence(held_logits, t, multilabel=multilabel).numpy()
    rest = len(held) - first
    grid = promising(quantiles(sure.numpy()), held[:first], right[:first], max_error, rows=rest)
    result = threshold(held[first:], right[first:], max_error, grid=grid, delta=delta)
    automatic = torch.zeros(len(sure), dtype=torch.bool) if result.threshold is None else sure >= result.threshold
    return Decisions(result, answers(logits, multilabel=multilabel), sure, automatic, t, first, rest)


def _temperature(logits: Tensor, labels: Tensor) -> float:
    """The one that the rows choose; 1 without any."""
    return Temperature.fit(logits, labels).value if len(labels) else 1.0
