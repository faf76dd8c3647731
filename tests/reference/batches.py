"""Slow and obvious versions of what a batch is measured by, in two loops over lists of points."""

import math
from collections.abc import Mapping, Sequence
from statistics import median

Points = Sequence[Sequence[float]]


def typical(points: Points, queries: int) -> float | None:
    near = [min(math.dist(p, q) for j, q in enumerate(points) if j != i) for i, p in enumerate(points[:queries])]
    apart = [d for d in near if d > 0]
    return median(apart) if apart else None


def redundancy(batch: Points, before: Points, distance: float) -> float:
    earlier, redundant = list(before), 0
    for point in batch:
        redundant += any(math.dist(point, other) <= distance for other in earlier)
        earlier.append(point)
    return redundant / len(batch)


def novelty(batch: Points, before: Points, distance: float) -> float:
    return sum(min(math.dist(p, q) for q in before) for p in batch) / len(batch) / distance


def nearest(point: Sequence[float], others: Mapping[str, Sequence[float]]) -> str | None:
    return min(others, key=lambda name: math.dist(point, others[name])) if others else None


def coverage(pool: Points, labeled: Points) -> list[float]:
    return [min(math.dist(p, q) for q in labeled) for p in pool]
