import pytest
import torch
from torch.nn import functional as F

from dal.errors import ConfigError
from dal.functional.herding import max_herding
from dal.functional.uncertainty import margin
from dal.outputs import Outputs
from dal.strategies.herding import FLOOR, MaxHerding, UHerding
from dal.strategy import choose
from dal.testing import check_strategy
from strategies.queries import of, query


def on_circle(degrees: list[float]) -> torch.Tensor:
    angles = torch.tensor(degrees).deg2rad()
    return torch.stack([angles.cos(), angles.sin()], 1)


class TestMaxHerding:
    def test_is_herding_from_the_labeled_rows_at_unit_length(self):
        asked = query(9)
        x, labeled = (F.normalize(part.embeddings, dim=1) for part in (asked.pool, asked.labeled))
        herd = max_herding(x, 9, centers=labeled, sigma=0.7)
        selection = choose(MaxHerding(sigma=0.7), asked)
        assert torch.equal(selection.positions, herd.positions)
        assert torch.equal(selection.scores, herd.gains)
        assert selection.notes == {"coverage": herd.coverage}

    def test_starts_in_the_middle_of_the_largest_topic(self):
        x = on_circle([0, 10, 20, 30, 40, 180, 190, 200])
        selection = choose(MaxHerding(), of({"embeddings": x}, 2))
        assert selection.positions.tolist() == [2, 6]

    def test_what_resembles_a_labeled_row_is_not_asked_for(self):
        x = on_circle([0, 10, 20, 30, 40, 180])
        asked = of({"embeddings": x}, 1, labeled={"embeddings": on_circle([20])}, labels=[0])
        assert choose(MaxHerding(), asked).positions.tolist() == [5]

    def test_some_rows_stand_for_a_large_pool_and_any_row_can_be_chosen(self):
        generator = torch.Generator().manual_seed(0)
        x = torch.eye(4).repeat_interleave(100, 0) + 0.05 * torch.randn(400, 4, generator=generator)
        chosen = set()
        for seed in range(5):
            positions = choose(MaxHerding(targets=40), of({"embeddings": x}, 4, seed=seed)).positions
            assert sorted((positions // 100).tolist()) == [0, 1, 2, 3]
            chosen |= set(positions.tolist())
        assert len(chosen) > 8

    @pytest.mark.parametrize("options", [{"sigma": 0.0}, {"sigma": float("nan")}, {"targets": 0}])
    def test_an_option_out_of_range_is_refused(self, options):
        with pytest.raises(ConfigError, match=f"{next(iter(options))} of MaxHerding"):
            MaxHerding(**options)

    @pytest.mark.parametrize("strategy", [MaxHerding(), MaxHerding(targets=20, sigma=0.3)], ids=str)
    def test_keeps_its_contract(self, strategy):
        check_strategy(strategy, rows=4_000)


class TestUHerding:
    def test_is_herding_weighted_by_one_minus_the_margin(self):
        asked = query(9)
        x, labeled = (F.normalize(part.embeddings, dim=1) for part in (asked.pool, asked.labeled))
        sigma = float(torch.pdist(labeled).min())
        herd = max_herding(x, 9, centers=labeled, sigma=sigma, weights=1 - margin(asked.pool.probs))
        selection = choose(UHerding(), asked)
        assert torch.equal(selection.positions, herd.positions)
        torch.testing.assert_close(selection.scores, herd.gains, rtol=1e-4, atol=1e-6)
        assert selection.notes["sigma"] == pytest.approx(sigma)
        assert selection.notes["coverage"] == pytest.approx(herd.coverage, rel=1e-4)

    def test_weighs_by_the_mean_binary_margin_when_multilabel(self):
        asked = query(9, multilabel=True)
        x, labeled = (F.normalize(part.embeddings, dim=1) for part in (asked.pool, asked.labeled))
        weights = 1 - margin(asked.pool.probs, multilabel=True)
        herd = max_herding(x, 9, centers=labeled, sigma=0.5, weights=weights)
        assert torch.equal(choose(UHerding(sigma=0.5), asked).positions, herd.positions)

    def test_many_labels_make_it_plain_uncertainty(self):
        selection = choose(UHerding(sigma=1e-3), query(60))
        asked = query(60)
        assert selection.positions.tolist() == margin(asked.pool.probs).argsort().tolist()

    def test_duplicate_labels_do_not_shrink_the_bandwidth(self):
        x = {"embeddings": on_circle([0, 0.1, 60, 60, 150]), "logits": torch.zeros(5, 3)}
        pool = {"embeddings": on_circle([200, 300]), "logits": torch.zeros(2, 3)}
        sigma = choose(UHerding(), of(pool, 1, labeled=x, labels=[0, 0, 1, 1, 2])).notes["sigma"]
        assert sigma == pytest.approx(2 * torch.tensor(59.9 / 2).deg2rad().sin().item(), rel=1e-4)

    @pytest.mark.parametrize("labels", [0, 1, 3])
    def test_the_bandwidth_is_one_while_no_two_labels_differ(self, labels):
        pool = {"embeddings": on_circle([200, 300]), "logits": torch.zeros(2, 3)}
        labeled = {"embeddings": on_circle([0] * labels)}
        asked = of(pool, 1, labeled=labeled, labels=[0] * labels)
        assert choose(UHerding(), asked).notes["sigma"] == 1

    def test_a_high_temperature_makes_it_plain_herding(self):
        hot = choose(UHerding(sigma=1.0, temperature=1e6), query(12))
        assert torch.equal(hot.positions, choose(MaxHerding(), query(12)).positions)

    def test_a_model_that_is_sure_of_everything_leaves_plain_herding(self):
        asked, again = query(12), query(12)
        sure = Outputs({"logits": asked.pool.logits * 1e4, "embeddings": asked.pool.embeddings})
        selection = choose(UHerding(sigma=1.0), type(asked)(sure, 12, asked.generator, asked.labeled))
        plain = choose(MaxHerding(), again)
        assert torch.equal(selection.positions, plain.positions)
        torch.testing.assert_close(selection.scores, FLOOR * plain.scores, rtol=1e-3, atol=1e-12)

    @pytest.mark.parametrize("options", [{"sigma": 0.0}, {"temperature": 0.0}, {"targets": 0}])
    def test_an_option_out_of_range_is_refused(self, options):
        with pytest.raises(ConfigError, match=f"{next(iter(options))} of UHerding"):
            UHerding(**options)

    @pytest.mark.parametrize("strategy", [UHerding(), UHerding(sigma=0.5, temperature=3.0)], ids=str)
    def test_keeps_its_contract(self, strategy):
        check_strategy(strategy, rows=4_000)
