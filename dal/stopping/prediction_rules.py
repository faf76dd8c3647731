"""Stopping rules on the predictions of successive models for a fixed sample of the pool. They need no labels."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dal.config.moved import accepts_old_options
from dal.evaluation.agreement import f_change_bound, kappa, kappa_variance
from dal.functional.checking import Options
from dal.stopping.rule import History, StoppingRule, Verdict, count, given, number

#: Minimum size of a stop set: agreement on fewer rows is too imprecise.
LEAST_ROWS = 100


class StopSetRule(StoppingRule):
    """Base class of rules that read the predictions for the first `size` rows of the stop set over `window` rounds."""

    window: int
    size: int

    needs = frozenset({"stop_set"})

    def __post_init__(self) -> None:
        """Validate `window` and `size`."""
        options = Options(self)
        options.whole("window", least=1, description="at least 1")
        options.whole("size", least=LEAST_ROWS, description=f"at least {LEAST_ROWS}")

    @property
    def stop_set(self) -> int:  # type: ignore[override]
        """Number of stop-set rows that the rule reads."""
        return self.size


@dataclass(frozen=True)
class StabilizingPredictions(StopSetRule):
    """Stops when successive models agree: further labels hardly change the predictions.

    Computes Cohen's kappa between the predictions of consecutive models on the stop set, and stops when the mean over
    the last `window` pairs reaches the threshold. For multi-label data, kappa is taken over all binary decisions.
    Kappa is undefined when both models assign every row to the same class; the rule then does not stop. Rounds without
    a new label are ignored, since the model is the same.

    Bloodgood and Vijay-Shanker 2009, "A Method for Stopping Active Learning Based on Stabilizing Predictions and the
    Need for User-Adjustable Stopping": stop set of 2,000, mean of three kappas, .99. The verdict's notes give the
    standard deviation of that mean over samples of the stop set (from the variance of each kappa) and, for two
    classes, a bound of the difference between the F-measures of the last two models: 4 (1 - kappa) / kappa (Bloodgood
    and Grothendieck 2013).

    Args:
        threshold: minimum mean kappa, above 0 and at most 1.
        window: number of consecutive pairs of models to average over.
        size: rows of the stop set, at least 100; the whole pool if it is smaller.
    """

    threshold: float = 0.99
    window: int = 3
    size: int = 2000

    paper = "Bloodgood and Vijay-Shanker 2009; Bloodgood and Grothendieck 2013"
    advice = "the first to try: needs no labels; batches of a few rows change little, so take a longer window for them"

    def __post_init__(self) -> None:
        super().__post_init__()
        Options(self).number("threshold", above=0, most=1)

    def judge(self, history: History) -> Verdict:
        """Compare the mean kappa of the last pairs of models to the threshold."""
        pairs = list(pairwise(_models(history)))[-self.window :]
        tables = [_table(first, second, self.size) for first, second in pairs]
        known = [table for table in tables if table is not None]
        if len(known) < self.window:
            return Verdict(False, f"{count(len(known), 'pair')} of models to compare so far, {self.window} are needed")
        kappas = [kappa(table) for table in known]
        mean = float(np.mean(kappas))
        if not np.isfinite(mean):
            return Verdict(False, "successive models put every row of the stop set into the same class")
        deviation = float(np.sqrt(np.sum([kappa_variance(table) for table in known]))) / len(known)
        over = f"over the last {count(self.window, 'round')}"
        text = (
            f"kappa was {number(mean, 3, self.threshold)} on average {over} (at least {given(self.threshold)} wanted)"
        )
        notes = {"kappa": mean, "kappa_last": kappas[-1], "kappa_deviation": deviation}
        if len(known[-1]) == 2 and kappas[-1] > 0:
            notes["f_change_bound"] = f_change_bound(kappas[-1])
        return Verdict(mean >= self.threshold, text, notes)


@accepts_old_options
@dataclass(frozen=True)
class ClassificationChange(StopSetRule):
    """Stops when new labels no longer change the predictions of the unlabeled rows.

    Zhu, Wang and Hovy 2008, "Multi-criteria-based Strategy to Stop Active Learning for Data Annotation", use the whole
    pool; this rule uses the unlabeled rows of a fixed sample of it. It does not stop while the model assigns the whole
    sample to a single class.

    Args:
        max_change: maximum share of rows whose prediction changes, in [0, 1); 0 as published.
        window: number of consecutive rounds.
        size: rows of the sample, at least 100; the whole pool if it is smaller.
    """

    max_change: float = 0.0
    window: int = 1
    size: int = 2000

    paper = "Zhu, Wang and Hovy 2008"
    advice = "strict for large pools and unstable learners, hasty for batches of a few rows: combine it with another"

    def __post_init__(self) -> None:
        super().__post_init__()
        Options(self).number("max_change", least=0, below=1, description="at least 0 and below 1")

    def judge(self, history: History) -> Verdict:
        """Compare the share of changed predictions in the last rounds to the maximum."""
        pairs = list(pairwise(_models(history)))[-self.window :]
        changes = [change for pair in pairs if (change := _changes(*pair, self.size)) is not None]
        if len(changes) < self.window:
            return Verdict(
                False, f"{count(len(changes), 'pair')} of models to compare so far, {self.window} are needed"
            )
        changed, rows = max(changes, key=lambda pair: pair[0] / pair[1])
        over = "in the last round" if self.window == 1 else f"at most in the last {count(self.window, 'round')}"
        text = (
            f"{changed:,} of {count(rows, 'prediction')} changed {over} (at most {int(self.max_change * rows)} wanted)"
        )
        notes = {"share_changed": changes[-1][0] / changes[-1][1]}
        if len(set(pairs[-1][1]["predictions"][: self.size])) == 1:
            return Verdict(False, f"{text}, but the model puts every row into the same class", notes)
        return Verdict(changed <= self.max_change * rows, text, notes)


@dataclass(frozen=True)
class OverallUncertainty(StopSetRule):
    """Stops when the mean uncertainty on the unlabeled rows is low.

    The uncertainty is the mean entropy of the predictions for the unlabeled rows of a fixed sample of the pool,
    divided by its maximum: 0 is certain, 1 is uniform. Zhu, Wang and Hovy 2008 (as `ClassificationChange`), who also
    combine the two: `OverallUncertainty() & ClassificationChange()`.

    Args:
        threshold: maximum mean uncertainty, between 0 and 1. A suitable value depends on the learner: fine-tuned models
            are overconfident, regularised linear ones underconfident. Record a run with `Observe` to choose it.
        window: number of consecutive rounds.
        size: minimum rows of the sample, 100 or more; the whole pool if it is smaller.
    """

    threshold: float = 0.05
    window: int = 1
    size: int = 2000

    paper = "Zhu, Wang and Hovy 2008"
    advice = "with another rule, for a learner whose probabilities you trust"

    def __post_init__(self) -> None:
        super().__post_init__()
        Options(self).number("threshold", above=0, below=1, description="between 0 and 1")

    def judge(self, history: History) -> Verdict:
        """Compare the mean uncertainty of the last rounds to the threshold."""
        known = [line["stop_set"]["uncertainty"] for line in history.having("stop_set")][-self.window :]
        if len(known) < self.window or any(value is None for value in known):
            return Verdict(False, f"the uncertainty of {self.window} rounds is needed, there is that of {len(known)}")
        highest = max(known)
        over = "" if self.window == 1 else f" at most in the last {count(self.window, 'round')}"
        mean = number(highest, 3, self.threshold)
        text = f"the mean uncertainty was {mean}{over} (at most {given(self.threshold)} wanted)"
        return Verdict(highest <= self.threshold, text, {"uncertainty": known[-1]})


Record = Mapping[str, Any]


def _models(history: History) -> list[Record]:
    """The stop-set records of successive models; rounds without a new label are left out."""
    kept: list[Record] = []
    labels = None
    for line in history.having("stop_set"):
        if line["labels"] != labels:
            kept.append(line["stop_set"])
        labels = line["labels"]
    return kept


def _both(first: Record, second: Record, size: int) -> tuple[Sequence[int], Sequence[int]] | None:
    """The predictions of two models for the same rows; None if the samples differ, because the pool has changed."""
    if first["of"] != second["of"]:
        return None
    rows = min(len(first["predictions"]), len(second["predictions"]), size)
    return (first["predictions"][:rows], second["predictions"][:rows]) if rows else None


def _table(first: Record, second: Record, size: int) -> NDArray[np.int64] | None:
    """Contingency table of two models: (C, C) for the C predicted classes, (2, 2) when multi-label."""
    both = _both(first, second, size)
    if both is None:
        return None
    if second["multilabel"]:
        decisions = second["classes"] * len(both[0])
        yes = sum((a & b).bit_count() for a, b in zip(*both, strict=True))
        yes_first, yes_second = (sum(value.bit_count() for value in values) for values in both)
        return np.array([[decisions - yes_first - yes_second + yes, yes_second - yes], [yes_first - yes, yes]])
    classes, codes = np.unique(np.array(both), return_inverse=True)
    c, (a, b) = len(classes), codes.reshape(2, -1)
    return np.bincount(a * c + b, minlength=c * c).reshape(c, c)


def _changes(first: Record, second: Record, size: int) -> tuple[int, int] | None:
    """Number of changed predictions among the unlabeled rows, and number of these rows."""
    both = _both(first, second, size)
    if both is None:
        return None
    labeled = set(second["labeled"])
    unlabeled = [i for i in range(len(both[0])) if i not in labeled]
    return (sum(both[0][i] != both[1][i] for i in unlabeled), len(unlabeled)) if unlabeled else None
