import numpy as np
import pytest
import torch
from reference import logistic as reference

from dal.functional.logistic import Plane, separate
from functional.made import normal


def value(plane: Plane, first, second, penalty: float) -> float:
    return reference.value(plane.weight.tolist(), float(plane.bias), first.numpy(), second.numpy(), penalty)


class TestSeparate:
    @pytest.mark.parametrize("penalty", [1e-3, 0.01, 1.0])
    @pytest.mark.parametrize("sizes", [(30, 30), (3, 60), (1, 1)])
    def test_equals_the_minimum_found_by_a_general_optimiser(self, sizes, penalty):
        first, second = normal(sizes[0], 3), normal(sizes[1], 3, seed=1) + 0.7
        plane = separate(first, second, penalty=penalty)
        expected = reference.minimum(first.numpy(), second.numpy(), penalty)
        np.testing.assert_allclose(torch.cat([plane.weight, plane.bias.view(1)]), expected, atol=2e-4)

    def test_is_a_minimum(self):
        first, second = normal(20, 4), normal(25, 4, seed=1)
        plane = separate(first, second)
        least = value(plane, first, second, 0.01)
        for k in range(4):
            for step in (1e-4, -1e-4):
                aside = Plane(plane.weight + step * torch.eye(4)[k], plane.bias)
                assert value(aside, first, second, 0.01) > least
        for step in (1e-4, -1e-4):
            assert value(Plane(plane.weight, plane.bias + step), first, second, 0.01) > least

    @pytest.mark.parametrize("start", [0.0, 50.0, -50.0])
    def test_finds_the_same_from_any_start(self, start):
        first, second = normal(20, 4), normal(25, 4, seed=1) + 1
        plane = separate(first, second)
        again = separate(first, second, start=Plane(torch.full((4,), start).double(), torch.tensor(start).double()))
        torch.testing.assert_close(again.weight, plane.weight, rtol=1e-5, atol=1e-6)

    def test_separable_sides_have_a_finite_plane_between_them(self):
        plane = separate(torch.tensor([[0.0], [1.0]]), torch.tensor([[3.0], [4.0]]), penalty=1e-6)
        assert float(-plane.bias / plane.weight) == pytest.approx(2)
        assert bool(torch.isfinite(plane.weight).all())

    def test_both_sides_count_alike_however_many_points_they_have(self):
        first, second = normal(5, 3), normal(7, 3, seed=1)
        once, often = separate(first, second), separate(first.repeat(40, 1), second)
        torch.testing.assert_close(often.weight, once.weight, rtol=1e-5, atol=1e-7)

    def test_equal_sides_cannot_be_told_apart(self):
        plane = separate(torch.ones(3, 2), torch.ones(5, 2))
        assert plane.weight.tolist() == pytest.approx([0, 0], abs=1e-9)
        assert float(plane.bias) == pytest.approx(0, abs=1e-6)

    def test_more_dimensions_than_points_are_no_trouble(self):
        first, second = normal(3, 200, dtype=torch.float32), normal(4, 200, seed=1, dtype=torch.float32)
        plane = separate(first, second)
        assert torch.all(first.double() @ plane.weight + plane.bias < 0)
        assert torch.all(second.double() @ plane.weight + plane.bias > 0)

    def test_a_tiny_penalty_beside_huge_points_is_no_trouble(self):
        first = torch.cat([normal(30, 40), torch.full((1, 40), 1e4, dtype=torch.float64)])
        plane = separate(first, normal(30, 40, seed=1), penalty=1e-9)
        assert bool(torch.isfinite(plane.weight).all())
        assert float(plane.weight.sum() * 1e4 + plane.bias) < 0

    def test_an_empty_side_is_refused(self):
        with pytest.raises(ValueError, match="both sides"):
            separate(torch.ones(0, 2), torch.ones(3, 2))

    def test_no_penalty_is_refused(self):
        with pytest.raises(ValueError, match="penalty"):
            separate(torch.ones(1, 2), torch.ones(3, 2), penalty=0.0)

    def test_nan_is_refused(self):
        with pytest.raises(ValueError, match="1 rows are not: 1"):
            separate(torch.ones(2, 2), torch.tensor([[0.0, 0.0], [torch.nan, 1.0]]))
