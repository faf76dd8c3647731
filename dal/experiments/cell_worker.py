"""Processes that run one cell of a grid each, and the Slurm job that starts some. Light: it does not import PyTorch."""

import contextlib
import os
import signal
import sys
import threading
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from subprocess import STDOUT, Popen, TimeoutExpired
from typing import Any

from dal.config.allowed_code import safe_environment
from dal.errors import how_ended
from dal.experiments.interrupts import RESUMABLE
from dal.store.atomic_files import open_regular

#: File in the folder of a cell with the output of its worker.
LOG = "worker.log"

_POLL = 1.0  # seconds

#: Error message of a cell that a scheduler stopped.
STOPPED = "stopped by a signal; the same command goes on"


def run_worker(
    folder: Path,
    name: str,
    environment: Mapping[str, str],
    code: Path | None,
    cwd: Path | None = None,
    running: "set[Popen[bytes]] | None" = None,
) -> str:
    """Run a cell of a grid in its own process; return its error message, or "" on success.

    Args:
        folder: folder of the grid.
        name: name of the cell.
        environment: environment variables to add to those of this process.
        code: folder outside the installed packages from which classes of the grid were imported; None for none.
        cwd: working directory of the process, to which relative paths of the config refer.
        running: set that contains the process while it runs, for `stop_workers`.
    """
    cell_folder = folder / name
    cell_folder.mkdir(parents=True, exist_ok=True)
    # -P keeps the working directory, which others may be able to write to, off the import path.
    command = [sys.executable, "-P", "-m", "dal", "compare", "--cell", name, str(folder)]
    command += [] if code is None else ["--allow-code", str(code)]
    opened = open_regular(cell_folder / LOG, os.O_RDWR | os.O_CREAT | os.O_TRUNC)
    with open(opened, "w+", encoding="utf-8", errors="replace") as log:
        inherited = {**safe_environment(), **environment}
        process = Popen(command, stdout=log, stderr=STDOUT, env=inherited, cwd=cwd)
        try:
            if running is not None:
                running.add(process)
            exit_code = _finished(process)
        finally:
            if running is not None:
                running.discard(process)
        log.seek(0)
        if exit_code == RESUMABLE:
            return STOPPED
        last = next((line for line in reversed(log.read().splitlines()) if line.strip()), "")
    return "" if exit_code == 0 else last.removeprefix("dal: error: ") or f"its process {how_ended(exit_code)}"


def _finished(process: "Popen[bytes]") -> int:
    """Wait for the exit code. If this process is interrupted, let the worker finish its step and end."""
    try:
        while True:
            with contextlib.suppress(TimeoutExpired):
                return process.wait(_POLL)  # Ray interrupts without a signal, which does not end a wait of the system
    except BaseException:
        stop_workers({process})  # not by SIGINT, which Ray blocks in its processes and those that they start
        process.wait()
        raise


def stop_workers(running: "set[Popen[bytes]]") -> None:
    """Ask worker processes to end after their current step. On Windows, Ctrl-C reaches them without this."""
    if hasattr(signal, "SIGUSR1"):
        for process in list(running):
            process.send_signal(signal.SIGUSR1)


def thread_limits(threads: int) -> dict[str, str]:
    """Environment variables that limit the threads of a process."""
    return {"OMP_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads)}


@dataclass(frozen=True)
class CellJob:
    """Work of one job: some cells of a grid, each in a process of its own. submitit calls it on the node.

    Args:
        folder: folder of the grid.
        names: names of the cells.
        environment: environment variables to add for the processes.
        code: folder of classes outside the installed packages; None for none.
        cwd: working directory, to which relative paths of the config refer.
        patience: seconds in which the cells may end their step when the job is preempted.
    """

    folder: Path
    names: tuple[str, ...]
    environment: Mapping[str, str]
    code: Path | None
    cwd: Path
    patience: float

    def __call__(self) -> dict[str, str]:
        """Run the cells, and return the error message of each, or ""."""
        with ThreadPoolExecutor(len(self.names)) as pool:
            try:
                return dict(zip(self.names, pool.map(self._run, self.names), strict=True))
            finally:
                _ENDING.set()
                stop_workers(_WORKERS)

    def _run(self, name: str) -> str:
        while True:
            message = run_worker(self.folder, name, self.environment, self.code, self.cwd, _WORKERS)
            # Slurm announces a preemption to all processes of a job, and may start the job again without its first
            # process being asked. A cell that was stopped must not count as ended then.
            if message != STOPPED or _ENDING.wait(self.patience):
                return message

    def checkpoint(self) -> Any:
        """End the cells after their current step, and return what goes on with them after a requeue."""
        from submitit.helpers import DelayedSubmission

        _ENDING.set()
        stop_workers(_WORKERS)
        deadline = time.monotonic() + self.patience
        for process in list(_WORKERS):
            try:
                process.wait(max(0.0, deadline - time.monotonic()))
            except TimeoutExpired:  # all that it has acknowledged is on disk
                process.kill()
        return DelayedSubmission(self)


#: Processes of the cells of this job, and whether it ends.
_WORKERS: set["Popen[bytes]"] = set()
_ENDING = threading.Event()
