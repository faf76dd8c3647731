"""Labels saved, with an interval that holds the truth as often as it says."""

import numpy as np
import pytest

from dal.evaluation.curves import Curve, compare
from dal.evaluation.efficiency import LEAST, label_efficiency

LABELS = tuple(float(x) for x in range(20, 201, 20))


def simulated(seeds: int, saving: float, random: np.random.Generator) -> tuple[dict[int, Curve], dict[int, Curve]]:
    """Curves of a strategy that needs `saving` times fewer labels, and of its baseline; a seed's shift is shared."""
    x, ours, theirs = np.array(LABELS), {}, {}
    for seed in range(seeds):
        shared = random.normal(0, 0.01)
        for curves, factor in ((ours, saving), (theirs, 1.0)):
            noise = random.normal(0, 0.01) + random.normal(0, 0.005, len(x))
            curves[seed] = Curve(LABELS, tuple((0.9 - 0.9 * (x * factor) ** -0.5 + shared + noise).tolist()))
    return ours, theirs


@pytest.mark.parametrize("saving", [1.0, 1.5])
def test_intervals_hold_the_truth_as_often_as_they_say(saving: float) -> None:
    random, held = np.random.default_rng(0), 0
    for seed in range(200):
        found = label_efficiency(*simulated(8, saving, random), "accuracy", samples=300, seed=seed)
        assert found is not None
        held += found.low <= saving <= found.high
    assert held >= 200 * 0.95 - 3 * (200 * 0.95 * 0.05) ** 0.5


def test_the_value_is_that_of_the_mean_curves_and_lies_within() -> None:
    ours, theirs = simulated(40, 2.0, np.random.default_rng(3))
    found, plain = label_efficiency(ours, theirs, "accuracy"), compare(ours, theirs, "accuracy")
    assert found is not None
    assert plain is not None
    assert found.value == pytest.approx(plain.ratio)
    assert found.low <= found.value <= found.high
    assert found.needed[0] <= plain.needed <= found.needed[1]
    assert found == label_efficiency(ours, theirs, "accuracy")


def test_a_strategy_that_never_gets_there_says_so() -> None:
    theirs = {seed: Curve((10, 20, 30), (0.5, 0.7, 0.8 + seed / 1000)) for seed in range(6)}
    ours = {seed: Curve((10, 20, 30), (0.5, 0.55, 0.6)) for seed in range(6)}
    found = label_efficiency(ours, theirs, "accuracy")
    assert found is not None
    assert (found.value, found.low, found.high, found.needed) == (0.0, 0.0, 0.0, (None, None))


def test_less_is_better_where_it_is() -> None:
    theirs = {seed: Curve((10, 20, 30), (1.0, 0.8, 0.6)) for seed in range(6)}
    ours = {seed: Curve((10, 20, 30), (1.0, 0.6, 0.5)) for seed in range(6)}
    found = label_efficiency(ours, theirs, "log_loss")
    assert found is not None
    assert found.value == found.low == found.high == pytest.approx(1.5)


def test_too_few_seeds_give_no_interval() -> None:
    ours, theirs = simulated(LEAST - 1, 1.5, np.random.default_rng(0))
    assert label_efficiency(ours, theirs, "accuracy") is None
    assert label_efficiency({}, {}, "accuracy") is None
    apart = {seed: Curve((300, 400), (0.5, 0.6)) for seed in range(6)}
    assert label_efficiency(apart, simulated(6, 1.0, np.random.default_rng(0))[1], "accuracy") is None


def test_labels_saved_have_an_interval_of_their_own() -> None:
    ours, theirs = simulated(40, 2.0, np.random.default_rng(3))
    found, plain = label_efficiency(ours, theirs, "accuracy"), compare(ours, theirs, "accuracy")
    assert found is not None
    assert plain is not None
    assert found.saved[0] <= plain.baseline_needed - plain.needed <= found.saved[1]
    assert found.saved[0] > 0
    worse = label_efficiency(theirs, ours, "accuracy")
    assert worse is not None
    assert worse.saved[0] is None  # the target is never reached
