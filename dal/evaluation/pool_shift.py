"""Whether new rows lie farther from a pool than its own rows do."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

#: Fewer rows of either kind say nothing.
LEAST_ROWS = 20

_P = 0.001  # p-value below which a difference is no chance
_EFFECT = 0.6  # probability, at least, that a new row lies farther away than one of the pool


@dataclass(frozen=True)
class PoolShift:
    """Comparison of nearest-neighbor distances.

    Attributes:
        probability: probability that the distance of a new row to the pool is larger than that of a row of the pool to
            the others, ties counting half; 0.5 without a difference.
        p_value: one-sided p-value of the Mann-Whitney test.
        beyond: share of the new rows that lie farther away than 95 % of the rows of the pool do.
        rows: number of new rows.
    """

    probability: float
    p_value: float
    beyond: float
    rows: int

    @property
    def is_shifted(self) -> bool:
        """Whether new rows lie farther away, beyond chance and by an amount that matters."""
        return self.p_value < _P and self.probability >= _EFFECT


def pool_shift(own: NDArray[np.floating], new: NDArray[np.floating]) -> PoolShift | None:
    """Compare the distances of new rows to the pool with those of its own rows to each other.

    Without a shift both are distances of a random row to its nearest neighbor, and have one distribution. Equal texts
    must be left out of both: a new row is never equal to one of the pool.

    Args:
        own: (N,) distance of each row of the pool to the nearest other one.
        new: (M,) distance of each new row to the nearest row of the pool.

    Returns:
        The comparison; None with fewer than `LEAST_ROWS` rows of either kind.

    Mann and Whitney 1947, "On a Test of Whether one of Two Random Variables is Stochastically Larger than the Other".

    Example:
        >>> rng = np.random.default_rng(0)
        >>> pool_shift(rng.random(100), rng.random(100)).is_shifted
        False
        >>> pool_shift(rng.random(100), 1 + rng.random(100)).is_shifted
        True
    """
    if min(len(own), len(new)) < LEAST_ROWS:
        return None
    from scipy.stats import mannwhitneyu

    statistic, p_value = mannwhitneyu(new, own, alternative="greater", method="asymptotic")
    if not np.isfinite(p_value):  # all distances are equal
        p_value = 1.0
    return PoolShift(
        probability=float(statistic) / (len(own) * len(new)),
        p_value=float(p_value),
        beyond=float((new > np.quantile(own, 0.95)).mean()),
        rows=len(new),
    )
