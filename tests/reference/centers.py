"""Selection of centers with whole distance tables, one pick at a time."""

import itertools

import numpy as np


def distances(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """(N, M) distances by differences."""
    return np.array([[np.sqrt(((a - b) ** 2).sum()) for b in y] for a in x]).reshape(len(x), len(y))


def k_center(x: np.ndarray, n: int, centers: np.ndarray | None = None) -> tuple[list[int], list[float], float]:
    """Picks, their distances at selection, and the largest distance left."""
    x = x.astype(np.float64)
    starting = x.mean(0)[None] if centers is None else centers.astype(np.float64)
    chosen: list[int] = []
    won: list[float] = []
    for _ in range(n):
        known = np.concatenate([starting, x[chosen]]) if centers is not None or not chosen else x[chosen]
        gap = distances(x, known).min(1)
        gap[chosen] = -1
        chosen.append(int(gap.argmax()))
        won.append(float(gap.max()))
    known = x[chosen] if centers is None else np.concatenate([starting, x[chosen]])
    left = [i for i in range(len(x)) if i not in chosen]
    return chosen, won, float(distances(x[left], known).min(1).max()) if left else 0.0


def seeding_law(x: np.ndarray, n: int, first: int) -> dict[tuple[int, ...], float]:
    """The probability of every ordered choice of n rows that starts with `first`, by the rule as published.

    Each next row is drawn with probability proportional to its squared distance to the nearest chosen one.
    """
    x = x.astype(np.float64)
    law = {}
    others = [i for i in range(len(x)) if i != first]
    for rest in itertools.permutations(others, n - 1):
        probability, chosen = 1.0, [first]
        for pick in rest:
            mass = distances(x, x[chosen]).min(1) ** 2
            mass[chosen] = 0
            if mass.sum() == 0:
                mass = np.array([float(i not in chosen) for i in range(len(x))])
            probability *= mass[pick] / mass.sum()
            chosen.append(pick)
        law[(first, *rest)] = probability
    return law


def inertia(x: np.ndarray, centers: np.ndarray) -> float:
    """The sum of squared distances of the rows to their nearest center."""
    return float((distances(x.astype(np.float64), centers.astype(np.float64)).min(1) ** 2).sum())
