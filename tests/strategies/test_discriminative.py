import pytest
import torch

from dal.errors import ConfigError
from dal.functional.logistic import separate
from dal.strategies.discriminative import Discriminative
from dal.strategy import choose
from dal.testing import check_strategy
from strategies.queries import of, query


class TestDiscriminative:
    def test_one_part_is_the_rows_surest_to_be_unlabeled(self):
        asked = query(8)
        x = asked.pool.features
        mean = x.mean(0)
        scale = (x - mean).square().sum(1).mean().sqrt()
        view, known = (x - mean) / scale, (asked.labeled.features - mean) / scale
        plane = separate(known, view)
        z = view.double() @ plane.weight + plane.bias
        selection = choose(Discriminative(sub_batches=1), asked)
        assert torch.equal(selection.positions, z.argsort(descending=True)[:8])
        torch.testing.assert_close(selection.scores, z.sort(descending=True).values[:8].sigmoid().float())

    def test_what_does_not_look_labeled_is_asked_for(self):
        pool = torch.tensor([[0.0, 0], [0.1, 0], [0, 0.1], [5, 5]])
        asked = of({"features": pool}, 1, labeled={"features": torch.tensor([[0.0, 0.05]])}, labels=[0])
        assert choose(Discriminative(), asked).positions.tolist() == [3]

    def test_parts_keep_a_batch_from_going_to_one_place(self):
        generator = torch.Generator().manual_seed(0)
        sides = torch.tensor([[6.0, 0], [0, 5.5]]).repeat_interleave(20, 0)
        pool = torch.cat([torch.zeros(60, 2), sides]) + 0.1 * torch.randn(100, 2, generator=generator)
        labeled = {"features": torch.zeros(3, 2)}
        once, often = (
            choose(Discriminative(sub_batches=parts), of({"features": pool}, 8, labeled=labeled, labels=[0, 0, 0]))
            for parts in (1, 8)
        )
        assert set((once.positions >= 80).tolist()) == {False}
        assert 2 <= int((often.positions >= 80).sum()) <= 6

    def test_starts_at_the_row_nearest_the_mean_when_nothing_is_labeled(self):
        x = torch.tensor([[0.0], [4.0], [5.0], [12.0]])
        selection = choose(Discriminative(), of({"features": x}, 2))
        assert selection.positions.tolist() == [2, 3]
        assert selection.scores[0] == 1
        assert 0.5 < float(selection.scores[1]) < 1

    def test_does_not_depend_on_scale_and_place(self):
        x, labeled = query(9).pool.features, query(9).labeled.features
        picks = [
            choose(
                Discriminative(), of({"features": x * a + b}, 9, labeled={"features": labeled * a + b}, labels=[0] * 10)
            ).positions
            for a, b in ((1.0, 0.0), (1024.0, 0.0), (1.0, 8.0))
        ]
        assert torch.equal(picks[0], picks[1])
        assert torch.equal(picks[0], picks[2])

    def test_learns_on_some_rows_of_a_large_pool(self):
        generator = torch.Generator().manual_seed(0)
        pool = torch.cat([torch.randn(300, 3, generator=generator), 8 + torch.randn(60, 3, generator=generator)])
        labeled = {"features": torch.randn(50, 3, generator=generator)}
        asked = of({"features": pool}, 5, labeled=labeled, labels=[0] * 50)
        assert torch.all(choose(Discriminative(sample=40, sub_batches=2), asked).positions >= 300)

    @pytest.mark.parametrize(
        "options", [{"sub_batches": 0}, {"sample": 0}, {"penalty": 0.0}, {"penalty": float("inf")}]
    )
    def test_an_option_out_of_range_is_refused(self, options):
        with pytest.raises(ConfigError, match=f"{next(iter(options))} of Discriminative"):
            Discriminative(**options)

    @pytest.mark.parametrize("strategy", [Discriminative(), Discriminative(space="embeddings", sample=10)], ids=str)
    def test_keeps_its_contract(self, strategy):
        check_strategy(strategy, rows=4_000)
