import pytest
import torch

from dal.functional.points import DensePoints, OuterPoints
from dal.functional.precision import true_float32


@pytest.fixture
def reduced_precision():
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("medium")
    yield
    torch.set_float32_matmul_precision(before)


@pytest.mark.usefixtures("reduced_precision")
def test_distances_do_not_depend_on_the_matmul_precision_of_the_program():
    x, y = torch.randn(64, 256, generator=torch.Generator().manual_seed(0)).split(32)
    exact = torch.cdist(x.double(), y.double()).square().float()
    torch.testing.assert_close(DensePoints(x).squared_distances(DensePoints(y)), exact, rtol=1e-5, atol=1e-4)
    a, b = torch.randn(32, 4), torch.randn(32, 4)
    p, q = OuterPoints(a, x), OuterPoints(b, y)
    exact = torch.cdist(p.materialise().double(), q.materialise().double()).square().float()
    torch.testing.assert_close(p.squared_distances(q), exact, rtol=1e-4, atol=1e-3)


@pytest.mark.usefixtures("reduced_precision")
def test_what_the_program_had_set_is_restored_even_after_an_error():
    with pytest.raises(KeyError, match="ieee"), true_float32():
        raise KeyError(backends())
    assert backends() == ["tf32", "bf16"]
    assert torch.get_float32_matmul_precision() == "medium"


def test_a_program_that_set_one_backend_only_is_left_as_it_was():
    before = torch.backends.cuda.matmul.fp32_precision
    torch.backends.cuda.matmul.fp32_precision = "tf32"
    try:
        with true_float32():
            assert backends() == ["ieee", "ieee"]
        assert backends()[0] == "tf32"
    finally:
        torch.backends.cuda.matmul.fp32_precision = before


def backends() -> list[str]:
    return [torch.backends.cuda.matmul.fp32_precision, torch.backends.mkldnn.matmul.fp32_precision]
