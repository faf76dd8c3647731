"""Conversion of plain values of a config to the types of their parameters."""

import collections.abc
import contextlib
import datetime
import enum
import inspect
import os
import re
import typing
from collections.abc import Callable
from typing import Any, Literal

from dal.config.bounded_yaml import parse_yaml
from dal.config.class_names import import_path
from dal.config.parts import Part
from dal.config.settings_tree import read_value
from dal.config.signatures import MAPPINGS, SEQUENCES, expected_class, is_factory, members_of
from dal.errors import ConfigError

_DURATION = re.compile(r"(?:(?P<days>-?\d+) days?, )?(?P<hours>\d+):(?P<minutes>\d+):(?P<seconds>\d+(?:\.\d+)?)")


class WrongTypeError(Exception):
    """A value is not of the type of its parameter."""


def convert(annotation: Any, value: Any) -> Any:
    """Convert a plain value to the type of its parameter.

    Text is read as YAML where another type is expected: `"3"` is a whole number, `"[1, 2]"` a list and `"null"` None.
    The members of a union are tried from left to right, `None` and `Any` last.

    Args:
        annotation: annotation of the parameter.
        value: a value of YAML, which may contain objects and parts; a part counts as an instance of its class.

    Returns:
        The value; parts are returned unchanged.

    Raises:
        WrongTypeError: the value is of another type.
        ConfigError: an import path cannot be imported.

    Example:
        >>> convert(tuple[float, ...] | None, [1, "2.5"])
        (1.0, 2.5)
    """
    if isinstance(value, str) and value.strip() and not {str, Any}.issuperset(members_of(annotation)):
        with contextlib.suppress(ConfigError):
            read = read_value(value)
            if read is None or isinstance(read, list | dict):
                with contextlib.suppress(WrongTypeError):
                    return _convert(annotation, read)
    return _convert(annotation, value)


def _convert(annotation: Any, value: Any) -> Any:
    """Convert a value by the first member type that accepts it."""
    for member in sorted(members_of(annotation), key=_rank):
        with contextlib.suppress(WrongTypeError):
            return _as_member(member, value)
    raise WrongTypeError


def _rank(member: Any) -> int:
    """Position of a member type in the order of attempts: those that accept most values are last."""
    return 2 if member is Any or member is object else 1 if member is type(None) else 0


def _as_member(member: Any, value: Any) -> Any:
    """Convert a value to one type that is not a union."""
    origin, inner = typing.get_origin(member) or member, typing.get_args(member)
    if member is Any or member is object:
        with contextlib.suppress(ConfigError):
            return read_value(value) if isinstance(value, str) and value.strip() else value
        return value
    if origin is Literal:
        return _as_literal(inner, value)
    if origin in _SCALARS:
        return _as_scalar(origin, value)
    if origin in SEQUENCES:
        return _as_sequence(origin, inner, value)
    if origin in MAPPINGS or typing.is_typeddict(origin):
        if not isinstance(value, dict):
            raise WrongTypeError
        if len(inner) != 2:
            return value
        keys, values = inner
        return {_convert(keys, key) if keys is not Any else key: _convert(values, item) for key, item in value.items()}
    if is_factory(member) or origin is collections.abc.Callable:
        return _imported(value, callable)
    if origin is type:
        wanted = inner[0] if inner and isinstance(inner[0], type) else object
        return _imported(value, lambda found: inspect.isclass(found) and issubclass(found, wanted))
    if isinstance(origin, type) and issubclass(origin, enum.Enum):
        return _as_enum(origin, value)
    if origin is datetime.timedelta:
        return _as_duration(value)
    if isinstance(origin, type) and issubclass(origin, os.PathLike):
        return _as_path(origin, value)
    if isinstance(origin, type):
        made = value.cls if isinstance(value, Part) else type(value)
        if expected_class(member) is not None and isinstance(value, Part) and not inspect.isclass(made):
            return value  # a function, whose result was checked when it was chosen
        if not (inspect.isclass(made) and issubclass(made, origin)):
            raise WrongTypeError
        return value
    return value  # a type that has no instances to compare with


_SCALARS = (bool, int, float, str, type(None))


def _as_scalar(kind: type, value: Any) -> Any:
    if isinstance(value, str) and kind in (bool, int, float):
        # YAML 1.1, which also has `yes` and 0x10
        with contextlib.suppress(ValueError):
            value = parse_yaml(value)
    if kind is float and type(value) is int:
        with contextlib.suppress(OverflowError):
            return float(value)
    if not isinstance(value, kind) or (kind in (int, float) and isinstance(value, bool)):
        raise WrongTypeError
    return value


def _as_literal(choices: tuple[Any, ...], value: Any) -> Any:
    for choice in choices:
        if type(choice) is type(value) and choice == value:
            return choice
    if isinstance(value, str):
        for kind in {type(choice) for choice in choices} & {bool, int, float}:
            with contextlib.suppress(WrongTypeError):
                return _as_literal(choices, _as_scalar(kind, value))
    raise WrongTypeError


def _as_sequence(origin: Any, inner: tuple[Any, ...], value: Any) -> Any:
    if not isinstance(value, list | tuple | set | frozenset):
        raise WrongTypeError
    if origin is tuple and inner and inner[1:] != (...,):
        if len(value) != len(inner):
            raise WrongTypeError
        return tuple(_convert(kind, item) for kind, item in zip(inner, value, strict=True))
    items = [_convert(inner[0], item) for item in value] if inner else list(value)
    if origin is tuple:
        return tuple(items)
    if origin in (set, frozenset, collections.abc.Set) and not any(isinstance(item, Part) for item in items):
        try:
            return frozenset(items) if origin is frozenset else set(items)
        except TypeError as error:  # an unhashable item
            raise WrongTypeError from error
    return items


def _imported(value: Any, fits: Callable[[Any], bool]) -> Any:
    """The function or class at an import path; a part of a factory, and what is no text, as they are."""
    if isinstance(value, Part):
        return value
    found = import_path(value) if isinstance(value, str) and "." in value else value
    if not fits(found):
        raise WrongTypeError
    return found


def _as_enum(kind: type[enum.Enum], value: Any) -> enum.Enum:
    if isinstance(value, kind):
        return value
    if isinstance(value, str) and value in kind.__members__:
        return kind[value]
    raise WrongTypeError


def _as_duration(value: Any) -> datetime.timedelta:
    if isinstance(value, datetime.timedelta):
        return value
    found = _DURATION.fullmatch(value) if isinstance(value, str) else None
    if found is None:
        raise WrongTypeError
    return datetime.timedelta(**{name: float(number) for name, number in found.groupdict(default="0").items()})


def _as_path(kind: type, value: Any) -> Any:
    if isinstance(value, str):
        return value if inspect.isabstract(kind) else kind(value)
    if isinstance(value, os.PathLike):
        return value
    raise WrongTypeError
