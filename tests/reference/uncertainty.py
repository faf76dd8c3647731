"""Uncertainty of one row of probabilities at a time."""

import math


def least_confidence(row: list[float]) -> float:
    return 1 - max(row)


def margin(row: list[float]) -> float:
    first, second, *_ = sorted(row, reverse=True)
    return first - second


def entropy(row: list[float]) -> float:
    return -sum(p * math.log(p) for p in row if p > 0)


def mean_of_binary(function, row: list[float]) -> float:
    """The multi-label version: the mean over the classes of the two-class quantity."""
    return sum(function([p, 1 - p]) for p in row) / len(row)


def mutual_information(samples: list[list[float]]) -> float:
    """Entropy of the mean prediction minus mean entropy, of the predictions (K, C) for one row."""
    mean = [sum(column) / len(samples) for column in zip(*samples, strict=True)]
    return entropy(mean) - sum(entropy(row) for row in samples) / len(samples)
