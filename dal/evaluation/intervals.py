"""Bootstrap interval of a mean learning curve over the seeds."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from dal.evaluation.curves import Band, Curve, band
from dal.evaluation.efficiency import LEAST, expanded
from dal.functional.checking import number, whole


def mean_interval(curves: Sequence[Curve], *, confidence: float = 0.95, samples: int = 2000, seed: int = 0) -> Band:
    """Mean of the curves, with the bootstrap interval of the mean as `low` and `high`.

    Seeds are drawn with replacement, and the interval at each number of labels is given by percentiles of the resampled
    means, expanded for the number of seeds as in `label_efficiency`. Fewer seeds than `LEAST` (five) give the result of
    `band`, from the lowest seed to the highest: a bootstrap of three covers too little. Intervals are pointwise: the
    probability that the whole true curve lies within all of them is lower.

    Args:
        curves: one curve per seed; interpolated, never extrapolated.
        confidence: confidence level of the interval, for at least five seeds.
        samples: number of bootstrap samples.
        seed: seed of the bootstrap.

    Example:
        >>> curves = [Curve((10, 20), (0.5, 0.6 + 0.01 * i)) for i in range(6)]
        >>> found = mean_interval(curves)
        >>> found.low[0], found.high[0], 0.60 < found.low[1] < 0.625 < found.high[1] < 0.65
        (0.5, 0.5, True)
    """
    confidence, samples = number(confidence, "confidence", above=0, below=1), whole(samples, "samples", 1)
    seed = whole(seed, "seed", 0)
    spread = band(curves)
    if spread.seeds < LEAST or not len(spread.mean):
        return spread
    grid = spread.mean.labels
    scores = np.array([np.interp(grid, c.labels, c.scores) for c in curves if len(c)])  # (seeds, points)
    # A bootstrap mean depends only on how often each seed is drawn: counts turn resampling into one matrix product.
    even = [1 / spread.seeds] * spread.seeds
    counts = np.random.default_rng(seed).multinomial(spread.seeds, even, size=samples)  # (samples, seeds)
    means = np.sort(counts @ scores / spread.seeds, axis=0)  # (samples, points)
    first = round(expanded((1 - confidence) / 2, spread.seeds) * (samples - 1))
    return replace(spread, low=tuple(means[first].tolist()), high=tuple(means[-1 - first].tolist()))
