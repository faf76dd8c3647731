"""Lightning modules that the engine can look into."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dal.modules.active_module import ActiveModule

__all__ = ["ActiveModule"]


def __getattr__(name: str) -> Any:
    """Import the module class on first access: Lightning takes seconds, and a tokenizer is loaded without it."""
    if name != "ActiveModule":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from dal.modules.active_module import ActiveModule

    return ActiveModule
