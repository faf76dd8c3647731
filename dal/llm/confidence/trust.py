"""Is a language model's confidence worth anything? Figures on labeled rows, and advice in one sentence."""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dal.errors import DataError
from dal.llm.confidence.recalibration import METHODS, ModelUncertainty, Recalibrator, cross_validated

FEWEST = 100  # labeled rows
BINS = 15
_MISCALIBRATED = 0.05  # calibration error from which recalibrating is advised


@dataclass(frozen=True)
class Interval:
    """A figure with the 95 % interval of its bootstrap over rows."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.3f} [{self.low:.3f}, {self.high:.3f}]"


@dataclass(frozen=True)
class Quality:
    """How good one kind of doubt is.

    Attributes:
        rows: how many it was measured on.
        accuracy: share of the rows whose label is right; one without a label is wrong.
        unparsed: share of the rows without a label.
        calibration_error: how far the confidence is from the share that is right, over 15 bins (`calibration_error`).
        auroc: probability that a row that is right has a higher confidence than one that is wrong, ties counting half;
            1/2 says nothing. None where all rows are right, or all wrong.
        reliability: per bin of equal width: mean confidence, share that is right, count; None in empty bins.
        recalibrated: method -> calibration error after it, cross-validated.
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
        """Whether the confidence tells right from wrong at all: the interval of its AUROC lies above 1/2."""
        return self.auroc is not None and self.auroc.low > 0.5

    @property
    def best(self) -> str | None:
        """The recalibration with the least error, None where none could be learnt."""
        errors = {method: figure.value for method, figure in self.recalibrated.items()}
        return min(errors, key=errors.__getitem__) if errors else None


@dataclass(frozen=True)
class Agreement:
    """How far verbalized confidence and consistency say the same, on rows that have both.

    Attributes:
        rows: how many.
        same_label: share of them, 0 to 1, to which both give the same label.
        rank_correlation: Spearman's, of the two confidences; None where one of them is the same for all rows.
    """

    rows: int
    same_label: float
    rank_correlation: float | None


@dataclass(frozen=True)
class Trust:
    """What the figures say, and what to do.

    Attributes:
        verbalized: of the stated confidence.
        consistency: of repeated answers, None where there were none.
        agreement: of both, None likewise.
        advice: in one sentence.
    """

    verbalized: Quality
    consistency: Quality | None
    agreement: Agreement | None
    advice: str

    def figures(self) -> dict[str, Any]:
        """All of it as plain values, for JSON."""
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
    """How much the doubt of a language model is worth, on at least 100 rows with a true label.

    The rule: a confidence is useful when the 95 % interval of its AUROC lies above 1/2. Verbalized alone when it is
    useful and consistency is not better (the interval of the difference of their AUROCs, on the same rows, is not above
    0). Consistency when that is useful, and better or verbalized is useless. Else neither. What is chosen should be
    recalibrated when its calibration error is above 0.05 and the best recalibration makes it smaller.

    Args:
        labels: (N,) int64 codes.
        verbalized: of the N rows.
        consistency: of the rows at `rows`, or of all.
        rows: (n,) int64, where these stand among the N.
        resamples: bootstrap samples of rows.
        seed: of these, and of the folds of cross-validation.

    Raises:
        DataError: fewer than 100 rows, or lengths that do not fit.
    """
    if len(labels) < FEWEST:
        raise DataError(f"{len(labels)} labeled rows are too few to judge a confidence: it takes {FEWEST}")
    at = torch.arange(len(labels)) if rows is None else rows
    if len(verbalized) != len(labels) or (consistency is not None and len(consistency) != len(at)):
        raise DataError("there must be one verbalized answer per label, and one consistency per row given")
    stated = quality(verbalized, labels, resamples=resamples, seed=seed)
    if consistency is None:
        return Trust(stated, None, None, _advice(stated, None, False))
    repeated = quality(consistency, labels[at], resamples=resamples, seed=seed)
    better = _better(consistency, verbalized.take(at), labels[at], resamples, seed)
    return Trust(stated, repeated, agreement(verbalized.take(at), consistency), _advice(stated, repeated, better))


def quality(doubt: ModelUncertainty, labels: Tensor, *, resamples: int = 1000, seed: int = 0) -> Quality:
    """The figures of one kind of doubt."""
    right, confidence = doubt.right(labels), doubt.confidence.double().numpy()
    recalibrated = {}
    for method in METHODS:
        probability = cross_validated(method, doubt, labels, seed=seed)
        if probability is not None:
            recalibrated[method] = _interval(calibration_error, (probability, right), resamples, seed)
    mixed = 0 < right.sum() < len(right)
    return Quality(
        len(right),
        float(right.mean()),
        float((doubt.predicted < 0).double().mean()),
        _interval(calibration_error, (confidence, right), resamples, seed),
        _interval(auroc, (confidence, right), resamples, seed) if mixed else None,
        reliability(confidence, right),
        recalibrated,
    )


def recalibrator(method: str, doubt: ModelUncertainty, labels: Tensor) -> Recalibrator:
    """What turns a doubt into probabilities of being right, learnt on all rows: for rows without a label.

    Raises:
        DataError: there is no such method, or it cannot be learnt on these rows.
    """
    if method not in METHODS:
        raise DataError(f"there is no recalibration {method!r}: there are {', '.join(METHODS)}")
    if cross_validated(method, doubt, labels) is None:
        raise DataError(f"{method} cannot be learnt on these rows: it takes rows that are right and rows that are not")
    return METHODS[method](doubt, labels)


def agreement(verbalized: ModelUncertainty, consistency: ModelUncertainty) -> Agreement:
    """How far both say the same of the same rows. A row without a label agrees with nothing."""
    from scipy.stats import spearmanr

    one, other = verbalized.confidence.double().numpy(), consistency.confidence.double().numpy()
    same = (verbalized.predicted == consistency.predicted) & (verbalized.predicted >= 0)
    varies = len(np.unique(one)) > 1 and len(np.unique(other)) > 1
    correlation = float(spearmanr(one, other).statistic) if varies else None
    return Agreement(len(one), float(same.double().mean()), correlation)


def calibration_error(confidence: np.ndarray, right: np.ndarray) -> float:
    """The expected calibration error, 0 to 1: |share right - mean confidence| over 15 bins, weighted by their rows.

    The same figure as `dal.evaluation.metrics.calibration_error` for a confidence that is no highest probability.

    >>> round(calibration_error(np.array([0.8, 0.8]), np.array([True, False])), 3)
    0.3
    """
    gaps = np.bincount(_bins(confidence), confidence - right, BINS)
    return float(np.abs(gaps).sum() / len(confidence))


def reliability(confidence: np.ndarray, right: np.ndarray) -> dict[str, list[Any]]:
    """A reliability diagram: per bin the mean confidence, the share that is right (None where empty) and the count."""
    bins = _bins(confidence)
    count = np.bincount(bins, minlength=BINS)
    sums = (np.bincount(bins, values, BINS) for values in (confidence, right.astype(float)))
    means = ([float(s / n) if n else None for s, n in zip(each, count, strict=True)] for each in sums)
    return {"confidence": next(means), "accuracy": next(means), "count": count.tolist()}


def auroc(confidence: np.ndarray, right: np.ndarray) -> float:
    """Probability that a row that is right has the higher confidence, ties counting half; NaN without both kinds.

    >>> auroc(np.array([0.9, 0.8, 0.8]), np.array([True, True, False]))
    0.75
    """
    from scipy.stats import rankdata

    hits = int(right.sum())
    if hits in (0, len(right)):
        return float("nan")
    ranks = rankdata(confidence)[right].sum()
    return float((ranks - hits * (hits + 1) / 2) / (hits * (len(right) - hits)))


def _bins(confidence: np.ndarray) -> np.ndarray:
    """Bins open below and closed above, 0 among the first."""
    found: np.ndarray = np.ceil(confidence * BINS).astype(int).clip(1, BINS) - 1
    return found


def _interval(figure: Callable[..., float], columns: tuple[np.ndarray, ...], resamples: int, seed: int) -> Interval:
    random, size = np.random.default_rng(seed), len(columns[0])
    drawn = []
    for _ in range(resamples):
        rows = random.integers(size, size=size)
        drawn.append(figure(*(column[rows] for column in columns)))
    low, high = np.nanquantile(drawn, [0.025, 0.975])
    return Interval(figure(*columns), float(low), float(high))


def _better(
    consistency: ModelUncertainty, verbalized: ModelUncertainty, labels: Tensor, resamples: int, seed: int
) -> bool:
    """Whether consistency tells right from wrong better than verbalized confidence, on the same rows."""
    one, other = consistency.right(labels), verbalized.right(labels)
    if not (0 < one.sum() < len(one) and 0 < other.sum() < len(other)):
        return False

    def lead(a: np.ndarray, a_right: np.ndarray, b: np.ndarray, b_right: np.ndarray) -> float:
        return auroc(a, a_right) - auroc(b, b_right)

    columns = (consistency.confidence.double().numpy(), one, verbalized.confidence.double().numpy(), other)
    return _interval(lead, columns, resamples, seed).low > 0


def _advice(verbalized: Quality, consistency: Quality | None, better: bool) -> str:
    if consistency is not None and consistency.useful and (better or not verbalized.useful):
        beside = "better" if verbalized.useful else "and verbalized confidence does not"
        return f"Switch to consistency: it tells right from wrong {beside}{_mend(consistency)}."
    if verbalized.useful:
        beside = "" if consistency is None else ", and consistency is not better"
        return f"Use verbalized confidence alone: it tells right from wrong{beside}{_mend(verbalized)}."
    if consistency is None:
        return "Do not use verbalized confidence: it does not tell right from wrong; try consistency."
    return "Use neither: no confidence of this model tells right from wrong."


def _mend(quality: Quality) -> str:
    error, best = quality.calibration_error.value, quality.best
    if best is None or error <= _MISCALIBRATED or quality.recalibrated[best].value >= error:
        return ""
    return f"; recalibrate it by {best} ({error:.2f} to {quality.recalibrated[best].value:.2f} calibration error)"
