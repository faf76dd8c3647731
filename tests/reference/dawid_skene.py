"""The consensus of Dawid and Skene, one row, source and class at a time."""

import math
from collections.abc import Sequence


def consensus(
    votes: Sequence[Sequence[int]], classes: int, known: Sequence[int], turns: int, smoothing: float = 1.0
) -> tuple[list[list[float]], list[list[list[float]]]]:
    """Posteriors and confusions after so many turns."""
    rows = list(zip(votes, known, strict=True))
    posterior = [_start(row, classes) if truth < 0 else _sure(truth, classes) for row, truth in rows]
    for _ in range(turns):
        prevalence, confusion = rates(votes, posterior, classes, smoothing)
        posterior = [
            _sure(truth, classes) if truth >= 0 else judged(row, prevalence, confusion, classes) for row, truth in rows
        ]
    return posterior, rates(votes, posterior, classes, smoothing)[1]


def _start(row: Sequence[int], classes: int) -> list[float]:
    given = [vote for vote in row if vote >= 0]
    if not given:
        return [1 / classes] * classes
    return [given.count(c) / len(given) for c in range(classes)]


def _sure(truth: int, classes: int) -> list[float]:
    return [1.0 if c == truth else 0.0 for c in range(classes)]


def rates(votes, posterior, classes, smoothing):
    prevalence = [(sum(p[c] for p in posterior) + 1) / (len(posterior) + classes) for c in range(classes)]
    confusion = []
    both = list(zip(posterior, votes, strict=True))
    for s in range(len(votes[0])):
        counts = [
            [sum(p[c] for p, row in both if row[s] == answer) for answer in range(classes)] for c in range(classes)
        ]
        total = sum(map(sum, counts))
        right = (sum(counts[c][c] for c in range(classes)) + 1) / (total + 2)
        wrong = (1 - right) / max(1, classes - 1)
        table = []
        for c in range(classes):
            line = [counts[c][a] + smoothing * (right if a == c else wrong) for a in range(classes)]
            table.append([value / sum(line) for value in line])
        confusion.append(table)
    return prevalence, confusion


def judged(row, prevalence, confusion, classes):
    weights = []
    for c in range(classes):
        weights.append(prevalence[c] * math.prod(confusion[s][c][vote] for s, vote in enumerate(row) if vote >= 0))
    return [weight / sum(weights) for weight in weights]
