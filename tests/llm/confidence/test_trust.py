"""What a confidence is worth, against scikit-learn and cases whose answer is known."""

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score

from dal.errors import DataError
from dal.evaluation.calibration_measures import calibration_error, confidence_calibration_error, confidence_reliability
from dal.evaluation.metrics import confidence_auroc
from dal.llm.confidence.recalibration import METHODS, ModelUncertainty, cross_validated
from dal.llm.confidence.trust import (
    Agreement,
    agreement,
    quality,
    recalibrator,
    trust,
)


def doubtful(rows=300, slope=4.0, stated=lambda p: p, seed=0):
    """Rows of two classes whose label is right with a probability that the confidence follows, in a way of its own."""
    random = np.random.default_rng(seed)
    chance = 1 / (1 + np.exp(-slope * random.normal(size=rows) / 2))
    right = random.random(rows) < chance
    labels = torch.from_numpy(random.integers(2, size=rows))
    predicted = torch.where(torch.from_numpy(right), labels, 1 - labels)
    confidence = torch.from_numpy(stated(chance)).clamp(0, 1)
    logits = torch.zeros(rows, 2, dtype=torch.float64)
    logits[torch.arange(rows), predicted] = confidence.clamp(0.01, 0.99).logit()
    return ModelUncertainty(predicted, confidence, logits), labels


def noise(rows=300, seed=1):
    doubt, labels = doubtful(rows, seed=seed)
    random = torch.Generator().manual_seed(seed)
    return ModelUncertainty(doubt.predicted, torch.rand(rows, generator=random).double()), labels


def test_the_auroc_is_that_of_scikit_learn():
    random = np.random.default_rng(0)
    confidence, right = torch.from_numpy(random.integers(5, size=80) / 5), torch.from_numpy(random.random(80) < 0.6)
    assert confidence_auroc(confidence, right) == pytest.approx(roc_auc_score(right, confidence))
    assert np.isnan(confidence_auroc(confidence, torch.ones(80, dtype=torch.bool)))


def test_the_calibration_error_is_that_of_the_metrics():
    probs = torch.rand(200, 3, generator=torch.Generator().manual_seed(0)).softmax(1).double()
    labels = torch.randint(3, (200,), generator=torch.Generator().manual_seed(1))
    confidence, predicted = probs.max(1)
    found = confidence_calibration_error(confidence, predicted == labels)
    assert found == pytest.approx(calibration_error(probs, labels))


def test_a_reliability_diagram_leaves_empty_bins_empty():
    found = confidence_reliability(
        torch.tensor([0.9, 0.95, 0.1, 0.0, 1.0]), torch.tensor([True, False, False, False, True])
    )
    assert found["count"] == [1, 1, *[0] * 11, 1, 2]
    assert found["accuracy"][13:] == [1.0, 0.5]
    assert found["confidence"][5] is None


@pytest.mark.parametrize("method", METHODS)
def test_recalibration_mends_a_confidence_that_exaggerates(method):
    doubt, labels = doubtful(600, slope=1.5, stated=lambda p: p**0.25)
    before = confidence_calibration_error(doubt.confidence, doubt.right(labels))
    probability = cross_validated(method, doubt, labels)
    after = confidence_calibration_error(probability, doubt.right(labels))
    if method != "temperature":  # one number cannot shift, only stretch
        assert after < 0.5 * before
    assert probability.min() >= 0
    assert probability.max() <= 1
    other, _ = doubtful(50, seed=5)
    assert recalibrator(method, doubt, labels)(other).shape == (50,)


def test_what_is_learnt_on_a_fold_is_never_applied_to_it():
    doubt, labels = noise(100)
    wrong = cross_validated("isotonic", doubt, labels)
    fitted = recalibrator("isotonic", doubt, labels)(doubt)
    right = doubt.right(labels)
    assert np.mean((fitted - right) ** 2) < np.mean((wrong - right) ** 2)


def test_advice_follows_the_rule():
    good, labels = doubtful()
    blind = ModelUncertainty(good.predicted, noise()[0].confidence)
    assert trust(labels, good).advice.startswith("Use verbalized confidence alone")
    assert trust(labels, good, good).advice.startswith(
        "Use verbalized confidence alone: it tells right from wrong, and"
    )
    assert trust(labels, blind, good).advice.startswith("Switch to consistency")
    assert trust(labels, blind, blind).advice.startswith("Use neither")
    assert trust(labels, blind).advice.endswith("try consistency.")
    weak = ModelUncertainty(good.predicted, (0.3 * good.confidence + 0.7 * blind.confidence))
    assert trust(labels, weak, good).advice.startswith("Switch to consistency: it tells right from wrong better")
    loud, labels = doubtful(600, stated=lambda p: 0.9 + 0.1 * p)
    assert "recalibrate it by" in trust(labels, loud).advice


def test_consistency_may_be_of_some_rows():
    doubt, labels = doubtful()
    rows = torch.arange(0, 300, 3)
    found = trust(labels, doubt, doubt.take(rows), rows)
    assert found.agreement == Agreement(100, 1.0, pytest.approx(1.0))
    assert found.consistency.rows == 100
    assert found.figures()["verbalized"]["rows"] == 300


def test_an_answer_without_a_label_is_wrong_and_agrees_with_nothing():
    doubt = ModelUncertainty(torch.tensor([-1, 0, 1]), torch.tensor([0.0, 0.9, 0.8]))
    assert doubt.right(torch.tensor([0, 0, 1])).tolist() == [False, True, True]
    assert agreement(doubt, doubt).same_label == pytest.approx(2 / 3)
    same = ModelUncertainty(torch.tensor([0, 0]), torch.tensor([0.9, 0.9]))
    assert agreement(same, same).rank_correlation is None


def test_rows_that_are_all_right_tell_nothing():
    doubt, _ = doubtful(120)
    found = quality(doubt, doubt.predicted)
    assert found.auroc is None
    assert not found.useful
    assert found.recalibrated == {}
    with pytest.raises(DataError, match="it needs both correct and incorrect rows"):
        recalibrator("platt", doubt, doubt.predicted)


def test_what_cannot_be_judged_is_refused():
    doubt, labels = doubtful(99)
    with pytest.raises(DataError, match="99 labeled rows are too few"):
        trust(labels, doubt)
    with pytest.raises(DataError, match="there is no recalibration 'magic'"):
        recalibrator("magic", doubt, labels)
    doubt, labels = doubtful(120)
    with pytest.raises(DataError, match="one verbalized answer per label"):
        trust(labels, doubt.take(torch.arange(110)))


def test_votes_are_a_doubt_whose_confidence_is_0_where_most_could_not_be_read():
    found = ModelUncertainty.of_votes(torch.tensor([[0, 1, 1], [-1, -1, 0], [0, 0, 0]]), ["a", "b"])
    assert found.predicted.tolist() == [1, -1, 0]
    torch.testing.assert_close(found.confidence, torch.tensor([2 / 3, 0.0, 1.0]))
