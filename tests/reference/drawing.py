"""Laws of random draws, by enumeration."""

import itertools

import numpy as np


def drawing_law(weights: list[float], n: int) -> dict[tuple[int, ...], float]:
    """The probability of every ordered choice of n rows, each drawn in proportion to its weight among those left."""
    law = {}
    for order in itertools.permutations(range(len(weights)), n):
        probability, left = 1.0, sum(weights)
        for row in order:
            probability *= weights[row] / left
            left -= weights[row]
        law[order] = probability
    return law


def lightweight_law(x: np.ndarray) -> list[float]:
    """Half uniform, half in proportion to the squared distance to the mean."""
    x = x.astype(np.float64)
    mean = x.mean(0)
    squared = [float(((row - mean) ** 2).sum()) for row in x]
    if sum(squared) == 0:
        return [1 / len(x)] * len(x)
    return [0.5 / len(x) + 0.5 * value / sum(squared) for value in squared]
