"""Points that are read block by block: the same results as for points in memory, to the last bit."""

import pytest
import torch
from torch.nn import functional as F

from dal.functional import k_center_greedy, k_nearest, kmeans_plusplus, max_coverage
from dal.functional.k_center import farthest_others
from dal.functional.points import DensePoints, OuterPoints
from dal.functional.row_source import PointSource, RowSource, as_pool_points
from dal.testing.thread_ranks import on_shards
from functional.made import normal, seeded

N, D, C = 700, 24, 5
X = normal(N, D, dtype=torch.float32)
X[300:320] = X[:20]  # duplicates
A = normal(N, C, seed=7, dtype=torch.float32)
A[300:320] = A[:20]


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
    """Blocks of about 30 rows, so that sources are read in many parts."""
    monkeypatch.setattr("dal.functional.blocks.ELEMENTS", 30 * D)


class Reads:
    """A reader of the rows of a tensor that notes how many rows it reads at once."""

    def __init__(self, x):
        self.x, self.most = x, 0

    def __call__(self, rows):
        self.most = max(self.most, len(rows))
        return self.x[rows]


def source(x=X):
    return RowSource(Reads(x), torch.arange(len(x)), x.shape[1])


def both(kind):
    """Points in memory, and the same points as a source."""
    if kind == "dense":
        return DensePoints(X), PointSource(source())
    return OuterPoints(A, X), PointSource(source(), A)


def test_rows_are_those_of_the_tensor():
    rows = torch.tensor([5, 2, 2])
    assert torch.equal(source()[rows], X[rows])
    assert torch.equal(source()[3:9], X[3:9])
    assert torch.equal(source().take(rows).tensor(), X[rows])
    assert torch.equal(source().take(rows).take(slice(1, 3)).tensor(), X[rows][1:3])
    assert source().take(slice(0, 0)).tensor().shape == (0, D)


def test_a_mapped_source_has_the_rows_of_the_function():
    unit = source().mapped(lambda x: F.normalize(x, dim=1))
    assert torch.equal(unit.tensor(), F.normalize(X, dim=1))
    assert (unit.shape, unit.nbytes) == (X.shape, X.nbytes)


@pytest.mark.parametrize("kind", ["dense", "outer"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_points_of_a_source_have_the_bits_of_those_in_memory(kind, dtype):
    held, read = (points.to(dtype) for points in both(kind))
    mean = held.mean()
    assert (len(read), read.width, read.dtype, read.device) == (len(held), held.width, held.dtype, held.device)
    assert torch.equal(read.squared_norms(), held.squared_norms())
    assert torch.equal(read.mean(), mean)
    assert torch.equal(read.squared_distances_from(mean), held.squared_distances_from(mean))


@pytest.mark.parametrize("kind", ["dense", "outer"])
@pytest.mark.parametrize("labeled", [0, 130])
def test_k_center_selects_the_same(kind, labeled):
    held, read = both(kind)
    centers = held[:labeled] if labeled else None
    one, other = (k_center_greedy(points, 150, centers=centers) for points in (held, read))
    assert torch.equal(one.positions, other.positions)
    assert torch.equal(one.distances, other.distances)
    assert torch.equal(one.bounds, other.bounds)
    assert one.radius == other.radius


@pytest.mark.parametrize("kind", ["dense", "outer"])
@pytest.mark.parametrize("first", ["largest", "uniform"])
@pytest.mark.parametrize("n", [20, N])
def test_k_means_plus_plus_draws_the_same(kind, first, n):
    one, other = (kmeans_plusplus(points, n, generator=seeded(3), first=first) for points in both(kind))
    assert torch.equal(one, other)


def test_neighbours_are_the_same():
    one, other = (k_nearest(x, 3, among=X[::10] + 0.5) for x in (X, source()))
    assert torch.equal(one.indices, other.indices)
    assert torch.equal(one.distances, other.distances)


def test_coverage_is_the_same():
    options = {"targets": X[::3], "centers": X[:5]}
    one, other = (max_coverage(x, 40, 5.0, generator=seeded(), **options) for x in (X, source()))
    assert len(one.positions) > 1
    assert torch.equal(one.positions, other.positions)
    assert torch.equal(one.gains, other.gains)
    assert torch.equal(one.covered, other.covered)


def test_the_rows_farthest_from_chosen_ones_are_the_same():
    chosen = torch.arange(0, 50, 5)
    one, other = (farthest_others(x, chosen, 30, centers=X[-20:]) for x in (X, source()))
    assert torch.equal(one, other)


@pytest.mark.parametrize(
    "select",
    [
        lambda x: k_center_greedy(x, 10),
        lambda x: k_center_greedy(x, 10, centers=X[:20]),
        lambda x: kmeans_plusplus(x, 10, generator=seeded()),
        lambda x: k_nearest(x, 3, among=X[:20]),
        lambda x: max_coverage(x, 10, 5.0, targets=X[:20]),
    ],
)
def test_no_function_reads_all_rows_at_once(select):
    x = torch.cat([X] * 6)
    rows = source(x)
    select(rows)
    assert 0 < rows.read.most < len(x) / 2


def test_infinite_rows_of_a_source_are_named():
    x = X.clone()
    x[33, 2] = torch.inf
    for select in (
        lambda: k_center_greedy(source(x), 3, centers=X[:4]),
        lambda: kmeans_plusplus(source(x), 3, generator=seeded()),
        lambda: max_coverage(source(x), 3, 1.0, targets=X[:4]),
    ):
        with pytest.raises(ValueError, match="1 rows are not: 33"):
            select()


def test_what_needs_all_rows_says_so():
    with pytest.raises(TypeError, match="give `among`"):
        k_nearest(source(), 3)
    with pytest.raises(TypeError, match="targets in memory"):
        max_coverage(source(), 3, 1.0)
    with pytest.raises(ValueError, match="have 3 and 700 rows"):
        PointSource(source(), A[:3])


def test_points_are_not_wrapped_twice():
    points = PointSource(source())
    assert as_pool_points(points) is points
    assert isinstance(as_pool_points(X), DensePoints)


@pytest.mark.parametrize("kind", ["dense", "outer"])
def test_the_selection_on_distributed_sources_is_that_of_one_process(kind):
    held, read = both(kind)

    def on_rank(shard):
        own = read.take(shard.rows)
        return (
            k_center_greedy(own, 20, shard=shard).positions,
            k_center_greedy(own, 20, centers=held[:40], shard=shard).positions,
            kmeans_plusplus(own, 20, generator=seeded(), shard=shard),
        )

    alone = (
        k_center_greedy(held, 20).positions,
        k_center_greedy(held, 20, centers=held[:40]).positions,
        kmeans_plusplus(held, 20, generator=seeded()),
    )
    for selected in on_shards(N, 3, on_rank):
        assert all(torch.equal(one, other) for one, other in zip(selected, alone, strict=True))


def test_coverage_of_distributed_sources_is_that_of_one_process():
    def on_rank(shard):
        own, chosen = source().take(shard.rows), torch.tensor([3, 100, 320])
        options = {"targets": X[::3], "generator": seeded(), "shard": shard}
        return max_coverage(own, 20, 5.0, **options).positions, farthest_others(own, chosen, 10, shard=shard)

    alone = (
        max_coverage(X, 20, 5.0, targets=X[::3], generator=seeded()).positions,
        farthest_others(X, torch.tensor([3, 100, 320]), 10),
    )
    for selected in on_shards(N, 3, on_rank):
        assert all(torch.equal(one, other) for one, other in zip(selected, alone, strict=True))
