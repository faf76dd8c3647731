"""Candidate generators in plain loops, float64, written from their papers."""

import math

import numpy as np
from sklearn.linear_model import LogisticRegression

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


def linear_proxy(
    vectors: Vectors, labeled: list[int], classes: list[list[int]], unasked: list[int], size: int, *, penalty: float
) -> list[int]:
    """The `size` unasked rows with the smallest margins under logistic regression on centred vectors of length 1.

    Args:
        classes: classes of each labeled row; one regression per class if a row has several or none.
    """
    x = np.array(vectors) - np.mean(vectors, axis=0)
    x = np.array([row / math.sqrt(sum(a * a for a in row)) for row in x])
    x = np.hstack([x, np.ones((len(x), 1))])  # the bias is penalised, too

    def fitted(targets: list[int]) -> LogisticRegression:
        model = LogisticRegression(C=1 / penalty, fit_intercept=False, tol=1e-12, max_iter=10_000)
        return model.fit(x[labeled], targets)

    names = sorted({code for row in classes for code in row})
    margins = {}
    if all(len(row) == 1 for row in classes):
        model = fitted([row[0] for row in classes])
        for row in unasked:
            ordered = sorted(model.predict_proba(x[[row]])[0])
            margins[row] = ordered[-1] - ordered[-2]
    else:
        models = [fitted([code in row for row in classes]) for code in names]
        for row in unasked:
            probs = [model.predict_proba(x[[row]])[0][1] for model in models]
            margins[row] = sum(abs(2 * p - 1) for p in probs) / len(probs)
    return sorted(sorted(unasked, key=lambda row: (margins[row], row))[:size])
