"""The benchmark of predictions without labels, on a small made-up task."""

import json
import subprocess
import sys
from pathlib import Path

import material
import torch
from safetensors.torch import save_file

SCRIPT = Path(__file__).parents[2] / "scripts" / "bench" / "zero_shot.py"


def test_right_descriptions_are_scored_above_exchanged_names_and_each_way_finds_the_classes(tmp_path: Path) -> None:
    held = {}
    for part, rows, seed in (("pool", 150, 0), ("test", 60, 1)):
        held[part], held[f"{part}_labels"] = material.clusters(rows, 6, 3, seed)
    middles = torch.stack([held["pool"][held["pool_labels"] == code].mean(0) for code in range(3)])
    held |= {"names": middles.roll(1, 0), "descriptions": middles}
    save_file(held, tmp_path / "tiny-150.safetensors", {"classes": json.dumps(["a", "b", "c"])})
    command = [sys.executable, str(SCRIPT), str(tmp_path / "tiny-150.safetensors"), "--labels", "6", "--seeds", "2"]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert ended.returncode == 0, ended.stderr
    lines = [
        [cell.strip() for cell in line.strip("|").split("|")] for line in ended.stdout.splitlines() if "tiny" in line
    ]
    [name, classes, right, exchanged], [_, _, likely, *_] = lines
    assert (name, classes) == ("tiny", "3")
    assert float(right.split()[0]) > 90 > 20 > float(exchanged.split()[0])
    assert likely.endswith("(3.0)")
