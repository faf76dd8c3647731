"""Sampling of rows without replacement, uniformly or by weight."""

import torch
from jaxtyping import Float, Float64, Int64
from torch import Tensor

from dal.functional.checked_tensors import not_negative
from dal.functional.checking import chosen, whole
from dal.functional.points import Points, as_points, check_finite


def some_rows(rows: int, at_most: int, *, generator: torch.Generator) -> Int64[Tensor, " M"]:
    """Indices of `at_most` rows drawn uniformly without replacement, or of all rows in order if fewer, (M,).

    The generator (on the CPU) is not used if all rows are taken. The indices are on the CPU.

    >>> some_rows(3, 5, generator=torch.Generator())
    tensor([0, 1, 2])
    """
    rows, at_most = whole(rows, "rows", 0), whole(at_most, "at_most", 0)
    if rows <= at_most:
        return torch.arange(rows)
    return torch.randperm(rows, generator=generator)[:at_most]


def spread_rows(rows: int, at_most: int) -> Int64[Tensor, " M"]:
    """Indices of `at_most` rows that are evenly spread over all, or of all rows in order if fewer, (M,), on the CPU.

    >>> spread_rows(5, 3)
    tensor([0, 2, 4])
    """
    rows, at_most = whole(rows, "rows", 0), whole(at_most, "at_most", 0)
    return torch.linspace(0, rows - 1, min(rows, at_most)).long()


@torch.no_grad()
def draw_without_replacement(
    weights: Float[Tensor, " N"], n: int, *, generator: torch.Generator
) -> Int64[Tensor, " n"]:
    """Positions of n rows (n,), each drawn with probability proportional to its weight among the remaining rows.

    Each row gets an independent exponential time with its weight as rate, and the n rows with the smallest times are
    returned in order: row i has the smallest time with probability `weight_i / sum of weights`, and by memorylessness
    the same holds among the remaining rows. Rows of weight 0 come last, in random order. N numbers are drawn from the
    generator (on the CPU). Extra memory: O(N) numbers.

    Efraimidis and Spirakis 2006, "Weighted random sampling with a reservoir".

    Raises:
        ValueError: n is not within 1..N, or a weight is negative, NaN or infinite.

    >>> draw_without_replacement(torch.tensor([0.0, 1.0]), 2, generator=torch.Generator())
    tensor([1, 0])
    """
    weights = not_negative(weights, "weights")
    N = len(weights)
    n = chosen(n, N, "rows")
    clock = torch.empty(N, dtype=torch.float64).exponential_(generator=generator).to(weights.device)
    is_positive = weights > 0  # apart from the others: the time of a tiny weight may be infinite, as that of weight 0
    positive, zero = is_positive.nonzero().flatten(), (~is_positive).nonzero().flatten()
    time = clock[positive] / weights[positive].double()
    return torch.cat([positive[time.argsort(stable=True)], zero[clock[zero].argsort(stable=True)]])[:n]


@torch.no_grad()
def lightweight_coreset_distribution(points: Points | Float[Tensor, "N D"]) -> Float64[Tensor, " N"]:
    """Sampling distribution of a lightweight coreset, (N,), with sum 1.

    An equal mixture of the uniform distribution and one proportional to the squared distance to the mean:
    `q_i = 1 / 2N + |x_i - mean|^2 / 2 sum_j |x_j - mean|^2`. Uniform if all points are equal.

    Bachem, Lucic and Krause 2018, "Scalable k-Means Clustering via Lightweight Coresets".

    Raises:
        ValueError: a point is not finite.

    >>> lightweight_coreset_distribution(torch.tensor([[0.0], [0.0], [0.0], [4.0]]))
    tensor([0.1667, 0.1667, 0.1667, 0.5000], dtype=torch.float64)
    """
    points = as_points(points)
    check_finite(points)
    squared = points.squared_distances_to_mean().double()  # (N,)
    uniform = torch.full_like(squared, 1 / max(1, len(points)))
    total = squared.sum()
    return (uniform + torch.where(total > 0, squared / total, uniform)) / 2
