"""The script that kills the annotation server: a few kills, and what it finds in a log that lost an answer."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "scripts" / "annotation_kills.py"


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the script finds processes in /proc")
def test_three_kills_lose_and_double_nothing(tmp_path: Path) -> None:
    command = [sys.executable, str(SCRIPT), "--kills", "3", "--rows", "400", "--folder", str(tmp_path / "kills")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stdout + done.stderr
    figures = json.loads(done.stdout)
    assert figures["faults"] == []
    assert sum(figures["kills"].values()) == 3
    assert figures["answers_confirmed"] == figures["answers_stored"] > 10
