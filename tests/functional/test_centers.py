import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from reference.k_center import squared_gaps

from dal.functional import centers as module
from dal.functional.centers import Centers, measured, rounding
from dal.functional.points import DensePoints, OuterPoints, Points
from functional.made import outer, seeded


def clouds(N: int, D: int, far: float, dtype: torch.dtype = torch.float32, seed: int = 0) -> torch.Tensor:
    """Tight clusters, whose distances are small differences of large products."""
    middles = torch.randn(5, D, generator=seeded(seed), dtype=dtype) * 3 + far
    noise = torch.randn(N, D, generator=seeded(seed + 1), dtype=dtype)
    return middles[torch.randint(5, (N,), generator=seeded(seed))] + 1e-3 * noise


def all_gaps(points: Points, others: Points) -> torch.Tensor:
    x, y = (p.x if isinstance(p, DensePoints) else p.to(torch.float64).materialise() for p in (points, others))
    return (x.double()[:, None] - y.double()).square().sum(-1)


@settings(deadline=None, max_examples=30)
@given(st.sampled_from([1, 7, 100, 700]), st.sampled_from([0.0, 10.0, 1000.0]), st.integers(0, 1000))
def test_tables_are_above_the_true_distances_but_never_by_more_than_stated(D, far, seed):
    x, y = DensePoints(clouds(40, D, far, seed=seed)), DensePoints(clouds(30, D, far, seed=seed))
    near, others = measured(x, y.origin()), measured(y, y.origin())
    above = near.table(others).double() - all_gaps(x, y)
    most = 2 * rounding(x) * (near.norms[:, None] + others.norms).double()
    assert (above >= 0).all()
    assert (above <= most).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_tables_of_factors_are_above_the_true_distances(dtype):
    x, y = outer(60, 5, 40, dtype=dtype), outer(50, 5, 40, seed=0, dtype=dtype)
    above = measured(x, None).table(measured(y, None)).double() - all_gaps(x, y)
    assert above.min() >= -1e-12


@pytest.mark.parametrize("table", [2**21, 64])
@pytest.mark.parametrize("far", [0.0, 100.0])
def test_exact_distances_are_those_of_float64_whatever_the_blocks(table, far, monkeypatch):
    monkeypatch.setattr(module, "TABLE", table)
    x, given_ = clouds(90, 50, far), clouds(20, 50, far, seed=3)
    known = Centers(DensePoints(x), DensePoints(given_), 10, DensePoints(given_).origin())
    known.add(torch.tensor([4, 8]))
    rows = torch.arange(10, 90)
    unknown = torch.full((80,), torch.inf, dtype=torch.float64)
    expected = squared_gaps(x[10:].numpy(), torch.cat([given_, x[[4, 8]]]).numpy())
    np.testing.assert_allclose(known.exact(rows, 0, unknown), expected, rtol=1e-12)


def test_exact_distances_count_only_centers_from_the_start_and_below_what_is_known():
    x = torch.tensor([[0.0], [1.0], [5.0]])
    known = Centers(DensePoints(x), DensePoints(torch.tensor([[0.0], [7.0]])), 1, None)
    assert known.exact(torch.arange(3), 1, torch.full((3,), torch.inf, dtype=torch.float64)).tolist() == [49, 36, 4]
    assert known.exact(torch.arange(3), 1, torch.tensor([9.0, 9, 9], dtype=torch.float64)).tolist() == [9, 9, 4]


def test_many_equally_near_centers_are_exact_too():
    x = torch.eye(40)  # all at the same distance of all others
    known = Centers(DensePoints(x[:8]), DensePoints(x[8:]), 1, DensePoints(x).origin())
    assert known.exact(torch.arange(8), 0, torch.full((8,), torch.inf, dtype=torch.float64)).tolist() == [2.0] * 8


def test_picks_are_centers_from_then_on():
    points = OuterPoints(torch.eye(3), torch.ones(3, 2))
    known = Centers(points, points[:0], 2, None)
    known.add(torch.tensor([2]))
    known.add(torch.tensor([0]))
    assert len(known) == 2
    bounds = known.bounds(points, slice(0, 2))
    torch.testing.assert_close(bounds, torch.tensor([0.0, 4.0, 0.0]), rtol=1e-4, atol=1e-4)
