"""The trial of weak labels runs on tiny models, and asks the language model once about each text."""

import importlib.util
import json
import sys
from pathlib import Path
from typing import Any

import material
import pandas
import pytest
from speaking import write_tiny_llama

SCRIPT = Path(__file__).parents[2] / "scripts" / "bench" / "weak_labels.py"


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> Any:
    spec = importlib.util.spec_from_file_location("bench_weak_labels", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, spec.name, module)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def arguments(tmp_path: Path, tiny_bert: Path) -> list[str]:
    for part, seed in (("train", 0), ("test", 1)):
        texts, topics = material.tickets(60, seed=seed)
        (tmp_path / "mr").mkdir(exist_ok=True)
        pandas.DataFrame({"text": texts, "label_name": topics}).to_parquet(tmp_path / "mr" / f"{part}.parquet")
    llama = write_tiny_llama(tmp_path / "llama")
    given = {"rows": 12, "start": 6, "batch": 4, "rounds": 1, "seeds": 1, "encoder": tiny_bert, "model": llama}
    options = [part for key, value in given.items() for part in (f"--{key}", str(value))]
    return [str(tmp_path), *options, "--thresholds", "0", "1", "--out", str(tmp_path / "out.json")]


def test_every_start_is_scored_after_every_batch(
    script: Any, arguments: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert script.main(arguments) == 0
    cells = json.loads((tmp_path / "out.json").read_text())["cells"]
    assert [cell["start"] for cell in cells] == ["random start", "weak labels at 0", "weak labels at 1"]
    assert [list(cell["curve"]) for cell in cells] == [["6", "10"]] * 3  # of one class alone no model can be made
    assert [cell.get("weak") for cell in cells][:2] == [None, 12]
    assert cells[2]["weak"] < 12
    assert sum(cells[1]["said"]) == 12
    assert "| 10 |" in capsys.readouterr().out


def test_the_model_is_asked_once_about_each_text(
    script: Any, arguments: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    script.main(arguments)
    said = (tmp_path / "out.said.json").read_text()
    assert len(json.loads(said)) <= 12
    first = capsys.readouterr()
    script.main(arguments)
    again = capsys.readouterr()
    assert "texts" in first.err
    assert "of processor time" not in again.err
    assert again.out == first.out
    assert (tmp_path / "out.said.json").read_text() == said
