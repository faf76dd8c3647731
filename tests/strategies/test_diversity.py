import pytest
import torch

from dal.functional import k_center_greedy
from dal.strategies import ClusterCenters, CoreSet
from dal.strategy import choose
from strategies.queries import of, query


class TestCoreSet:
    def test_is_greedy_k_center_from_the_labeled_rows(self):
        asked = query(12)
        cover = k_center_greedy(asked.pool.features, 12, centers=asked.labeled.features)
        selection = choose(CoreSet(), asked)
        assert torch.equal(selection.positions, cover.positions)
        assert torch.equal(selection.scores, cover.distances)
        assert selection.notes == {"radius": cover.radius}

    def test_starts_at_the_row_farthest_from_the_mean_when_nothing_is_labeled(self):
        x = torch.tensor([[0.0], [1.0], [2.0], [10.0]])
        assert choose(CoreSet(), of({"features": x}, 1)).positions.tolist() == [3]

    def test_does_not_choose_what_is_labeled_already(self):
        x = torch.tensor([[0.0, 0], [9, 9], [5, 5]])
        asked = of({"features": x}, 1, labeled={"features": torch.tensor([[9.0, 9], [0, 0]])}, labels=[0, 1])
        assert choose(CoreSet(), asked).positions.tolist() == [2]

    def test_space_names_what_is_read_from_pool_and_labeled_rows(self):
        assert CoreSet("embeddings").needs == CoreSet("embeddings").labeled_needs == {"embeddings"}
        asked = query(12)
        expected = k_center_greedy(asked.pool.embeddings, 12, centers=asked.labeled.embeddings)
        assert torch.equal(choose(CoreSet("embeddings"), asked).positions, expected.positions)


class TestClusterCenters:
    def test_takes_one_row_from_each_cluster_the_one_nearest_its_center(self):
        angles = torch.tensor([0.00, 0.10, 0.21, 2.00, 2.10, 2.20, 2.31, 4.0, 4.1])
        x = torch.stack([angles.cos(), angles.sin()], 1) * torch.linspace(1, 5, 9)[:, None]
        selection = choose(ClusterCenters(), of({"embeddings": x}, 3))
        assert selection.positions.tolist()[:2] == [5, 1]  # the middle ones; the largest cluster comes first
        assert selection.positions.tolist()[2] in (7, 8)
        assert selection.scores.tolist() == [4, 3, 2]

    def test_rows_are_compared_by_direction_not_length(self):
        direction = torch.tensor([[1.0, 0], [0, 1]]).repeat(10, 1)
        x = direction * torch.linspace(1, 1000, 20)[:, None]
        selection = choose(ClusterCenters(), of({"embeddings": x}, 2))
        assert sorted((selection.positions % 2).tolist()) == [0, 1]
        assert selection.scores.tolist() == [10, 10]
        assert selection.notes["inertia"] == pytest.approx(0, abs=1e-6)

    def test_fewer_distinct_rows_than_asked_for_are_filled_up(self):
        x = torch.eye(3).repeat(4, 1)
        selection = choose(ClusterCenters(), of({"embeddings": x}, 5))
        assert sorted((selection.positions[:3] % 3).tolist()) == [0, 1, 2]
        assert selection.scores.tolist()[3:] == [0, 0]

    def test_the_first_of_two_rows_equally_near_their_center_is_taken_whatever_rounding_says(self):
        generator = torch.Generator().manual_seed(0)
        middles = torch.eye(8).repeat_interleave(2, 0)
        for _ in range(10):
            x = middles + 0.1 * torch.randn(16, 8, generator=generator)
            selection = choose(ClusterCenters(), of({"embeddings": x}, 8))
            pairs = selection.positions[selection.scores == 2]
            assert torch.all(pairs % 2 == 0)

    def test_rows_without_direction_are_no_trouble(self):
        assert len(choose(ClusterCenters(), of({"embeddings": torch.zeros(8, 3)}, 4)).positions) == 4

    def test_covers_every_well_separated_topic(self):
        generator = torch.Generator().manual_seed(0)
        topics = torch.eye(6).repeat_interleave(30, 0) + 0.05 * torch.randn(180, 6, generator=generator)
        for seed in range(5):
            positions = choose(ClusterCenters(), of({"embeddings": topics}, 6, seed=seed)).positions
            assert len((positions // 30).unique()) >= 5  # k-means may merge two topics in a bad draw

    def test_reads_nothing_that_needs_training(self):
        assert ClusterCenters().needs == {"embeddings"}
        assert not ClusterCenters().labeled_needs
