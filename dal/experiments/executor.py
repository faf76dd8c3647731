"""Executors: run the cells of a grid in this process or in subprocesses."""

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence, Set
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from dal.errors import BusyError, DalError
from dal.experiments.experiment import Experiment
from dal.experiments.interrupts import InterruptCheck, Interrupted
from dal.experiments.results import Cell
from dal.store.folder_lock import Lock
from dal.store.run_folder import read_metrics

_POLL = 0.2  # seconds between attempts to lock a folder
_TIMEOUT = 60.0  # seconds to wait for a worker whose parent has ended

#: Lines of `metrics.jsonl`.
Lines: TypeAlias = list[dict[str, Any]]


@dataclass(frozen=True)
class CellResult:
    """Result of a cell: its lines, or None and its error message if it failed."""

    cell: Cell
    lines: Lines | None
    error: str = ""


class Executor(ABC):
    """Base class of executors, which run the cells of a grid. The choice of executor does not affect the results.

    Attributes:
        queued: names of the cells that a scheduler has not started yet, as far as it is known.
    """

    queued: Set[str] = frozenset()

    @abstractmethod
    def run(self, cells: Sequence[Cell], check: InterruptCheck) -> Iterator[CellResult]:
        """Run the cells and yield the result of each when it ends, successful or not.

        Args:
            cells: cells to run.
            check: called regularly; raises to interrupt the grid.

        Raises:
            Interrupted: raised by `check`.
        """

    def close(self) -> None:  # noqa: B027, most hold no resources
        """Release the resources of the executor."""


class InProcessExecutor(Executor):
    """Runs the cells one after the other in this process.

    Args:
        work: function that runs a cell and returns its lines.
    """

    def __init__(self, work: Callable[[Cell, InterruptCheck], Lines]) -> None:
        self._work = work

    def run(self, cells: Sequence[Cell], check: InterruptCheck) -> Iterator[CellResult]:
        """Run the cells in order."""
        for cell in cells:
            try:
                ended = CellResult(cell, self._work(cell, check))
            except Interrupted:
                raise
            except Exception as error:
                ended = CellResult(cell, None, error_line(error))
            yield ended


class SubprocessExecutor(Executor):
    """Base class of executors that run several cells concurrently, each in its own process.

    A process that crashes fails only its own cell.

    Args:
        experiment: settings shared by the cells.
        folder: folder of the grid, which the workers read and write.
        jobs: number of concurrent cells.
        code: folder outside the installed packages from which classes of the grid were imported; None for none.
    """

    def __init__(self, experiment: Experiment, folder: Path, jobs: int, code: Path | None = None) -> None:
        self._experiment, self._folder, self.jobs, self._code = experiment, folder.absolute(), jobs, code

    @abstractmethod
    def work(self, name: str) -> str:
        """Run a cell to its end; return the error message, or "" on success. Called in a thread of its own."""

    def stop(self) -> None:
        """Stop the running cells after their current step. Called when the grid is interrupted."""

    def run(self, cells: Sequence[Cell], check: InterruptCheck) -> Iterator[CellResult]:
        """Run the cells concurrently and yield each when it ends."""
        waiting, running = list(cells), dict[Future[str], Cell]()
        with ThreadPoolExecutor(self.jobs) as pool:
            try:
                while waiting or running:
                    while waiting and len(running) < self.jobs:
                        cell = waiting.pop(0)
                        running[pool.submit(self.work, cell.name)] = cell
                    ended, _ = wait(running, timeout=0.2, return_when=FIRST_COMPLETED)
                    check()
                    for future in ended:
                        cell, message = running.pop(future), future.result()
                        lines = read_metrics(self._folder / cell.name)
                        yield CellResult(cell, lines if self._experiment.is_finished(lines) else None, message)
            finally:
                if running:
                    self.stop()


def await_free(cell_folder: Path, check: InterruptCheck) -> None:
    """Wait until the worker of a killed grid, which may not have noticed yet, releases a cell's folder.

    Raises:
        BusyError: the folder is still in use after 60 seconds.
    """
    deadline = time.monotonic() + _TIMEOUT
    while True:
        try:
            return Lock(cell_folder).release()
        except BusyError:
            if time.monotonic() > deadline:
                raise
        check()
        time.sleep(_POLL)


def threads(jobs: int) -> int:
    """Number of threads of each worker, with `jobs` workers on this computer."""
    import torch

    return max(1, torch.get_num_threads() // jobs)


def error_line(error: Exception) -> str:
    """An error as one line, with its class unless it is a `DalError`."""
    first = (str(error).splitlines() or [""])[0]
    return first if isinstance(error, DalError) else f"{type(error).__name__}: {first}"
