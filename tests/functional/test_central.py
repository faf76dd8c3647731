import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dal.functional.central import central_rows
from dal.functional.clustering import kmeans
from functional.made import GRID, normal, seeded


def test_each_is_the_nearest_row_of_its_cluster_and_the_largest_comes_first():
    x = normal(60, 4)
    clusters = kmeans(x, 7, generator=seeded())
    positions, sizes = central_rows(x, clusters)
    assert sizes.tolist() == sorted(torch.bincount(clusters.assignment).tolist(), reverse=True)
    for position, size in zip(positions, sizes, strict=True):
        members = (clusters.assignment == clusters.assignment[position]).nonzero().flatten()
        assert len(members) == size
        assert clusters.distances[position] == clusters.distances[members].min()


@settings(max_examples=30)
@given(GRID, st.data())
def test_they_are_distinct_whatever_the_ties_and_duplicates(rows, data):
    x = torch.tensor(rows, dtype=torch.float32)
    k = data.draw(st.integers(1, len(x)))
    positions, sizes = central_rows(x, kmeans(x, k, generator=seeded()))
    assert len(positions.unique()) == k == len(sizes)
    assert int(sizes.sum()) == len(x)
