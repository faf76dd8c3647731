"""The classes that a config names, between their settings and the objects that are made of them."""

import inspect
import typing
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from dal.config import allowed_code as importing
from dal.config.signatures import members_of
from dal.errors import ConfigError

#: Classes inside each other that are left to jsonargparse, which takes three times as long for each level.
_MAX_PARSED = 5


@dataclass
class Part:
    """A class of a config with its resolved arguments, among which may be other parts.

    Attributes:
        cls: the class, or the function where a factory is one.
        arguments: by name.
        path: in the settings, dotted.
        skipped: parameters that a factory is called with, before those of `arguments`.
        factory: whether the slot takes something that makes the object.
        fixed: whether no other class fits the slot.
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
    """A resolved value with its parts as `class_path` and `init_args`, the form that a Factory keeps."""
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
    """What makes of a resolved value, once its parts are constructed, what a parameter takes; None for jsonargparse.

    Args:
        annotation: of the parameter.
        value: an object, or a list of objects, or of texts, numbers or flags of exactly the right type.
    """
    if isinstance(value, Part):
        return lambda made: made
    origins = {typing.get_origin(member): typing.get_args(member) for member in members_of(annotation)}
    found = [(origin, inner) for origin, inner in origins.items() if origin in (list, tuple) and inner]
    if not isinstance(value, list) or len(found) != 1 or not value:
        return None
    [(origin, inner)] = found
    if origin is tuple and inner[1:] != (...,):
        return None
    plain = inner[0] in (str, int, float, bool) and all(type(item) is inner[0] for item in value)
    return origin if plain or all(isinstance(item, Part) for item in value) else None


def check_left(value: Any, place: str, depth: int = 0) -> None:
    """Refuse what jsonargparse may not import by itself, or could not parse in a reasonable time.

    Args:
        value: resolved.
        place: for messages.
        depth: classes around the value that jsonargparse itself parses: those of factories and of options of any type.
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
    """`importing.admit`, whose error then begins with the place."""
    try:
        importing.admit(path)
    except ConfigError as error:
        raise ConfigError(f"{place}: {error}") from error
