"""How many labels a strategy saved against a baseline, with an interval over the seeds."""

from collections.abc import Mapping
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from scipy import stats

from dal.evaluation.curves import LOWER_IS_BETTER, Curve, band, labels_to_reach, paired
from dal.functional.checking import number, whole

#: Fewer seeds than this give no interval: of three, one of 95 % held the truth in 75 % of simulated comparisons.
LEAST = 5


@dataclass(frozen=True)
class Efficiency:
    """Labels that the baseline needed, divided by those that the strategy needed for the same score.

    Attributes:
        value: of the mean curves; above 1 is a saving, 0 when the strategy never reached the score.
        low: the lower end of the interval; 0 when "never" is within it.
        high: the upper end.
        needed: labels that the strategy needed, from the fewest to the most within the interval; None for never.
        seeds: how many pairs.
        saved: labels that the baseline needed beyond these, from the fewest to the most; None where "never" is within.
    """

    value: float
    low: float
    high: float
    needed: tuple[float | None, float | None]
    seeds: int
    saved: tuple[float | None, float | None] = (None, None)


def label_efficiency(
    strategy: Mapping[int, Curve],
    baseline: Mapping[int, Curve],
    metric: str,
    *,
    confidence: float = 0.95,
    samples: int = 2000,
    seed: int = 0,
) -> Efficiency | None:
    """The label efficiency at the score that the baseline ends with, and its bootstrap interval over paired seeds.

    Pairs are drawn with replacement, and in each draw both mean curves, the baseline's final score and the labels that
    each needed for it are recomputed. Percentiles of few pairs are too narrow; the level is widened as for a mean,
    from the normal quantile to Student's with n - 1 degrees of freedom times sqrt(n / (n - 1)) (Hesterberg 2015, "What
    Teachers Should Know About the Bootstrap", expanded percentiles). On simulated curves, intervals of .95 held the
    true ratio in .92 to .96 of the cases, from 5 to 20 seeds.

    Args:
        strategy: one curve for each seed.
        baseline: likewise.
        metric: the name of the score, which decides whether less is better.
        confidence: of the interval.
        samples: how many draws.
        seed: decides the draws.

    Returns:
        None for fewer than `LEAST` seeds in common, or curves that do not overlap.
    """
    confidence, samples = number(confidence, "confidence", above=0, below=1), whole(samples, "samples", 1)
    seed = whole(seed, "seed", 0)
    pairs = paired(strategy, baseline)
    if pairs is None or len(pairs.seeds) < LEAST or pairs.budget == pairs.start:
        return None
    cut, seeds, budget = pairs.curves, len(pairs.seeds), pairs.budget
    grid = band([c for pair in cut for c in pair]).mean.labels
    ours, theirs = (np.array([np.interp(grid, p[i].labels, p[i].scores) for p in cut]) for i in (0, 1))
    lower = metric in LOWER_IS_BETTER

    def ratio(a: np.ndarray, b: np.ndarray) -> tuple[float, float, float]:
        """Of mean scores on the grid: the ratio, labels that the strategy needed (infinite for never), labels saved."""
        target = float(b[-1])
        needed = labels_to_reach(Curve(grid, tuple(a.tolist())), target, lower_is_better=lower)
        usual = labels_to_reach(Curve(grid, tuple(b.tolist())), target, lower_is_better=lower)
        usual = budget if usual is None else usual
        return (0.0, np.inf, -np.inf) if needed is None else (usual / needed, needed, usual - needed)

    draws = np.random.default_rng(seed).integers(seeds, size=(samples, seeds))
    found = np.array([ratio(ours[draw].mean(0), theirs[draw].mean(0)) for draw in draws])
    tail = expanded((1 - confidence) / 2, seeds)
    found.sort(0)  # each column by itself
    first = round(tail * (samples - 1))
    (low, few, least), (high, most, greatest) = found[first], found[-1 - first]
    needed, saved = _finite(few, most), _finite(least, greatest)
    return Efficiency(ratio(ours.mean(0), theirs.mean(0))[0], float(low), float(high), needed, seeds, saved)


def _finite(low: float, high: float) -> tuple[float | None, float | None]:
    return (float(low) if np.isfinite(low) else None, float(high) if np.isfinite(high) else None)


def expanded(tail: float, n: int) -> float:
    """The tail to cut off, so that the interval of a mean of n is as wide as Student's."""
    wide = float(stats.t.ppf(tail, n - 1)) * (n / (n - 1)) ** 0.5
    return NormalDist().cdf(wide)
