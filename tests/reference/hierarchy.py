"""Average-linkage clustering, joining one pair after the other, and taking turns among clusters."""

import itertools

import numpy as np


def average_linkage(x: np.ndarray, k: int) -> list[set[int]]:
    """k clusters: the two whose members are nearest on average are joined, again and again."""
    clusters = [{i} for i in range(len(x))]
    while len(clusters) > k:
        pairs = list(itertools.combinations(range(len(clusters)), 2))
        apart = [np.mean([np.linalg.norm(x[i] - x[j]) for i in clusters[a] for j in clusters[b]]) for a, b in pairs]
        a, b = pairs[int(np.argmin(apart))]
        clusters[a] |= clusters.pop(b)
    return clusters


def round_robin(assignment: list[int], n: int) -> list[int]:
    """One of each cluster in turns, the smallest cluster first, ties by their first row."""
    members = {c: [i for i, other in enumerate(assignment) if other == c] for c in assignment}
    order = sorted(members.values(), key=lambda rows: (len(rows), rows[0]))
    picks: list[int] = []
    for turn in range(len(assignment)):
        picks += [rows[turn] for rows in order if turn < len(rows)]
    return picks[:n]


def mean_similarity(x: np.ndarray) -> list[float]:
    """Mean cosine of every row with every row; 0 with a row of zeros."""
    lengths = np.linalg.norm(x, axis=1)
    cosine = [
        [float(a @ b) / (s * t) if s * t > 0 else 0.0 for b, t in zip(x, lengths, strict=True)]
        for a, s in zip(x, lengths, strict=True)
    ]
    return [float(np.mean(row)) for row in cosine]
