"""Slow and obvious versions of the calibration figures, row by row in exact order."""

from collections.abc import Sequence

Table = Sequence[Sequence[float]]


def adaptive_error(probs: Table, truth: Sequence[Sequence[int]], bins: int) -> float:
    """Nixon et al. 2019: for each class, sorted, in parts of equal size; rows of equal probability share outcomes."""
    rows, classes = len(probs), len(probs[0])
    parts = min(bins, rows)
    gaps = []
    for c in range(classes):
        column = sorted((probs[i][c], truth[i][c]) for i in range(rows))
        shared = []
        for p, _ in column:
            same = [y for q, y in column if q == p]
            shared.append((p, sum(same) / len(same)))
        start = 0
        for part in range(parts):
            size = rows // parts + (part < rows % parts)
            inside = shared[start : start + size]
            start += size
            gaps.append(abs(sum(p for p, _ in inside) - sum(y for _, y in inside)) / size)
    return sum(gaps) / len(gaps)


def diagram(confidence: Sequence[float], right: Sequence[bool], bins: int) -> list[list[float | None]]:
    """Mean confidence, accuracy and count of the bins (k / bins, (k + 1) / bins]."""
    found: list[list[float | None]] = [[], [], []]
    for k in range(bins):
        inside = [i for i, c in enumerate(confidence) if k / bins < c <= (k + 1) / bins]
        found[0].append(sum(confidence[i] for i in inside) / len(inside) if inside else None)
        found[1].append(sum(right[i] for i in inside) / len(inside) if inside else None)
        found[2].append(len(inside))
    return found
