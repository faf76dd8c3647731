import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dal.functional import blocks
from dal.functional.neighbors import k_nearest, nearest, nearest_distance
from dal.functional.points import DensePoints, OuterPoints

COORDINATES = st.lists(st.tuples(st.integers(-2, 2), st.integers(-2, 2)), min_size=2, max_size=25)


def slow_neighbors(x, y, k, themselves):
    """Indices of the k nearest rows of y for every row of x, equal ones in order."""
    found = []
    for i, row in enumerate(x.double()):
        order = sorted(
            (float((row - other).square().sum()), j)
            for j, other in enumerate(y.double())
            if not (themselves and i == j)
        )
        found.append([j for _, j in order[:k]])
    return torch.tensor(found)


@settings(max_examples=40, deadline=None)
@given(COORDINATES, st.data())
def test_equals_a_sort_of_all_distances_with_ties_and_duplicates(rows, data):
    x = torch.tensor(rows, dtype=torch.float32)
    k = data.draw(st.integers(1, len(x) - 1))
    assert torch.equal(k_nearest(x, k).indices, slow_neighbors(x, x, k, themselves=True))


@settings(max_examples=40, deadline=None)
@given(COORDINATES, COORDINATES, st.data())
def test_equals_a_sort_of_all_distances_to_others(rows, others, data):
    x, y = torch.tensor(rows, dtype=torch.float32), torch.tensor(others, dtype=torch.float32)
    k = data.draw(st.integers(1, len(y)))
    found = k_nearest(x, k, among=y)
    assert torch.equal(found.indices, slow_neighbors(x, y, k, themselves=False))
    torch.testing.assert_close(found.distances, (x[:, None] - y[found.indices]).norm(dim=-1), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("elements", [1, 600, 10_000])
def test_does_not_depend_on_the_size_of_blocks(elements, monkeypatch):
    x = torch.randn(70, 3, generator=torch.Generator().manual_seed(0)).round(decimals=0)  # many ties
    whole = k_nearest(x, 9)
    monkeypatch.setattr(blocks, "ELEMENTS", elements)
    cut = k_nearest(x, 9)
    assert torch.equal(cut.indices, whole.indices)
    torch.testing.assert_close(cut.distances, whole.distances)


def test_a_duplicate_is_a_neighbour_at_distance_zero_but_a_row_is_not_its_own():
    x = torch.tensor([[1.0, 2.0], [5.0, 5.0], [1.0, 2.0]])
    assert nearest_distance(x).tolist() == [0, 5, 0]
    assert k_nearest(x, 1).indices.flatten().tolist() == [2, 0, 0]


def test_neighbours_of_outer_products_are_those_of_their_rows():
    generator = torch.Generator().manual_seed(0)
    points = OuterPoints(torch.randn(40, 3, generator=generator), torch.randn(40, 4, generator=generator))
    assert torch.equal(k_nearest(points, 5).indices, k_nearest(points.materialise(), 5).indices)


def test_nothing_to_be_near_to_is_infinitely_far():
    assert nearest_distance(torch.zeros(1, 2)).tolist() == [torch.inf]
    assert nearest_distance(torch.zeros(2, 2), among=torch.zeros(0, 2)).tolist() == [torch.inf] * 2


def test_more_neighbours_than_there_are_is_refused():
    with pytest.raises(ValueError, match="3 nearest neighbours were asked for among 2"):
        k_nearest(torch.zeros(3, 2), 3)


def random_factors(N, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return OuterPoints(torch.randn(N, 3, generator=generator), torch.randn(N, 5, generator=generator))


def test_nearest_equals_the_whole_table():
    points, others = random_factors(80).to(torch.float64), random_factors(33, seed=1).to(torch.float64)
    squared, index = nearest(points, others)
    expected = torch.cdist(points.materialise(), others.materialise()).square()
    torch.testing.assert_close(squared, expected.amin(1))
    assert torch.equal(index, expected.argmin(1))


def test_every_row_finds_its_exact_duplicate_at_distance_zero():
    points = random_factors(600)
    squared, index = nearest(points, points)
    assert torch.all(squared == 0)
    assert torch.equal(index, torch.arange(600))


def test_distances_of_rows_far_from_the_origin_are_exact():
    x = torch.randn(300, 8, generator=torch.Generator().manual_seed(0)) + 1000
    expected = slow_neighbors(x, x, 4, themselves=True)
    assert torch.equal(k_nearest(x, 4).indices, expected)


def test_the_first_of_equally_near_points_is_the_nearest():
    x = DensePoints(torch.tensor([[0.0, 0.0]]))
    assert nearest(x, DensePoints(torch.tensor([[2.0, 0], [0, 1], [1, 0], [0, 1]])))[1].tolist() == [1]


def check_against_the_table(x, y, k):
    """All distances by differences, in the type of the points, and a stable sort of every row."""
    table = (x[:, None] - y).square().sum(-1)
    if x is y:
        table.fill_diagonal_(torch.inf)
    found = k_nearest(x, k, among=None if x is y else y)
    expected, order = table.sort(dim=1, stable=True)
    assert torch.equal(found.indices, order[:, :k])
    torch.testing.assert_close(found.distances, expected[:, :k].sqrt())
    return found


def noise(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("k", [1, 2, 7])
@pytest.mark.parametrize(
    "x",
    [
        noise(300, 12),
        noise(300, 12) + 50,
        noise(300, 12) * torch.logspace(-6, 6, 300)[:, None],
        torch.cat([noise(290, 12), 1e6 * noise(10, 12)]),
    ],
    ids=["around the origin", "far from it", "of many scales", "with outliers"],
)
def test_equals_the_sorted_table(x, k):
    check_against_the_table(x, x, k)
    check_against_the_table(x, noise(100, 12, seed=1), k)


def test_neighbours_of_factors_equal_the_sorted_table():
    points, others = random_factors(200).to(torch.float64), random_factors(90, seed=1).to(torch.float64)
    expected = check_against_the_table(points.materialise(), others.materialise(), 6)
    assert torch.equal(k_nearest(points, 6, among=others).indices, expected.indices)


def test_among_many_duplicates_the_first_are_taken():
    x = noise(10, 5).repeat(40, 1)
    expected = torch.tensor([[j for j in range(i % 10, 400, 10) if j != i][:12] for i in range(400)])
    found = k_nearest(x, 12)
    assert torch.equal(found.indices, expected)
    assert not found.distances.any()


def test_a_crowd_so_tight_that_products_cannot_tell_it_apart_is_sorted_by_differences():
    x = torch.cat([1000 * noise(50, 3, seed=1), torch.full((100, 3), 300.0)])
    x[50:, 0] += 0.001 * torch.arange(100)
    found = k_nearest(x[50:52], 5, among=x)
    assert found.indices[0].tolist() == [50, 51, 52, 53, 54]


def test_all_others_are_neighbours_where_so_many_are_asked_for():
    x = noise(30, 4)
    found = check_against_the_table(x, x, 29)
    assert all(sorted([*row, i]) == list(range(30)) for i, row in enumerate(found.indices.tolist()))


def test_equal_points_have_the_first_as_their_nearest():
    squared, index = nearest(DensePoints(torch.ones(50, 3)), DensePoints(torch.ones(20, 3)))
    assert not squared.any()
    assert not index.any()


@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
def test_rows_that_are_not_finite_are_named(bad):
    x = torch.zeros(4, 2)
    x[2, 0] = bad
    with pytest.raises(ValueError, match="1 rows are not: 2"):
        k_nearest(x, 1)
    with pytest.raises(ValueError, match="1 rows are not: 2"):
        k_nearest(torch.zeros(4, 2), 1, among=x)
