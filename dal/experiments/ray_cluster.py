"""Executor that runs each cell as a task of a Ray cluster."""

import contextlib
import os
import shutil
import signal
import socket
import tempfile
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from dal.errors import ConfigError, one_line, require
from dal.experiments.cell_worker import run_worker, thread_limits
from dal.experiments.executor import SubprocessExecutor, error_line, threads
from dal.experiments.experiment import Experiment

#: Address that starts a new Ray cluster on this computer.
LOCAL = "local"

_TIMEOUT = 20.0  # seconds


class Cluster(SubprocessExecutor):
    """Runs each cell as a Ray task, with its share of the CPU threads, and of a GPU if the cluster has any.

    All nodes must have the same `dal` and environment, and see the folder of the grid and the data under the same
    paths. Results are written to the same files as without a cluster.

    Args:
        experiment: settings shared by the cells.
        folder: folder of the grid.
        jobs: number of concurrent cells.
        address: address of the cluster: "auto" for that of this computer, "local" for a new one on this computer, which
            ends with the grid. Ignored if this process has already initialised Ray.
        cells_per_gpu: number of cells that share a GPU.
        code: folder outside the installed packages from which classes of the grid were imported; None for none.
        variables: environment variables to add for the workers.

    Raises:
        MissingExtraError: Ray is not installed.
        ConfigError: there is no cluster at `address`.
    """

    def __init__(
        self,
        experiment: Experiment,
        folder: Path,
        jobs: int,
        address: str,
        cells_per_gpu: int = 1,
        code: Path | None = None,
        variables: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(experiment, folder, jobs, code)
        self._ray: Any = require("ray", "ray")
        self._owned = not self._ray.is_initialized()
        self._empty = tempfile.mkdtemp(prefix="dal-ray-")
        if self._owned:
            _connect(self._ray, address, self._empty)
        self._threads, self._cells_per_gpu = threads(jobs), cells_per_gpu
        self._variables = {**thread_limits(self._threads), **(variables or {})}
        self._running: set[Any] = set()
        self._guard = threading.Lock()

    def work(self, name: str) -> str:
        """Run a cell on a free node."""
        from ray.exceptions import RayError

        gpus = 1 / self._cells_per_gpu if self._ray.cluster_resources().get("GPU") else 0
        most = max((node["Resources"].get("CPU", 1) for node in self._ray.nodes() if node["Alive"]), default=1)
        # No retries: a failed cell is reported, and running the same command again completes it.
        remote = self._ray.remote(num_cpus=min(self._threads, most), num_gpus=gpus, max_retries=0)(run_worker)
        task = remote.remote(self._folder, name, self._variables, self._code, Path.cwd())
        with self._guard:
            self._running.add(task)
        try:
            return str(self._ray.get(task))
        except RayError as error:
            return error_line(error)
        finally:
            with self._guard:
                self._running.discard(task)

    def stop(self) -> None:
        """Cancel the running and the queued tasks."""
        with self._guard:
            running = list(self._running)
        for task in running:
            self._ray.cancel(task)

    def close(self) -> None:
        """Disconnect from the cluster, and end it if it was started for the grid."""
        if self._owned:
            self._ray.shutdown()
        shutil.rmtree(self._empty, ignore_errors=True)


def _connect(ray: Any, address: str, empty: str) -> None:
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    own: dict[str, Any] = {"include_dashboard": False} if address == LOCAL else {}
    host, _, port = address.removeprefix("ray://").rpartition(":")
    try:
        if port.isdecimal():  # Ray itself would wait for minutes if nothing listens there
            socket.create_connection((host, int(port)), timeout=_TIMEOUT).close()
        # Ray adds the current folder to the import path of its workers, and others may be able to write to ours.
        with contextlib.chdir(empty), _same_signal_handlers():
            ray.init(address=address, log_to_driver=False, logging_level="ERROR", **own)
    except (OSError, ValueError, RuntimeError, OverflowError) as error:
        shutil.rmtree(empty, ignore_errors=True)
        remedy = "name the address of one, start one with `ray start --head`, or use --cluster local"
        raise ConfigError(f"no Ray cluster at {address!r} ({one_line(error)}): {remedy}") from error


@contextlib.contextmanager
def _same_signal_handlers() -> Iterator[None]:
    """Keep the handlers of this process: Ray replaces that of SIGTERM, in Python and in its own library."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    numbers = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGUSR1") if hasattr(signal, name)]
    handlers = {number: signal.getsignal(number) for number in numbers}
    try:
        yield
    finally:
        for number, handler in handlers.items():
            if handler is not None:  # None: it is not of Python
                signal.signal(number, handler)
