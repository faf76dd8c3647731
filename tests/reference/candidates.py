"""Candidate generators in plain loops, float64, written from their papers."""

import math

Vectors = list[list[float]]


def cosine(x: list[float], y: list[float]) -> float:
    lengths = math.sqrt(sum(a * a for a in x)) * math.sqrt(sum(b * b for b in y))
    return sum(a * b for a, b in zip(x, y, strict=True)) / lengths


def seals(vectors: Vectors, labeled: list[int], unasked: list[int], k: int) -> list[int]:
    """The unasked rows that are among the k nearest others of a labeled row."""
    near = set()
    for row in labeled:
        others = [other for other in range(len(vectors)) if other != row]
        others.sort(key=lambda other: (-cosine(vectors[row], vectors[other]), other))
        near |= set(others[:k])
    return sorted(near & set(unasked))


def anchors(vectors: Vectors, classes: list[list[int]], unasked: list[int], size: int) -> list[int]:
    """The best of every class by mean similarity to its anchors, then the second best, until there are `size` rows."""
    ranked = []
    for rows in classes:
        score = {row: sum(cosine(vectors[row], vectors[anchor]) for anchor in rows) / len(rows) for row in unasked}
        ranked.append(sorted(unasked, key=lambda row: (-score[row], row)))
    found: list[int] = []
    for place in range(len(unasked)):
        for order in ranked:
            if order[place] not in found and len(found) < size:
                found.append(order[place])
    return sorted(found)
