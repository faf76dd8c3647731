"""Full-precision float32 matrix products, regardless of the precision settings of the process."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def true_float32() -> Iterator[None]:
    """Compute float32 matrix products in float32 within the block, and restore the previous settings afterwards.

    `torch.set_float32_matmul_precision("medium")`, which Lightning recommends, allows bfloat16 or TF32. That suffices
    for training, but a squared distance is a small difference of large products. The settings of each backend are used,
    because the global setting cannot be read once a program has changed that of a backend.
    """
    backends = (torch.backends.cuda.matmul, torch.backends.mkldnn.matmul)  # type: ignore[attr-defined]
    before = [backend.fp32_precision for backend in backends]
    try:
        for backend in backends:
            backend.fp32_precision = "ieee"
        yield
    finally:
        for backend, precision in zip(backends, before, strict=True):
            backend.fp32_precision = precision
