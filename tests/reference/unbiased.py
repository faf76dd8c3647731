"""Every order in which rows of a tiny pool can be drawn, in exact arithmetic."""

import itertools
from collections.abc import Iterator, Sequence
from fractions import Fraction

Draw = tuple[tuple[int, ...], tuple[Fraction, ...], Fraction]


def draws(law: Sequence[Fraction], n: int) -> Iterator[Draw]:
    """Each ordered draw of n rows without replacement: the rows, the probability of each step, and that of them all."""
    for order in itertools.permutations(range(len(law)), n):
        left, steps, whole = sum(law), [], Fraction(1)
        for row in order:
            steps.append(law[row] / left)
            whole *= steps[-1]
            left -= law[row]
        yield order, tuple(steps), whole


def lure(losses: Sequence[Fraction], steps: Sequence[Fraction], of: int) -> Fraction:
    """The estimate as the paper writes it, loss by loss."""
    M, N = len(losses), of
    total = Fraction(0)
    for m, (loss, q) in enumerate(zip(losses, steps, strict=True), 1):
        v = Fraction(1) if m == N else 1 + Fraction(N - M, N - m) * (1 / ((N - m + 1) * q) - 1)
        total += v * loss
    return total / M


def variance_of_steps(losses: Sequence[Fraction], steps: Sequence[Fraction], of: int, mean: Fraction) -> Fraction:
    """The sum of (c_m (a_m - mean))^2 along one draw, whose expectation is the variance of the estimate."""
    M, N = len(losses), of
    total, before = Fraction(0), Fraction(0)
    for m, (loss, q) in enumerate(zip(losses, steps, strict=True), 1):
        a = (loss / q + before) / N
        total += (Fraction(N * (N - M), (N - m + 1) * (N - m) * M) * (a - mean)) ** 2
        before += loss
    return total
