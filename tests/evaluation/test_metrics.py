import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import rankdata
from sklearn import metrics as sk
from torchmetrics.functional.classification import (
    binary_calibration_error,
    multiclass_calibration_error,
    multiclass_f1_score,
)

from dal.errors import DataError
from dal.evaluation import auroc, brier_score, calibration_error, evaluate
from dal.evaluation.metrics import _mean_ranks
from dal.outputs import Outputs

NAMES = {"accuracy", "macro_f1", "micro_f1", "balanced_accuracy", "log_loss", "ece", "brier"}
NAMES |= {"matthews", "auroc", "ace"}
SEVERAL = {"label_accuracy", "average_precision"}  # of rows with several classes


def drawn(rows, classes, seed=0, multilabel=False):
    generator = torch.Generator().manual_seed(seed)
    logits = 2 * torch.randn(rows, classes, generator=generator)
    if multilabel:
        labels = torch.rand(rows, classes, generator=generator) < logits.sigmoid()
    else:
        labels = torch.multinomial(logits.softmax(-1), 1, generator=generator).squeeze(1)
    return Outputs({"logits": logits}, multilabel=multilabel), labels


@pytest.mark.parametrize("classes", [2, 3, 7, 150])
def test_single_label_figures_equal_scikit_learn(classes):
    outputs, labels = drawn(2000, classes)
    figures = evaluate(outputs, labels)
    probs = outputs.logits.double().softmax(-1).numpy()
    decided, true, names = probs.argmax(-1), labels.numpy(), np.arange(classes)
    assert figures.keys() == NAMES
    assert figures["accuracy"] == pytest.approx(sk.accuracy_score(true, decided))
    assert figures["macro_f1"] == pytest.approx(sk.f1_score(true, decided, average="macro"))
    assert figures["micro_f1"] == pytest.approx(sk.f1_score(true, decided, average="micro"))
    assert figures["balanced_accuracy"] == pytest.approx(sk.balanced_accuracy_score(true, decided))
    assert figures["log_loss"] == pytest.approx(sk.log_loss(true, probs, labels=names), rel=1e-5)
    assert figures["matthews"] == pytest.approx(sk.matthews_corrcoef(true, decided))
    areas = [sk.roc_auc_score(true == c, probs[:, c]) for c in np.unique(true)]
    assert figures["auroc"] == pytest.approx(np.mean(areas))


@pytest.mark.parametrize("classes", [2, 3, 7])
def test_brier_score_equals_scikit_learn_unhalved(classes):
    outputs, labels = drawn(500, classes)
    probs = outputs.logits.double().softmax(-1)
    columns = list(range(classes))
    scores = probs[:, 1].numpy() if classes == 2 else probs.numpy()
    expected = sk.brier_score_loss(labels.numpy(), scores, labels=columns, scale_by_half=False)
    assert brier_score(probs, labels) == pytest.approx(expected)


def test_multilabel_figures_equal_scikit_learn():
    outputs, labels = drawn(800, 5, multilabel=True)
    figures = evaluate(outputs, labels)
    probs, true = outputs.logits.double().sigmoid().numpy(), labels.numpy()
    decided = probs > 0.5
    each = range(5)
    assert figures.keys() == NAMES | SEVERAL
    assert figures["average_precision"] == pytest.approx(sk.average_precision_score(true, probs, average="macro"))
    assert figures["accuracy"] == pytest.approx(sk.accuracy_score(true, decided))
    assert figures["label_accuracy"] == pytest.approx((true == decided).mean())
    assert figures["macro_f1"] == pytest.approx(sk.f1_score(true, decided, average="macro"))
    assert figures["micro_f1"] == pytest.approx(sk.f1_score(true, decided, average="micro"))
    balanced = np.mean([sk.balanced_accuracy_score(true[:, c], decided[:, c]) for c in each])
    assert figures["balanced_accuracy"] == pytest.approx(balanced)
    assert figures["log_loss"] == pytest.approx(np.mean([sk.log_loss(true[:, c], probs[:, c]) for c in each]), rel=1e-5)
    assert figures["brier"] == pytest.approx(np.mean([sk.brier_score_loss(true[:, c], probs[:, c]) for c in each]))
    assert figures["auroc"] == pytest.approx(sk.roc_auc_score(true, probs, average="macro"))
    assert figures["matthews"] == pytest.approx(
        np.mean([sk.matthews_corrcoef(true[:, c], decided[:, c]) for c in each])
    )


@pytest.mark.parametrize("classes", [2, 4, 20])
@pytest.mark.parametrize("bins", [5, 15])
def test_calibration_error_equals_torchmetrics(classes, bins):
    outputs, labels = drawn(3000, classes, seed=classes)
    expected = multiclass_calibration_error(outputs.probs, labels, classes, n_bins=bins)
    assert calibration_error(outputs.probs, labels, bins=bins) == pytest.approx(float(expected), abs=1e-5)


def test_multilabel_calibration_error_counts_every_decision_by_the_confidence_of_its_answer():
    outputs, labels = drawn(700, 4, multilabel=True)
    probs = outputs.probs.double()
    answered = torch.stack([1 - probs, probs], -1).flatten(0, 1)  # (N*C, 2): each decision as a two-class problem
    assert calibration_error(probs, labels) == pytest.approx(calibration_error(answered, labels.long().flatten()))


def test_binary_calibration_error_agrees_with_torchmetrics_on_confidences_of_the_answer():
    outputs, labels = drawn(900, 2, seed=3)
    confidence, decided = outputs.probs.max(-1)
    expected = binary_calibration_error(confidence, (decided == labels).long(), n_bins=15)
    assert calibration_error(outputs.probs, labels) == pytest.approx(float(expected), abs=1e-5)


def test_class_that_neither_occurs_nor_is_predicted_is_left_out_of_macro_f1():
    logits = torch.tensor([[3.0, 0.0, -9.0], [0.0, 3.0, -9.0], [3.0, 0.0, -9.0]])
    labels = torch.tensor([0, 1, 1])
    expected = multiclass_f1_score(logits, labels, 3, average=None)[:2].mean()
    assert evaluate(Outputs({"logits": logits}), labels)["macro_f1"] == pytest.approx(float(expected))


def test_class_that_is_only_predicted_counts_as_zero_f1():
    logits = torch.tensor([[3.0, 0.0, 0.0], [0.0, 3.0, 0.0], [0.0, 0.0, 3.0]])
    assert evaluate(Outputs({"logits": logits}), torch.tensor([0, 1, 1]))["macro_f1"] == pytest.approx((1 + 2 / 3) / 3)


def test_perfectly_calibrated_coin_has_no_calibration_error():
    probs = torch.full((10, 2), 0.5)
    probs[:, 0] += 1e-12
    assert calibration_error(probs, torch.tensor([0, 1] * 5)) == pytest.approx(0, abs=1e-9)


def test_confident_mistakes_leave_the_log_loss_finite():
    logits = torch.tensor([[1e4, 0.0], [0.0, float("-inf")]])
    loss = evaluate(Outputs({"logits": logits}), torch.tensor([1, 1]))["log_loss"]
    assert loss == pytest.approx(-math.log(torch.finfo(torch.float32).tiny), rel=1e-6)


@pytest.mark.parametrize("multilabel", [False, True])
def test_probabilities_alone_give_the_same_figures_as_logits(multilabel):
    outputs, labels = drawn(300, 4, multilabel=multilabel)
    alone = Outputs({"probs": outputs.probs}, multilabel=multilabel)
    assert evaluate(alone, labels) == pytest.approx(evaluate(outputs, labels), rel=1e-4, abs=1e-5)


def test_labels_that_nobody_has_and_nobody_predicts_are_perfect_not_undefined():
    outputs = Outputs({"logits": torch.full((3, 2), -4.0)}, multilabel=True)
    figures = evaluate(outputs, torch.zeros(3, 2, dtype=torch.bool))
    assert figures["accuracy"] == figures["micro_f1"] == figures["macro_f1"] == figures["balanced_accuracy"] == 1


@settings(max_examples=40, deadline=None)
@given(rows=st.integers(1, 40), classes=st.integers(2, 9), seed=st.integers(0, 10**6), multilabel=st.booleans())
def test_every_figure_is_finite_within_its_range_and_blind_to_the_order_of_rows(rows, classes, seed, multilabel):
    outputs, labels = drawn(rows, classes, seed, multilabel)
    figures = evaluate(outputs, labels)
    assert all(math.isfinite(value) for value in figures.values())
    assert all(value >= (-1 if name == "matthews" else 0) for name, value in figures.items())
    assert all(value <= 1 + 1e-12 for name, value in figures.items() if name not in ("log_loss", "brier"))
    assert figures["brier"] <= 2
    order = torch.randperm(rows, generator=torch.Generator().manual_seed(seed))
    assert evaluate(outputs.take(order), labels[order]) == pytest.approx(figures)


def test_ties_count_half_in_the_area_and_blocks_of_classes_do_not_matter(monkeypatch):
    outputs, labels = drawn(200, 9)
    probs = (outputs.probs * 10).round() / 10
    expected = np.mean([sk.roc_auc_score(labels == c, probs[:, c]) for c in labels.unique()])
    assert auroc(probs, labels) == pytest.approx(expected)
    monkeypatch.setattr("dal.functional.blocks.ELEMENTS", 300)
    assert auroc(probs, labels) == pytest.approx(expected)


def test_ranks_are_those_of_scipy():
    values = torch.randint(5, (4, 30), generator=torch.Generator().manual_seed(0)).double().T.contiguous().T
    values[1] = values[1].sort().values
    values[2] = 1.0
    values[3, 7] = torch.nan
    expected = rankdata(values.numpy(), axis=1)
    np.testing.assert_array_equal(_mean_ranks(values).numpy(), expected)
    np.testing.assert_array_equal(_mean_ranks(values.float()).numpy(), expected)


@pytest.mark.parametrize("multilabel", [False, True])
def test_correlation_and_area_of_labels_that_are_all_the_same_are_left_out(multilabel):
    outputs, labels = drawn(20, 3, multilabel=multilabel)
    figures = evaluate(outputs, torch.ones_like(labels))
    assert figures.keys() == (NAMES | (SEVERAL if multilabel else set())) - {"matthews", "auroc"}


def test_classes_that_do_not_occur_do_not_count_in_the_area():
    outputs, labels = drawn(50, 4)
    few = labels % 2
    expected = np.mean([sk.roc_auc_score(few == c, outputs.probs[:, c]) for c in (0, 1)])
    assert evaluate(outputs, few)["auroc"] == pytest.approx(expected)


def test_answers_that_are_all_the_same_have_no_correlation_with_the_labels():
    logits = torch.tensor([[1.0, 0.0]] * 6)
    figures = evaluate(Outputs({"logits": logits}), torch.tensor([0, 1, 1, 0, 0, 0]))
    assert (figures["matthews"], figures["auroc"]) == (0.0, 0.5)


def test_empty_test_is_refused_with_what_to_do():
    with pytest.raises(DataError, match=r"no test rows.*hold a share out"):
        evaluate(Outputs({"logits": torch.zeros(0, 3)}), torch.zeros(0, dtype=torch.int64))


def test_unlabeled_test_rows_are_refused_and_counted():
    outputs, labels = drawn(5, 3)
    labels[[1, 4]] = -1
    with pytest.raises(DataError, match="2 of 5 test rows have no label"):
        evaluate(outputs, labels)


def test_outputs_that_are_not_numbers_are_refused_and_counted():
    logits = torch.zeros(4, 3)
    logits[2, 1] = float("nan")
    with pytest.raises(DataError, match="NaN or infinite for 1 of 4"):
        evaluate(Outputs({"logits": logits}), torch.zeros(4, dtype=torch.int64))


def test_labels_of_another_shape_are_refused():
    outputs, labels = drawn(5, 3)
    with pytest.raises(DataError, match=r"shape \(4,\), expected \(5,\)"):
        evaluate(outputs, labels[:4])
