"""Factories of objects, such as a Trainer, that are constructed again at every call."""

from dataclasses import dataclass, field
from typing import Any

from dal.config.class_names import import_path


@dataclass(frozen=True)
class Factory:
    """Factory that constructs a new object at every call, with new nested objects (callbacks, loggers).

    Nested objects are not shared between calls, since early stopping would keep its state from the last round.
    `config.yaml` stores the fields.

    Args:
        class_path: import path of the class or function.
        init_args: its keyword arguments, as written in a config.
    """

    class_path: str
    init_args: dict[str, Any] = field(default_factory=dict)

    def __hash__(self) -> int:
        # The values may be unhashable; equal factories have equal argument names.
        return hash((self.class_path, frozenset(self.init_args)))

    def __call__(self, *arguments: Any) -> Any:
        """Construct a new object; `arguments` are its first positional arguments."""
        from dal.config.build import build_now

        return build_now(import_path(self.class_path), self.init_args, arguments)
