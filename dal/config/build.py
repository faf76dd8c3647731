"""From settings to objects: every setting against the constructor that takes it, every error with its place."""

import inspect
import re
import typing
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from dal.config import class_names as classes
from dal.config import moved
from dal.config.factory import Factory, new_parser
from dal.config.parts import Part, admit_at, check_left, plain_arguments, ready
from dal.config.settings_tree import Node, Override, is_empty, option, plain
from dal.config.signatures import (
    SEQUENCES,
    handed_over,
    hints_of,
    is_factory,
    is_fixed,
    is_open,
    made_by,
    members_of,
    parameters_of,
    spoken,
)
from dal.errors import ConfigError, shortened

T = TypeVar("T")
V = TypeVar("V", Node, Override)
NOTHING = Override()

#: Classes that a config may name; each takes about ten milliseconds.
_MAX_PARTS = 300
#: Items of a list that is left to jsonargparse, which copies the list for each of them.
_MAX_ITEMS = 500


def build(
    cls: type[T], settings: Node, overrides: Override = NOTHING, *, stored: bool = False
) -> tuple[T, tuple[str, ...]]:
    """The object that `cls` makes of the settings and the command line's overrides, and notes for the user.

    Args:
        cls: the class.
        settings: its options.
        overrides: options from the command line, which take precedence.
        stored: whether the settings are those of an existing folder, where names of earlier versions need no note.

    Raises:
        ConfigError: an unknown or missing key, a value of the wrong type, a class of the wrong kind or one that is not
            installed. The message begins with the place: file and line, or option.
    """
    resolver = _Resolver(stored)
    tree = resolver.constructor(cls, settings, overrides, "")
    check_left(tree, settings.place)
    made = resolver.construct(Part(cls, tree, ""), settings.place)
    return made, tuple(resolver.notes)


@dataclass
class _Resolver:
    """Walks settings along constructor signatures and remembers where each leaf came from.

    Attributes:
        stored: whether names of earlier versions need no note.
        leaves: dotted path -> the annotation and the node.
        notes: what the user should know.
        parts: how many classes were named.
    """

    stored: bool = False
    leaves: dict[str, tuple[Any, Node]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    parts: int = 0

    def construct(self, part: Part, place: str) -> Any:
        """The object of a part, after the objects inside it.

        jsonargparse parses what is left: values that are of the right type already are kept from it, since it parses
        what is inside a class several times at every level, and copies a list for each of its items.
        """
        from jsonargparse import ArgumentError

        if part.factory and not inspect.isclass(part.cls):
            return Factory(part.class_path, plain_arguments(part.arguments))
        done: dict[str, Any] = {}
        left: dict[str, Any] = plain_arguments(part.arguments) if part.factory else {}
        hints = hints_of(part.cls)
        for name, value in () if part.factory else part.arguments.items():
            made, convert = self._constructed(value, place), ready(hints.get(name), value)
            if convert is not None:
                done[name] = convert(made)
            else:
                left[name] = made
        for name, value in left.items():
            if isinstance(value, list) and len(value) > _MAX_ITEMS:
                raise ConfigError(f"{place}: {_join(part.path, name)} holds more than {_MAX_ITEMS} items")
        parser = new_parser()
        skip: set[str | int] = {*list(parameters_of(part.cls))[: part.skipped], *done}
        parser.add_class_arguments(part.cls, as_group=False, skip=skip)
        try:
            config = parser.parse_object(left)
        except (ArgumentError, TypeError, ValueError) as error:
            raise self.explain(error, part.path) from error
        if part.factory:  # jsonargparse has changed the arguments that it was given
            return Factory(part.class_path, plain_arguments(part.arguments))
        try:
            return part.cls(**parser.instantiate(config).as_dict(), **done)
        except (TypeError, ValueError) as error:
            raise ConfigError(f"{place}: {_one_line(error)}") from error

    def _constructed(self, value: Any, place: str) -> Any:
        """A resolved value with the objects of its parts."""
        if isinstance(value, Part):
            return self.construct(value, place)
        if isinstance(value, dict):
            return {key: self._constructed(inner, place) for key, inner in value.items()}
        return [self._constructed(inner, place) for inner in value] if isinstance(value, list) else value

    def constructor(self, cls: Any, node: Node, override: Override, path: str, skipped: int = 0) -> dict[str, Any]:
        """The arguments of `cls` but for the first `skipped`, resolved."""
        given: dict[str, Node] = node.value if isinstance(node.value, dict) else {}
        given = self._current(cls, given, lambda option: option.place)
        override = Override(override.node, self._current(cls, override.inside, lambda option: option.first().place))
        parameters, hints = dict(list(parameters_of(cls).items())[skipped:]), hints_of(cls)
        self._refuse_unknown(cls, given, override, path, parameters)
        arguments: dict[str, Any] = {}
        for name, parameter in parameters.items():
            inner, over = given.get(name), override.inside.get(name, NOTHING)
            annotation, inner_path = hints.get(name, Any), _join(path, name)
            if inner is not None or over is not NOTHING:
                default = None if parameter.default is parameter.empty else parameter.default
                arguments[name] = self.value(annotation, inner, over, inner_path, default)
            elif _is_recipe(annotation, parameter.default):
                arguments[name] = self.chosen(annotation, None, NOTHING, inner_path, None)
            elif parameter.default is parameter.empty:
                owner = cls.__name__ if path else "the config"
                raise ConfigError(f"{node.place}: {owner} needs {inner_path}: {spoken(annotation)}")
        return arguments | {key: plain(inner) for key, inner in given.items() if key not in parameters}

    def _current(self, cls: Any, options: dict[str, V], place: Callable[[V], str]) -> dict[str, V]:
        """Options under their present names, with a note for each that has an old one.

        Raises:
            ConfigError: an option is given under both names.
        """
        renamed = moved.renamed_options(cls)
        found: dict[str, V] = {}
        for key, given in options.items():
            now = renamed.get(key, key)
            if now != key and now in options:
                raise ConfigError(f"{place(given)}: {key} was renamed to {now}, which is given as well")
            if now != key:
                self._note_renamed(place(given), f"the option {key} of {cls.__name__}", now)
            found[now] = given
        return found

    def _note_renamed(self, place: str, before: str, now: str) -> None:
        note = f"{place}: {before} is called {now} from version 0.2 on; the old name ends with 0.3"
        if not self.stored and note not in self.notes:
            self.notes.append(note)

    def _refuse_unknown(
        self, cls: Any, given: dict[str, Node], override: Override, path: str, parameters: Collection[str]
    ) -> None:
        if is_open(cls):
            return
        refuse_unknown(
            given, override, parameters, f"{cls.__name__} has no option {{!r}}" if path else "unknown key {!r}"
        )

    def value(self, annotation: Any, node: Node | None, override: Override, path: str, default: Any = None) -> Any:
        """One argument: a class with its own arguments, a list of values, or a leaf."""
        current = override.node or node
        members = members_of(annotation)
        nothing = current is not None and current.value is None and type(None) in members
        if not (nothing and not override.inside):
            for member in members:
                if made_by(member) is not None and not _is_plain(members, current):
                    slot = self.fixed if is_fixed(member) else self.chosen
                    return slot(member, node, override, path, default)
        if override.inside and not (current is not None and isinstance(current.value, dict)):
            key, inner = next(iter(override.inside.items()))
            it = f"it has no option {shortened(key)!r}"
            raise ConfigError(f"{inner.first().at(path)}: {path} takes {spoken(annotation)}; {it}")
        assert current is not None
        self.leaves[path] = (annotation, current)
        found = self.leaf(annotation, current, path)
        return (
            found | {key: plain(inner.first()) for key, inner in override.inside.items()} if override.inside else found
        )

    def fixed(self, member: Any, node: Node | None, override: Override, path: str, default: Any) -> Any:
        """A slot that only one class fits, given by its keys."""
        current = override.node or node or Node({}, None, override.first().place)
        if not isinstance(current.value, dict):
            raise ConfigError(
                f"{current.at(path)} takes keys ({_some(parameters_of(member))}), not {current.shown}; "
                f"such as {path}.{next(iter(parameters_of(member)), 'key')}"
            )
        if "class_path" in current.value:
            current = current.value.get("init_args", Node({}, None, current.place))
        return self._part(member, self.constructor(member, current, override, path), path, current, fixed=True)

    def chosen(self, member: Any, node: Node | None, override: Override, path: str, default: Any) -> Any:
        """A slot that several classes fit: an abstract base, or a factory."""
        inside = dict(override.inside)
        named = inside.pop("class_path", NOTHING).node or override.node
        inside |= inside.pop("init_args", NOTHING).inside
        cls, options = self._written(member, node, path, default, replaced=named is not None)
        if named is not None:
            cls, options = self._renamed(member, named, path, cls, options)
        if cls is None:
            place = next(iter(inside.values())).first().place if inside else "the config"
            raise ConfigError(f"{place}: say which class {path} is as well, such as --{path} {_example(member)}")
        skipped = handed_over(member) if is_factory(member) else 0
        arguments = self.constructor(cls, options, Override(None, inside), path, skipped)
        return self._part(cls, arguments, path, options, skipped=skipped, factory=is_factory(member))

    def _part(self, cls: Any, arguments: dict[str, Any], path: str, node: Node, **kind: Any) -> Part:
        self.parts += 1
        if self.parts > _MAX_PARTS:
            raise ConfigError(f"{node.place}: a config names at most {_MAX_PARTS} classes")
        return Part(cls, arguments, path, **kind)

    def _written(self, member: Any, node: Node | None, path: str, default: Any, replaced: bool) -> tuple[Any, Node]:
        """What the file says, else the default's class. A mistake in what the command line replaces does not matter."""
        empty = Node({}, None, "the config")
        try:
            if node is not None and not is_empty(node):
                return self._choice(member, node, path)
        except ConfigError:
            if not replaced:
                raise
            return None, empty
        base = made_by(member)
        assert base is not None
        if node is not None and not replaced and not is_factory(member):
            raise ConfigError(f"{node.at(path)} is empty: it takes {spoken(member)}, such as {_example(member)}")
        if isinstance(default, base):
            return type(default), empty
        return (base if is_factory(member) and not inspect.isabstract(base) else None), empty

    def _renamed(self, member: Any, named: Node, path: str, before: Any, options: Node) -> tuple[Any, Node]:
        """What the command line says, with the file's options where the class stays the same."""
        if is_empty(named):
            raise ConfigError(f"{named.place} takes {spoken(member)}, such as {_example(member)}")
        cls, given = self._choice(member, named, path)
        if cls is before:
            return cls, Node(options.value | given.value, None, named.place)
        if before is not None and options.value:
            self.notes.append(
                f"{named.place} {cls.__name__} replaces {before.__name__}; its options in the config no longer apply: "
                + shortened(", ".join(options.value), 500)
            )
        return cls, given

    def _choice(self, member: Any, node: Node, path: str) -> tuple[Any, Node]:
        """The class and its options of `Name`, `{class_path: Name, init_args: {...}}` or `{Name: {...}}`."""
        base = made_by(member)
        assert base is not None
        name, options = _named(node, base, is_factory(member))
        if name is None:
            if is_factory(member) and isinstance(node.value, dict):
                return base, node
            how = f"write `{path}: {_example(member)}`, or class_path and init_args"
            raise ConfigError(f"{node.at(path)} takes {spoken(member)}, not {node.shown}; {how}")
        now = moved.current_name(classes.kind_of(base), name)
        if now != name:
            self._note_renamed(node.place, name, now)
            name = now
        if is_empty(options):
            options = Node({}, None, options.place)
        if not isinstance(options.value, dict):
            it = f"the options of {shortened(name)} are `key: value`, not {options.shown}"
            raise ConfigError(f"{options.place}: {it}")
        try:
            found = classes.factory(base, name) if is_factory(member) else classes.find(base, name)
        except ConfigError as error:
            raise ConfigError(f"{node.at(path)}: {error}") from error
        return found, options

    def leaf(self, annotation: Any, node: Node, path: str) -> Any:
        """A value without a class of its own, as the annotation wants it."""
        members = members_of(annotation)
        accepts_text = str in members or Any in members
        lists = [m for m in members if typing.get_origin(m) in SEQUENCES]
        if node.from_command_line and accepts_text and isinstance(node.value, list | dict) and not lists:
            return node.raw
        if lists and not accepts_text and node.from_command_line and not isinstance(node.value, list | dict | None):
            return self.leaf(annotation, option(f"[{node.raw}]", node.place), path)
        if isinstance(node.value, list):
            inner = (*typing.get_args(lists[0]), Any)[0] if lists else Any
            values = enumerate(node.value)
            return [self.value(inner, item, NOTHING, f"{path}.{i}") for i, item in values]
        if isinstance(node.value, dict):
            inner = next((typing.get_args(m)[1] for m in members if len(typing.get_args(m)) == 2), Any)
            return {k: self.value(inner, v, NOTHING, f"{path}.{k}") for k, v in node.value.items()}
        if isinstance(node.value, str) and not accepts_text and _IMPORT_PATH.fullmatch(node.value):
            admit_at(node.value, node.at(path))  # a function or class by its import path
        return node.value if isinstance(node.value, str) or _takes(members, node) else _as_text(members, node)

    def explain(self, error: Exception, within: str) -> ConfigError:
        """jsonargparse's error about the part at `within` as one line: place, key, what was expected, what came."""
        text = str(error)
        path = ".".join(key for key in (within, *re.findall(r'(?:Parser|Config) key "([^"]+)"', text)) if key)
        path = path.replace(".init_args", "")
        if path not in self.leaves:
            return ConfigError(f"{shortened(path)}: {_one_line(error)}" if path else _one_line(error))
        annotation, node = self.leaves[path]
        return ConfigError(f"{node.at(path)} takes {spoken(annotation)}, not {node.shown}")


def refuse_unknown(given: Mapping[str, Node], override: Override, known: Collection[str], what: str) -> None:
    """Raises `ConfigError` for a key that is not known, with the nearest that is. `what` says so, `{!r}` is the key."""
    places = {key: node.place for key, node in given.items()}
    places |= {key: inner.first().place for key, inner in override.inside.items()}
    for key, place in places.items():
        if key not in known:
            hint = classes.near(key, known) or f"; there are {', '.join(known)}" * bool(known)
            raise ConfigError(f"{place}: {what.format(shortened(key))}{hint}")


def _named(node: Node, base: type, factory: bool) -> tuple[str | None, Node]:
    """The class name and the options that a node gives; no name where it gives none."""
    value, options = node.value, Node({}, None, node.place)
    if isinstance(value, dict) and "class_path" in value:
        inside = value.get("init_args", options)
        beside = {key: inner for key, inner in value.items() if key not in {"class_path", "init_args"}}
        if beside and (is_empty(inside) or isinstance(inside.value, dict)):
            inside = Node({**(inside.value or {}), **beside}, None, inside.place)
        return str(value["class_path"].value), inside
    if isinstance(value, dict) and len(value) == 1:
        [(name, inner)] = value.items()
        if name[:1].isupper() or "." in name or ":" in name or classes.is_short_name(classes.kind_of(base), name):
            return name, inner
    return (value, options) if isinstance(value, str) and value else (None, options)


def _is_recipe(annotation: Any, default: Any) -> bool:
    """Whether a factory's default is the class that it makes, which jsonargparse would wrap in a factory of its own."""
    return is_factory(annotation) and default is made_by(annotation)


def _is_plain(members: list[Any], node: Node | None) -> bool:
    """Whether a union of a class and plain types is given as a plain value."""
    if node is None or node.value is None or isinstance(node.value, dict):
        return False
    if isinstance(node.value, list):
        return any(typing.get_origin(member) in SEQUENCES for member in members)
    return str in members if isinstance(node.value, str) else _takes(members, node)


def _takes(members: list[Any], node: Node) -> bool:
    """Whether a value that is not text fits one of the types as it stands."""
    kinds = {typing.get_origin(member) or member for member in members}
    if Any in kinds or type(node.value) in kinds or (type(node.value) is int and float in kinds):
        return True
    return any(type(node.value) is type(each) and node.value == each for each in _literals(members))


def _as_text(members: list[Any], node: Node) -> Any:
    """A number as the text it was written as, where text is wanted."""
    return node.raw if str in members or node.raw in _literals(members) else node.value


def _literals(members: list[Any]) -> list[Any]:
    return [value for m in members if typing.get_origin(m) is typing.Literal for value in typing.get_args(m)]


def _example(member: Any) -> str:
    base = made_by(member)
    assert base is not None
    examples = {
        "strategy": "Margin",
        "learner": "ProbeLearner",
        "oracle": "Simulated",
        "stopping rule": "StabilizingPredictions",
        "candidate generator": "SEALS",
        "language-model client": "AnthropicClient",
    }
    return examples.get(classes.kind_of(base) or "", "my_package.MyClass")


def _some(names: typing.Iterable[str]) -> str:
    listed = list(names)
    return ", ".join(listed[:5]) + (", ..." if len(listed) > 5 else "")


def _join(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


#: What may be the import path of a function or class.
_IMPORT_PATH = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)+")


def _one_line(error: BaseException) -> str:
    return shortened(" ".join(str(error).split()), 500) or type(error).__name__
