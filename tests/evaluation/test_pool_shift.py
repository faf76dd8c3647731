import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dal.evaluation.pool_shift import LEAST_ROWS, pool_shift


@given(st.integers(0, 10_000), st.integers(LEAST_ROWS, 80), st.integers(LEAST_ROWS, 80))
@settings(max_examples=50)
def test_probability_is_the_share_of_pairs_in_which_the_new_row_is_farther(seed: int, own: int, new: int) -> None:
    generator = np.random.default_rng(seed)
    pool, others = generator.integers(0, 9, own) / 3, generator.integers(0, 9, new) / 3
    shift = pool_shift(pool, others)
    assert shift is not None
    farther = (others[:, None] > pool[None, :]).mean() + (others[:, None] == pool[None, :]).mean() / 2
    assert shift.probability == pytest.approx(farther)
    assert shift.beyond == pytest.approx((others > np.quantile(pool, 0.95)).mean())
    assert shift.rows == new


def test_distances_of_one_distribution_are_no_shift_in_999_of_1000_draws() -> None:
    generator = np.random.default_rng(0)
    shifted = 0
    for _ in range(300):
        shift = pool_shift(generator.gamma(2.0, size=200), generator.gamma(2.0, size=100))
        assert shift is not None
        shifted += shift.is_shifted
    assert shifted == 0


def test_small_difference_is_no_shift_however_many_rows_show_it() -> None:
    generator = np.random.default_rng(0)
    shift = pool_shift(generator.normal(0.0, 1.0, 20_000), generator.normal(0.1, 1.0, 20_000))
    assert shift is not None
    assert shift.p_value < 1e-6
    assert not shift.is_shifted


def test_few_rows_and_equal_distances_say_nothing() -> None:
    assert pool_shift(np.ones(LEAST_ROWS - 1), np.full(100, 9.0)) is None
    assert pool_shift(np.ones(100), np.full(LEAST_ROWS - 1, 9.0)) is None
    equal = pool_shift(np.ones(50), np.ones(50))
    assert equal is not None
    assert (equal.probability, equal.is_shifted) == (0.5, False)
