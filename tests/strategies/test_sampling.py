from collections import Counter

import pytest
import torch
from reference import drawing as reference
from scipy import stats

from dal.outputs import Outputs
from dal.strategies.sampling import LightweightCoreset
from dal.strategy import Query, choose
from dal.testing import check_strategy
from strategies.queries import of


class TestLightweightCoreset:
    def test_draws_pairs_by_the_published_law(self):
        x = torch.tensor([[0.0], [1.0], [2.0], [9.0]])
        runs, pool, generator = 800, Outputs({"embeddings": x}), torch.Generator().manual_seed(0)
        law = reference.drawing_law(reference.lightweight_law(x.numpy()), 2)
        drawn = (choose(LightweightCoreset(), Query(pool, 2, generator)).positions for _ in range(runs))
        counts = Counter(tuple(pair.tolist()) for pair in drawn)
        assert stats.chisquare([counts[p] for p in law], [runs * q for q in law.values()]).pvalue > 1e-3

    def test_the_score_says_how_many_times_likelier_than_by_chance_a_row_was(self):
        x = torch.tensor([[0.0], [0.0], [0.0], [4.0]])  # the mean is 1: squared distances 1, 1, 1 and 9
        selection = choose(LightweightCoreset(), of({"embeddings": x}, 4))
        scores = dict(zip(selection.positions.tolist(), selection.scores.tolist(), strict=True))
        assert scores == pytest.approx({0: 2 / 3, 1: 2 / 3, 2: 2 / 3, 3: 2.0})

    @pytest.mark.parametrize("space", ["embeddings", "features"])
    def test_keeps_its_contract(self, space):
        check_strategy(LightweightCoreset(space), rows=4_000)
