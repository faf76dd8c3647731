"""Joint disagreement by enumeration: every labeling of a batch, one sample at a time, in plain float64."""

import itertools
import math

Row = list[list[float]]  # the probabilities (K, C) of one row


def joint_entropy(rows: list[Row]) -> float:
    """Entropy of the labels of all rows together, in nats."""
    K, C = len(rows[0]), len(rows[0][0])
    total = 0.0
    for labels in itertools.product(range(C), repeat=len(rows)):
        p = sum(math.prod(row[k][y] for row, y in zip(rows, labels, strict=True)) for k in range(K)) / K
        total -= p * math.log(p) if p > 0 else 0
    return total


def joint_information(rows: list[Row]) -> float:
    """Mutual information of the labels of all rows and the sample they come from."""
    K = len(rows[0])
    given = sum(-p * math.log(p) for row in rows for sample in row for p in sample if p > 0) / K
    return joint_entropy(rows) - given


def gain(chosen: list[Row], row: Row) -> float:
    """What the label of a row adds to those of the rows chosen."""
    return joint_information([*chosen, row]) - (joint_information(chosen) if chosen else 0.0)


def epig(pool: list[Row], targets: list[Row]) -> list[float]:
    """Mean over the targets of the mutual information of two labels."""
    return [sum(mutual_information_of_labels(row, target) for target in targets) / len(targets) for row in pool]


def mutual_information_of_labels(one: Row, other: Row) -> float:
    K, C = len(one), len(one[0])
    total = 0.0
    for y in range(C):
        p = sum(one[k][y] for k in range(K)) / K
        for z in range(C):
            q = sum(other[k][z] for k in range(K)) / K
            both = sum(one[k][y] * other[k][z] for k in range(K)) / K
            total += both * math.log(both / (p * q)) if both > 0 else 0
    return total
