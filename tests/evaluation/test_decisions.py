"""From logits to what is automatic: which held-out rows are read for what, and what an error is."""

import pytest
import torch
from torch import Tensor

from dal.evaluation.automatic_labels import MIN_CALIBRATING, decide, fitted_temperature
from dal.evaluation.confidence import confidence


def drawn(rows: int, seed: int, scale: float = 4.0) -> tuple[Tensor, Tensor]:
    """Logits of three classes, and labels drawn from them."""
    generator = torch.Generator().manual_seed(seed)
    logits = scale * torch.randn(rows, 3, generator=generator, dtype=torch.float64)
    return logits, torch.multinomial(logits.softmax(-1), 1, generator=generator).flatten()


POOL, _ = drawn(1000, 0)


def test_rows_at_or_above_the_threshold_are_automatic() -> None:
    held, labels = drawn(800, 1)
    found = decide(POOL, held, labels, 0.05)
    assert found.result.threshold is not None
    assert found.automatic.tolist() == (found.confidence >= found.result.threshold).tolist()
    assert 0.3 < found.automatic.double().mean() < 1
    assert found.answers.tolist() == POOL.argmax(1).tolist()
    assert (found.calibrating, found.testing) == (200, 600)


def test_temperature_comes_from_the_first_quarter_alone() -> None:
    held, labels = drawn(800, 1)
    other = labels.clone()
    other[200:] = (labels[200:] + 1) % 3
    first, second = decide(POOL, held, labels, 0.05), decide(POOL, held, other, 0.05)
    assert first.temperature == second.temperature
    assert first.confidence.tolist() == second.confidence.tolist()
    assert not second.automatic.any()


def test_bound_comes_from_the_other_rows_alone() -> None:
    held, labels = drawn(800, 1)
    found = decide(POOL, held, labels, 0.05)
    sure = confidence(held[200:], found.temperature) >= found.result.threshold
    assert found.result.rows == int(sure.sum())
    assert found.result.errors == int((held[200:].argmax(1) != labels[200:])[sure].sum())


def test_scale_of_the_logits_does_not_matter() -> None:
    held, labels = drawn(800, 1)
    first, second = decide(POOL, held, labels, 0.05), decide(5 * POOL, 5 * held, labels, 0.05)
    assert (first.automatic == second.automatic).double().mean() > 0.98
    assert second.temperature == pytest.approx(5 * first.temperature, rel=1e-3)


def test_a_first_quarter_that_nobody_could_label_leaves_the_temperature_at_1() -> None:
    held, labels = drawn(800, 1)
    known = torch.arange(800) >= 200
    assert decide(POOL, held, labels, 0.05, known=known).temperature == 1


def test_a_row_that_nobody_could_label_counts_as_an_error() -> None:
    held, labels = drawn(800, 1)
    known = torch.ones(800, dtype=torch.bool)
    known[200:] = False
    assert not decide(POOL, held, labels, 0.05, known=known).automatic.any()


@pytest.mark.parametrize("rows", [0, 1, 5])
def test_few_held_out_rows_automate_nothing(rows: int) -> None:
    held, labels = drawn(rows, 1) if rows else (POOL[:0], torch.zeros(0, dtype=torch.int64))
    found = decide(POOL, held, labels, 0.05)
    assert not found.automatic.any()
    assert found.result.threshold is None


def test_an_error_of_a_multilabel_row_is_any_wrong_decision() -> None:
    held = torch.tensor([[9.0, 9.0]]).repeat(400, 1)
    half = torch.tensor([[True, True], [True, False]]).repeat(200, 1)
    found = decide(held, held, half, 0.3)
    assert not found.automatic.any()
    assert decide(held, held, half, 0.6).automatic.all()
    assert found.answers.dtype == torch.bool


def test_few_rows_that_are_all_right_fit_no_temperature() -> None:
    held, _ = drawn(4 * MIN_CALIBRATING, 1)
    labels = held.argmax(1)
    assert fitted_temperature(held, labels, torch.ones(len(held), dtype=torch.bool)) < 0.1
    one_declined = torch.arange(len(held)) > 0
    assert fitted_temperature(held, labels, one_declined) == 1
    assert decide(POOL, held[:40], labels[:40], 0.05).temperature == 1
