import material
import pytest
import torch
from sklearn.linear_model import LogisticRegression

from dal.evaluation import label_issues
from dal.learners.heads.held_out import held_out_probs, stratified_folds
from dal.learners.training.tensor_rows import TensorPrepared


def test_every_row_is_judged_by_the_head_of_the_other_folds_as_scikit_learn_fits_it():
    points, labels = material.clusters(60, classes=3, spread=3.0)
    probs, judged = held_out_probs(points, labels, 3, folds=4, penalty=2.0)
    assert bool(judged.all())
    mean, scale = TensorPrepared(points, ()).moments
    x = torch.nn.functional.pad(((points - mean) * scale).double(), (0, 1), value=1.0).numpy()
    fold = stratified_folds(labels, 4, 0)
    for number in range(4):
        inside = (fold == number).numpy()
        model = LogisticRegression(C=0.5, fit_intercept=False, tol=1e-8, max_iter=2000)
        model.fit(x[~inside], labels.numpy()[~inside])
        assert torch.allclose(probs[inside], torch.from_numpy(model.predict_proba(x[inside])), atol=2e-3)


def test_folds_hold_every_class_alike():
    labels = torch.tensor([0] * 50 + [1] * 10 + [2] * 5)
    fold = stratified_folds(labels, 5, 7)
    for label, each in ((0, 10), (1, 2), (2, 1)):
        assert fold[labels == label].bincount(minlength=5).tolist() == [each] * 5


def test_row_whose_class_no_other_row_has_cannot_be_judged():
    points, labels = material.clusters(30, classes=2)
    labels = torch.cat([labels, torch.tensor([2])])
    probs, judged = held_out_probs(torch.cat([points, torch.zeros(1, 16)]), labels, 4)
    assert judged.tolist() == [True] * 30 + [False]
    assert torch.allclose(probs.sum(1), torch.ones(31, dtype=torch.float64))


@pytest.mark.parametrize("rows", [0, 1])
def test_too_few_rows_to_hold_any_out_are_not_judged(rows):
    probs, judged = held_out_probs(torch.zeros(rows, 3), torch.zeros(rows, dtype=torch.int64), 2)
    assert probs.shape == (rows, 2)
    assert not judged.any()


def test_wrong_answers_among_separable_rows_are_found():
    points, true = material.clusters(300, classes=4, spread=1.0)
    given = true.clone()
    given[:30] = (given[:30] + 1) % 4
    probs, judged = held_out_probs(points, given, 4)
    found = label_issues(probs[judged], given[judged]).rows[:30]
    assert (found < 30).double().mean() > 0.9
    assert torch.equal(held_out_probs(points, given, 4)[0], probs)


def test_labels_of_a_multilabel_row_are_judged_one_by_one():
    points, cluster = material.clusters(120, classes=3, spread=1.0)
    labels = torch.stack([cluster == 0, cluster != 1], 1)
    probs, judged = held_out_probs(points, labels, 2)
    assert bool(judged.all())
    assert ((probs > 0.5) == labels).double().mean() > 0.95
    alone = torch.zeros(120, 1, dtype=torch.bool)
    alone[5] = True
    assert held_out_probs(points, torch.cat([labels, alone], 1), 3)[1].tolist() == [i != 5 for i in range(120)]
