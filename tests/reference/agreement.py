"""Coefficients of agreement, by loops over pairs of answers."""

from collections.abc import Hashable, Sequence
from itertools import permutations

Answers = Sequence[Sequence[Hashable]]


def raw_agreement(answers: Answers) -> float:
    shares = []
    for given in answers:
        pairs = list(permutations(given, 2))
        if pairs:
            shares.append(sum(a == b for a, b in pairs) / len(pairs))
    return sum(shares) / len(shares)


def krippendorff_alpha(answers: Answers) -> float:
    """1 - D_o / D_e of the coincidence matrix, which holds each pair of answers to a text with weight 1 / (m - 1)."""
    values = sorted({value for given in answers for value in given}, key=str)
    coincidences = {(a, b): 0.0 for a in values for b in values}
    for given in answers:
        for a, b in permutations(given, 2):
            coincidences[a, b] += 1 / (len(given) - 1)
    totals = {a: sum(coincidences[a, b] for b in values) for a in values}
    n = sum(totals.values())
    observed = sum(count for (a, b), count in coincidences.items() if a != b) / n
    expected = sum(totals[a] * totals[b] for a in values for b in values if a != b) / (n * (n - 1))
    return 1 - observed / expected


def gwet_ac1(answers: Answers, classes: int) -> float:
    answered = [given for given in answers if given]
    chance = 0.0
    for value in {value for given in answered for value in given}:
        share = sum(sum(each == value for each in given) / len(given) for given in answered) / len(answered)
        chance += share * (1 - share) / (classes - 1)
    return (raw_agreement(answers) - chance) / (1 - chance)
