"""Regularised logistic regression of two sides, term by term, minimised by a general optimiser."""

import math

import numpy as np
from scipy.optimize import minimize


def value(weight: list[float], bias: float, first: np.ndarray, second: np.ndarray, penalty: float) -> float:
    """Half the mean loss of each side, plus half the penalty times the squared length of the weight."""

    def loss(row: np.ndarray, sign: float) -> float:
        z = sign * (sum(w * float(v) for w, v in zip(weight, row, strict=True)) + bias)
        return math.log1p(math.exp(-abs(z))) + max(-z, 0.0)

    losses = sum(loss(row, -1.0) for row in first) / len(first) + sum(loss(row, 1.0) for row in second) / len(second)
    return losses / 2 + penalty / 2 * sum(w * w for w in weight)


def minimum(first: np.ndarray, second: np.ndarray, penalty: float) -> np.ndarray:
    """The weight and, last, the bias of smallest value."""
    start = np.zeros(first.shape[1] + 1)
    found = minimize(lambda t: value(list(t[:-1]), t[-1], first, second, penalty), start, method="BFGS", tol=1e-9)
    return found.x
