"""Evaluate the confidence of a language model on labeled rows, with a one-sentence recommendation."""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dal.errors import DataError
from dal.evaluation.calibration_measures import confidence_calibration_error, confidence_reliability
from dal.evaluation.metrics import confidence_auroc
from dal.llm.confidence.recalibration import METHODS, ModelUncertainty, Recalibrator, cross_validated

FEWEST = 100  # minimum number of labeled rows
_MISCALIBRATED = 0.05  # calibration error above which recalibration is recommended


@dataclass(frozen=True)
class Interval:
    """A metric with the 95 % confidence interval of a bootstrap over rows."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.3f} [{self.low:.3f}, {self.high:.3f}]"


@dataclass(frozen=True)
class Quality:
    """Quality of one kind of confidence.

    Attributes:
        rows: number of rows.
        accuracy: share of correct rows; a row without a label is incorrect.
        unparsed: share of rows without a label.
        calibration_error: expected calibration error over 15 bins (`dal.evaluation.calibration_error`).
        auroc: area under the ROC curve of the confidence as a score of correctness; 1/2 is chance. None if all rows are
            correct, or all incorrect.
        reliability: per bin of equal width: mean confidence, accuracy, count; None in empty bins.
        recalibrated: method -> cross-validated calibration error after recalibration.
    """

    rows: int
    accuracy: float
    unparsed: float
    calibration_error: Interval
    auroc: Interval | None
    reliability: Mapping[str, list[Any]]
    recalibrated: Mapping[str, Interval]

    @property
    def useful(self) -> bool:
        """Whether the confidence is informative: the confidence interval of its AUROC is above 1/2."""
        return self.auroc is not None and self.auroc.low > 0.5

    @property
    def best(self) -> str | None:
        """Recalibration method with the lowest calibration error; None if none could be fitted."""
        errors = {method: figure.value for method, figure in self.recalibrated.items()}
        return min(errors, key=errors.__getitem__) if errors else None


@dataclass(frozen=True)
class Agreement:
    """Agreement of verbalized confidence and consistency on rows that have both.

    Attributes:
        rows: number of rows.
        same_label: share of rows with the same label, 0 to 1.
        rank_correlation: Spearman correlation of the two confidences; None if one of them is constant.
    """

    rows: int
    same_label: float
    rank_correlation: float | None


@dataclass(frozen=True)
class Trust:
    """Evaluation of a model's confidence, with a recommendation.

    Attributes:
        verbalized: quality of the stated confidence.
        consistency: quality of the consistency of repeated answers; None without repeated answers.
        agreement: agreement of both; None without repeated answers.
        advice: recommendation in one sentence.
    """

    verbalized: Quality
    consistency: Quality | None
    agreement: Agreement | None
    advice: str

    def figures(self) -> dict[str, Any]:
        """Return all metrics as plain values for JSON."""
        return asdict(self)


def trust(
    labels: Tensor,
    verbalized: ModelUncertainty,
    consistency: ModelUncertainty | None = None,
    rows: Tensor | None = None,
    *,
    resamples: int = 1000,
    seed: int = 0,
) -> Trust:
    """Evaluate the confidence of a language model on at least 100 labeled rows.

    A confidence is useful if the 95 % confidence interval of its AUROC is above 1/2. The recommendation is consistency
    if it is useful, and either better than verbalized confidence or the latter is not useful. Better means that the
    interval of the difference of their AUROCs on the same rows is above 0. Otherwise it is verbalized confidence if
    that is useful, else neither. Recalibration is recommended if the calibration error exceeds 0.05 and the best
    recalibration reduces it.

    Args:
        labels: (N,) int64, true classes.
        verbalized: verbalized answers to the N rows.
        consistency: repeated answers to the rows `rows`, or to all N; None for none.
        rows: (n,) int64, indices of the rows with repeated answers; None for all.
        resamples: number of bootstrap resamples.
        seed: seed of the resamples and the cross-validation.

    Raises:
        DataError: there are fewer than 100 rows, or the lengths differ.
    """
    if len(labels) < FEWEST:
        raise DataError(f"{len(labels)} labeled rows are too few to evaluate a confidence: it takes {FEWEST}")
    both = torch.arange(len(labels)) if rows is None else rows
    if len(verbalized) != len(labels) or (consistency is not None and len(consistency) != len(both)):
        raise DataError("there must be one verbalized answer per label, and one consistency per row given")
    stated = quality(verbalized, labels, resamples=resamples, seed=seed)
    if consistency is None:
        return Trust(stated, None, None, _advice(stated, None, False))
    repeated = quality(consistency, labels[both], resamples=resamples, seed=seed)
    better = _better(consistency, verbalized.take(both), labels[both], resamples, seed)
    return Trust(stated, repeated, agreement(verbalized.take(both), consistency), _advice(stated, repeated, better))


def quality(uncertainty: ModelUncertainty, labels: Tensor, *, resamples: int = 1000, seed: int = 0) -> Quality:
    """Evaluate one kind of confidence on labeled rows."""
    right, confidence = torch.from_numpy(uncertainty.right(labels)), uncertainty.confidence.double()
    recalibrated = {}
    for method in METHODS:
        probability = cross_validated(method, uncertainty, labels, seed=seed)
        if probability is not None:
            columns = torch.from_numpy(probability), right
            recalibrated[method] = _interval(confidence_calibration_error, columns, resamples, seed)
    mixed = 0 < int(right.sum()) < len(right)
    return Quality(
        len(right),
        float(right.double().mean()),
        float((uncertainty.predicted < 0).double().mean()),
        _interval(confidence_calibration_error, (confidence, right), resamples, seed),
        _interval(confidence_auroc, (confidence, right), resamples, seed) if mixed else None,
        confidence_reliability(confidence, right),
        recalibrated,
    )


def recalibrator(method: str, uncertainty: ModelUncertainty, labels: Tensor) -> Recalibrator:
    """Fit a recalibration on all labeled rows, for application to unlabeled rows.

    Raises:
        DataError: the method does not exist, or cannot be fitted on these rows.
    """
    if method not in METHODS:
        raise DataError(f"there is no recalibration {method!r}: there are {', '.join(METHODS)}")
    if cross_validated(method, uncertainty, labels) is None:
        raise DataError(f"{method} cannot be fitted on these rows: it needs both correct and incorrect rows")
    return METHODS[method](uncertainty, labels)


def agreement(verbalized: ModelUncertainty, consistency: ModelUncertainty) -> Agreement:
    """Return the agreement of two kinds of confidence on the same rows. Rows without a label count as different."""
    from scipy.stats import spearmanr

    one, other = verbalized.confidence.double().numpy(), consistency.confidence.double().numpy()
    same = (verbalized.predicted == consistency.predicted) & (verbalized.predicted >= 0)
    varies = len(np.unique(one)) > 1 and len(np.unique(other)) > 1
    correlation = float(spearmanr(one, other).statistic) if varies else None
    return Agreement(len(one), float(same.double().mean()), correlation)


def _interval(metric: Callable[..., float], columns: tuple[Tensor, ...], resamples: int, seed: int) -> Interval:
    random, size = np.random.default_rng(seed), len(columns[0])
    values = []
    for _ in range(resamples):
        rows = torch.from_numpy(random.integers(size, size=size))
        values.append(metric(*(column[rows] for column in columns)))
    low, high = np.nanquantile(values, [0.025, 0.975])  # NaN: a resample with right or with wrong answers only
    return Interval(metric(*columns), float(low), float(high))


def _better(
    consistency: ModelUncertainty, verbalized: ModelUncertainty, labels: Tensor, resamples: int, seed: int
) -> bool:
    """Whether consistency has a significantly higher AUROC than verbalized confidence on the same rows."""
    one, other = (torch.from_numpy(each.right(labels)) for each in (consistency, verbalized))
    if not (0 < one.sum() < len(one) and 0 < other.sum() < len(other)):
        return False

    def difference(a: Tensor, a_right: Tensor, b: Tensor, b_right: Tensor) -> float:
        return confidence_auroc(a, a_right) - confidence_auroc(b, b_right)

    # Paired: both are resampled at the same rows, whose difficulty then cancels in the difference.
    columns = (consistency.confidence.double(), one, verbalized.confidence.double(), other)
    return _interval(difference, columns, resamples, seed).low > 0


def _advice(verbalized: Quality, consistency: Quality | None, better: bool) -> str:
    if consistency is not None and consistency.useful and (better or not verbalized.useful):
        comparison = "better" if verbalized.useful else "and verbalized confidence does not"
        return f"Switch to consistency: it tells right from wrong {comparison}{_recalibration(consistency)}."
    if verbalized.useful:
        comparison = "" if consistency is None else ", and consistency is not better"
        return f"Use verbalized confidence alone: it tells right from wrong{comparison}{_recalibration(verbalized)}."
    if consistency is None:
        return "Do not use verbalized confidence: it does not tell right from wrong; try consistency."
    return "Use neither: no confidence of this model tells right from wrong."


def _recalibration(quality: Quality) -> str:
    error, best = quality.calibration_error.value, quality.best
    if best is None or error <= _MISCALIBRATED or quality.recalibrated[best].value >= error:
        return ""
    return f"; recalibrate it by {best} ({error:.2f} to {quality.recalibrated[best].value:.2f} calibration error)"
