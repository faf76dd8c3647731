"""Cutting rows into blocks, so that what is held for one block stays small whatever the number of rows."""

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

#: Numbers that a block may hold on the CPU: 1 MiB of float32, about what a core keeps in its own cache.
ELEMENTS = 2**18

#: The same on an accelerator, where a block must be large enough to fill it: 64 MiB of float32.
ACCELERATOR_ELEMENTS = 2**24


def out_of_memory(error: BaseException) -> bool:
    """Whether an error says that a device, or the host, has no memory left."""
    words = ("out of memory", "can't allocate memory", "not enough memory", "unable to allocate")
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or any(word in str(error).lower() for word in words)


def blocks(rows: int, width: int, device: torch.device) -> Iterator[slice]:
    """Consecutive slices that cover `rows`, each of as many rows as `width` numbers per row leave room for."""
    elements = ELEMENTS if device.type == "cpu" else ACCELERATOR_ELEMENTS
    step = max(1, elements // max(1, width))
    for start in range(0, rows, step):
        yield slice(start, min(start + step, rows))


def by_blocks(function: Callable[[slice], Tensor], rows: int, width: int, device: torch.device) -> Tensor:
    """`function` of every block of `blocks`, whose results have a row for each of its rows, as one tensor.

    A result is written to its place before the next block is made: small results that are kept lie where the next
    block would, so that memory could grow by a block for each of them.
    """
    out = None
    for block in blocks(rows, width, device):
        part = function(block)
        if out is None:
            out = part.new_empty(rows, *part.shape[1:])
        out[block] = part
        del part  # before the next is made
    return function(slice(0, 0)) if out is None else out
