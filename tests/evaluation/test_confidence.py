"""Confidence in a whole answer, and the temperature that makes it honest."""

import pytest
import torch
from scipy.optimize import minimize
from torch.nn import functional as F

from dal.evaluation.confidence import answers, confidence, is_right, temperature


def drawn(scale: float, rows: int = 4000) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits that are `scale` times those that the labels were drawn from."""
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(rows, 4, generator=generator, dtype=torch.float64) * 2
    labels = torch.multinomial(logits.softmax(-1), 1, generator=generator).flatten()
    return logits * scale, labels


@pytest.mark.parametrize("scale", [0.3, 1.0, 4.0])
def test_temperature_undoes_the_scale_of_logits(scale: float) -> None:
    assert temperature(*drawn(scale)) == pytest.approx(scale, rel=0.06)


def test_temperature_is_the_one_that_another_optimiser_finds() -> None:
    logits, labels = drawn(3.0, 60)

    def loss(x: list[float]) -> float:
        return float(F.cross_entropy(logits / float(x[0]), labels))

    assert temperature(logits, labels) == pytest.approx(minimize(loss, [1.0], method="Nelder-Mead").x[0], rel=1e-3)


def test_temperature_undoes_the_scale_of_multilabel_logits() -> None:
    generator = torch.Generator().manual_seed(1)
    logits = torch.randn(3000, 3, generator=generator) * 2
    labels = torch.rand(3000, 3, generator=generator) < logits.sigmoid()
    assert temperature(logits * 5, labels) == pytest.approx(5, rel=0.06)


@pytest.mark.parametrize("labels", [torch.tensor([0, 0]), torch.tensor([1, 1])])
def test_temperature_stays_within_its_ends(labels: torch.Tensor) -> None:
    assert 0.0499 <= temperature(torch.tensor([[9.0, 0.0], [5.0, 0.0]]), labels) <= 20.01
    assert temperature(torch.zeros(0, 2), torch.zeros(0, dtype=torch.int64)) == 1


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
