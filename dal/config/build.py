"""Build objects from settings: each setting is checked against its constructor, and each error names its place."""

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

#: Largest number of classes that a config may name; each takes about ten milliseconds.
_MAX_PARTS = 300
#: Largest number of items of a list that jsonargparse parses, which copies the list for each item.
_MAX_ITEMS = 500


def build(
    cls: type[T], settings: Node, overrides: Override = NOTHING, *, stored: bool = False
) -> tuple[T, tuple[str, ...]]:
    """Build an object of `cls` from settings and command-line overrides.

    Args:
        cls: class of the object.
        settings: its options.
        overrides: options from the command line, which take precedence.
        stored: whether the settings come from an existing folder, where names of earlier versions need no note.

    Returns:
        The object, and notes for the user.

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
    """Matches settings with constructor signatures, and records the place of each value for error messages.

    Attributes:
        stored: whether names of earlier versions need no note.
        leaves: annotation and node of each value, by dotted path.
        notes: messages for the user.
        parts: number of classes named so far.
    """

    stored: bool = False
    leaves: dict[str, tuple[Any, Node]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    parts: int = 0

    def construct(self, part: Part, place: str) -> Any:
        """Construct a part, after the parts inside it.

        jsonargparse parses only the values that are not of the right type already: it parses the contents of a class
        several times at every level, and copies a list for each of its items.
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
        """A resolved value with its parts constructed."""
        if isinstance(value, Part):
            return self.construct(value, place)
        if isinstance(value, dict):
            return {key: self._constructed(inner, place) for key, inner in value.items()}
        return [self._constructed(inner, place) for inner in value] if isinstance(value, list) else value

    def constructor(self, cls: Any, node: Node, override: Override, path: str, skipped: int = 0) -> dict[str, Any]:
        """Resolved arguments of `cls` except the first `skipped`."""
        given: dict[str, Node] = node.value if isinstance(node.value, dict) else {}
        given = self._current(cls, given, lambda option: option.place)
        override = Override(override.node, self._current(cls, override.inside, lambda option: option.first().place))
        parameters, hints = dict(list(parameters_of(cls).items())[skipped:]), hints_of(cls)
        if not is_open(cls):
            what = f"{cls.__name__} has no option {{!r}}" if path else "unknown key {!r}"
            refuse_unknown(given, override, parameters, what)
        arguments: dict[str, Any] = {}
        for name, parameter in parameters.items():
            inner, over = given.get(name), override.inside.get(name, NOTHING)
            annotation, inner_path = hints.get(name, Any), _join(path, name)
            if inner is not None or over is not NOTHING:
                default = None if parameter.default is parameter.empty else parameter.default
                arguments[name] = self.value(annotation, inner, over, inner_path, default)
            elif is_factory(annotation) and parameter.default is made_by(annotation):
                # The default is the class of the product, which jsonargparse would wrap in its own factory.
                arguments[name] = self.chosen(annotation, None, NOTHING, inner_path, None)
            elif parameter.default is parameter.empty:
                owner = cls.__name__ if path else "the config"
                raise ConfigError(f"{node.place}: {owner} needs {inner_path}: {spoken(annotation)}")
        return arguments | {key: plain(inner) for key, inner in given.items() if key not in parameters}

    def _current(self, cls: Any, options: dict[str, V], place: Callable[[V], str]) -> dict[str, V]:
        """Options by their current names, with a note for each one given by its old name.

        Raises:
            ConfigError: an option is given by both names.
        """
        renamed = moved.renamed_options(cls)
        current: dict[str, V] = {}
        for key, given in options.items():
            now = renamed.get(key, key)
            if now != key and now in options:
                raise ConfigError(f"{place(given)}: {key} was renamed to {now}, which is given as well")
            if now != key:
                self._note_renamed(place(given), f"the option {key} of {cls.__name__}", now)
            current[now] = given
        return current

    def _note_renamed(self, place: str, before: str, now: str) -> None:
        note = f"{place}: {before} is called {now} from version 0.2 on; the old name ends with 0.3"
        if not self.stored and note not in self.notes:
            self.notes.append(note)

    def value(self, annotation: Any, node: Node | None, override: Override, path: str, default: Any = None) -> Any:
        """Resolve one argument: a class with its own arguments, a list of values, or a plain value."""
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
        resolved = self.leaf(annotation, current, path)
        if not override.inside:
            return resolved
        return resolved | {key: plain(inner.first()) for key, inner in override.inside.items()}

    def fixed(self, member: Any, node: Node | None, override: Override, path: str, default: Any) -> Any:
        """Resolve an argument that only one class fits, given by its keys."""
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
        """Resolve an argument that several classes fit: an abstract base, or a factory."""
        inside = dict(override.inside)
        named = inside.pop("class_path", NOTHING).node or override.node
        inside |= inside.pop("init_args", NOTHING).inside
        cls, options = self._written(member, node, path, default, replaced=named is not None)
        if named is not None:
            cls, options = self._renamed(member, named, path, cls, options)
        if cls is None:
            place = next(iter(inside.values())).first().place if inside else "the config"
            raise ConfigError(f"{place}: also name the class of {path}, such as --{path} {_example(member)}")
        skipped = handed_over(member) if is_factory(member) else 0
        arguments = self.constructor(cls, options, Override(None, inside), path, skipped)
        return self._part(cls, arguments, path, options, skipped=skipped, factory=is_factory(member))

    def _part(self, cls: Any, arguments: dict[str, Any], path: str, node: Node, **kind: Any) -> Part:
        self.parts += 1
        if self.parts > _MAX_PARTS:
            raise ConfigError(f"{node.place}: a config names at most {_MAX_PARTS} classes")
        return Part(cls, arguments, path, **kind)

    def _written(self, member: Any, node: Node | None, path: str, default: Any, replaced: bool) -> tuple[Any, Node]:
        """Class and options in the file, else the class of the default.

        With `replaced`, errors in the file are ignored, since the command line replaces the class.
        """
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
        """Class and options on the command line, with the file's options if the class is the same."""
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
        """Class and options in the form `Name`, `{class_path: Name, init_args: {...}}` or `{Name: {...}}`."""
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
            cls = classes.factory(base, name) if is_factory(member) else classes.find(base, name)
        except ConfigError as error:
            raise ConfigError(f"{node.at(path)}: {error}") from error
        return cls, options

    def leaf(self, annotation: Any, node: Node, path: str) -> Any:
        """Resolve a plain value according to its annotation."""
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
        """One-line error for an error of jsonargparse in the part at `within`: place, key, expected and given value."""
        text = str(error)
        path = ".".join(key for key in (within, *re.findall(r'(?:Parser|Config) key "([^"]+)"', text)) if key)
        path = path.replace(".init_args", "")
        if path not in self.leaves:
            return ConfigError(f"{shortened(path)}: {_one_line(error)}" if path else _one_line(error))
        annotation, node = self.leaves[path]
        return ConfigError(f"{node.at(path)} takes {spoken(annotation)}, not {node.shown}")


def refuse_unknown(given: Mapping[str, Node], override: Override, known: Collection[str], what: str) -> None:
    """Raise ConfigError for an unknown key, with the most similar known one.

    Args:
        given: the keys of a mapping in the config.
        override: overrides of the same mapping.
        known: the known keys.
        what: template of the message, in which `{!r}` is the key.
    """
    places = {key: node.place for key, node in given.items()}
    places |= {key: inner.first().place for key, inner in override.inside.items()}
    for key, place in places.items():
        if key not in known:
            hint = classes.near(key, known) or f"; there are {', '.join(known)}" * bool(known)
            raise ConfigError(f"{place}: {what.format(shortened(key))}{hint}")


def _named(node: Node, base: type, factory: bool) -> tuple[str | None, Node]:
    """Class name and options of a node; the name is None where the node names no class."""
    value, options = node.value, Node({}, None, node.place)
    if isinstance(value, dict) and "class_path" in value:
        inside = value.get("init_args", options)
        others = {key: inner for key, inner in value.items() if key not in {"class_path", "init_args"}}
        if others and (is_empty(inside) or isinstance(inside.value, dict)):
            inside = Node({**(inside.value or {}), **others}, None, inside.place)
        return str(value["class_path"].value), inside
    if isinstance(value, dict) and len(value) == 1:
        [(name, inner)] = value.items()
        if name[:1].isupper() or "." in name or ":" in name or classes.is_short_name(classes.kind_of(base), name):
            return name, inner
    return (value, options) if isinstance(value, str) and value else (None, options)


def _is_plain(members: list[Any], node: Node | None) -> bool:
    """Whether the value given for a union of a class and plain types is a plain value."""
    if node is None or node.value is None or isinstance(node.value, dict):
        return False
    if isinstance(node.value, list):
        return any(typing.get_origin(member) in SEQUENCES for member in members)
    return str in members if isinstance(node.value, str) else _takes(members, node)


def _takes(members: list[Any], node: Node) -> bool:
    """Whether a value that is not text fits one of the types unchanged."""
    kinds = {typing.get_origin(member) or member for member in members}
    if Any in kinds or type(node.value) in kinds or (type(node.value) is int and float in kinds):
        return True
    return any(type(node.value) is type(each) and node.value == each for each in _literals(members))


def _as_text(members: list[Any], node: Node) -> Any:
    """The original text of a number where text is expected; otherwise the value."""
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


#: Pattern of the import path of a function or class.
_IMPORT_PATH = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)+")


def _one_line(error: BaseException) -> str:
    return shortened(" ".join(str(error).split()), 500) or type(error).__name__
