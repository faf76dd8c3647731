"""A run on a cached trunk that is killed after a round goes on to the same choices, also without its row cache."""

import os
import shutil
import signal
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import material
import pytest
import torch
from dying import processes

from dal.data import Rows, Splits
from dal.experiments.console import Quiet
from dal.experiments.experiment import Experiment
from dal.learners.transformer_learner import TransformerLearner
from dal.store.cache_contents import cache_entries
from dal.store.run_folder import read_metrics
from dal.strategies import BALD

CELL = "BALD-seed1"


def experiment(model: Path, folder: Path) -> Experiment:
    names = sorted(material.TOPICS)
    data: Any = Splits(*(Rows.from_inputs(*material.tickets(n, seed=n), names) for n in (120, 40)))
    learner = TransformerLearner(
        str(model), trunk="cached", layers=1, min_steps=12, max_steps=12, learning_rate=3e-3, samples=8
    )
    return Experiment(
        data,
        learner,
        BALD(),
        baseline=None,
        start=16,
        batch=8,
        rounds=2,
        seeds=[1],
        candidates=60,
        folder=str(folder),
        report=False,
        quiet=True,
    )


class Killed(Quiet):
    """Kills the process after the record of a number of rounds."""

    def __init__(self, rounds: int) -> None:
        self.left = rounds

    def round(self, line: Mapping[str, Any]) -> None:
        self.left -= 1
        if self.left == 0:
            os.kill(os.getpid(), signal.SIGKILL)


def run(model: Path, folder: Path, cache: Path, killed_after: int = 0) -> None:
    os.environ["DAL_CACHE"] = str(cache)
    torch.set_num_threads(1)
    experiment(model, folder).run(reporter=Killed(killed_after))


def finished(*arguments: Any) -> int | None:
    process = processes.Process(target=run, args=arguments)
    process.start()
    process.join(120)
    return process.exitcode


def outcome(folder: Path) -> list[dict[str, Any]]:
    """Every line without its seconds."""
    return [{k: v for k, v in line.items() if not k.endswith("seconds")} for line in read_metrics(folder / CELL)]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny encoder that was trained for means, as far as its files say."""
    folder = material.write_tiny_bert(tmp_path_factory.mktemp("tiny") / "bert")
    (folder / "1_Pooling").mkdir()
    (folder / "1_Pooling" / "config.json").write_text('{"pooling_mode_mean_tokens": true}')
    return folder


@pytest.fixture(scope="module")
def uninterrupted(model: Path, tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    folder = tmp_path_factory.mktemp("whole")
    assert finished(model, folder / "run", folder / "cache") == 0
    found = outcome(folder / "run")
    assert [len(line["rows"]) for line in found] == [16, 8, 8]
    return found


@pytest.mark.parametrize("cleared", [False, True], ids=["cache kept", "cache cleared"])
@pytest.mark.parametrize("rounds", [1, 2])
def test_resumed_run_makes_the_choices_of_an_uninterrupted_one(
    rounds: int, cleared: bool, model: Path, uninterrupted: list[dict[str, Any]], tmp_path: Path
) -> None:
    cache = tmp_path / "cache"
    assert finished(model, tmp_path / "run", cache, rounds) == -signal.SIGKILL
    assert outcome(tmp_path / "run") == uninterrupted[:rounds]
    assert "states" in {entry.kind for entry in cache_entries(cache)}
    if cleared:
        shutil.rmtree(cache)
    assert finished(model, tmp_path / "run", cache) == 0
    assert "states" in {entry.kind for entry in cache_entries(cache)}
    found = outcome(tmp_path / "run")
    assert [line["rows"] for line in found] == [line["rows"] for line in uninterrupted]
    if not cleared:  # states that are computed again in other batches may differ in the last bit of float16
        assert found == uninterrupted
