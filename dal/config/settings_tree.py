"""Settings from YAML files and command lines, as a tree of values with their places for error messages."""

import codecs
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from dal.config.bounded_yaml import MAX_YAML_LENGTH, BoundedComposer
from dal.errors import ConfigError, did_you_mean, shortened
from dal.store.bounded_json import MAX_DEPTH

_STANDARD = "tag:yaml.org,2002:"
_PLAIN_TAGS = {_STANDARD + name for name in ("str", "int", "float", "bool", "null", "map", "seq", "merge", "value")}


class _Loader(BoundedComposer, yaml.SafeLoader):
    """Loader of YAML 1.2 scalars with limits: `yes` and `no` are text, 1e-3 is a number and 2024-01-01 is text."""

    yaml_implicit_resolvers = {  # noqa: RUF012
        first: [(tag, pattern) for tag, pattern in resolvers if tag.split(":")[-1] in {"null", "merge"}]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }


_NUMBER = "-+.0123456789"
_Loader.add_implicit_resolver(_STANDARD + "bool", re.compile("^(?:true|True|TRUE|false|False|FALSE)$"), "tTfF")
_Loader.add_implicit_resolver(_STANDARD + "int", re.compile("^[-+]?(?:0|[1-9][0-9_]*)$"), _NUMBER)
_Loader.add_implicit_resolver(
    _STANDARD + "float",
    re.compile(
        r"^(?:[-+]?(?:(?:0|[1-9][0-9]*)\.[0-9]*|\.[0-9]+)(?:[eE][-+]?[0-9]+)?|[-+]?(?:0|[1-9][0-9]*)[eE][-+]?[0-9]+"
        r"|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN))$"
    ),
    _NUMBER,
)


@dataclass(frozen=True)
class Node:
    """One setting.

    Attributes:
        value: a dict of nodes, a list of nodes, or a plain scalar.
        raw: the original text; None for a dict or list in a file.
        place: place for error messages: `run.yaml:12` or `--strategy.weight`.
    """

    value: Any
    raw: str | None = None
    place: str = ""

    @property
    def shown(self) -> str:
        """The value for error messages."""
        if self.value is None:
            return "null"
        return shortened(repr(plain(self) if self.raw is None else self.raw[:_SHOWN]))

    def at(self, path: str) -> str:
        """Prefix of an error message: `run.yaml:12: learner.epochs`, or the option alone."""
        return self.place if self.from_command_line else f"{self.place}: {path}"

    @property
    def from_command_line(self) -> bool:
        """Whether the value comes from a command-line option."""
        return self.place.startswith("--")


@dataclass
class Override:
    """Command-line values of one setting and of the settings inside it."""

    node: Node | None = None
    inside: dict[str, "Override"] = field(default_factory=dict)

    def first(self) -> Node:
        """The first node here or inside, for error messages."""
        return self.node or next(iter(self.inside.values())).first()


def read(path: Path) -> Node:
    """Read the settings of a YAML file, a mapping. Top-level keys may be dotted (`data.path: tickets.csv`).

    Raises:
        ConfigError: the file is missing, not UTF-8, not YAML, not a mapping, or has duplicate keys.
    """
    place = shortened(str(path).encode(errors="backslashreplace").decode(), 200)
    root = _compose(_text_of(path, place), place)
    if not isinstance(root.value, dict):
        raise ConfigError(f"{place}: expected `key: value` lines such as `strategy: Margin`, found {_kind(root)}")
    return Node(_undotted(root.value), place=place)


def _text_of(path: Path, place: str) -> str:
    try:
        if not path.is_file():
            kind = "a folder, not a file" if path.is_dir() else "no regular file" if path.exists() else "not there"
            raise ConfigError(f"{place}: this config file is {kind}{_similar(path)}")
        with path.open("rb") as file:
            content = file.read(MAX_YAML_LENGTH + 1)
    except (OSError, ValueError) as error:  # a name with a NUL is a ValueError
        raise ConfigError(f"{place}: cannot be read: {getattr(error, 'strerror', None) or error}") from error
    if len(content) > MAX_YAML_LENGTH:
        raise ConfigError(f"{place}: more than {MAX_YAML_LENGTH:,} bytes are no config: is it a data file?")
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) or b"\0" in content[:4]:
        raise ConfigError(f"{place}: not UTF-8 text but UTF-16 or binary; save it as UTF-8")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ConfigError(f"{place}: not UTF-8 text (byte {error.start}); save it as UTF-8") from error


def options(pairs: Sequence[tuple[str, str]]) -> Override:
    """Overrides of `--key value` pairs, given as dotted keys without the dashes and values, in any order.

    Raises:
        ConfigError: a key is empty or given twice.
    """
    root = Override()
    for key, text in pairs:
        names = key.replace("-", "_").split(".")
        if not all(names) or len(names) > MAX_DEPTH:
            raise ConfigError(f"--{shortened(key)}: not a key such as --strategy or --data.path")
        at = root
        for name in names:
            at = at.inside.setdefault(name, Override())
        if at.node is not None:
            raise ConfigError(f"--{shortened(key)} is given twice: {at.node.shown} and {shortened(repr(text))}")
        at.node = option(text, f"--{key}")
    return root


def option(text: str, place: str) -> Node:
    """Parse a command-line value as YAML, or else as text."""
    place = shortened(place)
    try:
        node = _compose(text, place)
    except ConfigError:
        if text.lstrip().startswith(("{", "[")):
            raise
        return Node(text, text, place)
    return Node(node.value, text, place)


def read_value(text: str) -> Any:
    """Parse a text as YAML, without places; `word:` alone is text.

    Raises:
        ConfigError: it is not YAML, or exceeds the limits.
    """
    value = plain(_compose(text, "the text"))
    return text if isinstance(value, dict) and all(inner is None for inner in value.values()) else value


def _compose(text: str, source: str) -> Node:
    def at(mark: Any) -> str:
        return source if source.startswith("--") else f"{source}:{mark.line + 1}"

    if len(text) > MAX_YAML_LENGTH:
        raise ConfigError(f"{source}: {len(text):,} characters exceed the limit of {MAX_YAML_LENGTH:,}")
    try:
        loader = _Loader(text)
        root = loader.get_single_node()
        if root is None:
            return Node(None, "", source)
        _refuse_duplicate_keys(root, at)
        return Node(*_convert(loader, root, at))
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        reason = shortened(" ".join(part for part in (error.context, error.problem) if part), 200)
        raise ConfigError(f"{at(mark) if mark else source}: not valid YAML: {reason}") from error
    except yaml.YAMLError as error:
        raise ConfigError(f"{source}: not valid YAML: {shortened(str(error).splitlines()[0], 200)}") from error


def _refuse_duplicate_keys(root: yaml.Node, at: Any) -> None:
    """Refuse duplicate keys, before merge keys, which may repeat a key, are resolved."""
    waiting, seen = [root], set[int]()
    while waiting:
        node = waiting.pop()
        if id(node) in seen:  # an alias
            continue
        seen.add(id(node))
        if isinstance(node, yaml.SequenceNode):
            waiting += reversed(node.value)
        if not isinstance(node, yaml.MappingNode):
            continue
        first: dict[str, Any] = {}
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and key.value != "<<":
                before = first.setdefault(key.value, key)
                if before is not key:
                    places = f"{at(key.start_mark)}: duplicate key {shortened(key.value)!r}"
                    raise ConfigError(f"{places} (first at {at(before.start_mark)})")
        waiting += [value for _, value in reversed(node.value)]


def _convert(loader: _Loader, node: yaml.Node, at: Any) -> tuple[Any, str | None, str]:
    place = at(node.start_mark)
    if node.tag not in _PLAIN_TAGS:
        tag = shortened(node.tag)
        raise ConfigError(f"{place}: the tag {tag} is not allowed: write the class as class_path and init_args")
    if isinstance(node, yaml.ScalarNode):
        return _scalar(loader, node, place), node.value, place
    if isinstance(node, yaml.SequenceNode):
        return [Node(*_convert(loader, item, at)) for item in node.value], None, place
    assert isinstance(node, yaml.MappingNode)
    loader.flatten_mapping(node)
    found: dict[str, Node] = {}
    for key, item in node.value:
        if not isinstance(key, yaml.ScalarNode):
            raise ConfigError(f"{at(key.start_mark)}: a key must be a plain word")
        value, raw, _ = _convert(loader, item, at)
        found[key.value] = Node(value, raw, at(key.start_mark))
    return found, None, place


def _scalar(loader: _Loader, node: yaml.ScalarNode, place: str) -> Any:
    if "\0" in node.value:
        raise ConfigError(f"{place}: a value with a NUL character: {shortened(repr(node.value))}")
    try:
        return loader.construct_object(node)
    except ValueError as error:  # more digits than Python converts
        raise ConfigError(f"{place}: {shortened(node.value)} is no number that can be read") from error


def _undotted(nodes: dict[str, Node]) -> dict[str, Node]:
    """Move top-level keys such as `data.path` into `data`."""
    found = {key: node for key, node in nodes.items() if "." not in key}
    for key, node in nodes.items():
        *outer, last = key.split(".")
        if not outer:
            continue
        if len(outer) > MAX_DEPTH:
            raise ConfigError(f"{node.place}: the key {shortened(key)!r} is nested deeper than {MAX_DEPTH} levels")
        at = found
        for name in outer:
            inner = at.setdefault(name, Node({}, place=node.place))
            if not isinstance(inner.value, dict):
                inner = at[name] = Node({"class_path": inner}, place=inner.place)
            at = inner.value
        if last in at:
            raise ConfigError(f"{node.place}: duplicate key {shortened(key)!r} (first at {at[last].place})")
        at[last] = node
    return found


def walk(node: Node, path: str = "") -> Iterator[tuple[str, Node]]:
    """All nodes with their dotted paths, outermost first."""
    yield path, node
    pairs: Sequence[tuple[Any, Node]] = ()
    if isinstance(node.value, dict):
        pairs = list(node.value.items())
    elif isinstance(node.value, list):
        pairs = list(enumerate(node.value))
    for key, inner in pairs:
        yield from walk(inner, f"{path}.{key}" if path else str(key))


def plain(node: Node) -> Any:
    """Convert a node to plain Python values."""
    if isinstance(node.value, dict):
        return {key: plain(inner) for key, inner in node.value.items()}
    if isinstance(node.value, list):
        return [plain(inner) for inner in node.value]
    return node.value


def node_of(value: Any, place: str) -> Node:
    """Settings of plain Python values: the inverse of `plain`."""
    if isinstance(value, dict):
        value = {str(key): node_of(inner, place) for key, inner in value.items()}
    elif isinstance(value, list | tuple):
        value = [node_of(inner, place) for inner in value]
    return Node(value, None, place)


def is_empty(node: Node) -> bool:
    """Whether the value is null or an empty mapping."""
    return node.value is None or node.value == {}


def _kind(node: Node) -> str:
    if node.value is None:
        return "nothing"
    return "a list" if isinstance(node.value, list) else f"the text {str(node.raw)[:40]!r}"


def _similar(path: Path) -> str:
    folder = path.parent
    if not folder.is_dir():
        return f" (nor is the folder {shortened(str(folder))})"
    hint = did_you_mean(path.name, [entry.name for entry in folder.iterdir() if entry.suffix in {".yaml", ".yml"}])
    return hint.replace("'", f"{folder}/" if str(folder) != "." else "", 1).replace("'", "")


#: Largest number of characters of a value used in a message.
_SHOWN = 1000
