import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from reference import centers as reference
from scipy import stats
from sklearn.cluster import KMeans

from dal.functional import blocks
from dal.functional.centers import distances_at_selection, k_center_greedy, kmeans, kmeans_plusplus
from dal.functional.points import OuterPoints

GRID = st.lists(st.tuples(st.integers(-2, 2), st.integers(-2, 2)), min_size=1, max_size=15)  # ties and duplicates


def normal(N: int, D: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    return torch.randn(N, D, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def outer(N: int, C: int, D: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> OuterPoints:
    return OuterPoints(normal(N, C, seed, dtype), normal(N, D, seed + 1, dtype))


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


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


class TestKMeansPlusPlus:
    @staticmethod
    def frequencies(points, n: int, runs: int, first: str) -> dict[tuple[int, ...], int]:
        generator, counts = seeded(1), {}
        for _ in range(runs):
            picks = tuple(kmeans_plusplus(points, n, generator=generator, first=first).tolist())
            counts[picks] = counts.get(picks, 0) + 1
        return counts

    @staticmethod
    def p_value(counts: dict[tuple[int, ...], int], law: dict[tuple[int, ...], float]) -> float:
        runs = sum(counts.values())
        assert set(counts) <= {picks for picks, probability in law.items() if probability > 0}
        expected = {picks: runs * p for picks, p in law.items() if p > 0}
        rare = {picks for picks, value in expected.items() if value < 5}
        cells = [(counts.get(picks, 0), value) for picks, value in expected.items() if picks not in rare]
        if rare:
            cells.append((sum(counts.get(picks, 0) for picks in rare), sum(expected[picks] for picks in rare)))
        observed, expectation = map(np.array, zip(*cells, strict=True))
        return float(stats.chisquare(observed, expectation * observed.sum() / expectation.sum()).pvalue)

    def test_every_draw_has_the_published_law(self):
        x = torch.tensor([[0.0, 0], [3, 0], [0, 1], [1, 1], [2, 2]], dtype=torch.float64)
        law = reference.seeding_law(x.numpy(), 4, first=1)
        assert sum(law.values()) == pytest.approx(1)
        assert self.p_value(self.frequencies(x, 4, 3000, "largest"), law) > 0.001

    def test_a_uniform_first_is_uniform_and_what_follows_has_the_published_law(self):
        x = torch.tensor([[0.0], [1.0], [3.0], [4.5]], dtype=torch.float64)
        law = {}
        for first in range(4):
            law |= {picks: p / 4 for picks, p in reference.seeding_law(x.numpy(), 3, first).items()}
        assert self.p_value(self.frequencies(x, 3, 3000, "uniform"), law) > 0.001

    def test_factors_have_the_law_of_their_rows(self):
        points = outer(5, 2, 3)
        first = int(points.squared_norms().argmax())
        law = reference.seeding_law(points.materialise().numpy(), 3, first)
        assert self.p_value(self.frequencies(points, 3, 3000, "largest"), law) > 0.001

    def test_duplicates_left_over_are_drawn_uniformly(self):
        x = torch.tensor([[2.0], [1.0], [1.0], [1.0], [1.0]])
        law = reference.seeding_law(x.numpy(), 3, first=0)
        assert self.p_value(self.frequencies(x, 3, 3000, "largest"), law) > 0.001

    def test_a_sampler_with_another_law_fails_the_same_test(self):
        x = torch.tensor([[0.0, 0], [3, 0], [0, 1], [1, 1], [2, 2]], dtype=torch.float64)
        law = reference.seeding_law(x.numpy(), 4, first=1)
        generator, counts = seeded(1), {}
        for _ in range(3000):  # the same exponentials for every draw, as if no time had passed
            clock = torch.empty(5, dtype=torch.float64).exponential_(generator=generator)
            picks = [1]
            while len(picks) < 4:
                gap = torch.cdist(x, x[picks]).amin(1).square()
                picks.append(int((clock / gap).argmin()))
            counts[tuple(picks)] = counts.get(tuple(picks), 0) + 1
        assert self.p_value(counts, law) < 1e-6

    @pytest.mark.parametrize("C", [2, 20, 150])
    def test_factors_give_the_same_choice_as_their_rows(self, C):
        points = outer(60, C, 5)
        factored = kmeans_plusplus(points, 40, generator=seeded())
        assert torch.equal(factored, kmeans_plusplus(points.materialise(), 40, generator=seeded()))

    @given(GRID, st.data(), st.sampled_from(["largest", "uniform"]))
    def test_chooses_distinct_points_among_ties_and_duplicates(self, rows, data, first):
        x = torch.tensor(rows, dtype=torch.float32)
        n = data.draw(st.integers(1, len(x)))
        picks = kmeans_plusplus(x, n, generator=seeded(data.draw(st.integers(0, 99))), first=first)
        assert len(set(picks.tolist())) == n
        distinct = len({tuple(row) for row in rows})
        assert len({tuple(x[i].tolist()) for i in picks}) == min(
            n, distinct
        )  # duplicates only when nothing else is left

    def test_the_first_is_the_largest_norm(self):
        x = normal(100, 3)
        assert kmeans_plusplus(x, 5, generator=seeded())[0] == x.norm(dim=1).argmax()

    def test_reduced_precision_keeps_most_of_the_choice(self):
        points = outer(3000, 4, 32, dtype=torch.float32)
        rounded = points.to(torch.bfloat16).to(torch.float32)
        exact, reduced = (set(kmeans_plusplus(p, 50, generator=seeded()).tolist()) for p in (points, rounded))
        other = set(kmeans_plusplus(points, 50, generator=seeded(1)).tolist())
        assert len(exact & reduced) >= 40
        assert len(exact & other) <= 10

    def test_distances_of_very_different_size_are_no_trouble(self):
        x = torch.tensor([[0.0], [1e-18], [1e-9], [1.0], [1e9]])
        picks = kmeans_plusplus(x, 5, generator=seeded())
        assert sorted(picks.tolist()) == list(range(5))
        assert picks[:2].tolist() == [4, 3] or len(set(picks.tolist())) == 5

    def test_the_same_seed_gives_the_same_choice_and_the_global_stream_is_not_touched(self):
        x = normal(50, 3)
        before = torch.get_rng_state()
        first, second = (kmeans_plusplus(x, 20, generator=seeded(5)) for _ in range(2))
        assert torch.equal(first, second)
        assert torch.equal(torch.get_rng_state(), before)

    def test_does_not_depend_on_the_size_of_blocks(self, monkeypatch):
        points = outer(90, 3, 6, dtype=torch.float32)
        whole = kmeans_plusplus(points, 25, generator=seeded())
        monkeypatch.setattr(blocks, "ELEMENTS", 40)
        assert torch.equal(kmeans_plusplus(points, 25, generator=seeded()), whole)

    def test_an_unknown_first_is_refused(self):
        with pytest.raises((ValueError, TypeError), match="first"):
            kmeans_plusplus(torch.zeros(2, 2), 1, generator=seeded(), first="smallest")


class TestDistancesAtSelection:
    @pytest.mark.parametrize("elements", [1, 300, 10**6])
    def test_equals_the_distance_to_the_nearest_before(self, elements, monkeypatch):
        monkeypatch.setattr(blocks, "ELEMENTS", elements)
        x = normal(40, 4)
        expected = [float(x[0].norm())] + [float((x[:t] - x[t]).norm(dim=1).min()) for t in range(1, 40)]
        np.testing.assert_allclose(distances_at_selection(x), expected)

    def test_those_of_a_k_center_choice_are_its_own(self):
        points = outer(60, 3, 4)
        cover = k_center_greedy(points, 30)
        torch.testing.assert_close(distances_at_selection(points[cover.positions])[1:], cover.distances[1:])


class TestKMeans:
    @pytest.mark.parametrize("k", [1, 4, 30])
    def test_distances_inertia_and_assignment_belong_to_the_centers(self, k):
        x = normal(200, 5)
        clusters = kmeans(x, k, generator=seeded())
        table = reference.distances(x.numpy(), clusters.centers.numpy())
        assert clusters.assignment.tolist() == table.argmin(1).tolist()
        np.testing.assert_allclose(clusters.distances, table.min(1))
        assert clusters.inertia == pytest.approx(reference.inertia(x.numpy(), clusters.centers.numpy()))

    def test_every_center_is_the_mean_of_its_cluster(self):
        x = normal(200, 5)
        clusters = kmeans(x, 6, generator=seeded(), tolerance=0.0)
        for c in range(6):
            torch.testing.assert_close(clusters.centers[c], x[clusters.assignment == c].mean(0))

    def test_finds_well_separated_clusters(self):
        middles = torch.eye(5, dtype=torch.float64) * 100
        x = middles.repeat_interleave(20, 0) + normal(100, 5)
        assignment = kmeans(x, 5, generator=seeded()).assignment.view(5, 20)
        assert torch.equal(assignment, assignment[:, :1].expand(-1, 20))
        assert len(assignment[:, 0].unique()) == 5

    def test_is_about_as_good_as_scikit_learn(self):
        x = normal(500, 6)
        ours = np.mean([kmeans(x, 10, generator=seeded(s)).inertia for s in range(5)])
        theirs = np.mean([KMeans(10, n_init=1, random_state=s).fit(x.numpy()).inertia_ for s in range(5)])
        assert ours <= 1.05 * theirs

    def test_fewer_distinct_points_than_clusters_leave_none_uncovered(self):
        x = torch.tensor([[0.0], [0.0], [1.0], [1.0], [1.0]])
        clusters = kmeans(x, 4, generator=seeded())
        assert clusters.inertia == 0
        assert clusters.centers.shape == (4, 1)

    def test_as_many_clusters_as_points_are_the_points(self):
        x = normal(20, 3)
        clusters = kmeans(x, 20, generator=seeded())
        assert clusters.inertia == pytest.approx(0, abs=1e-20)
        assert len(clusters.assignment.unique()) == 20

    def test_points_far_from_the_origin_cluster_alike(self):
        x = normal(200, 4, dtype=torch.float32)
        near, far = kmeans(x, 5, generator=seeded()), kmeans(x + 64, 5, generator=seeded())
        assert near.inertia == pytest.approx(far.inertia, rel=0.05)

    def test_does_not_depend_on_the_size_of_blocks(self, monkeypatch):
        x = normal(200, 4)
        whole = kmeans(x, 7, generator=seeded())
        monkeypatch.setattr(blocks, "ELEMENTS", 100)
        cut = kmeans(x, 7, generator=seeded())
        assert torch.equal(cut.assignment, whole.assignment)
        torch.testing.assert_close(cut.centers, whole.centers)

    def test_outer_products_are_refused(self):
        with pytest.raises((TypeError, ValueError), match=r"k-means|kmeans"):
            kmeans(outer(5, 2, 2), 2, generator=seeded())
