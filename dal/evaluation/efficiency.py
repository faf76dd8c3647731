"""Label efficiency: how many labels a strategy saves compared with a baseline, with an interval over the seeds."""

from collections.abc import Mapping
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from scipy.special import stdtrit

from dal.evaluation.curves import LOWER_IS_BETTER, Curve, band, labels_to_reach, paired
from dal.functional.checking import number, whole

#: Fewer seeds than this give no interval: with three, 95 % intervals had a coverage of 75 % in simulated comparisons.
LEAST = 5


@dataclass(frozen=True)
class Efficiency:
    """Labels that the baseline needed, divided by those that the strategy needed for the same score.

    Attributes:
        value: ratio of the mean curves; above 1 is a saving, 0 when the strategy never reached the score.
        low: lower end of the interval; 0 when the interval includes "never".
        high: upper end of the interval.
        needed: interval of the labels that the strategy needed, fewest first; None for never.
        seeds: number of paired seeds.
        saved: interval of the labels saved against the baseline, fewest first; None where it includes "never".
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
    lower_is_better: bool | None = None,
    confidence: float = 0.95,
    samples: int = 2000,
    seed: int = 0,
) -> Efficiency | None:
    """Label efficiency at the baseline's final score, with a bootstrap interval over paired seeds.

    Pairs are drawn with replacement, and for each draw both mean curves, the baseline's final score and the labels that
    each needed for it are recomputed. Percentile intervals of few pairs are too narrow; they are widened as for a mean,
    from the normal quantile to Student's with n - 1 degrees of freedom times sqrt(n / (n - 1)) (Hesterberg 2015, "What
    Teachers Should Know About the Bootstrap", expanded percentiles). On simulated curves, 95 % intervals covered the
    true ratio in 92 to 96 % of the cases, for 5 to 20 seeds.

    Args:
        strategy: the strategy's curve for each seed.
        baseline: the baseline's curve for each seed.
        metric: name of the score.
        lower_is_better: whether lower scores are better; by default the name decides.
        confidence: confidence level of the interval, between 0 and 1.
        samples: number of bootstrap samples.
        seed: seed of the bootstrap.

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
    lower = metric in LOWER_IS_BETTER if lower_is_better is None else lower_is_better

    def ratio(a: np.ndarray, b: np.ndarray) -> tuple[float, float, float]:
        """Ratio, labels that the strategy needed (infinite for never) and labels saved, for mean scores on the grid."""
        target = float(b[-1])
        needed = labels_to_reach(Curve(grid, tuple(a.tolist())), target, lower_is_better=lower)
        usual = labels_to_reach(Curve(grid, tuple(b.tolist())), target, lower_is_better=lower)
        usual = budget if usual is None else usual
        # A target that is never reached is the worst outcome in each column, so that sorting ranks it there.
        return (0.0, np.inf, -np.inf) if needed is None else (usual / needed, needed, usual - needed)

    # Whole seeds are drawn, for both curves at once: curves of one seed share its split and first labels.
    draws = np.random.default_rng(seed).integers(seeds, size=(samples, seeds))
    resampled = np.array([ratio(ours[draw].mean(0), theirs[draw].mean(0)) for draw in draws])  # (samples, 3)
    tail = expanded((1 - confidence) / 2, seeds)
    resampled.sort(0)  # each column separately
    first = round(tail * (samples - 1))
    (low, few, least), (high, most, greatest) = resampled[first], resampled[-1 - first]
    needed, saved = _finite(few, most), _finite(least, greatest)
    return Efficiency(ratio(ours.mean(0), theirs.mean(0))[0], float(low), float(high), needed, seeds, saved)


def _finite(low: float, high: float) -> tuple[float | None, float | None]:
    return (float(low) if np.isfinite(low) else None, float(high) if np.isfinite(high) else None)


def expanded(tail: float, n: int) -> float:
    """Tail probability at which a percentile interval of a mean of n is as wide as Student's."""
    wide = float(stdtrit(n - 1, tail)) * (n / (n - 1)) ** 0.5
    return NormalDist().cdf(wide)
