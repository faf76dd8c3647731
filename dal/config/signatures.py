"""Constructor signatures: parameters, which of them are classes, and types in words."""

import collections.abc
import dataclasses
import enum
import inspect
import sys
import types
import typing
from typing import Any, Literal

from dal.config import class_names as classes

#: Types that a list in a config may become, and those that a mapping may become.
SEQUENCES = {
    *(list, tuple, set, frozenset, collections.abc.Sequence, collections.abc.MutableSequence),
    *(collections.abc.Iterable, collections.abc.Collection, collections.abc.Set),
}
MAPPINGS = {dict, collections.abc.Mapping, collections.abc.MutableMapping}
_WORDS: dict[Any, str] = {
    int: "a whole number",
    float: "a number",
    str: "text",
    bool: "true or false",
    type(None): "null",
    Any: "any value",
}
_PLURALS: dict[Any, str] = {int: "whole numbers", float: "numbers", str: "texts"}


def parameters_of(cls: Any) -> dict[str, inspect.Parameter]:
    """Named parameters of a constructor, in order, with the results of a dataclass's default factories as defaults.

    A constructor that accepts arbitrary keyword arguments also takes the parameters of the base class's constructor;
    none of these is required, since the constructor may pass it on its own.
    """
    made: dict[str, Any] = {}
    if dataclasses.is_dataclass(cls):
        made = {f.name: f.default_factory for f in dataclasses.fields(cls)}
    found = {}
    for name, parameter in inspect.signature(cls).parameters.items():
        if parameter.kind in {parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD}:
            continue
        if made.get(name, dataclasses.MISSING) is not dataclasses.MISSING:
            parameter = parameter.replace(default=made[name]())
        found[name] = parameter
    base = _extended_by(cls)
    for name, parameter in {} if base is None else parameters_of(base).items():
        optional = None if parameter.default is parameter.empty else parameter.default
        found.setdefault(name, parameter.replace(default=optional))
    return found


def hints_of(cls: Any) -> dict[str, Any]:
    """Types of a constructor's parameters, with annotations given as strings resolved where possible."""
    function = cls if inspect.isfunction(cls) else cls.__init__
    try:
        hints = typing.get_type_hints(function)
    except (NameError, TypeError, AttributeError):
        written = {name: p.annotation for name, p in inspect.signature(cls).parameters.items()}
        hints = {name: hint for name, hint in written.items() if hint is not inspect.Parameter.empty}
    base = _extended_by(cls)
    return hints if base is None else {**hints_of(base), **hints}


def _extended_by(cls: Any) -> type | None:
    """Base class with the next constructor, where the constructor of `cls` takes arbitrary keyword arguments."""
    if not inspect.isclass(cls) or not is_open(cls):
        return None
    constructors = [base for base in cls.__mro__[:-1] if "__init__" in vars(base)]
    return constructors[1] if len(constructors) > 1 else None


def is_open(cls: Any) -> bool:
    """Whether a constructor accepts arbitrary keyword arguments."""
    return any(p.kind is p.VAR_KEYWORD for p in inspect.signature(cls).parameters.values())


def members_of(annotation: Any) -> list[Any]:
    """Member types of a union, or the single type; `Any` for a protocol and for a type that cannot be resolved."""
    origin = typing.get_origin(annotation)
    if isinstance(annotation, str | typing.TypeVar) or getattr(annotation, "_is_protocol", False):
        return [Any]
    if origin in {typing.Union, types.UnionType}:
        return [member for inner in typing.get_args(annotation) for member in members_of(inner)]
    if origin is typing.Annotated:
        return members_of(typing.get_args(annotation)[0])
    if isinstance(annotation, typing.NewType):
        return members_of(annotation.__supertype__)
    # The arguments of a generic class do not matter, only those of lists, mappings and callables.
    return [origin if isinstance(origin, type) and _is_class_of_a_package(origin) else annotation]


def _is_class_of_a_package(kind: type) -> bool:
    return kind.__module__.partition(".")[0] not in sys.stdlib_module_names and not issubclass(kind, enum.Enum)


def is_factory(member: Any) -> bool:
    """Whether a type is a factory, such as `Callable[[], Trainer]`."""
    return typing.get_origin(member) is collections.abc.Callable


def count_leading_arguments(member: Any) -> int:
    """Number of arguments that a factory is called with, such as 2 for `Callable[[int, bool], ActiveModule]`."""
    arguments = typing.get_args(member)[0]
    return len(arguments) if isinstance(arguments, list) else 0


def expected_class(member: Any) -> type | None:
    """Class that a type expects (for a factory, that of its product); None for plain values."""
    if is_factory(member):
        product = (*typing.get_args(member), None)[1]
        return product if isinstance(product, type) and product.__module__ != "builtins" else None
    if not isinstance(member, type) or typing.get_origin(member) is not None or typing.is_typeddict(member):
        return None
    return member if _is_class_of_a_package(member) else None


def is_fixed(member: Any) -> bool:
    """Whether only one class fits a type: a dataclass without an abstract base."""
    return not is_factory(member) and dataclasses.is_dataclass(member) and not inspect.isabstract(member)


def type_in_words(annotation: Any) -> str:
    """A type in words: "a whole number", "text or null", "one of kmeans++, k-center"."""
    return " or ".join(dict.fromkeys(_word(member) for member in members_of(annotation)))


def _word(member: Any) -> str:
    if member in _WORDS:
        return _WORDS[member]
    origin, inner = typing.get_origin(member), typing.get_args(member)
    if origin is Literal:
        return "one of " + ", ".join(map(str, inner))
    if origin in SEQUENCES:
        return f"a list of {_PLURALS.get(inner[0] if inner else None, 'values')}"
    made = expected_class(member)
    if made is not None and is_fixed(member):
        return f"the keys of {made.__name__}"
    if made is not None:
        kind = classes.kind_of(made)
        if kind is None and not is_factory(member):
            return f"the import path of a class derived from {made.__name__}"
        return f"the name of {classes.with_article(kind)}" if kind else f"a class that makes a {made.__name__}"
    return str(getattr(member, "__name__", member))
