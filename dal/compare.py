"""Strategies side by side over the same seeds: a grid of runs, in this process or in several, resumable at any time."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field, replace
from pathlib import Path
from queue import SimpleQueue
from typing import Any

from dal.data import Splits, TextData
from dal.errors import ConfigError, DalError
from dal.experiment import Cell, Check, Experiment, Interrupted, Results, held, interruptible, sign
from dal.learner import Prepared
from dal.reporter import Console, Quiet, duration
from dal.runfolder import describe, read_metrics
from dal.strategy import Strategy, name_of

#: What a worker's folder of a cell keeps of what it said.
LOG = "worker.log"


@dataclass(frozen=True)
class Comparison:
    """Several strategies and a baseline over the same seeds, each cell a run folder of its own.

    Cells of one seed start from the same labels (those that the experiment's `cold_start` chooses, unless its
    `common_start` is false), the same initialisation and the same test set, whoever runs them and in whatever order. A
    cell that fails is named at the end and the others go on; running again does what is missing.

    Args:
        experiment: what all cells share: data, learner, oracle, sizes, seeds, folder, and the baseline. Its strategy is
            not used.
        strategies: what is compared. The baseline is added at the end unless it is among them.
        jobs: processes that work at once. Each runs with its share of the processor's threads, and on a GPU of its own
            where there are several. More than one needs a folder, and data that a config can name.

    Example:
        >>> import torch
        >>> from dal.data import Rows, Splits
        >>> from dal.learners.probe import ProbeLearner
        >>> from dal.strategies import Margin, Random
        >>> rows = Rows.from_inputs(torch.randn(60, 4), torch.arange(60) % 2, classes=["cat", "dog"])
        >>> shared = Experiment(Splits(rows, rows), ProbeLearner(model=None), start=8, batch=4, rounds=1, quiet=True)
        >>> list(Comparison(shared, (Margin(), Random())).run().cells)
        ['Margin-seed0', 'Random-seed0']
    """

    experiment: Experiment
    strategies: tuple[Strategy, ...]
    jobs: int = 1

    def __post_init__(self) -> None:
        object.__setattr__(self, "strategies", tuple(self.strategies))
        if not self.strategies:
            raise ConfigError("a comparison needs at least one strategy")
        start = self.experiment.common_start is None or self.experiment.common_start
        # what the experiment's own strategy reads must not matter
        object.__setattr__(
            self, "experiment", replace(self.experiment, strategy=self.strategies[0], common_start=start)
        )
        if self.jobs < 1:
            raise ConfigError(f"jobs must be at least 1, got {self.jobs}")
        if self.jobs > 1 and (self.experiment.folder is None or not isinstance(self.experiment.data, TextData)):
            raise ConfigError("several jobs need a folder, and data that a config can name (a TextData)")

    @property
    def named(self) -> dict[str, Strategy]:
        """All strategies by the names of their cells, the baseline last."""
        found: dict[str, Strategy] = {}
        baseline = self.experiment.baseline
        for strategy in (*self.strategies, *(() if baseline is None else (baseline,))):
            if strategy in found.values():
                continue
            name = name_of(strategy)
            same = sum(each == name or each.startswith(f"{name}~") for each in found)
            found[f"{name}~{same + 1}" if same else name] = strategy
        return found

    @property
    def cells(self) -> list[Cell]:
        """The grid, seed by seed, so that what is finished early is paired."""
        return [
            Cell(f"{name}-seed{seed}", strategy, seed)
            for seed in self.experiment.seeds
            for name, strategy in self.named.items()
        ]

    def described(self) -> dict[str, Any]:
        """What `config.yaml` says of it."""
        config = self.experiment.described()
        del config["strategy"]
        return {"strategies": {name: describe(strategy) for name, strategy in self.named.items()}, **config}

    def run(self, *, reporter: Quiet | None = None) -> Results:
        """The figures of all cells, computed or read from the folder.

        Raises:
            ConfigError: the folder holds something else, or the parts do not fit each other.
            BusyError: another process works in the folder.
            Interrupted: Ctrl-C. What is finished is kept.
            CellsFailed: after all others are finished.
        """
        reporter = reporter or (Quiet() if self.experiment.quiet else Console())
        folder = None if self.experiment.folder is None else Path(self.experiment.folder)
        shared = _Shared(self)
        if folder is None or not folder.exists():
            shared.load()  # what cannot be run is refused before anything is written
        with held(folder), interruptible(folder, command="compare") as check:
            if folder is not None:
                sign(folder, self.described(), reporter)
            grid = _Grid(self, folder, reporter, check)
            left = [cell for cell in self.cells if not self.experiment.is_over(grid.lines[cell.name])]
            work = self._one_by_one(left, grid, shared) if self.jobs == 1 else self._beside(left, grid)
            for cell, lines, said in work:
                grid.done(cell, lines, said)
            report = None
            if folder is not None and self.experiment.report and any(grid.lines.values()):
                from dal.report import write_report

                report = Path(write_report(folder))
        reporter.summary(grid.lines)
        if report is not None:
            reporter.say(f"\nreport: {report}")
        if grid.failed:
            raise CellsFailed(grid.failed, folder)
        return Results(grid.lines, folder, report)

    def run_cell(self, name: str, *, reporter: Quiet | None = None) -> list[dict[str, Any]]:
        """The lines of one cell alone, as a worker runs it.

        Raises:
            ConfigError: there is no such cell.
        """
        cell = next((cell for cell in self.cells if cell.name == name), None)
        if cell is None:
            raise ConfigError(f"no cell {name!r}; cells are {', '.join(cell.name for cell in self.cells)}")
        folder = None if self.experiment.folder is None else Path(self.experiment.folder)
        with interruptible(folder, command="compare") as check:
            return _Shared(self).run(cell, folder, reporter or Quiet(), check)

    def _one_by_one(self, left: Sequence[Cell], grid: "_Grid", shared: "_Shared") -> Iterator["_Ended"]:
        for cell in left:
            grid.reporter.cell(name_of(cell.strategy), cell.seed)
            try:
                yield cell, shared.run(cell, grid.folder, grid.reporter, grid.check), ""
            except Interrupted:
                raise
            except Exception as error:
                yield cell, None, _said(error)

    def _beside(self, left: Sequence[Cell], grid: "_Grid") -> Iterator["_Ended"]:
        """One worker process for each cell, `jobs` at a time; a worker that dies takes its own cell with it alone."""
        assert grid.folder is not None
        jobs = min(self.jobs, max(1, len(left)))
        slots: SimpleQueue[int] = SimpleQueue()
        for slot in range(jobs):
            slots.put(slot)
        with ThreadPoolExecutor(jobs) as pool:
            running: dict[Future[str], Cell] = {}
            waiting = list(left)
            try:
                while waiting or running:
                    while waiting and len(running) < jobs:
                        cell = waiting.pop(0)
                        running[pool.submit(_work, grid.folder, cell.name, slots, jobs)] = cell
                    ended, _ = wait(running, timeout=0.2, return_when=FIRST_COMPLETED)
                    grid.check()  # Ctrl-C reached the workers too; they end after the step that they are at
                    for future in ended:
                        cell, said = running.pop(future), future.result()
                        lines = read_metrics(grid.folder / cell.name)
                        yield cell, lines if self.experiment.is_over(lines) else None, said
            finally:
                waiting.clear()


#: A cell, its lines (None when it failed), and what it said.
_Ended = tuple[Cell, list[dict[str, Any]] | None, str]


class CellsFailed(DalError):
    """Some cells could not be finished; all others were."""

    exit_code = 1

    def __init__(self, failed: Mapping[str, str], folder: Path | None) -> None:
        listed = "; ".join(f"{name}: {said}" for name, said in failed.items())
        again = "" if folder is None else f"; the rest is in {folder}, and the same command does what is missing"
        super().__init__(f"{len(failed)} of the cells failed: {listed}{again}")


@dataclass
class _Shared:
    """What cells of one process share: the data and what was made ready of it."""

    comparison: Comparison
    splits: Splits | None = None
    prepared: dict[str, Prepared] = field(default_factory=dict)

    def load(self) -> Splits:
        """The data, once it is sure that every strategy can run on it."""
        if self.splits is None:
            from dal.choice import check_needs

            self.splits = self.comparison.experiment.load()
            for strategy in self.comparison.named.values():
                check_needs(strategy, self.comparison.experiment.learner, multilabel=self.splits.pool.multilabel)
        return self.splits

    def run(self, cell: Cell, folder: Path | None, reporter: Quiet, check: Check) -> list[dict[str, Any]]:
        """The cell's lines."""
        place = None if folder is None else folder / cell.name
        return self.comparison.experiment.run_cell(cell, place, self.load(), self.prepared, reporter, check)


class _Grid:
    """How far the grid is."""

    def __init__(self, comparison: Comparison, folder: Path | None, reporter: Quiet, check: Check) -> None:
        self.folder, self.reporter, self.check = folder, reporter, check
        self.lines: dict[str, list[dict[str, Any]]] = {
            cell.name: [] if folder is None else read_metrics(folder / cell.name) for cell in comparison.cells
        }
        self.failed: dict[str, str] = {}
        self._jobs = comparison.jobs
        self._finished = sum(comparison.experiment.is_over(lines) for lines in self.lines.values())
        self._began, self._ended = time.monotonic(), 0
        if self._finished:
            reporter.say(f"{self._finished} of {len(self.lines)} cells are finished already")

    def done(self, cell: Cell, lines: list[dict[str, Any]] | None, said: str) -> None:
        """A cell ended, well or badly."""
        self._ended += 1
        if lines is None:
            self.failed[cell.name] = said or "it ended without a word"
            self.reporter.say(f"{cell.name} failed: {self.failed[cell.name]}")
            return
        self.lines[cell.name] = lines
        self._finished += 1
        left = len(self.lines) - self._finished - len(self.failed)
        seconds = (time.monotonic() - self._began) / self._ended * left
        score = lines[-1].get("accuracy")
        reached = "" if score is None else f"accuracy {score:.3f} with {lines[-1]['labels']} labels; "
        then = "that was the last" if not left else f"about {duration(seconds)} left"
        self.reporter.say(f"{cell.name}: {reached}{self._finished} of {len(self.lines)} cells, {then}")


def _work(folder: Path, name: str, slots: "SimpleQueue[int]", jobs: int) -> str:
    """Run one cell in a process of its own; what it said last, when it failed."""
    slot = slots.get()
    try:
        place = folder / name
        place.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, "-m", "dal", "compare", "--cell", name, str(folder)]
        with open(place / LOG, "w+", encoding="utf-8", errors="replace") as log:
            code = subprocess.run(command, stdout=log, stderr=log, env=_environment(slot, jobs), check=False).returncode
            log.seek(0)
            last = next((line for line in reversed(log.read().splitlines()) if line.strip()), "")
        return "" if code == 0 else last.removeprefix("dal: error: ") or f"its process ended with {code}"
    finally:
        slots.put(slot)


def _environment(slot: int, jobs: int) -> dict[str, str]:
    """A worker's share of the machine: its threads, and a GPU of its own where there are several."""
    import torch

    threads = str(max(1, torch.get_num_threads() // jobs))
    shared = {**os.environ, "OMP_NUM_THREADS": threads, "MKL_NUM_THREADS": threads}
    gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if gpus > 1:
        visible = os.environ.get("CUDA_VISIBLE_DEVICES", ",".join(map(str, range(gpus)))).split(",")
        shared["CUDA_VISIBLE_DEVICES"] = visible[slot % len(visible)]
    return shared


def _said(error: Exception) -> str:
    first = (str(error).splitlines() or [""])[0]
    return first if isinstance(error, DalError) else f"{type(error).__name__}: {first}"
