import torch
from hypothesis import given, settings

from dal.functional.points import DensePoints, OuterPoints
from dal.functional.searching import first_of_each, searching_order
from functional.made import GRID, seeded


@settings(deadline=None)
@given(GRID)
def test_the_first_of_each_are_all_different_points(rows):
    x = torch.tensor(rows, dtype=torch.float32)
    kept = first_of_each(DensePoints(x))
    assert {tuple(row) for row in x[kept].tolist()} == {tuple(map(float, row)) for row in rows}
    assert torch.equal(kept, kept.sort().values)


def test_of_many_equal_points_one_is_left():
    assert first_of_each(OuterPoints(torch.ones(50, 2), torch.ones(50, 3))).tolist() == [0]
    assert first_of_each(DensePoints(torch.zeros(0, 3))).tolist() == []


def test_points_of_equal_length_are_not_taken_for_equal():
    assert first_of_each(DensePoints(torch.eye(6))).tolist() == list(range(6))


def made(N: int, L: int) -> tuple[DensePoints, DensePoints]:
    middles = 30 * torch.randn(12, 5, generator=seeded())
    x = middles[torch.randint(12, (N + L,), generator=seeded(1))] + torch.randn(N + L, 5, generator=seeded(2))
    return DensePoints(x[:N]), DensePoints(x[N:])


def test_the_order_holds_every_center_once():
    points, centers = made(20_000, 300)
    order, searched = searching_order(points, centers, 100)
    assert order.sort().values.tolist() == list(range(300))
    assert 1 <= searched <= 300


def test_few_centers_rule_out_most_points():
    points, centers = made(20_000, 300)
    order, searched = searching_order(points, centers, 100)
    assert searched < 100
    few = torch.cdist(points.x, centers.x[order[:searched]]).amin(1)
    last = torch.cdist(points.x, centers.x).amin(1).topk(100).values[-1]
    assert (few > last).double().mean() < 0.1


def test_small_pools_are_measured_against_all():
    points, centers = made(500, 300)
    assert searching_order(points, centers, 10)[1] == 300
