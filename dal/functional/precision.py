"""Matrix products of float32 numbers in true float32, whatever the process has allowed elsewhere."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def true_float32() -> Iterator[None]:
    """Computes float32 matrix products in float32 within the block, and restores what was set before.

    `torch.set_float32_matmul_precision("medium")`, which Lightning advises, makes them bfloat16 or TF32: fit for
    training, but a squared distance is a small difference of large products. The settings of each backend are used,
    because the global one cannot be read once a program has set a backend's own.
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
