"""Counting how often the host waits for a device, on a CPU too."""

from collections.abc import Callable
from types import TracebackType
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

#: Operations whose result, or its shape, or whether it failed, the host has to know before it goes on.
WAITING = {
    "_local_scalar_dense",
    "nonzero",
    "masked_select",
    "equal",
    "unique_dim",
    "_unique2",
    "_linalg_check_errors",
    "_linalg_eigh",
}

_INDEXING = {"index", "index_put", "index_put_", "_index_put_impl_"}


class Looks(TorchDispatchMode):
    """Counts in `made`, inside a `with`, the operations at which an accelerator would make the host wait."""

    made = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.name().removeprefix("aten::").split(".")[0]
        self.made += name in WAITING or (name in _INDEXING and any(map(_is_mask, args[1])))
        return func(*args, **(kwargs or {}))

    def __enter__(self) -> "Looks":
        self._tolist = tolist = torch.Tensor.tolist

        def counted(tensor: torch.Tensor) -> Any:  # no operation, so that it is not seen otherwise
            self.made += 1
            return tolist(tensor)

        torch.Tensor.tolist = counted
        super().__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        super().__exit__(kind, error, trace)
        torch.Tensor.tolist = self._tolist


def looks(choose: Callable[[], object]) -> int:
    """How many looks at the device a choice takes."""
    with Looks() as seen:
        choose()
    return seen.made


def _is_mask(index: torch.Tensor | None) -> bool:
    return index is not None and index.dtype in (torch.bool, torch.uint8)
