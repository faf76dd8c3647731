import inspect

import pytest
import torch

from dal.functional.clustering import kmeans
from dal.functional.hierarchy import average_linkage
from dal.functional.partition import partition
from functional.made import normal, outer, seeded


class TestPartition:
    @pytest.mark.parametrize("function", [partition, average_linkage])
    def test_outer_products_are_refused_in_one_line(self, function):
        plain = inspect.unwrap(function)  # without the check of types, which users do not have
        with pytest.raises(TypeError, match="needs plain vectors: the mean of outer products is not an outer product"):
            plain(outer(5, 2, 2), 2, generator=seeded())

    def test_is_k_means_where_the_points_are_few(self):
        x = normal(60, 3)
        expected = kmeans(x, 5, generator=seeded()).assignment
        assert torch.equal(partition(x, 5, generator=seeded()), expected)

    def test_some_points_find_the_clusters_of_all(self):
        x = (torch.eye(4, dtype=torch.float64) * 50).repeat_interleave(100, 0) + normal(400, 4)
        found = partition(x, 4, at_most=60, generator=seeded()).view(4, 100)
        assert torch.equal(found, found[:, :1].expand(-1, 100))
        assert len(found[:, 0].unique()) == 4

    def test_as_many_points_as_clusters_are_drawn_at_least(self):
        assert len(partition(normal(50, 2), 20, at_most=3, generator=seeded()).unique()) == 20

    def test_more_clusters_than_points_are_refused(self):
        with pytest.raises(ValueError, match=r"4 .*of 3"):
            partition(normal(3, 2), 4, generator=seeded())
