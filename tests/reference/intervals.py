"""The bootstrap interval of a mean, one draw at a time."""

import random
from statistics import NormalDist, fmean

from scipy import stats


def mean_interval(scores: list[tuple[float, ...]], samples: int, confidence: float = 0.95):
    """(low, high) for each point, from `samples` draws of seeds, tails widened as for Student's mean."""
    n, draw = len(scores), random.Random(1)
    means = []
    for _ in range(samples):
        drawn = [scores[draw.randrange(n)] for _ in range(n)]
        means.append([fmean(column) for column in zip(*drawn, strict=True)])
    quantile = stats.t.ppf((1 - confidence) / 2, n - 1) * (n / (n - 1)) ** 0.5
    cut = round(NormalDist().cdf(quantile) * (samples - 1))
    columns = [sorted(column) for column in zip(*means, strict=True)]
    return [column[cut] for column in columns], [column[-1 - cut] for column in columns]
