import math
from collections import Counter

import numpy as np
import pytest
import torch
from reference import contrast as reference
from scipy import stats

from dal.functional import blocks
from dal.functional.contrast import falcun, neighbor_divergence
from dal.outputs import log_probs
from functional.made import normal, seeded


class TestNeighborDivergence:
    @pytest.mark.parametrize("multilabel", [False, True])
    def test_is_the_mean_divergence_from_the_neighbours(self, multilabel):
        rows, others = log_probs(normal(20, 4), multilabel), log_probs(normal(6, 4, 1), multilabel)
        indices = torch.randint(6, (20, 3), generator=seeded())
        each = reference.binary_divergence if multilabel else reference.divergence
        p, q = rows.exp().numpy(), others.exp().numpy()
        expected = [np.mean([each(q[j], p[i]) for j in indices[i]]) for i in range(20)]
        np.testing.assert_allclose(neighbor_divergence(rows, others, indices, multilabel=multilabel), expected)

    def test_by_hand(self):
        sure, torn = torch.tensor([[0.9, 0.1]]).log(), torch.tensor([[0.5, 0.5]]).log()
        none = torch.zeros(1, 1, dtype=torch.int64)
        expected = 0.9 * math.log(0.9 / 0.5) + 0.1 * math.log(0.1 / 0.5)
        assert float(neighbor_divergence(torn, sure, none)) == pytest.approx(expected, rel=1e-5)

    @pytest.mark.parametrize("multilabel", [False, True])
    def test_is_finite_and_0_for_equal_predictions_of_a_saturated_model(self, multilabel):
        logits = torch.tensor([[1e4, -1e4], [-1e4, 1e4]])
        rows = log_probs(logits, multilabel)
        own, other = torch.tensor([[0], [1]]), torch.tensor([[1], [0]])
        assert not neighbor_divergence(rows, rows, own, multilabel=multilabel).any()
        apart = neighbor_divergence(rows, rows, other, multilabel=multilabel)
        assert torch.isfinite(apart).all()
        assert (apart > 50).all()

    def test_the_size_of_blocks_changes_nothing(self, monkeypatch):
        rows, indices = log_probs(normal(30, 4)), torch.randint(30, (30, 3), generator=seeded())
        whole = neighbor_divergence(rows, rows, indices)
        monkeypatch.setattr(blocks, "ELEMENTS", 20)
        assert torch.equal(neighbor_divergence(rows, rows, indices), whole)


class TestFalcun:
    def test_draws_by_the_law_as_published(self):
        probs, gamma = normal(4, 3).softmax(1), 2.0
        law = reference.falcun_law(probs.numpy(), 3, gamma)
        generator, runs = seeded(), 1000
        seen = Counter(tuple(falcun(probs, 3, gamma=gamma, generator=generator)[0].tolist()) for _ in range(runs))
        expected = np.array([runs * p for p in law.values()])
        counts = np.array([seen[picks] for picks in law])
        often = expected >= 5
        pooled = np.append(counts[often], counts[~often].sum()), np.append(expected[often], expected[~often].sum())
        kept = pooled[1] > 0
        assert not pooled[0][~kept].any()
        assert stats.chisquare(pooled[0][kept], pooled[1][kept]).pvalue > 1e-3

    def test_worth_is_uncertainty_and_distance_at_the_draw(self):
        probs = torch.tensor([[1.0, 0.0], [0.5, 0.5], [0.8, 0.2]], dtype=torch.float64)
        positions, worth = falcun(probs, 3, gamma=1e4, generator=seeded())
        assert positions.tolist() == [1, 2, 0]  # then row 0 is (0, 1): 1, and row 2 is (1, 0): 1, drawn by the clock
        assert worth.tolist() == [2.0, 1.0, 0.0]

    def test_equal_rows_are_drawn_uniformly(self):
        probs = torch.full((5, 2), 0.5)
        seen = Counter(int(falcun(probs, 1, generator=seeded(seed))[0]) for seed in range(500))
        assert stats.chisquare([seen[i] for i in range(5)]).pvalue > 1e-3

    @pytest.mark.parametrize("multilabel", [False, True])
    def test_every_row_is_drawn_once(self, multilabel):
        probs = normal(40, 3).sigmoid().repeat(2, 1)
        positions, worth = falcun(probs, 80, generator=seeded(), multilabel=multilabel)
        assert sorted(positions.tolist()) == list(range(80))
        assert torch.isfinite(worth).all()

    def test_more_rows_than_there_are_cannot_be_drawn(self):
        with pytest.raises(ValueError, match="4 of 3"):
            falcun(torch.full((3, 2), 0.5), 4, generator=seeded())
