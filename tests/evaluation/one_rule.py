"""One rule for the figures: NaN, sizes that cannot be, no rows and one value, each defined or refused in one line."""

import math

import numpy as np
import pytest
import torch

from dal.errors import DataError
from dal.evaluation import agreement, automation, confidence, curves, extrapolation, unbiased
from dal.evaluation import batch_quality as batch
from dal.evaluation.breakdown import per_group
from dal.evaluation.calibration_measures import Temperature, adaptive_calibration_error, calibration_error, reliability
from dal.evaluation.curves import Curve
from dal.evaluation.dawid_skene import dawid_skene
from dal.evaluation.efficiency import label_efficiency
from dal.evaluation.intervals import mean_interval
from dal.evaluation.map_projection import principal_plane
from dal.evaluation.metrics import brier_score, evaluate
from dal.evaluation.statistics import min_p, paired_p, tally
from dal.outputs import Outputs

PROBS = torch.tensor([[0.8, 0.2], [0.3, 0.7], [0.6, 0.4]])
LABELS = torch.tensor([0, 1, 1])
OUTPUTS = Outputs({"probs": PROBS})
SEEDS = {seed: Curve((10, 20), (0.5, 0.6 + 0.01 * seed)) for seed in range(6)}
N, S = (10, 20, 40, 80), (0.5, 0.6, 0.7, 0.75)
NO_COUNT = [0, -1, 2.0, math.nan, True, "2"]
COUNTS = {
    "bins": [
        lambda n: calibration_error(PROBS, LABELS, bins=n),
        lambda n: adaptive_calibration_error(PROBS, LABELS, bins=n),
        lambda n: reliability(OUTPUTS, LABELS, bins=n),
    ],
    "queries": [lambda n: batch.typical_distance(PROBS, queries=n)],
    "classes": [
        lambda n: batch.balance(LABELS, n),
        lambda n: dawid_skene(np.zeros((2, 2), np.int64), n),
    ],
    "max_groups": [lambda n: per_group(OUTPUTS, LABELS, ["a", "b", "a"], max_groups=n)],
    "max_rounds": [lambda n: dawid_skene(np.zeros((2, 2), np.int64), 2, max_rounds=n)],
    "steps": [lambda n: automation.quantiles([0.1, 0.2], steps=n)],
    "samples": [
        lambda n: label_efficiency(SEEDS, SEEDS, "accuracy", samples=n),
        lambda n: mean_interval(list(SEEDS.values()), samples=n),
        lambda n: extrapolation.predicted_gain(N, S, 10, samples=n),
    ],
    "n": [lambda n: unbiased.draw(torch.ones(3), n, torch.Generator())],
}
SHARES = {
    "confidence": [
        lambda x: label_efficiency(SEEDS, SEEDS, "accuracy", confidence=x),
        lambda x: mean_interval(list(SEEDS.values()), confidence=x),
        lambda x: extrapolation.predicted_gain(N, S, 10, confidence=x),
        lambda x: extrapolation.predicted_score(N, S, 10, confidence=x),
        lambda x: extrapolation.predicted_labels(N, S, 0.8, confidence=x),
    ],
    "level": [lambda x: unbiased.estimate([1, 0], [0.2, 0.3], 9, level=x)],
    "max_error": [
        lambda x: automation.threshold([0.5], [True], x, grid=[0.5]),
        lambda x: automation.labels_needed(x),
        lambda x: automation.promising(np.array([0.5]), [0.5], [True], x, rows=3),
    ],
    "delta": [lambda x: automation.threshold([0.5], [True], 0.1, grid=[0.5], delta=x)],
}


def refused(call, value, name):
    with pytest.raises(ValueError, match=rf"\b{name}\b") as caught:
        call(value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("value", NO_COUNT)
@pytest.mark.parametrize("name", COUNTS)
def test_a_size_that_cannot_be_is_refused_by_its_name(name, value):
    for call in COUNTS[name]:
        refused(call, value, name)


@pytest.mark.parametrize("value", [0, 1, -0.1, math.nan, math.inf, True])
@pytest.mark.parametrize("name", SHARES)
def test_a_share_that_cannot_be_is_refused_by_its_name(name, value):
    for call in SHARES[name]:
        refused(call, value, name)


@pytest.mark.parametrize("value", [0, -1.0, math.nan, math.inf, True])
def test_a_temperature_that_cannot_be_is_refused(value):
    refused(lambda t: confidence.confidence(PROBS, t), value, "temperature")
    refused(Temperature, value, "value")


@pytest.mark.parametrize(
    "call",
    [
        lambda x: curves.area(Curve((10, 20), (0.5, x))),
        lambda x: curves.band([Curve((10, x), (0.5, 0.6))]),
        lambda x: curves.labels_to_reach(Curve((10, 20), (0.5, x)), 0.6),
        lambda x: curves.labels_to_reach(Curve((10, 20), (0.5, 0.6)), x),
        lambda x: automation.risk_coverage([0.5, x], [True, False]),
        lambda x: automation.threshold([0.5, x], [True, False], 0.1, grid=[0.5]),
        lambda x: automation.threshold([0.5, 0.6], [True, False], 0.1, grid=[0.5, x]),
        lambda x: automation.risk_coverage([0.5, 0.6], [True, x]),
        lambda x: automation.quantiles([0.5, x]),
        lambda x: agreement.kappa([[x, 1], [1, 1]]),
        lambda x: agreement.kappa_variance([[x, 1], [1, 1]]),
        lambda x: extrapolation.fit_power_law(N, [*S[:3], x]),
        lambda x: extrapolation.fit_power_law([*N[:3], x], S),
        lambda x: extrapolation.predicted_gain(N, S, x),
        lambda x: extrapolation.predicted_labels(N, S, x),
        lambda x: unbiased.estimate([1, x], [0.2, 0.3], 9),
        lambda x: unbiased.estimate([1, 0], [0.2, x], 9),
        lambda x: unbiased.draw(torch.tensor([1.0, x]), 1, torch.Generator()),
        lambda x: paired_p([0.1, x]),
        lambda x: tally([0.1, x]),
        lambda x: batch.typical_distance(torch.tensor([[0.0], [x]])),
        lambda x: batch.redundancy(torch.tensor([[0.0], [x]]), torch.zeros(0, 1), 1.0),
        lambda x: batch.redundancy(torch.zeros(2, 1), torch.zeros(0, 1), x),
        lambda x: batch.novelty(torch.zeros(2, 1), torch.zeros(1, 1), x),
        lambda x: batch.coverage(torch.tensor([1.0, x])),
        lambda x: principal_plane(torch.tensor([[0.0, 1.0], [x, 2.0]])),
    ],
)
@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_value_that_is_not_finite_is_refused_in_one_line(call, value):
    with pytest.raises(ValueError, match=r".") as caught:
        call(value)
    assert "\n" not in str(caught.value)


def test_a_doubt_that_is_not_known_is_none():
    assert batch.mean_uncertainty(Outputs({"probs": torch.tensor([[math.nan, 0.5]])})) is None


def test_an_agreement_that_is_not_known_bounds_nothing():
    assert math.isnan(agreement.f_change_bound(math.nan))


@pytest.mark.parametrize("pairs", [-1, 0, 1, 5, 17])
def test_the_least_p_value_is_a_probability(pairs):
    assert 0 < min_p(pairs) <= 1


def test_labels_that_are_no_classes_are_refused():
    for labels in (torch.tensor([0.0, math.nan, 1.0]), torch.tensor([0.0, 0.5, 1.0])):
        with pytest.raises(DataError, match="whole numbers"):
            evaluate(OUTPUTS, labels)
    with pytest.raises(DataError, match="zeros and ones"):
        brier_score(PROBS, torch.tensor([[0, 2], [1, 0], [0, 0]]))
    with pytest.raises(DataError, match="whole numbers, not float64"):
        dawid_skene(np.array([[0.0, math.nan]]), 2)


def test_numbers_too_large_for_a_float_are_left_out_of_a_curve():
    records = [
        {"labels": 10, "accuracy": 0.5},
        {"labels": 10**400, "accuracy": 0.6},
        {"labels": 20, "accuracy": 10**400},
    ]
    assert curves.curve(records, "accuracy") == Curve((10,), (0.5,))


def test_a_curve_with_fewer_scores_than_labels_is_refused():
    with pytest.raises(ValueError, match="has 1 scores"):
        curves.area(Curve((10, 20), (0.5,)))


def test_a_map_without_dimensions_is_a_point():
    assert principal_plane(torch.zeros(3, 0)).tolist() == [[0.0, 0.0]] * 3
