from collections import Counter

import numpy as np
import pytest
import torch
from reference import drawing as reference
from scipy import stats

from dal.functional.drawing import draw_without_replacement, lightweight_coreset_distribution, some_rows, spread_rows
from functional.made import normal, seeded


class TestSomeRows:
    def test_are_all_in_order_where_they_are_few_and_nothing_is_drawn(self):
        generator = seeded()
        before = generator.get_state()
        assert some_rows(4, 4, generator=generator).tolist() == [0, 1, 2, 3]
        assert torch.equal(generator.get_state(), before)

    def test_are_distinct_and_as_many_as_allowed(self):
        rows = some_rows(50, 20, generator=seeded())
        assert len(rows.unique()) == 20
        assert int(rows.max()) < 50
        assert not torch.equal(rows, some_rows(50, 20, generator=seeded(1)))


class TestDrawWithoutReplacement:
    def test_ordered_pairs_have_the_law_of_drawing_one_after_the_other(self):
        weights, runs, generator = [4.0, 1.0, 2.0, 0.5], 4000, seeded()
        law = reference.drawing_law(weights, 2)
        drawn = (draw_without_replacement(torch.tensor(weights), 2, generator=generator) for _ in range(runs))
        counts = Counter(tuple(pair.tolist()) for pair in drawn)
        assert set(counts) <= set(law)
        assert stats.chisquare([counts[p] for p in law], [runs * q for q in law.values()]).pvalue > 1e-3

    def test_rows_of_no_weight_come_last(self):
        weights = torch.tensor([0.0, 1.0, 0.0, 2.0, 0.0])
        lasts = {draw_without_replacement(weights, 5, generator=seeded(s))[-1].item() for s in range(30)}
        firsts = draw_without_replacement(weights, 5, generator=seeded())[:2]
        assert sorted(firsts.tolist()) == [1, 3]
        assert lasts == {0, 2, 4}

    def test_no_weight_at_all_is_a_draw_by_chance(self):
        drawn = {draw_without_replacement(torch.zeros(3), 1, generator=seeded(s)).item() for s in range(30)}
        assert drawn == {0, 1, 2}

    @pytest.mark.parametrize("n", [0, 3])
    def test_a_number_outside_the_rows_is_refused(self, n):
        with pytest.raises(ValueError, match=f"{n} of 2 rows"):
            draw_without_replacement(torch.ones(2), n, generator=seeded())

    @pytest.mark.parametrize("weight", [-1.0, float("nan"), float("inf")])
    def test_weights_that_are_none_are_refused(self, weight):
        with pytest.raises(ValueError, match="weights"):
            draw_without_replacement(torch.tensor([1.0, weight]), 1, generator=seeded())


class TestLightweightLaw:
    def test_equals_the_slow_reference(self):
        x = normal(40, 5)
        np.testing.assert_allclose(lightweight_coreset_distribution(x), reference.lightweight_law(x.numpy()))

    def test_is_uniform_where_all_points_are_equal(self):
        assert lightweight_coreset_distribution(torch.ones(4, 2)).tolist() == [0.25] * 4

    def test_adds_up_to_one_and_spares_no_point(self):
        law = lightweight_coreset_distribution(normal(200, 3, dtype=torch.float32))
        assert float(law.sum()) == pytest.approx(1)
        assert float(law.min()) >= 0.5 / 200


def test_spread_rows_reach_from_the_first_to_the_last():
    assert spread_rows(5, 3).tolist() == [0, 2, 4]
    assert spread_rows(3, 5).tolist() == [0, 1, 2]
    assert spread_rows(0, 5).tolist() == []
