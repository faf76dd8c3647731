"""Significance of differences over seeds: a paired permutation test, and Holm's correction for several tests."""

import math
from collections.abc import Mapping, Sequence

import numpy as np

from dal.functional.checking import number, shown, whole

#: Largest number of pairs for which all sign assignments are enumerated; more pairs use random assignments.
EXACT = 16

_DRAWS = 50_000  # random sign assignments


def paired_p(differences: Sequence[float], *, seed: int = 0) -> float:
    """Two-sided p-value of the paired sign-flip permutation test on the mean difference.

    If neither of two strategies is better, each paired difference is as likely to be positive as negative. The p-value
    is the share of all 2^n sign assignments whose mean is at least as far from 0 as the observed one, so it is at most
    alpha with probability at most alpha whatever the distribution of the differences, and at least 2^(1-n): five seeds
    cannot reach 0.05. Above `EXACT` pairs, 50,000 assignments are drawn and the observed one is added to them, which
    keeps the guarantee (Phipson and Smyth 2010).

    Fisher 1935, "The Design of Experiments", section 21.

    Args:
        differences: one for each pair, such as the difference of the areas under two learning curves of the same seed.
            Without any, the p-value is 1.
        seed: seed of the random assignments.

    Raises:
        ValueError: a difference is not finite.

    Example:
        >>> paired_p([0.02, 0.01, 0.03, 0.02, 0.01, 0.04])
        0.03125
    """
    from scipy.stats import permutation_test

    d, seed = _finite(differences), whole(seed, "seed", 0)
    if len(d) < 2:  # scipy refuses a single pair, which is as extreme with either sign
        return 1.0
    is_exact = len(d) <= EXACT
    result = permutation_test(
        (d,),
        lambda flipped, axis: np.abs(flipped.sum(axis)),
        permutation_type="samples",
        vectorized=True,
        n_resamples=2 ** len(d) if is_exact else _DRAWS,
        batch=4096,  # bounds the memory: indices of all resamples are 16 bytes per pair
        rng=np.random.default_rng(seed),
    )
    # scipy's own p-value takes equal sums for different if they cancel to nearly 0, where rounding is not relative.
    extreme = int((result.null_distribution >= result.statistic - 1e-12 * np.abs(d).sum()).sum())
    return extreme / 2 ** len(d) if is_exact else (1 + extreme) / (1 + _DRAWS)


def holm(p_values: Mapping[str, float]) -> dict[str, float]:
    """Holm-adjusted p-values: rejecting those of at most alpha bounds the familywise error rate by alpha.

    In ascending order, p_(i) becomes max over j <= i of min(1, (m - j + 1) p_(j)); the tests may depend on each other
    in any way. NaN marks a test that was not made: it stays NaN, and is not one of the m.

    Holm 1979, "A Simple Sequentially Rejective Multiple Test Procedure".

    Raises:
        ValueError: a p-value is not within 0..1.

    Example:
        >>> holm({"BADGE": 0.01, "Margin": 0.04, "CoreSet": 0.03})
        {'BADGE': 0.03, 'Margin': 0.06, 'CoreSet': 0.06}
    """
    for name, p in p_values.items():
        if not (0 <= p <= 1 or math.isnan(p)):
            raise ValueError(f"the p-value of {shown(name)} must be from 0 to 1 or NaN, not {shown(p)}")
    tested = sorted((name for name, p in p_values.items() if not math.isnan(p)), key=lambda name: p_values[name])
    highest, corrected = 0.0, dict.fromkeys(p_values, math.nan)
    for rank, name in enumerate(tested):
        highest = max(highest, min(1.0, (len(tested) - rank) * p_values[name]))
        corrected[name] = highest
    return corrected


def min_p(pairs: int) -> float:
    """Smallest p-value that `paired_p` can return for this number of pairs."""
    pairs = whole(pairs, "pairs")
    return math.ldexp(1.0, 1 - pairs) if 0 < pairs <= EXACT else 1.0 if pairs <= 0 else 1 / (1 + _DRAWS)


def _finite(differences: Sequence[float]) -> np.ndarray:
    d = np.asarray(differences, np.float64)
    if d.ndim != 1 or not np.isfinite(d).all():
        raise ValueError("differences must be finite, one number per pair")
    return d


def tally(differences: Sequence[float], *, level: float = 0.0) -> tuple[int, int, int]:
    """Number of wins, draws and losses; a difference of at most `level` in magnitude is a draw.

    Raises:
        ValueError: a difference is not finite, or `level` is negative.

    Example:
        >>> tally([0.02, -0.01, 0.0], level=0.005)
        (1, 1, 1)
    """
    level = number(level, "level", 0)
    _finite(differences)
    wins = sum(d > level for d in differences)
    losses = sum(d < -level for d in differences)
    return wins, len(differences) - wins - losses, losses
