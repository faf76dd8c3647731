"""The script that kills ranks notices a run that differs; whole trials of it take minutes."""

import importlib.util
from pathlib import Path
from types import ModuleType

import material
import pytest

from dal.data import Rows, Splits
from dal.experiments.experiment import Experiment
from dal.learners.probe_learner import ProbeLearner
from dal.strategies.uncertainty import Margin


@pytest.fixture(scope="module")
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("many_ranks", Path(__file__).parents[2] / "scripts" / "many_ranks.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def run(folder: Path, inputs_seed: int) -> Path:
    pool, labels = material.clusters(40, seed=inputs_seed)
    test, truth = material.clusters(20, seed=9)
    data = Splits(Rows.from_inputs(pool, labels, list("abcd")), Rows.from_inputs(test, truth, list("abcd")))
    options = {"start": 8, "batch": 4, "rounds": 1, "baseline": None, "report": False, "quiet": True}
    Experiment(data, ProbeLearner(model=None), Margin(), folder=str(folder), **options).run()
    return folder


def test_equal_runs_have_no_differences_and_others_are_named(script: ModuleType, tmp_path: Path):
    one, same, other = (script.outcome(run(tmp_path / name, seed)) for name, seed in (("a", 1), ("b", 1), ("c", 2)))
    assert script.differences(one, same) == []
    assert script.differences(one, other) == ["Margin-seed0: metrics.jsonl", "Margin-seed0: events in labels.db"]
    assert script.differences(one, {}) == ["cells ['Margin-seed0'] and []"]
