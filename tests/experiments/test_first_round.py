"""The first round of a seed is computed once, and is for every cell what it would have computed itself."""

import threading
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from test_comparison import figures
from test_experiment import experiment

from dal.experiments.comparison import Comparison
from dal.experiments.console import Quiet
from dal.experiments.experiment import Experiment
from dal.experiments.first_round import FirstRounds
from dal.experiments.interrupts import InterruptCheck
from dal.experiments.results import Cell
from dal.learner import Prepared
from dal.learners.probe_learner import ProbeLearner
from dal.oracles.simulated import Simulated
from dal.session import Session
from dal.store.run_folder import read_metrics
from dal.strategies import BADGE, ClusterCenters, CoreSet, Entropy, Margin, Random
from dal.strategy import Strategy

FITS: list[int] = []


@dataclass(frozen=True)
class Counted(ProbeLearner):
    """A probe that counts the labels of its fits."""

    def fit(self, data: Prepared, rows: torch.Tensor, labels: torch.Tensor, **options: Any) -> Any:  # type: ignore[override]
        FITS.append(len(rows))
        return super().fit(data, rows, labels, **options)


STRATEGIES: tuple[Strategy, ...] = (Margin(), Entropy(), BADGE(), CoreSet())


def grid(folder: Path, **changes: Any) -> Experiment:
    return experiment(folder, learner=Counted(model=None), cold_start=ClusterCenters(), **changes)


def alone(shared: Experiment, cell: Cell, folder: Path) -> list[dict[str, Any]]:
    """The cell's lines without anything shared."""
    check = InterruptCheck(folder, "compare")
    return replace(shared, common_start=True).run_cell(cell, folder, shared.load(), {}, Quiet(), check)


def test_one_fit_serves_all_strategies_of_a_seed_and_no_figure_differs(tmp_path: Path) -> None:
    shared = grid(tmp_path / "grid", seeds=[0, 1])
    comparison = Comparison(shared, STRATEGIES)
    FITS.clear()
    cells = comparison.run().cells
    assert FITS.count(10) == 2
    for cell in comparison.cells:
        assert figures(cells[cell.name]) == figures(alone(shared, cell, tmp_path / "alone" / cell.name))


def test_a_line_that_was_taken_over_says_so_and_what_the_shared_fit_took(tmp_path: Path) -> None:
    first, *others = (lines[0] for lines in Comparison(grid(tmp_path), STRATEGIES).run().cells.values())
    assert "shared" not in first
    for line in others:
        assert line["shared"] is True
        assert line["fit_seconds"] == first["fit_seconds"] > 0
        assert line["evaluate_seconds"] == first["evaluate_seconds"]
    assert [line["strategy"] for line in others] == ["Entropy", "BADGE", "CoreSet", "Random"]


def test_nothing_is_left_behind_when_the_grid_is_finished(tmp_path: Path) -> None:
    Comparison(grid(tmp_path, save_model=False), STRATEGIES).run()
    assert not (tmp_path / ".first").exists()
    assert not (tmp_path / "Entropy-seed0" / "model").exists()


def test_strategies_with_starts_of_their_own_share_nothing_else(tmp_path: Path) -> None:
    shared = grid(tmp_path, common_start=False)
    cells = Comparison(shared, (CoreSet(space="embeddings"), Margin(), Entropy())).run().cells
    assert [lines[0].get("shared", False) for lines in cells.values()] == [False, False, True, False]


def test_noisy_answers_of_one_oracle_are_shared_and_those_of_another_are_not(tmp_path: Path) -> None:
    left = {}
    for name, oracle in (("sure", None), ("noisy", Simulated(noise=0.5)), ("again", Simulated(noise=0.5))):
        shared = grid(tmp_path / name, oracle=oracle)
        first = FirstRounds(tmp_path)  # one for all, as if they were one grid
        cell = Cell("Margin-seed0", Margin(), 0)
        check = InterruptCheck(None, "compare")
        left[name] = shared.run_cell(cell, tmp_path / name / "cell", shared.load(), {}, Quiet(), check, first)
    assert [lines[0].get("shared", False) for lines in left.values()] == [False, False, True]
    assert left["sure"][0]["log_loss"] != left["noisy"][0]["log_loss"]


def test_a_round_that_another_process_computes_is_waited_for(tmp_path: Path) -> None:
    shared = grid(tmp_path)
    splits, first = shared.load(), FirstRounds(tmp_path)
    done: list[str] = []

    def asked(name: str) -> Session:
        session = Session(splits, shared.learner, Random(), folder=tmp_path / name, hide_labels=True)
        rows = session.ask(10)
        session.tell(rows, splits.pool.labels[rows])
        return session

    def compute(name: str) -> dict[str, Any]:
        started.set()
        done.append(name)
        return {"by": name}

    started = threading.Event()
    with asked("one") as one, asked("two") as two:
        lines: list[Mapping[str, Any]] = []

        def slow() -> dict[str, Any]:
            started.set()
            release.wait(60)
            return compute("one")

        release = threading.Event()
        thread = threading.Thread(target=lambda: lines.append(first.line(one, slow, InterruptCheck(None, "compare"))))
        thread.start()
        assert started.wait(60)
        threading.Timer(0.3, release.set).start()
        lines.append(first.line(two, lambda: compute("two"), InterruptCheck(None, "compare")))
        thread.join()
    assert done == ["one"]
    assert {"by": "one", "shared": True} in lines


def test_what_a_killed_process_left_in_part_is_made_anew(tmp_path: Path) -> None:
    shared = grid(tmp_path / "grid")
    expected = figures(alone(shared, Cell("Margin-seed0", Margin(), 0), tmp_path / "alone"))
    first, cell, check = FirstRounds(tmp_path), Cell("Margin-seed0", Margin(), 0), InterruptCheck(None, "compare")
    whole = replace(shared, common_start=True)
    for name in ("torn", "again"):
        found = whole.run_cell(cell, tmp_path / name, shared.load(), {}, Quiet(), check, first)
        assert figures(found) == expected
        [place] = (tmp_path / ".first").iterdir()
        (place / "line.json").unlink()  # killed between the model and the line
    assert "shared" not in read_metrics(tmp_path / "again")[0]
