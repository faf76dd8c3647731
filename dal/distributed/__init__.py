"""A run on several devices: processes of one group, the ranks, which share the work of a round.

The names are imported when they are read, since PyTorch takes seconds.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dal.distributed.start import TIMEOUT, ranks

__all__ = ["TIMEOUT", "ranks"]


def __getattr__(name: str) -> Any:
    if name in __all__:
        return getattr(import_module("dal.distributed.start"), name)
    raise AttributeError(f"module 'dal.distributed' has no attribute {name!r}")
