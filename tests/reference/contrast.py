"""Divergences from neighbours, and FALCUN's draw, a row at a time."""

import itertools

import numpy as np


def divergence(q: np.ndarray, p: np.ndarray) -> float:
    """KL(q || p) in nats."""
    return float(sum(a * np.log(a / b) for a, b in zip(q, p, strict=True) if a > 0))


def binary_divergence(q: np.ndarray, p: np.ndarray) -> float:
    """The mean over the classes of KL of two Bernoullis."""
    return float(np.mean([divergence(np.array([a, 1 - a]), np.array([b, 1 - b])) for a, b in zip(q, p, strict=True)]))


def contrastive_scores(x, probs, labeled, labeled_probs, k: int, multilabel: bool = False) -> list[float]:
    """CAL's score of every row: the mean divergence of its k nearest labeled rows' predictions from its own."""
    scores = []
    for row, p in zip(x, probs, strict=True):
        near = np.argsort([((row - other) ** 2).sum() for other in labeled], kind="stable")[:k]
        each = binary_divergence if multilabel else divergence
        scores.append(float(np.mean([each(labeled_probs[j], p) for j in near])))
    return scores


def scaled(values: list[float]) -> list[float]:
    """The values scaled to 0..1; zeros where all are equal."""
    low, high = min(values), max(values)
    return [0.0 if high == low else (value - low) / (high - low) for value in values]


def falcun_law(probs: np.ndarray, n: int, gamma: float) -> dict[tuple[int, ...], float]:
    """The probability of every ordered choice of n rows."""
    ordered = np.sort(probs, axis=1)
    unsure = 1 - (ordered[:, -1] - ordered[:, -2])
    law = {}
    for picks in itertools.permutations(range(len(probs)), n):
        probability = 1.0
        for step, pick in enumerate(picks):
            left = [i for i in range(len(probs)) if i not in picks[:step]]
            apart = [min((np.abs(probs[i] - probs[j]).sum() for j in picks[:step]), default=unsure[i]) for i in left]
            relevance = np.array(scaled([unsure[i] for i in left])) + np.array(scaled(apart))
            mass = relevance**gamma
            mass = mass if relevance.any() else np.ones(len(left))
            probability *= mass[left.index(pick)] / mass.sum()
        law[picks] = probability
    return law
