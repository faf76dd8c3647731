"""Strategies side by side over the same seeds: a grid of runs, here, in processes or on a cluster, resumable."""

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from dal.config.allowed_code import code_folder
from dal.config.kinds import COMPARISON
from dal.config.stored import CONFIG, describe
from dal.data import Splits, TextData
from dal.errors import ConfigError, DalError, require
from dal.experiments.console import Console, Quiet, duration
from dal.experiments.executor import CellResult, Executor, InProcessExecutor, Lines, await_free
from dal.experiments.experiment import Cell, Experiment, Results, sign
from dal.experiments.first_round import FirstRounds
from dal.experiments.interrupts import InterruptCheck, interruptible
from dal.learner import Prepared
from dal.session.checked_arguments import is_whole, require_kind
from dal.store.folder_lock import held
from dal.store.run_folder import check_folder, read_metrics
from dal.strategy import Strategy, name_of


@dataclass(frozen=True)
class Comparison:
    """Several strategies and a baseline over the same seeds, each cell a run folder of its own.

    Cells of one seed start from the same labels (those that the experiment's `cold_start` chooses, unless its
    `common_start` is false), the same initialisation and the same test set, whatever runs them, in any order. A
    cell that fails is named at the end and the others go on; running again does what is missing.

    Args:
        experiment: what all cells share: data, learner, oracle, sizes, seeds, folder, and the baseline. Its strategy is
            not used.
        strategies: what is compared. The baseline is added at the end unless it is among them.
        jobs: processes that work at once. Each runs with its share of the processor's threads, and on a GPU of its own
            where there are several. More than one needs a folder, and data that a config can name.
        cluster: where they work: None for this machine, else the address of a Ray cluster whose machines all see the
            folder and the data ("auto" for the one that this machine is part of, "local" for a Ray on this one alone).

    Example:
        >>> import torch
        >>> from dal.data import Rows, Splits
        >>> from dal.learners.probe_learner import ProbeLearner
        >>> from dal.strategies import Margin, Random
        >>> rows = Rows.from_inputs(torch.randn(60, 4), torch.arange(60) % 2, classes=["cat", "dog"])
        >>> shared = Experiment(Splits(rows, rows), ProbeLearner(model=None), start=8, batch=4, rounds=1, quiet=True)
        >>> list(Comparison(shared, (Margin(), Random())).run().cells)
        ['Margin-seed0', 'Random-seed0']
    """

    experiment: Experiment
    strategies: tuple[Strategy, ...]
    jobs: int = 1
    cluster: str | None = None

    def __post_init__(self) -> None:
        require_kind(self.experiment, Experiment, "experiment", "Experiment(data, learner)")
        if isinstance(self.strategies, str | Strategy) or not isinstance(self.strategies, Iterable):
            raise ConfigError(f"strategies must be several, such as (Margin(), Random()), got {self.strategies!r}")
        object.__setattr__(self, "strategies", tuple(self.strategies))
        if not self.strategies:
            raise ConfigError("a comparison needs at least one strategy")
        for strategy in self.strategies:
            require_kind(strategy, Strategy, "each of the strategies", "Margin()")
        if self.cluster is not None:
            require_kind(self.cluster, str, "cluster", "'auto'")
        start = self.experiment.common_start is None or self.experiment.common_start
        # what the experiment's own strategy reads must not matter
        object.__setattr__(
            self, "experiment", replace(self.experiment, strategy=self.strategies[0], common_start=start)
        )
        if not is_whole(self.jobs) or self.jobs < 1:
            raise ConfigError(f"jobs must be at least 1, got {self.jobs!r}")
        if self._beside and (self.experiment.folder is None or not isinstance(self.experiment.data, TextData)):
            raise ConfigError("several jobs need a folder, and data that a config can name (a TextData)")

    @property
    def _beside(self) -> bool:
        """Whether cells run in processes of their own."""
        return self.jobs > 1 or self.cluster is not None

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

    def _place(self) -> Path | None:
        """The folder, None in memory, once it is sure that every cell can have its own in it."""
        if self.experiment.folder is None:
            return None
        folder = check_folder(self.experiment.folder)
        for cell in self.cells:
            check_folder(folder / cell.name)
        return folder

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
        if self.cluster is not None:
            require("ray", "ray")
        reporter = reporter or (Quiet() if self.experiment.quiet else Console())
        folder = self._place()
        shared = _Shared(self, folder)
        if folder is None or not (folder / CONFIG).exists():
            shared.load()  # what cannot be run is refused before anything is written
        with held(folder), interruptible(folder, command="compare") as check:
            if folder is not None:
                sign(folder, self.described(), COMPARISON, reporter)
            grid = _Grid(self, folder, reporter)
            self._run_cells(grid, shared, check)
            report = None
            if folder is not None and self.experiment.report and any(grid.lines.values()):
                from dal.report import write_report

                report = Path(write_report(folder))
        reporter.summary(grid.lines)
        self._say_of_successor(grid.lines, folder, reporter)
        if report is not None:
            reporter.say(f"\nreport: {report}")
        if grid.failed:
            raise CellsFailed(grid.failed, folder)
        return Results(grid.lines, folder, report)

    def _run_cells(self, grid: "_Grid", shared: "_Shared", check: InterruptCheck) -> None:
        left = [cell for cell in self.cells if not self.experiment.is_over(grid.lines[cell.name])]
        if left:
            executor = self._executor(shared, grid.reporter, min(self.jobs, len(left)))
            try:
                for ended in executor.run(left, check):
                    grid.done(ended)
            finally:
                executor.close()
        if shared.first is not None and not grid.failed:
            shared.first.forget()

    def _say_of_successor(self, lines: Mapping[str, Lines], folder: Path | None, reporter: Quiet) -> None:
        if self.experiment.successor is None:
            return
        from dal.experiments.successor import conclusion, write_conclusion

        baseline = self.experiment.baseline
        named = next((name for name, strategy in self.named.items() if strategy == baseline), None)
        found = conclusion(lines, named)
        for each in found.get("strategies", {}).values():
            reporter.say(each["text"])
        if folder is not None and found:
            write_conclusion(folder, found)

    def _executor(self, shared: "_Shared", reporter: Quiet, jobs: int) -> Executor:
        """Where the cells are run: nothing else depends on it."""
        if not self._beside:
            return InProcessExecutor(lambda cell, check: shared.shown(cell, reporter, check))
        assert shared.folder is not None
        code = code_folder(self.described())
        if self.cluster is None:
            from dal.experiments.processes import Processes

            return Processes(self.experiment, shared.folder, jobs, code)
        from dal.experiments.ray_cluster import Cluster

        return Cluster(self.experiment, shared.folder, jobs, self.cluster, code)

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
            if folder is not None:
                await_free(folder / name, check)
            return _Shared(self, folder).run(cell, reporter or Quiet(), check)


class CellsFailed(DalError):
    """Some cells could not be finished; all others were."""

    exit_code = 1

    def __init__(self, failed: Mapping[str, str], folder: Path | None) -> None:
        listed = "; ".join(f"{name}: {said}" for name, said in failed.items())
        again = "" if folder is None else f"; the rest is in {folder}, and the same command does what is missing"
        super().__init__(f"{len(failed)} of the cells failed: {listed}{again}")


@dataclass
class _Shared:
    """What cells of one process share: the data, what was made ready of it, and the first round of each seed."""

    comparison: Comparison
    folder: Path | None
    splits: Splits | None = None
    prepared: dict[str, Prepared] = field(default_factory=dict)

    @property
    def first(self) -> FirstRounds | None:
        """The first rounds; None in memory, where each cell makes its own."""
        return None if self.folder is None else FirstRounds(self.folder)

    def load(self) -> Splits:
        """The data, once it is sure that every strategy can run on it."""
        if self.splits is None:
            from dal.session.checked_arguments import check_needs

            self.splits = self.comparison.experiment.load()
            for strategy in self.comparison.named.values():
                check_needs(strategy, self.comparison.experiment.learner, multilabel=self.splits.pool.multilabel)
        return self.splits

    def run(self, cell: Cell, reporter: Quiet, check: InterruptCheck) -> Lines:
        """The cell's lines."""
        place = None if self.folder is None else self.folder / cell.name
        experiment = self.comparison.experiment
        return experiment.run_cell(cell, place, self.load(), self.prepared, reporter, check, self.first)

    def shown(self, cell: Cell, reporter: Quiet, check: InterruptCheck) -> Lines:
        """The cell's lines, under a head of their own."""
        reporter.cell(name_of(cell.strategy), cell.seed)
        return self.run(cell, reporter, check)


class _Grid:
    """How far the grid is."""

    def __init__(self, comparison: Comparison, folder: Path | None, reporter: Quiet) -> None:
        self.reporter = reporter
        self.lines: dict[str, Lines] = {
            cell.name: [] if folder is None else read_metrics(folder / cell.name) for cell in comparison.cells
        }
        self.failed: dict[str, str] = {}
        self._finished = sum(comparison.experiment.is_over(lines) for lines in self.lines.values())
        self._began, self._ended = time.monotonic(), 0
        if self._finished:
            reporter.say(f"{self._finished} of {len(self.lines)} cells are finished already")

    def done(self, ended: CellResult) -> None:
        """A cell ended, well or badly."""
        self._ended += 1
        name = ended.cell.name
        if ended.lines is None:
            self.failed[name] = ended.said or "it ended without a word"
            self.reporter.say(f"{name} failed: {self.failed[name]}")
            return
        self.lines[name] = ended.lines
        self._finished += 1
        left = len(self.lines) - self._finished - len(self.failed)
        seconds = (time.monotonic() - self._began) / self._ended * left
        last = ended.lines[-1]
        score = last.get("accuracy")
        reached = "" if score is None else f"accuracy {score:.3f} with {last['labels']} labels; "
        then = "that was the last" if not left else f"about {duration(seconds)} left"
        self.reporter.say(f"{name}: {reached}{self._finished} of {len(self.lines)} cells, {then}")
