"""The layout of the package: concepts in folders, imports in one direction, names that say one thing."""

import ast
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator, Mapping
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import dal

ROOT = Path(dal.__file__).parent

#: Folders whose files may be called alike, since the one wraps the mathematics of the other.
TWINS = {"functional", "strategies"}


def module_name(file: Path) -> str:
    parts = file.relative_to(ROOT.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_name(file): file for file in ROOT.rglob("*.py")}


def imports(body: list[ast.stmt]) -> Iterator[str]:
    """The modules of `dal` that are imported when a module is, without those that only the type checker reads."""
    for node in body:
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            continue
        if isinstance(node, ast.If | ast.Try):
            yield from imports([*node.body, *node.orelse])
        elif isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "dal":
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                yield inner if inner in MODULES else str(node.module)
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in MODULES)


GRAPH = {name: set(imports(ast.parse(file.read_text()).body)) - {name} for name, file in MODULES.items()}


def concept(module: str) -> str:
    """The folder of a module directly below `dal`, or the module itself where it lies in `dal`."""
    parts = module.split(".")
    return parts[1] if len(parts) > 2 or (MODULES[module].name == "__init__.py" and len(parts) > 1) else module


def cycle(graph: Mapping[str, set[str]]) -> list[str]:
    """The names of a cycle; none without one."""
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return list(error.args[1])
    return []


def test_modules_import_each_other_in_one_direction() -> None:
    assert len(GRAPH) > 200
    assert cycle(GRAPH) == []


def test_folders_import_each_other_in_one_direction() -> None:
    folders: dict[str, set[str]] = {}
    for module, used in GRAPH.items():
        if module != "dal":
            folders.setdefault(concept(module), set()).update(map(concept, used))
    assert cycle({name: used - {name, "dal"} for name, used in folders.items()}) == []


def test_clients_and_the_store_have_no_cycle_that_only_the_type_checker_reads() -> None:
    """Imports inside functions and under `TYPE_CHECKING` count, too."""
    graph = {
        name: {node.module for node in ast.walk(ast.parse(file.read_text())) if isinstance(node, ast.ImportFrom)}
        for name, file in MODULES.items()
        if name.startswith(("dal.llm.", "dal.store.", "dal.evaluation.", "dal.oracles."))
    }
    assert cycle({name: {str(used) for used in modules} & graph.keys() for name, modules in graph.items()}) == []


def test_check_of_cycles_finds_one() -> None:
    assert set(cycle({"a": {"b"}, "b": {"c"}, "c": {"a"}})) == {"a", "b", "c"}


def test_at_most_ten_files_lie_in_the_package_itself() -> None:
    assert len(list(ROOT.glob("*.py"))) <= 10


def test_no_two_files_have_one_name() -> None:
    seen = Counter(
        file.name
        for file in MODULES.values()
        if file.name != "__init__.py" and file.relative_to(ROOT).parts[0] not in TWINS
    )
    for folder in TWINS:
        assert max(Counter(file.name for file in (ROOT / folder).rglob("*.py")).values()) == 1
    assert [name for name, count in seen.items() if count > 1] == []


def test_evaluation_reads_columns_and_not_the_store() -> None:
    files = [file for name, file in MODULES.items() if name.startswith("dal.evaluation.")]
    assert len(files) > 15
    assert [file.name for file in files if "dal.store" in file.read_text()] == []


def test_store_is_imported_without_tensors() -> None:
    modules = [name for name in MODULES if name.startswith("dal.store.")]
    assert len(modules) > 8
    heavy = "torch", "numpy", "sklearn", "pyarrow", "transformers", "lightning", "yaml"
    program = f"import sys; import {', '.join(modules)}; print([name for name in {heavy} if name in sys.modules])"
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


def test_tests_mirror_the_package() -> None:
    tests = Path(__file__).parent
    folders = {path.name for path in ROOT.iterdir() if (path / "__init__.py").is_file()}
    assert [name for name in sorted(folders) if not any((tests / name).glob("test_*.py"))] == []
