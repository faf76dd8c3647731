"""Votes of the other rows, row by row, as the docstring of `neighbor_hits` states them."""

import math


def hits(similarities, labels, temperature):
    found = []
    every = [s for i, row in enumerate(similarities) for j, s in enumerate(row) if i != j]
    mean = sum(every) / len(every)
    spread = math.sqrt(sum((s - mean) ** 2 for s in every) / len(every)) or 1.0
    for i, row in enumerate(similarities):
        others = [j for j in range(len(labels)) if j != i]
        votes = {}
        for label in set(labels):
            own = [row[j] for j in others if labels[j] == label]
            votes[label] = sum(math.exp(s / (temperature * spread)) for s in own) / math.sqrt(max(1, len(own)))
        most = [label for label in votes if votes[label] >= max(votes.values()) * (1 - 1e-9)]
        found.append(1 / len(most) if labels[i] in most else 0.0)
    return found


def share(found, labels):
    """Mean over the classes with two rows or more of the mean hits of their rows."""
    means = []
    for label in sorted(set(labels)):
        own = [hit for hit, given in zip(found, labels, strict=True) if given == label]
        if len(own) > 1:
            means.append(sum(own) / len(own))
    return sum(means) / len(means)
