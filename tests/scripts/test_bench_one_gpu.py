"""The benchmark of a GPU, tried on a CPU with a tiny model."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

SCRIPT = Path(__file__).parents[2] / "scripts" / "bench" / "one_gpu.py"


def test_steps_and_pass_are_measured_and_shown(tmp_path: Path) -> None:
    sections = ["--sections", "steps", "pass", "--out", str(tmp_path)]
    command = [sys.executable, str(SCRIPT), "--device", "cpu", "--small", *sections]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=600)
    assert ended.returncode == 0, ended.stderr
    lines = [json.loads(line) for line in (tmp_path / "one_gpu.jsonl").read_text(encoding="utf-8").splitlines()]
    assert not [line for line in lines if line.get("failed")]
    steps = {line["system"]: line["milliseconds"] for line in lines if line["section"] == "steps"}
    assert set(steps) == {"dal", "by hand"}
    assert all(rate["rows per second"] > 0 for rate in lines if rate["section"] == "pass")
    assert f"| steps | dal | {steps['dal']:.2f} ms a step |" in ended.stdout


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_computer_without_a_gpu_is_told_in_one_line(tmp_path: Path) -> None:
    ended = subprocess.run([sys.executable, str(SCRIPT), "--out", str(tmp_path)], capture_output=True, text=True)
    assert ended.returncode == 1
    assert ended.stderr == "one_gpu.py: torch sees no GPU; --device cpu --small tries the script without one\n"
