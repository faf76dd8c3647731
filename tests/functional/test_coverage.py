import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from reference import coverage as reference

from dal.functional import blocks, coverage
from dal.functional import window as windows
from dal.functional.coverage import max_coverage, pure_radius
from functional.made import GRID, normal, outer, seeded


def equals_reference(x, n, radius, y, centers) -> None:
    found = max_coverage(x, n, radius, targets=y, centers=centers)
    picks, gains, covered = reference.max_coverage(x.numpy(), n, radius, y.numpy(), centers.numpy())
    assert found.positions.tolist() == picks
    assert found.gains.tolist() == gains
    assert found.covered.tolist() == covered


class TestMaxCoverage:
    @pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
    @pytest.mark.parametrize("L", [0, 5])
    @pytest.mark.parametrize("radius", [0.0, 0.5, 1.0, 2.5, 9.0])
    def test_equals_the_slow_reference(self, radius, L, dtype):
        x, y, centers = normal(40, 3, dtype=dtype), normal(50, 3, seed=1, dtype=dtype), normal(L, 3, seed=2)
        equals_reference(x, 15, radius, y, centers.to(dtype))

    @settings(max_examples=50, deadline=None)
    @given(GRID, st.sampled_from([0.0, 1.0, 2.0]), st.data())
    def test_equals_the_slow_reference_among_ties_duplicates_and_rows_at_the_radius(self, rows, radius, data):
        x = torch.tensor(rows, dtype=torch.float32) + 1000.0  # far from the origin, where the expanded form cancels
        n = data.draw(st.integers(1, len(x)))
        equals_reference(x, n, radius, x, x[: data.draw(st.integers(0, 2))])

    @settings(max_examples=30, deadline=None)
    @given(GRID, st.sampled_from([1, 3, 64]), st.sampled_from([1, 4, 1024]), st.data())
    def test_picks_taken_back_after_a_look_leave_no_trace(self, rows, block, window, data):
        x = torch.tensor(rows, dtype=torch.float32)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(windows, "BLOCK", block)
            patch.setattr(coverage, "WINDOW", window)
            equals_reference(x, data.draw(st.integers(1, len(x))), 1.0, x, x[:0])

    @pytest.mark.parametrize("window", [1, 3, 39, 40])
    def test_does_not_depend_on_the_window(self, monkeypatch, window):
        x = normal(40, 2)
        whole = max_coverage(x, 12, 0.7)
        monkeypatch.setattr(coverage, "WINDOW", window)
        cut = max_coverage(x, 12, 0.7)
        assert torch.equal(cut.positions, whole.positions)
        assert torch.equal(cut.gains, whole.gains)

    def test_does_not_depend_on_the_size_of_blocks(self, monkeypatch):
        x = normal(60, 4, dtype=torch.float32)
        whole = max_coverage(x, 12, 1.5)
        monkeypatch.setattr(blocks, "ELEMENTS", 1100)
        monkeypatch.setattr(coverage, "WINDOW", 7)
        assert torch.equal(max_coverage(x, 12, 1.5).positions, whole.positions)

    def test_hand_computed_example(self):
        x = torch.tensor([[0.0], [1.0], [2.0], [3.0], [7.0], [8.0]])
        found = max_coverage(x, 6, 1.0)
        # row 1 covers rows 0 to 2; then row 4 covers 4 and 5, and only row 3 is left, which row 2 reaches first
        assert found.positions.tolist() == [1, 4, 2]
        assert found.gains.tolist() == [3, 2, 1]
        assert found.covered.all()

    def test_what_a_center_covers_is_not_counted(self):
        x = torch.tensor([[0.0], [0.1], [0.2], [5.0], [5.1]])
        assert max_coverage(x, 1, 0.5, centers=torch.tensor([[0.0]])).positions.tolist() == [3]

    def test_chooses_nothing_where_all_is_covered(self):
        found = max_coverage(torch.zeros(4, 2), 2, 0.0, centers=torch.zeros(1, 2))
        assert len(found.positions) == len(found.gains) == 0
        assert found.covered.tolist() == [True] * 4

    def test_ends_where_no_point_reaches_what_is_left(self):
        found = max_coverage(torch.tensor([[0.0], [1.0]]), 2, 0.5, targets=torch.tensor([[0.0], [9.0], [9.1]]))
        assert (found.positions.tolist(), found.gains.tolist()) == ([0], [1])
        assert found.covered.tolist() == [True, False, False]

    def test_equals_are_decided_by_the_generator(self):
        x = torch.eye(30)
        first, again = (max_coverage(x, 5, 0.1, generator=seeded(1)).positions for _ in range(2))
        assert torch.equal(first, again)
        assert not torch.equal(first, max_coverage(x, 5, 0.1, generator=seeded(2)).positions)
        assert max_coverage(x, 5, 0.1).positions.tolist() == [0, 1, 2, 3, 4]

    @pytest.mark.parametrize("n", [0, 4])
    def test_a_number_outside_the_points_is_refused(self, n):
        with pytest.raises(ValueError, match=f"{n} of 3 points were asked for"):
            max_coverage(torch.zeros(3, 2), n, 1.0)

    @pytest.mark.parametrize("radius", [-1.0, float("nan")])
    def test_a_radius_that_is_none_is_refused(self, radius):
        with pytest.raises(ValueError, match="radius must be 0 or more"):
            max_coverage(torch.zeros(3, 2), 1, radius)

    def test_nan_among_the_targets_is_refused(self):
        with pytest.raises(ValueError, match="1 rows are not: 0"):
            max_coverage(torch.zeros(3, 2), 1, 1.0, targets=torch.tensor([[torch.nan, 0]]))

    def test_outer_products_are_refused(self):
        with pytest.raises((TypeError, ValueError), match=r"balls|max_coverage"):
            max_coverage(outer(5, 2, 2), 2, 1.0)


class TestPureRadius:
    @pytest.mark.parametrize("purity", [0.5, 0.8, 0.95, 1.0])
    @pytest.mark.parametrize("seed", [0, 1])
    def test_equals_the_slow_reference(self, seed, purity):
        x = normal(20, 3, seed)
        clusters = (x[:, 0] > 0.3).long()
        expected = reference.pure_radius(x.numpy(), clusters.tolist(), purity)
        assert pure_radius(x, clusters, purity=purity) == pytest.approx(expected, rel=1e-6)

    def test_is_just_below_the_distance_that_would_be_too_much(self):
        x = torch.tensor([[0.0], [1.0], [4.0], [5.0]])
        radius = pure_radius(x, torch.tensor([0, 0, 1, 1]), purity=1.0)
        assert radius < 3.0
        assert radius == pytest.approx(3.0, rel=1e-6)

    def test_one_cluster_is_pure_at_any_radius(self):
        assert pure_radius(normal(9, 2), torch.zeros(9, dtype=torch.int64)) == float("inf")

    def test_some_rows_stand_for_all(self):
        x = torch.tensor([[0.0], [1.0], [4.0]])
        clusters = torch.tensor([0, 0, 1])
        assert pure_radius(x, clusters, rows=torch.tensor([0])) == pytest.approx(4.0)
        assert pure_radius(x, clusters, rows=torch.tensor([1])) == pytest.approx(3.0)

    def test_does_not_depend_on_the_size_of_blocks(self, monkeypatch):
        x = normal(60, 4)
        clusters = (x[:, 0] > 0).long()
        whole = pure_radius(x, clusters)
        monkeypatch.setattr(blocks, "ELEMENTS", 700)
        assert pure_radius(x, clusters) == whole

    def test_a_purity_that_is_no_share_is_refused(self):
        with pytest.raises(ValueError, match="purity"):
            pure_radius(torch.zeros(2, 1), torch.tensor([0, 1]), purity=1.5)
