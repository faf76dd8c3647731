"""Decide from logits which remaining rows the model labels automatically and which go to a person."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dal.evaluation.automation import Automation, log_p_values, promising, quantiles, sequence_test, threshold
from dal.evaluation.calibration_measures import Temperature
from dal.evaluation.class_recall import ClassRecall, RecallRule, score_quantiles
from dal.evaluation.confidence import answers, confidence, is_right

#: One in this many held-out rows calibrates the temperature and the first threshold; the others test the thresholds.
CALIBRATING = 4
#: Smallest number of these with a label from which a temperature is fitted.
MIN_CALIBRATING = 20
#: Thresholds that are tested, at most.
STEPS = 100


@dataclass(frozen=True, eq=False)
class Decisions:
    """Automatic labels of N rows, and which of them are confident enough to be used.

    Attributes:
        result: the threshold of the confidence and its guarantee; None where no error rate was given.
        answers: the model's answers, (N,) int64; multi-label (N, C) bool.
        confidence: (N,) float64, calibrated.
        automatic: (N,) bool, True where the model may answer alone.
        temperature: divisor of the logits.
        calibrating: number of held-out rows that chose the temperature and the first threshold.
        testing: number of held-out rows that tested the thresholds of the confidence.
        recalls: class code -> threshold of its probability, before the temperature, and its guarantee.
    """

    result: Automation | None
    answers: Tensor
    confidence: Tensor
    automatic: Tensor
    temperature: float
    calibrating: int
    testing: int
    recalls: Mapping[int, ClassRecall] = field(default_factory=lambda: MappingProxyType({}))


def decide(
    logits: Tensor,
    held_logits: Tensor,
    held_labels: Tensor,
    max_error: float | None,
    *,
    delta: float = 0.05,
    known: Tensor | None = None,
    thresholds: Tensor | None = None,
    min_recall: Mapping[int, float] = MappingProxyType({}),
    unlabeled: Tensor | None = None,
) -> Decisions:
    """Select the rows of N that the model may label alone, so that at most `max_error` of these labels are wrong.

    A quarter of the held-out rows chooses the temperature and the first threshold to test; the other three quarters are
    used for the test only. Rows cannot serve for both: with three classes or more a temperature changes the order of
    confidences, and with it which rows are automated. The grid consists of confidences of unlabeled rows. See
    `dal.evaluation.automation.threshold` for the guarantee: it covers rows from the distribution that the held-out rows
    were sampled from.

    With `min_recall`, a row that is not assigned one of these classes goes to a person if the probability of the class
    is high enough, so that at least that share of the rows of the class is assigned the class or seen by a person; see
    `dal.evaluation.class_recall.recall_threshold`. These thresholds are on probabilities before the temperature, so all
    held-out rows of the class with a known label test them.

    With both, one sequence of pairs of thresholds, which automate more and more of the unlabeled rows, is tested for
    the error rate of the rows that both allow and for the recall. The last pair at which all tests pass, and have
    passed before, is used, so each guarantee holds with probability 1 - delta.

    Args:
        logits: (N, C) of the remaining rows.
        held_logits: (m, C) of rows that the model was not trained on, in random order.
        held_labels: (m,) int64; multi-label (m, C) bool, where an error is any wrong decision in a row.
        max_error: the highest error rate allowed, 0 to 1, both excluded; None for any, with `min_recall`.
        delta: probability that the error rate nevertheless exceeds `max_error`, or a recall is lower than it should be.
        known: (m,) bool, False for held-out rows that nobody could label, which count as errors and are left out for
            the recall. None: all are known.
        thresholds: (C,), logits above which classes are assigned when multi-label; None for 0.
        min_recall: class code -> smallest share of its rows to find, 0 to 1, both excluded.
        unlabeled: (G, C) logits of the rows whose quantiles are the thresholds to test; None for `logits`.

    Example:
        >>> x = torch.linspace(-5, 7, 400)
        >>> logits = torch.stack([x, -x], 1)[torch.randperm(400, generator=torch.Generator().manual_seed(0))]
        >>> found = decide(logits, logits, (logits[:, 0] < 0.5).long(), 0.05)
        >>> int(found.automatic.sum()), found.calibrating, found.testing
        (384, 100, 300)
        >>> found = decide(logits, logits, (logits[:, 0] < 0.5).long(), None, min_recall={1: 0.95})
        >>> int(found.automatic.sum()), round(found.recalls[1].threshold, 3)
        (387, 0.317)
    """
    multilabel = held_labels.dim() == 2
    known = torch.ones(len(held_logits), dtype=torch.bool) if known is None else known
    how: dict[str, Any] = {"multilabel": multilabel, "thresholds": thresholds}
    first = len(held_logits) // CALIBRATING
    rest = len(held_logits) - first
    # Fitted to other rows than those of the test, whose guarantee holds for a confidence chosen without them.
    t = fitted_temperature(held_logits, held_labels, known)
    sure = confidence(logits, t, **how)
    seen = sure if unlabeled is None else confidence(unlabeled, t, **how)
    held = confidence(held_logits, t, **how).numpy()
    right = (is_right(answers(held_logits, **how), held_labels) & known).numpy()
    facts = (answers(logits, **how), sure)
    result: Automation | None = None
    if not min_recall:
        if max_error is None:
            raise ValueError("give max_error, or min_recall, or both")
        # Thresholds from the unlabeled rows: their quantiles say nothing about which held-out answers are wrong.
        grid = promising(quantiles(seen.numpy()), held[:first], right[:first], max_error, rows=rest)
        result = threshold(held[first:], right[first:], max_error, grid=grid, delta=delta)
        automatic = torch.zeros(len(sure), dtype=torch.bool) if result.threshold is None else sure >= result.threshold
        return Decisions(result, *facts, automatic, t, first, rest)

    rules = {}
    for code, share in min_recall.items():
        members = known & (held_labels[:, code] if multilabel else held_labels == code)
        grid = score_quantiles(*_of_class(logits if unlabeled is None else unlabeled, code, **how), steps=STEPS)
        rules[code] = RecallRule(*_of_class(held_logits, code, **how), members.numpy(), grid, share, delta)
    last = None
    if max_error is not None:
        result, last = _tested_together(seen.numpy(), held, right, list(rules.values()), max_error, first)
    recalls = {code: rule.test(last) for code, rule in rules.items()}
    automatic = torch.ones(len(sure), dtype=torch.bool)
    for code, recall in recalls.items():
        score, assigned = _of_class(logits, code, **how)
        below = np.zeros(len(score), np.bool_) if recall.threshold is None else score < recall.threshold
        automatic &= torch.from_numpy(assigned | below)
    if result is not None:
        automatic &= sure >= (math.inf if result.threshold is None else result.threshold)
    return Decisions(result, *facts, automatic, t, first, rest, recalls)


def _of_class(
    logits: Tensor, code: int, *, multilabel: bool, thresholds: Tensor | None
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Probability of a class before the temperature, (N,), and whether it is assigned, (N,)."""
    given = answers(logits, multilabel=multilabel, thresholds=thresholds)
    probs = logits.detach().double()
    probs = probs.sigmoid() if multilabel else probs.softmax(-1)
    return probs[:, code].cpu().numpy(), (given[:, code] if multilabel else given == code).cpu().numpy()


def _tested_together(
    unlabeled: NDArray[np.float64],
    held: NDArray[np.float64],
    right: NDArray[np.bool_],
    rules: Sequence[RecallRule],
    max_error: float,
    first: int,
) -> tuple[Automation, int]:
    """Test the error rate and the recalls along one sequence of steps, each of which automates more rows.

    Step i = 1..STEPS automates the share i / STEPS of the unlabeled rows by each of the thresholds alone. The sequence
    is chosen without the held-out labels, and begins where a quarter of them, which is not used for the test of the
    error rate, lets expect that the tests pass.

    Args:
        unlabeled: (G,) confidences of unlabeled rows.
        held: (m,) confidences of held-out rows.
        right: (m,) bool, whether the model is right on them.
        rules: rules of the classes.
        max_error: the highest error rate allowed.
        first: number of held-out rows that choose the first step.

    Returns:
        The threshold of the confidence at the last step that passes all tests, and the number of that step.
    """
    order = np.sort(unlabeled)[::-1]
    shares = np.arange(1, STEPS + 1) / STEPS
    lowest = order[np.maximum(np.ceil(shares * len(order) - 1e-9).astype(np.int64), 1) - 1]
    kept = (held >= lowest[:, None]) & np.stack([rule.allowed() for rule in rules]).all(0)  # (STEPS, m)
    wrong = (~right).astype(np.float64)
    power = log_p_values(kept[:, :first], wrong[:first], max_error, rows=len(held) - first)
    plausible = np.stack([rule.plausible(first) for rule in rules]).all(0)
    begin = int(np.argmin(np.where(plausible, power, np.inf)))  # the first step if none is plausible
    # The recalls are those of all steps before, too, since a row that is missed remains so.
    end = min(rule.test().passed for rule in rules) - 1
    steps = np.arange(begin, max(begin, end))
    result = sequence_test(
        steps.astype(np.float64), list(kept[steps][:, first:]), wrong[first:], max_error, delta=rules[0].delta
    )
    if result.threshold is None:
        return result, 0
    step = int(result.threshold)
    return replace(result, threshold=float(lowest[step])), step + 1


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
