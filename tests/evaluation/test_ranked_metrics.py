"""Recall at a precision against the definition written out."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from reference import ranked as reference

from dal.errors import ConfigError, DataError
from dal.evaluation import recall_at_precision
from dal.evaluation.own_metrics import objective_metrics
from dal.objective import RecallOf
from dal.outputs import Outputs

ROWS = st.lists(st.tuples(st.integers(0, 6), st.booleans()), min_size=1, max_size=30)  # few scores: many ties


@given(ROWS, st.sampled_from([0.01, 0.3, 0.5, 2 / 3, 0.7, 0.9, 1.0]))
def test_recall_equals_the_best_of_all_thresholds(rows: list[tuple[int, bool]], precision: float) -> None:
    scores, positive = [score / 7 for score, _ in rows], [has for _, has in rows]
    found = recall_at_precision(torch.tensor(scores, dtype=torch.float64), torch.tensor(positive), precision)
    assert found == reference.recall_at_precision(scores, positive, precision)


@pytest.mark.parametrize("claimed", [10, 20, 30, 50, 70])
def test_a_precision_that_is_reached_exactly_counts(claimed: int) -> None:
    """Nine tenths of the claimed rows are positive, and 0.9 is no binary number."""
    positive = torch.arange(claimed) < 9 * claimed // 10
    assert recall_at_precision(torch.ones(claimed), positive, 0.9) == 1.0
    assert recall_at_precision(torch.ones(claimed + 1), torch.cat([positive, torch.tensor([False])]), 0.9) == 0.0


def test_rows_of_equal_scores_are_claimed_together() -> None:
    scores, positive = torch.tensor([0.9, 0.5, 0.5, 0.5]), torch.tensor([True, True, False, False])
    assert recall_at_precision(scores, positive, 0.6) == 0.5
    for order in (torch.tensor([3, 2, 1, 0]), torch.tensor([2, 1, 0, 3])):
        assert recall_at_precision(scores[order], positive[order], 0.6) == 0.5


def test_recall_is_0_where_no_threshold_is_precise_enough_and_undefined_without_the_class() -> None:
    scores = torch.tensor([0.9, 0.8, 0.1])
    assert recall_at_precision(scores, torch.tensor([False, True, True]), 0.9) == 0.0
    assert recall_at_precision(scores, torch.zeros(3, dtype=torch.bool)) is None


def test_wrong_arguments_are_refused() -> None:
    with pytest.raises(DataError, match="finite"):
        recall_at_precision(torch.tensor([torch.nan]), torch.tensor([True]))
    with pytest.raises(DataError, match="must both be"):
        recall_at_precision(torch.ones(2), torch.tensor([True]))
    with pytest.raises(ValueError, match="precision"):
        recall_at_precision(torch.ones(1), torch.tensor([True]), 1.5)


# -- the metric of an objective --------------------------------------------------------------------------------------


def test_metric_of_an_objective_ranks_the_rows_by_the_probability_of_its_class() -> None:
    [found] = objective_metrics(RecallOf("b", 0.6), ["a", "b", "c"])
    logits = torch.randn(40, 3, generator=torch.Generator().manual_seed(0))
    labels = torch.multinomial(logits.softmax(1), 1, generator=torch.Generator().manual_seed(1))[:, 0]
    several = torch.rand(40, 3, generator=torch.Generator().manual_seed(2)) < logits.sigmoid()
    expected = reference.recall_at_precision(logits.double().softmax(1)[:, 1].tolist(), (labels == 1).tolist(), 0.6)
    assert 0 < found(Outputs({"logits": logits}), labels) == expected < 1
    expected = reference.recall_at_precision(logits.double().sigmoid()[:, 1].tolist(), several[:, 1].tolist(), 0.6)
    assert 0 < found(Outputs({"logits": logits}, multilabel=True), several) == expected < 1
    assert found(Outputs({"logits": logits[:2]}), torch.tensor([0, 2])) is None


@pytest.mark.parametrize("objective", [None, "accuracy", "macro_f1"])
def test_words_are_recorded_anyway(objective) -> None:
    assert objective_metrics(objective, ["a", "b"]) == ()


@pytest.mark.parametrize(
    ("given", "name"),
    [
        ({"recall_of": "severe"}, "recall of severe at precision 0.9"),
        ({"recall_of": "very severe, naïve ☂", "precision": 0.75}, "recall of very severe, naïve ☂ at precision 0.75"),
        ({"recall_of": 3, "precision": 1}, "recall of 3 at precision 1"),
        ({"recall_of": "two\nlines"}, r"recall of two\nlines at precision 0.9"),
    ],
)
def test_name_of_an_objective_is_one_line(given, name: str) -> None:
    assert RecallOf(**given).name == name


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"recall_of": "a", "precision": 0}, "precision must be above 0 and at most 1, got 0"),
        ({"recall_of": "a", "precision": 90}, "precision must be above 0 and at most 1, got 90"),
        ({"recall_of": "a", "precision": float("nan")}, "precision must be above 0 and at most 1, got nan"),
        ({"recall_of": "a", "precision": "high"}, "precision must be above 0 and at most 1, got 'high'"),
        ({"recall_of": " "}, "recall_of takes the name of a class, got ' '"),
        ({"recall_of": True}, "recall_of takes the name of a class, got True"),
    ],
)
def test_recall_of_nothing_is_refused(given, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        RecallOf(**given)
