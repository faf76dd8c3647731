"""Confident learning row by row, as in the paper's equations (1) to (3)."""

from collections.abc import Sequence

Table = Sequence[Sequence[float]]


def thresholds(probs: Table, labels: Sequence[int]) -> list[float]:
    found = []
    for j in range(len(probs[0])):
        own = [p[j] for p, y in zip(probs, labels, strict=True) if y == j]
        found.append(sum(own) / len(own) if own else float("inf"))
    return found


def counted(probs: Table, labels: Sequence[int]) -> list[int | None]:
    """The class that a row is counted for, None for none."""
    least = thresholds(probs, labels)
    found: list[int | None] = []
    for p in probs:
        sure = [j for j in range(len(p)) if p[j] >= least[j] - 1e-9]
        found.append(max(sure, key=lambda j, p=p: p[j]) if sure else None)
    return found


def joint(probs: Table, labels: Sequence[int]) -> list[list[int]]:
    classes = len(probs[0])
    pairs = list(zip(labels, counted(probs, labels), strict=True))
    return [[pairs.count((i, j)) for j in range(classes)] for i in range(classes)]


def doubted(probs: Table, labels: Sequence[int]) -> list[int]:
    """Rows off the diagonal, by p of the given class less the best other p."""
    pairs = list(zip(labels, counted(probs, labels), strict=True))
    rows = [i for i, (given, j) in enumerate(pairs) if j is not None and j != given]

    def margin(i: int) -> float:
        return probs[i][labels[i]] - max(p for j, p in enumerate(probs[i]) if j != labels[i])

    return sorted(rows, key=margin)
