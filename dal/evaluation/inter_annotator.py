"""Agreement of several annotators: raw agreement, Krippendorff's alpha and Gwet's AC1, with bootstrap intervals.

Pure Python, without numpy: the annotation server shows these figures, and its process stays small.
"""

import math
import random
from collections import Counter
from collections.abc import Collection, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from dal.evaluation.proportions import wilson_interval

#: Fewest texts with an interval: a bootstrap of fewer covers too little.
MIN_TEXTS = 5
#: Largest number of texts drawn by a bootstrap in all its samples.
_DRAWS = 2_000_000


@dataclass(frozen=True)
class Coefficient:
    """A coefficient of agreement with its 95 % interval.

    Attributes:
        value: at most 1; None where it is undefined.
        low: lower end of the interval; None with fewer than `MIN_TEXTS` texts, or where most samples have no value.
        high: upper end of the interval.
    """

    value: float | None
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class Agreement:
    """Agreement of annotators on the texts with at least two answers.

    Attributes:
        texts: number of texts with at least two answers.
        answers: number of answers to these texts.
        raw: mean over the texts of the share of pairs of answers that are equal.
        alpha: Krippendorff's alpha for nominal data.
        ac1: Gwet's AC1.
    """

    texts: int
    answers: int
    raw: Coefficient
    alpha: Coefficient
    ac1: Coefficient


def raw_agreement(answers: Iterable[Sequence[Hashable]]) -> float | None:
    """Mean over the texts of the share of pairs of answers that are equal; None without a text with two answers.

    Args:
        answers: answers to each text; texts with fewer than two are left out.

    Example:
        >>> raw_agreement([["a", "a"], ["a", "b"], ["b"]])
        0.5
    """
    return _Sums.of(_patterns(answers).items(), 2).raw()


def krippendorff_alpha(answers: Iterable[Sequence[Hashable]]) -> float | None:
    """Krippendorff's alpha for nominal data, with any number of annotators and of missing answers.

    1 - (n - 1) sum_u sum_{c != k} n_uc n_uk / (m_u - 1) / sum_{c != k} n_c n_k, over the texts u with m_u >= 2 answers,
    of which n_uc have the value c; n is the number of these answers. Krippendorff 2011, "Computing Krippendorff's
    Alpha-Reliability". None where all answers have one value: chance explains that (0/0).

    Args:
        answers: answers to each text; texts with fewer than two are left out.

    Example:
        >>> round(krippendorff_alpha([["a", "a"], ["b", "b"], ["a", "b"], ["b"]]), 3)
        0.444
    """
    return _Sums.of(_patterns(answers).items(), 2).alpha()


def gwet_ac1(answers: Iterable[Sequence[Hashable]], classes: int | None = None) -> float | None:
    """Gwet's AC1: agreement beyond chance that stays high where one class is rare.

    (p_a - p_e) / (1 - p_e) with p_a the raw agreement and p_e = sum_k pi_k (1 - pi_k) / (classes - 1), where pi_k is
    the mean share of the class k among the answers to a text. Texts with a single answer count in pi_k only.
    Gwet 2008, "Computing inter-rater reliability and its variance in the presence of high agreement".

    Args:
        answers: answers to each text.
        classes: number of classes that could be answered; by default those that occur. None with fewer than two.

    Example:
        >>> round(gwet_ac1([["a", "a"], ["b", "b"], ["a", "b"], ["a", "a"]]), 3)
        0.529
    """
    patterns = _patterns(answers)
    found = {value for pattern in patterns for value, _ in pattern}
    return _Sums.of(patterns.items(), max(len(found), classes or 0)).ac1()


def annotator_agreement(
    answers: Iterable[Sequence[Hashable]], classes: int | None = None, *, samples: int = 1000, seed: int = 0
) -> Agreement:
    """All coefficients with 95 % percentile bootstrap intervals over the texts.

    A bootstrap of texts without any disagreement would give an interval of length 0. There the lower ends are those at
    the lower end of the Wilson interval of the raw agreement.

    Args:
        answers: answers to each text, of any type that can be compared, such as a frozenset when multi-label.
        classes: number of classes that could be answered; by default those that occur.
        samples: number of bootstrap samples, fewer for more than 2,000 texts.
        seed: seed of the bootstrap.

    Example:
        >>> found = annotator_agreement([["a", "a"], ["b", "b"], ["a", "b"], ["a", "a"]] * 10, classes=2)
        >>> found.texts, found.raw.value, round(found.alpha.low, 2), round(found.alpha.value, 2)
        (40, 0.75, 0.17, 0.47)
    """
    patterns = _patterns(answers)
    found = {value for pattern in patterns for value, _ in pattern}
    classes = max(len(found), classes or 0)
    drawn = [_Sums.of(sample.items(), classes) for sample in _samples(patterns, samples, seed)]
    return _with_intervals(_Sums.of(patterns.items(), classes), drawn)


def class_agreement(
    answers: Iterable[Sequence[Collection[Hashable]]],
    classes: Iterable[Hashable],
    *,
    samples: int = 1000,
    seed: int = 0,
) -> dict[Hashable, Agreement]:
    """Agreement about each class against the rest, as `annotator_agreement` returns it.

    Args:
        answers: answers to each text; an answer is the collection of its classes, with one element unless multi-label.
        classes: classes to report.
        samples: number of bootstrap samples, fewer for more than 2,000 texts.
        seed: seed of the bootstrap.

    Example:
        >>> answers = [[["a"], ["a"]], [["b"], ["c"]], [["b"], ["b"]], [["a"], ["a"]]]
        >>> {name: found.raw.value for name, found in class_agreement(answers, "abc").items()}
        {'a': 1.0, 'b': 0.75, 'c': 0.75}
    """
    patterns = _patterns([frozenset(answer) for answer in given] for given in answers)
    drawn = _samples(patterns, samples, seed)
    totals = [_Totals.of(sample) for sample in (patterns, *drawn)]
    result = {}
    for name in classes:
        # Patterns without the class agree on its absence: they enter by their totals only, so 150 classes are fast.
        binary = {pattern: pair for pattern in patterns if (pair := _yes_and_no(pattern, name))}
        sums = [
            total.with_class((pair, sample[pattern]) for pattern, pair in binary.items() if sample[pattern])
            for total, sample in zip(totals, (patterns, *drawn), strict=True)
        ]
        result[name] = _with_intervals(sums[0], sums[1:])
    return result


#: Number of answers by value, of one text: texts with equal patterns are counted together.
_Pattern = frozenset[tuple[Hashable, int]]


def _patterns(answers: Iterable[Sequence[Hashable]]) -> Counter[_Pattern]:
    return Counter(frozenset(Counter(given).items()) for given in answers if len(given))


def _samples(patterns: Counter[_Pattern], samples: int, seed: int) -> list[Counter[_Pattern]]:
    """Bootstrap samples of the texts; none for fewer than `MIN_TEXTS` texts with two answers."""
    texts = patterns.total()
    if sum(count for pattern, count in patterns.items() if _answers(pattern) > 1) < MIN_TEXTS:
        return []
    generator, kinds = random.Random(seed), sorted(patterns.items(), key=lambda item: (item[1], str(item[0])))
    names, weights = [name for name, _ in kinds], [count for _, count in kinds]
    return [Counter(generator.choices(names, weights, k=texts)) for _ in range(min(samples, max(200, _DRAWS // texts)))]


def _answers(pattern: _Pattern) -> int:
    return sum(count for _, count in pattern)


def _yes_and_no(pattern: _Pattern, name: Hashable) -> _Pattern | None:
    """Number of answers with and without a class; None where none has it."""
    yes = sum(count for value, count in pattern if isinstance(value, frozenset) and name in value)
    return frozenset({(True, yes), (False, _answers(pattern) - yes)}) if yes else None


@dataclass
class _Sums:
    """Sums over texts from which all coefficients follow.

    m is the number of answers to a text, s the share of equal pairs.

    Attributes:
        classes: number of classes that could be answered.
        rated: number of texts with an answer.
        texts: number of texts with at least two.
        answers: sum of m over these.
        equal: sum of s over these.
        differing: sum of m (1 - s) over these.
        by_value: sum of the answers by value over these.
        shares: sum over all texts of the share of each value among the answers.
    """

    classes: int
    rated: float = 0
    texts: float = 0
    answers: float = 0
    equal: float = 0
    differing: float = 0
    by_value: Counter[Hashable] | None = None
    shares: Counter[Hashable] | None = None

    @classmethod
    def of(cls, patterns: Iterable[tuple[_Pattern, int]], classes: int) -> "_Sums":
        sums, by_value, shares = cls(classes), Counter[Hashable](), Counter[Hashable]()
        for pattern, weight in patterns:
            m = _answers(pattern)
            sums.rated += weight
            for value, count in pattern:
                shares[value] += weight * count / m  # type: ignore[assignment]
            if m < 2:
                continue
            s = sum(count * (count - 1) for _, count in pattern) / (m * (m - 1))
            sums.texts += weight
            sums.answers += weight * m
            sums.equal += weight * s
            sums.differing += weight * m * (1 - s)
            for value, count in pattern:
                by_value[value] += weight * count
        sums.by_value, sums.shares = by_value, shares
        return sums

    def raw(self) -> float | None:
        return self.equal / self.texts if self.texts else None

    def expected_difference(self) -> float:
        """Expected sum of m (1 - s) if the answers were exchanged between the texts; 0 where all are equal."""
        if self.answers < 2:
            return 0.0
        same = sum(count * count for count in (self.by_value or {}).values())
        return (self.answers * self.answers - same) / (self.answers - 1)

    def alpha(self) -> float | None:
        expected = self.expected_difference()
        return 1 - self.differing / expected if expected > 1e-12 else None

    def by_chance(self) -> float | None:
        """Agreement by chance of Gwet's AC1."""
        if not self.texts or self.classes < 2:
            return None
        shares = (total / self.rated for total in (self.shares or {}).values())
        return sum(share * (1 - share) for share in shares) / (self.classes - 1)

    def ac1(self) -> float | None:
        chance, raw = self.by_chance(), self.raw()
        return None if chance is None or raw is None else (raw - chance) / (1 - chance)


@dataclass(frozen=True)
class _Totals:
    """Numbers of texts and answers, which are the same for every class against the rest."""

    rated: int
    texts: int
    answers: int

    @classmethod
    def of(cls, sample: Mapping[_Pattern, int]) -> "_Totals":
        several = [(_answers(pattern), weight) for pattern, weight in sample.items() if _answers(pattern) > 1]
        return cls(sum(sample.values()), sum(w for _, w in several), sum(m * w for m, w in several))

    def with_class(self, touched: Iterator[tuple[_Pattern, int]]) -> _Sums:
        """Sums of a class against the rest, from the patterns in which the class occurs."""
        part = _Sums.of(touched, 2)
        yes, share = (part.by_value or Counter())[True], (part.shares or Counter())[True]
        return _Sums(
            2,
            self.rated,
            self.texts,
            self.answers,
            part.equal + self.texts - part.texts,
            part.differing,
            Counter({True: yes, False: self.answers - yes}),
            Counter({True: share, False: self.rated - share}),  # type: ignore[dict-item]
        )


def _with_intervals(sums: _Sums, drawn: Sequence[_Sums]) -> Agreement:
    raw, alpha, ac1 = sums.raw(), sums.alpha(), sums.ac1()
    if raw == 1 and drawn:
        low, expected, chance = wilson_interval(1.0, sums.texts)[0], sums.expected_difference(), sums.by_chance()
        worst = (1 - low) * sums.answers  # m (1 - s), summed, at the lower end of the raw agreement
        coefficients = (
            Coefficient(raw, low, 1.0),
            Coefficient(alpha) if alpha is None else Coefficient(alpha, 1 - worst / expected, 1.0),
            Coefficient(ac1) if chance is None else Coefficient(ac1, (low - chance) / (1 - chance), 1.0),
        )
    else:
        coefficients = (
            _interval(raw, [each.raw() for each in drawn]),
            _interval(alpha, [each.alpha() for each in drawn]),
            _interval(ac1, [each.ac1() for each in drawn]),
        )
    return Agreement(int(sums.texts), int(sums.answers), *coefficients)


def _interval(value: float | None, samples: Sequence[float | None]) -> Coefficient:
    """A value with the 2.5 % and 97.5 % quantiles of the samples in which it is defined."""
    defined = sorted(each for each in samples if each is not None and math.isfinite(each))
    if value is None or not defined or len(defined) < len(samples) / 2:
        return Coefficient(value)
    last = len(defined) - 1
    return Coefficient(value, defined[round(0.025 * last)], defined[round(0.975 * last)])
