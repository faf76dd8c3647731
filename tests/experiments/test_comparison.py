"""Strategies side by side: paired cells, resumed, in one process or in several, whatever fails."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from command import Command
from test_experiment import experiment, without_seconds

from dal.errors import ConfigError, NeedError
from dal.experiments.cell_worker import LOG
from dal.experiments.comparison import CellsFailed, Comparison
from dal.store.run_folder import read_metrics
from dal.strategies import ALPS, BADGE, ClusterCenters, Entropy, Margin, Random
from dal.strategy import Query, Selection, Strategy

CONFIG = """\
data: {path: tickets.csv, id: id, test: 0.3}
learner: {ProbeLearner: {model: MODEL, max_length: 16}}
start: 6
batch: 4
rounds: 2
report: false
folder: runs/grid
"""


@dataclass(frozen=True)
class Fails(Strategy):
    """Chooses nothing."""

    needs = frozenset({"probs"})

    def select(self, query: Query) -> Selection:
        raise RuntimeError("no choice\nat all")


def figures(lines: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """All but who computed them, and how long that took."""
    return [{key: value for key, value in without_seconds(line).items() if key != "shared"} for line in lines]


def test_cells_of_a_seed_start_from_the_same_rows_and_the_same_model(tmp_path: Path) -> None:
    shared = experiment(tmp_path, seeds=[0, 1], cold_start=ClusterCenters())
    cells = Comparison(shared, (Margin(), ClusterCenters())).run().cells
    assert list(cells) == [f"{s}-seed{k}" for k in (0, 1) for s in ("Margin", "ClusterCenters", "Random")]
    for seed in (0, 1):
        first = [cells[f"{name}-seed{seed}"][0] for name in ("Margin", "ClusterCenters", "Random")]
        assert len({tuple(line["rows"]) for line in first}) == 1
        assert len({line["log_loss"] for line in first}) == 1
    assert cells["Margin-seed0"][0]["rows"] != cells["Margin-seed1"][0]["rows"]
    assert cells["Margin-seed0"][1]["rows"] != cells["Random-seed0"][1]["rows"]


def test_strategies_may_choose_their_own_start() -> None:
    shared = experiment(common_start=False)
    cells = Comparison(shared, (Margin(), ClusterCenters())).run().cells
    assert cells["ClusterCenters-seed0"][0]["rows"] != cells["Random-seed0"][0]["rows"]


def test_a_cell_is_what_a_run_of_its_own_computes(tmp_path: Path) -> None:
    grid = Comparison(experiment(tmp_path / "grid", seeds=[3]), (Entropy(), Margin())).run().cells
    alone = experiment(tmp_path / "alone", seeds=[3], strategy=Entropy(), common_start=True).run().cells
    for name in ("Entropy-seed3", "Random-seed3"):
        assert figures(grid[name]) == figures(alone[name])


def test_a_second_run_does_what_is_missing_and_changes_no_figure(tmp_path: Path) -> None:
    comparison = Comparison(experiment(tmp_path, seeds=[0, 1]), (Margin(), Entropy()))
    before = comparison.run().cells
    shutil.rmtree(tmp_path / "Entropy-seed1")
    kept = (tmp_path / "Margin-seed0" / "metrics.jsonl").read_bytes()
    again = comparison.run().cells
    assert {name: figures(lines) for name, lines in again.items()} == {n: figures(ls) for n, ls in before.items()}
    assert (tmp_path / "Margin-seed0" / "metrics.jsonl").read_bytes() == kept


def test_a_failed_cell_is_named_and_the_others_go_on(tmp_path: Path) -> None:
    with pytest.raises(
        CellsFailed, match=r"1 of the cells failed: Fails-seed0: RuntimeError: no choice; the rest is in"
    ):
        Comparison(experiment(tmp_path), (Fails(), Margin())).run()
    assert len(read_metrics(tmp_path / "Margin-seed0")) == len(read_metrics(tmp_path / "Random-seed0")) == 3


def test_the_same_class_with_other_options_has_a_cell_of_its_own() -> None:
    comparison = Comparison(experiment(), (BADGE(), BADGE(seeding="k-center"), Random(), BADGE()))
    assert list(comparison.named) == ["BADGE", "BADGE~2", "Random"]


def test_what_cannot_be_run_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    folder = tmp_path / "grid"
    with pytest.raises(NeedError, match="ALPS needs surprisal"):
        Comparison(experiment(folder), (Margin(), ALPS())).run()
    assert not folder.exists()
    with pytest.raises(ConfigError, match="at least one strategy"):
        Comparison(experiment(folder), ())
    with pytest.raises(ConfigError, match="several jobs need a folder"):
        Comparison(experiment(folder), (Margin(),), jobs=2)


def test_another_comparison_is_refused_in_the_same_folder(tmp_path: Path) -> None:
    Comparison(experiment(tmp_path), (Margin(),)).run()
    with pytest.raises(ConfigError, match="holds another run"):
        Comparison(experiment(tmp_path), (Entropy(),)).run()
    with pytest.raises(ConfigError, match="holds another run: rounds"):
        Comparison(replace(experiment(tmp_path), rounds=1), (Margin(),)).run()


# -- the command -----------------------------------------------------------------------------------------------------


@pytest.fixture
def dal(with_tickets: Command, tmp_path: Path, tiny_bert: Path) -> Command:
    (tmp_path / "fails.py").write_text(
        "from dataclasses import dataclass\n"
        "from dal import Strategy\n"
        "@dataclass(frozen=True)\n"
        "class Dies(Strategy):\n"
        "    '''Kills its process.'''\n"
        "    needs = frozenset({'probs'})\n"
        "    def select(self, query):\n"
        "        import os\n"
        "        os.kill(os.getpid(), 9)\n"
    )
    return with_tickets.configured(grid=CONFIG.replace("MODEL", str(tiny_bert)))


def test_jobs_give_the_same_figures_and_a_dead_worker_costs_its_own_cell(dal: Command, tmp_path: Path) -> None:
    listed = "Margin,{BADGE: {seeding: k-center}}"
    alone = dal("compare", "grid.yaml", "--strategies", listed, "--seeds", 1, "--folder", "alone")
    assert alone.code == 0, alone.err
    beside = dal("compare", "grid.yaml", "--strategies", f"{listed},fails.Dies", "--seeds", "[0]", "--jobs", 2)
    assert beside.code == 1
    assert "1 of the cells failed: Dies-seed0: its process was killed by signal 9" in beside.err
    assert "3 of 4 cells done, 1 failed" in beside.err + beside.out
    for name in ("Margin-seed0", "BADGE-seed0", "Random-seed0"):
        ours, theirs = (read_metrics(tmp_path / folder / name) for folder in ("runs/grid-compare", "alone"))
        assert [line["rows"] for line in ours] == [line["rows"] for line in theirs]
        assert [line["accuracy"] for line in ours] == [line["accuracy"] for line in theirs]
        assert len(ours) == 3
    assert (tmp_path / "runs/grid-compare" / "Margin-seed0" / LOG).exists()


def test_a_killed_comparison_goes_on_to_the_same_figures(dal: Command, tmp_path: Path) -> None:
    whole = dal("compare", "grid.yaml", "--strategies", "Margin", "--seeds", 2, "--folder", "whole")
    assert whole.code == 0, whole.err
    command = [sys.executable, "-m", "dal", "compare", "grid.yaml", "--strategies", "Margin", "--seeds", "2"]
    killed = subprocess.Popen(
        [*command, "--folder", "cut"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    )
    first, deadline = tmp_path / "cut" / "Margin-seed0" / "metrics.jsonl", time.monotonic() + 120
    while not first.exists() and killed.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    os.killpg(killed.pid, signal.SIGKILL)
    killed.wait()
    again = dal("compare", "--resume", "cut")
    assert again.code == 0, again.err
    for name in ("Margin-seed0", "Random-seed0", "Margin-seed1", "Random-seed1"):
        cut, uncut = (figures(read_metrics(tmp_path / folder / name)) for folder in ("cut", "whole"))
        assert json.dumps(cut) == json.dumps(uncut)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["grid.yaml"], "needs a config file and --strategies"),
        (["grid.yaml", "--strategies", "Margn"], "did you mean Margin"),
        (["grid.yaml", "--strategies", "Margin", "--strategy", "BADGE"], "a comparison takes --strategies"),
        (["grid.yaml", "--strategies", "Margin", "--seeds", "many"], "seeds"),
        (["grid.yaml", "--strategies", "Margin", "--jobs", "0"], "jobs must be at least 1"),
        (["--resume", "nowhere"], "there is no folder nowhere"),
        (["--resume", "grid", "--strategies", "Margin"], "--resume takes only the folder"),
    ],
)
def test_mistakes_are_told_in_one_line(dal: Command, arguments: list[str], said: str) -> None:
    ended = dal("compare", *arguments)
    assert ended.code == 2
    assert said in ended.err
    assert ended.err.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((Margin(), (Margin(),)), "experiment must be Experiment.*got Margin"),
        ((None, Margin()), "strategies must be several"),
        ((None, "Margin"), "strategies must be several"),
        ((None, 7), "strategies must be several"),
        ((None, (Margin,)), r"each of the strategies must be Strategy.*give Margin\(\)"),
        ((None, (Margin(),), "2"), "jobs must be at least 1, got '2'"),
        ((None, (Margin(),), 1, 5), "cluster must be str"),
    ],
)
def test_wrong_parts_of_a_comparison_are_refused_with_what_to_give(arguments: tuple, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Comparison(experiment() if arguments[0] is None else arguments[0], *arguments[1:])
