"""Logit adjustment and thresholds by class shares, written out."""

import math


def adjustment(counts: list[float], strength: float, smoothing: float) -> list[float]:
    """-strength times the logarithm of each class's smoothed share."""
    total = sum(counts) + smoothing * len(counts)
    return [-strength * math.log((count + smoothing) / total) for count in counts]


def decisions(logits: list[list[float]], shares: list[float]) -> list[list[bool]]:
    """For each class the rows with the largest logits, as many as the share wants."""
    rows, classes = len(logits), len(shares)
    decided = [[False] * classes for _ in range(rows)]
    for code in range(classes):
        ranked = sorted(range(rows), key=lambda row: -logits[row][code])
        for row in ranked[: math.floor(shares[code] * rows + 0.5)]:
            decided[row][code] = True
    return decided
