"""Cohen's kappa of two classifiers, its sampling variance, and a bound on the difference of their F-measures."""

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray


def kappa(table: ArrayLike) -> float:
    """Cohen's kappa of a contingency table (C, C): agreement beyond chance, at most 1.

    (A_o - A_e) / (1 - A_e), with the observed agreement A_o = sum_i p_ii and the agreement by chance
    A_e = sum_i p_i. p_.i of the two classifiers' own marginals. NaN where both classifiers predict one and the same
    class for every row: chance alone explains that (0/0), so it is not reported as agreement.

    Cohen 1960, "A Coefficient of Agreement for Nominal Scales".

    Args:
        table: (C, C) counts; entry [i, j] is the number of rows predicted as i by the first classifier and as j by the
            second.

    Example:
        >>> round(kappa([[45, 5], [5, 45]]), 3)
        0.8
    """
    p = _shares(table)
    by_chance = float(p.sum(1) @ p.sum(0))
    return float((np.trace(p) - by_chance) / (1 - by_chance)) if by_chance < 1 else float("nan")


def kappa_variance(table: ArrayLike) -> float:
    """Large-sample variance of `kappa` over random samples of rows; NaN where kappa is NaN.

    With p the shares, A_o and A_e as for `kappa`, and N rows:

        [ sum_i p_ii ((1 - A_e) - (p_.i + p_i.)(1 - A_o))^2 + (1 - A_o)^2 sum_{i != j} p_ij (p_.i + p_j.)^2
          - (A_o A_e - 2 A_e + A_o)^2 ] / (N (1 - A_e)^4)

    Fleiss, Cohen and Everitt 1969, "Large Sample Standard Errors of Kappa and Weighted Kappa"; for stop sets Bloodgood
    and Grothendieck 2013, "Analysis of Stopping Active Learning based on Stabilizing Predictions". It is 0 when the
    classifiers agree on every row.

    Example:
        >>> round(kappa_variance([[45, 5], [5, 45]]), 4)
        0.0036
    """
    p = _shares(table)
    first, second = p.sum(1), p.sum(0)
    observed, by_chance = float(np.trace(p)), float(first @ second)
    if by_chance >= 1:
        return float("nan")
    crossed = (second[:, None] + first[None, :]) ** 2  # (C, C): (p_.i + p_j.)^2
    agreeing = np.diag(p) @ ((1 - by_chance) - (second + first) * (1 - observed)) ** 2
    differing = (1 - observed) ** 2 * (np.sum(p * crossed) - np.diag(p) @ np.diag(crossed))
    shared = (observed * by_chance - 2 * by_chance + observed) ** 2
    variance = (agreeing + differing - shared) / (np.sum(np.asarray(table)) * (1 - by_chance) ** 4)
    return float(max(0.0, variance))  # a variance of 0 may be rounded to below


def f_change_bound(agreement: float) -> float:
    """Largest possible difference of the F-measures of two binary classifiers with this kappa: 4 (1 - k) / k.

    It holds on the rows that kappa was measured on, whatever their true labels. Vacuous (above 1) for k < 0.8;
    infinite for k <= 0, and NaN where kappa is NaN.

    Bloodgood and Grothendieck 2013, as for `kappa_variance`.

    Example:
        >>> round(f_change_bound(0.99), 4)
        0.0404
    """
    if math.isnan(agreement):
        return agreement
    return 4 * (1 - agreement) / agreement if agreement > 0 else float("inf")


def _shares(table: ArrayLike) -> NDArray[np.float64]:
    counts = np.asarray(table, np.float64)
    square = counts.ndim == 2 and counts.shape[0] == counts.shape[1]
    if not square or not np.isfinite(counts).all() or counts.sum() <= 0 or (counts < 0).any():
        raise ValueError(f"expected a square table of counts, at least one of them positive, got {counts.shape}")
    shares: NDArray[np.float64] = counts / counts.sum()
    return shares
