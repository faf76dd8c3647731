"""When to stop: kappa and its variance, and the power law of a learning curve, written from the equations in loops."""

import math
from collections.abc import Sequence

import numpy as np


def kappa(first: Sequence[int], second: Sequence[int]) -> float:
    """Cohen's kappa of two lists of classes."""
    classes = sorted(set(first) | set(second))
    n = len(first)
    observed = sum(a == b for a, b in zip(first, second, strict=True)) / n
    chance = sum((list(first).count(c) / n) * (list(second).count(c) / n) for c in classes)
    return (observed - chance) / (1 - chance)


def kappa_of_shares(p: np.ndarray) -> float:
    size = len(p)
    observed = sum(p[i, i] for i in range(size))
    chance = sum(sum(p[i, j] for j in range(size)) * sum(p[j, i] for j in range(size)) for i in range(size))
    return (observed - chance) / (1 - chance)


def kappa_variance(table: np.ndarray) -> float:
    """By the delta method itself: kappa's slope in every cell (by finite differences), and the multinomial covariance.

    Cells are counts / total, so that moving one cell moves all shares: the slopes are those of kappa(x / sum x).
    """
    n = table.sum()
    p = table / n
    step = 1e-6
    slope = np.zeros_like(p, dtype=float)
    for i in range(len(p)):
        for j in range(len(p)):
            up, down = p.copy(), p.copy()
            up[i, j] += step
            down[i, j] -= step
            slope[i, j] = (kappa_of_shares(up / up.sum()) - kappa_of_shares(down / down.sum())) / (2 * step)
    mean = sum(p[i, j] * slope[i, j] for i in range(len(p)) for j in range(len(p)))
    square = sum(p[i, j] * slope[i, j] ** 2 for i in range(len(p)) for j in range(len(p)))
    return float((square - mean**2) / n)


def f_measure(predicted: Sequence[int], truth: Sequence[int]) -> float:
    both = sum(a == 1 and b == 1 for a, b in zip(predicted, truth, strict=True))
    total = sum(predicted) + sum(truth)
    return 2 * both / total if total else 1.0


def power_law(labels: Sequence[float], scores: Sequence[float], exponents: Sequence[float]) -> tuple[float, ...]:
    """(a, b, c) of a - b n^-c, 0 <= b, a <= 1, with the least squared error where point i of m weighs i / m.

    Every exponent is tried; for each the best of: the free fit, the fit at b = 0, the fit at a = 1.
    """
    m = len(labels)
    weights = [(i + 1) / m for i in range(m)]
    best = (math.inf, 0.0, 0.0, 0.0)
    for c in exponents:
        powers = [n**-c for n in labels]
        design = np.array([[math.sqrt(w), -math.sqrt(w) * z] for w, z in zip(weights, powers, strict=True)])
        target = np.array([math.sqrt(w) * s for w, s in zip(weights, scores, strict=True)])
        free = np.linalg.lstsq(design, target, rcond=None)[0]
        flat = sum(w * s for w, s in zip(weights, scores, strict=True)) / sum(weights)
        rise = sum(w * z * (1 - s) for w, z, s in zip(weights, powers, scores, strict=True))
        full = rise / sum(w * z * z for w, z in zip(weights, powers, strict=True))
        for a, b in ((float(free[0]), float(free[1])), (flat, 0.0), (1.0, full)):
            if a <= 1 + 1e-12 and b >= -1e-12:
                error = sum(w * (a - b * z - s) ** 2 for w, z, s in zip(weights, powers, scores, strict=True))
                best = min(best, (error, a, b, c))
    return best[1:]
