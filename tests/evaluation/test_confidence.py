"""Confidence in a whole answer."""

import pytest
import torch

from dal.evaluation.confidence import answers, confidence, is_right


def test_temperature_keeps_the_order_of_two_classes_but_not_of_more() -> None:
    two = torch.randn(50, 2, generator=torch.Generator().manual_seed(2))
    assert confidence(two).argsort().tolist() == confidence(two, 3.0).argsort().tolist()
    three = torch.tensor([[2.0, 1.0, -9.0], [1.6, 0.0, 0.0]])
    assert (confidence(three).argmax(), confidence(three, 0.2).argmax()) == (0, 1)


def test_multilabel_confidence_is_that_of_every_decision() -> None:
    logits = torch.tensor([[0.0, 2.0, -1.0]])
    p = logits.sigmoid()
    assert confidence(logits, multilabel=True).item() == pytest.approx(torch.maximum(p, 1 - p).prod().item())


def test_an_answer_with_one_wrong_decision_is_wrong() -> None:
    given = answers(torch.tensor([[1.0, -1.0], [1.0, 1.0]]), multilabel=True)
    assert given.tolist() == [[True, False], [True, True]]
    assert is_right(given, torch.tensor([[True, False], [True, False]])).tolist() == [True, False]
    assert is_right(answers(torch.eye(2)), torch.tensor([0, 0])).tolist() == [True, False]
