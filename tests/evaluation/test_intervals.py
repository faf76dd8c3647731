"""The interval of a mean curve, against a slow draw of seeds, and how often it holds the truth."""

import numpy as np
import pytest
from reference import intervals as reference

from dal.evaluation import Curve, band
from dal.evaluation.intervals import mean_interval


def curves(seeds: int, seed: int = 0, points: int = 4) -> list[Curve]:
    random = np.random.default_rng(seed)
    labels = tuple(range(10, 10 + 10 * points, 10))
    return [Curve(labels, tuple(random.normal(0.7, 0.05, points).tolist())) for _ in range(seeds)]


@pytest.mark.parametrize("seeds", [5, 8, 20])
def test_interval_is_that_of_seeds_drawn_one_by_one(seeds: int) -> None:
    several = curves(seeds)
    found = mean_interval(several, samples=20_000)
    low, high = reference.mean_interval([c.scores for c in several], samples=20_000)
    scale = 0.05 / np.sqrt(seeds)
    assert found.low == pytest.approx(low, abs=0.2 * scale)
    assert found.high == pytest.approx(high, abs=0.2 * scale)
    assert found.mean == band(several).mean


def test_few_seeds_keep_their_range() -> None:
    several = curves(4)
    assert mean_interval(several) == band(several)
    assert mean_interval([]) == band([])


@pytest.mark.parametrize("seeds", [5, 10])
def test_interval_holds_the_true_mean_at_about_the_stated_rate(seeds: int) -> None:
    held = []
    for draw in range(100):
        found = mean_interval(curves(seeds, draw, points=6), samples=1000, seed=draw)
        held += [low <= 0.7 <= high for low, high in zip(found.low, found.high, strict=True)]
    assert 0.91 <= np.mean(held) <= 0.985


def test_curves_measured_elsewhere_are_interpolated_and_never_continued() -> None:
    several = [Curve((10, 30), (0.5, 0.7)), *(Curve((10, 20, 40), (0.5, 0.6, 0.8)) for _ in range(4))]
    found = mean_interval(several)
    assert found.mean.labels == (10, 20, 30)
    assert found.low == pytest.approx((0.5, 0.6, 0.7))
    assert found.high == pytest.approx((0.5, 0.6, 0.7))
