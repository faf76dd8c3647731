"""Resolved classes of a config, between their settings and the constructed objects."""

import inspect
import typing
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from dal.config import allowed_code as importing
from dal.config.signatures import members_of
from dal.errors import ConfigError

#: Largest depth of nested classes that jsonargparse parses, which takes three times as long for each level.
_MAX_PARSED = 5


@dataclass
class Part:
    """A class in a config with its resolved arguments, which may contain other parts.

    Attributes:
        cls: the class, or the function of a factory.
        arguments: arguments by name.
        path: dotted path in the settings.
        skipped: number of leading parameters that the caller of a factory passes.
        factory: whether the parameter expects a factory of the object.
        fixed: whether no other class fits the parameter.
    """

    cls: Any
    arguments: dict[str, Any]
    path: str
    skipped: int = 0
    factory: bool = False
    fixed: bool = False

    @property
    def class_path(self) -> str:
        """The import path of the class."""
        return f"{self.cls.__module__}.{self.cls.__qualname__}"


def plain_arguments(value: Any) -> Any:
    """A resolved value with its parts as `class_path` and `init_args`, as stored in a `Factory`."""
    if isinstance(value, Part) and not inspect.isclass(value.cls):
        return value.class_path
    if isinstance(value, Part) and value.fixed:
        return plain_arguments(value.arguments)
    if isinstance(value, Part):
        return {"class_path": value.class_path, "init_args": plain_arguments(value.arguments)}
    if isinstance(value, dict):
        return {key: plain_arguments(inner) for key, inner in value.items()}
    return [plain_arguments(inner) for inner in value] if isinstance(value, list) else value


def ready(annotation: Any, value: Any) -> Callable[[Any], Any] | None:
    """Conversion of a resolved value, after its parts are constructed, to the type of its parameter.

    Args:
        annotation: annotation of the parameter.
        value: the resolved value.

    Returns:
        The conversion for an object, a list of objects, or a list of texts, numbers or flags of exactly the right type;
        None for values that jsonargparse must parse.
    """
    if isinstance(value, Part):
        return lambda made: made
    origins = {typing.get_origin(member): typing.get_args(member) for member in members_of(annotation)}
    sequences = [(origin, inner) for origin, inner in origins.items() if origin in (list, tuple) and inner]
    if not isinstance(value, list) or len(sequences) != 1 or not value:
        return None
    [(origin, inner)] = sequences
    if origin is tuple and inner[1:] != (...,):
        return None
    plain = inner[0] in (str, int, float, bool) and all(type(item) is inner[0] for item in value)
    return origin if plain or all(isinstance(item, Part) for item in value) else None


def check_left(value: Any, place: str, depth: int = 0) -> None:
    """Raise ConfigError for class paths that jsonargparse may not import, or nesting that it cannot parse in time.

    Args:
        value: the resolved value.
        place: place for error messages.
        depth: number of enclosing classes that jsonargparse parses: those of factories and of options of any type.
    """
    if isinstance(value, Part):
        depth = depth + 1 if depth or value.factory else 0
        value = value.arguments
    elif isinstance(value, dict) and isinstance(value.get("class_path"), str):
        admit_at(value["class_path"], place)
        depth += 1
    if depth > _MAX_PARSED:
        where = "a factory or an option of any type"
        raise ConfigError(f"{place}: classes inside {where} are nested deeper than {_MAX_PARSED} levels")
    if isinstance(value, dict | list):
        for inner in value.values() if isinstance(value, dict) else value:
            check_left(inner, place, depth)


def admit_at(path: str, place: str) -> None:
    """Call `importing.admit`, with the place as prefix of its error message."""
    try:
        importing.admit(path)
    except ConfigError as error:
        raise ConfigError(f"{place}: {error}") from error
