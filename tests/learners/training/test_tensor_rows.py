"""Mean and scale of a pool of vectors, found by reading it once, are those of the two steps of their definition."""

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from dal.learners.training import tensor_rows
from dal.learners.training.tensor_rows import TensorPrepared


def defined(vectors: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and scale (D,) in float64, as `TensorPrepared.moments` defines them."""
    x = vectors.double()
    deviation = (x - x.mean(0)).square().mean(0).sqrt()
    varies = deviation > 1e-6 * deviation.max()
    return x.mean(0), torch.where(varies, 1 / (deviation * varies.sum().sqrt()), 0.0)


class Counted(TensorPrepared):
    """Vectors that count how often each is read."""

    def take(self, rows: Tensor | slice) -> Tensor:
        self.reads = getattr(self, "reads", torch.zeros(len(self)))
        self.reads[rows] += 1
        return super().take(rows)


@pytest.mark.parametrize("size", [1, 7, 50])
@pytest.mark.parametrize("kind", ["plain", "far from 0", "in order", "halves", "constant"])
def test_moments_are_those_of_their_definition(kind: str, size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    def in_sevens(count: int, *_: object) -> Iterator[slice]:
        return (slice(start, min(count, start + 7)) for start in range(0, count, 7))

    monkeypatch.setattr(tensor_rows, "blocks", in_sevens)
    x = torch.randn(size, 5, generator=torch.Generator().manual_seed(size))
    if kind == "far from 0":
        x = x + torch.tensor([0.0, 1e3, -1e4, 1e5, 1.0])
    if kind == "in order":  # the means of the blocks are far apart
        x = x + 100.0 * torch.arange(size)[:, None]
    if kind == "halves":
        x = x.half()
    if kind == "constant":
        x[:, 2] = 3.0
    vectors = Counted(x, ())
    mean, scale = vectors.moments
    assert vectors.reads.tolist() == [1.0] * size
    expected = defined(x)
    torch.testing.assert_close(mean.double(), expected[0], rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(scale.double(), expected[1], rtol=2e-6, atol=0.0)


def test_moments_of_no_rows_are_zero() -> None:
    mean, scale = TensorPrepared(torch.zeros(0, 3), ()).moments
    assert mean.tolist() == scale.tolist() == [0.0, 0.0, 0.0]
