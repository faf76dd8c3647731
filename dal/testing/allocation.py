"""Detection of large allocations, without a profiler."""

import tracemalloc
from types import TracebackType
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class TooLarge(MemoryError):
    """A tensor exceeded the limit of an `AllocationWatch`."""


class AllocationWatch(TorchDispatchMode):
    """Context that refuses every tensor whose storage is larger than `limit` bytes, on any device.

    Views and broadcast tensors share storage and do not count. Peak memory allocated by Python and NumPy is available
    as `python_peak` (bytes) afterwards.

    Raises:
        TooLarge: from the operation that created such a tensor; names the operation and the shape.
    """

    def __init__(self, limit: int) -> None:
        super().__init__()
        self.limit = limit
        self.python_peak = 0

    def __enter__(self) -> "AllocationWatch":
        self._traced = tracemalloc.is_tracing()
        if not self._traced:
            tracemalloc.start(1)
        tracemalloc.reset_peak()
        self._before = tracemalloc.get_traced_memory()[0]
        super().__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        super().__exit__(kind, error, trace)
        self.python_peak = tracemalloc.get_traced_memory()[1] - self._before
        if not self._traced:
            tracemalloc.stop()

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False  # True would import torch's compiler with the first operation, which takes seconds

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = func(*args, **(kwargs or {}))
        for leaf in (made,) if isinstance(made, torch.Tensor) else tree_leaves(made):
            if isinstance(leaf, torch.Tensor) and leaf.layout == torch.strided:
                size = leaf.untyped_storage().nbytes()
                if size > self.limit:
                    raise TooLarge(f"{func} created a tensor of shape {tuple(leaf.shape)}, {size / 2**20:.0f} MiB")
        return made
