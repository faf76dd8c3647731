"""Accuracy without a test set: rows drawn with known probabilities, and an unbiased estimate from their answers."""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from scipy.stats import norm
from torch import Tensor

from dal.evaluation.binomial import lower_bound, upper_bound
from dal.functional.checking import number, whole
from dal.functional.drawing import draw_without_replacement

Floats = NDArray[np.float64]

#: The share of the drawing law that is uniform. With less, intervals fail where the model errs at what it is sure of.
UNIFORM = 0.5


@dataclass(frozen=True, eq=False)
class Drawn:
    """Rows drawn one after another without replacement.

    Attributes:
        positions: (n,) int64 among the N rows, in the order of drawing.
        probabilities: (n,) float64, of each when it was drawn, among the rows that were left then.
    """

    positions: Tensor
    probabilities: Tensor


def draw(proposal: Tensor, n: int, generator: torch.Generator, *, uniform: float = UNIFORM) -> Drawn:
    """n of N rows, drawn in proportion to a mixture of the proposal and the uniform law, with their probabilities.

    Every row can be drawn, so that an estimate from the rows has no bias whatever the proposal; it varies least where
    the proposal is proportional to the expected loss (Kossen et al. 2021).

    Args:
        proposal: (N,) at least 0, such as the expected loss of each row; it need not add up to 1. All 0: uniform.
        n: at most N.
        generator: on the CPU.
        uniform: the share of the uniform law, above 0 and at most 1.

    Raises:
        ValueError: n or `uniform` is out of its range, or the proposal is negative or not finite.

    Example:
        >>> drawn = draw(torch.tensor([0.0, 1.0, 1.0]), 3, torch.Generator().manual_seed(0))
        >>> drawn.positions.sort().values.tolist(), drawn.probabilities[-1].item()
        ([0, 1, 2], 1.0)
    """
    if isinstance(uniform, bool) or not 0 < uniform <= 1:
        raise ValueError(f"the uniform share must be above 0 and at most 1, not {uniform}")
    p = proposal.detach().cpu().double()
    if not bool((torch.isfinite(p) & (p >= 0)).all()):
        raise ValueError("a proposal must be finite, and nowhere negative")
    flat = torch.full_like(p, 1 / max(1, len(p)))
    law = uniform * flat + (1 - uniform) * (p / p.sum() if bool(p.sum() > 0) else flat)
    positions = draw_without_replacement(law, n, generator=generator)
    weights = law[positions]
    law[positions] = 0
    left = law.sum() + weights.flip(0).cumsum(0).flip(0)  # added up from the end, so that the last is exact
    return Drawn(positions, weights / left)


def lure_weights(probabilities: ArrayLike, of: int) -> Floats:
    """What each of M drawn losses counts, (M,), so that the mean of weight times loss has no bias.

    `v_m = 1 + (N - M) / (N - m) * (1 / ((N - m + 1) q_m) - 1)` for the m-th row drawn, with probability q_m, of N. All
    are 1 for uniform draws, and when all rows are drawn.

    Farquhar, Gal and Rainforth 2021, "On Statistical Bias in Active Learning: How and When to Fix It".

    Example:
        >>> lure_weights([0.5, 0.25], 4).tolist()
        [0.6666666666666667, 1.3333333333333333]
    """
    q, of = np.asarray(probabilities, np.float64), whole(of, "of", 0)
    M = len(q)
    if not 1 <= M <= of or not (np.isfinite(q) & (q > 0)).all():
        raise ValueError(f"there must be 1 to {of} probabilities, finite and above 0")
    m = np.arange(1, M + 1)
    share = np.where(m < of, (of - M) / np.maximum(of - m, 1), 0.0)
    weights: Floats = 1 + share * (1 / ((of - m + 1) * q) - 1)
    return weights


@dataclass(frozen=True)
class Estimate:
    """A mean over N rows, as drawn rows tell.

    Attributes:
        value: the estimate. It has no bias, and may for that lie outside the range of the losses.
        low: the lower end of the interval.
        high: the upper end.
        deviation: the estimated standard deviation of `value` over draws.
        plain: the mean of the drawn rows, which is biased unless they were drawn uniformly.
        rows: how many rows were drawn.
        of: N.
    """

    value: float
    low: float
    high: float
    deviation: float
    plain: float
    rows: int
    of: int


def estimate(losses: ArrayLike, probabilities: ArrayLike, of: int, *, level: float = 0.95) -> Estimate:
    """The mean loss over all N rows, without bias, and an interval.

    The value is the mean of the losses weighted by `lure_weights`. It is also a weighted mean of the values
    `a_m = (L_m / q_m + sum of the losses drawn before) / N`, each of which has the mean loss as its expectation given
    all draws before it: with `c_m = N (N - M) / ((N - m + 1) (N - m) M)` the value is the sum of c_m a_m. Differences
    of such a kind are uncorrelated, so that its variance is the expectation of the sum of (c_m (a_m - mean))^2, of
    which the value takes the place of the mean.

    Where all losses are 0 or 1, the interval is Clopper and Pearson's for the number of uniform draws that would have
    this variance (Korn and Graubard 1998, "Confidence Intervals for Proportions with Small Expected Number of Positive
    Counts Estimated from Survey Data"); where it is nothing but zeros or ones, for (sum v)^2 / sum v^2 rows. Other
    losses get a normal interval. In simulations with 2,000 rows, half of the law uniform and error rates of 2 % to
    50 %, the interval of .95 held the truth in .93 to .98 of the draws of 50 rows and in .94 to .98 of those of 100 and
    300, also for models that are as sure of their errors as of the rest. With less of a uniform law it does not: with
    .1 it held it in .70 of the draws of 50 rows from a model whose confidence says nothing.

    Args:
        losses: (M,), of the rows drawn, in that order.
        probabilities: (M,), with which each was drawn.
        of: N, how many rows there were to draw from.
        level: of the interval.

    Raises:
        ValueError: a loss is not finite, or the lengths differ.

    Example:
        >>> found = estimate([1, 0, 0, 1], [0.02, 0.01, 0.01, 0.02], 100)
        >>> round(found.value, 3), found.plain
        (0.258, 0.5)
    """
    level, of = number(level, "level", above=0, below=1), whole(of, "of", 0)
    L, q = np.asarray(losses, np.float64), np.asarray(probabilities, np.float64)
    if L.shape != q.shape or not np.isfinite(L).all():
        raise ValueError("losses must be finite, one for each probability")
    v, M = lure_weights(q, of), len(q)
    value = float((v * L).mean())
    deviation = 0.0 if of == M else float(np.sqrt((_steps(L, q, of, value) ** 2).sum()))
    if of == M:
        low, high = value, value
    elif np.isin(L, (0, 1)).all():
        low, high = _proportion(value, deviation, v, level)
    else:
        z = float(norm.ppf((1 + level) / 2))
        low, high = value - z * deviation, value + z * deviation
    return Estimate(value, low, high, deviation, float(L.mean()), M, of)


def accuracy(right: ArrayLike, probabilities: ArrayLike, of: int, *, level: float = 0.95) -> Estimate:
    """The accuracy over all N rows, without bias, and an interval: 1 less the estimated error rate.

    The error rate is what is estimated, since rows are best drawn where errors are expected.

    Args:
        right: (M,) bool, of the rows drawn, in that order. Multi-label: whether every decision of the row is right.
        probabilities: (M,), with which each was drawn.
        of: N.
        level: of the interval.

    Example:
        >>> found = accuracy([False, True, True, False], [0.02, 0.01, 0.01, 0.02], 100)
        >>> round(found.value, 3), found.plain
        (0.742, 0.5)
    """
    wrong = estimate(~np.asarray(right, np.bool_), probabilities, of, level=level)
    return Estimate(
        1 - wrong.value, 1 - wrong.high, 1 - wrong.low, wrong.deviation, 1 - wrong.plain, wrong.rows, wrong.of
    )


def _steps(L: Floats, q: Floats, N: int, value: float) -> Floats:
    """c_m (a_m - value): how far each draw moved the estimate, (M,), for M < N."""
    M = len(L)
    m = np.arange(1, M + 1)
    a = (L / q + L.cumsum() - L) / N
    steps: Floats = N * (N - M) / ((N - m + 1) * (N - m) * M) * (a - value)
    return steps


def _proportion(value: float, deviation: float, weights: Floats, level: float) -> tuple[float, float]:
    """Clopper and Pearson's interval for so many independent draws as have this deviation."""
    p, tail = min(max(value, 0.0), 1.0), (1 - level) / 2
    if 0 < p < 1 and deviation > 1e-9 * p:  # less is rounding, of a single row
        rows = p * (1 - p) / deviation**2
    else:
        rows = float(weights.sum() ** 2 / (weights**2).sum())
    return lower_bound(p * rows, rows, tail), upper_bound(p * rows, rows, tail)
