"""Settings as they were written: a tree of values that each know their place, from YAML files and command lines."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from dal.errors import ConfigError

_STANDARD = "tag:yaml.org,2002:"
_PLAIN_TAGS = {_STANDARD + name for name in ("str", "int", "float", "bool", "null", "map", "seq", "merge", "value")}


class _Loader(yaml.SafeLoader):
    """YAML 1.2 scalars: `yes` and `no` are class names, 1e-3 is a number and 2024-01-01 is text."""

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
        raw: as it was written; None for a dict or list in a file.
        place: where it was written, as a message shows it: `run.yaml:12` or `--strategy.weight`.
    """

    value: Any
    raw: str | None = None
    place: str = ""

    @property
    def shown(self) -> str:
        """The value as a message shows it."""
        return repr(plain(self) if self.raw is None else self.raw)

    def at(self, path: str) -> str:
        """Where and what, for the head of a message: `run.yaml:12: learner.epochs`, or the option alone."""
        return self.place if self.from_command_line else f"{self.place}: {path}"

    @property
    def from_command_line(self) -> bool:
        """Whether it was written as an option."""
        return self.place.startswith("--")


@dataclass
class Override:
    """What the command line says about one setting and about the settings inside it."""

    node: Node | None = None
    inside: dict[str, "Override"] = field(default_factory=dict)

    def first(self) -> Node:
        """The first node given here or inside, for messages."""
        return self.node or next(iter(self.inside.values())).first()


def read(path: Path) -> Node:
    """The settings of a YAML file: a mapping. Top-level keys may be dotted (`data.path: tickets.csv`).

    Raises:
        ConfigError: the file is missing, is not UTF-8, is not YAML, or is not a mapping without double keys.
    """
    if not path.is_file():
        kind = "a folder, not a file" if path.is_dir() else "not there"
        raise ConfigError(f"{path}: this config file is {kind}{_similar(path)}")
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: not UTF-8 text (byte {error.start}); save it as UTF-8") from error
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from error
    root = _compose(text, str(path))
    if not isinstance(root.value, dict):
        raise ConfigError(f"{path}: expected `key: value` lines such as `strategy: Margin`, found {_kind(root)}")
    return Node(_undotted(root.value), place=str(path))


def options(pairs: Sequence[tuple[str, str]]) -> Override:
    """The overrides of `--key value` pairs; keys are dotted and come without the dashes. The order does not matter.

    Raises:
        ConfigError: a key is empty or given twice.
    """
    root = Override()
    for key, text in pairs:
        names = key.replace("-", "_").split(".")
        if not all(names):
            raise ConfigError(f"--{key}: not a key such as --strategy or --data.path")
        at = root
        for name in names:
            at = at.inside.setdefault(name, Override())
        if at.node is not None:
            raise ConfigError(f"--{key} is given twice: {at.node.raw!r} and {text!r}")
        at.node = option(text, f"--{key}")
    return root


def option(text: str, place: str) -> Node:
    """A value from the command line. What is not YAML is text."""
    try:
        node = _compose(text, place)
    except ConfigError:
        if text.lstrip().startswith(("{", "[")):
            raise
        return Node(text, text, place)
    return Node(node.value, text, place)


def _compose(text: str, source: str) -> Node:
    def at(mark: Any) -> str:
        return source if source.startswith("--") else f"{source}:{mark.line + 1}"

    try:
        loader = _Loader(text)
        root = loader.get_single_node()
        if root is None:
            return Node(None, "", source)
        return Node(*_convert(loader, root, at, frozenset()))
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        reason = " ".join(part for part in (error.context, error.problem) if part)
        raise ConfigError(f"{at(mark) if mark else source}: not valid YAML: {reason}") from error
    except yaml.YAMLError as error:
        raise ConfigError(f"{source}: not valid YAML: {str(error).splitlines()[0]}") from error


def _convert(loader: _Loader, node: yaml.Node, at: Any, around: frozenset[int]) -> tuple[Any, str | None, str]:
    place = at(node.start_mark)
    if node.tag not in _PLAIN_TAGS:
        raise ConfigError(f"{place}: the tag {node.tag} is not allowed: write the class as class_path and init_args")
    if id(node) in around:
        raise ConfigError(f"{place}: a value that contains itself")
    around |= {id(node)}
    if isinstance(node, yaml.ScalarNode):
        return loader.construct_object(node), node.value, place
    if isinstance(node, yaml.SequenceNode):
        return [Node(*_convert(loader, item, at, around)) for item in node.value], None, place
    assert isinstance(node, yaml.MappingNode)
    keys = [key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
    for key, _ in node.value:
        if isinstance(key, yaml.ScalarNode) and keys.count(key.value) > 1 and key.value != "<<":
            again = [at(k.start_mark) for k, _ in node.value if k.value == key.value]
            raise ConfigError(f"{again[1]}: the key {key.value!r} stands twice (first at {again[0]})")
    loader.flatten_mapping(node)
    found: dict[str, Node] = {}
    for key, item in node.value:
        if not isinstance(key, yaml.ScalarNode):
            raise ConfigError(f"{at(key.start_mark)}: a key must be a plain word")
        value, raw, _ = _convert(loader, item, at, around)
        found[key.value] = Node(value, raw, at(key.start_mark))
    return found, None, place


def _undotted(nodes: dict[str, Node]) -> dict[str, Node]:
    """Top-level keys such as `data.path` put inside `data`."""
    found = {key: node for key, node in nodes.items() if "." not in key}
    for key, node in nodes.items():
        *outer, last = key.split(".")
        if not outer:
            continue
        at = found
        for name in outer:
            inner = at.get(name, Node({}, place=node.place))
            if not isinstance(inner.value, dict):
                inner = Node({"class_path": inner}, place=inner.place)
            at[name] = Node(dict(inner.value), place=inner.place)
            at = at[name].value
        if last in at:
            raise ConfigError(f"{node.place}: the key {key!r} stands twice (first at {at[last].place})")
        at[last] = node
    return found


def walk(node: Node, path: str = "") -> Iterator[tuple[str, Node]]:
    """Every node with its dotted path, the outermost first."""
    yield path, node
    pairs: Sequence[tuple[Any, Node]] = ()
    if isinstance(node.value, dict):
        pairs = list(node.value.items())
    elif isinstance(node.value, list):
        pairs = list(enumerate(node.value))
    for key, inner in pairs:
        yield from walk(inner, f"{path}.{key}" if path else str(key))


def plain(node: Node) -> Any:
    """The node as Python values, without places."""
    if isinstance(node.value, dict):
        return {key: plain(inner) for key, inner in node.value.items()}
    if isinstance(node.value, list):
        return [plain(inner) for inner in node.value]
    return node.value


def is_empty(node: Node) -> bool:
    """Whether nothing is said: null, or no keys."""
    return node.value is None or node.value == {}


def _kind(node: Node) -> str:
    if node.value is None:
        return "nothing"
    return "a list" if isinstance(node.value, list) else f"the text {str(node.raw)[:40]!r}"


def _similar(path: Path) -> str:
    from difflib import get_close_matches

    folder = path.parent
    if not folder.is_dir():
        return f" (nor is the folder {folder})"
    names = [entry.name for entry in folder.iterdir() if entry.suffix in {".yaml", ".yml"}]
    near = get_close_matches(path.name, names, 1, 0.5)
    return f"; did you mean {folder / near[0]}?" if near else ""
