"""Comparisons of strategies over the same seeds: resumable grids of runs, on this computer, on Slurm or on Ray."""

import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from dal.config.allowed_code import import_folder
from dal.config.kinds import COMPARISON
from dal.config.moved import accepts_old_attributes
from dal.config.stored import CONFIG, describe
from dal.data import Splits, TextData
from dal.errors import ConfigError, DalError, counted, require
from dal.evaluation.curves import named_score
from dal.experiments.cell_progress import CellReporter, CellsProgress
from dal.experiments.console import Console, Quiet, reading
from dal.experiments.executor import CellResult, Executor, InProcessExecutor, Lines, await_free
from dal.experiments.experiment import Experiment
from dal.experiments.experiment_checks import start_notes
from dal.experiments.first_round import FirstRounds
from dal.experiments.folder_config import check_config
from dal.experiments.heartbeat import duration, seconds_left
from dal.experiments.html_report import ReportWriter, html_report, verdict_sentences
from dal.experiments.interrupts import InterruptCheck, interruptible
from dal.experiments.node_code import check_code, code_variables
from dal.experiments.results import Cell, Results
from dal.experiments.slurm_jobs import Slurm, SlurmJobs
from dal.learner import Prepared
from dal.session.checked_arguments import is_whole, require_kind
from dal.store.folder_lock import held
from dal.store.memory_limit import check_processes
from dal.store.run_folder import check_folder, read_metrics
from dal.strategy import Strategy, name_of


@accepts_old_attributes
@dataclass(frozen=True)
class Comparison:
    """A grid of several strategies and a baseline over the same seeds. Each cell has its own run folder.

    Cells of one seed start with the same labels (selected by the experiment's `cold_start`, unless its `common_start`
    is false), the same initialisation and the same test set, regardless of executor and order. If a cell fails, the
    others continue and the error is raised at the end; running again completes the missing cells.

    Args:
        experiment: settings of all cells: data, learner, oracle, sizes, seeds, folder and baseline. Its strategy is not
            used.
        strategies: strategies to compare. The baseline is added at the end if it is not among them.
        jobs: number of concurrent processes. Each gets its share of the CPU threads, and its own GPU if there are
            several. More than one needs a folder and a `TextData`.
        cluster: None to run on this computer; the resources of Slurm jobs; or the address of a Ray cluster: "auto" for
            the cluster of this computer, "local" for a new one on this computer only. All nodes must see the folder and
            the data.
        cells_per_gpu: number of cells that share a GPU of a cluster.

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
    cluster: str | Slurm | None = None
    cells_per_gpu: int = 1

    def __post_init__(self) -> None:
        require_kind(self.experiment, Experiment, "experiment", "Experiment(data, learner)")
        if isinstance(self.strategies, str | Strategy) or not isinstance(self.strategies, Iterable):
            raise ConfigError(f"strategies must be several, such as (Margin(), Random()), got {self.strategies!r}")
        object.__setattr__(self, "strategies", tuple(self.strategies))
        if not self.strategies:
            raise ConfigError("a comparison needs at least one strategy")
        for strategy in self.strategies:
            require_kind(strategy, Strategy, "each of the strategies", "Margin()")
        if self.cluster is not None and not isinstance(self.cluster, Slurm):
            require_kind(self.cluster, str, "cluster", "'auto'")
        start = self.experiment.common_start is None or self.experiment.common_start
        # The experiment's own strategy is not run, so its needs must not be checked.
        object.__setattr__(
            self, "experiment", replace(self.experiment, strategy=self.strategies[0], common_start=start)
        )
        if not is_whole(self.jobs) or self.jobs < 1:
            raise ConfigError(f"jobs must be at least 1, got {self.jobs!r}")
        if not is_whole(self.cells_per_gpu) or self.cells_per_gpu < 1:
            raise ConfigError(f"cells_per_gpu must be at least 1, got {self.cells_per_gpu!r}")
        if self.cells_per_gpu > 1 and self.cluster is None:
            raise ConfigError("cells_per_gpu needs a cluster: on this computer, jobs share the GPUs that there are")
        if self._in_subprocesses and (self.experiment.folder is None or not isinstance(self.experiment.data, TextData)):
            raise ConfigError("several jobs need a folder, and data that a config can name (a TextData)")

    @property
    def _in_subprocesses(self) -> bool:
        """Whether each cell runs in its own process."""
        return self.jobs > 1 or self.cluster is not None

    @property
    def cells_at_once(self) -> int:
        """Largest number of cells that run at the same time."""
        return self.jobs * (self.cells_per_gpu if isinstance(self.cluster, Slurm) else 1)

    @property
    def named(self) -> dict[str, Strategy]:
        """All strategies by the names of their cells, the baseline last."""
        strategies: dict[str, Strategy] = {}
        baseline = self.experiment.baseline
        for strategy in (*self.strategies, *(() if baseline is None else (baseline,))):
            if strategy in strategies.values():
                continue
            name = name_of(strategy)
            same = sum(each == name or each.startswith(f"{name}~") for each in strategies)
            strategies[f"{name}~{same + 1}" if same else name] = strategy
        return strategies

    @property
    def cells(self) -> list[Cell]:
        """The cells of the grid, seed by seed, so that early results are paired."""
        return [
            Cell(f"{name}-seed{seed}", strategy, seed)
            for seed in self.experiment.seeds
            for name, strategy in self.named.items()
        ]

    def _checked_folder(self) -> Path | None:
        """The checked folder of the grid, in which every cell can have a folder; None in memory."""
        if self.experiment.folder is None:
            return None
        folder = check_folder(self.experiment.folder)
        for cell in self.cells:
            check_folder(folder / cell.name)
        return folder

    def stored_config(self) -> dict[str, Any]:
        """The content of `config.yaml`."""
        config = self.experiment.stored_config()
        del config["strategy"]
        return {"strategies": {name: describe(strategy) for name, strategy in self.named.items()}, **config}

    def run(self, *, reporter: Quiet | None = None, write_report: ReportWriter = html_report) -> Results:
        """Run all cells, or read the finished ones from the folder.

        Args:
            reporter: reporter of the progress; by default the console, or none if the experiment is `quiet`.
            write_report: writer of the report, which is called if the experiment has a folder and `report` is True.

        Raises:
            ConfigError: the folder holds another experiment, or the parts are incompatible.
            BusyError: another process uses the folder.
            Interrupted: Ctrl-C was pressed. Finished rounds are kept.
            CellsFailed: a cell failed; raised after all others have finished.
        """
        if self.cluster is not None:
            require(*(("submitit", "slurm") if isinstance(self.cluster, Slurm) else ("ray", "ray")))
        reporter = reporter or (Quiet() if self.experiment.quiet else Console())
        with reporter:
            reporter.headline(self.experiment.metric or "accuracy")
            return self._run(reporter, write_report)

    def _run(self, reporter: Quiet, write_report: ReportWriter) -> Results:
        folder = self._checked_folder()
        shared = _Shared(self, folder)
        if folder is None or not (folder / CONFIG).exists():
            reporter.stage(reading(self.experiment.data))
            # an invalid comparison is refused before anything is written
            self.experiment.check_rows(shared.load().pool)
            for note in start_notes(self.experiment, shared.load()):
                reporter.say(note)
        with held(folder), interruptible(folder, command="compare") as check:
            if folder is not None:
                check_config(folder, self.stored_config(), COMPARISON, reporter)
            grid = _Grid(self, folder, reporter)
            self._run_cells(grid, shared, check)
            report = None
            if folder is not None and self.experiment.report and any(grid.lines.values()):
                reporter.stage("writing the report")
                report = write_report(folder)
        reporter.summary(grid.lines)
        self._report_successor(grid.lines, folder, reporter)
        if folder is not None and report is not None:
            reporter.say("\n".join(["", *verdict_sentences(folder), f"\nreport: {report}"]))
        if grid.failed:
            raise CellsFailed(grid.failed, folder)
        return Results(grid.lines, folder, report)

    def _run_cells(self, grid: "_Grid", shared: "_Shared", check: InterruptCheck) -> None:
        left = [cell for cell in self.cells if not self.experiment.is_finished(grid.lines[cell.name])]
        progress = None
        if left:
            if self._in_subprocesses:
                assert shared.folder is not None
                progress = CellsProgress(shared.folder, [cell.name for cell in left])
                most = f", at most {grid.at_once} at once" if grid.at_once < len(left) else ""
                grid.reporter.stage(f"running {counted(len(left), 'cell')} in other processes{most}")
                grid.reporter.plan(len(left), "cells", grid.at_once)
            else:
                done = sum(len(grid.lines[cell.name]) for cell in left)
                grid.reporter.plan(len(left) * (self.experiment.rounds + 1) - done, "rounds")
            with self._executor(shared, grid.reporter, min(self.jobs, len(left))) as executor:
                if progress is not None:
                    running = progress  # the type of a variable that may be None is not kept in a lambda
                    grid.reporter.watch(lambda: running.lines(executor.queued))
                    check.announce = lambda: grid.reporter.stage("stopping: running cells end after their current step")
                for ended in executor.run(left, check):
                    grid.done(ended)
                    if progress is not None:
                        progress.ended(ended.cell.name)
                        grid.reporter.part_done()
        if shared.first is not None and not grid.failed:
            shared.first.remove()

    def _report_successor(self, lines: Mapping[str, Lines], folder: Path | None, reporter: Quiet) -> None:
        if self.experiment.successor is None:
            return
        from dal.experiments.successor import conclusion, write_conclusion

        baseline = self.experiment.baseline
        named = next((name for name, strategy in self.named.items() if strategy == baseline), None)
        result = conclusion(lines, named)
        for each in result.get("strategies", {}).values():
            reporter.say(each["text"])
        if folder is not None and result:
            write_conclusion(folder, result)

    @contextmanager
    def _executor(self, shared: "_Shared", reporter: Quiet, jobs: int) -> Iterator[Executor]:
        """The executor of the cells, until the end of the block. It does not affect the results."""
        if not self._in_subprocesses:
            yield InProcessExecutor(lambda cell, check: shared.shown(cell, reporter, check))
            return
        assert shared.folder is not None
        code = import_folder(self.stored_config())
        if self.cluster is None:
            from dal.experiments.processes import Processes

            check_processes(jobs, "jobs")
            yield Processes(self.experiment, shared.folder, jobs, code)
            return
        from dal.experiments.shared_ledgers import marked_ledgers

        with marked_ledgers(self.experiment, shared.folder) as variables:
            executor = self._cluster_executor(shared.folder, jobs, code, {**variables, **code_variables()})
            try:
                yield executor
            finally:
                executor.close()

    def _cluster_executor(self, folder: Path, jobs: int, code: Path | None, variables: Mapping[str, str]) -> Executor:
        if isinstance(self.cluster, Slurm):
            return SlurmJobs(self.experiment, folder, jobs, self.cluster, self.cells_per_gpu, code, variables)
        from dal.experiments.ray_cluster import Cluster

        assert self.cluster is not None
        return Cluster(self.experiment, folder, jobs, self.cluster, self.cells_per_gpu, code, variables)

    def run_cell(self, name: str, *, reporter: Quiet | None = None) -> list[dict[str, Any]]:
        """Run a single cell, as a worker process does, and return its lines.

        Raises:
            ConfigError: there is no cell of this name.
        """
        cell = next((cell for cell in self.cells if cell.name == name), None)
        if cell is None:
            raise ConfigError(f"no cell {name!r}; cells are {', '.join(cell.name for cell in self.cells)}")
        folder = None if self.experiment.folder is None else Path(self.experiment.folder)
        with interruptible(folder, command="compare") as check:
            if folder is not None:
                from dal.experiments.shared_ledgers import check_ledgers

                check_code()
                check_ledgers(self.experiment)
                await_free(folder / name, check)
            if reporter is None:
                title = f"{name.rpartition('-seed')[0]}, seed {cell.seed}"
                reporter = Quiet() if folder is None else CellReporter(folder / name, title)
            with reporter:
                return self._run_reported(cell, _Shared(self, folder), reporter, check)

    def _run_reported(self, cell: Cell, shared: "_Shared", reporter: Quiet, check: InterruptCheck) -> Lines:
        reporter.stage(reading(self.experiment.data))
        shared.load()
        done = [] if shared.folder is None else read_metrics(shared.folder / cell.name)
        reporter.plan(self.experiment.rounds + 1 - len(done), "rounds")
        return shared.shown(cell, reporter, check)


class CellsFailed(DalError):
    """Some cells failed; all others have finished."""

    exit_code = 1

    def __init__(self, failed: Mapping[str, str], folder: Path | None) -> None:
        listed = "; ".join(f"{name}: {error}" for name, error in failed.items())
        again = "" if folder is None else f"; the rest is in {folder}, and the same command does what is missing"
        super().__init__(f"{len(failed)} of the cells failed: {listed}{again}")


@dataclass
class _Shared:
    """State shared by the cells of one process: the data, its prepared parts, and the first round of each seed."""

    comparison: Comparison
    folder: Path | None
    splits: Splits | None = None
    prepared: dict[str, Prepared] = field(default_factory=dict)

    @property
    def first(self) -> FirstRounds | None:
        """Store of the first rounds; None in memory, where each cell computes its own."""
        return None if self.folder is None else FirstRounds(self.folder)

    def load(self) -> Splits:
        """Load the data, and check that every strategy can run on it."""
        if self.splits is None:
            from dal.session.checked_arguments import check_needs

            self.splits = self.comparison.experiment.load()
            for strategy in self.comparison.named.values():
                check_needs(strategy, self.comparison.experiment.learner, multilabel=self.splits.pool.multilabel)
        return self.splits

    def run(self, cell: Cell, reporter: Quiet, check: InterruptCheck) -> Lines:
        """Run a cell and return its lines."""
        cell_folder = None if self.folder is None else self.folder / cell.name
        experiment = self.comparison.experiment
        return experiment.run_cell(cell, cell_folder, self.load(), self.prepared, reporter, check, self.first)

    def shown(self, cell: Cell, reporter: Quiet, check: InterruptCheck) -> Lines:
        """Run a cell as `run` does, after reporting its start."""
        reporter.cell(name_of(cell.strategy), cell.seed)
        return self.run(cell, reporter, check)


class _Grid:
    """Progress and results of the grid."""

    def __init__(self, comparison: Comparison, folder: Path | None, reporter: Quiet) -> None:
        self.reporter, self._metric = reporter, comparison.experiment.metric or "accuracy"
        self.lines: dict[str, Lines] = {
            cell.name: [] if folder is None else read_metrics(folder / cell.name) for cell in comparison.cells
        }
        self.failed: dict[str, str] = {}
        self._finished = sum(comparison.experiment.is_finished(lines) for lines in self.lines.values())
        self._began, self._ended = time.monotonic(), 0
        self.at_once = max(1, min(comparison.cells_at_once, len(self.lines) - self._finished))
        if self._finished:
            reporter.say(f"{self._finished} of {len(self.lines)} cells are finished already")

    def done(self, ended: CellResult) -> None:
        """Record the end of a cell, successful or not, and report it."""
        self._ended += 1
        name = ended.cell.name
        if ended.lines is None:
            self.failed[name] = ended.error or "its process ended without an error message"
        else:
            self.lines[name] = ended.lines
            self._finished += 1
        left = len(self.lines) - self._finished - len(self.failed)
        parts = [f"{self._finished} of {len(self.lines)} cells done"]
        parts += [f"{len(self.failed)} failed"] if self.failed else []
        if left:
            rest = seconds_left(time.monotonic() - self._began, self._ended, left, self.at_once)
            parts.append(f"about {duration(rest)} left")
        if ended.lines is None:
            self.reporter.say(f"{name} failed: {self.failed[name]}; {', '.join(parts)}")
            return
        last = ended.lines[-1]
        score = named_score(last, self._metric)
        reached = "" if score is None else f"{self._metric} {score:.3f} with {last['labels']} labels; "
        self.reporter.say(f"{name}: {reached}{', '.join(parts)}")
