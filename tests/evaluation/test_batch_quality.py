import math

import numpy as np
import pytest
import reference.batches as slow
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dal.evaluation import balance, coverage, mean_uncertainty, novelty, overlap, redundancy, typical_distance
from dal.outputs import Outputs

POINTS = st.lists(st.tuples(st.integers(-3, 3), st.integers(-3, 3)), min_size=1, max_size=14)  # ties and duplicates
NONE = torch.zeros(0, 2)


def points(values):
    return torch.tensor(values, dtype=torch.float32).view(-1, 2)


@settings(max_examples=50, deadline=None)
@given(pool=POINTS.filter(lambda pool: len(pool) > 1), queries=st.integers(1, 20))
def test_typical_distance_equals_the_slow_one(pool, queries):
    expected = slow.typical(pool, queries)
    found = typical_distance(points(pool), queries=queries)
    assert found == (None if expected is None else pytest.approx(expected, rel=1e-6))


@settings(max_examples=50, deadline=None)
@given(batch=POINTS, before=POINTS, distance=st.sampled_from([0.0, 1.0, 1.5, 2.5]))
def test_redundancy_and_novelty_equal_the_slow_ones(batch, before, distance):
    few, many = points(batch), points(before)
    assert redundancy(few, many, distance) == pytest.approx(slow.redundancy(batch, before, distance))
    assert redundancy(few, NONE, distance) == pytest.approx(slow.redundancy(batch, [], distance))
    if distance:
        assert novelty(few, many, distance) == pytest.approx(slow.novelty(batch, before, distance), rel=1e-6)


def test_redundancy_in_blocks_is_the_same(monkeypatch):
    few = torch.randn(70, 2, generator=torch.Generator().manual_seed(0))
    whole = redundancy(few, NONE, 0.2)
    monkeypatch.setattr("dal.functional.blocks.ELEMENTS", 200)
    assert redundancy(few, NONE, 0.2) == whole == slow.redundancy(few.tolist(), [], 0.2)


def test_batch_of_duplicates_is_redundant_but_for_the_first_and_one_of_distant_rows_is_not():
    assert redundancy(torch.ones(4, 2), NONE, 0.5) == 0.75
    assert redundancy(torch.ones(4, 2), torch.ones(1, 2), None) == 1.0
    assert redundancy(torch.eye(4), torch.zeros(0, 4), 0.5) == 0.0


def test_pool_of_duplicates_alone_has_no_typical_distance_and_some_duplicates_do_not_make_it_0():
    assert typical_distance(torch.ones(10, 2)) is None
    assert typical_distance(torch.ones(1, 2)) is None
    assert typical_distance(points([(0, 0)] * 8 + [(3, 0), (5, 0)])) == pytest.approx(2.0)


def test_empty_batch_and_nothing_labeled_leave_what_is_undefined_open():
    assert redundancy(NONE, torch.ones(3, 2), 1.0) is None
    assert novelty(NONE, torch.ones(3, 2), 1.0) is None
    assert novelty(torch.ones(3, 2), NONE, 1.0) is None
    assert novelty(torch.ones(3, 2), torch.ones(3, 2), None) is None
    assert coverage(torch.zeros(0)) is None
    assert balance(torch.zeros(0, dtype=torch.int64), 3) is None
    assert mean_uncertainty(Outputs({"logits": torch.zeros(0, 3)})) is None


@settings(max_examples=50, deadline=None)
@given(pool=POINTS, labeled=POINTS)
def test_coverage_is_the_mean_and_the_percentile_of_the_slow_distances(pool, labeled):
    distances = slow.coverage(pool, labeled)
    mean, p95 = coverage(torch.tensor(distances, dtype=torch.float64))
    assert mean == pytest.approx(sum(distances) / len(distances))
    assert p95 == pytest.approx(float(np.percentile(distances, 95)))


def test_points_that_are_not_numbers_are_refused():
    bad = torch.tensor([[0.0, 0.0], [float("nan"), 1.0], [1.0, 1.0]])
    for measure in (
        lambda: redundancy(bad, NONE, 1.0),
        lambda: redundancy(bad[:1], bad, 1.0),
        lambda: novelty(bad, torch.ones(2, 2), 1.0),
        lambda: typical_distance(bad),
        lambda: typical_distance(bad[1:2]),
    ):
        with pytest.raises(ValueError, match="finite"):
            measure()


def test_balance_is_1_for_equal_shares_0_for_one_class_and_attainable_by_a_small_batch_of_many_classes():
    assert balance(torch.tensor([0, 1, 2, 0, 1, 2]), 3) == pytest.approx(1.0)
    assert balance(torch.tensor([1, 1, 1]), 3) == 0.0
    assert balance(torch.arange(20), 150) == pytest.approx(1.0)
    assert balance(torch.tensor([0, 0, 0, 1]), 2) == pytest.approx(0.811278, abs=1e-6)  # bits of (3/4, 1/4)
    assert balance(torch.tensor([5]), 150) is None


def test_balance_counts_every_class_of_a_multilabel_row():
    rows = torch.tensor([[True, True, False], [False, False, True], [False, False, False]])
    assert balance(rows, 3) == pytest.approx(1.0)
    assert balance(rows & False, 3) is None


def test_doubt_is_1_where_a_model_knows_nothing_and_0_where_it_is_sure():
    for multilabel in (False, True):
        for classes in (2, 150):
            assert mean_uncertainty(
                Outputs({"logits": torch.zeros(3, classes)}, multilabel=multilabel)
            ) == pytest.approx(1.0)
            sure = torch.full((3, classes), -80.0)
            sure[:, 0] = 80.0
            assert mean_uncertainty(Outputs({"logits": sure}, multilabel=multilabel)) == pytest.approx(0.0, abs=1e-6)
    half = Outputs({"probs": torch.tensor([[0.7, 0.2, 0.1]])})
    assert mean_uncertainty(half) == pytest.approx(-sum(p * math.log(p) for p in (0.7, 0.2, 0.1)) / math.log(3))


def test_overlap_is_the_share_of_all_chosen_rows():
    assert overlap(["a", "b", "c"], ["b", "c", "d"]) == 0.5
    assert overlap(["a"], ["b"]) == 0
    assert overlap(["a", "b"], ["b", "a"]) == 1
    assert overlap([], []) is None
