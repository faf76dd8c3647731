"""Cutting rows into blocks, so that what is held for one block stays small whatever the number of rows."""

from collections.abc import Iterator

import torch

#: Numbers that a block may hold on the CPU: 1 MiB of float32, about what a core keeps in its own cache.
ELEMENTS = 2**18

#: The same on an accelerator, where a block must be large enough to fill it: 64 MiB of float32.
ACCELERATOR_ELEMENTS = 2**24


def blocks(rows: int, width: int, device: torch.device) -> Iterator[slice]:
    """Consecutive slices that cover `rows`, each of as many rows as `width` numbers per row leave room for."""
    elements = ELEMENTS if device.type == "cpu" else ACCELERATOR_ELEMENTS
    step = max(1, elements // max(1, width))
    for start in range(0, rows, step):
        yield slice(start, min(start + step, rows))
