import numpy as np
import pytest
import torch
from sklearn import metrics as sk

from dal.errors import DataError
from dal.evaluation import evaluate, per_class, per_group
from dal.outputs import Outputs


def drawn(rows, classes, multilabel=False, seed=0):
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(rows, classes, generator=generator)
    if multilabel:
        return Outputs({"logits": logits}, multilabel=True), torch.rand(rows, classes, generator=generator) < 0.3
    return Outputs({"logits": logits}), torch.randint(classes, (rows,), generator=generator)


@pytest.mark.parametrize(("classes", "multilabel"), [(2, False), (5, False), (150, False), (4, True)])
def test_figures_of_a_class_equal_scikit_learn(classes, multilabel):
    outputs, labels = drawn(400, classes, multilabel)
    names = [f"c{i}" for i in range(classes)]
    found = per_class(outputs, labels, names)
    decided = (outputs.logits > 0) if multilabel else outputs.logits.argmax(1)
    expected = sk.precision_recall_fscore_support(
        labels.numpy(), decided.numpy(), labels=np.arange(classes), average=None, zero_division=np.nan
    )
    assert list(found) == names
    for i, name in enumerate(names):
        values = dict(zip(("precision", "recall", "f1", "count"), (column[i] for column in expected), strict=True))
        assert found[name] == {key: None if np.isnan(x) else pytest.approx(x) for key, x in values.items()}


def test_what_a_class_leaves_undefined_is_none():
    outputs, labels = (
        Outputs({"logits": torch.tensor([[3.0, 0.0, 0.0, 0.0], [0.0, 0.0, 3.0, 0.0]])}),
        torch.tensor([0, 1]),
    )
    found = per_class(outputs, labels, ["right", "missed", "claimed", "neither"])
    assert found["right"] == {"precision": 1.0, "recall": 1.0, "f1": 1.0, "count": 1}
    assert found["missed"] == {"precision": None, "recall": 0.0, "f1": 0.0, "count": 1}
    assert found["claimed"] == {"precision": 0.0, "recall": None, "f1": 0.0, "count": 0}
    assert found["neither"] == {"precision": None, "recall": None, "f1": None, "count": 0}


@pytest.mark.parametrize("multilabel", [False, True])
def test_figures_of_a_group_are_those_of_its_rows_alone(multilabel):
    outputs, labels = drawn(89, 3, multilabel)
    groups = [("b", "a", "c", "c")[i % 4] for i in range(89)]
    found = per_group(outputs, labels, groups)
    assert list(found) == ["c", "b", "a"]  # by size; of b there is one more than of a
    for name, figures in found.items():
        rows = torch.tensor([i for i, group in enumerate(groups) if group == name])
        alone = evaluate(outputs.take(rows), labels[rows])
        assert figures == {
            "accuracy": pytest.approx(alone["accuracy"]),
            "macro_f1": pytest.approx(alone["macro_f1"]),
            "count": len(rows),
        }


def test_only_the_largest_groups_are_kept_and_equal_ones_by_name():
    outputs, labels = drawn(6, 2)
    assert list(per_group(outputs, labels, ["d", "c", "b", "a", "z", "z"], max_groups=3)) == ["z", "a", "b"]


def test_outputs_that_are_not_numbers_are_refused():
    outputs = Outputs({"logits": torch.tensor([[float("nan"), 0.0]])})
    with pytest.raises(DataError, match="NaN"):
        per_class(outputs, torch.tensor([0]), ["a", "b"])
    with pytest.raises(DataError, match="NaN"):
        per_group(outputs, torch.tensor([0]), ["g"])
