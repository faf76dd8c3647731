"""Built-in and installed strategies, learners, oracles etc., found by entry points without heavy imports."""

import ast
import importlib
import importlib.metadata
import inspect
import os
import re
import sys
import warnings
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import lru_cache
from importlib.metadata import Distribution, EntryPoint
from typing import Any

from dal.config import allowed_code as importing
from dal.config.source_code import FLAGS, SETS, TEXTS, ModuleSource, find, missing, refusal
from dal.errors import ConfigError, did_you_mean, one_line, shortened

STRATEGIES, LEARNERS, ORACLES, STOPPING = "dal.strategies", "dal.learners", "dal.oracles", "dal.stopping"
CANDIDATES, CLIENTS = "dal.candidates", "dal.clients"

#: Entry point group of metrics, which are functions, see `dal.evaluation.own_metrics`.
METRICS = "dal.metrics"

#: Base class of the members of each entry point group.
BASES = {
    STRATEGIES: "dal.strategy:Strategy",
    LEARNERS: "dal.learner:Learner",
    ORACLES: "dal.oracle:Oracle",
    STOPPING: "dal.stopping.rule:StoppingRule",
    CANDIDATES: "dal.strategies.candidates:Candidates",
    CLIENTS: "dal.llm.clients.client:Client",
}
NOUNS = {
    STRATEGIES: "strategy",
    LEARNERS: "learner",
    ORACLES: "oracle",
    STOPPING: "stopping rule",
    CANDIDATES: "candidate generator",
    CLIENTS: "language-model client",
}

#: Prefix of the messages of `refusal` about a wrong kind.
_IT_IS = "it is "

#: The distribution whose entry points are the built-in ones.
OWN = "deep-active-learning"


class WrongKindError(ConfigError):
    """A class path names an object of the wrong kind; `got` describes it."""

    def __init__(self, path: str, group: str, got: str, *, instance: bool = False) -> None:
        noun = NOUNS[group]
        article = "an" if noun[0] in "aeiou" else "a"
        reason = f"is not {article} {noun}: it is {got}"
        if instance:
            reason = (
                f"is {got}, and an entry point or a config names a class of {article} {noun}: derive one from "
                f"{got.rpartition(' ')[2]} whose options have defaults"
            )
        super().__init__(f"{shortened(path)} {reason}")
        self.got = got


class UnknownNameError(ConfigError):
    """A short name that no installed package declares, or an import path of which no module exists."""


class PluginWarning(UserWarning):
    """An installed plugin cannot be used, or is hidden by another one of the same name."""


@dataclass(frozen=True)
class Description:
    """Description of one strategy, learner, oracle, stopping rule, candidate generator or client in a listing.

    Attributes:
        name: the short name.
        path: `package.module:Class`.
        distribution: installed package that it comes from, with its version.
        built_in: whether that package is dal itself.
        summary: first line of its docstring.
        needs, labeled_needs, target_needs: outputs that a strategy reads; None when they depend on its options.
        keeps: outputs of earlier rounds that a candidate generator reads; None when they depend on its options.
        provides, label_free: outputs that a learner computes; None when they depend on its options.
        multilabel: whether a strategy supports multi-label outputs; None when it depends on its options.
        paper, advice: class attributes of the same names.
        broken: why it cannot be used; empty when no problem is known.
    """

    name: str
    path: str
    distribution: str
    built_in: bool
    summary: str = ""
    needs: frozenset[str] | None = frozenset()
    labeled_needs: frozenset[str] | None = frozenset()
    target_needs: frozenset[str] | None = frozenset()
    keeps: frozenset[str] | None = frozenset()
    provides: frozenset[str] | None = frozenset()
    label_free: frozenset[str] | None = frozenset()
    multilabel: bool | None = False
    paper: str = ""
    advice: str = ""
    broken: str = ""


def found(group: str) -> dict[str, EntryPoint]:
    """All installed entry points of a group (`dal.strategies`, `dal.learners`, ...: see `BASES`), by short name.

    Nothing is imported, and the current folder is not searched, since its files may come from anybody. If two packages
    declare the same name, dal's own takes precedence, otherwise the alphabetically first package; a `PluginWarning`
    reports it, and the other one remains available by its import path.
    """
    path = importing.without_current_folder(sys.path)
    entries = _read_entry_points(tuple(path), tuple(map(_written, path)))
    every = [entry for entry in entries if entry.group == group]
    chosen: dict[str, EntryPoint] = {}
    for entry in sorted(every, key=lambda entry: (entry.name, _package(entry) != OWN, _package(entry))):
        first = chosen.setdefault(entry.name, entry)
        if first.value != entry.value:
            _warn(
                f"{entry.name} of {_package(entry)} is hidden by {entry.name} of {_package(first)}: "
                f"name it {entry.value} to use it"
            )
    return chosen


@lru_cache(maxsize=8)
def _read_entry_points(path: tuple[str, ...], written: tuple[int, ...]) -> tuple[EntryPoint, ...]:
    """Entry points of the distributions in the folders `path` with modification times `written`, without hidden ones.

    The first distribution of a name hides others. Installing or removing a distribution changes the modification time
    of its folder, and so the key of the cache.
    """
    installed: dict[str, list[EntryPoint]] = {}
    for each in importlib.metadata.distributions(path=list(path)):
        if "dal." in (each.read_text("entry_points.txt") or ""):  # reading the names of all others takes long
            installed.setdefault(_normal(each.name or ""), list(each.entry_points))
    return tuple(entry for entries in installed.values() for entry in entries)


def _written(folder: str) -> int:
    """Modification time of an entry of the import path in nanoseconds; 0 if it does not exist."""
    try:
        return os.stat(folder).st_mtime_ns
    except (OSError, ValueError):
        return 0


def names(group: str) -> tuple[str, ...]:
    """Short names of a group: dal's own first, then the others, each in alphabetical order."""
    entries = found(group)
    return tuple(sorted(entries, key=lambda name: (_package(entries[name]) != OWN, name)))


def declared_name(path: str) -> str:
    """Short name that an installed package declares for the class at a dotted import path; else the path itself."""
    for group in BASES:
        for name, entry in found(group).items():
            if ".".join(_split(entry.value)) == path:
                return name
    return path


def describe(group: str) -> list[Description]:
    """Descriptions of the members of a group, in the order of `names`.

    They are read from the source code without running it, so that a listing needs no torch. A plugin whose source is
    not available is imported. One that cannot be used has the reason in `broken`, and causes a `PluginWarning`.
    """
    entries = found(group)
    descriptions = [description(group, entries[name]) for name in names(group)]
    for each in descriptions:
        if each.broken:
            _warn(f"{each.name} of {each.distribution} cannot be used: {each.broken}")
    return descriptions


def description(group: str, entry: EntryPoint) -> Description:
    """Description of one entry point."""
    package = _package(entry)
    version = entry.dist.version if entry.dist else ""
    about = Description(entry.name, entry.value, f"{package} {version}".strip(), package == OWN)
    try:
        return replace(about, **_read(group, entry))
    except ConfigError as error:
        return replace(about, broken=str(error))


def load(group: str, name_or_path: str) -> type:
    """Load a class by short name or import path: `Margin`, `my_package.module.MyStrategy`, `my_package:MyStrategy`.

    The path of a module is enough if the module defines exactly one usable class.

    Raises:
        ConfigError: the class does not exist, cannot be imported, or is of the wrong kind. For an unknown name the
            message lists the most similar one and all that are installed.
    """
    text = name_or_path.strip()
    entries = found(group)
    if text in entries:
        entry = entries[text]
        module, name = _split(entry.value)
        installed = _import(module, f"{text} of {_package(entry)}")
        try:
            return _usable(group, _attribute(installed, name), text)
        except WrongKindError:
            raise
        except ConfigError as error:
            raise ConfigError(f"{text} of {_package(entry)} ({entry.value}) cannot be used: {error}") from error
    importing.admit(text)
    if not re.fullmatch(r"[\w.]+(:[\w.]+)?", text) or not ("." in text or ":" in text or find(text)):
        raise UnknownNameError(_unknown(group, text, entries))
    return _usable(group, _at(group, text, entries), text)


def load_any(name_or_path: str) -> tuple[str, Any]:
    """Load a class or object of any kind, by short name or import path.

    Returns:
        Its group, such as `LEARNERS`, and the class or object.

    Raises:
        ConfigError: it does not exist, cannot be imported, or is of none of the kinds.
    """
    text = name_or_path.strip()
    declared = next((group for group in BASES if text in found(group)), None)
    if declared is not None:
        return declared, load(declared, text)
    groups = list(BASES)
    refused: list[WrongKindError] = []
    for group in groups:
        try:
            return group, load(group, text)
        except WrongKindError as error:
            refused.append(error)
        except UnknownNameError as error:
            known = [name for kind in (*NOUNS, METRICS) for name in found(kind)]
            near = did_you_mean(text.split(".")[-1].split(":")[-1], known).removeprefix("; ")
            raise UnknownNameError(
                f"unknown name {shortened(text)!r}"
                + f" ({near})" * bool(near)
                + "; `dal list` shows all that are installed; an import path (my_package:MyClass) is accepted, too"
                + importing.hidden_module_note(text.replace(":", "."))
            ) from error
    # An instance was imported above to see what it is. A class or function was refused by its source code, and its
    # module is not imported.
    if any(error.got.startswith("an instance of ") for error in refused):
        module, _, name = text.replace(":", ".").rpartition(".")
        thing = _attribute(_import(module, name_or_path), name)
        for group in groups:
            if isinstance(thing, base(group)):
                return group, thing
    kinds = ", ".join([*NOUNS.values(), "metric"])
    raise ConfigError(f"{shortened(name_or_path)} is {refused[0].got}: expected one of {kinds}")


def load_all(group: str) -> dict[str, type]:
    """Load all usable classes of a group, by short name. Broken ones cause a warning and are left out."""
    classes = {}
    for name in names(group):
        try:
            classes[name] = load(group, name)
        except ConfigError as error:
            _warn(str(error))
    return classes


def base(group: str) -> type:
    """Load the base class of a group's members."""
    module, name = _split(BASES[group])
    return getattr(importlib.import_module(module), name)  # type: ignore[no-any-return]


# Loading


def _at(group: str, path: str, entries: Iterable[str]) -> Any:
    """The object at an import path, which need not be a class."""
    if ":" in path:
        module, name = _split(path)
    elif find(path) is not None:
        return _only(group, _import(path, path))
    else:
        module, _, name = path.rpartition(".")
        if not module or find(module) is None:
            raise UnknownNameError(_unknown(group, path, entries) + importing.hidden_module_note(path))
    refused = refusal(module, name, BASES[group].replace(":", "."))
    if refused is not None:
        if refused.startswith(_IT_IS):
            raise WrongKindError(path, group, refused.removeprefix(_IT_IS) + importing.hidden_module_note(path))
        raise ConfigError(f"{refused}{importing.hidden_module_note(path)}")
    return _attribute(_import(module, path), name)


def _import(module: str, what: str) -> Any:
    try:
        return importlib.import_module(module)
    except (Exception, SystemExit) as error:
        reason = f"{type(error).__name__}: {one_line(error)}" if str(error) else type(error).__name__
        # The error may be that of a package which the module imports: only a missing module can be a hidden one.
        note = importing.hidden_module_note(module) if isinstance(error, ModuleNotFoundError) else ""
        raise ConfigError(f"{shortened(what)} cannot be imported: {reason}{note}") from error


def _attribute(owner: Any, name: str) -> Any:
    for part in name.split("."):
        if not hasattr(owner, part):
            classes = [each for each in vars(owner) if inspect.isclass(vars(owner)[each])]
            known = getattr(owner, "__name__", str(owner))
            raise ConfigError(missing(part, known, classes) + importing.hidden_module_note(known))
        owner = getattr(owner, part)
    return owner


def _only(group: str, module: Any) -> type:
    kind = base(group)
    usable = {
        each
        for each in vars(module).values()
        if inspect.isclass(each) and issubclass(each, kind) and not inspect.isabstract(each)
        if each.__module__.split(".")[0] == module.__name__.split(".")[0]
    }
    if len(usable) == 1:
        return usable.pop()
    if not usable:
        raise WrongKindError(module.__name__, group, f"a module without any {NOUNS[group]}")
    listing = ", ".join(sorted(each.__name__ for each in usable))
    raise ConfigError(
        f"{module.__name__} is a module: name one {NOUNS[group]} in it, as {module.__name__}:Class (it has {listing})"
    )


def _usable(group: str, thing: Any, what: str) -> type:
    kind, noun = base(group), NOUNS[group]
    if isinstance(thing, kind):
        raise WrongKindError(what, group, _what(thing), instance=True)
    if not inspect.isclass(thing) or not issubclass(thing, kind):
        raise WrongKindError(what, group, f"{_what(thing)}, which does not derive from {kind.__name__}")
    if inspect.isabstract(thing):
        missing = ", ".join(sorted(getattr(thing, "__abstractmethods__", ())))
        raise ConfigError(f"{what} is an abstract {noun}: it does not define {missing}")
    return thing


def _what(thing: Any) -> str:
    if inspect.isclass(thing):
        return f"the class {thing.__name__}"
    if inspect.ismodule(thing):
        return "a module"
    return "a function" if inspect.isroutine(thing) else f"an instance of {type(thing).__name__}"


def _unknown(group: str, text: str, entries: Iterable[str]) -> str:
    listing = ", ".join(sorted(entries)) or "none"
    near = did_you_mean(text.split(".")[-1].split(":")[-1], entries).removeprefix("; ")
    return (
        f"unknown {NOUNS[group]} {shortened(text)!r}"
        + f" ({near})" * bool(near)
        + f"; installed: {listing}; an import path (my_package:MyClass) is accepted, too"
    )


# Describing


def _read(group: str, entry: EntryPoint) -> dict[str, Any]:
    module, name = _split(entry.value)
    if find(module) is None:
        raise ConfigError(f"there is no module {module}")
    try:
        source = ModuleSource.at(module)
        missing = source.missing_imports()
        if missing:
            raise ConfigError(f"{module} imports {', '.join(missing)}, which is not installed")
        if group == METRICS:
            return _of_function(source.function(name) or ast.parse("def name(): ...").body[0])
        return source.traits(name, BASES[group].replace(":", "."))
    except KeyError:  # made at run time, compiled, or brought in by an import that cannot be followed
        return _traits(_usable(group, _attribute(_import(module, entry.name), name), entry.name))


def _of_function(node: Any) -> dict[str, Any]:
    """The summary of a metric's function, with its direction, from source code."""
    lower = any("maximize=False" in ast.unparse(each) for each in node.decorator_list)
    summary = (ast.get_docstring(node) or "").split("\n")[0]
    return {"summary": f"{summary} (lower is better)".strip() if lower else summary}


def _traits(kind: type) -> dict[str, Any]:
    """The traits of an imported class, as `ModuleSource.traits` reads them from source code."""
    traits: dict[str, Any] = {"summary": (inspect.getdoc(kind) or "").split("\n")[0]}
    for name in (*SETS, *FLAGS, *TEXTS):
        value = vars(kind).get(name) if name == "advice" else inspect.getattr_static(kind, name, None)
        if isinstance(value, (set, frozenset)) and name in SETS:
            traits[name] = frozenset(value)
        elif isinstance(value, (str, bool)):
            traits[name] = value
        elif value is not None and name not in TEXTS:
            traits[name] = None
    return traits


# Helpers


def _split(path: str) -> tuple[str, str]:
    module, _, name = path.partition(":")
    return module.strip(), name.split("[")[0].strip()


def _package(entry: EntryPoint) -> str:
    return _name_of(entry.dist) if entry.dist else "an unknown package"


@lru_cache(maxsize=256)
def _name_of(distribution: Distribution) -> str:
    """Normalised name; cached, since every access parses the whole metadata."""
    return _normal(distribution.name)


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _warn(message: str) -> None:
    warnings.warn(message, PluginWarning, stacklevel=3)
