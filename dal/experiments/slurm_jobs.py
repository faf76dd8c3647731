"""Executor that runs the cells of a grid as Slurm jobs, submitted by submitit."""

import contextlib
import os
import re
import shlex
import shutil
import sys
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dal.config.allowed_code import safe_environment
from dal.errors import BusyError, ConfigError, one_line, require
from dal.experiments.cell_worker import CellJob, thread_limits
from dal.experiments.executor import CellResult, Executor
from dal.experiments.experiment import Experiment
from dal.experiments.interrupts import InterruptCheck
from dal.experiments.results import Cell
from dal.session.checked_arguments import is_whole
from dal.store.folder_lock import Lock
from dal.store.run_folder import read_metrics

#: Folder of a grid with the scripts and the output of its jobs.
FOLDER = ".slurm"

_POLL = 1.0  # seconds

_QUEUED = ("PENDING", "REQUEUED", "CONFIGURING")  # states of a job that has not started


@dataclass(frozen=True)
class Slurm:
    """Resources of the Slurm jobs that run the cells of a comparison.

    Args:
        minutes: time limit of a job. A cell that reaches it continues in another job of the same length.
        partition: partition of the jobs; None for the default of the cluster.
        gpus: number of GPUs of a job: 1, or 0.
        cpus: number of CPU cores, and threads, of a cell.
        memory: memory of a cell in GB; None for the default of the cluster.
        notice: seconds before the time limit at which the cells are asked to stop.
        max_timeouts: number of time limits after which a cell fails.
        options: further options of `sbatch` by name, such as {"account": "nlp", "constraint": "a100"}.
        setup: shell commands that a job runs first, such as "module load cuda".
        local: run the jobs as processes of this computer, to try a comparison without Slurm.

    Example:
        >>> Slurm(minutes=120, partition="gpu", options={"account": "nlp"}).cpus
        4
    """

    minutes: int = 240
    partition: str | None = None
    gpus: int = 1
    cpus: int = 4
    memory: float | None = None
    notice: int = 120
    max_timeouts: int = 20
    options: Mapping[str, str | int | float | bool] = field(default_factory=dict)
    setup: Sequence[str] = ()
    local: bool = False

    def __post_init__(self) -> None:
        for name, least in (("minutes", 1), ("gpus", 0), ("cpus", 1), ("notice", 30), ("max_timeouts", 0)):
            value = getattr(self, name)
            if not is_whole(value) or value < least:
                raise ConfigError(f"Slurm: {name} must be a whole number of at least {least}, got {value!r}")
        if self.gpus > 1:
            raise ConfigError(f"Slurm: gpus must be 0 or 1, since a cell uses one GPU, got {self.gpus!r}")
        if self.memory is not None and not (isinstance(self.memory, int | float) and self.memory > 0):
            raise ConfigError(f"Slurm: memory must be a positive number of GB, got {self.memory!r}")
        if self.notice >= 60 * self.minutes:
            raise ConfigError(f"Slurm: notice must be shorter than the {self.minutes} minutes, got {self.notice!r}")


class SlurmJobs(Executor):
    """Runs the cells of a grid as Slurm jobs. A job that is preempted or reaches its time limit is requeued.

    All nodes must have the same `dal` and environment, and see the folder of the grid and the data under the same
    paths. Results are written to the same files as without Slurm. The jobs of a grid that was killed go on; their
    cells are awaited, not submitted again.

    Args:
        experiment: settings shared by the cells.
        folder: folder of the grid.
        jobs: largest number of jobs in the queue.
        slurm: resources of a job.
        cells_per_job: number of cells that a job runs at once on its GPU.
        code: folder outside the installed packages from which classes of the grid were imported; None for none.
        variables: environment variables to add for the workers.

    Attributes:
        running: submitted jobs with their cells.

    Raises:
        MissingExtraError: submitit is not installed.
        ConfigError: there is no Slurm on this computer, or it has no such option.
    """

    def __init__(
        self,
        experiment: Experiment,
        folder: Path,
        jobs: int,
        slurm: Slurm,
        cells_per_job: int = 1,
        code: Path | None = None,
        variables: Mapping[str, str] | None = None,
    ) -> None:
        self._experiment, self._folder, self._jobs, self._code = experiment, folder.absolute(), jobs, code
        self._cells_per_job = cells_per_job
        share = max(1, (os.cpu_count() or 1) // (jobs * cells_per_job)) if slurm.local else slurm.cpus
        threads = min(slurm.cpus, share)
        self._slurm, self._variables = slurm, {**thread_limits(threads), **(variables or {})}
        self.running: dict[Any, tuple[Cell, ...]] = {}
        self._submitit: Any = require("submitit", "slurm")
        # A new folder, which others cannot write to: submitit keeps pickles there.
        self._place = self._folder / FOLDER / uuid.uuid4().hex[:12]
        self._place.mkdir(parents=True, mode=0o700)
        self._is_needed = False
        try:
            self._queue = self._made(slurm)
        except BaseException:
            self.close()
            raise

    def _made(self, slurm: Slurm) -> Any:
        """The executor of submitit."""
        python = f"{shlex.quote(sys.executable)} -P"  # keeps the working directory off the import path
        name = re.sub(r"[^\w.-]+", "-", self._folder.name)
        cells = self._cells_per_job
        options = {"requeue": True, **slurm.options}
        try:
            queue = self._submitit.AutoExecutor(
                self._place,
                cluster="local" if slurm.local else "slurm",
                slurm_max_num_timeout=slurm.max_timeouts,
                local_max_num_timeout=slurm.max_timeouts,
                slurm_python=python,
                local_python=python,
            )
            queue.update_parameters(
                name=f"dal-{name}",
                timeout_min=slurm.minutes,
                gpus_per_node=slurm.gpus or None,
                cpus_per_task=slurm.cpus * cells,
                mem_gb=None if slurm.memory is None else slurm.memory * cells,
                slurm_partition=slurm.partition,
                slurm_signal_delay_s=slurm.notice,
                slurm_additional_parameters=options,
                slurm_setup=list(slurm.setup) or None,
                local_setup=list(slurm.setup) or None,
            )
        except (RuntimeError, ValueError, NameError, AssertionError) as error:
            raise ConfigError(f"Slurm cannot be used: {one_line(error)}") from error
        return queue

    def run(self, cells: Sequence[Cell], check: InterruptCheck) -> Iterator[CellResult]:
        """Run the cells and yield each when it ends."""
        waiting, elsewhere = list[Cell](), list[Cell]()
        for cell in cells:
            (elsewhere if self._is_busy(cell) else waiting).append(cell)
        self._is_needed = True
        size = self._cells_per_job
        groups = [tuple(waiting[start : start + size]) for start in range(0, len(waiting), size)]
        failed = False
        try:
            while groups or self.running or elsewhere:
                while groups and len(self.running) < self._jobs:
                    self._submit(groups.pop(0))
                for job in [job for job in self.running if job.done()]:
                    group, messages = self.running.pop(job), self._messages(job)
                    for cell in group:
                        if self._result(cell).lines is None and self._is_busy(cell):
                            elsewhere.append(cell)  # by a job of an earlier process, which started first
                            continue
                        ended = self._result(cell, messages.get(cell.name, messages.get("", "")))
                        failed |= ended.lines is None
                        yield ended
                self.queued = {cell.name for job, group in self.running.items() if _is_queued(job) for cell in group}
                for cell in [cell for cell in elsewhere if not self._is_busy(cell)]:
                    elsewhere.remove(cell)
                    ended = self._result(cell)
                    if ended.lines is None:
                        groups.append((cell,))
                    else:
                        yield ended
                check()
                time.sleep(_POLL)
        finally:
            for job in self.running:
                with contextlib.suppress(OSError):
                    job.cancel(check=False)
        self._is_needed = failed

    def close(self) -> None:
        """Remove the scripts and the output of the jobs, unless they explain a failure or jobs still end."""
        if not self._is_needed:
            shutil.rmtree(self._place, ignore_errors=True)
            with contextlib.suppress(OSError):
                self._place.parent.rmdir()

    def _submit(self, group: tuple[Cell, ...]) -> None:
        """Submit a job.

        Raises:
            ConfigError: Slurm refused it.
        """
        work = CellJob(
            self._folder,
            tuple(cell.name for cell in group),
            self._variables,
            self._code,
            Path.cwd(),
            self._slurm.notice / 2,
        )
        inherited = {name: value for name, value in safe_environment().items() if name.startswith("PYTHON")}
        # Within a job of its own, this process has variables that would confuse the new one.
        quiet = _stderr_to(self._place / "local.log") if self._slurm.local else contextlib.nullcontext()
        with self._submitit.helpers.clean_env(), _environment(inherited), quiet:
            try:
                self.running[self._queue.submit(work)] = group
            except (self._submitit.core.utils.FailedJobError, RuntimeError, OSError) as error:
                raise ConfigError(f"Slurm refused a job: {one_line(error)}") from error

    def _result(self, cell: Cell, error: str = "") -> CellResult:
        lines = read_metrics(self._folder / cell.name)
        return CellResult(cell, lines if self._experiment.is_finished(lines) else None, error)

    def _messages(self, job: Any) -> dict[str, str]:
        """Error messages of the cells of a job that has ended; under "" that of the job itself."""
        try:
            return dict(job.result())
        except self._submitit.core.utils.UncompletedJobError as error:
            if "timed-out too many times" in str(error):
                return {"": f"job {job.job_id} reached its time limit too often: the same command goes on"}
            return {"": f"job {job.job_id} ended without a result ({job.state}): see {job.paths.stderr}"}

    def _is_busy(self, cell: Cell) -> bool:
        """Whether a process works in the folder of a cell, on this or another node."""
        try:
            Lock(self._folder / cell.name).release()
        except BusyError:
            return True
        return False


def _is_queued(job: Any) -> bool:
    """Whether a job had not started, or not again, when Slurm was last asked; submitit asks it less and less often."""
    return str(job.state).upper() in _QUEUED


@contextlib.contextmanager
def _environment(variables: Mapping[str, str]) -> Iterator[None]:
    """Set environment variables during the block."""
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


@contextlib.contextmanager
def _stderr_to(path: Path) -> Iterator[None]:
    """Let processes that start during the block write their stderr to a file.

    submitit starts a process for each local job, which writes a traceback when the job is cancelled.
    """
    sys.stderr.flush()
    before = os.dup(2)
    try:
        with open(path, "ab") as file:
            os.dup2(file.fileno(), 2)
        yield
    finally:
        os.dup2(before, 2)
        os.close(before)
