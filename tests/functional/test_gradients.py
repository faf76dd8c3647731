import numpy as np
import pytest
import torch
from reference import gradients as reference

from dal.functional import blocks
from dal.functional.gradients import expected_gradient_length
from functional.made import normal


@pytest.mark.parametrize("C", [2, 3, 30])
def test_equals_the_expectation_over_the_labels(C):
    probs, features = normal(20, C).softmax(1), normal(20, 6, seed=1)
    expected = [reference.expected_length(p.numpy(), h.numpy()) for p, h in zip(probs, features, strict=True)]
    np.testing.assert_allclose(expected_gradient_length(probs, features), expected)


def test_a_certain_row_has_length_0_and_an_even_one_that_of_its_features():
    probs = torch.tensor([[1.0, 0.0], [0.5, 0.5]])
    features = torch.tensor([[3.0, 0.0], [0.0, 7.0]])
    torch.testing.assert_close(expected_gradient_length(probs, features), torch.tensor([0.0, 5.0]))  # sqrt(1/2 * 50)


def test_almost_certain_rows_keep_their_order():
    probs = torch.tensor([[1.0, 1e-9], [1.0, 1e-12], [1.0, 1e-6]])
    lengths = expected_gradient_length(probs, torch.zeros(3, 1))
    torch.testing.assert_close(lengths, probs[:, 1] * 2 * 2**0.5, rtol=1e-4, atol=0)


def test_multilabel_is_the_root_of_the_expected_square_and_at_least_the_expectation():
    probs, features = normal(20, 4).sigmoid(), normal(20, 6, seed=1)
    mean, root = np.transpose(
        [reference.binary_lengths(p.numpy(), h.numpy()) for p, h in zip(probs, features, strict=True)]
    )
    ours = expected_gradient_length(probs, features, multilabel=True)
    np.testing.assert_allclose(ours, root)
    assert (ours.numpy() >= mean).all()


def test_the_size_of_blocks_changes_nothing(monkeypatch):
    probs, features = normal(50, 4).softmax(1), normal(50, 6, seed=1)
    whole = expected_gradient_length(probs, features)
    monkeypatch.setattr(blocks, "ELEMENTS", 40)
    torch.testing.assert_close(expected_gradient_length(probs, features), whole, rtol=1e-12, atol=0)
