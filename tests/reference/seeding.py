"""k-means++ seeding one pick at a time, with every distance computed again."""

import itertools

import numpy as np


def race(x: np.ndarray, n: int, clocks: np.ndarray, first: str, weights: np.ndarray | None = None) -> list[int]:
    """Positions of n rows: each the first whose clock runs out, at the speed of its weighted squared distance."""
    x, left = x.astype(np.float64), clocks.astype(np.float64).copy()
    weight = np.ones(len(x)) if weights is None else weights.astype(np.float64)
    chosen: list[int] = []
    if first == "largest":
        chosen.append(int((weight * (x**2).sum(1)).argmax()))
    while len(chosen) < n:
        speed = weight * mass(x, chosen)
        for fallback in (weight, np.ones(len(x))):
            speed[chosen] = 0
            if not speed.any():
                speed = fallback.copy()
        speed[chosen] = 0
        time = np.full(len(x), np.inf)
        time[speed > 0] = left[speed > 0] / speed[speed > 0]
        pick = int(time.argmin())
        left = np.maximum(left - speed * time[pick], 0)
        chosen.append(pick)
    return chosen


def mass(x: np.ndarray, chosen: list[int]) -> np.ndarray:
    """Squared distance of every row to the nearest chosen one; 1 before there is any."""
    if not chosen:
        return np.ones(len(x))
    closest = np.full(len(x), np.inf)
    for j in chosen:
        closest = np.minimum(closest, ((x - x[j]) ** 2).sum(1))
    return closest


def law(x: np.ndarray, n: int, weights: np.ndarray, first: int | None = None) -> dict[tuple[int, ...], float]:
    """The probability of every ordered choice of n rows: each in proportion to weight times `mass`."""
    probabilities = {}
    for picks in itertools.permutations(range(len(x)), n):
        if first is not None and picks[0] != first:
            continue
        probability = 1.0
        for t in range(0 if first is None else 1, n):
            pull = weights * mass(x, list(picks[:t]))
            probability *= pull[picks[t]] / pull.sum()
        probabilities[picks] = probability
    return probabilities
