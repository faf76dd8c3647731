"""Points for tests of the geometry."""

import torch
from hypothesis import strategies as st

from dal.functional.points import OuterPoints

GRID = st.lists(st.tuples(st.integers(-2, 2), st.integers(-2, 2)), min_size=1, max_size=15)  # ties and duplicates


def normal(N: int, D: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    return torch.randn(N, D, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def outer(N: int, C: int, D: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> OuterPoints:
    return OuterPoints(normal(N, C, seed, dtype), normal(N, D, seed + 1, dtype))


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)
