"""A rank other than 0: it serves the jobs of rank 0 until that ends, and opens no data, folder or model of its own."""

import contextlib
import json
import os
import pickle
import signal
import socket
import sys
import time
import traceback
from multiprocessing.connection import Client
from multiprocessing.context import AuthenticationError
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

from dal.config.allowed_code import take_over
from dal.distributed.connection import ClosedError, Connection, Kind, Message
from dal.distributed.wire import Unreadable, packed, unpacked
from dal.errors import DalError, RankError, one_line
from dal.learners.ranks import communicating_by
from dal.monitor import Monitor
from dal.store.installed_code import code_facts
from dal.store.parent_process import end_with_parent

if TYPE_CHECKING:
    from torch import Tensor

_BEAT = 1.0  # seconds between two reports of progress, at least


def join(host: str, port: int, key: bytes, rank: int) -> Connection:
    """Connect to rank 0, and say who this is.

    Raises:
        RankError: rank 0 cannot be reached.
    """
    try:
        with Client((host, port), authkey=key) as accepted:
            connection = Connection(socket.socket(fileno=os.dup(accepted.fileno())))
    except (OSError, EOFError, AuthenticationError) as error:
        raise RankError(f"rank {rank} cannot reach rank 0 at {host}:{port}: {one_line(error)}") from error
    facts = {"rank": rank, "pid": os.getpid(), "host": socket.gethostname(), **code_facts()}
    connection.send(Kind.RESULT, packed(facts, {}, same_host=False, own_main=False))
    return connection


def serve(connection: Connection, rank: int, local_rank: int, timeout: float) -> int:
    """Run the jobs of rank 0 until it ends, and return the exit code of this process.

    Args:
        connection: connection to rank 0.
        rank: rank of this process.
        local_rank: rank among the processes of this computer, which is the number of its GPU.
        timeout: seconds without a sign of life from rank 0 after which this process ends.
    """
    for name in ("SIGINT", "SIGTERM", "SIGUSR1"):  # terminals and schedulers send them to all ranks; rank 0 decides
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), _leave_to_rank_0)
    objects: dict[int, Any] = {}
    try:
        while (message := connection.receive(timeout)).kind != Kind.END:
            if message.kind == Kind.FAILED:
                print(f"rank {rank}: refused by rank 0: {_content(message, {})}", file=sys.stderr)
                return RankError.exit_code
            if message.kind == Kind.DROP:
                for number in _content(message, {}):
                    objects.pop(number, None)
            elif message.kind == Kind.OBJECT:
                try:
                    objects[message.number] = _content(message, objects)
                except Exception as error:  # the job that refers to it cannot be read then
                    print(f"rank {rank}: cannot read an object: {one_line(error)}", file=sys.stderr)
            elif message.kind == Kind.SETTINGS:
                _settle(local_rank, **_content(message, {}))
            elif message.kind == Kind.JOB:
                _run(connection, message, objects, rank, timeout)
    except ClosedError:
        pass  # rank 0 has ended, and has said why
    except TimeoutError:
        print(f"rank {rank}: rank 0 gave no sign of life for {timeout:g} seconds", file=sys.stderr)
        return RankError.exit_code
    finally:
        connection.close()
    return 0


def _leave_to_rank_0(number: int, frame: FrameType | None) -> None:
    """Signal handler that does nothing. Lightning calls the handlers that it finds, which SIG_IGN is not."""


def _settle(local_rank: int, threads: int, matmul: str, folder: Path | None, modules: frozenset[str]) -> None:
    """Compute as rank 0 does, on the own GPU where there are GPUs, and import what it may import."""
    import torch

    take_over(folder, modules)
    torch.set_num_threads(threads)
    torch.set_float32_matmul_precision(matmul)
    if torch.cuda.is_available():
        torch.cuda.set_device(local_rank % torch.cuda.device_count())


def _content(message: Message, objects: dict[int, Any]) -> Any:
    return unpacked(message.structure, message.buffers, objects)


def _run(connection: Connection, message: Message, objects: dict[int, Any], rank: int, timeout: float) -> None:
    """Run a job, and send its result or its error."""
    try:
        job, token_budget, size = _content(message, objects)
    except Exception as error:
        answer = Unreadable(f"{type(error).__name__}: {one_line(error)}")
        connection.send(Kind.FAILED, packed(answer, {}, same_host=False, own_main=False), message.number)
        return
    try:
        with communicating_by(_WorkerComm(connection, message.number, rank, size, timeout)):
            result = job(_Reporting(connection, message.number, token_budget))
        packet = packed(result, {}, same_host=False, own_main=False)
    except (ClosedError, TimeoutError):
        raise
    except Exception as error:
        if not isinstance(error, _GivenUpError):
            traceback.print_exc()
            sys.stderr.flush()
        connection.send(Kind.FAILED, packed(_as_sent(error), {}, same_host=False, own_main=False), message.number)
    else:
        connection.send(Kind.RESULT, packet, message.number)


class _GivenUpError(Exception):
    """Rank 0 has given up the job, for example because another rank failed."""


class _WorkerComm:
    """Communication of a job of this rank with those of the others, through rank 0.

    Args:
        connection: connection to rank 0.
        number: number of the job.
        rank: rank of this process.
        size: number of ranks that take part.
        timeout: seconds without a sign of life from rank 0 after which this process ends.
    """

    def __init__(self, connection: Connection, number: int, rank: int, size: int, timeout: float) -> None:
        self._connection, self._number, self._timeout = connection, number, timeout
        self.rank, self.size = rank, size

    def all_gather(self, tensor: "Tensor") -> list["Tensor"]:
        """Return the tensor of each rank, in the order of ranks; all have the same shape and dtype."""
        packet = packed(tensor, {}, same_host=False, own_main=False)
        self._connection.send(Kind.GATHER, packet, self._number)
        while True:
            message = self._connection.receive(self._timeout)
            if message.kind == Kind.END:
                raise ClosedError("rank 0 has ended")
            if message.number == self._number and message.kind == Kind.GIVEN_UP:
                raise _GivenUpError("rank 0 has given up the job")
            if message.number == self._number and message.kind == Kind.GATHER:
                return [each.to(tensor.device) for each in _content(message, {})]


def _as_sent(error: Exception) -> DalError | str:
    """An error of dal as it is, if it can be pickled, and any other as text."""
    if isinstance(error, DalError):
        with contextlib.suppress(Exception):
            pickle.loads(pickle.dumps(error))
            return error
    return f"{type(error).__name__}: {one_line(error)}"


class _Reporting(Monitor):
    """Tells rank 0 that the job goes on, and each reduction of the token budget."""

    def __init__(self, connection: Connection, number: int, token_budget: int | None) -> None:
        self._connection, self._number, self._sent = connection, number, time.monotonic()
        self.token_budget = token_budget

    def advanced(self, count: int) -> None:
        if time.monotonic() - self._sent >= _BEAT:
            self._sent = time.monotonic()
            self._connection.send(Kind.PROGRESS, number=self._number)

    def halved(self, token_budget: int) -> None:
        self.token_budget = token_budget
        packet = packed(token_budget, {}, same_host=False, own_main=False)
        self._connection.send(Kind.PROGRESS, packet, self._number)


def main() -> int:
    """Serve the process that started this one, which sends its address and key through stdin."""
    end_with_parent()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    facts = json.loads(sys.stdin.readline())
    sys.path[:] = facts["path"]
    connection = join("127.0.0.1", facts["port"], bytes.fromhex(facts["key"]), facts["rank"])
    return serve(connection, facts["rank"], facts["rank"], facts["timeout"])


if __name__ == "__main__":
    code = main()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)  # at once: there is nothing to keep, and freeing the modules of PyTorch takes seconds
