"""Sharing of work among ranks, the processes of one run that each have a device; without several, work stays here.

Rank 0 runs the program. It hands the other ranks functions with their arguments, and collects the results. The
processes themselves are those of `dal.distributed`.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from dal.monitor import SILENT, Monitor

if TYPE_CHECKING:
    from dal.functional.exchange import Comm


class NotShareableError(Exception):
    """An argument of a job cannot be sent to another process. Nothing was sent: the caller does the work itself."""


@dataclass(frozen=True)
class Job:
    """A function of a module, and its arguments. It is called with the keyword argument `monitor` in addition.

    The jobs of one command may exchange tensors by `job_comm`, if all make the same calls in the same order. Networks
    and prepared rows among the arguments are sent to a rank once, and again after they have changed.
    """

    function: Callable[..., Any]
    arguments: tuple[Any, ...] = ()
    options: dict[str, Any] = field(default_factory=dict)

    def __call__(self, monitor: Monitor) -> Any:
        """Run the job in this process."""
        return self.function(*self.arguments, monitor=monitor, **self.options)


class Ranks(ABC):
    """The ranks of this run, as rank 0 sees them.

    Attributes:
        size: number of ranks, rank 0 included.
        host: address of rank 0 for the others.
        timeout: seconds without progress in a job after which a rank counts as lost.
    """

    size: int
    host: str
    timeout: float

    @abstractmethod
    def run(self, command: str, jobs: Sequence[Job], monitor: Monitor = SILENT) -> list[Any]:
        """Run job i on rank i, all at the same time, and return their results in order.

        Args:
            command: name of the work, for messages.
            jobs: at most `size` jobs; the first is run in this process.
            monitor: monitor of the first job.

        Raises:
            NotShareableError: a job cannot be sent to another process.
            DalError: a job failed, or a rank was lost.
        """


_current: ContextVar[Ranks | None] = ContextVar("ranks", default=None)


def current_ranks() -> Ranks | None:
    """Return the ranks that work may be shared with; None where there are no others, and within a job."""
    return _current.get()


@contextmanager
def sharing_with(ranks: Ranks | None) -> Iterator[None]:
    """Context manager in which work is shared with these ranks, or with none; it holds for this thread only."""
    token = _current.set(ranks)
    try:
        yield
    finally:
        _current.reset(token)


_comm: ContextVar["Comm | None"] = ContextVar("comm", default=None)


def job_comm() -> "Comm":
    """Return the communication between the jobs of the command that this process takes part in."""
    comm = _comm.get()
    if comm is None:
        raise RuntimeError("there is communication within a job only")
    return comm


@contextmanager
def communicating_by(comm: "Comm") -> Iterator[None]:
    """Context manager of a job, whose communication with the others this is."""
    token = _comm.set(comm)
    try:
        yield
    finally:
        _comm.reset(token)
