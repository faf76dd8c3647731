"""The benchmark of the cached trunk and of the row cache, on a tiny model."""

import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).parents[2] / "scripts" / "bench" / "cached_trunk.py"


def test_every_system_and_an_added_row_are_measured(tiny_bert: Path) -> None:
    sizes = ["--rows", "40", "--steps", "4", "--layers", "1", "--freeze", "1", "--pool", "60", "--embedded", "20"]
    command = [sys.executable, str(SCRIPT), "--model", str(tiny_bert), *sizes]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=600)
    assert ended.returncode == 0, ended.stderr
    lines = [[cell.strip() for cell in line.strip("|").split("|")] for line in ended.stdout.splitlines() if "|" in line]
    cells = {name: rest for name, *rest in lines}
    assert {"full", "freeze", "cached"} <= set(cells)
    assert float(cells["cached"][5]) > 0.0 == float(cells["full"][5])
    assert len(cells["tokens"]) == len(cells["embeddings of 20"]) == 4
    assert "extrapolated from 20 texts" in ended.stdout
