"""Rank 0: it sends jobs to the other ranks, collects their results, and notices when one is lost."""

import contextlib
import itertools
import logging
import selectors
import socket
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from dal.config.allowed_code import admitted
from dal.distributed.connection import ClosedError, Connection, Kind, Message
from dal.distributed.sent_objects import SentObjects
from dal.distributed.wire import Packet, Unreadable, packed, unpacked
from dal.errors import DalError, RankError
from dal.learner import SILENT, Monitor
from dal.learners.ranks import Job, NotShareableError, Ranks, communicating_by, sharing_with
from dal.store.installed_code import code_difference

_log = logging.getLogger("dal")

_POLL = 0.2  # seconds between checks whether the run was stopped
_GRACE = 5.0  # seconds in which the end of a process is noticed, or the answer of one that lives


@dataclass(eq=False)
class Worker:
    """Another rank, as rank 0 sees it.

    Attributes:
        rank: its rank.
        name: name for messages, such as "rank 2 (process 4242 on node7)".
        connection: connection to it.
        same_host: whether it runs on this computer.
        how_ended: returns how its process ended, such as "was killed by signal 9"; None if that is not known.
        output: where its output is, for messages.
    """

    rank: int
    name: str
    connection: Connection
    same_host: bool
    how_ended: Callable[[], str | None]
    output: str
    held: set[int] = field(default_factory=set)  # numbers of the objects it has
    owes: int = 0  # number of the job that it has not answered yet

    def lost(self, how: str | None = None) -> RankError:
        """The error that says how it was lost."""
        deadline = time.monotonic() + 2
        while (
            how is None and time.monotonic() < deadline
        ):  # its connections close a moment before the process has ended
            how = self.how_ended()
            time.sleep(0 if how else 0.05)
        how = how or "closed its connection"
        return RankError(f"{self.name} {how}; {self.output}")


class Leader(Ranks):
    """Rank 0 of a run.

    Args:
        workers: the other ranks, by rank.
        timeout: seconds without progress in a job after which a rank counts as lost.
        own_main: whether the other ranks run another program, which lacks the classes of `__main__`.
        host: address of this computer for the other ranks.
    """

    def __init__(self, workers: Sequence[Worker], timeout: float, *, own_main: bool, host: str = "127.0.0.1") -> None:
        self.size, self.host = 1 + len(workers), host
        self.workers, self.timeout = list(workers), timeout
        self._numbers = itertools.count(1)
        self._objects = SentObjects(own_main=own_main)
        self._ended = threading.Event()
        self._settings: dict[str, Any] = {}
        self._beats = threading.Thread(target=self._give_signs_of_life, name="dal-ranks", daemon=True)
        self._beats.start()

    def run(self, command: str, jobs: Sequence[Job], monitor: Monitor = SILENT) -> list[Any]:
        """Run job i on rank i, all at the same time, and return their results in order."""
        workers = self.workers[: len(jobs) - 1]
        self._settle()
        messages = [
            self._objects.message(job, (monitor.token_budget, len(jobs)), held=worker.held, same_host=worker.same_host)
            for worker, job in zip(workers, jobs[1:], strict=True)
        ]
        number = next(self._numbers)
        for worker, (needed, packet) in zip(workers, messages, strict=True):
            self._send_job(worker, number, needed, packet)
        self._objects.forget_packets()
        comm = _LeaderComm(self, command, number, workers, monitor)
        try:
            with sharing_with(None), communicating_by(comm):
                own = jobs[0](_Watching(monitor, workers))
        except BaseException as error:
            self._give_up(number, workers)
            if isinstance(error, Exception) and not isinstance(error, DalError | NotShareableError):
                lost = self._lost_worker(workers, error)
                if lost is not None:
                    raise lost from error
            raise
        try:
            results = self._collected(command, number, workers, Kind.RESULT, monitor)
        except NotShareableError:
            self._objects.refuse_networks_of(jobs)
            raise
        return [own, *results]

    def gathered(
        self, tensor: Tensor, command: str, number: int, workers: Sequence[Worker], monitor: Monitor
    ) -> list[Tensor]:
        """The tensors that the jobs of a command gather, by rank, sent to all of them."""
        tensors = [tensor, *self._collected(command, number, workers, Kind.GATHER, monitor)]
        packet = packed(tensors, {}, same_host=False, own_main=False)
        for worker in workers:
            self._send(worker, Kind.GATHER, packet, number)
        return [each.to(tensor.device) for each in tensors]

    def _give_up(self, number: int, workers: Sequence[Worker]) -> None:
        """Let jobs fail that wait for tensors of the others."""
        for worker in workers:
            with contextlib.suppress(ClosedError):
                if worker.owes == number:
                    worker.connection.send(Kind.GIVEN_UP, None, number)

    def close(self, *, at_once: bool = False) -> None:
        """End the other ranks. With `at_once` those that are in a job are not waited for."""
        self._ended.set()
        for worker in self.workers:
            with contextlib.suppress(ClosedError):
                if not (at_once and worker.owes):
                    worker.connection.send(Kind.END)
            worker.connection.close()

    def _settle(self) -> None:
        """Tell the other ranks how to compute, if that has changed."""
        folder, modules = admitted()
        settings = {"threads": torch.get_num_threads(), "matmul": torch.get_float32_matmul_precision()}
        settings |= {"folder": folder, "modules": modules}
        if settings != self._settings:
            for worker in self.workers:
                self._send(worker, Kind.SETTINGS, packed(settings, {}, same_host=False, own_main=False))
            self._settings = settings

    # -- sending ---------------------------------------------------------------------------------------------------

    def _send_job(self, worker: Worker, number: int, needed: Sequence[tuple[int, Packet]], packet: Packet) -> None:
        while worker.owes:  # the answer to a job that was given up: it cannot read before that is sent
            self._receive(worker)
        unused = worker.held & self._objects.unused
        if unused:
            self._send(worker, Kind.DROP, packed(unused, {}, same_host=False, own_main=False))
            worker.held -= unused
        for key, content in needed:
            self._send(worker, Kind.OBJECT, content, key)
            worker.held.add(key)
        self._send(worker, Kind.JOB, packet, number)
        worker.owes = number

    def _send(self, worker: Worker, kind: Kind, packet: Packet, number: int = 0) -> None:
        try:
            worker.connection.send(kind, packet, number)
        except ClosedError as error:
            raise worker.lost() from error

    def _give_signs_of_life(self) -> None:
        while not self._ended.wait(min(30.0, self.timeout / 4)):
            for worker in self.workers:
                with contextlib.suppress(ClosedError):  # the next job will say so
                    worker.connection.send_if_idle(Kind.ALIVE)

    # -- receiving -------------------------------------------------------------------------------------------------

    def _receive(self, worker: Worker) -> Message:
        try:
            message = worker.connection.receive(self.timeout)
        except ClosedError as error:
            raise worker.lost() from error
        except TimeoutError as error:
            raise worker.lost(self._silent()) from error
        if message.number == worker.owes and message.kind in (Kind.RESULT, Kind.FAILED):
            worker.owes = 0
        return message

    def _silent(self) -> str:
        return f"gave no sign of life for {self.timeout:g} seconds"

    def _collected(
        self, command: str, number: int, workers: Sequence[Worker], wanted: Kind, monitor: Monitor
    ) -> list[Any]:
        """The results of a job by rank, or the tensors that it gathers."""
        results: dict[int, Any] = {}
        errors: dict[int, DalError | NotShareableError] = {}
        heard = dict.fromkeys(workers, time.monotonic())
        with selectors.DefaultSelector() as selector:
            for worker in workers:
                selector.register(worker.connection, selectors.EVENT_READ, worker)
            while selector.get_map():
                ready = selector.select(_POLL)
                monitor.advanced(0)  # raises if the run was stopped
                for key, _ in ready:
                    worker = key.data
                    message = self._receive(worker)
                    heard[worker] = time.monotonic()
                    if message.kind == Kind.PROGRESS and message.structure:
                        monitor.halved(unpacked(message.structure, message.buffers, {}))
                    elif message.number == number and message.kind == wanted:
                        results[worker.rank] = unpacked(message.structure, message.buffers, {})
                        selector.unregister(worker.connection)
                    elif message.number == number and message.kind == Kind.FAILED:
                        content = unpacked(message.structure, message.buffers, {})
                        errors[worker.rank] = self._failed(worker, command, content)
                        selector.unregister(worker.connection)
                        if wanted == Kind.GATHER:  # the others wait for it
                            raise errors[worker.rank]
                    elif message.number == number and message.kind in (Kind.RESULT, Kind.GATHER):
                        raise RuntimeError(f"the jobs of the {command} do not make the same calls")
                for key in list(selector.get_map().values()):
                    if time.monotonic() - heard[key.data] > self.timeout:
                        raise key.data.lost(self._silent())
        if errors:
            failed = errors[min(errors)]
            raise (self._lost_worker(workers, failed) or failed) if isinstance(failed, RankError) else failed
        return [results[worker.rank] for worker in workers]

    @staticmethod
    def _failed(worker: Worker, command: str, content: DalError | Unreadable | str) -> DalError | NotShareableError:
        if isinstance(content, Unreadable):
            return NotShareableError(f"rank {worker.rank} cannot read what it needs: {content.reason}")
        if isinstance(content, DalError):
            return content
        return RankError(f"{worker.name} failed in the {command}: {content}; {worker.output}")

    def _lost_worker(self, workers: Sequence[Worker], error: BaseException) -> RankError | None:
        """The error of a worker that made a job of the others fail with `error`; None if there is none.

        The end of its process may be known shortly afterwards only. Without such an end, and with an error of the
        connections between ranks, it is one that does not answer, since the others have failed, too.
        """
        deadline = time.monotonic() + (_GRACE if workers else 0)
        while time.monotonic() < deadline:
            for worker in workers:
                if worker.how_ended() is not None or worker.connection.is_closed():
                    return worker.lost()
                if worker.owes and worker.connection.has_message():
                    self._receive(worker)
            time.sleep(_POLL)
        silent = [worker for worker in workers if worker.owes]
        return silent[0].lost("does not answer") if silent and _of_connections(error) else None


class _LeaderComm:
    """Communication of the job of rank 0 with those of the other ranks."""

    rank = 0

    def __init__(self, leader: Leader, command: str, number: int, workers: Sequence[Worker], monitor: Monitor) -> None:
        self._leader, self._job, self._monitor = leader, (command, number, workers), monitor
        self.size = 1 + len(workers)

    def all_gather(self, tensor: Tensor) -> list[Tensor]:
        """Return the tensor of each rank, in the order of ranks; all have the same shape and dtype."""
        return self._leader.gathered(tensor, *self._job, self._monitor)


class _Watching(Monitor):
    """Forwards the progress of rank 0, and raises as soon as a rank that works on the same command is lost."""

    def __init__(self, monitor: Monitor, workers: Sequence[Worker]) -> None:
        self._monitor, self._workers, self._looked = monitor, workers, time.monotonic()
        self.token_budget = monitor.token_budget

    def started(self, what: str, total: int) -> None:
        self._monitor.started(what, total)

    def advanced(self, count: int) -> None:
        self._monitor.advanced(count)
        if time.monotonic() - self._looked > _POLL:
            self._looked = time.monotonic()
            for worker in self._workers:
                if worker.how_ended() is not None or worker.connection.is_closed():
                    raise worker.lost()

    def halved(self, token_budget: int) -> None:
        self._monitor.halved(token_budget)
        self.token_budget = self._monitor.token_budget or token_budget

    def finished(self) -> None:
        self._monitor.finished()


def _of_connections(error: BaseException) -> bool:
    """Whether an error was raised by the connections of a process group."""
    words = ("gloo", "nccl", "connection", "timeout", "timed out", "peer")
    return isinstance(error, RuntimeError) and any(word in str(error).lower() for word in words)


def welcomed(connection: Connection) -> dict[str, Any]:
    """The facts that another rank gives about itself, whose versions and source must be those of this process.

    Raises:
        RankError: it has other versions, or other source code of `dal`.
        ClosedError, TimeoutError: it has ended.
    """
    message = connection.receive(60)
    facts: dict[str, Any] = unpacked(message.structure, message.buffers, {})
    rank, rank_0 = f"rank {facts['rank']} on {facts['host']}", f"rank 0 on {socket.gethostname()}"
    difference = code_difference(facts, rank, rank_0)
    if difference is not None:
        with contextlib.suppress(ClosedError):
            connection.send(Kind.FAILED, packed(difference, {}, same_host=False, own_main=False))
        raise RankError(difference)
    return facts
