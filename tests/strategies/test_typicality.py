import pytest
import torch
from torch.nn import functional as F

from dal.errors import ConfigError
from dal.functional.typical import typicality
from dal.strategies import typicality as module
from dal.strategies.typicality import TypiClust
from dal.strategy import choose
from dal.testing import check_strategy
from strategies.queries import of, query


def topics(sizes: list[int], spread: float = 0.05) -> torch.Tensor:
    """So many rows about each of so many orthogonal directions, topic after topic."""
    generator = torch.Generator().manual_seed(0)
    middles = torch.eye(len(sizes)).repeat_interleave(torch.tensor(sizes), 0)
    return middles + spread * torch.randn(len(middles), len(sizes), generator=generator)


class TestTypiClust:
    def test_takes_the_most_typical_row_of_each_cluster_largest_first(self):
        x = topics([20, 40, 30])
        selection = choose(TypiClust(), of({"embeddings": x}, 3))
        expected, scores = [], []
        for start, stop in ((20, 60), (60, 90), (0, 20)):
            typical = typicality(F.normalize(x[start:stop], dim=1), 20)
            expected.append(start + int(typical.argmax()))
            scores.append(float(typical.max()))
        assert selection.positions.tolist() == expected
        assert selection.scores.tolist() == pytest.approx(scores)
        assert selection.notes == {"clusters": 3}

    def test_a_cluster_with_a_labeled_row_waits_until_the_others_had_their_turn(self):
        x = topics([40, 30, 20])
        asked = of({"embeddings": x[1:]}, 2, labeled={"embeddings": x[:1]}, labels=[0])
        positions = choose(TypiClust(), asked).positions + 1
        assert positions.tolist()[0] in range(40, 70)
        assert positions.tolist()[1] in range(70, 90)

    def test_labeled_rows_count_as_neighbours_but_are_not_chosen(self):
        x = F.normalize(torch.tensor([[1.0, 0.0], [1.0, 0.02], [1.0, 0.4]]), dim=1)
        asked = of({"embeddings": x[1:]}, 1, labeled={"embeddings": x[:1]}, labels=[0])
        chosen = choose(TypiClust(max_clusters=1, neighbors=1), asked)
        assert chosen.positions.tolist() == [0]
        assert chosen.scores.item() == pytest.approx(1 / (0.02 + 1e-5), rel=1e-3)

    def test_more_rows_than_clusters_go_round_the_clusters(self):
        x = topics([20, 10])
        positions = choose(TypiClust(max_clusters=2), of({"embeddings": x}, 7)).positions
        assert (positions < 20).tolist() == [True, False] * 3 + [True]

    def test_small_clusters_wait_until_the_others_are_used_up(self):
        x = topics([6, 3])
        positions = choose(TypiClust(max_clusters=2), of({"embeddings": x}, 9)).positions
        assert sorted(positions[:6].tolist()) == [0, 1, 2, 3, 4, 5]
        positions = choose(TypiClust(max_clusters=2, min_size=3), of({"embeddings": x}, 9)).positions
        assert positions[1].item() in (6, 7, 8)

    def test_rows_are_compared_by_direction_not_length(self):
        x = topics([20, 10, 15])
        stretched = x * torch.linspace(1, 9, 45)[:, None]
        plain = choose(TypiClust(), of({"embeddings": x}, 3)).positions
        assert torch.equal(choose(TypiClust(), of({"embeddings": stretched}, 3)).positions, plain)

    def test_a_large_pool_is_clustered_by_some_of_its_rows(self, monkeypatch):
        monkeypatch.setattr(module, "CLUSTERED", 100)
        monkeypatch.setattr(module, "AMONG", 50)
        x = topics([200, 100, 150])
        found = {
            int(p) for seed in range(3) for p in choose(TypiClust(), of({"embeddings": x}, 3, seed=seed)).positions
        }
        assert {sum(p >= edge for edge in (200, 300)) for p in found} == {0, 1, 2}

    def test_every_row_of_a_large_cluster_can_be_chosen(self, monkeypatch):
        monkeypatch.setattr(module, "AMONG", 5)
        assert len(choose(TypiClust(max_clusters=2), query(60)).positions) == 60

    @pytest.mark.parametrize("option", ["neighbors", "max_clusters", "min_size"])
    def test_an_option_below_one_is_refused(self, option):
        with pytest.raises(ConfigError, match=f"{option} of TypiClust"):
            TypiClust(**{option: 0})

    def test_keeps_its_contract(self):
        check_strategy(TypiClust(), rows=4_000)
