"""Slow and obvious versions of the tests over seeds."""

import itertools
import math
from collections.abc import Sequence
from fractions import Fraction


def paired_p(differences: Sequence[Fraction]) -> Fraction:
    """Every assignment of signs, in exact arithmetic."""
    seen = abs(sum(differences))
    flips = list(itertools.product((-1, 1), repeat=len(differences)))
    far = sum(abs(sum(s * d for s, d in zip(signs, differences, strict=True))) >= seen for signs in flips)
    return Fraction(far, len(flips))


def holm_rejects(p_values: Sequence[Fraction], alpha: Fraction) -> list[bool]:
    """Holm's steps: the smallest against alpha / m, the next against alpha / (m - 1), until one fails."""
    rejected = [False] * len(p_values)
    for step, i in enumerate(sorted(range(len(p_values)), key=lambda i: p_values[i])):
        if p_values[i] > alpha / (len(p_values) - step):
            break
        rejected[i] = True
    return rejected


def wilson_interval(right: int, rows: int, z: float) -> tuple[float, float]:
    """The smallest and largest share p whose normal test does not reject `right` of `rows`, by bisection."""
    share, ends = right / rows, []
    for outside in (0.0, 1.0):
        inside = share
        for _ in range(200):
            middle = (outside + inside) / 2
            if abs(share - middle) > z * math.sqrt(middle * (1 - middle) / rows):
                outside = middle
            else:
                inside = middle
        ends.append(inside)
    return ends[0], ends[1]
