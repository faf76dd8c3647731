import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from reference import centers as reference
from reference import k_center as brute_force

from dal.functional import blocks, farthest
from dal.functional.k_center import Bounds, k_center_greedy
from dal.functional.points import OuterPoints
from functional.made import GRID, normal, outer, seeded


def gaussian(N: int, D: int) -> torch.Tensor:
    return torch.randn(N, D, generator=seeded())


def clustered(N: int, D: int, spread: float = 0.3) -> torch.Tensor:
    middles = 3 * torch.randn(30, D, generator=seeded(1))
    return middles[torch.randint(30, (N,), generator=seeded(2))] + spread * gaussian(N, D)


def duplicated(N: int, D: int) -> torch.Tensor:
    return gaussian(max(1, N // 5), D)[torch.randint(max(1, N // 5), (N,), generator=seeded(3))]


def grid(N: int, D: int) -> torch.Tensor:
    return torch.randint(-2, 3, (N, D), generator=seeded(4)).float()


MADE = {
    "gaussian": gaussian,
    "clustered": clustered,
    "duplicated": duplicated,
    "grid": grid,
    "tight clusters": lambda N, D: 10 * clustered(N, D, 1e-4),
    "far from the origin": lambda N, D: gaussian(N, D) + 100,
    "outliers": lambda N, D: gaussian(N, D) * torch.where(torch.arange(N) % 200 == 7, 1e4, 1.0)[:, None],
    "none negative": lambda N, D: gaussian(N, D).relu(),
    "all equal": lambda N, D: gaussian(1, D).repeat(N, 1),
}


def assert_exact(x: torch.Tensor, n: int, centers: torch.Tensor | None, **options: object) -> None:
    cover = k_center_greedy(x, n, centers=centers, **options)
    picks, distances, radius = brute_force.k_center(x.numpy(), n, None if centers is None else centers.numpy())
    assert cover.positions.tolist() == picks
    np.testing.assert_allclose(cover.distances, distances, rtol=1e-6)
    assert cover.radius == pytest.approx(radius, rel=1e-12)


@pytest.fixture
def threads():
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


class TestEqualsBruteForceInFloat64:
    @pytest.mark.parametrize("kind", MADE)
    @pytest.mark.parametrize(("L", "window"), [(0, 64), (0, 4096), (1, None), (60, 64), (60, 512), (60, 4096)])
    def test_whatever_the_data_and_the_window(self, kind, L, window):
        x = MADE[kind](500, 12)
        assert_exact(x[L:], 60, x[:L], window=window)

    @pytest.mark.parametrize("kind", MADE)
    @pytest.mark.parametrize("L", [0, 60])
    def test_in_many_dimensions(self, kind, L):
        x = MADE[kind](300, 300)
        assert_exact(x[L:], 40, x[:L])

    @pytest.mark.parametrize("kind", MADE)
    def test_on_float64(self, kind):
        x = MADE[kind](300, 12).double()
        x = x if kind == "grid" else x / 3  # thirds are rounded, and no longer as far as each other
        assert_exact(x[40:], 40, x[:40])

    @pytest.mark.parametrize("chunk", [1, 256, 10**6])
    @pytest.mark.parametrize("kind", ["gaussian", "duplicated"])
    def test_whatever_the_chunk(self, kind, chunk):
        x = MADE[kind](600, 12)
        assert_exact(x[40:], 50, x[:40], chunk=chunk)

    @pytest.mark.parametrize("count", [1, 2])
    def test_on_one_and_on_two_threads(self, count, threads):
        threads(count)
        x = clustered(900, 12)
        assert_exact(x[60:], 120, x[:60])
        assert torch.get_num_threads() == count

    @pytest.mark.parametrize("kind", MADE)
    def test_when_only_some_centers_are_searched_for_every_point(self, kind):
        x = MADE[kind](9000, 6)
        assert_exact(x[200:], 40, x[:200])

    def test_when_more_are_equally_far_than_are_compared_at_once(self, monkeypatch):
        monkeypatch.setattr(farthest, "TIED", 50)
        x = torch.eye(40)[torch.randint(40, (600,), generator=seeded())]
        assert_exact(x, 50, torch.zeros(1, 40), window=16)

    def test_when_all_points_are_chosen(self):
        x = duplicated(150, 4)
        assert_exact(x, 150, x[:3])

    @pytest.mark.parametrize("window", [1, 2, 7])
    def test_with_tiny_windows(self, window):
        x = grid(100, 3)
        assert_exact(x, 40, x[:2], window=window)

    @pytest.mark.parametrize("C", [2, 30])
    @pytest.mark.parametrize("L", [0, 1, 40])
    def test_on_factors(self, C, L):
        x = outer(700, C, 9, dtype=torch.float32)
        x = OuterPoints(torch.where(x.a.abs() > 1, x.a, 0), x.b)  # some are at the origin, as sure rows of BADGE are
        cover = k_center_greedy(x[L:], 60, centers=x[:L])
        rows = x.to(torch.float64).materialise().numpy()
        picks, distances, radius = brute_force.k_center(rows[L:], 60, rows[:L])
        assert cover.positions.tolist() == picks
        np.testing.assert_allclose(cover.distances, distances, rtol=1e-6)
        assert cover.radius == pytest.approx(radius, rel=1e-12)

    def test_on_factors_with_ties_and_duplicates(self):
        x = OuterPoints(grid(400, 2), grid(400, 3))
        cover = k_center_greedy(x[20:], 40, centers=x[:20])
        rows = x.materialise().numpy()
        assert cover.positions.tolist() == brute_force.k_center(rows[20:], 40, rows[:20])[0]

    def test_with_centers_in_another_precision(self):
        x, centers = gaussian(300, 5), normal(20, 5)
        cover = k_center_greedy(x, 40, centers=centers)
        assert cover.positions.tolist() == brute_force.k_center(x.numpy(), 40, centers.numpy())[0]


class TestBounds:
    @pytest.mark.parametrize("kind", MADE)
    def test_of_a_cover_are_never_below_the_true_distances(self, kind):
        x = MADE[kind](600, 20)
        cover = k_center_greedy(x[50:], 40, centers=x[:50])
        reached = torch.cat([x[:50], x[50:][cover.positions]])
        assert (cover.bounds.numpy() >= brute_force.squared_gaps(x[50:].numpy(), reached.numpy()) * (1 - 1e-14)).all()

    @pytest.mark.parametrize("kind", MADE)
    def test_carry_over_to_the_next_round_and_change_no_choice(self, kind):
        x = MADE[kind](400, 10)
        pool, centers = x[50:], x[:50]
        earlier = k_center_greedy(pool, 40, centers=centers)
        left = torch.ones(len(pool), dtype=torch.bool)
        left[earlier.positions] = False
        left[5:8] = False  # labeled by someone, and so not accounted for
        centers = torch.cat([pool[5:8], centers, pool[earlier.positions]])
        bounds = Bounds(earlier.bounds[left], torch.arange(len(centers)) < 3)
        assert_exact(pool[left], 30, centers, bounds=bounds)

    @pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
    def test_that_know_nothing_change_no_choice(self, dtype):
        x = clustered(500, 8)
        unknown = Bounds(torch.full((460,), torch.inf, dtype=dtype), torch.zeros(40, dtype=torch.bool))
        assert_exact(x[40:], 60, x[:40], bounds=unknown)

    def test_rounded_to_float32_change_no_choice(self):
        x = clustered(500, 8)
        true = torch.from_numpy(brute_force.squared_gaps(x[40:].numpy(), x[:40].numpy())).float()
        assert_exact(x[40:], 60, x[:40], bounds=Bounds(true, torch.zeros(40, dtype=torch.bool)))

    @pytest.mark.parametrize(("N", "L", "centers"), [(9, 3, 3), (10, 2, 3), (10, 0, 0)])
    def test_of_other_points_or_centers_are_refused(self, N, L, centers):
        bounds = Bounds(torch.ones(N), torch.zeros(L, dtype=torch.bool))
        with pytest.raises(ValueError, match="do not fit 10 points"):
            k_center_greedy(gaussian(10, 2), 2, centers=gaussian(centers, 2), bounds=bounds)

    @pytest.mark.parametrize("bad", [-1.0, torch.nan])
    def test_that_cannot_be_are_refused(self, bad):
        bounds = Bounds(torch.full((10,), bad), torch.zeros(3, dtype=torch.bool))
        with pytest.raises(ValueError, match="none may be negative or NaN"):
            k_center_greedy(gaussian(10, 2), 2, centers=gaussian(3, 2), bounds=bounds)

    def test_do_not_hide_a_row_that_is_not_finite(self):
        x = gaussian(10, 2)
        x[4] = torch.nan
        bounds = Bounds(torch.ones(10), torch.zeros(3, dtype=torch.bool))
        with pytest.raises(ValueError, match="1 rows are not: 4"):
            k_center_greedy(x, 2, centers=gaussian(3, 2), bounds=bounds)


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

    @settings(deadline=None)
    @given(GRID, st.data())
    def test_chooses_distinct_points_by_falling_distance_among_ties_and_duplicates(self, rows, data):
        x = torch.tensor(rows, dtype=torch.float32)
        n = data.draw(st.integers(1, len(x)))
        L = data.draw(st.integers(0, 3))
        cover = k_center_greedy(x, n, centers=x[:L])
        assert len(set(cover.positions.tolist())) == n
        later = cover.distances if L else cover.distances[1:]
        assert torch.all(later.diff() <= 0)
        last = float(cover.distances[-1]) * (1 + 1e-7)  # a float32, where the radius is the float64 value
        assert n == len(x) or cover.radius <= last or n == 1

    @settings(max_examples=40, deadline=None)
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

    @pytest.mark.parametrize("L", [0, 2, 30])
    @pytest.mark.parametrize("bad", [torch.nan, torch.inf, 1e30])
    def test_rows_that_are_not_finite_are_refused_whatever_the_centers(self, L, bad):
        x = gaussian(400, 3)
        x[7, 1] = bad
        with pytest.raises(ValueError, match="1 rows are not: 7"):
            k_center_greedy(x, 5, centers=gaussian(L, 3))

    @pytest.mark.parametrize("options", [{"window": 0}, {"chunk": 0}])
    def test_windows_and_chunks_of_nothing_are_refused(self, options):
        with pytest.raises(ValueError, match="at least 1"):
            k_center_greedy(gaussian(5, 2), 2, **options)

    def test_points_with_a_gradient_are_read_without_one(self):
        cover = k_center_greedy(gaussian(20, 3).requires_grad_(), 4)
        assert not cover.distances.requires_grad

    def test_does_not_change_what_it_is_given(self):
        x, centers = gaussian(300, 4), gaussian(20, 4) + 50
        before, known = x.clone(), Bounds(torch.full((300,), 1e6), torch.zeros(20, dtype=torch.bool))
        k_center_greedy(x, 30, centers=centers, bounds=known)
        assert torch.equal(x, before)
        assert torch.equal(centers, gaussian(20, 4) + 50)
        assert torch.equal(known.squared, torch.full((300,), 1e6))
