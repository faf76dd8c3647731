"""The trial of ways to fine-tune runs on a tiny model, resumes, and prints what it found."""

import importlib.util
import json
import shutil
import sys
from pathlib import Path
from typing import Any

import material
import pandas
import pytest

SCRIPT = Path(__file__).parents[2] / "scripts" / "bench" / "fine_tuning.py"


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch, tiny_bert: Path, tmp_path: Path) -> Any:
    spec = importlib.util.spec_from_file_location("bench_fine_tuning", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, spec.name, module)
    spec.loader.exec_module(module)
    encoder = Path(shutil.copytree(tiny_bert, tmp_path / "encoder"))
    (encoder / "1_Pooling").mkdir()
    (encoder / "1_Pooling" / "config.json").write_text('{"pooling_mode_mean_tokens": true}')
    monkeypatch.setattr(module, "MODEL", str(encoder))
    return module


@pytest.fixture
def arguments(tmp_path: Path) -> list[str]:
    (tmp_path / "tickets").mkdir()
    for part, seed in (("train", 0), ("test", 1)):
        texts, topics = material.tickets(60, seed=seed)
        pandas.DataFrame({"text": texts, "label_name": topics}).to_parquet(tmp_path / "tickets" / f"{part}.parquet")
    given = {"data": tmp_path, "out": tmp_path / "cells.jsonl", "sets": "tickets", "labels": 24, "steps": 3, "draws": 2}
    return [part for key, value in given.items() for part in (f"--{key}", str(value))]


def test_every_arm_is_trained_on_every_draw_once(script: Any, arguments: list[str], tmp_path: Path) -> None:
    for arm in ("identity, contrastive start", "mean, contrastive start"):
        script.ARMS[arm]["contrast"] = 2
    assert script.main([*arguments, "--draws", "1"]) == 0
    cells = [json.loads(line) for line in (tmp_path / "cells.jsonl").read_text().splitlines()]
    assert [cell["arm"] for cell in cells] == list(script.ARMS)
    assert all(0 <= cell[f"{kind}accuracy_0"] <= 1 for cell in cells for kind in ("", "averaged_"))
    found = {cell["arm"]: [value for key, value in cell.items() if "_" in key] for cell in cells}
    assert found["plain"] != found["default"]
    assert script.main([*arguments, "--draws", "1"]) == 0
    assert len((tmp_path / "cells.jsonl").read_text().splitlines()) == len(cells)


def test_learning_rates_fall_from_layer_to_layer(script: Any) -> None:
    module = script.TransformerClassifier(script.MODEL, 4, learning_rate=1.0, head_learning_rate=3.0)
    rates = {id(group["params"][0]): group["lr"] for group in script.parameter_groups(module, 0.5)}
    trunk = module.trunk()
    layers = [rates[id(layer.output.dense.weight)] for layer in trunk.encoder.layer]
    assert (rates[id(module.last_layer().weight)], *layers) == (3.0, 0.5, 1.0)
    assert rates[id(trunk.embeddings.word_embeddings.weight)] == 0.25


def test_report_has_mean_and_standard_deviation_over_draws(
    script: Any, arguments: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    keys = ("accuracy_0", "accuracy_50", "macro_f1_0", "macro_f1_75", "averaged_accuracy_0")
    lines = [
        {"set": "tickets", "arm": "default", "draw": draw, "seconds": 20.0} | dict.fromkeys(keys, value)
        for draw, value in enumerate((0.8, 0.9))
    ]
    (tmp_path / "cells.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert script.main([*arguments, "--report"]) == 0
    assert "| default | tickets | 2 | 85.0 ± 7.1 |" in capsys.readouterr().out
