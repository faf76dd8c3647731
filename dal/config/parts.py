"""Resolved classes of a config, between their settings and the constructed objects."""

import inspect
from dataclasses import dataclass
from typing import Any


@dataclass
class Part:
    """A class in a config with its resolved arguments, which may contain other parts.

    Attributes:
        cls: the class, or the function of a factory.
        arguments: arguments by name.
        skipped: number of leading parameters that the caller of a factory passes.
        factory: whether the parameter expects a factory of the object.
        fixed: whether no other class fits the parameter.
        written: the plain value that a `Factory` stores for it; None to derive it from the arguments.
    """

    cls: Any
    arguments: dict[str, Any]
    skipped: int = 0
    factory: bool = False
    fixed: bool = False
    written: Any = None

    @property
    def class_path(self) -> str:
        """The import path of the class."""
        return f"{self.cls.__module__}.{self.cls.__qualname__}"


def plain_arguments(value: Any) -> Any:
    """A resolved value with its parts as `class_path` and `init_args`, as stored in a `Factory`."""
    if isinstance(value, Part) and value.written is not None:
        return value.written
    if isinstance(value, Part) and not inspect.isclass(value.cls):
        return value.class_path
    if isinstance(value, Part) and value.fixed:
        return plain_arguments(value.arguments)
    if isinstance(value, Part):
        return {"class_path": value.class_path, "init_args": plain_arguments(value.arguments)}
    if isinstance(value, dict):
        return {key: plain_arguments(inner) for key, inner in value.items()}
    return [plain_arguments(inner) for inner in value] if isinstance(value, list) else value
