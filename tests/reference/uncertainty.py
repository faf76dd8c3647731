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


def consensus(samples: list[list[float]]) -> list[float]:
    return [sum(column) / len(samples) for column in zip(*samples, strict=True)]


def mean_std(samples: list[list[float]]) -> float:
    """Mean over the classes of the standard deviation of the K probabilities themselves."""
    spreads = []
    for column in zip(*samples, strict=True):
        mean = sum(column) / len(column)
        spreads.append(math.sqrt(sum((p - mean) ** 2 for p in column) / len(column)))
    return sum(spreads) / len(spreads)


def vote_shares(samples: list[list[float]]) -> list[float]:
    """Each sample votes for its most probable class, the first of equals."""
    votes = [sample.index(max(sample)) for sample in samples]
    return [votes.count(c) / len(votes) for c in range(len(samples[0]))]


def mean_divergence(samples: list[list[float]]) -> float:
    """Mean over the members of KL(p_k || mean prediction)."""
    mean = consensus(samples)
    each = [sum(p * math.log(p / m) for p, m in zip(sample, mean, strict=True) if p > 0) for sample in samples]
    return sum(each) / len(each)
