"""Executor that runs each cell in a process on this computer."""

import os
from pathlib import Path
from queue import SimpleQueue
from subprocess import Popen

from dal.experiments.cell_worker import run_worker, stop_workers, thread_limits
from dal.experiments.executor import SubprocessExecutor, threads
from dal.experiments.experiment import Experiment


class Processes(SubprocessExecutor):
    """Runs each cell in its own process, with its share of the CPU threads, and its own GPU if there are several."""

    def __init__(self, experiment: Experiment, folder: Path, jobs: int, code: Path | None = None) -> None:
        super().__init__(experiment, folder, jobs, code)
        self._running = set[Popen[bytes]]()
        self._slots: SimpleQueue[int] = SimpleQueue()
        for slot in range(jobs):
            self._slots.put(slot)

    def work(self, name: str) -> str:
        """Run a cell in a free slot."""
        slot = self._slots.get()
        try:
            environment = {**thread_limits(threads(self.jobs)), **_gpu(slot)}
            return run_worker(self._folder, name, environment, self._code, running=self._running)
        finally:
            self._slots.put(slot)

    def stop(self) -> None:
        """Ask the workers to end after their current step."""
        stop_workers(self._running)


def _gpu(slot: int) -> dict[str, str]:
    """Environment variables that make only the slot's GPU visible to a process."""
    import torch

    gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if gpus < 2:
        return {}
    visible = os.environ.get("CUDA_VISIBLE_DEVICES", ",".join(map(str, range(gpus)))).split(",")
    return {"CUDA_VISIBLE_DEVICES": visible[slot % len(visible)]}
