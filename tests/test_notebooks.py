"""The notebooks of docs/notebooks are stored as they run, run without an error, and show what their texts say."""

import re
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient

NOTEBOOKS = Path(__file__).parents[1] / "docs/notebooks"


def printed(notebook: Any) -> str:
    """Everything that the cells of a notebook print."""
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", ())]
    return "".join(output.text for output in outputs if output.output_type == "stream" and output.name == "stdout")


def strategies_save_labels(shown: str) -> None:
    """A table of rounds as a log has it, and a verdict in favour of both strategies."""
    assert re.search(r"^Margin, seed 0\nround +labels +strategy +accuracy", shown, re.MULTILINE)
    for name in ("Margin", "ClassBalancedMargin"):
        [fewer] = re.findall(rf"^better: {name} reached .* ([\d.]+) times fewer", shown, re.MULTILINE)
        assert float(fewer) > 1.5
    assert "report: comparison/report.html" in shown.replace("\\", "/")


def own_strategy_is_diverse_and_beats_random(shown: str) -> None:
    """A kit without a failure, batches nearer to the pool than those of `Margin`, more accuracy than random rows."""
    assert re.search(r"^UncertainCenters\(factor=10\): 2\d passed, \d skipped$", shown, re.MULTILINE)
    gaps = {name: float(gap) for name, gap in re.findall(r"(\w+): mean distance .* ([\d.]+)$", shown, re.MULTILINE)}
    assert gaps["UncertainCenters"] < gaps["Margin"]
    accuracy = {name: float(mean) for name, mean in re.findall(r"(\w+): mean accuracy ([\d.]+) with 120", shown)}
    assert accuracy["UncertainCenters"] > accuracy["Random"] + 0.01


#: What each notebook claims, as a check of what it prints.
CLAIMS = {
    "strategies_on_your_data.ipynb": strategies_save_labels,
    "custom_strategy.ipynb": own_strategy_is_diverse_and_beats_random,
}


def test_every_notebook_has_a_check_of_its_claims() -> None:
    assert {path.name for path in NOTEBOOKS.glob("*.ipynb")} == set(CLAIMS)


def check(notebook: Any, name: str) -> None:
    """Pictures, no error and no warning, output as in a log, and the claims of the notebook."""
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", ())]
    assert [output for output in outputs if output.output_type == "error"] == []
    assert [output.text for output in outputs if output.get("name") == "stderr"] == []
    assert any("image/png" in output.get("data", {}) for output in outputs)
    assert not re.search(r"[\r\x1b]", printed(notebook))
    # A line that rich shows by itself is an output of its own, with markup.
    assert [output for output in outputs if "<pre" in output.get("data", {}).get("text/html", "")] == []
    CLAIMS[name](printed(notebook))


@pytest.mark.parametrize("name", CLAIMS)
def test_stored_notebook_shows_what_it_claims(name: str) -> None:
    assert (NOTEBOOKS / name).stat().st_size < 300_000
    notebook = nbformat.read(NOTEBOOKS / name, as_version=4)
    counts = [cell.execution_count for cell in notebook.cells if cell.cell_type == "code"]
    assert counts == list(range(1, len(counts) + 1))
    check(notebook, name)


@pytest.mark.slow
@pytest.mark.parametrize("name", CLAIMS)
def test_notebook_runs_and_shows_what_it_claims(name: str, tmp_path: Path) -> None:
    notebook = nbformat.read(NOTEBOOKS / name, as_version=4)
    NotebookClient(notebook, timeout=300, kernel_name="python3", resources={"metadata": {"path": tmp_path}}).execute()
    check(notebook, name)
