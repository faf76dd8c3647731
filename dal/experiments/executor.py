"""The seam between a grid and where its cells are run."""

import os
import signal
import sys
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path
from subprocess import STDOUT, Popen
from typing import Any, TypeAlias

from dal.config.allowed_code import safe_environment
from dal.errors import BusyError, DalError
from dal.experiments.experiment import Cell, Experiment
from dal.experiments.interrupts import InterruptCheck, Interrupted
from dal.store.folder_lock import Lock
from dal.store.run_folder import read_metrics

#: What a worker's folder of a cell keeps of what it said.
LOG = "worker.log"

_WATCHED = 0.2  # seconds between two looks at whether the parent is alive
_PATIENCE = 60.0  # seconds for a worker to notice that it is not

#: The lines of `metrics.jsonl`.
Lines: TypeAlias = list[dict[str, Any]]


@dataclass(frozen=True)
class CellResult:
    """A cell that ended: its lines, None when it failed, and what it said then."""

    cell: Cell
    lines: Lines | None
    said: str = ""


class Executor(ABC):
    """Runs the cells of a grid and hands over each as it ends. Where it does so changes no figure."""

    @abstractmethod
    def run(self, cells: Sequence[Cell], check: InterruptCheck) -> Iterator[CellResult]:
        """Every cell once, as it ends, well or badly.

        Raises:
            Interrupted: `check` did, which is called all the time.
        """

    def close(self) -> None:  # noqa: B027, most have taken nothing
        """Give back what was taken to run cells."""


class InProcessExecutor(Executor):
    """One cell after the other, in this process.

    Args:
        work: the lines of a cell, computed now.
    """

    def __init__(self, work: Callable[[Cell, InterruptCheck], Lines]) -> None:
        self._work = work

    def run(self, cells: Sequence[Cell], check: InterruptCheck) -> Iterator[CellResult]:
        """Every cell, in order."""
        for cell in cells:
            try:
                ended = CellResult(cell, self._work(cell, check))
            except Interrupted:
                raise
            except Exception as error:
                ended = CellResult(cell, None, said_by(error))
            yield ended


class SubprocessExecutor(Executor):
    """Several cells at once, each in a process of its own, which takes its own cell with it alone when it dies.

    Args:
        experiment: what the cells share.
        folder: of the grid; the workers read and write it.
        jobs: how many at once.
        code: the folder, outside of installed packages, from which this process has classes of the grid.
    """

    def __init__(self, experiment: Experiment, folder: Path, jobs: int, code: Path | None = None) -> None:
        self._experiment, self._folder, self.jobs, self._code = experiment, folder.absolute(), jobs, code

    @abstractmethod
    def work(self, name: str) -> str:
        """Run the cell to its end, called in a thread of its own; what it said last, when it failed."""

    def stop(self) -> None:
        """End what is running after the step that it is at. Called for Ctrl-C, which the workers may not have seen."""

    def run(self, cells: Sequence[Cell], check: InterruptCheck) -> Iterator[CellResult]:
        """Every cell, as it ends."""
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
                        yield self._ended(running.pop(future), future.result())
            finally:
                if running:
                    self.stop()

    def _ended(self, cell: Cell, said: str) -> CellResult:
        lines = read_metrics(self._folder / cell.name)
        return CellResult(cell, lines if self._experiment.is_over(lines) else None, said)


def run_worker(
    folder: Path, name: str, environment: Mapping[str, str], code: Path | None, where: Path | None = None
) -> str:
    """Run one cell of the grid in `folder` in a process of its own; what it said last, when it failed.

    Args:
        environment: added to this process's own.
        code: the folder, outside of installed packages, from which this process has classes of the grid.
        where: the folder that it works in, which relative paths of the config count from.
    """
    place = folder / name
    place.mkdir(parents=True, exist_ok=True)
    # -P: the folder that it works in, whose files anybody may have written, is not on its import path
    command = [sys.executable, "-P", "-m", "dal", "compare", "--cell", name, str(folder)]
    command += [] if code is None else ["--allow-code", str(code)]
    with open(place / LOG, "w+", encoding="utf-8", errors="replace") as log:
        inherited = {**safe_environment(), **environment}
        ended = _finished(Popen(command, stdout=log, stderr=STDOUT, env=inherited, cwd=where))
        log.seek(0)
        last = next((line for line in reversed(log.read().splitlines()) if line.strip()), "")
    return "" if ended == 0 else last.removeprefix("dal: error: ") or f"its process ended with {ended}"


def _finished(process: "Popen[bytes]") -> int:
    """The exit code. Where this process is told to stop meanwhile, the worker is too, and may end its step."""
    try:
        return process.wait()
    except BaseException:
        process.send_signal(signal.SIGINT)
        process.wait()
        raise


def end_with_parent() -> None:
    """End this worker soon after the process that started it is gone, so that a cell is never worked on twice."""
    parent = os.getppid()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(_WATCHED)
        os._exit(1)  # as good as a kill, which loses nothing

    threading.Thread(target=watch, daemon=True).start()


def await_free(place: Path, check: InterruptCheck) -> None:
    """Wait for the worker of a grid that was killed, which may not have noticed yet, to let go of a cell's folder.

    Raises:
        BusyError: somebody else works in it.
    """
    deadline = time.monotonic() + _PATIENCE
    while True:
        try:
            return Lock(place).release()
        except BusyError:
            if time.monotonic() > deadline:
                raise
        check()
        time.sleep(_WATCHED)


def threads(jobs: int) -> int:
    """A worker's share of this machine's threads."""
    import torch

    return max(1, torch.get_num_threads() // jobs)


def limited_to(threads: int) -> dict[str, str]:
    """The environment of a process with so many threads."""
    return {"OMP_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads)}


def said_by(error: Exception) -> str:
    """An error in one line, with its class where it is not one of ours."""
    first = (str(error).splitlines() or [""])[0]
    return first if isinstance(error, DalError) else f"{type(error).__name__}: {first}"
