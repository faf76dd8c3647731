import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from reference import centers as reference
from reference import seeding as slow
from scipy import stats

from dal.functional import blocks, seeding
from dal.functional.k_center import k_center_greedy
from dal.functional.points import OuterPoints
from dal.functional.seeding import distances_at_selection, kmeans_plusplus
from functional.made import GRID, normal, outer, seeded

RUNS = 400  # of the sampler itself; the slow one, which it equals, is run more often


def kinds_of_points() -> dict[str, torch.Tensor]:
    middles = 5 * normal(6, 3, 1)
    return {
        "gaussian": normal(400, 20),
        "clustered": middles[torch.arange(400) % 6] + 0.01 * normal(400, 3),
        "duplicates": normal(40, 4)[torch.arange(400) % 40],
        "grid": normal(400, 2).round(),
        "of many scales": normal(400, 3) * 10.0 ** torch.arange(-8, 8).repeat(25)[:, None],
        "far from the origin": normal(400, 3) + 1e4,
        "equal": torch.ones(400, 3, dtype=torch.float64),
        "zero": torch.zeros(400, 3, dtype=torch.float64),
    }


def clocks_of(seed: int, N: int) -> np.ndarray:
    return torch.empty(N, dtype=torch.float64).exponential_(generator=seeded(seed)).numpy()


def spied(measure, lines: list[int]):
    """The method, which leaves the number of lines that it measures in `lines`."""

    def measured(table, at):
        lines.append(len(at))
        measure(table, at)

    return measured


class TestTheRaceIsRunLazily:
    """What is chosen equals, pick for pick, a race that looks at all points at every pick."""

    @pytest.mark.parametrize("first", ["largest", "uniform"])
    @pytest.mark.parametrize("kind", kinds_of_points())
    @pytest.mark.parametrize("window", [3, 512])
    def test_as_if_all_points_were_looked_at(self, kind, first, window, monkeypatch):
        monkeypatch.setattr(seeding, "WINDOW", window)
        x = kinds_of_points()[kind]
        expected = slow.race(x.numpy(), 60, clocks_of(3, 400), first)
        assert kmeans_plusplus(x, 60, generator=seeded(3), first=first).tolist() == expected

    @pytest.mark.parametrize("pair", [0, 10**9])
    @pytest.mark.parametrize("block", [1, 7])
    def test_however_often_the_whole_pool_is_updated(self, pair, block, monkeypatch):
        monkeypatch.setattr(seeding, "PAIR", pair)
        monkeypatch.setattr(seeding, "BLOCK", block)
        monkeypatch.setattr(seeding, "WINDOW", 30)
        x = normal(500, 5) * torch.rand(500, 1, generator=seeded(), dtype=torch.float64)
        expected = slow.race(x.numpy(), 200, clocks_of(3, 500), "largest")
        assert kmeans_plusplus(x, 200, generator=seeded(3)).tolist() == expected

    @pytest.mark.parametrize("kind", kinds_of_points())
    @pytest.mark.parametrize("ahead", [1, 6])
    @pytest.mark.parametrize("block", [1, 32])
    def test_however_few_lines_of_a_window_are_measured_at_once(self, kind, ahead, block, monkeypatch):
        monkeypatch.setattr(seeding, "AHEAD", ahead)
        monkeypatch.setattr(seeding, "BLOCK", block)
        x = kinds_of_points()[kind]
        expected = slow.race(x.numpy(), 60, clocks_of(3, 400), "largest")
        assert kmeans_plusplus(x, 60, generator=seeded(3)).tolist() == expected

    def test_only_lines_that_are_wanted_are_measured(self, monkeypatch):
        measured = []
        monkeypatch.setattr(seeding._Table, "_measure", spied(seeding._Table._measure, measured))
        kmeans_plusplus(normal(5000, 20), 60, generator=seeded(3))
        assert 60 <= sum(measured) < 3 * 60 + 2 * seeding.AHEAD

    @pytest.mark.parametrize("kind", ["gaussian", "duplicates", "zero"])
    def test_until_no_point_is_left(self, kind):
        x = kinds_of_points()[kind][:120]
        expected = slow.race(x.numpy(), 120, clocks_of(3, 120), "largest")
        assert kmeans_plusplus(x, 120, generator=seeded(3)).tolist() == expected

    @pytest.mark.parametrize("C", [2, 30])
    def test_for_factors_too(self, C):
        points = outer(500, C, 6)
        points = OuterPoints(points.a.softmax(1) - points.a.sigmoid().round(), points.b)
        expected = slow.race(points.materialise().numpy(), 150, clocks_of(3, 500), "largest")
        assert kmeans_plusplus(points, 150, generator=seeded(3)).tolist() == expected

    @pytest.mark.parametrize("first", ["largest", "uniform"])
    @pytest.mark.parametrize("kind", ["gaussian", "duplicates", "equal"])
    def test_with_weights_some_of_them_zero(self, kind, first):
        x = kinds_of_points()[kind][:200]
        weights = torch.rand(200, generator=seeded(), dtype=torch.float64).sub(0.3).clamp_min(0)
        expected = slow.race(x.numpy(), 190, clocks_of(3, 200), first, weights.numpy())
        found = kmeans_plusplus(x, 190, generator=seeded(3), first=first, weights=weights)
        assert found.tolist() == expected
        assert torch.all(weights[found[:60]] > 0)


class TestKMeansPlusPlus:
    @staticmethod
    def frequencies(points, n: int, first: str, weights=None) -> dict[tuple[int, ...], int]:
        generator, counts = seeded(1), {}
        for _ in range(RUNS):
            picks = kmeans_plusplus(points, n, generator=generator, first=first, weights=weights)
            picks = tuple(picks.tolist())
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
        assert self.p_value(self.frequencies(x, 4, "largest"), law) > 0.001

    def test_a_uniform_first_is_uniform_and_what_follows_has_the_published_law(self):
        x = torch.tensor([[0.0], [1.0], [3.0], [4.5]], dtype=torch.float64)
        law = {}
        for first in range(4):
            law |= {picks: p / 4 for picks, p in reference.seeding_law(x.numpy(), 3, first).items()}
        assert self.p_value(self.frequencies(x, 3, "uniform"), law) > 0.001

    def test_factors_have_the_law_of_their_rows(self):
        points = outer(5, 2, 3)
        first = int(points.squared_norms().argmax())
        law = reference.seeding_law(points.materialise().numpy(), 3, first)
        assert self.p_value(self.frequencies(points, 3, "largest"), law) > 0.001

    def test_duplicates_left_over_are_drawn_uniformly(self):
        x = torch.tensor([[2.0], [1.0], [1.0], [1.0], [1.0]])
        law = reference.seeding_law(x.numpy(), 3, first=0)
        assert self.p_value(self.frequencies(x, 3, "largest"), law) > 0.001

    def test_the_slow_race_has_the_published_law(self):
        x = np.array([[0.0, 0], [3, 0], [0, 1], [1, 1], [2, 2]])
        clocks, counts = np.random.default_rng(0).exponential(size=(20_000, 5)), {}
        for row in clocks:
            picks = tuple(slow.race(x, 3, row, "largest"))
            counts[picks] = counts.get(picks, 0) + 1
        assert self.p_value(counts, reference.seeding_law(x, 3, first=1)) > 0.001

    def test_weights_multiply_the_squared_distances(self):
        x = torch.tensor([[0.0, 0], [3, 0], [0, 1], [1, 1]], dtype=torch.float64)
        weights = torch.tensor([4.0, 1.0, 0.5, 2.0], dtype=torch.float64)
        law = slow.law(x.numpy(), 3, weights.numpy())
        assert self.p_value(self.frequencies(x, 3, "uniform", weights), law) > 0.001

    @pytest.mark.parametrize(
        ("weights", "match"),
        [
            ([1.0, -1.0, 1.0], "not negative"),
            ([1.0, torch.nan, 1.0], "finite"),
            ([1.0, torch.inf, 1.0], "finite"),
        ],
    )
    def test_weights_that_are_none_are_refused(self, weights, match):
        with pytest.raises(ValueError, match=match):
            kmeans_plusplus(torch.eye(3), 2, generator=seeded(), weights=torch.tensor(weights))

    def test_as_many_weights_as_points_are_asked_for(self):
        with pytest.raises((ValueError, TypeError), match=r"weights|Type-check"):
            kmeans_plusplus(torch.eye(3), 2, generator=seeded(), weights=torch.ones(2))

    @pytest.mark.parametrize("n", [0, 4])
    def test_more_or_fewer_points_than_there_are_is_refused(self, n):
        with pytest.raises(ValueError, match=f"{n} of 3 points"):
            kmeans_plusplus(torch.eye(3), n, generator=seeded())

    def test_rows_that_are_not_finite_are_named(self):
        x = torch.eye(3)
        x[1, 1] = torch.nan
        with pytest.raises(ValueError, match="1 rows are not: 1"):
            kmeans_plusplus(x, 2, generator=seeded())

    def test_one_point_of_one_is_that_one(self):
        assert kmeans_plusplus(torch.zeros(1, 3), 1, generator=seeded()).tolist() == [0]
        assert kmeans_plusplus(torch.zeros(1, 3), 1, generator=seeded(), first="uniform").tolist() == [0]

    def test_near_duplicates_in_float32_are_seen_at_their_distance(self):
        x = torch.cat([normal(50, 8, dtype=torch.float32), normal(50, 8, dtype=torch.float32) * (1 + 1e-7)])
        picks = kmeans_plusplus(x, 50, generator=seeded())
        assert len(set((picks % 50).tolist())) == 50  # the other of a pair is all but never drawn

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

    @settings(deadline=None, max_examples=50)
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
