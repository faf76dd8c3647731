"""Every check of metrics passes a right one and fails on one that is wrong in that way."""

from collections.abc import Callable
from typing import Any

import pytest
import torch

from dal.evaluation import metric
from dal.testing import METRIC_CHECKS, ConformanceError, check_metric, metric_report


def share(outputs: Any, labels: Any) -> float:
    """A right metric: share of right rows, or of right decisions when multi-label."""
    decided = outputs.probs > 0.5 if outputs.multilabel else outputs.probs.argmax(1)
    return float((decided == labels).double().mean())


@metric(maximize=False)
def missed(outputs: Any, labels: Any) -> float | None:
    """A right metric that is undefined without rows of the first class, and single-label."""
    first = labels == 0
    return float((outputs.probs[first].argmax(1) != 0).double().mean()) if first.any() else None


def nan_without_class(each: int) -> Callable[[Any, Any], float]:
    """A metric that is NaN where no row has the class, in single-label data."""

    def recall_of_class(outputs: Any, labels: Any) -> float:
        return float((outputs.probs[labels == each].argmax(1) == each).double().mean())

    return recall_of_class


def nan_without_decisions(outputs: Any, labels: Any) -> float:
    """A metric that is NaN where no row of multi-label data has class 1."""
    decided = outputs.probs > 0.5 if outputs.multilabel else outputs.probs.argmax(1)
    rows = labels[:, 1] if outputs.multilabel else torch.ones_like(labels, dtype=torch.bool)
    return float((decided == labels)[rows].double().mean())


def first_half(outputs: Any, labels: Any) -> float:
    rows = slice(0, max(1, len(labels) // 2))
    return float((outputs.probs.argmax(1) == labels)[rows].double().mean())


def draws(outputs: Any, labels: Any) -> float:
    return share(outputs, labels) + 1e-9 * float(torch.rand(1))


def overwrites(outputs: Any, labels: Any) -> float:
    value = share(outputs, labels)
    outputs.probs.zero_()
    return value


def wrong_direction(outputs: Any, labels: Any) -> float:
    return 1 - share(outputs, labels)


def crashes_when_multilabel(outputs: Any, labels: Any) -> float:
    return float((outputs.probs.argmax(1) == labels).double().mean())


@pytest.mark.parametrize("right", [share, missed], ids=["share", "missed"])
def test_right_metric_passes(right: Any) -> None:
    assert check_metric(right).ok


@pytest.mark.parametrize(
    ("check", "wrong", "said"),
    [
        ("multi-label", nan_without_decisions, "returned nan, .*a class that no row has, class 1"),
        ("row order", first_half, "in another order"),
        ("pure", draws, "random state|second time"),
        ("pure", overwrites, "wrote to the outputs"),
        ("direction", wrong_direction, "declare it with @metric.maximize=False"),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_each_check_fails_on_a_metric_wrong_in_its_way(check: str, wrong: Any, said: str) -> None:
    with pytest.raises(ConformanceError, match=said) as caught:
        check_metric(wrong)
    assert caught.value.report[check].verdict == "failed"


@pytest.mark.parametrize("each", [0, 1, 2])
def test_metric_that_is_nan_without_any_one_class_fails(each: int) -> None:
    result = metric_report(nan_without_class(each))["values"]
    assert result.verdict == "failed"
    assert "returned nan" in result.message


def test_metric_that_is_not_for_several_labels_is_told_so() -> None:
    report = metric_report(crashes_when_multilabel)
    assert report["multi-label"].verdict == "skipped"
    assert "RuntimeError" in report["multi-label"].message
    assert list(METRIC_CHECKS)[-1] == "multi-label"


def test_what_is_no_metric_fails_in_one_check() -> None:
    [result] = metric_report(lambda outputs: 1.0).results
    assert "must take two arguments" in result.message
