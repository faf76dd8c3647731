"""Selective prediction: the risk-coverage curve, and a confidence threshold with an error guarantee."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from dal.evaluation.binomial import upper_bound
from dal.functional.checking import whole

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class RiskCoverage:
    """Error rate of the most confident answers as a function of their share of the rows.

    Attributes:
        coverage: (K,) shares of the rows kept, 0 to 1, ascending; the last is 1. Rows of equal confidence are kept
            together.
        risk: (K,) error rates of the rows kept, 0 to 1.
        thresholds: (K,) lowest confidences of the rows kept, descending.
        area: area under the curve, 0 to 1: the mean risk over all shares. Lower is better; a random order gives the
            error rate itself.
    """

    coverage: Floats
    risk: Floats
    thresholds: Floats
    area: float


def risk_coverage(confidence: ArrayLike, right: ArrayLike) -> RiskCoverage:
    """Risk-coverage curve of N answers, and the area under it.

    The area is the mean over n = 1..N of the risk of the n most confident rows; among rows of equal confidence, whose
    order is arbitrary, errors are spread evenly.

    Geifman and El-Yaniv 2017, "Selective Classification for Deep Neural Networks".

    Args:
        confidence: (N,), higher is more confident.
        right: (N,) bool, True where the answer is correct. Multi-label: where every decision of the row is.

    Raises:
        ValueError: there are no rows, or a confidence is not finite.

    Example:
        >>> curve = risk_coverage([0.9, 0.6, 0.8, 0.6], [True, True, True, False])
        >>> curve.coverage.tolist(), curve.risk.tolist(), curve.thresholds.tolist()
        ([0.25, 0.5, 1.0], [0.0, 0.0, 0.25], [0.9, 0.8, 0.6])
    """
    c, wrong = _checked(confidence, right)
    if not len(c):
        raise ValueError("a risk-coverage curve needs at least one row")
    levels, level, sizes = np.unique(-c, return_inverse=True, return_counts=True)  # negated: most confident first
    errors = np.bincount(level, wrong, len(levels))
    kept, kept_errors = sizes.cumsum(), errors.cumsum()
    spread = np.repeat(errors / sizes, sizes).cumsum()  # errors among the n most confident, n = 1..N
    area = float((spread / np.arange(1, len(c) + 1)).mean())
    return RiskCoverage(kept / len(c), kept_errors / kept, -levels, area)


def labels_needed(max_error: float, delta: float = 0.05) -> int:
    """Number of error-free held-out labels needed to bound the error rate by `max_error`.

    The smallest n with (1 - max_error)^n <= delta.

    >>> labels_needed(0.05), labels_needed(0.01)
    (59, 299)
    """
    _check_shares(max_error, delta)
    # The closed form may be off by one from rounding; `threshold` compares `upper_bound`, so that decides here too.
    n = max(1, math.floor(math.log(delta) / math.log1p(-max_error)))
    return next(k for k in range(n, n + 3) if upper_bound(0, k, delta) <= max_error)


@dataclass(frozen=True)
class Automation:
    """Confidence threshold of the answers that need no person, and the evidence for it.

    Attributes:
        threshold: lowest confidence of an answer that needs no person; None when no threshold passed the test.
        rows: number of held-out rows at or above the threshold (or at the one that failed, where there is none).
        errors: number of wrong answers among these.
        bound: upper bound of the error rate, valid with probability 1 - delta; 1 where no threshold was tested.
        max_error: the requested highest error rate.
        delta: probability that the threshold is too low.
        needed: smallest number of held-out answers above a threshold, all of them correct, that can pass the test.
    """

    threshold: float | None
    rows: int
    errors: int
    bound: float
    max_error: float
    delta: float
    needed: int

    @property
    def text(self) -> str:
        """The result as a sentence."""
        sure = f"with probability {1 - self.delta:.4g}"
        if self.threshold is None:
            return (
                f"nothing can be automated with at most {self.max_error:.4g} wrong {sure}: that takes at least "
                f"{self.needed:,} held-out labels at high confidence without an error, or more with some; at the "
                f"threshold that was tried {self.errors:,} of {self.rows:,} were wrong"
            )
        return (
            f"from a confidence of {self.threshold:.4f} on, at most {self.bound:.4f} of the answers are wrong {sure} "
            f"({self.errors:,} of {self.rows:,} held-out rows)"
        )


def threshold(
    confidence: ArrayLike, right: ArrayLike, max_error: float, *, grid: ArrayLike, delta: float = 0.05
) -> Automation:
    """Lowest confidence threshold above which the model's error rate is at most `max_error`, with a guarantee.

    With probability at least 1 - delta over the held-out rows, the error rate P(wrong | confidence >= threshold) of
    rows from the same distribution is at most `max_error`. The thresholds of `grid` are tested in order, and the last
    one that passes before one fails is returned: a threshold passes when the Clopper-Pearson upper bound of the error
    rate of the held-out rows at or above it is at most `max_error`.

    Why this holds: the number of held-out rows at or above a fixed threshold is random, but given that number the rows
    are independent draws from the distribution of rows with such a confidence, so that their errors are binomial and
    each single test is exact; hence it is also valid on average over the number. For a wrong result, some threshold
    whose true error rate is too high must pass. The tests before the first such threshold do not matter, and unless it
    passes no later one is reached: so the probability is that of one exact test, at most delta, however many
    thresholds there are and whether or not the error rate is monotone in the threshold (fixed-sequence testing). The
    confidence need not be calibrated and may have ties, but the grid, its order and its first threshold included, must
    be chosen without looking at these held-out rows: see `quantiles` and `promising`. There is no guarantee for rows
    from another distribution than the held-out ones, such as a pool from which the easy rows were removed.

    Angelopoulos, Bates, Candes, Jordan and Lei 2021, "Learn then Test: Calibrating Predictive Algorithms to Achieve
    Risk Control"; Clopper and Pearson 1934.

    Args:
        confidence: (m,) confidences of the held-out rows, higher is more confident.
        right: (m,) bool, True where the model's answer is correct. Multi-label: where every decision of the row is.
        max_error: the highest error rate allowed, 0 to 1, both excluded.
        grid: (G,) thresholds in the order of testing, usually descending.
        delta: the probability that the result is wrong, 0 to 1, both excluded.

    Raises:
        ValueError: a share is not between 0 and 1, or a confidence is not finite.

    Example:
        >>> sure = np.arange(400) / 400
        >>> result = threshold(sure, sure > 0.5, 0.1, grid=np.linspace(0.9, 0, 10))
        >>> result.threshold, result.rows, result.errors
        (0.5, 200, 1)
    """
    c, wrong = _checked(confidence, right)
    tested = np.asarray(grid, np.float64)
    if tested.ndim != 1 or not np.isfinite(tested).all():
        raise ValueError("grid must be finite thresholds in one dimension")
    return sequence_test(tested, [c >= t for t in tested], wrong, max_error, delta=delta)


def sequence_test(
    thresholds: Floats, kept: Sequence[NDArray[np.bool_]], wrong: Floats, max_error: float, *, delta: float
) -> Automation:
    """The last threshold before one fails, as in `threshold`, where each keeps a given set of held-out rows.

    Args:
        thresholds: (G,) thresholds in the order of testing.
        kept: for each of them the rows that are automated, (m,) bool; chosen without looking at `wrong`.
        wrong: (m,), 1.0 where the model's answer is wrong, otherwise 0.0.
        max_error: the highest error rate allowed.
        delta: the probability that the result is wrong.
    """
    _check_shares(max_error, delta)
    needed = labels_needed(max_error, delta)
    best = failed = None
    for t, automated in zip(thresholds.tolist(), kept, strict=True):
        rows, errors = int(automated.sum()), int(wrong[automated].sum())
        tried = Automation(t, rows, errors, upper_bound(errors, rows, delta), max_error, delta, needed)
        if tried.bound > max_error:
            failed = tried
            break
        best = tried
    if best is not None:
        return best
    rows, errors, bound = (0, 0, 1.0) if failed is None else (failed.rows, failed.errors, failed.bound)
    return Automation(None, rows, errors, bound, max_error, delta, needed)


def quantiles(confidence: ArrayLike, *, steps: int = 100) -> Floats:
    """Distinct descending thresholds at which 1/steps, 2/steps, ... and all of the given rows are automated.

    Computed from unlabeled rows, they are a valid grid for `threshold`.

    Example:
        >>> quantiles([0.1, 0.2, 0.3, 0.4], steps=2).tolist()
        [0.3, 0.1]
    """
    steps = whole(steps, "steps", 1)
    c = np.sort(np.asarray(confidence, np.float64))[::-1]
    if c.ndim != 1 or not np.isfinite(c).all():
        raise ValueError("confidence must be finite, one number per row")
    if not len(c):
        return np.zeros(0)
    shares = np.arange(1, steps + 1) / steps
    return np.unique(c[np.maximum(np.ceil(shares * len(c) - 1e-9).astype(np.int64), 1) - 1])[::-1]


def promising(grid: Floats, confidence: ArrayLike, right: ArrayLike, max_error: float, *, rows: int) -> Floats:
    """Drop the first thresholds of a descending grid up to the one that is most likely to pass the test.

    The power of `threshold` depends on its first threshold: at a high one few rows are automated, too few to bound the
    error rate even when none is wrong. So labeled rows that are not used for the test choose the first threshold: the
    one with the smallest p-value in a test on `rows` rows with the same shares of automated and wrong rows. This is
    split fixed-sequence testing (Angelopoulos et al. 2021).

    Args:
        grid: (G,) descending thresholds.
        confidence: (h,) confidences of labeled rows other than those of the test.
        right: (h,) bool, True where the answer of these rows is correct.
        max_error: the highest error rate allowed.
        rows: number of rows of the later test.

    Returns:
        A suffix of `grid`.

    Example:
        >>> sure = np.arange(400) / 400
        >>> promising(np.linspace(0.9, 0, 10), sure, sure > 0.5, 0.1, rows=400).tolist()[0]
        0.5
    """
    _check_shares(max_error, 0.5)
    rows = whole(rows, "rows", 0)
    c, wrong = _checked(confidence, right)
    if not len(grid):
        return grid
    return grid[int(np.argmin(log_p_values(c[None, :] >= grid[:, None], wrong, max_error, rows=rows))) :]


def log_p_values(kept: NDArray[np.bool_], wrong: Floats, rate: float, *, rows: int) -> Floats:
    """Logarithms of the p-values, (G,), that a test on `rows` rows is expected to have, given those of `h` other rows.

    Logarithms, since p-values of many rows underflow to 0 and would all tie.

    Args:
        kept: (G, h) bool, rows that count for each of G tests.
        wrong: (h,), or (G, h) if it differs between tests: 1.0 for an error, otherwise 0.0.
        rate: error rate of the null hypothesis.
        rows: number of rows of the later test.
    """
    from scipy.stats import binom

    scale = rows / max(1, kept.shape[1])
    found: Floats = binom.logcdf(np.floor((kept * wrong).sum(1) * scale), np.ceil(kept.sum(1) * scale), rate)
    return found


def _checked(confidence: ArrayLike, right: ArrayLike) -> tuple[Floats, Floats]:
    """Confidences (N,), and 1.0 where the answer is wrong, (N,)."""
    c, given = np.asarray(confidence, np.float64), np.asarray(right)
    if not np.isin(given, (0, 1)).all():
        raise ValueError("right must be True or False for each row")
    correct = given.astype(np.bool_)
    if c.ndim != 1 or c.shape != correct.shape:
        raise ValueError(f"confidence and right must both be (N,), not {c.shape} and {correct.shape}")
    if not np.isfinite(c).all():
        raise ValueError("confidences must be finite")
    return c, (~correct).astype(np.float64)


def _check_shares(max_error: float, delta: float) -> None:
    for name, value in (("max_error", max_error), ("delta", delta)):
        if isinstance(value, bool) or not 0 < value < 1:
            raise ValueError(f"{name} must be between 0 and 1, both excluded, not {value}")
