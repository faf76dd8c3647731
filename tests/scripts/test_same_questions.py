"""The script that compares the page, files and Python with `dal run`: two rounds of it, and what it would notice."""

import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
from command import write_tickets

SCRIPTS = Path(__file__).parents[2] / "scripts"


@pytest.mark.skipif(sys.platform == "win32", reason="the script ends the server by a signal")
@pytest.mark.parametrize("strategy", ["Margin"])
def test_two_rounds_ask_the_same_by_every_way(tmp_path: Path, strategy: str) -> None:
    data, test = write_tickets(tmp_path / "data.csv", 80), write_tickets(tmp_path / "test.csv", 20, seed=1)
    options = ["--learner", "TfidfLearner", "--strategies", strategy, "--rounds", "2", "--batch", "6"]
    command = [sys.executable, str(SCRIPTS / "same_questions.py"), "--data", str(data), "--test", str(test)]
    done = subprocess.run(
        [*command, *options, "--folder", str(tmp_path / "same")], capture_output=True, text=True, timeout=600
    )
    assert done.returncode == 0, done.stdout + done.stderr
    lines = done.stdout.splitlines()
    assert lines[0] == "Margin: dal run asked 12 texts in 2 rounds"
    assert [line.split() for line in lines[2:5]] == [
        [way, "2", "2", "12", "of", "12", "12", "of", "12"] for way in ("page", "files", "Python")
    ]
    assert lines[-1] == "all equal"


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(SCRIPTS)
    import same_questions

    return same_questions


@pytest.mark.parametrize(
    ("rounds", "labels"),
    [
        ([["a", "b"], ["d", "c"]], dict.fromkeys("abcd", "x")),
        ([["a", "b"], ["c", "d"]], {"a": "x", "b": "x", "c": "x", "d": "y"}),
        ([["a", "b"]], dict.fromkeys("abcd", "x")),
    ],
    ids=["other order", "other label", "round missing"],
)
def test_difference_is_noticed(
    script: ModuleType, monkeypatch: pytest.MonkeyPatch, rounds: list[list[str]], labels: dict[str, str]
) -> None:
    right = script.Asked([["a", "b"], ["c", "d"]], dict.fromkeys("abcd", "x"))
    trial = script.Trial(Path(), {}, [], "", "Margin", 2, 2)
    said: list[str] = []
    monkeypatch.setattr(script, "by_run", lambda trial: right)
    monkeypatch.setattr(script, "WAYS", {"page": lambda trial: right})
    assert script.compared(trial, said.append)
    monkeypatch.setattr(script, "WAYS", {"page": lambda trial: script.Asked(rounds, labels)})
    assert not script.compared(trial, said.append)
