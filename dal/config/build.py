"""Build objects from settings: each setting is checked against its constructor, and each error names its place.

Settings are resolved first: every class is found, every name and plain value is checked. Nothing is constructed before
all of them are right.
"""

import contextlib
import inspect
import typing
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from dal.config import class_names as classes
from dal.config import moved
from dal.config.factory import Factory
from dal.config.leaf_values import WrongTypeError, convert
from dal.config.parts import Part, plain_arguments
from dal.config.settings_tree import Node, Override, is_empty, node_of, option, plain
from dal.config.signatures import (
    MAPPINGS,
    SEQUENCES,
    count_leading_arguments,
    expected_class,
    hints_of,
    is_factory,
    is_fixed,
    is_open,
    members_of,
    parameters_of,
    type_in_words,
)
from dal.errors import ConfigError, renaming_note, shortened

T = TypeVar("T")
V = TypeVar("V", Node, Override)
NOTHING = Override()

#: Largest number of classes that a config may name.
_MAX_PARTS = 300


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
    part = Part(cls, resolver.constructor(cls, settings, overrides, ""))
    return _construct(part, settings.place), tuple(resolver.notes)


def build_now(cls: Any, options: Mapping[str, Any], leading: Sequence[Any] = ()) -> Any:
    """Construct an object of a class or function from plain options, as written in a config.

    Args:
        cls: class or function.
        options: its keyword arguments; classes inside are given by `class_path` and `init_args`.
        leading: objects for its first positional arguments.

    Raises:
        ConfigError: an option is unknown, missing or of the wrong type.
    """
    node = node_of(dict(options), cls.__qualname__)
    arguments = _Resolver(stored=True).constructor(cls, node, NOTHING, cls.__qualname__, skipped=len(leading))
    return cls(*leading, **_converted(cls, arguments, node.place))


def _construct(part: Part, place: str) -> Any:
    """Construct a part, after the parts inside it."""
    if part.factory:
        return Factory(part.class_path, plain_arguments(part.arguments))
    arguments = _converted(part.cls, part.arguments, place)
    try:
        return part.cls(**arguments)
    except (TypeError, ValueError) as error:
        reason = shortened(" ".join(str(error).split()), 500) or type(error).__name__
        raise ConfigError(f"{place}: {reason}") from error


def _converted(cls: Any, arguments: Mapping[str, Any], place: str) -> dict[str, Any]:
    """Resolved arguments as the constructor takes them."""

    def constructed(value: Any) -> Any:
        if isinstance(value, Part):
            return _construct(value, place)
        if isinstance(value, dict):
            return {key: constructed(inner) for key, inner in value.items()}
        return [constructed(inner) for inner in value] if isinstance(value, list) else value

    hints = hints_of(cls)
    return {name: convert(hints.get(name, Any), constructed(value)) for name, value in arguments.items()}


@dataclass
class _Resolver:
    """Matches settings with constructor signatures, and checks each value.

    Attributes:
        stored: whether names of earlier versions need no note.
        notes: messages for the user.
        parts: number of classes named so far.
    """

    stored: bool = False
    notes: list[str] = field(default_factory=list)
    parts: int = 0

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
            annotation, inner_path = hints.get(name, Any), f"{path}.{name}" if path else name
            if inner is not None or over is not NOTHING:
                default = None if parameter.default is parameter.empty else parameter.default
                arguments[name] = self.value(annotation, inner, over, inner_path, default)
                self._check(annotation, arguments[name], over.node or inner or over.first(), inner_path)
            elif self.stored and name in getattr(cls, "earlier_values", {}):
                arguments[name] = cls.earlier_values[name]  # the folder's config is older than the option
            elif is_factory(annotation) and parameter.default is expected_class(annotation):
                # A stored config describes the default of a factory as it describes any other factory.
                arguments[name] = self.chosen(annotation, None, NOTHING, inner_path, None)
            elif parameter.default is parameter.empty:
                owner = cls.__name__ if path else "the config"
                raise ConfigError(f"{node.place}: {owner} needs {inner_path}: {type_in_words(annotation)}")
        return arguments | {key: plain(inner) for key, inner in given.items() if key not in parameters}

    def _check(self, annotation: Any, value: Any, node: Node, path: str) -> None:
        """Raise ConfigError unless a resolved value is of the type of its parameter."""
        try:
            convert(annotation, value)
        except WrongTypeError as error:
            raise ConfigError(f"{node.at(path)} takes {type_in_words(annotation)}, not {node.shown}") from error
        except ConfigError as error:
            raise ConfigError(f"{node.at(path)}: {error}") from error

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
        note = f"{place}: {renaming_note(before, now)}"
        if not self.stored and note not in self.notes:
            self.notes.append(note)

    def value(self, annotation: Any, node: Node | None, override: Override, path: str, default: Any = None) -> Any:
        """Resolve one argument: a class with its own arguments, a list of values, or a plain value."""
        current = override.node or node
        members = members_of(annotation)
        nothing = current is not None and current.value is None and type(None) in members
        if not (nothing and not override.inside):
            member = self._class_member(members, current, path)
            if member is not None:
                slot = self.fixed if is_fixed(member) else self.chosen
                return slot(member, node, override, path, default)
        is_mapping = any(typing.get_origin(member) in MAPPINGS for member in members)
        if override.inside and is_mapping and (current is None or current.value is None):
            current = Node({}, None, override.first().place)  # keys of a mapping that the config does not have
        if override.inside and not (current is not None and isinstance(current.value, dict)):
            key, inner = next(iter(override.inside.items()))
            it = f"it has no option {shortened(key)!r}"
            raise ConfigError(f"{inner.first().at(path)}: {path} takes {type_in_words(annotation)}; {it}")
        assert current is not None
        resolved = self.leaf(annotation, current, path)
        if not override.inside:
            return resolved
        return resolved | {key: plain(inner.first()) for key, inner in override.inside.items()}

    def _class_member(self, members: list[Any], node: Node | None, path: str) -> Any:
        """The member of a union that a class or its keys are given for; None for a plain value."""
        found = [member for member in members if expected_class(member) is not None]
        if not found and Any in members and node is not None and isinstance(node.value, dict):
            return object if "class_path" in node.value else None
        if not found or _is_plain(members, node):
            return None
        if len(found) > 1 and node is not None:
            for member in found:
                with contextlib.suppress(ConfigError):
                    self._choice(member, node, path)
                    return member
        return found[0]

    def fixed(self, member: Any, node: Node | None, override: Override, path: str, default: Any) -> Any:
        """Resolve an argument that only one class fits, given by its keys."""
        current = override.node or node or Node({}, None, override.first().place)
        if not isinstance(current.value, dict):
            keys = list(parameters_of(member))
            some = ", ".join(keys[:5]) + (", ..." if len(keys) > 5 else "")
            raise ConfigError(
                f"{current.at(path)} takes keys ({some}), not {current.shown}; such as {path}.{next(iter(keys), 'key')}"
            )
        if "class_path" in current.value:
            current = current.value.get("init_args", Node({}, None, current.place))
        return self._part(member, self.constructor(member, current, override, path), current, fixed=True)

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
        skipped = count_leading_arguments(member) if is_factory(member) else 0
        arguments = self.constructor(cls, options, Override(None, inside), path, skipped)
        # Earlier versions stored a class that is neither abstract nor a dataclass in a factory as it was written.
        written = None if is_factory(member) or inspect.isabstract(member) or node is None else plain(node)
        return self._part(cls, arguments, options, skipped=skipped, factory=is_factory(member), written=written)

    def _part(self, cls: Any, arguments: dict[str, Any], node: Node, **kind: Any) -> Part:
        self.parts += 1
        if self.parts > _MAX_PARTS:
            raise ConfigError(f"{node.place}: a config names at most {_MAX_PARTS} classes")
        return Part(cls, arguments, **kind)

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
        base = expected_class(member) or object
        if node is not None and not replaced and not is_factory(member):
            raise ConfigError(f"{node.at(path)} is empty: it takes {type_in_words(member)}, such as {_example(member)}")
        if isinstance(default, base):
            return type(default), empty
        return (base if is_factory(member) and not inspect.isabstract(base) else None), empty

    def _renamed(self, member: Any, named: Node, path: str, before: Any, options: Node) -> tuple[Any, Node]:
        """Class and options on the command line, with the file's options if the class is the same."""
        if is_empty(named):
            raise ConfigError(f"{named.place} takes {type_in_words(member)}, such as {_example(member)}")
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
        base = expected_class(member) or object
        name, options = _named(node, base, is_factory(member))
        if name is None:
            if is_factory(member) and isinstance(node.value, dict):
                return base, node
            how = f"write `{path}: {_example(member)}`, or class_path and init_args"
            raise ConfigError(f"{node.at(path)} takes {type_in_words(member)}, not {node.shown}; {how}")
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
        """Resolve a plain value according to its annotation: its items may be classes, and a number may mean text."""
        members = members_of(annotation)
        accepts_text = str in members or Any in members
        lists = [m for m in members if typing.get_origin(m) in SEQUENCES]
        if node.from_command_line and accepts_text and isinstance(node.value, list | dict) and not lists:
            return plain(node) if node.raw is None else node.raw
        if lists and not accepts_text and node.from_command_line and not isinstance(node.value, list | dict | None):
            return self.leaf(annotation, option(f"[{node.raw}]", node.place), path)
        if isinstance(node.value, list):
            return [self.value(_item_type(lists, i), item, NOTHING, f"{path}.{i}") for i, item in enumerate(node.value)]
        if isinstance(node.value, dict):
            mappings = [typing.get_args(m) for m in members if typing.get_origin(m) in MAPPINGS]
            inner = mappings[0][1] if mappings else Any
            return {k: self.value(inner, v, NOTHING, f"{path}.{k}") for k, v in node.value.items()}
        if isinstance(node.value, str) or node.raw is None or _takes(members, node):
            return node.value
        # The original text of a number where text is expected
        return node.raw if str in members or node.raw in _literals(members) else node.value


def _item_type(lists: list[Any], position: int) -> Any:
    """Type of an item of a list that one of several types may take."""
    found = []
    for each in lists:
        inner = typing.get_args(each)
        if typing.get_origin(each) is tuple and inner[1:] != (...,):
            inner = inner[position : position + 1]
        found.append(inner[0] if inner else Any)
    return typing.Union[tuple(found)] if found else Any  # noqa: UP007


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
            hint = classes.suggestion(key, known) or f"; there are {', '.join(known)}" * bool(known)
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
    if isinstance(node.value, str):
        return str in members or (bool(_literals(members)) and all(map(_is_fixed_or_plain, members)))
    return _takes(members, node)


def _is_fixed_or_plain(member: Any) -> bool:
    """Whether a text cannot name a class for a type: only one class fits it, or none."""
    return expected_class(member) is None or is_fixed(member)


def _takes(members: list[Any], node: Node) -> bool:
    """Whether a value that is not text fits one of the types unchanged."""
    kinds = {typing.get_origin(member) or member for member in members}
    if Any in kinds or type(node.value) in kinds or (type(node.value) is int and float in kinds):
        return True
    return any(type(node.value) is type(each) and node.value == each for each in _literals(members))


def _literals(members: list[Any]) -> list[Any]:
    return [value for m in members if typing.get_origin(m) is typing.Literal for value in typing.get_args(m)]


def _example(member: Any) -> str:
    base = expected_class(member) or object
    examples = {
        "strategy": "Margin",
        "learner": "ProbeLearner",
        "oracle": "Simulated",
        "stopping rule": "StabilizingPredictions",
        "candidate generator": "SEALS",
        "language-model client": "AnthropicClient",
    }
    return examples.get(classes.kind_of(base) or "", "my_package.MyClass")
