"""Expected lengths of gradients, one label at a time."""

import itertools

import numpy as np


def expected_length(p: np.ndarray, h: np.ndarray) -> float:
    """The mean over the labels c of the length of the whole gradient matrix (p - e_c) [h; 1]'."""
    extended = np.append(h, 1.0)
    total = 0.0
    for c in range(len(p)):
        gradient = np.outer(p - np.eye(len(p))[c], extended)
        total += p[c] * np.sqrt((gradient**2).sum())
    return total


def binary_lengths(p: np.ndarray, h: np.ndarray) -> tuple[float, float]:
    """Mean length, and root of the mean squared length, over all 2^C sets of labels."""
    extended = np.append(h, 1.0)
    mean = square = 0.0
    for labels in itertools.product([0, 1], repeat=len(p)):
        y = np.array(labels)
        probability = np.prod(np.where(y == 1, p, 1 - p))
        squared = (np.outer(p - y, extended) ** 2).sum()
        mean += probability * np.sqrt(squared)
        square += probability * squared
    return mean, np.sqrt(square)
