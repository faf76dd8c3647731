"""Ranks of a run as threads of the process of a test."""

from collections.abc import Sequence
from typing import Any

from dal.functional.exchange import Comm
from dal.learner import SILENT, Monitor
from dal.learners.ranks import Job, Ranks, communicating_by
from dal.testing.thread_ranks import on_ranks


class ThreadRanks(Ranks):
    """Ranks as threads of this process that take turns.

    Attributes:
        commands: the commands so far.
        returned: the results of all ranks of the last command.
    """

    host, timeout = "", 60.0

    def __init__(self, size: int) -> None:
        self.size = size
        self.commands: list[str] = []
        self.returned: list[Any] = []

    def run(self, command: str, jobs: Sequence[Job], monitor: Monitor = SILENT) -> list[Any]:
        self.commands.append(command)

        def work(comm: Comm) -> Any:
            with communicating_by(comm):
                return jobs[comm.rank](SILENT)

        self.returned = on_ranks(len(jobs), work)
        return self.returned
