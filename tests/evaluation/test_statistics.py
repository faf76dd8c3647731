"""The paired test and its correction: against exact references, and against what they promise."""

from fractions import Fraction
from itertools import permutations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from reference import statistics as reference
from scipy.stats import binomtest

from dal.evaluation.proportions import wilson_interval
from dal.evaluation.statistics import EXACT, holm, min_p, paired_p, tally

FRACTIONS = st.fractions(min_value=-3, max_value=3, max_denominator=16)


@given(st.lists(FRACTIONS, min_size=1, max_size=9))
def test_equals_the_count_over_all_signs(differences: list[Fraction]) -> None:
    assert paired_p([float(d) for d in differences]) == pytest.approx(float(reference.paired_p(differences)), abs=1e-12)


@pytest.mark.parametrize("pairs", [1, 2, 5, 6, EXACT])
def test_all_seeds_agreeing_give_the_least_that_there_is(pairs: int) -> None:
    assert paired_p([0.01 * (1 + i) for i in range(pairs)]) == min_p(pairs) == 2.0 ** (1 - pairs)


def test_no_difference_is_no_evidence() -> None:
    assert paired_p([]) == paired_p([0.0, 0.0, 0.0]) == 1.0
    with pytest.raises(ValueError, match="finite"):
        paired_p([0.1, float("nan")])


def test_drawn_signs_come_near_the_exact_value() -> None:
    differences = np.random.default_rng(0).normal(0.4, 1, EXACT)
    exact = paired_p(differences)
    drawn = paired_p([*differences, 0.0])  # a zero changes no sum, and makes the number of pairs too many to count
    assert drawn == pytest.approx(exact, abs=5 * (exact * (1 - exact) / 50_000) ** 0.5)
    assert paired_p([1.0] * (EXACT + 1)) >= min_p(EXACT + 1) > 0


@pytest.mark.parametrize("skewed", [False, True])
def test_two_copies_of_one_strategy_are_told_apart_no_more_often_than_stated(skewed: bool) -> None:
    """5 % of 2,000 comparisons of two copies, plus three standard errors, whatever the distribution."""
    random = np.random.default_rng(1)
    draw = (lambda: random.exponential(size=(2, 8))) if skewed else (lambda: random.normal(size=(2, 8)))
    found = sum(paired_p(a - b) <= 0.05 for a, b in (draw() for _ in range(2000)))
    assert 0.02 * 2000 < found <= 2000 * 0.05 + 3 * (2000 * 0.05 * 0.95) ** 0.5


@given(
    st.lists(st.fractions(min_value=0, max_value=1, max_denominator=200), min_size=1, max_size=7),
    st.fractions(min_value=Fraction(1, 100), max_value=Fraction(1, 2), max_denominator=100),
)
def test_rejects_what_the_steps_of_holm_reject(p_values: list[Fraction], alpha: Fraction) -> None:
    corrected = holm({str(i): p for i, p in enumerate(p_values)})  # type: ignore[misc]
    assert [p <= alpha for p in corrected.values()] == reference.holm_rejects(p_values, alpha)


def test_any_false_rejection_among_many_is_as_rare_as_stated() -> None:
    """Four copies of random, against one baseline, so that they depend on each other."""
    random = np.random.default_rng(2)
    wrong = 0
    for _ in range(1000):
        baseline, copies = random.normal(size=8), random.normal(size=(4, 8))
        corrected = holm({str(i): paired_p(copy - baseline) for i, copy in enumerate(copies)})
        wrong += min(corrected.values()) <= 0.05
    assert wrong <= 1000 * 0.05 + 3 * (1000 * 0.05 * 0.95) ** 0.5


def test_wins_draws_and_losses() -> None:
    assert tally([0.2, 0.01, -0.01, -0.2, -0.3], level=0.01) == (1, 2, 2)
    assert tally([]) == (0, 0, 0)


def test_a_test_that_was_not_made_changes_no_other_wherever_it_stands() -> None:
    given = {"n": float("nan"), "m": float("nan"), "a": 0.01, "b": 0.2, "c": 0.04}
    for order in permutations(given):
        corrected = holm({name: given[name] for name in order})
        assert tuple(corrected) == order
        assert np.isnan(corrected.pop("n"))
        assert np.isnan(corrected.pop("m"))
        assert corrected == holm({"a": 0.01, "b": 0.2, "c": 0.04}) == {"a": 0.03, "b": 0.2, "c": 0.08}


def test_no_test_at_all_has_nothing_to_correct() -> None:
    assert holm({}) == {}
    assert list(map(np.isnan, holm({"only": float("nan")}).values())) == [True]


@pytest.mark.parametrize("p", [-0.1, 1.01, float("inf")])
def test_what_is_no_probability_is_no_p_value(p: float) -> None:
    with pytest.raises(ValueError, match="the p-value of 'Margin' must be from 0 to 1 or NaN"):
        holm({"Margin": p, "BADGE": 0.2})


def test_a_difference_that_is_not_known_is_no_draw() -> None:
    with pytest.raises(ValueError, match="finite"):
        tally([0.2, float("nan")])
    with pytest.raises(ValueError, match="level must be"):
        tally([0.2], level=float("nan"))


def test_sums_that_cancel_to_nearly_zero_are_equal() -> None:
    differences = [0.1, 0.2, -0.3, 0.7, -0.7, 0.3, -0.3]
    exact = [Fraction(str(d)) for d in differences]
    assert paired_p(differences) == float(reference.paired_p(exact)) == 1.0


def test_drawn_signs_follow_from_the_seed() -> None:
    differences = np.random.default_rng(0).normal(0.4, 1, EXACT + 4)
    assert paired_p(differences, seed=1) == paired_p(differences, seed=1) != paired_p(differences, seed=2)


@pytest.mark.parametrize(("right", "rows"), [(9, 10), (30, 200), (199, 200), (200, 200), (0, 5)])
def test_ends_of_the_interval_are_where_the_test_no_longer_rejects(right: int, rows: int) -> None:
    for confidence, z in ((0.95, 1.959963984540054), (0.9, 1.6448536269514722)):
        ends = wilson_interval(right / rows, rows, confidence=confidence)
        assert ends == pytest.approx(reference.wilson_interval(right, rows, z), abs=1e-9)
        assert ends == pytest.approx(binomtest(right, rows).proportion_ci(confidence, method="wilson"), abs=1e-9)


def test_interval_has_the_published_ends() -> None:
    # Newcombe 1998, "Two-sided confidence intervals for the single proportion", table I, method 3.
    for right, rows, published in ((81, 263, (0.2553, 0.3662)), (15, 148, (0.0624, 0.1605)), (0, 20, (0, 0.1611))):
        assert wilson_interval(right / rows, rows) == pytest.approx(published, abs=5e-5)


@pytest.mark.parametrize("given", [{"share": 1.1}, {"share": float("nan")}, {"rows": 0}, {"confidence": 1.0}])
def test_interval_outside_of_its_range_is_refused(given: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=next(iter(given))):
        wilson_interval(**{"share": 0.5, "rows": 10.0, **given})
