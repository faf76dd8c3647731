"""Resolution of class names in a config: short names of plugins, and import paths."""

import importlib
import inspect
import typing
from collections.abc import Iterable
from typing import Any

from dal.config import allowed_code as importing
from dal.config import plugins
from dal.config.source_code import find as find_module
from dal.config.source_code import refusal
from dal.errors import ConfigError, did_you_mean, one_line, shortened

GROUPS = {noun: group for group, noun in plugins.NOUNS.items()}


def kind_of(base: type) -> str | None:
    """Kind of a base class: "strategy", "learner", "oracle", ...; None for a class outside of dal."""
    paths = {f"{c.__module__}:{c.__name__}" for c in base.__mro__}
    return next((plugins.NOUNS[group] for group, path in plugins.BASES.items() if path in paths), None)


def is_short_name(kind: str | None, name: str) -> bool:
    """Whether an installed package declares the short name. Nothing is imported."""
    return kind is not None and name in plugins.found(GROUPS[kind])


def check_name(kind: str, name: str) -> None:
    """Raise ConfigError unless a name is an import path or an installed name of the kind. Nothing is imported."""
    if "." in name or ":" in name or is_short_name(kind, name):
        return
    for other in GROUPS:
        if is_short_name(other, name):
            raise ConfigError(
                f"{name} is {with_article(other)}, but {with_article(kind)} is expected; {list_installed(kind)}"
            )
    raise ConfigError(
        f"unknown {kind} {shortened(name)!r}{suggestion(name, plugins.names(GROUPS[kind]))}; {list_installed(kind)}"
    )


def find(base: type, name: str) -> type:
    """Class of a short name or an import path where a subclass of `base` is expected.

    Raises:
        ConfigError: the class does not exist, cannot be imported, or is of another kind.
    """
    kind = kind_of(base)
    if base is object:
        return _of_kind(import_path(name), base, name)
    if kind is None:
        return _subclass(base, name) or _of_kind(import_path(name, base), base, name)
    check_name(kind, name)
    found = plugins.load(GROUPS[kind], name)
    return found if issubclass(found, base) else _of_kind(found, base, name)


def _subclass(base: type, name: str) -> type | None:
    """The subclass of `base` with a name, among those that base's own package has imported; None if there is not one.

    Lightning, for instance, imports all its callbacks, so that `EarlyStopping` is enough.
    """
    package = base.__module__.partition(".")[0]
    found, waiting = {base}, [base]
    while waiting:
        subclasses: list[type] = waiting.pop().__subclasses__()
        new = {each for each in subclasses if each.__module__.partition(".")[0] == package} - found
        waiting += new
        found |= new
    named = [each for each in found if each.__name__ == name]
    return named[0] if len(named) == 1 else None


def factory(product: type, name: str) -> Any:
    """Class or function that returns a `product`, by the product's own name or by import path.

    Raises:
        ConfigError: it does not exist, it returns something else, or it is a function of an installed package without
            a return annotation: otherwise a config could call any function of any library.
    """
    if name == product.__name__:
        return product
    found = import_path(name, product, functions=True)
    if inspect.isclass(found) or not callable(found):
        return _of_kind(found, product, name)
    returned = _returned_by(found)
    if returned is None and importing.is_own(name):
        return found
    if not (inspect.isclass(returned) and issubclass(returned, product)):
        says = (
            "does not say what it returns" if returned is None else f"returns {getattr(returned, '__name__', returned)}"
        )
        raise ConfigError(
            f"{shortened(name)} is a function that {says}, but a {product.__name__} is expected: annotate it with "
            f"`-> {product.__name__}` if it returns one"
        )
    return found


def _returned_by(function: Any) -> Any:
    """Return annotation of a function; None where there is none or it cannot be resolved."""
    try:
        return typing.get_type_hints(function).get("return")
    except (NameError, TypeError, AttributeError):
        return None


def import_path(path: str, base: type | None = None, *, functions: bool = False) -> Any:
    """Import the object at a path such as `my_package.parts:Spread`.

    The source is checked before the module is imported, so that no code runs for paths that are visibly wrong.

    Args:
        path: import path of a module and a name in it.
        base: required base class; None for any.
        functions: whether a function is accepted, too.

    Raises:
        ConfigError: the module or attribute does not exist, is not a `base`, may not be imported, or fails on import.
    """
    shown = shortened(path)
    dotted = path.replace(":", ".")
    name, _, attribute = dotted.rpartition(".")
    if not name or not all(part.isidentifier() for part in dotted.split(".")):
        raise ConfigError(f"{shown!r} is not an import path such as my_package.MyClass")
    importing.admit(path)
    if find_module(name) is not None:
        wanted = None if base is None else f"{base.__module__}.{base.__qualname__}"
        refused = refusal(name, attribute, wanted, functions=functions or base is None)
        if refused is not None:
            if refused.startswith("there"):
                raise ConfigError(refused.replace("'", "") + importing.hidden_module_note(name))
            kind = "" if base is None else f"{shown} is not a {base.__name__}: "
            raise ConfigError(f"{kind}{refused}{importing.hidden_module_note(name)}")
    try:
        module = importlib.import_module(name)
    except ImportError as error:
        raise ConfigError(
            f"{shown} cannot be imported: {one_line(error)}{importing.hidden_module_note(name)}"
        ) from error
    except (Exception, SystemExit) as error:
        raise ConfigError(f"{shown} cannot be imported: {type(error).__name__}: {one_line(error)}") from error
    if not hasattr(module, attribute):
        hint = suggestion(attribute, vars(module))
        raise ConfigError(f"the module {name} has no {attribute}{hint}{importing.hidden_module_note(name)}")
    return getattr(module, attribute)


def _of_kind(found: Any, base: type, name: str) -> type:
    if not inspect.isclass(found):
        raise ConfigError(f"{shortened(name)} is a {type(found).__name__}, but a {base.__name__} is expected")
    if not issubclass(found, base):
        raise ConfigError(f"{shortened(name)} is not a {base.__name__}")
    return found


def suggestion(name: str, among: Iterable[str]) -> str:
    """`, did you mean X?` for a similar name, or an empty string."""
    hint = did_you_mean(name, among)
    return hint.replace("; ", ", ", 1).replace("'", "")


def list_installed(kind: str) -> str:
    """`installed are X, Y, Z`."""
    return f"installed are {', '.join(plugins.names(GROUPS[kind])) or 'none'}"


def with_article(kind: str) -> str:
    """`a strategy`, `an oracle`."""
    return f"an {kind}" if kind[0] in "aeiou" else f"a {kind}"
