"""Start of the ranks of a run: processes of this computer, or those that torchrun or srun started."""

import contextlib
import json
import logging
import os
import queue
import secrets
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.connection import Listener
from multiprocessing.context import AuthenticationError
from pathlib import Path
from typing import Any

from dal.config.allowed_code import safe_environment
from dal.distributed.connection import ClosedError, Connection
from dal.distributed.launchers import LaunchedRank, launched_rank, launcher_store, without_launcher
from dal.distributed.leader import Leader, Worker, welcomed
from dal.distributed.rank_logs import rank_logs
from dal.distributed.worker import join, serve
from dal.errors import ConfigError, RankError, how_ended, one_line
from dal.functional.checking import number, whole
from dal.learners.ranks import Ranks, current_ranks, sharing_with
from dal.store.memory_limit import check_processes

_log = logging.getLogger("dal")

#: Seconds without progress in a pass or a fit after which a rank counts as lost.
TIMEOUT = 600.0

#: For each rank a function that says how its process has ended, if it has, and where its output is.
_Expected = dict[int, tuple[Callable[[], str | None], str]]

_PATIENCE = 5.0  # seconds after which the user is told that ranks have not started
_START = 300.0  # seconds in which a rank has to start, at least: it imports PyTorch, perhaps over a network
_KEY = "dal/rank 0"
_COMMAND = ("-P", "-m", "dal.distributed.worker")


@contextmanager
def ranks(
    devices: int | None = None, *, timeout: float = TIMEOUT, tell: Callable[[str], None] | None = None
) -> Iterator[Ranks]:
    """Context manager in which fits and passes use several devices: `with ranks(4): Experiment(...).run()`.

    The other ranks are processes that end with the block. Started by torchrun or srun, the processes of the launcher
    are the ranks, and the block runs in rank 0 only: the others serve it and then end the program.

    Args:
        devices: number of devices, GPUs where there are any; None for all GPUs. The number of processes decides if a
            launcher has started them.
        timeout: seconds without progress in a pass or a fit after which a rank counts as lost. It does not apply while
            nothing is to be done.
        tell: shows how many ranks have not started and where their output is. It is called after five seconds of
            waiting, and again whenever the number falls; None logs the first of these lines as a warning.

    Raises:
        ConfigError: an argument is invalid, or there are fewer GPUs.
        RankError: a rank did not start, has other versions, or is lost.
    """
    launched = launched_rank()
    number(timeout, "timeout", above=0, error=ConfigError)
    if current_ranks() is not None:
        raise ConfigError("the ranks are started already: leave out the inner ranks()")
    if launched is None:
        with _own_ranks(_device_count(devices), timeout, tell or _warn_once()) as started:
            yield started
        return
    if launched.rank:
        sys.exit(serve_launched(launched, timeout))
    with _launched_ranks(launched, timeout, tell or _warn_once()) as started:
        yield started


def _warn_once() -> Callable[[str], None]:
    """Function that logs the first line it is given."""
    lines = list[str]()

    def warn(line: str) -> None:
        if not lines:
            _log.warning("%s", line)
        lines.append(line)

    return warn


def serve_launched(launched: LaunchedRank, timeout: float) -> int:
    """Serve rank 0 as a rank other than 0 of a launcher, and return the exit code of this process."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    store = launcher_store(launched, max(timeout, _START))
    try:
        facts = json.loads(store.get(_KEY))
    except RuntimeError as error:
        raise RankError(f"rank {launched.rank} found no rank 0 within {max(timeout, _START):g} seconds") from error
    with without_launcher():
        connection = join(launched.host, facts["port"], bytes.fromhex(facts["key"]), launched.rank)
        return serve(connection, launched.rank, launched.local_rank, timeout)


@contextmanager
def _launched_ranks(launched: LaunchedRank, timeout: float, tell: Callable[[str], None]) -> Iterator[Ranks]:
    store, key = launcher_store(launched, max(timeout, _START)), secrets.token_bytes(32)
    place = "is where the launcher keeps it"
    with _Reception("127.0.0.1" if launched.one_computer else "", key) as reception:
        store.set(_KEY, json.dumps({"port": reception.port, "key": key.hex()}))
        expected: _Expected = {rank: (lambda: None, f"its output {place}") for rank in range(1, launched.size)}
        workers = reception.workers(expected, max(timeout, _START), f"their output {place}", tell)
    with without_launcher(), _leading(Leader(workers, timeout, own_main=False, host=launched.host)) as leader:
        yield leader


@contextmanager
def _own_ranks(size: int, timeout: float, tell: Callable[[str], None]) -> Iterator[Ranks]:
    if size == 1:
        with _leading(Leader([], timeout, own_main=True)) as leader:
            yield leader
        return
    import torch

    if sys.platform == "win32":
        raise ConfigError("several devices need Linux or macOS: use one")
    threads = max(1, torch.get_num_threads() // size) if not torch.cuda.is_available() else torch.get_num_threads()
    before = torch.get_num_threads()
    key, processes = secrets.token_bytes(32), dict[int, subprocess.Popen[str]]()
    with rank_logs() as logs:
        try:
            with _Reception("127.0.0.1", key) as reception:
                facts = {"port": reception.port, "key": key.hex(), "timeout": timeout, "path": sys.path}
                for rank in range(1, size):
                    processes[rank] = _process(logs / f"rank{rank}.log", {**facts, "rank": rank}, threads)
                expected = {
                    rank: (_end_of(process), f"its output is in {logs / f'rank{rank}.log'}")
                    for rank, process in processes.items()
                }
                workers = reception.workers(expected, max(timeout, _START), f"their output is in {logs}", tell)
            torch.set_num_threads(threads)
            with _leading(Leader(workers, timeout, own_main=True)) as leader:
                yield leader
        finally:
            torch.set_num_threads(before)
            _end(processes.values())


@contextmanager
def _leading(leader: Leader) -> Iterator[Ranks]:
    try:
        with sharing_with(leader):
            yield leader
    except BaseException:
        leader.close(at_once=True)
        raise
    leader.close()


def _device_count(devices: int | None) -> int:
    """Number of ranks on this computer.

    Raises:
        ConfigError: it is no number, there are fewer GPUs, or the processes do not fit into memory.
    """
    import torch

    gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if devices is None:
        return max(1, gpus)
    whole(devices, "devices", least=1, error=ConfigError)
    if gpus and devices > gpus:
        raise ConfigError(f"devices is {devices}, but {gpus} GPUs are available here: lower devices")
    check_processes(devices, "devices")
    return devices


def _process(log: Path, facts: dict[str, Any], threads: int) -> "subprocess.Popen[str]":
    """Start a process that joins this one."""
    environment = safe_environment() | {"OMP_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads)}
    environment.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # must be set before its first use of a GPU
    command = [sys.executable, *_COMMAND]
    with open(log, "w", encoding="utf-8") as file:
        process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=file, stderr=file, env=environment, encoding="utf-8"
        )
    assert process.stdin is not None
    with contextlib.suppress(OSError):  # it has ended, which is noticed below
        process.stdin.write(json.dumps(facts) + "\n")
        process.stdin.flush()
    return process


def _end_of(process: "subprocess.Popen[str]") -> Callable[[], str | None]:
    def how() -> str | None:
        code = process.poll()
        return None if code is None else how_ended(code)

    return how


def _end(processes: Any) -> None:
    """End processes, which do so themselves when rank 0 has closed its connections."""
    deadline = time.monotonic() + 2  # they keep nothing
    for process in processes:
        with contextlib.suppress(OSError):
            process.stdin.close()
        try:
            process.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:  # in a job, or stopped
            process.kill()
            process.wait()


class _Reception:
    """Accepts the connections of the other ranks.

    Args:
        host: address to listen at; "" for all of this computer.
        key: key that they must know.
    """

    def __init__(self, host: str, key: bytes) -> None:
        try:
            self._listener = Listener((host, 0), family="AF_INET", backlog=128, authkey=key)
        except OSError as error:
            raise RankError(f"rank 0 cannot listen for the other ranks: {one_line(error)}") from error
        self._accepted: queue.Queue[Any] = queue.Queue()
        self.port: int = self._listener.address[1]

    def __enter__(self) -> "_Reception":
        threading.Thread(target=self._accept, name="dal-reception", daemon=True).start()
        return self

    def __exit__(self, *error: object) -> None:
        self._listener.close()
        while not self._accepted.empty():
            self._accepted.get().close()

    def _accept(self) -> None:
        while True:
            try:
                with self._listener.accept() as accepted:
                    self._accepted.put(Connection(socket.socket(fileno=os.dup(accepted.fileno()))))
            except (AuthenticationError, EOFError, ConnectionError):
                continue  # a stranger
            except OSError:
                return  # closed

    def workers(self, expected: _Expected, timeout: float, output: str, tell: Callable[[str], None]) -> list[Worker]:
        """Wait for all ranks to connect.

        Args:
            expected: the ranks to wait for.
            timeout: most seconds to wait.
            output: where the output of all ranks is, for messages.
            tell: shows a line on the ranks that are missing.

        Raises:
            RankError: a rank ended before, did not connect in time, or has other versions.
        """
        joined = dict[int, Worker]()
        try:
            self._await(expected, joined, timeout, output, tell)
        except BaseException:
            for worker in joined.values():
                worker.connection.close()
            raise
        return [joined[rank] for rank in sorted(joined)]

    def _await(
        self,
        expected: _Expected,
        joined: dict[int, Worker],
        timeout: float,
        output: str,
        tell: Callable[[str], None],
    ) -> None:
        began, told = time.monotonic(), 0
        while missing := [rank for rank in expected if rank not in joined]:
            for rank in missing:
                how_ended, its_output = expected[rank]
                if (how := how_ended()) is not None:
                    raise RankError(f"rank {rank} {how} before it was ready; {its_output}")
            waited = time.monotonic() - began
            if waited > timeout:
                names = ", ".join(map(str, missing))
                raise RankError(f"rank {names} did not start within {timeout:g} seconds; {output}")
            if waited > _PATIENCE and len(missing) != told:
                told = len(missing)
                tell(f"waiting for {told} of {1 + len(expected)} ranks to start ({output})")
            with contextlib.suppress(queue.Empty):
                self._welcome(self._accepted.get(timeout=0.1), expected, joined)

    @staticmethod
    def _welcome(connection: Connection, expected: _Expected, joined: dict[int, Worker]) -> None:
        try:
            facts = welcomed(connection)
        except BaseException as error:
            connection.close()
            if isinstance(error, ClosedError | TimeoutError):  # whose process has ended, which is noticed next
                return
            raise
        rank, host = facts["rank"], facts["host"]
        name = f"rank {rank} (process {facts['pid']} on {host})"
        joined[rank] = Worker(rank, name, connection, host == socket.gethostname(), *expected[rank])
