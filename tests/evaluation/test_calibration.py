import math

import pytest
import reference.calibration as slow
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize_scalar

from dal.errors import DataError
from dal.evaluation import (
    Temperature,
    adaptive_calibration_error,
    calibration,
    calibration_error,
    evaluate,
    reliability,
)
from dal.outputs import Outputs


def drawn(rows, classes, seed=0, multilabel=False, sharpness=1.0):
    """Logits that are `sharpness` times as sure as the truth, and labels drawn from the truth."""
    generator = torch.Generator().manual_seed(seed)
    logits = 2 * torch.randn(rows, classes, generator=generator)
    if multilabel:
        labels = torch.rand(rows, classes, generator=generator) < logits.sigmoid()
    else:
        labels = torch.multinomial(logits.softmax(-1), 1, generator=generator).squeeze(1)
    return Outputs({"logits": sharpness * logits}, multilabel=multilabel), labels


def truth(labels, classes):
    if labels.dim() == 2:
        return labels.long().tolist()
    return torch.nn.functional.one_hot(labels, classes).tolist()


@settings(max_examples=60, deadline=None)
@given(
    rows=st.integers(1, 40),
    classes=st.integers(2, 6),
    seed=st.integers(0, 10**6),
    multilabel=st.booleans(),
    digits=st.integers(1, 6),
)
def test_adaptive_error_equals_the_slow_one_with_and_without_ties(rows, classes, seed, multilabel, digits):
    outputs, labels = drawn(rows, classes, seed, multilabel)
    probs = (outputs.probs.double() * 10**digits).round() / 10**digits  # few digits make many ties
    expected = slow.adaptive_error(probs.tolist(), truth(labels, classes), 15)
    assert adaptive_calibration_error(probs, labels) == pytest.approx(expected, abs=1e-12)


def test_adaptive_error_of_many_classes_is_the_same_in_blocks(monkeypatch):
    outputs, labels = drawn(300, 150)
    whole = adaptive_calibration_error(outputs.probs, labels)
    monkeypatch.setattr("dal.functional.blocks.ELEMENTS", 2**10)
    assert adaptive_calibration_error(outputs.probs, labels) == pytest.approx(whole, rel=1e-12)
    assert whole == pytest.approx(
        slow.adaptive_error(outputs.probs.double().tolist(), truth(labels, 150), 15), rel=1e-9
    )


def test_adaptive_error_is_small_for_honest_and_large_for_overconfident_probabilities():
    (honest, labels), (sure, same) = drawn(4000, 4), drawn(4000, 4, sharpness=4.0)
    assert adaptive_calibration_error(honest.probs, labels) < 0.02 < 0.05 < adaptive_calibration_error(sure.probs, same)


@pytest.mark.parametrize("multilabel", [False, True])
def test_reliability_equals_the_slow_diagram_and_its_gaps_add_up_to_the_calibration_error(multilabel):
    outputs, labels = drawn(200, 3, multilabel=multilabel)
    probs = outputs.probs.double()
    if multilabel:
        confidence, right = torch.maximum(probs, 1 - probs).flatten(), ((probs > 0.5) == labels).flatten()
    else:
        confidence, right = probs.amax(1), probs.argmax(1) == labels
    found = reliability(outputs, labels)
    expected = slow.diagram(confidence.tolist(), right.tolist(), 15)
    for name, values in zip(("confidence", "accuracy", "count"), expected, strict=True):
        assert found[name] == [None if value is None else pytest.approx(value) for value in values]
    assert found["confidence"][0] is None
    gaps = [n * abs(c - a) for c, a, n in zip(*found.values(), strict=True) if n]
    assert sum(gaps) / sum(found["count"]) == pytest.approx(calibration_error(outputs.probs, labels))


@pytest.mark.parametrize("multilabel", [False, True])
@pytest.mark.parametrize("sharpness", [0.3, 1.0, 3.0])
def test_temperature_finds_how_much_too_sure_the_logits_are(multilabel, sharpness):
    outputs, labels = drawn(4000, 4, multilabel=multilabel, sharpness=sharpness)
    assert Temperature.fit(outputs.logits, labels).value == pytest.approx(sharpness, rel=0.1)


@settings(max_examples=20, deadline=None)
@given(rows=st.integers(1, 30), classes=st.integers(2, 5), seed=st.integers(0, 10**6), multilabel=st.booleans())
def test_temperature_is_the_best_of_a_fine_grid_and_never_worse_than_none(rows, classes, seed, multilabel):
    outputs, labels = drawn(rows, classes, seed, multilabel, sharpness=2.0)

    def loss(temperature):
        return evaluate(Outputs({"logits": outputs.logits.double() / temperature}, multilabel=multilabel), labels)[
            "log_loss"
        ]

    fitted = loss(Temperature.fit(outputs.logits, labels).value)
    assert fitted <= min(loss(math.exp(0.1 * step)) for step in range(-29, 30)) + 1e-5
    assert fitted <= loss(1.0)


def test_temperature_agrees_with_scikit_learn():
    from sklearn.metrics import log_loss

    outputs, labels = drawn(300, 3, sharpness=2.5)
    scores = outputs.logits.double()
    best = minimize_scalar(
        lambda t: log_loss(labels, (scores / t).softmax(1), labels=[0, 1, 2]), bounds=(0.5, 10), method="bounded"
    )
    assert Temperature.fit(outputs.logits, labels).value == pytest.approx(best.x, rel=1e-3)


def test_temperature_stays_bounded_where_all_rows_are_right_and_1_where_nothing_can_be_said():
    sure, labels = torch.tensor([[3.0, 0.0], [0.0, 3.0]]), torch.tensor([0, 1])
    assert 0.05 <= Temperature.fit(sure, labels).value < 0.2
    assert 19 < Temperature.fit(sure, 1 - labels).value <= 20
    assert Temperature.fit(torch.zeros(3, 4), torch.tensor([0, 1, 2])).value == 1.0


def test_temperature_changes_no_answer_and_improves_calibration_on_other_rows():
    (held_out, known), (test, labels) = drawn(1000, 5, 1, sharpness=3.0), drawn(1000, 5, 2, sharpness=3.0)
    scaled = Outputs({"logits": Temperature.fit(held_out.logits, known).apply(test.logits)})
    assert torch.equal(scaled.logits.argmax(1), test.logits.argmax(1))
    before, after = calibration(test, labels), calibration(scaled, labels)
    assert before.keys() == {"log_loss", "ece", "ace", "brier"}
    assert all(after[name] < before[name] for name in before)


def test_calibration_figures_are_those_of_evaluate():
    outputs, labels = drawn(100, 3)
    assert calibration(outputs, labels).items() <= evaluate(outputs, labels).items()


def test_held_out_rows_that_cannot_be_read_are_refused_by_name():
    with pytest.raises(DataError, match="NaN or infinite for 1 of 2 held-out rows"):
        Temperature.fit(torch.tensor([[0.0, float("nan")], [0.0, 1.0]]), torch.tensor([0, 1]))
    with pytest.raises(DataError, match="no held-out rows"):
        Temperature.fit(torch.zeros(0, 2), torch.zeros(0, dtype=torch.int64))
