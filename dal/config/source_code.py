"""Static analysis of source code, for listings and checks that must not import a plugin or torch."""

import ast
import importlib.util
import sys
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from typing import Any

from dal.errors import ConfigError, did_you_mean, one_line, shortened

#: Class attributes that are sets of names, texts, and flags.
SETS = ("needs", "labeled_needs", "target_needs", "provides", "label_free", "keeps")
TEXTS = ("paper", "advice")
FLAGS = ("multilabel",)

#: Bases without traits of their own.
_PLAIN = frozenset({"ABC", "object", "Protocol", "Generic"})


@dataclass(frozen=True)
class ModuleSource:
    """A parsed module."""

    module: str
    path: str
    tree: ast.Module

    @classmethod
    def at(cls, module: str) -> "ModuleSource":
        """Parse a module.

        Raises:
            KeyError: the module does not exist or has no source.
            ConfigError: the source is not valid Python.
        """
        spec = find(module)
        if spec is None or not spec.origin or not spec.origin.endswith(".py"):
            raise KeyError(module)
        try:
            return cls(module, spec.origin, _parsed(spec.origin))
        except (OSError, SyntaxError, ValueError, RecursionError, MemoryError) as error:
            raise ConfigError(f"{module} cannot be read: {type(error).__name__}: {one_line(error)}") from error

    def traits(self, name: str, base: str) -> dict[str, Any]:
        """Summary of the class `name`, and those of SETS, TEXTS and FLAGS that it has; `advice` is not inherited.

        A set or flag that is computed, for example by a property, is None.

        Raises:
            KeyError: the class, or the way to its base, cannot be found in source code.
            ConfigError: it does not derive from `base` (`package.module.Class`).
        """
        lineage = list(self.lineage(name))
        if not _reaches(base, lineage):
            raise ConfigError(f"{name} does not derive from {base}")
        if base not in {f"{source.module}.{node.name}" for source, node in lineage}:
            raise KeyError(name)  # what the bases in between define is unknown
        traits: dict[str, Any] = {"summary": (ast.get_docstring(lineage[0][1]) or "").split("\n")[0]}
        for source, node in reversed(lineage):  # from the most distant base to the class itself
            traits |= {"advice": "", **source.assigned(node)}  # advice on a class does not hold for its subclasses
        return traits

    def lineage(self, name: str, below: Collection[ast.ClassDef] = ()) -> "Iterator[tuple[ModuleSource, ast.ClassDef]]":
        """The class and its bases whose source can be found, nearest first. `below` are the subclasses on the way."""
        source, node = self.definition(name)
        if node in below:  # a class whose base has its own name
            raise KeyError(name)
        yield source, node
        for parent in node.bases:
            try:
                yield from source.lineage(ast.unparse(parent), (*below, node))
            except KeyError:
                continue

    def definition(self, name: str, passed: Collection[tuple[str, str]] = ()) -> "tuple[ModuleSource, ast.ClassDef]":
        """Definition of a class, with imports followed. `passed` are the modules and names on the way."""
        if (self.module, name) in passed:  # two modules that import the name from each other
            raise KeyError(name)
        for node in _statements(self.tree):  # also in `if TYPE_CHECKING:`, where a package imports its lazy names
            if isinstance(node, ast.ClassDef) and node.name == name:
                return self, node
            if isinstance(node, ast.ImportFrom):
                for alias in node.names:
                    if (alias.asname or alias.name) == name:
                        return self.imported(node).definition(alias.name, (*passed, (self.module, name)))
        raise KeyError(name)

    def function(self, name: str) -> ast.FunctionDef | None:
        """Definition of a function; None if the module binds the name in another way, too."""
        bound = [node for node in _statements(self.tree) if name in _bound_by(node)]
        return bound[0] if len(bound) == 1 and isinstance(bound[0], ast.FunctionDef) else None

    def names(self) -> frozenset[str] | None:
        """All names that the module binds; None if they are only known at run time."""
        bound: set[str] = set()
        for node in _statements(self.tree):
            bound |= _bound_by(node)
        words: set[str] = set()
        for inner in ast.walk(self.tree):
            if isinstance(inner, ast.Global):  # a function of the module may bind them
                bound |= set(inner.names)
            words |= {str(getattr(inner, "id", "")), str(getattr(inner, "attr", ""))}
        return None if bound & {"*", "__getattr__"} or words & _DYNAMIC else frozenset(bound)

    def imported(self, node: ast.ImportFrom) -> "ModuleSource":
        """The module that a `from` import statement of this module refers to."""
        module = node.module or ""
        if node.level:
            package = self.module.split(".")
            if not self.path.endswith("__init__.py"):
                package.pop()
            package = package[: len(package) - node.level + 1]
            module = ".".join([*package, module] if module else package)
        return ModuleSource.at(module)

    def assigned(self, node: ast.ClassDef) -> dict[str, Any]:
        """Values of SETS, FLAGS and TEXTS that the class body defines; None for computed sets and flags."""
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
        """The expression, or for a name the expression assigned to it in the module."""
        if isinstance(value, ast.Name):
            for statement in self.tree.body:
                for name, assigned in _assignments(statement):
                    if name == value.id:
                        return assigned
        return value

    def missing_imports(self) -> list[str]:
        """Packages that the module imports unconditionally and that are not installed."""
        tops = set()
        for node in self.tree.body:
            if isinstance(node, ast.Import):
                tops |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and not node.level and node.module:
                tops.add(node.module.split(".")[0])
        return sorted(top for top in tops if top not in sys.modules and find(top) is None)


def missing(name: str, module: str, names: Iterable[str]) -> str:
    """Message about a name that a module lacks, with the most similar existing one."""
    near = did_you_mean(name, names).removeprefix("; ")
    return f"there is no {shortened(name)} in {shortened(module)}" + f" ({near})" * bool(near)


def refusal(module: str, name: str, base: str | None = None, *, functions: bool = False) -> str | None:
    """Why `name` of a module cannot be a class that derives from `base`, judged by its source; None if it may be one.

    Args:
        module: the module, which is not imported.
        name: name of the class.
        base: required base `package.module.Class`; None for any.
        functions: whether a function is accepted, too.

    Raises:
        ConfigError: the source is not valid Python.
    """
    try:
        source = ModuleSource.at(module)
        names = source.names()
        if names is not None and name not in names and find(f"{module}.{name}") is None:
            return missing(name, module, [each for each in names if each[:1].isupper()] or names)
        if not functions and source.function(name) is not None:
            return "it is a function"
        if base is not None and not _reaches(base, list(source.lineage(name))):
            return f"it is the class {name}, which does not derive from {base.rpartition('.')[2]}"
    except KeyError:  # created at run time, compiled, or imported in a way that cannot be followed
        pass
    return None


def _reaches(base: str, lineage: list[tuple[ModuleSource, ast.ClassDef]]) -> bool:
    """Whether the lineage contains `base`, or a base whose source is not available: then loading decides."""
    if base in {f"{source.module}.{node.name}" for source, node in lineage}:
        return True
    followed = {node.name for _, node in lineage}
    parents = {ast.unparse(each).split("[")[0].split(".")[-1] for _, node in lineage for each in node.bases}
    return bool(parents - followed - _PLAIN)


@cache
def _parsed(path: str) -> ast.Module:
    return ast.parse(Path(path).read_bytes())


#: Names whose use may bind other names dynamically.
_DYNAMIC = frozenset({"globals", "vars", "locals", "setattr", "exec", "eval", "modules", "__dict__"})


def _statements(tree: ast.Module) -> Iterator[ast.stmt]:
    """Statements that run when the module is imported, including those inside `if`, `try` and `with`."""
    waiting: list[ast.AST] = [tree]
    while waiting:
        for inner in ast.iter_child_nodes(waiting.pop()):
            if isinstance(inner, ast.stmt):
                yield inner
            if not isinstance(inner, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
                waiting.append(inner)


def _bound_by(statement: ast.stmt) -> set[str]:
    """Names that a statement binds; "*" for a star import."""
    if isinstance(statement, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
        return {statement.name}
    if isinstance(statement, ast.Import):
        return {(alias.asname or alias.name).partition(".")[0] for alias in statement.names}
    if isinstance(statement, ast.ImportFrom):
        return {alias.asname or alias.name for alias in statement.names}
    inside = list(ast.walk(statement))
    stored = {node.id for node in inside if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}
    return stored | {node.name for node in inside if isinstance(node, ast.MatchAs | ast.MatchStar) and node.name}


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
    """Spec of a module, without importing it or its parent packages; None if it does not exist."""
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
