"""The last layer's posterior and its bootstrap, written out: whole matrices, one row and one class at a time."""

import numpy as np


def curvature(probs: np.ndarray, multilabel: bool) -> np.ndarray:
    """(C, C): second derivatives of one row's loss by its logits."""
    size = len(probs)
    out = np.zeros((size, size))
    for i in range(size):
        for j in range(size):
            if multilabel:
                out[i, j] = probs[i] * (1 - probs[i]) if i == j else 0.0
            else:
                out[i, j] = probs[i] * (1.0 if i == j else 0.0) - probs[i] * probs[j]
    return out


def kronecker_covariance(
    features: np.ndarray, probs: np.ndarray, weights: np.ndarray, precision: float, multilabel: bool
) -> np.ndarray:
    """(C (D + 1), C (D + 1)): the inverse of B (x) A + p I, B the mean curvature and A the sum of outer products."""
    a = np.zeros((features.shape[1], features.shape[1]))
    b = np.zeros((probs.shape[1], probs.shape[1]))
    for x, p, w in zip(features, probs, weights, strict=True):
        a += w * np.outer(x, x)
        b += w * curvature(p, multilabel)
    b /= weights.sum()
    return np.linalg.inv(np.kron(b, a) + precision * np.eye(a.shape[0] * b.shape[0]))


def whole_covariance(
    features: np.ndarray, probs: np.ndarray, weights: np.ndarray, precision: float, multilabel: bool
) -> np.ndarray:
    """The inverse of sum_n w_n curvature_n (x) x_n x_n' + p I, without the Kronecker approximation."""
    size = features.shape[1] * probs.shape[1]
    total = precision * np.eye(size)
    for x, p, w in zip(features, probs, weights, strict=True):
        total += w * np.kron(curvature(p, multilabel), np.outer(x, x))
    return np.linalg.inv(total)


def aligned(logits: np.ndarray, seen: list[int], classes: int, floor: float) -> np.ndarray:
    """Probabilities (C,) of one row from logits over the seen classes, the others at odds `floor` against these."""
    weights = np.zeros(classes)
    exponentials = np.exp(logits - logits.max())
    for place, code in enumerate(seen):
        weights[code] = exponentials[place] / exponentials.sum()
    for code in range(classes):
        if code not in seen:
            weights[code] = floor
    return weights / weights.sum()


def mean_probability(mc_logits: np.ndarray, multilabel: bool) -> np.ndarray:
    """(N, C): the members' probabilities averaged, from logits (N, K, C)."""
    out = np.zeros((mc_logits.shape[0], mc_logits.shape[2]))
    for row in range(mc_logits.shape[0]):
        for member in mc_logits[row]:
            if multilabel:
                out[row] += 1 / (1 + np.exp(-member))
            else:
                out[row] += np.exp(member - member.max()) / np.exp(member - member.max()).sum()
    return out / mc_logits.shape[1]
