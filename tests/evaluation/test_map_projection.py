import pytest
import torch
from sklearn.decomposition import PCA

from dal.evaluation import principal_plane


@pytest.mark.parametrize(("n", "d"), [(60, 7), (7, 60), (3, 2), (2, 3)])
def test_plane_equals_scikit_learn_up_to_the_sign_of_its_axes(n, d):
    points = torch.randn(n, d, generator=torch.Generator().manual_seed(0)) * torch.linspace(1.0, 8.0, d)
    expected = torch.from_numpy(PCA(2, svd_solver="full").fit_transform(points.double().numpy()))
    found = principal_plane(points)
    for axis in range(2):
        signs = (found[:, axis] @ expected[:, axis]).sign()
        assert torch.allclose(found[:, axis], signs * expected[:, axis], atol=1e-9)


def test_plane_is_the_same_when_all_points_move_and_follows_their_order():
    points = torch.randn(20, 4, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    found = principal_plane(points)
    assert torch.allclose(principal_plane(points + 3.0), found)
    assert torch.allclose(principal_plane(points.flip(0)), found.flip(0))


@pytest.mark.parametrize(
    "points", [torch.zeros(0, 3), torch.ones(1, 3), torch.ones(5, 3), torch.ones(5, 1), torch.ones(3, 5)]
)
def test_points_without_any_variance_lie_in_the_middle(points):
    assert torch.equal(principal_plane(points), torch.zeros(len(points), 2, dtype=torch.float64))


def test_few_points_of_many_dimensions_need_no_square_matrix_of_these(monkeypatch):
    sizes, eigh = [], torch.linalg.eigh
    monkeypatch.setattr(torch.linalg, "eigh", lambda matrix: sizes.append(len(matrix)) or eigh(matrix))
    principal_plane(torch.randn(8, 500, generator=torch.Generator().manual_seed(2)))
    assert sizes == [8]


def test_points_on_a_line_have_no_second_direction():
    found = principal_plane(torch.arange(6.0)[:, None])
    assert found.shape == (6, 2)
    assert found[:, 0].tolist() == pytest.approx([-2.5, -1.5, -0.5, 0.5, 1.5, 2.5])
    assert not found[:, 1].any()
