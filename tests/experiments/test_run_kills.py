"""A run that is killed at any instant goes on to the very same choices and figures."""

import random
import signal
import time
from pathlib import Path
from typing import Any

import material
import pytest
from dying import processes, run_until

from dal.data import Rows, Splits
from dal.experiments.experiment import Experiment
from dal.learners.probe_learner import ProbeLearner
from dal.store.run_folder import read_metrics
from dal.strategies.uncertainty import Margin

CELLS = ("Margin-seed3", "Random-seed3")


def experiment(folder: Path) -> Experiment:
    names = list("abcd")
    inputs, labels = material.clusters(160, spread=3.0)
    test, truth = material.clusters(60, seed=1, spread=3.0)
    data: Any = Splits(Rows.from_inputs(inputs, labels, names), Rows.from_inputs(test, truth, names))
    return Experiment(
        data,
        ProbeLearner(model=None),
        Margin(),
        start=12,
        batch=8,
        rounds=2,
        seeds=[3],
        candidates=100,
        folder=str(folder),
        report=False,
        quiet=True,
    )


def run(folder: Path, die_at: int | None = None, before: bool = True, count: Any = None) -> None:
    """Run the experiment; kill this very process at the durable operation number `die_at`, before or after it."""
    run_until(experiment(folder).run, die_at, count, before=before)


def start(*arguments: Any) -> Any:
    process = processes.Process(target=run, args=arguments)
    process.start()
    return process


def finished(process: Any) -> int | None:
    process.join(60)
    code: int | None = process.exitcode
    process.close()
    return code


def outcome(folder: Path) -> dict[str, list[dict[str, Any]]]:
    """All that must not differ: every line without its seconds."""
    return {
        cell: [{k: v for k, v in line.items() if not k.endswith("seconds")} for line in read_metrics(folder / cell)]
        for cell in CELLS
    }


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], int, float]:
    """What a run without a kill finds, how many durable operations it makes, and how long it takes."""
    folder, count = tmp_path_factory.mktemp("whole"), processes.Value("i", 0)
    finished(start(tmp_path_factory.mktemp("warm"), None, True, None))
    begun = time.monotonic()
    assert finished(start(folder, None, False, count)) == 0  # calls that raise never return, and are not counted
    found = outcome(folder)
    assert all(len(lines) == 3 for lines in found.values())
    return found, count.value, time.monotonic() - begun


@pytest.mark.parametrize("trial", range(12))
def test_killed_run_resumes_to_the_same_choices_and_figures(
    trial: int, uninterrupted: tuple[dict[str, Any], int, float], tmp_path: Path
) -> None:
    expected, operations, duration = uninterrupted
    point = random.Random(trial)
    if trial % 3:
        code = finished(start(tmp_path, point.randint(1, operations), bool(trial % 2)))
    else:
        process = start(tmp_path)
        time.sleep(point.uniform(0.05, 1.0) * duration)
        process.kill()
        code = finished(process)
    assert code == -signal.SIGKILL or (trial % 3 == 0 and code == 0)
    assert finished(start(tmp_path)) == 0
    assert outcome(tmp_path) == expected


def test_run_that_is_killed_again_and_again_still_finishes_the_same(
    uninterrupted: tuple[dict[str, Any], int, float], tmp_path: Path
) -> None:
    expected, operations, _ = uninterrupted
    point = random.Random("again")
    kills = 0
    while finished(start(tmp_path, point.randint(operations // 6, operations // 2))) != 0:
        kills += 1
        assert kills < 40
    assert kills >= 2
    assert outcome(tmp_path) == expected
