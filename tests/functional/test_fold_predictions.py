import pytest
import torch
from reference import ridge_folds as reference

from dal.functional.fold_predictions import fold_predictions
from functional.made import normal


@pytest.mark.parametrize(("rows", "width"), [(40, 5), (12, 30), (24, 23)])
@pytest.mark.parametrize("penalty", [0.1, 1.0])
def test_predictions_are_those_of_a_least_squares_problem_for_each_fold(rows, width, penalty):
    x, targets = normal(rows, width, 1), normal(200, width, 2)
    labels = (x[:, 0] + 0.5 * x[:, 1] > 0).long() + (x[:, 2] > 1).long()
    found = fold_predictions(x, labels, targets, folds=4, penalty=penalty)
    assert found.tolist() == reference.fold_predictions(x.numpy(), labels.numpy(), targets.numpy(), 4, penalty)
    assert len({tuple(row) for row in found.tolist()}) > 1


def test_repeated_points_and_a_class_in_one_fold_only_are_no_reason_to_fail():
    x = torch.ones(12, 40).index_fill(0, torch.tensor([3]), 2.0)
    labels = torch.zeros(12, dtype=torch.int64).index_fill(0, torch.tensor([3]), 1)
    found = fold_predictions(x, labels, torch.stack([x[0], x[3]]), folds=5, penalty=0.01)
    assert found[0].tolist() == [0, 1]
    assert sum(row == [0, 0] for row in found.tolist()) == 1  # the one without row 3


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: fold_predictions(torch.zeros(3, 2), torch.zeros(3, dtype=torch.int64), torch.zeros(1, 2)), "5 folds"),
        (lambda: fold_predictions(normal(9, 2), torch.arange(9), normal(4, 2), folds=1), "folds must be"),
        (lambda: fold_predictions(normal(9, 2), torch.arange(9), normal(4, 2), penalty=0.0), "penalty"),
        (lambda: fold_predictions(normal(9, 2), torch.arange(9), torch.full((1, 2), torch.inf)), "must be finite"),
    ],
)
def test_unusable_input_is_refused(call, words):
    with pytest.raises(ValueError, match=words):
        call()
