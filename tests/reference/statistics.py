"""Slow and obvious versions of the tests over seeds."""

import itertools
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
