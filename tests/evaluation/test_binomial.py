"""Exact bounds of a share: against sums of fractions, and against SciPy's own."""

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st
from reference import automation as reference
from scipy.stats import binomtest

from dal.evaluation.binomial import lower_bound, upper_bound


@given(
    st.integers(0, 8),
    st.integers(0, 30),
    st.fractions(Fraction(1, 50), Fraction(9, 10), max_denominator=50),
    st.sampled_from([Fraction(1, 20), Fraction(1, 10), Fraction(1, 3)]),
)
def test_upper_bound_is_below_a_rate_exactly_when_so_few_errors_are_improbable_at_it(
    errors: int, rows: int, rate: Fraction, delta: Fraction
) -> None:
    rows += errors
    bound = upper_bound(errors, rows, float(delta))
    if abs(bound - float(rate)) > 1e-9:
        assert (bound < rate) == reference.passes(errors, rows, rate, delta)


def test_nothing_is_known_without_rows_or_beyond_where_all_or_none_are_found() -> None:
    assert upper_bound(0, 0) == upper_bound(4, 4) == 1.0
    assert lower_bound(0, 0) == lower_bound(0, 4) == 0.0


@pytest.mark.parametrize(("found", "of"), [(0, 7), (1, 20), (13, 40), (20, 20)])
@pytest.mark.parametrize("confidence", [0.8, 0.95])
def test_both_bounds_together_are_the_exact_interval(found: int, of: int, confidence: float) -> None:
    expected = binomtest(found, of).proportion_ci(confidence, method="exact")
    tail = (1 - confidence) / 2
    assert (lower_bound(found, of, tail), upper_bound(found, of, tail)) == pytest.approx((expected.low, expected.high))
