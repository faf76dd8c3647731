import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from reference import centers as reference

from dal.functional import blocks
from dal.functional.k_center import k_center_greedy
from functional.made import GRID, normal, outer, seeded


class TestKCenter:
    @pytest.mark.parametrize("L", [0, 1, 12])
    @pytest.mark.parametrize("n", [1, 8, 60])
    def test_equals_the_slow_reference(self, L, n):
        x, centers = normal(60, 5), normal(L, 5, seed=1)
        cover = k_center_greedy(x, n, centers=centers)
        picks, distances, radius = reference.k_center(x.numpy(), n, centers.numpy() if L else None)
        assert cover.positions.tolist() == picks
        np.testing.assert_allclose(cover.distances, distances)
        assert cover.radius == pytest.approx(radius)

    @pytest.mark.parametrize("C", [2, 4, 150])
    @pytest.mark.parametrize("L", [0, 9])
    def test_factors_give_the_same_choice_as_their_rows(self, C, L):
        x, centers = outer(50, C, 6), outer(L, C, 6, seed=2)
        factored = k_center_greedy(x, 20, centers=centers)
        whole = k_center_greedy(x.materialise(), 20, centers=centers.materialise())
        assert torch.equal(factored.positions, whole.positions)
        torch.testing.assert_close(factored.distances, whole.distances)
        assert factored.radius == pytest.approx(whole.radius)

    @given(GRID, st.data())
    def test_chooses_distinct_points_by_falling_distance_among_ties_and_duplicates(self, rows, data):
        x = torch.tensor(rows, dtype=torch.float32)
        n = data.draw(st.integers(1, len(x)))
        L = data.draw(st.integers(0, 3))
        cover = k_center_greedy(x, n, centers=x[:L])
        assert len(set(cover.positions.tolist())) == n
        later = cover.distances if L else cover.distances[1:]
        assert torch.all(later.diff() <= 0)
        assert n == len(x) or cover.radius <= float(cover.distances[-1]) or n == 1

    @settings(max_examples=40)
    @given(GRID, st.data())
    def test_equals_the_slow_reference_among_ties_and_duplicates(self, rows, data):
        x = torch.tensor(rows, dtype=torch.float32)
        n, L = data.draw(st.integers(1, len(x))), data.draw(st.integers(1, 3))
        cover = k_center_greedy(x, n, centers=x[:L])
        picks, distances, radius = reference.k_center(x.numpy(), n, x[:L].numpy())
        assert cover.positions.tolist() == picks
        np.testing.assert_allclose(cover.distances, distances, rtol=1e-6)
        assert cover.radius == pytest.approx(radius, rel=1e-6)

    def test_hand_computed_example(self):
        x = torch.tensor([[0.0, 0], [1, 0], [5, 0], [5, 1], [0, 4]])
        cover = k_center_greedy(x, 2, centers=torch.tensor([[0.0, 0.0]]))
        # squared distances to the center: 0, 1, 25, 26, 16; after row 3: 0, 1, 1, 0, 16
        assert cover.positions.tolist() == [3, 4]
        torch.testing.assert_close(cover.distances, torch.tensor([26.0, 16.0]).sqrt())
        assert cover.radius == 1

    def test_starts_at_the_row_farthest_from_the_mean_when_nothing_is_labeled(self):
        x = torch.tensor([[0.0], [1.0], [2.0], [10.0]])  # mean 3.25
        cover = k_center_greedy(x, 2)
        assert cover.positions.tolist() == [3, 0]
        assert cover.distances.tolist() == [6.75, 10.0]

    def test_all_rows_equal_are_chosen_once_each(self):
        cover = k_center_greedy(torch.ones(6, 3), 6, centers=torch.ones(2, 3))
        assert sorted(cover.positions.tolist()) == list(range(6))
        assert cover.distances.tolist() == [0] * 6
        assert cover.radius == 0

    def test_does_not_depend_on_the_order_of_the_rows(self):
        x, order = normal(80, 4), torch.randperm(80, generator=seeded())
        assert torch.equal(order[k_center_greedy(x[order], 30).positions], k_center_greedy(x, 30).positions)

    def test_does_not_depend_on_the_size_of_blocks(self, monkeypatch):
        x, centers = normal(90, 6, dtype=torch.float32), normal(20, 6, seed=1, dtype=torch.float32)
        whole = k_center_greedy(x, 25, centers=centers)
        monkeypatch.setattr(blocks, "ELEMENTS", 40)
        assert torch.equal(k_center_greedy(x, 25, centers=centers).positions, whole.positions)

    def test_covers_within_twice_the_optimum(self):
        x = normal(12, 2)
        table = torch.cdist(x, x)
        best = min(float(table[:, list(c)].amin(1).max()) for c in torch.combinations(torch.arange(12), 3).tolist())
        assert k_center_greedy(x, 3).radius <= 2 * best

    @pytest.mark.parametrize("n", [0, 4])
    def test_a_number_outside_the_points_is_refused(self, n):
        with pytest.raises(ValueError, match=f"{n} of 3 points were asked for"):
            k_center_greedy(torch.zeros(3, 2), n)

    def test_nan_is_refused_by_row(self):
        x = torch.zeros(4, 2)
        x[2, 0] = torch.nan
        with pytest.raises(ValueError, match="1 rows are not: 2"):
            k_center_greedy(x, 1)
