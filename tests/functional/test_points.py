import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from dal.functional.points import DensePoints, OuterPoints, Points, as_points, check_finite

KINDS = ["dense", "outer"]


def random_points(kind: str, N: int, seed: int, dtype: torch.dtype = torch.float32) -> Points:
    generator = torch.Generator().manual_seed(seed)
    if kind == "dense":
        return DensePoints(torch.randn(N, 7, generator=generator, dtype=dtype))
    a = torch.randn(N, 3, generator=generator, dtype=dtype)
    return OuterPoints(a, torch.randn(N, 5, generator=generator, dtype=dtype))


def rows_of(points: Points) -> torch.Tensor:
    return (points.x if isinstance(points, DensePoints) else points.materialise()).double()


def table(points: Points, others: Points) -> torch.Tensor:
    """Squared distances by differences in float64."""
    return (rows_of(points)[:, None] - rows_of(others)).square().sum(-1)


def joined(points: Points, others: Points) -> Points:
    if isinstance(points, DensePoints):
        return DensePoints(torch.cat([points.x, others.x]))
    return OuterPoints(torch.cat([points.a, others.a]), torch.cat([points.b, others.b]))


@pytest.mark.parametrize("kind", KINDS)
@given(st.integers(1, 20), st.integers(1, 20), st.integers(0, 2**31))
def test_distances_equal_those_of_the_rows_themselves(kind, N, M, seed):
    points, others = random_points(kind, N, seed), random_points(kind, M, seed + 1)
    expected = table(points, others)
    torch.testing.assert_close(points.squared_distances(others).double(), expected, rtol=1e-3, atol=1e-5)
    torch.testing.assert_close(points.squared_distances_to(others[:1]).double(), expected[:, 0], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_norms_and_distances_to_the_mean_equal_those_of_the_rows_themselves(kind):
    points = random_points(kind, 50, 0, torch.float64)
    rows = rows_of(points)
    torch.testing.assert_close(points.squared_norms(), rows.square().sum(1))
    torch.testing.assert_close(points.squared_distances_to_mean(), (rows - rows.mean(0)).square().sum(1))


@pytest.mark.parametrize("kind", KINDS)
def test_duplicates_are_at_distance_zero_exactly(kind):
    points = random_points(kind, 300, 0)
    twice = joined(points, points)
    squared = twice.squared_distances(points)
    assert torch.all(squared[:300].diagonal() == 0)
    assert torch.all(squared[300:].diagonal() == 0)
    assert twice.squared_distances_to(points[7:8])[307] == 0


@pytest.mark.parametrize("kind", KINDS)
def test_near_duplicates_keep_their_small_distance(kind):
    points = random_points(kind, 100, 0)
    step = 1e-4
    if isinstance(points, DensePoints):
        moved: Points = DensePoints(points.x + step * torch.randn_like(points.x))
    else:
        moved = OuterPoints(points.a + step * torch.randn_like(points.a), points.b)
    expected = table(points, moved).diagonal()
    torch.testing.assert_close(points.squared_distances(moved).diagonal().double(), expected, rtol=2e-2, atol=0)


def test_points_far_from_the_origin_keep_their_distances():
    x = torch.randn(60, 8, generator=torch.Generator().manual_seed(0)) + 1000
    expected = table(DensePoints(x), DensePoints(x))
    torch.testing.assert_close(DensePoints(x).squared_distances(DensePoints(x)).double(), expected, rtol=1e-3, atol=0)


@pytest.mark.parametrize("kind", KINDS)
def test_distances_are_never_negative(kind):
    points = random_points(kind, 100, 0)
    assert points.squared_distances(joined(points, points)).min() >= 0
    assert points.squared_distances_to_mean().min() >= 0


def test_outer_points_of_a_million_dimensions_are_never_materialised():
    generator = torch.Generator().manual_seed(0)
    points = OuterPoints(torch.randn(500, 1000, generator=generator), torch.randn(500, 1000, generator=generator))
    squared = points.squared_distances(points[:3])
    assert squared.shape == (500, 3)
    assert squared[:3].diagonal().tolist() == [0, 0, 0]


def test_half_precision_becomes_float32():
    assert as_points(torch.ones(2, 3, dtype=torch.bfloat16)).x.dtype == torch.float32
    outer = as_points(OuterPoints(torch.ones(2, 3, dtype=torch.float16), torch.ones(2, 4, dtype=torch.float16)))
    assert outer.a.dtype == outer.b.dtype == torch.float32


def test_factors_of_different_lengths_are_refused():
    with pytest.raises((ValueError, TypeError), match=r"rows|Type-check"):
        OuterPoints(torch.zeros(2, 3), torch.zeros(3, 3))


@pytest.mark.parametrize("bad", [torch.nan, torch.inf, 1e30])
def test_rows_that_are_not_finite_are_named(bad):
    x = torch.zeros(9, 2)
    x[4, 1] = x[7, 0] = bad
    with pytest.raises(ValueError, match=r"2 rows are not: 4, 7"):
        check_finite(DensePoints(x))
