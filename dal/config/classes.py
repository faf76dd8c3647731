"""Which class a name in a config means."""

import difflib
import importlib
import inspect
from collections.abc import Iterable
from typing import Any

from dal import plugins
from dal.errors import ConfigError

GROUPS = {noun: group for group, noun in plugins.NOUNS.items()}


def kind_of(base: type) -> str | None:
    """What a base class stands for: "strategy", "learner", "oracle", ...; None when it is none of ours."""
    paths = {f"{c.__module__}:{c.__name__}" for c in base.__mro__}
    return next((plugins.NOUNS[group] for group, path in plugins.BASES.items() if path in paths), None)


def is_short_name(kind: str | None, name: str) -> bool:
    """Whether an installed package declares the name. Nothing is imported."""
    return kind is not None and name in plugins.found(GROUPS[kind])


def check_name(kind: str, name: str) -> None:
    """Raises `ConfigError` when a name without a dot is no installed name of the kind. Nothing is imported."""
    if "." in name or ":" in name or is_short_name(kind, name):
        return
    for other in GROUPS:
        if is_short_name(other, name):
            raise ConfigError(f"{name} is {article(other)}, but {article(kind)} is wanted; {installed(kind)}")
    raise ConfigError(f"unknown {kind} {name!r}{near(name, plugins.names(GROUPS[kind]))}; {installed(kind)}")


def find(base: type, name: str) -> type:
    """The class that a short name or an import path means where a `base` is expected.

    Raises:
        ConfigError: no such class, one that cannot be imported, or one of another kind.
    """
    kind = kind_of(base)
    if kind is None:
        return _of_kind(import_path(name), base, name)
    check_name(kind, name)
    found = plugins.load(GROUPS[kind], name)
    return found if issubclass(found, base) else _of_kind(found, base, name)


def factory(product: type, name: str) -> Any:
    """The class or function that makes a `product`, by the product's own name or by import path.

    Raises:
        ConfigError: no such thing, or it makes something else.
    """
    if name == product.__name__:
        return product
    found = import_path(name)
    return _of_kind(found, product, name) if inspect.isclass(found) or not callable(found) else found


def import_path(path: str) -> Any:
    """What an import path such as `my_package.parts:Spread` names.

    Raises:
        ConfigError: no such module or attribute, or the module fails when it is imported.
    """
    dotted = path.replace(":", ".")
    name, _, attribute = dotted.rpartition(".")
    if not name or not all(part.isidentifier() for part in dotted.split(".")):
        raise ConfigError(f"{path!r} is not an import path such as my_package.MyClass")
    try:
        module = importlib.import_module(name)
    except ImportError as error:
        raise ConfigError(f"{path} cannot be imported: {error}") from error
    except Exception as error:
        raise ConfigError(f"{path} cannot be imported: {type(error).__name__}: {error}") from error
    if not hasattr(module, attribute):
        raise ConfigError(f"the module {name} has no {attribute}{near(attribute, vars(module))}")
    return getattr(module, attribute)


def _of_kind(found: Any, base: type, name: str) -> type:
    if not inspect.isclass(found):
        raise ConfigError(f"{name} is a {type(found).__name__}, but a {base.__name__} is wanted")
    if not issubclass(found, base):
        raise ConfigError(f"{name} is not a {base.__name__}")
    return found


def near(name: str, among: Iterable[str]) -> str:
    """`, did you mean X?` when one of the names is near, else nothing."""
    folded = {other.lower(): other for other in among}
    found = difflib.get_close_matches(name.lower(), folded, 1, 0.55)
    return f", did you mean {folded[found[0]]}?" if found else ""


def installed(kind: str) -> str:
    """`installed are X, Y, Z`."""
    return f"installed are {', '.join(plugins.names(GROUPS[kind])) or 'none'}"


def article(kind: str) -> str:
    """`a strategy`, `an oracle`."""
    return f"an {kind}" if kind[0] in "aeiou" else f"a {kind}"
