"""Fisher information of a last layer, and BAIT's greedy choices, with whole matrices and direct inverses."""

import numpy as np


def information(p: np.ndarray, h: np.ndarray, multilabel: bool = False) -> np.ndarray:
    """The expected outer product of the gradient with respect to the weight, over the model's own labels, (CD, CD)."""
    C, total = len(p), np.zeros((len(p) * len(h),) * 2)
    if multilabel:
        for c in range(C):
            for y, probability in ((1.0, p[c]), (0.0, 1 - p[c])):
                gradient = np.kron((p[c] - y) * np.eye(C)[c], h)
                total += probability * np.outer(gradient, gradient)
        return total
    for c in range(C):
        gradient = np.kron(p - np.eye(C)[c], h)
        total += p[c] * np.outer(gradient, gradient)
    return total


def objective(known: np.ndarray, rows: list[np.ndarray], chosen: list[int], wanted: np.ndarray) -> float:
    """tr(M^-1 F), M being what is known and the information of those chosen."""
    m = known + sum((rows[i] for i in chosen), np.zeros_like(known))
    return float(np.trace(np.linalg.inv(m) @ wanted))


def bait(
    rows: list[np.ndarray], n: int, known: np.ndarray, wanted: np.ndarray, oversampling: float
) -> tuple[list[int], list[float], float]:
    """Picks in the order in which they were added, by how much each lowered the objective, and the objective left."""
    chosen: list[int] = []
    gains: dict[int, float] = {}
    for _ in range(min(len(rows), round(n * oversampling))):
        before = objective(known, rows, chosen, wanted)
        left = [i for i in range(len(rows)) if i not in chosen]
        after = [objective(known, rows, [*chosen, i], wanted) for i in left]
        best = int(np.argmin(after))
        chosen.append(left[best])
        gains[left[best]] = before - after[best]
    while len(chosen) > n:
        after = [objective(known, rows, [i for i in chosen if i != out], wanted) for out in chosen]
        chosen.pop(int(np.argmin(after)))
    return chosen, [gains[i] for i in chosen], objective(known, rows, chosen, wanted)
