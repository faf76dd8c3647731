"""Slow and obvious versions of what decides on automation."""

import math
from collections.abc import Sequence
from fractions import Fraction


def area(confidence: Sequence[float], right: Sequence[bool]) -> Fraction:
    """The mean risk of the n most confident rows over n = 1..N; errors are spread over rows of equal confidence."""
    shared = {
        c: Fraction(sum(not ok for d, ok in zip(confidence, right, strict=True) if d == c), list(confidence).count(c))
        for c in confidence
    }
    order = sorted(confidence, reverse=True)
    risks = [sum(shared[c] for c in order[:n]) / Fraction(n) for n in range(1, len(order) + 1)]
    return sum(risks) / Fraction(len(order))


def risk(confidence: Sequence[float], right: Sequence[bool], threshold: float) -> Fraction:
    """The error rate of the rows at or above a threshold."""
    kept = [ok for c, ok in zip(confidence, right, strict=True) if c >= threshold]
    return Fraction(sum(not ok for ok in kept), len(kept))


def binomial_cdf(errors: int, rows: int, rate: Fraction) -> Fraction:
    """P(at most so many errors among so many rows), term by term."""
    return sum((math.comb(rows, k) * rate**k * (1 - rate) ** (rows - k) for k in range(errors + 1)), start=Fraction(0))


def passes(errors: int, rows: int, max_error: Fraction, delta: Fraction) -> bool:
    """Whether so few errors are improbable where the error rate is the highest allowed or more."""
    return rows > 0 and errors < rows and binomial_cdf(errors, rows, max_error) <= delta


def threshold(
    confidence: Sequence[float], right: Sequence[bool], max_error: Fraction, grid: Sequence[float], delta: Fraction
) -> float | None:
    """The last threshold that passes before one fails."""
    found = None
    for t in grid:
        kept = [ok for c, ok in zip(confidence, right, strict=True) if c >= t]
        if not passes(sum(not ok for ok in kept), len(kept), max_error, delta):
            break
        found = t
    return found


def recall_threshold(
    scores: Sequence[float], assigned: Sequence[bool], min_recall: Fraction, grid: Sequence[float], delta: Fraction
) -> float | None:
    """The last of ascending thresholds that passes before one fails: few rows of the class are missed below it."""
    found = None
    for t in grid:
        misses = sum(not named and score < t for score, named in zip(scores, assigned, strict=True))
        if not passes(misses, len(scores), 1 - min_recall, delta):
            break
        found = t
    return found
