import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from reference import herding as reference

from dal.functional import blocks, window
from dal.functional.herding import closest_distance, max_herding
from functional.made import GRID, normal, outer, seeded


def equals_reference(x, n, y, centers, weights, sigma) -> None:
    herd = max_herding(x, n, targets=y, centers=centers, weights=weights, sigma=sigma)
    picks, gains, coverage = reference.max_herding(x.numpy(), n, y.numpy(), centers.numpy(), weights.tolist(), sigma)
    assert herd.positions.tolist() == picks
    np.testing.assert_allclose(herd.gains, gains, rtol=1e-4, atol=1e-7)
    assert herd.coverage == pytest.approx(coverage, rel=1e-5, abs=1e-9)


class TestMaxHerding:
    @pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
    @pytest.mark.parametrize("L", [0, 6])
    @pytest.mark.parametrize("sigma", [0.05, 1.0, 30.0])
    def test_equals_the_slow_reference(self, sigma, L, dtype):
        x, y, centers = normal(40, 4, dtype=dtype), normal(30, 4, seed=1, dtype=dtype), normal(L, 4, seed=2)
        weights = torch.rand(30, generator=seeded(), dtype=dtype)
        equals_reference(x, 12, y, centers.to(dtype), weights, sigma)

    @settings(max_examples=40, deadline=None)
    @given(GRID, st.data())
    def test_equals_the_slow_reference_among_ties_and_duplicates(self, rows, data):
        x = torch.tensor(rows, dtype=torch.float32)
        L = data.draw(st.integers(0, 2))
        n = data.draw(st.integers(1, max(1, len(x.unique(dim=0)) - L)))  # nothing is gained by more
        equals_reference(x, n, x, x[:L], torch.ones(len(x)), 1.0)

    def test_duplicates_on_two_sides_of_a_rounding_boundary_are_equal_all_the_same(self):
        rows = [(0, -1), (1, -1), (-1, 2), (0, 1), (0, 1), (1, -1), (-1, -1), (-1, 2), (-1, -1), (1, -1), (0, 2)]
        x = torch.tensor(rows, dtype=torch.float32)
        equals_reference(x, 3, x, x[:0], torch.ones(len(x)), 1.0)

    @pytest.mark.parametrize("sigma", [0.3, 2.0])
    @pytest.mark.parametrize("L", [0, 5])
    def test_looks_at_far_more_points_than_fit_in_a_window_and_finds_the_same(self, monkeypatch, sigma, L):
        x = normal(150, 3, dtype=torch.float32)
        monkeypatch.setattr(blocks, "ELEMENTS", 160)
        equals_reference(x, 20, x[:25], x[100 : 100 + L], torch.ones(25), sigma)

    @pytest.mark.parametrize("block", [2, 5, 64])
    @pytest.mark.parametrize("sigma", [0.3, 2.0])
    def test_picks_taken_back_after_a_look_leave_no_trace(self, monkeypatch, sigma, block):
        x = normal(150, 3, dtype=torch.float32).mul(2).round().div(2)  # ties and duplicates
        one_by_one = max_herding(x, 60, targets=x[:25], sigma=sigma)
        monkeypatch.setattr(window, "BLOCK", block)
        for elements in (160, 1000):
            monkeypatch.setattr(blocks, "ELEMENTS", elements)
            herd = max_herding(x, 60, targets=x[:25], sigma=sigma)
            gaining = int((one_by_one.gains > 1e-12).sum())  # once nothing is gained, any will do
            assert torch.equal(herd.positions[:gaining], one_by_one.positions[:gaining])
            assert torch.equal(herd.gains, one_by_one.gains)

    def test_many_duplicates_outside_the_window_are_no_trouble(self, monkeypatch):
        x = normal(4, 3).repeat(30, 1)
        monkeypatch.setattr(blocks, "ELEMENTS", 100)
        herd = max_herding(x, 120)
        assert sorted(herd.positions.tolist()) == list(range(120))
        assert sorted((herd.positions[:4] % 4).tolist()) == [0, 1, 2, 3]
        assert herd.gains[4:].tolist() == [0.0] * 116
        assert herd.coverage == pytest.approx(1)

    def test_hand_computed_example(self):
        x = torch.tensor([[0.0], [1.0], [1.0], [5.0]])
        herd = max_herding(x, 2)
        near = math.exp(-1)
        assert herd.positions.tolist() == [1, 3]
        assert herd.gains.tolist() == pytest.approx([(2 + near + math.exp(-16)) / 4, (1 - math.exp(-16)) / 4])
        assert herd.coverage == pytest.approx((3 + near) / 4)

    def test_gains_add_up_to_the_coverage_and_fall(self):
        herd = max_herding(normal(80, 3), 30)
        assert float(herd.gains.sum()) == pytest.approx(herd.coverage)
        assert torch.all(herd.gains.diff() <= 1e-12)

    def test_does_not_depend_on_the_order_of_the_points(self):
        x, order = normal(80, 4), torch.randperm(80, generator=seeded())
        assert torch.equal(order[max_herding(x[order], 30).positions], max_herding(x, 30).positions)

    def test_of_two_that_only_help_each_other_the_more_central_is_taken(self):
        x = torch.tensor([[0.0, 0.0], [9.0, 0.0], [10.0, 0.0]], dtype=torch.float64)
        for order in ([0, 1, 2], [2, 1, 0]):
            herd = max_herding(x[order], 1, centers=x[:1], sigma=4.0)
            assert x[order][herd.positions].tolist() == [[9.0, 0.0]]

    def test_targets_without_weight_do_not_count(self):
        x = torch.tensor([[0.0], [0.1], [9.0]])
        assert max_herding(x, 1, weights=torch.tensor([0.0, 0.0, 1.0])).positions.tolist() == [2]

    def test_points_far_from_the_origin_are_chosen_alike(self):
        x = normal(60, 3, dtype=torch.float32).mul(64).round().div(64)
        assert torch.equal(max_herding(x + 512, 20).positions, max_herding(x, 20).positions)

    def test_no_weight_at_all_still_chooses(self):
        herd = max_herding(normal(5, 2), 5, weights=torch.zeros(5, dtype=torch.float64))
        assert sorted(herd.positions.tolist()) == [0, 1, 2, 3, 4]

    @pytest.mark.parametrize("n", [0, 4])
    def test_a_number_outside_the_points_is_refused(self, n):
        with pytest.raises(ValueError, match=f"{n} of 3 points were asked for"):
            max_herding(torch.zeros(3, 2), n)

    @pytest.mark.parametrize("sigma", [0.0, -1.0, float("nan"), float("inf")])
    def test_a_sigma_that_is_no_bandwidth_is_refused(self, sigma):
        with pytest.raises(ValueError, match="sigma"):
            max_herding(torch.zeros(3, 2), 1, sigma=sigma)

    @pytest.mark.parametrize("weight", [-1.0, float("nan")])
    def test_weights_that_are_none_are_refused(self, weight):
        with pytest.raises(ValueError, match="weights"):
            max_herding(torch.zeros(2, 2), 1, weights=torch.tensor([1.0, weight]))

    def test_outer_products_are_refused(self):
        with pytest.raises((TypeError, ValueError), match=r"herding"):
            max_herding(outer(5, 2, 2), 2)


class TestClosestDistance:
    def test_is_the_smallest_of_all_pairs(self, monkeypatch):
        x = normal(50, 3)
        expected = float(torch.pdist(x).min())
        assert closest_distance(x) == pytest.approx(expected)
        monkeypatch.setattr(blocks, "ELEMENTS", 100)
        assert closest_distance(x) == pytest.approx(expected)

    def test_nearer_ones_than_asked_for_do_not_count(self):
        x = torch.tensor([[0.0], [0.5], [3.0]])
        assert closest_distance(x, beyond=0.5) == 2.5

    @pytest.mark.parametrize("rows", [0, 1, 4])
    def test_is_infinite_where_no_two_differ(self, rows):
        assert closest_distance(torch.ones(rows, 2)) == float("inf")
