"""Blockwise processing of rows, with memory independent of the number of rows."""

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

#: Maximum number of elements of a block on the CPU: 1 MiB of float32, about the size of a core's private cache.
ELEMENTS = 2**18

#: Maximum number of elements on an accelerator, where blocks must be large enough to use it: 64 MiB of float32.
ACCELERATOR_ELEMENTS = 2**24


def out_of_memory(error: BaseException) -> bool:
    """Whether an error reports that a device or the host is out of memory."""
    words = ("out of memory", "can't allocate memory", "not enough memory", "unable to allocate")
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or any(word in str(error).lower() for word in words)


def blocks(rows: int, width: int, device: torch.device) -> Iterator[slice]:
    """Consecutive slices that cover `rows`, sized so that `width` numbers per row fit into a block."""
    elements = ELEMENTS if device.type == "cpu" else ACCELERATOR_ELEMENTS
    step = max(1, elements // max(1, width))
    for start in range(0, rows, step):
        yield slice(start, min(start + step, rows))


def by_blocks(function: Callable[[slice], Tensor], rows: int, width: int, device: torch.device) -> Tensor:
    """Apply `function` to each block of rows and concatenate the results, which have one row per row of the block.

    Each result is copied into the output before the next block is computed. Keeping small results alive would fragment
    the memory that the next block needs, and memory could grow by one block for each of them.
    """
    out = None
    for block in blocks(rows, width, device):
        part = function(block)
        if out is None:
            out = part.new_empty(rows, *part.shape[1:])
        out[block] = part
        del part  # before the next is made
    return function(slice(0, 0)) if out is None else out
