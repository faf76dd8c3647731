import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from reference import hierarchy as reference

from dal.functional import blocks
from dal.functional.clustering import kmeans
from dal.functional.hierarchy import average_linkage, round_robin
from functional.made import normal, seeded


def sets(assignment: torch.Tensor) -> set[frozenset[int]]:
    return {frozenset((assignment == c).nonzero().flatten().tolist()) for c in assignment.unique()}


class TestAverageLinkage:
    @pytest.mark.parametrize("k", [1, 2, 7, 25])
    def test_equals_joining_one_pair_after_the_other(self, k):
        x = normal(25, 3)
        expected = {frozenset(cluster) for cluster in reference.average_linkage(x.numpy(), k)}
        assert sets(average_linkage(x, k, generator=seeded())) == expected

    def test_copies_stay_together(self):
        x = normal(6, 3).repeat(3, 1)
        assignment = average_linkage(x, 6, generator=seeded())
        assert torch.equal(assignment[:6], assignment[6:12])
        assert len(assignment.unique()) == 6

    def test_equal_rows_are_one_cluster(self):
        assert not average_linkage(torch.ones(9, 2), 4, generator=seeded()).any()

    def test_clusters_are_numbered_in_the_order_in_which_they_appear(self):
        assert average_linkage(torch.tensor([[5.0], [0.0], [5.1], [9.0]]), 3, generator=seeded()).tolist() == [
            0,
            1,
            0,
            2,
        ]

    def test_many_rows_are_summarised_first(self):
        centers = torch.tensor([[0.0, 0.0], [50.0, 0.0], [0.0, 50.0]])
        labels = torch.arange(90) % 3
        x = centers[labels] + normal(90, 2, dtype=torch.float32)
        assert torch.equal(average_linkage(x, 3, generator=seeded(), paired=50, summaries=12), labels)

    def test_more_clusters_than_summaries_are_those_of_k_means(self):
        x = normal(60, 2)
        expected = kmeans(x, 20, generator=seeded()).assignment
        assert sets(average_linkage(x, 20, generator=seeded(), paired=50, summaries=12)) == sets(expected)

    def test_the_size_of_blocks_changes_nothing(self, monkeypatch):
        x = normal(30, 3)
        whole = average_linkage(x, 5, generator=seeded())
        monkeypatch.setattr(blocks, "ELEMENTS", 64)
        assert torch.equal(average_linkage(x, 5, generator=seeded()), whole)

    def test_what_is_not_finite_is_refused(self):
        with pytest.raises(ValueError, match="must be finite"):
            average_linkage(torch.tensor([[0.0], [torch.nan]]), 1, generator=seeded())


class TestRoundRobin:
    @given(st.lists(st.integers(0, 4), min_size=1, max_size=20), st.data())
    def test_equals_taking_turns(self, clusters, data):
        n = data.draw(st.integers(1, len(clusters)))
        assert round_robin(torch.tensor(clusters), n).tolist() == reference.round_robin(clusters, n)

    def test_more_rows_than_there_are_cannot_be_taken(self):
        with pytest.raises(ValueError, match="3 of 2"):
            round_robin(torch.tensor([0, 1]), 3)
