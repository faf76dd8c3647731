"""Processes that answer are killed in the middle of it: no acknowledged answer is lost, and none is stored twice."""

import random
import signal
import sqlite3
import subprocess
import sys
from collections import Counter
from pathlib import Path

from annotation_project import make_project

from dal.store.label_log import LabelLog

PROGRAM = Path(__file__).with_name("answering_process.py")
KILLS = 20


def started(folder: Path, who: str, die_at: int = 0, lost: list[str] | None = None) -> "subprocess.Popen[str]":
    command = [sys.executable, str(PROGRAM), str(folder), who, str(die_at), *(lost or [])]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True)


def ready(process: "subprocess.Popen[str]") -> bool:
    """Whether a process says that it has opened the project."""
    assert process.stdout is not None
    return process.stdout.readline() == "ready\n"


def answers_of(folder: Path, n: int) -> dict[str, list[str]]:
    """Row -> keys of the answers to it that stand."""
    with LabelLog(folder / "labels.db") as log:
        return {f"t{i}": [event.key or "" for event in log.answers_by(f"t{i}").values()] for i in range(n)}


def test_killed_while_it_stores_no_acknowledged_answer_is_lost_and_none_doubled(tmp_path: Path) -> None:
    n = 120
    folder = make_project(tmp_path / "p", n=n)
    generator = random.Random(0)
    acknowledged: list[str] = []
    lost: list[str] = []
    kills = repeated = 0
    for turn in range(3 * KILLS):
        process = started(folder, "ana", generator.randint(1, 150) if turn < KILLS else 0, lost)
        assert ready(process)
        output, errors = process.communicate("go\n", timeout=60)
        assert process.returncode in (0, -signal.SIGKILL), errors
        sent: list[str] = []
        for line in output.splitlines():
            if line.startswith("try"):
                sent = line.split()[1:]
            elif line.startswith("got"):
                acknowledged.append(sent[0])
                sent = []
            else:
                raise AssertionError(line)
        kills += process.returncode != 0
        repeated += bool(sent)
        lost = sent
        if not process.returncode:
            break
    assert kills == KILLS
    assert repeated >= 5  # killed between request and reply
    stored = answers_of(folder, n)
    assert {row: len(keys) for row, keys in stored.items()} == {f"t{i}": 1 for i in range(n)}
    keys = {key.rpartition(":")[2] for keys in stored.values() for key in keys}
    assert set(acknowledged) <= keys
    connection = sqlite3.connect(folder / "labels.db")
    assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    assert connection.execute("SELECT count(*) FROM events WHERE kind = 'answered'").fetchone() == (n,)
    connection.close()


def test_two_processes_never_get_one_row_twice(tmp_path: Path) -> None:
    n = 60
    folder = make_project(tmp_path / "p", n=n)
    processes = [started(folder, who) for who in ("ana", "ben")]
    assert all(map(ready, processes))  # else the first may be done before the second has begun
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    outputs = [process.communicate(timeout=120) for process in processes]
    assert [process.returncode for process in processes] == [0, 0], outputs
    answered = [
        line.split()[1].rpartition("-")[2] for output, _ in outputs for line in output.splitlines() if "got" in line
    ]
    assert Counter(answered) == Counter(f"t{i}" for i in range(n))
    assert all("refused" not in output for output, _ in outputs)
    assert all("got" in output for output, _ in outputs)
