"""Killing workers or a whole comparison, at whatever point, loses nothing and changes no figure."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import material
import pytest
from command import Command
from dying import processes, run_until
from test_comparison import figures
from test_run_kills import finished

from dal.data import Rows, Splits
from dal.experiments.comparison import Comparison
from dal.experiments.experiment import Experiment
from dal.learners.probe_learner import ProbeLearner
from dal.store.label_store import LabelStore
from dal.store.run_folder import read_metrics
from dal.strategies import ClusterCenters, Entropy, Margin

CELLS = tuple(f"{name}-seed{seed}" for seed in (3, 4) for name in ("Margin", "Entropy", "Random"))


def comparison(folder: Path) -> Comparison:
    names = list("abcd")
    inputs, labels = material.clusters(120, spread=3.0)
    test, truth = material.clusters(50, seed=1, spread=3.0)
    data: Any = Splits(Rows.from_inputs(inputs, labels, names), Rows.from_inputs(test, truth, names))
    shared = Experiment(
        data,
        ProbeLearner(model=None),
        cold_start=ClusterCenters(),
        start=12,
        batch=8,
        rounds=1,
        seeds=[3, 4],
        folder=str(folder),
        report=False,
        quiet=True,
    )
    return Comparison(shared, (Margin(), Entropy()))


def run(folder: Path, die_at: int | None = None, count: Any = None) -> None:
    """Run the comparison; kill this very process at its durable operation number `die_at`."""
    run_until(comparison(folder).run, die_at, count)


def start(*arguments: Any) -> Any:
    process = processes.Process(target=run, args=arguments)
    process.start()
    return process


def outcome(folder: Path) -> dict[str, Any]:
    """All that must not differ: the figures and the answers of every cell."""
    found: dict[str, Any] = {}
    for cell in CELLS:
        with LabelStore(folder / cell / "labels.db") as store:
            found[cell] = (figures(read_metrics(folder / cell)), store.answers, store.pending)
    return found


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], int]:
    """What a comparison without a kill finds, and how many durable operations it makes."""
    folder, count = tmp_path_factory.mktemp("whole"), processes.Value("i", 0)
    assert finished(start(folder, None, count)) == 0
    found = outcome(folder)
    assert all(len(lines) == 2 and len(answers) == 20 for lines, answers, _ in found.values())
    return found, count.value


@pytest.mark.parametrize("trial", range(6))
def test_a_comparison_that_is_killed_twice_loses_nothing_and_changes_no_figure(
    trial: int, undisturbed: tuple[dict[str, Any], int], tmp_path: Path
) -> None:
    expected, operations = undisturbed
    point = random.Random(trial)
    assert finished(start(tmp_path, point.randint(1, operations))) == -signal.SIGKILL
    told = {path.parent.name: acknowledged(path) for path in tmp_path.glob("*/labels.db")}
    finished(start(tmp_path, point.randint(1, operations)))
    assert finished(start(tmp_path)) == 0
    found = outcome(tmp_path)
    assert found == expected
    for cell, answers in told.items():
        assert answers.items() <= found[cell][1].items()


def acknowledged(path: Path) -> dict[str, Any]:
    """The answers that are on disk."""
    with LabelStore(path) as store:
        return store.answers


# -- processes of their own ------------------------------------------------------------------------------------------

CONFIG = """\
data: {path: tickets.csv, id: id, test: 0.3}
learner: {ProbeLearner: {model: MODEL, max_length: 16}}
start: 6
batch: 4
rounds: 2
report: false
"""


COMMAND = ("compare", "grid.yaml", "--strategies", "Margin", "--seeds", "1", "--folder")


def begin(place: Path) -> "subprocess.Popen[bytes]":
    """Start the comparison, or go on with it, with two workers."""
    command = [sys.executable, "-m", "dal", *COMMAND, "cut", "--jobs", "2"]
    return subprocess.Popen(command, cwd=place, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def workers(of: int) -> list[int]:
    """The processes that work on a cell for another process."""
    found = subprocess.run(["ps", "-o", "pid=,args=", "--ppid", str(of)], capture_output=True, text=True, check=False)
    return [int(line.split()[0]) for line in found.stdout.splitlines() if "--cell" in line]


def until(arrived: Any, seconds: float = 240.0) -> Any:
    """What `arrived` returns, as soon as that is true."""
    deadline = time.monotonic() + seconds
    while not (found := arrived()):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    return found


@pytest.mark.skipif(sys.platform != "linux", reason="finds the workers by ps")
def test_a_killed_worker_and_a_killed_parent_leave_a_grid_that_goes_on_at_once(
    with_tickets: Command, tmp_path: Path, tiny_bert: Path
) -> None:
    dal = with_tickets.configured(grid=CONFIG.replace("MODEL", str(tiny_bert)))
    point, process = random.Random(0), begin(tmp_path)
    until(lambda: list((tmp_path / "cut").glob("*/labels.db")))
    time.sleep(point.uniform(0, 0.3))
    both = workers(process.pid)
    os.kill(both[0], signal.SIGKILL)
    time.sleep(point.uniform(0, 0.3))
    process.kill()
    process.wait()
    until(lambda: not any(map(alive, both)))  # nobody is left to work in a folder that nobody watches
    assert begin(tmp_path).wait(300) == 0
    assert dal(*COMMAND, "whole").code == 0  # in one process: jobs change no figure
    for cell in ("Margin-seed0", "Random-seed0"):
        cut, whole = (figures(read_metrics(tmp_path / folder / cell)) for folder in ("cut", "whole"))
        assert json.dumps(cut) == json.dumps(whole)


def alive(pid: int) -> bool:
    """Whether the process is there and no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False
