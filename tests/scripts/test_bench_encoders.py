"""The benchmark of the comparison of encoders, on a small made-up task, and its resumption."""

import json
import subprocess
import sys
from pathlib import Path

import material
import pandas
import torch
from safetensors.torch import save_file

SCRIPT = Path(__file__).parents[2] / "scripts" / "bench" / "encoders.py"


def test_best_encoder_is_found_and_finished_cells_are_not_repeated(tmp_path: Path) -> None:
    (tmp_path / "tiny").mkdir()
    codes = []
    for part, seed in (("train", 0), ("test", 1)):
        texts, topics = material.tickets(300, seed=seed)
        table = pandas.DataFrame({"text": texts, "label_name": topics})
        table.to_parquet(tmp_path / "tiny" / f"{part}.parquet")
        codes += list(table.sample(300, random_state=0).label_name)
    names = sorted(material.TOPICS)
    right = torch.nn.functional.one_hot(torch.tensor([names.index(name) for name in codes])).float()
    noise = torch.randn(600, 4, generator=torch.Generator().manual_seed(0))
    save_file({"vectors": right + 0.1 * noise}, tmp_path / "tiny-MiniLM.safetensors")
    save_file({"vectors": noise}, tmp_path / "tiny-SmolLM2.safetensors")
    out = tmp_path / "cells.jsonl"
    command = [sys.executable, str(SCRIPT), "--data", str(tmp_path), "--cache", str(tmp_path), "--out", str(out)]
    command += ["--sets", "tiny", "--draws", "2"]
    ended = subprocess.run([*command, "--ways", "Random"], capture_output=True, text=True, timeout=300)
    assert ended.returncode == 0, ended.stderr
    lines = out.read_text().splitlines()
    assert [json.loads(line)["draw"] for line in lines] == [0, 1]
    first = json.loads(lines[0])
    assert first["truth"]["MiniLM"] > 0.95 > 0.4 > first["truth"]["SmolLM2"]
    assert first["scores"]["0.7"]["SmolLM2"]["MiniLM"]["p_lead"] < 0.01
    assert "| tiny | 0.3 | 2 of 2 | 0.0 |" in ended.stdout  # every temperature finds the best encoder
    again = subprocess.run([*command, "--ways", "Random", "Margin"], capture_output=True, text=True, timeout=300)
    assert again.returncode == 0, again.stderr
    assert out.read_text().splitlines()[:2] == lines
    assert [line for line in again.stdout.splitlines() if "draw" in line][:2] == [
        "tiny, Margin, draw 0",
        "tiny, Margin, draw 1",
    ]
