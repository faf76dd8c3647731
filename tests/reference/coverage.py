"""Covering points with balls, by whole tables of distances and one pick at a time."""

import numpy as np

from reference.centers import distances


def max_coverage(
    x: np.ndarray, n: int, radius: float, y: np.ndarray, centers: np.ndarray
) -> tuple[list[int], list[int], list[bool]]:
    """Picks, how many targets each covered first, and which targets are covered; the first of equals is taken."""
    x, y, centers = x.astype(np.float64), y.astype(np.float64), centers.astype(np.float64)
    covered = [any(d <= radius for d in row) for row in distances(y, centers)]
    table = distances(x, y)
    picks: list[int] = []
    gains: list[int] = []
    while len(picks) < n and not all(covered):
        counts = [sum(d <= radius and not c for d, c in zip(row, covered, strict=True)) for row in table]
        pick = max(range(len(x)), key=lambda i: (counts[i], -i))
        if not counts[pick]:
            break
        picks.append(pick)
        gains.append(counts[pick])
        covered = [c or d <= radius for d, c in zip(table[pick], covered, strict=True)]
    return picks, gains, covered


def pure_radius(x: np.ndarray, clusters: list[int], purity: float) -> float:
    """The largest of all distances that leaves at least a share `purity` of the rows pure.

    A row is pure when all rows nearer to it than that are of its cluster.
    """
    N = len(x)
    table = distances(x.astype(np.float64), x.astype(np.float64)).tolist()

    def share(radius: float) -> float:
        return sum(all(clusters[i] == clusters[j] or table[i][j] >= radius for j in range(N)) for i in range(N)) / N

    return max(radius for row in table for radius in row if share(radius) >= purity)


def typicality(x: np.ndarray, neighbors: int) -> list[float]:
    """One over 1e-5 plus the mean distance to the nearest others."""
    table = distances(x.astype(np.float64), x.astype(np.float64))
    result = []
    for i in range(len(x)):
        others = sorted(table[i][j] for j in range(len(x)) if j != i)[:neighbors]
        result.append(1 / (1e-5 + sum(others) / len(others)) if others else 0.0)
    return result
