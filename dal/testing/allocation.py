"""The largest single allocation of a piece of code, seen without a profiler and without a clock."""

import tracemalloc
from types import TracebackType
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class TooLarge(MemoryError):
    """A tensor above the limit of an `AllocationWatch`."""


class AllocationWatch(TorchDispatchMode):
    """Refuses, inside a `with`, every tensor whose storage is larger than `limit` bytes.

    Views and broadcast tensors cost nothing and count as nothing: it is the storage that is measured, on any device.
    What Python and NumPy allocate together is in `python_peak` (bytes) afterwards.

    Raises:
        TooLarge: from the operation that made such a tensor, naming it and the shape.
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
        return False  # with True, torch imports its compiler for the first operation: seconds

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = func(*args, **(kwargs or {}))
        for leaf in (made,) if isinstance(made, torch.Tensor) else tree_leaves(made):
            if isinstance(leaf, torch.Tensor) and leaf.layout == torch.strided:
                size = leaf.untyped_storage().nbytes()
                if size > self.limit:
                    raise TooLarge(f"{func} made a tensor of shape {tuple(leaf.shape)}, {size / 2**20:.0f} MiB")
        return made
