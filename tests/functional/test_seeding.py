import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from reference import centers as reference
from scipy import stats

from dal.functional import blocks
from dal.functional.k_center import k_center_greedy
from dal.functional.seeding import distances_at_selection, kmeans_plusplus
from functional.made import GRID, normal, outer, seeded


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
