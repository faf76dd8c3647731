"""The made-up outputs hang together, and the watch sees what is allocated."""

import numpy as np
import pytest
import torch

from dal.functional.points import OuterPoints
from dal.strategies.gradient import BADGE
from dal.strategies.uncertainty import Margin
from dal.testing import Setting, synthetic
from dal.testing.allocation import AllocationWatch, TooLarge


def test_logits_are_a_linear_head_on_the_features() -> None:
    made = synthetic({"logits", "features"}, 50, classes=3, features=8)
    head = torch.linalg.lstsq(made.features.double(), made.logits.double()).solution
    assert torch.allclose(made.features.double() @ head, made.logits.double(), atol=1e-5)


def test_joint_samples_are_one_function_and_the_others_are_not() -> None:
    made = synthetic({"features", "joint_mc_logits", "mc_logits"}, 50, features=8, samples=2)
    for name, linear in [("joint_mc_logits", True), ("mc_logits", False)]:
        sample = made[name][:, 0].double()
        head = torch.linalg.lstsq(made.features.double(), sample).solution
        assert torch.allclose(made.features.double() @ head, sample, atol=1e-4) == linear


def test_only_the_names_asked_for_are_held() -> None:
    assert set(synthetic({"probs", "grads"}, 5)._tensors) == {"probs", "grads"}
    assert isinstance(synthetic({"grads"}, 5).grads, OuterPoints)
    assert synthetic({"mutual_information"}, 5)["mutual_information"].shape == (5,)


@pytest.mark.parametrize(
    ("name", "shape"), [("logits", (7, 3)), ("embeddings", (7, 16)), ("mc_logits", (7, 4, 3)), ("vote_counts", (7, 3))]
)
def test_shapes_follow_the_sizes_asked_for(name: str, shape: tuple[int, ...]) -> None:
    assert synthetic({name}, 7, classes=3, features=8, samples=4)[name].shape == shape


def test_a_query_is_the_same_every_time_and_owns_its_tensors() -> None:
    setting = Setting(rows=9, labeled=4, n=2)
    one, other = setting.query(Margin()), setting.query(Margin())
    assert torch.equal(one.pool.probs, other.pool.probs)
    one.pool.probs.zero_()
    assert not torch.equal(one.pool.probs, other.pool.probs)
    assert (len(one.pool), len(one.labeled), len(one.labels), one.n) == (9, 4, 4, 2)


def test_few_distinct_rows_repeat_through_pool_and_labeled_rows() -> None:
    query = Setting(rows=20, labeled=6, distinct=3).query(BADGE())
    assert len(query.pool.grads.a.unique(dim=0)) == 3


def test_the_watch_refuses_the_operation_that_makes_too_large_a_tensor() -> None:
    with pytest.raises(TooLarge, match=r"aten\.mm.*shape \(100, 100\)"), AllocationWatch(20_000):
        torch.ones(100, 2) @ torch.ones(2, 100)


def test_the_watch_counts_storage_and_not_views() -> None:
    with AllocationWatch(20_000):
        torch.ones(100, 1).expand(100, 1000)


def test_the_watch_sees_what_numpy_held_at_most() -> None:
    with AllocationWatch(1) as watch:
        np.ones(1_000_000)
    assert 8_000_000 <= watch.python_peak < 9_000_000
