"""Greedy k-center by the definition: float64, every row looked at for every pick."""

import numpy as np


def k_center(x: np.ndarray, n: int, centers: np.ndarray | None = None) -> tuple[list[int], np.ndarray, float]:
    """Picks, their distances at selection (n,), and the largest distance left. Of equally far rows the first wins."""
    x = x.astype(np.float64)
    gap = np.full(len(x), np.inf)
    if centers is None or not len(centers):
        first = ((x - x.mean(0)) ** 2).sum(1)
        picks = [int(first.argmax())]
        won = [first.max()]
        gap = ((x - x[picks[0]]) ** 2).sum(1)
        gap[picks] = -1
    else:
        picks, won = [], []
        for center in centers.astype(np.float64):
            gap = np.minimum(gap, ((x - center) ** 2).sum(1))
    while len(picks) < n:
        pick = int(gap.argmax())  # the first of equals
        picks.append(pick)
        won.append(gap[pick])
        gap = np.minimum(gap, ((x - x[pick]) ** 2).sum(1))
        gap[picks] = -1
    return picks, np.sqrt(won), float(np.sqrt(max(gap.max(), 0)))


def squared_gaps(x: np.ndarray, centers: np.ndarray) -> np.ndarray:
    """Squared distance of every row to the nearest center, (N,)."""
    gap = np.full(len(x), np.inf)
    for center in centers.astype(np.float64):
        gap = np.minimum(gap, ((x.astype(np.float64) - center) ** 2).sum(1))
    return gap
