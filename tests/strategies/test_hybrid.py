import numpy as np
import pytest
import torch
from reference import hierarchy as reference

from dal.errors import ConfigError
from dal.functional import entropy, margin
from dal.strategies.hybrid import CLUE, ClusterMargin, DropQuery, InformationDensity
from dal.strategy import choose
from dal.testing import check_strategy
from strategies.queries import of, query


class TestClusterMargin:
    def test_takes_turns_among_clusters_of_the_rows_of_smallest_margin(self):
        asked = query(6)
        margins = margin(asked.pool.probs)
        unsure = margins.argsort()[:30]
        clusters = reference.average_linkage(asked.pool.features[unsure].double().numpy(), 6)
        numbers = [next(c for c, members in enumerate(clusters) if i in members) for i in range(30)]
        expected = unsure[reference.round_robin(numbers, 6)]
        selection = choose(ClusterMargin(factor=5.0), asked)
        assert selection.positions.tolist() == expected.tolist()
        torch.testing.assert_close(selection.scores, -margins[expected])

    def test_copies_of_the_least_sure_row_do_not_fill_the_batch(self):
        logits = torch.tensor([[0.01, 0.0]] * 30 + [[0.5, 0.0]] * 3)
        features = torch.cat([torch.zeros(30, 2), torch.tensor([[9.0, 0.0], [0.0, 9.0], [9.0, 9.0]])])
        positions = choose(ClusterMargin(), of({"logits": logits, "features": features}, 4)).positions
        assert sorted(positions.tolist())[1:] == [30, 31, 32]

    def test_one_cluster_is_plain_margin(self):
        asked = query(8)
        picks = choose(ClusterMargin(clusters=1), asked).positions
        assert picks.tolist() == margin(asked.pool.probs).argsort()[:8].tolist()

    def test_works_in_the_chosen_space(self):
        assert ClusterMargin(space="embeddings").needs == {"probs", "embeddings"}


class TestCLUE:
    def test_unsure_rows_draw_the_centers_to_them(self):
        generator = torch.Generator().manual_seed(0)
        features = (
            torch.randn(60, 2, generator=generator) + 20 * torch.tensor([[1.0, 0.0]]) * (torch.arange(60) > 29)[:, None]
        )
        logits = torch.tensor([[30.0, 0.0]]).repeat(60, 1)
        logits[5], logits[35] = torch.zeros(2), torch.zeros(2)
        positions = choose(CLUE(), of({"logits": logits, "features": features}, 2)).positions
        assert sorted(positions.tolist()) == [5, 35]

    def test_a_high_temperature_makes_all_rows_weigh_the_same(self):
        x = torch.tensor([[0.0], [1.0], [2.0], [10.0], [11.0], [12.0]])
        logits = torch.tensor([[9.0, 0.0], [9.0, 0.0], [0.0, 0.0]] * 2)
        positions = choose(CLUE(temperature=1e6), of({"logits": logits, "features": x}, 2)).positions
        assert sorted(positions.tolist()) == [1, 4]

    def test_a_model_that_is_sure_of_everything_weighs_all_rows_the_same(self):
        x = torch.tensor([[0.0], [1.0], [2.0], [10.0], [11.0], [12.0]])
        logits = torch.tensor([[1e4, 0.0]]).repeat(6, 1)
        positions = choose(CLUE(), of({"logits": logits, "features": x}, 2)).positions
        assert sorted(positions.tolist()) == [1, 4]


class TestDropQuery:
    def made(self, n, shares, features=None):
        """Rows predicted as class 0, of which `shares` of ten samples say so."""
        shares = torch.tensor(shares)
        mc_logits = torch.where(torch.arange(10)[None] < (10 * shares[:, None]).round(), 1.0, -1.0)
        x = torch.arange(len(shares)).float()[:, None] if features is None else features
        held = {"logits": torch.tensor([[1.0, 0.0]]).repeat(len(shares), 1), "features": x}
        return of({**held, "mc_logits": torch.stack([mc_logits, -mc_logits], -1)}, n)

    def test_takes_the_central_rows_of_those_that_half_of_the_samples_contradict(self):
        x = torch.tensor([[0.0], [1.0], [2.0], [10.0], [11.0], [12.0], [100.0]])
        selection = choose(DropQuery(), self.made(2, [0.5, 0.5, 0.3, 0.0, 0.4, 0.2, 0.6], x))
        assert sorted(selection.positions.tolist()) == [1, 4]
        assert selection.notes["candidates"] == 6

    def test_too_few_candidates_are_filled_by_the_rows_that_most_samples_contradict(self):
        selection = choose(DropQuery(), self.made(3, [0.9, 0.4, 0.7, 1.0, 0.6]))
        assert selection.positions.tolist() == [1, 4, 2]
        torch.testing.assert_close(selection.scores, torch.tensor([0.6, 0.4, 0.3]))

    def test_a_consistent_model_leaves_a_random_choice(self):
        picks = set()
        for seed in range(5):
            asked = self.made(2, [1.0] * 20)
            asked.generator.manual_seed(seed)
            picks.add(tuple(choose(DropQuery(), asked).positions.tolist()))
        assert len(picks) > 1


class TestInformationDensity:
    @pytest.mark.parametrize("beta", [0.0, 1.0, 2.5])
    def test_is_entropy_times_a_power_of_the_mean_similarity(self, beta):
        asked = query(1)
        similar = np.clip(reference.mean_similarity(asked.pool.features.double().numpy()), 0, None)
        expected = entropy(asked.pool.probs).double().numpy() * similar**beta
        np.testing.assert_allclose(InformationDensity(beta=beta).score(asked), expected, rtol=1e-4, atol=1e-6)

    def test_an_outlier_yields_to_an_equally_unsure_row_among_many(self):
        features = torch.cat([torch.tensor([[1.0, 0.0]]).repeat(20, 1), torch.tensor([[0.0, 1.0]])])
        logits = torch.tensor([[9.0, 0.0]]).repeat(21, 1)
        logits[3], logits[20] = torch.zeros(2), torch.zeros(2)
        assert choose(InformationDensity(), of({"logits": logits, "features": features}, 1)).positions.tolist() == [3]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ClusterMargin(factor=0.5), "factor of ClusterMargin must be at least 1, not 0.5"),
        (lambda: ClusterMargin(clusters=0), "clusters of ClusterMargin must be at least 1, not 0"),
        (lambda: CLUE(temperature=0.0), "temperature of CLUE must be from 1e-16 to"),
        (lambda: DropQuery(threshold=0.0), "threshold of DropQuery must be above 0 and at most 1, not 0.0"),
        (lambda: InformationDensity(beta=-1.0), "beta of InformationDensity must be 0 or more, not -1.0"),
    ],
)
def test_senseless_options_are_refused(make, message):
    with pytest.raises(ConfigError, match=message):
        make()


@pytest.mark.parametrize(
    "strategy",
    [
        ClusterMargin(),
        ClusterMargin(factor=2.0, clusters=3, space="embeddings"),
        CLUE(),
        CLUE(temperature=0.1),
        DropQuery(),
        DropQuery(threshold=0.1),
        InformationDensity(),
        InformationDensity(beta=2.0, space="embeddings"),
    ],
    ids=str,
)
def test_keeps_the_contract(strategy):
    check_strategy(strategy, rows=5_000)
