"""The layout of the package: concepts in folders, imports in one direction, names that say one thing."""

import ast
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from types import ModuleType

import pytest

import dal
import dal.evaluation
import dal.functional

ROOT = Path(dal.__file__).parent
TESTS = Path(__file__).parent

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


def repeated_names(files: Iterable[Path]) -> list[str]:
    """The names of several files below `dal`, except of one in each of `TWINS`."""
    folders: dict[str, list[str]] = {}
    for file in files:
        if file.name != "__init__.py":
            folders.setdefault(file.name, []).append(file.parts[0])
    return sorted(name for name, found in folders.items() if len(found) > 1 and sorted(found) != sorted(TWINS))


def test_no_two_files_have_one_name() -> None:
    assert repeated_names(file.relative_to(ROOT) for file in MODULES.values()) == []


def test_no_two_test_modules_have_one_name() -> None:
    """pytest imports the modules of folders without an `__init__.py` under their bare names."""
    modules = [path for path in TESTS.rglob("test_*.py") if not (path.parent / "__init__.py").exists()]
    own = [path for path in modules if "plugin_package" not in path.parts]
    assert len(own) > 100
    assert repeated_names(own) == []


def test_check_of_names_finds_repeated_ones() -> None:
    twins = ["functional/joint.py", "strategies/joint.py", "llm/__init__.py", "data/__init__.py"]
    assert repeated_names(map(Path, twins)) == []
    assert repeated_names(map(Path, [*twins, "report/joint.py"])) == ["joint.py"]
    assert repeated_names(map(Path, ["report/sections/batches.py", "strategies/batches.py"])) == ["batches.py"]
    assert repeated_names(map(Path, ["functional/a.py", "functional/inner/a.py"])) == ["a.py"]


#: Folders that may import the report, and the one function below them that does so when it is called.
ABOVE_REPORT = {"report", "commands"}
DEFAULT_REPORT = "dal.experiments.html_report"


def report_imports(source: str) -> list[str]:
    """The imports of `dal.report` in a module, those inside functions included."""
    imported = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom):
            imported += [f"{node.module}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Import):
            imported += [alias.name for alias in node.names]
    return [name for name in imported if f"{name}.".startswith("dal.report.")]


def test_report_is_passed_in_from_above() -> None:
    modules = [
        name
        for name, file in MODULES.items()
        if file.relative_to(ROOT).parts[0] not in ABOVE_REPORT and report_imports(file.read_text())
    ]
    assert modules == [DEFAULT_REPORT]


def test_check_of_report_imports_finds_them() -> None:
    source = "def late():\n    from dal import report\n    from dal.report import page\n    import dal.report.page\n"
    assert len(report_imports(source)) == 3
    assert report_imports("from dal.reporter import Console\nimport dal.experiments\n") == []


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


def test_console_and_report_are_imported_without_models() -> None:
    modules = "dal.experiments.console, dal.experiments.experiment, dal.experiments.stored_model, dal.report.page"
    program = f"import sys, {modules}; print([n for n in ('transformers', 'lightning') if n in sys.modules])"
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


def test_probes_and_their_tokenizers_need_no_lightning_and_models_no_compiler_and_no_statistics() -> None:
    heavy = "lightning", "transformers.modeling_utils", "torch._dynamo", "scipy.stats", "sklearn", "matplotlib"
    program = f"""
import sys, torch, dal.evaluation
dal.Session, dal.TextData, dal.TfidfLearner
from dal.modules.loading import locate
rows = dal.Rows.from_inputs(torch.eye(3).repeat(4, 1), torch.arange(12) % 3, ["a", "b", "c"])
learner = dal.ProbeLearner(model=None)
data = learner.prepare(rows)
predictor = learner.fit(data, torch.arange(9), rows.labels[:9], seed=0)
figures = dal.evaluation.evaluate(predictor.outputs(data, torch.arange(12), {{"probs"}}, seed=0), rows.labels)
assert figures["auroc"] == 1.0
print([name for name in {heavy} if name in sys.modules])
"""
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


def test_report_is_imported_without_torch() -> None:
    modules = "dal.report.page, dal.report.paper_table, dal.commands.report"
    heavy = "torch", "jaxtyping", "sklearn", "pyarrow", "transformers", "lightning"
    program = f"import sys, {modules}; print([name for name in {heavy} if name in sys.modules])"
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


@pytest.mark.parametrize("package", [dal.evaluation, dal.functional], ids=lambda package: package.__name__)
def test_names_that_a_package_imports_lazily_are_its_public_names(package: ModuleType) -> None:
    """A module of the same name as one of these would hide it once it is imported."""
    assert sorted(package._HOMES) == sorted(package.__all__)
    assert not set(package.__all__) & {file.stem for file in Path(str(package.__file__)).parent.glob("*.py")}
    assert all(getattr(package, name) is not None for name in package.__all__)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        getattr(package, "nothing")  # noqa: B009


def test_tests_mirror_the_package() -> None:
    tests = Path(__file__).parent
    folders = {path.name for path in ROOT.iterdir() if (path / "__init__.py").is_file()}
    assert [name for name in sorted(folders) if not any((tests / name).glob("test_*.py"))] == []
