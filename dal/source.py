"""Classes read from source code without running it: for listings that must not import a plugin, or torch."""

import ast
import importlib.util
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from typing import Any

from dal.errors import ConfigError

#: Class attributes that hold a set of names, a text, a flag.
SETS = ("needs", "labeled_needs", "target_needs", "provides", "label_free")
TEXTS = ("paper", "advice")
FLAGS = ("multilabel",)

#: Bases without traits of their own.
_PLAIN = frozenset({"ABC", "object", "Protocol", "Generic"})


@dataclass(frozen=True)
class Source:
    """A parsed module."""

    module: str
    path: str
    tree: ast.Module

    @classmethod
    def at(cls, module: str) -> "Source":
        """The parsed module; KeyError when it has no source to read.

        Raises:
            ConfigError: its source is no Python.
        """
        spec = find(module)
        if spec is None or not spec.origin or not spec.origin.endswith(".py"):
            raise KeyError(module)
        try:
            return cls(module, spec.origin, _parsed(spec.origin))
        except (OSError, SyntaxError, ValueError) as error:
            raise ConfigError(f"{module} cannot be read: {type(error).__name__}: {error}") from error

    def traits(self, name: str, base: str) -> dict[str, Any]:
        """What a listing shows of the class `name`: its summary, and those of SETS, TEXTS and FLAGS that it sets.

        A set or flag that is computed (by a property, say) is None.

        Raises:
            KeyError: the class cannot be found in source code.
            ConfigError: it does not derive from `base` (`package.module.Class`).
        """
        lineage = list(self.lineage(name))
        if not _reaches(base, lineage):
            raise ConfigError(f"{name} does not derive from {base}")
        traits: dict[str, Any] = {"summary": (ast.get_docstring(lineage[0][1]) or "").split("\n")[0]}
        for source, node in reversed(lineage):  # from the most distant base to the class itself
            traits |= source.assigned(node)
        return traits

    def lineage(self, name: str) -> "Iterator[tuple[Source, ast.ClassDef]]":
        """The class and its bases as far as their source can be found, nearest first."""
        source, node = self.definition(name)
        yield source, node
        for parent in node.bases:
            try:
                yield from source.lineage(ast.unparse(parent))
            except KeyError:
                continue

    def definition(self, name: str) -> "tuple[Source, ast.ClassDef]":
        """Where a class is defined, imports followed."""
        for node in self.tree.body:
            if isinstance(node, ast.ClassDef) and node.name == name:
                return self, node
            if isinstance(node, ast.ImportFrom):
                for alias in node.names:
                    if (alias.asname or alias.name) == name:
                        return self.imported(node).definition(alias.name)
        raise KeyError(name)

    def imported(self, node: ast.ImportFrom) -> "Source":
        """The module that an import statement of this one imports from."""
        module = node.module or ""
        if node.level:
            package = self.module.split(".")
            if not self.path.endswith("__init__.py"):
                package.pop()
            package = package[: len(package) - node.level + 1]
            module = ".".join([*package, module] if module else package)
        return Source.at(module)

    def assigned(self, node: ast.ClassDef) -> dict[str, Any]:
        """The listed attributes that the class body sets; None where a property computes them."""
        values: dict[str, Any] = {}
        for statement in node.body:
            if isinstance(statement, ast.FunctionDef) and statement.name in (*SETS, *FLAGS):
                values[statement.name] = None
            for name, value in _assignments(statement):
                if name in SETS:
                    values[name] = _set_of(self.constant(value))
                elif name in (*FLAGS, *TEXTS):
                    literal = _literal(self.constant(value))
                    values[name] = literal if isinstance(literal, bool if name in FLAGS else str) else None
        return {name: "" if value is None and name in TEXTS else value for name, value in values.items()}

    def constant(self, value: ast.expr) -> ast.expr:
        """The expression itself, or the one that a name of the module stands for."""
        if isinstance(value, ast.Name):
            for statement in self.tree.body:
                for name, assigned in _assignments(statement):
                    if name == value.id:
                        return assigned
        return value

    def missing_imports(self) -> list[str]:
        """Packages that the module imports outside any `try`, function or `if`, and that are not installed."""
        tops = set()
        for node in self.tree.body:
            if isinstance(node, ast.Import):
                tops |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and not node.level and node.module:
                tops.add(node.module.split(".")[0])
        return sorted(top for top in tops if top not in sys.modules and find(top) is None)


def _reaches(base: str, lineage: list[tuple[Source, ast.ClassDef]]) -> bool:
    """Whether the classes lead to `base`. True also where a base cannot be followed: loading decides then."""
    if base in {f"{source.module}.{node.name}" for source, node in lineage}:
        return True
    followed = {node.name for _, node in lineage}
    parents = {ast.unparse(each).split("[")[0].split(".")[-1] for _, node in lineage for each in node.bases}
    return bool(parents - followed - _PLAIN)


@cache
def _parsed(path: str) -> ast.Module:
    return ast.parse(Path(path).read_bytes())


def _assignments(statement: ast.stmt) -> Iterator[tuple[str, ast.expr]]:
    if isinstance(statement, ast.Assign):
        for target in statement.targets:
            if isinstance(target, ast.Name):
                yield target.id, statement.value
    elif isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name) and statement.value:
        yield statement.target.id, statement.value


def _set_of(value: ast.expr) -> frozenset[str] | None:
    if isinstance(value, ast.Call) and ast.unparse(value.func) in ("frozenset", "set"):
        if not value.args:
            return frozenset()
        value = value.args[0]
    literal = _literal(value)
    return frozenset(literal) if isinstance(literal, (set, frozenset, list, tuple)) else None


def _literal(value: ast.expr) -> Any:
    try:
        return ast.literal_eval(value)
    except ValueError:
        return None


def find(module: str) -> ModuleSpec | None:
    """Where a module is, without importing it or the packages around it; None when there is none."""
    top, *rest = module.split(".")
    if not all(part.isidentifier() for part in (top, *rest)):
        return None
    try:
        spec = importlib.util.find_spec(top)
    except (ImportError, ValueError):
        return None
    full = top
    for part in rest:
        if spec is None or spec.submodule_search_locations is None:
            return None
        full = f"{full}.{part}"
        spec = PathFinder.find_spec(full, spec.submodule_search_locations)
    return spec
