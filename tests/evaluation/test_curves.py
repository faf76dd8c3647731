import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dal.evaluation.curves import Curve, area, band, compare, curve, labels_to_reach

RANDOM = Curve((20, 40, 60), (0.5, 0.6, 0.7))

curves = st.lists(st.floats(0, 1), min_size=1, max_size=8).map(
    lambda scores: Curve(tuple(range(10, 10 + 5 * len(scores), 5)), tuple(scores))
)


def test_curve_keeps_the_later_of_two_records_and_leaves_out_what_is_not_a_number():
    records = [
        {"labels": 40, "accuracy": 0.1},
        {"labels": 20, "accuracy": 0.5},
        {"labels": 40, "accuracy": 0.6},
        {"labels": 60, "accuracy": math.nan},
        {"labels": 80, "accuracy": None},
        {"labels": 100},
        {"accuracy": 0.9},
    ]
    assert curve(records, "accuracy") == Curve((20, 40), (0.5, 0.6))


def test_band_is_the_mean_and_the_extremes_over_seeds():
    result = band([RANDOM, Curve((20, 40, 60), (0.7, 0.6, 0.9))])
    assert result.mean == Curve((20, 40, 60), pytest.approx((0.6, 0.6, 0.8)))
    assert (result.low, result.high) == ((0.5, 0.6, 0.7), (0.7, 0.6, 0.9))
    assert result.std == pytest.approx((math.sqrt(0.02), 0, math.sqrt(0.02)))
    assert result.seeds == 2


def test_band_of_an_unfinished_seed_ends_where_that_seed_ends():
    assert band([RANDOM, Curve((20, 40), (0.5, 0.6))]).mean == Curve((20, 40), (0.5, 0.6))


def test_band_interpolates_rounds_of_unequal_size():
    result = band([RANDOM, Curve((20, 50, 60), (0.5, 0.8, 0.8))])
    assert result.mean.labels == (20, 40, 50, 60)
    assert result.mean.scores == pytest.approx((0.5, (0.6 + 0.7) / 2, (0.65 + 0.8) / 2, 0.75))


def test_band_of_one_seed_has_no_spread():
    result = band([RANDOM])
    assert result.mean == RANDOM
    assert result.low == result.high == RANDOM.scores
    assert result.std == (0, 0, 0)


def test_band_of_nothing_is_empty():
    assert len(band([]).mean) == len(band([Curve((), ())]).mean) == 0


def test_band_of_curves_that_do_not_overlap_is_empty():
    assert len(band([RANDOM, Curve((100,), (0.9,))]).mean) == 0


def test_area_is_the_mean_height_over_unequal_steps():
    assert area(Curve((0, 10, 40), (0.0, 1.0, 1.0))) == pytest.approx((5 + 30) / 40)


def test_area_of_a_single_point_is_its_score():
    assert area(Curve((20,), (0.4,))) == 0.4


def test_area_of_an_empty_curve_is_refused():
    with pytest.raises(ValueError, match="empty"):
        area(Curve((), ()))


@given(curves)
def test_area_lies_between_the_lowest_and_the_highest_score(drawn):
    assert min(drawn.scores) - 1e-12 <= area(drawn) <= max(drawn.scores) + 1e-12


@pytest.mark.parametrize(
    ("target", "expected"), [(0.4, 20), (0.5, 20), (0.55, 30), (0.6, 40), (0.7, 60), (0.7000001, None), (0.9, None)]
)
def test_labels_to_reach_a_score_are_interpolated(target, expected):
    assert labels_to_reach(RANDOM, target) == (None if expected is None else pytest.approx(expected))


def test_labels_to_reach_a_loss_look_downwards():
    assert labels_to_reach(Curve((20, 40), (0.9, 0.5)), 0.7, lower_is_better=True) == pytest.approx(30)


def test_labels_to_reach_is_the_first_arrival_of_a_curve_that_falls_again():
    assert labels_to_reach(Curve((10, 20, 30, 40), (0.1, 0.8, 0.2, 0.9)), 0.45) == pytest.approx(15)


def test_empty_curve_reaches_nothing():
    assert labels_to_reach(Curve((), ()), 0.5) is None


@given(curves, st.floats(0, 1))
def test_the_score_at_the_labels_needed_is_the_target_or_already_beyond_at_the_start(drawn, target):
    needed = labels_to_reach(drawn, target)
    if needed is None:
        assert max(drawn.scores) < target
    elif needed > drawn.labels[0]:
        assert drawn.at(needed) == pytest.approx(target, abs=1e-6)
    else:
        assert drawn.scores[0] >= target - 1e-8


def test_comparison_gives_the_labels_saved_against_randoms_final_score():
    result = compare({0: Curve((20, 40, 60), (0.5, 0.7, 0.8))}, {0: RANDOM}, "accuracy")
    assert (result.target, result.budget, result.needed) == (0.7, 60, 40)
    assert result.ratio == pytest.approx(1.5)
    assert result.final_difference == pytest.approx(0.1)
    assert result.area_difference == pytest.approx(0.075)


def test_comparison_says_none_when_random_was_never_reached():
    result = compare({0: Curve((20, 60), (0.5, 0.6))}, {0: RANDOM}, "accuracy")
    assert result.needed is None
    assert result.ratio is None


def test_comparison_of_a_strategy_with_itself_saves_nothing():
    assert compare({0: RANDOM}, {0: RANDOM}, "accuracy").ratio == 1


def test_comparison_credits_random_with_its_own_first_arrival():
    fallen = Curve((20, 40, 60), (0.5, 0.9, 0.7))
    result = compare({0: Curve((20, 40, 60), (0.5, 0.7, 0.8))}, {0: fallen}, "accuracy")
    assert result.baseline_needed == pytest.approx(30)
    assert result.ratio == pytest.approx(30 / 40)


def test_comparison_pairs_seeds_and_keeps_each_ones_labels_needed():
    ours = {0: Curve((20, 60), (0.5, 0.9)), 1: Curve((20, 60), (0.5, 0.6)), 7: Curve((20, 60), (1, 1))}
    result = compare(ours, {0: RANDOM, 1: RANDOM}, "accuracy")
    assert result.seeds == (0, 1)
    assert result.needed_per_seed == (pytest.approx(40), None)
    assert [round(d, 6) for d in result.final_differences] == [0.2, -0.1]


def test_comparison_with_an_unfinished_run_stops_at_the_labels_both_have():
    result = compare({0: Curve((20, 40), (0.5, 0.7))}, {0: RANDOM}, "accuracy")
    assert (result.budget, result.target, result.final) == (40, 0.6, 0.7)


def test_comparison_of_a_loss_counts_less_as_better():
    result = compare({0: Curve((20, 40), (0.9, 0.5))}, {0: Curve((20, 40), (0.9, 0.7))}, "log_loss")
    assert result.needed == pytest.approx(30)
    assert result.final_difference == pytest.approx(0.2)


@pytest.mark.parametrize("other", [{}, {1: RANDOM}, {0: Curve((), ())}, {0: Curve((100, 120), (0.8, 0.9))}])
def test_comparison_without_a_common_seed_and_range_is_none(other):
    assert compare({0: RANDOM}, other, "accuracy") is None
