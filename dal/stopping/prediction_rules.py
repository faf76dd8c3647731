"""Stop by what successive models predict for a fixed sample of the pool, which needs no label at all."""

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

#: A stop set of fewer rows than this is refused: agreement on it says too little.
LEAST_ROWS = 100


class StopSetRule(StoppingRule):
    """A rule that reads the predictions for the first `size` rows of the stop set over `window` rounds."""

    window: int
    size: int

    needs = frozenset({"stop_set"})

    def __post_init__(self) -> None:
        """Refuse a window or a stop set that says nothing."""
        options = Options(self)
        options.whole("window", least=1, said="at least 1")
        options.whole("size", least=LEAST_ROWS, said=f"at least {LEAST_ROWS}")

    @property
    def stop_set(self) -> int:  # type: ignore[override]
        """Rows of the pool whose predictions it reads."""
        return self.size


@dataclass(frozen=True)
class StabilizingPredictions(StopSetRule):
    """Stops when successive models agree: further labels hardly change what is predicted.

    Cohen's kappa between the predictions of each model and of the one before, on the stop set; stops when its mean
    over the last rounds is high enough. Several classes per row: kappa of all yes-or-no decisions taken together.
    Where two models put every row into one and the same class kappa does not exist, and nothing is concluded. Rounds
    that brought no label are left out: the same model agrees with itself.

    Bloodgood and Vijay-Shanker 2009, "A Method for Stopping Active Learning Based on Stabilizing Predictions and the
    Need for User-Adjustable Stopping": stop set of 2,000, mean of three kappas, .99. The verdict's notes give the
    sampling deviation of that mean (from the variance of each kappa, as if the sets were drawn again) and, for two
    classes, how far the F-measures of the last two models can be apart: 4 (1 - kappa) / kappa (Bloodgood and
    Grothendieck 2013).

    Args:
        threshold: the least mean kappa.
        window: over how many successive pairs of models; one more model is needed.
        size: rows of the stop set, at least 100; the whole pool where it is smaller.
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
        """The mean kappa of the last pairs of models against the threshold."""
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
    """Stops when the new labels change no prediction among the rows without a label.

    Zhu, Wang and Hovy 2008, "Multi-criteria-based Strategy to Stop Active Learning for Data Annotation", look at the
    whole pool; here a fixed sample of it stands for it, of which rows that have a label by now are left out. A model
    that puts all of it into one class is not taken for a stable one.

    Args:
        max_change: the share of the rows that may change their class, 0 as published.
        window: so many rounds in a row.
        size: rows of the sample, at least 100; the whole pool where it is smaller.
    """

    max_change: float = 0.0
    window: int = 1
    size: int = 2000

    paper = "Zhu, Wang and Hovy 2008"
    advice = "strict for large pools and unstable learners, hasty for batches of a few rows: combine it with another"

    def __post_init__(self) -> None:
        super().__post_init__()
        Options(self).number("max_change", least=0, below=1, said="at least 0 and below 1")

    def judge(self, history: History) -> Verdict:
        """The share of predictions that changed in the last rounds against the most allowed."""
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
        if _single_class(pairs[-1][1], self.size):
            return Verdict(False, f"{text}, but the model puts every row into the same class", notes)
        return Verdict(changed <= self.max_change * rows, text, notes)


@dataclass(frozen=True)
class OverallUncertainty(StopSetRule):
    """Stops when the model is sure, on average, of the rows without a label.

    The mean entropy of its predictions over the rows of a fixed sample of the pool that have no label yet, divided by
    the greatest possible, so that 0 is sure and 1 knows nothing. Zhu, Wang and Hovy 2008 (as `ClassificationChange`),
    who also combine the two: `OverallUncertainty() & ClassificationChange()`.

    Args:
        threshold: the mean uncertainty to fall to. What is low depends on the learner: a fine-tuned model is sure of
            everything, a regularised linear one of nothing. Look at the figures of a run (`Observe`) before you rely
            on one.
        window: so many rounds in a row.
        size: rows of the sample at least, 100 or more; the whole pool where it is smaller.
    """

    threshold: float = 0.05
    window: int = 1
    size: int = 2000

    paper = "Zhu, Wang and Hovy 2008"
    advice = "with another rule, for a learner whose probabilities you trust"

    def __post_init__(self) -> None:
        super().__post_init__()
        Options(self).number("threshold", above=0, below=1, said="between 0 and 1")

    def judge(self, history: History) -> Verdict:
        """The mean uncertainty of the last rounds against the threshold."""
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
    """The stop sets that successive models were read on: rounds that brought no label are left out."""
    kept: list[Record] = []
    labels = None
    for line in history.having("stop_set"):
        if line["labels"] != labels:
            kept.append(line["stop_set"])
        labels = line["labels"]
    return kept


def _both(first: Record, second: Record, size: int) -> tuple[Sequence[int], Sequence[int]] | None:
    """The two models' predictions for the same rows; None where the sample is another, because the pool is."""
    if first["of"] != second["of"]:
        return None
    rows = min(len(first["predictions"]), len(second["predictions"]), size)
    return (first["predictions"][:rows], second["predictions"][:rows]) if rows else None


def _table(first: Record, second: Record, size: int) -> NDArray[np.int64] | None:
    """The contingency table of two models: (C, C) for the C classes that occur, (2, 2) when multi-label."""
    both = _both(first, second, size)
    if both is None:
        return None
    if second["multilabel"]:
        decisions = second["classes"] * len(both[0])
        yes = sum((a & b).bit_count() for a, b in zip(*both, strict=True))
        ours, theirs = (sum(value.bit_count() for value in values) for values in both)
        return np.array([[decisions - ours - theirs + yes, theirs - yes], [ours - yes, yes]])
    classes, codes = np.unique(np.array(both), return_inverse=True)
    c, (a, b) = len(classes), codes.reshape(2, -1)
    return np.bincount(a * c + b, minlength=c * c).reshape(c, c)


def _changes(first: Record, second: Record, size: int) -> tuple[int, int] | None:
    """How many predictions changed among the rows that have no label by now, and how many such rows there are."""
    both = _both(first, second, size)
    if both is None:
        return None
    labeled = set(second["labeled"])
    unlabeled = [i for i in range(len(both[0])) if i not in labeled]
    return (sum(both[0][i] != both[1][i] for i in unlabeled), len(unlabeled)) if unlabeled else None


def _single_class(record: Record, size: int) -> bool:
    return len(set(record["predictions"][:size])) == 1
