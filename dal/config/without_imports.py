"""Help and checks of a config by static analysis, without importing a model library."""

import ast
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from dal.config import class_names as classes
from dal.config import moved
from dal.config.build import refuse_unknown
from dal.config.settings_tree import Node, Override
from dal.config.source_code import find
from dal.errors import ConfigError

EXPERIMENT, DATA = ("dal.experiments.experiment", "Experiment"), ("dal.data.text_data", "TextData")

#: Kind of class of each top-level key that names a class.
SLOTS = {
    "strategy": "strategy",
    "baseline": "strategy",
    "cold_start": "strategy",
    "learner": "learner",
    "successor": "learner",
    "oracle": "oracle",
    "stop": "stopping rule",
    "candidates": "candidate generator",
}


@dataclass(frozen=True)
class Field:
    """A field of a configurable dataclass, read from its source code."""

    name: str
    type: str
    default: str | None
    help: str


@cache
def fields(module: str, name: str) -> Mapping[str, Field]:
    """Fields of the dataclass `name` of `module`, read from its source code."""
    spec = find(module)
    assert spec is not None
    assert spec.origin is not None
    tree = ast.parse(Path(spec.origin).read_text(encoding="utf-8"))
    [node] = [node for node in tree.body if isinstance(node, ast.ClassDef) and node.name == name]
    helps = _helps(ast.get_docstring(node) or "")
    found = {}
    for item in node.body:
        if isinstance(item, ast.AnnAssign) and isinstance(item.target, ast.Name):
            key = item.target.id
            found[key] = Field(key, ast.unparse(item.annotation), _default(item.value), helps.get(key, ""))
    return found


def experiment() -> Mapping[str, Field]:
    """Fields of `Experiment`: the top-level keys of a config."""
    return fields(*EXPERIMENT)


def data() -> Mapping[str, Field]:
    """Fields of `TextData`: the keys under `data`."""
    return fields(*DATA)


def known_keys() -> list[str]:
    """Top-level keys of a config, also by their names of earlier versions."""
    return [*experiment(), *_before(EXPERIMENT)]


def check(settings: Node, overrides: Override) -> None:
    """Raise ConfigError for errors that need no import: unknown keys, and names that are not installed."""
    refuse_unknown(settings.value, overrides, known_keys(), "unknown key {!r}")
    inner = settings.value.get("data", Node({})).value
    if isinstance(inner, dict) and "class_path" not in inner:
        known = [*data(), *_before(DATA)]
        refuse_unknown(inner, overrides.inside.get("data", Override()), known, "TextData has no option {!r}")
    for slot, kind in SLOTS.items():
        node = overrides.inside.get(slot, Override()).node or settings.value.get(slot)
        if node is not None:
            _check_class(node, kind, slot)


def _before(path: tuple[str, str]) -> Collection[str]:
    """Names of a class's options in earlier versions."""
    return moved.OPTIONS.get(".".join(path), {}).keys()


def _check_class(node: Node, kind: str, slot: str) -> None:
    name = node.value
    if isinstance(name, dict):
        name = name["class_path"].value if "class_path" in name else next(iter(name), None) if len(name) == 1 else None
    if isinstance(name, str) and name:
        try:
            classes.check_name(kind, moved.current_name(kind, name))
        except ConfigError as error:
            raise ConfigError(f"{node.at(slot)}: {error}") from error


def _helps(docstring: str) -> dict[str, str]:
    """Explanations in the section Args of a docstring, by name."""
    lines = docstring.partition("Args:\n")[2].split("\n\n")[0].splitlines()
    found: dict[str, str] = {}
    name = ""
    for line in lines:
        depth = len(line) - len(line.lstrip())
        if depth == 4:
            name, _, text = line.strip().partition(":")
            found[name] = text.strip()
        elif name:
            found[name] += " " + line.strip()
    return found


def _default(value: ast.expr | None) -> str | None:
    """Default value in the notation of a config; None without a default."""
    if value is None:
        return None
    if isinstance(value, ast.Constant):
        plain = {"None": "null", "True": "true", "False": "false"}
        return plain.get(str(value.value), str(value.value))
    if isinstance(value, ast.Call):
        given = {keyword.arg: keyword.value for keyword in value.keywords}
        made = given.get("default_factory", value)
        if isinstance(made, ast.Lambda):
            return ast.unparse(made.body)
        return ast.unparse(made)
    return ast.unparse(value)
