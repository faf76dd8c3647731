"""Greedy generalised coverage by looking at every candidate for every pick."""

import math

import numpy as np

from reference.centers import distances


def max_herding(
    x: np.ndarray, n: int, y: np.ndarray, centers: np.ndarray, weights: list[float], sigma: float
) -> tuple[list[int], list[float], float]:
    """Picks, their gains, and the weighted mean similarity in the end.

    Of equal gains (to 11 places) the pick most similar to all targets is taken, then the first.
    """
    x, y, centers = x.astype(np.float64), y.astype(np.float64), centers.astype(np.float64)

    def similarities(a: np.ndarray, b: np.ndarray) -> list[list[float]]:
        return [[math.exp(-((d / sigma) ** 2)) for d in row] for row in distances(a, b)]

    M = len(y)
    kernel = similarities(x, y)
    best = [max(row, default=0.0) for row in similarities(y, centers)] if len(centers) else [0.0] * M
    picks: list[int] = []
    gains: list[float] = []
    for _ in range(n):
        gain = {
            i: sum(weights[j] * max(0.0, kernel[i][j] - best[j]) for j in range(M)) / M
            for i in range(len(x))
            if i not in picks
        }
        total = {i: sum(weights[j] * kernel[i][j] for j in range(M)) / M for i in gain}
        pick = max(gain, key=lambda i: (round(gain[i], 11), round(total[i], 11), -i))
        picks.append(pick)
        gains.append(gain[pick])
        best = [max(b, k) for b, k in zip(best, kernel[pick], strict=True)]
    return picks, gains, sum(w * b for w, b in zip(weights, best, strict=True)) / M
