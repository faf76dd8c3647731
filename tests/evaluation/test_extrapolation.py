"""The power law of a learning curve and the predicted gain, against a brute force and against curves that are known."""

import numpy as np
import pytest
from reference import stopping as reference

from dal.evaluation.extrapolation import (
    EXPONENTS,
    fit_power_law,
    predicted_gain,
    predicted_labels,
    predicted_score,
)

LABELS = list(range(20, 260, 20))


def noisy(a: float, b: float, c: float, seed: int, deviation: float = 0.01, points: int = 12) -> tuple[list, list]:
    labels = np.arange(20, 20 + 20 * points, 20)
    noise = np.random.default_rng(seed).normal(0, deviation, points)
    return labels.tolist(), (a - b * labels**-c + noise).clip(0, 1).tolist()


@pytest.mark.parametrize("seed", range(6))
def test_fit_equals_the_brute_force(seed: int) -> None:
    labels, scores = noisy(0.9, 1.5, 0.6, seed)
    law = fit_power_law(labels, scores)
    expected = reference.power_law(labels, scores, EXPONENTS.tolist())
    assert (law.ceiling, law.rise, law.exponent) == pytest.approx(expected)


def test_fit_equals_the_brute_force_at_its_bounds() -> None:
    falling = [0.9 - 0.001 * i for i in range(12)]
    rising = [0.4 + 0.05 * i for i in range(12)]  # straight on, it would pass 1
    for scores in (falling, rising):
        law = fit_power_law(LABELS, scores)
        a, b, _ = reference.power_law(LABELS, scores, EXPONENTS.tolist())
        assert (law.ceiling, law.rise) == pytest.approx((a, b), abs=1e-9)
    assert fit_power_law(LABELS, falling).rise == 0
    assert fit_power_law(LABELS, rising).ceiling == 1


@pytest.mark.parametrize("place", [20, 46, 70])
def test_exact_curve_is_found_again(place: int) -> None:
    c = float(EXPONENTS[place])
    law = fit_power_law(LABELS, [0.9 - 0.8 * (n / 20) ** -c for n in LABELS])
    assert (law.ceiling, law.exponent) == pytest.approx((0.9, c))
    assert law(40) == pytest.approx(0.9 - 0.8 * 2**-c)
    assert law.gain(100, 100) == pytest.approx(0.8 * (5**-c - 10**-c))


def test_exact_curve_leaves_no_interval() -> None:
    gain = predicted_gain(LABELS, [0.9 - 2 * n ** -float(EXPONENTS[50]) for n in LABELS], 100)
    assert gain.low == pytest.approx(gain.value)
    assert gain.high == pytest.approx(gain.value)


def test_flat_curve_gains_nothing() -> None:
    gain = predicted_gain(LABELS, [0.8] * len(LABELS), 100)
    assert (gain.value, gain.low, gain.high) == pytest.approx((0, 0, 0), abs=1e-12)


def test_scatter_widens_the_interval() -> None:
    calm, wild = (predicted_gain(*noisy(0.9, 1.5, 0.6, 3, deviation), 100) for deviation in (0.003, 0.03))
    assert calm.high - calm.low < wild.high - wild.low


def test_interval_is_the_same_every_time_and_another_for_another_seed() -> None:
    curve = noisy(0.9, 1.5, 0.6, 0)
    assert predicted_gain(*curve, 100) == predicted_gain(*curve, 100)
    assert predicted_gain(*curve, 100).high != predicted_gain(*curve, 100, seed=1).high


@pytest.mark.parametrize(("points", "deviation"), [(6, 0.01), (12, 0.005), (25, 0.01)])
def test_interval_holds_the_true_gain_about_as_often_as_it_says(points: int, deviation: float) -> None:
    random, held = np.random.default_rng(points), 0
    for seed in range(150):
        a, b, c = 0.85 + 0.1 * random.random(), 1 + random.random(), 0.4 + 0.8 * random.random()
        labels, scores = noisy(a, b, c, seed, deviation, points)
        gain = predicted_gain(labels, scores, 100, samples=200, seed=seed)
        held += gain.low <= b * (labels[-1] ** -c - (labels[-1] + 100) ** -c) <= gain.high
    assert 0.8 <= held / 150 <= 0.99


def test_three_points_are_too_few_for_an_interval() -> None:
    with pytest.raises(ValueError, match="at least 4 points, not 3"):
        predicted_gain([1, 2, 3], [0.1, 0.2, 0.3], 10)


def test_score_of_an_exact_curve_is_predicted_exactly() -> None:
    c = float(EXPONENTS[50])
    scores = [0.9 - 2 * n**-c for n in LABELS]
    found = predicted_score(LABELS, scores, 100)
    assert (found.value, found.low, found.high) == pytest.approx([0.9 - 2 * (LABELS[-1] + 100) ** -c] * 3)


def test_labels_to_a_target_are_those_at_which_the_exact_curve_reaches_it() -> None:
    c = float(EXPONENTS[50])
    scores = [0.9 - 2 * n**-c for n in LABELS]
    target = 0.9 - 2 * (LABELS[-1] + 150) ** -c
    found = predicted_labels(LABELS, scores, target)
    assert (found.value, found.low, found.high) == pytest.approx([150] * 3, rel=1e-6)
    assert predicted_labels(LABELS, scores, scores[3]).value == 0
    assert predicted_labels(LABELS, scores, 0.95).value is None


def test_target_that_some_drawn_curves_never_reach_is_perhaps_never() -> None:
    labels, scores = noisy(0.9, 1.5, 0.6, 3, 0.02)
    found = predicted_labels(labels, scores, 0.89)
    assert found.low is not None
    assert found.high is None


def test_flat_curve_reaches_nothing_above_it() -> None:
    found = predicted_labels(LABELS, [0.8] * len(LABELS), 0.85)
    assert (found.value, found.low, found.high) == (None, None, None)


@pytest.mark.parametrize("points", [6, 12])
def test_interval_of_a_score_holds_what_is_measured_later_at_about_the_stated_rate(points: int) -> None:
    held = []
    for seed in range(150):
        labels, scores = noisy(0.9, 1.5, 0.6, seed, 0.01, points + 5)
        found = predicted_score(labels[:points], scores[:points], 100, samples=300, seed=seed)
        held.append(found.low <= scores[-1] <= found.high)
    assert 0.82 <= np.mean(held) <= 0.98


def test_gain_counts_from_the_number_of_labels_that_is_given() -> None:
    curve = noisy(0.9, 1.5, 0.6, 3, 0.01)
    whole, last = predicted_gain(*curve, 200), float(curve[0][-1])
    first, second = predicted_gain(*curve, 120, start=last), predicted_gain(*curve, 80, start=last + 120)
    assert first.value + second.value == pytest.approx(whole.value)
    assert first.low <= first.value <= first.high
    assert second.value < first.value * 80 / 120  # the curve flattens
    with pytest.raises(ValueError, match="start"):
        predicted_gain(*curve, 80, start=0)
