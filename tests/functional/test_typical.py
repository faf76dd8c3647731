import numpy as np
import pytest
import torch
from reference import coverage as reference

from dal.functional.typical import typicality
from functional.made import normal


class TestTypicality:
    @pytest.mark.parametrize("neighbors", [1, 5, 20, 100])
    def test_equals_the_slow_reference(self, neighbors):
        x = normal(30, 4)
        np.testing.assert_allclose(typicality(x, neighbors), reference.typicality(x.numpy(), neighbors))

    def test_a_point_alone_is_not_typical_at_all(self):
        assert typicality(torch.ones(1, 3)).tolist() == [0.0]

    def test_no_point_has_none(self):
        assert typicality(torch.ones(0, 3)).tolist() == []

    def test_duplicates_are_as_typical_as_can_be(self):
        assert typicality(torch.ones(5, 3)).tolist() == pytest.approx([1e5] * 5)

    def test_neighbours_can_be_sought_among_some(self):
        x = torch.tensor([[0.0], [1.0], [3.0], [7.0]])
        found = typicality(x, 2, among=torch.tensor([0, 2]))  # 0 and 2 have one other; 1 and 3 have both
        np.testing.assert_allclose(found, [1 / 3, 1 / 1.5, 1 / 3, 1 / 5.5], rtol=1e-4)

    def test_no_neighbour_is_refused(self):
        with pytest.raises(ValueError, match="neighbors"):
            typicality(torch.ones(2, 2), 0)
