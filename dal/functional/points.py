"""Points in a space, dense or as factors of an outer product, with distances that never hold N x N or N x (C*D)."""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class OuterPoints:
    """N points in C*D dimensions, kept as factors: row i is `vec(a_i (x) b_i)`, never materialised.

    Shapes: a (N, C), b (N, D), one device. Memory is N*(C + D) numbers.
    """

    a: Tensor  # (N, C)
    b: Tensor  # (N, D)

    def __len__(self) -> int:
        return len(self.a)

    def __getitem__(self, index: Tensor | slice) -> "OuterPoints":
        return OuterPoints(self.a[index], self.b[index])

    @property
    def device(self) -> torch.device:
        """Where both factors are."""
        return self.a.device

    def to(self, *args: object, **kwargs: object) -> "OuterPoints":
        """The same points after `Tensor.to` on both factors."""
        return OuterPoints(self.a.to(*args, **kwargs), self.b.to(*args, **kwargs))  # type: ignore[call-overload]

    def materialise(self) -> Tensor:
        """The rows themselves, (N, C*D). For tests and small pools only."""
        return torch.einsum("nc,nd->ncd", self.a, self.b).flatten(1)
