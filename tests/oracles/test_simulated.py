import pytest
import torch

from dal.data import Rows
from dal.errors import ConfigError, DataError
from dal.oracles.simulated import Simulated

NAMES = ["a", "b", "c"]


def test_without_noise_the_answers_are_the_labels() -> None:
    labels = torch.arange(30) % 3
    rows = torch.tensor([7, 2, 29])
    assert Simulated().answer(rows, Rows.from_inputs(torch.randn(30, 2), labels, NAMES)) == [1, 2, 2]


def test_noise_is_the_share_of_wrong_answers_spread_over_the_other_classes() -> None:
    labels = torch.zeros(3000, dtype=torch.int64)
    answers = torch.tensor(Simulated(noise=0.3).answer(torch.arange(3000), _rows(labels)))
    counts = answers.bincount(minlength=3)
    assert 2000 < counts[0] < 2200
    assert 380 < counts[1] < 520
    assert 380 < counts[2] < 520


def test_all_noise_is_never_right() -> None:
    labels = torch.arange(60) % 3
    answers = torch.tensor(Simulated(noise=1.0).answer(torch.arange(60), _rows(labels)))
    assert not bool((answers == labels).any())


def test_a_row_gets_the_same_answer_in_any_order_and_company() -> None:
    rows = _rows(torch.arange(90) % 3)
    oracle = Simulated(noise=0.5, seed=3)
    every = oracle.answer(torch.arange(90), rows)
    assert oracle.answer(torch.tensor([80, 5]), rows) == [every[80], every[5]]
    assert Simulated(noise=0.5, seed=4).answer(torch.arange(90), rows) != every


def test_multilabel_answers_are_lists_and_noise_flips_single_classes() -> None:
    labels = torch.zeros(2000, 3, dtype=torch.bool)
    labels[:, 1] = True
    data = Rows.from_inputs(torch.randn(2000, 2), labels, NAMES, multilabel=True)
    assert Simulated().answer(torch.tensor([0, 1]), data) == [[1], [1]]
    answers = Simulated(noise=0.2).answer(torch.arange(2000), data)
    assert 300 < sum(0 in answer for answer in answers if isinstance(answer, list)) < 500
    assert 1500 < sum(1 in answer for answer in answers if isinstance(answer, list)) < 1700


def test_row_without_a_label_is_named() -> None:
    data = Rows.from_inputs(["x", "y"], ["a", None], NAMES, ids=["one", "two"])
    with pytest.raises(DataError, match="row 'two' has no label in the data"):
        Simulated().answer(torch.tensor([0, 1]), data)


def test_impossible_noise_is_refused() -> None:
    with pytest.raises(ConfigError, match="from 0 to 1"):
        Simulated(noise=1.5)


def _rows(labels: torch.Tensor) -> Rows:
    return Rows.from_inputs(torch.randn(len(labels), 2), labels, NAMES)


def test_with_one_class_there_is_no_wrong_answer():
    data = Rows.from_inputs(torch.randn(4, 2), torch.zeros(4, dtype=torch.int64), ["only"])
    assert Simulated(noise=1.0).answer(torch.arange(4), data) == [0, 0, 0, 0]
