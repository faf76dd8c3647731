"""Ranks as threads of one process, and a count of their messages, for tests of selections on shards."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from threading import Barrier, BrokenBarrierError, Lock
from typing import TypeVar

import torch
from torch import Tensor

from dal.functional.exchange import Comm, Shard
from dal.functional.precision import true_float32
from dal.functional.threads import one_thread

Result = TypeVar("Result")


@dataclass(eq=False)
class CountingComm:
    """A `Comm` that counts its collectives and the bytes that this rank sends.

    Attributes:
        comm: communication to count.
        collectives: number of collectives so far.
        sent: number of bytes that this rank has contributed.
    """

    comm: Comm
    collectives: int = 0
    sent: int = 0

    @property
    def rank(self) -> int:
        """Number of this rank."""
        return self.comm.rank

    @property
    def size(self) -> int:
        """Number of ranks."""
        return self.comm.size

    def all_gather(self, tensor: Tensor) -> list[Tensor]:
        """Gather as `comm` does, and count it."""
        self.collectives += 1
        self.sent += tensor.numel() * tensor.element_size()
        return self.comm.all_gather(tensor)


@dataclass(eq=False)
class _Group:
    """State that the threads of a group share. Only the thread that holds `turn` runs."""

    size: int
    tensors: list[Tensor | None] = field(init=False)
    barrier: Barrier = field(init=False)
    turn: Lock = field(default_factory=Lock)

    def __post_init__(self) -> None:
        self.tensors, self.barrier = [None] * self.size, Barrier(self.size)


@dataclass(frozen=True, eq=False)
class _ThreadComm:
    group: _Group
    rank: int

    @property
    def size(self) -> int:
        return self.group.size

    def all_gather(self, tensor: Tensor) -> list[Tensor]:
        group = self.group
        group.tensors[self.rank] = tensor
        self._wait()
        gathered = [each.clone() for each in group.tensors if each is not None]
        if any((each.shape, each.dtype) != (tensor.shape, tensor.dtype) for each in gathered):
            group.barrier.abort()
            raise ValueError(
                f"the ranks gather tensors of different shapes: {[tuple(each.shape) for each in gathered]}"
            )
        self._wait()  # nobody overwrites its tensor before all have read it
        return gathered

    def _wait(self) -> None:
        self.group.turn.release()
        try:
            self.group.barrier.wait()
        finally:
            self.group.turn.acquire()


def on_ranks(size: int, function: Callable[[Comm], Result]) -> list[Result]:
    """Run a function on each of `size` ranks, threads of this process that take turns, and return their results.

    If a rank raises, the others stop at their next collective, and the first error is raised.

    >>> on_ranks(2, lambda comm: [int(each) for each in comm.all_gather(torch.tensor(10 * comm.rank))])
    [[0, 10], [0, 10]]
    """
    group = _Group(size)

    def run(rank: int) -> Result:
        with group.turn:
            try:
                return function(_ThreadComm(group, rank))
            except BaseException:
                group.barrier.abort()
                raise

    # Contexts that change settings of the whole process restore those they find, which other threads may have set.
    with true_float32(), one_thread(), ThreadPoolExecutor(size) as pool:
        futures = [pool.submit(run, rank) for rank in range(size)]
        errors = [error for future in futures if (error := future.exception())]
    for error in sorted(errors, key=lambda each: isinstance(each, BrokenBarrierError)):
        raise error
    return [future.result() for future in futures]


def shards_of(total: int, size: int, *, seed: int = 0) -> list[torch.Tensor]:
    """Rows of each of `size` ranks, ascending: every row is on a rank drawn at random."""
    owner = torch.randint(size, (total,), generator=torch.Generator().manual_seed(seed))
    return [(owner == rank).nonzero().flatten() for rank in range(size)]


def on_shards(total: int, size: int, function: Callable[[Shard], Result], *, seed: int = 0) -> list[Result]:
    """Run a function on each rank's shard of `total` rows that are distributed at random (`shards_of`)."""
    rows = shards_of(total, size, seed=seed)
    return on_ranks(size, lambda comm: function(Shard(comm, rows[comm.rank], total)))
