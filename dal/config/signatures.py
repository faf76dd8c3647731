"""Constructor signatures: parameters, which of them are classes, and types in words."""

import collections.abc
import dataclasses
import inspect
import types
import typing
from typing import Any, Literal

from dal.config import class_names as classes

#: Types that a list in a config may become.
SEQUENCES = {list, tuple, collections.abc.Sequence, collections.abc.Iterable}
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
    """Named parameters of a constructor, in order, with the results of a dataclass's default factories as defaults."""
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
    return found


def hints_of(cls: Any) -> dict[str, Any]:
    """Types of a constructor's parameters, with annotations given as strings resolved where possible."""
    function = cls if inspect.isfunction(cls) else cls.__init__
    try:
        return typing.get_type_hints(function)
    except (NameError, TypeError, AttributeError):
        written = {name: p.annotation for name, p in inspect.signature(cls).parameters.items()}
        return {name: hint for name, hint in written.items() if hint is not inspect.Parameter.empty}


def is_open(cls: Any) -> bool:
    """Whether a constructor accepts arbitrary keyword arguments."""
    return any(p.kind is p.VAR_KEYWORD for p in inspect.signature(cls).parameters.values())


def members_of(annotation: Any) -> list[Any]:
    """Member types of a union, or the single type."""
    origin = typing.get_origin(annotation)
    if origin in {typing.Union, types.UnionType}:
        return [member for inner in typing.get_args(annotation) for member in members_of(inner)]
    return members_of(typing.get_args(annotation)[0]) if origin is typing.Annotated else [annotation]


def is_factory(member: Any) -> bool:
    """Whether a type is a factory, such as `Callable[[], Trainer]`."""
    return typing.get_origin(member) is collections.abc.Callable


def handed_over(member: Any) -> int:
    """Number of arguments that a factory is called with, such as 2 for `Callable[[int, bool], ActiveModule]`."""
    arguments = typing.get_args(member)[0]
    return len(arguments) if isinstance(arguments, list) else 0


def made_by(member: Any) -> type | None:
    """Class that a type expects (for a factory, that of its product); None for plain values."""
    if is_factory(member):
        product = (*typing.get_args(member), None)[1]
        return product if isinstance(product, type) and product.__module__ != "builtins" else None
    if isinstance(member, type) and (inspect.isabstract(member) or dataclasses.is_dataclass(member)):
        return None if member.__module__ in {"os", "collections.abc"} else member
    return None


def is_fixed(member: Any) -> bool:
    """Whether only one class fits a type: a dataclass without an abstract base."""
    return not is_factory(member) and not inspect.isabstract(member)


def spoken(annotation: Any) -> str:
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
    made = made_by(member)
    if made is not None and is_fixed(member):
        return f"the keys of {made.__name__}"
    if made is not None:
        kind = classes.kind_of(made)
        return f"the name of {classes.article(kind)}" if kind else f"a class that makes a {made.__name__}"
    return str(getattr(member, "__name__", member))
