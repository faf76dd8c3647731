"""When the trainer ranks again: decided by the log, and at most one ranking at a time."""

import threading
import time
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from dal.annotate.service_contract import Reply
from dal.store.label_log import LabelLog
from dal.store.log_figures import answers_since, classes_changed_since, rows_that_stay
from dal.store.row_state import PENDING

#: New answers after which the trainer ranks again.
EVERY = 10
#: Rows of a ranking.
RANKED = 30
#: Free rows below which it ranks again after any new answer.
MIN_FREE = 5

_LOST = 5.0  # seconds after which a job is lost if the trainer is not working on any


class Trainer(Protocol):
    """A process that ranks rows by a model of the current answers."""

    @property
    def state(self) -> Mapping[str, Any]:
        """ "state" (starting, working, idle, failed or stopped), "stage", "done", "total", "left" and "error"."""

    def request(self, event: int, n: int, keep: Sequence[str]) -> Any:
        """Ask for a ranking of `n` rows by the answers up to an event, without the rows `keep`; returns at once."""

    def search(self, text: str, n: int, timeout: float) -> Mapping[str, Any]:
        """The texts that are most like a text: `{"found": [[id, cosine], ...]}`, or `{"why": ..., "again": bool}`."""

    def close(self) -> None:
        """End the process."""


class Retraining:
    """Requests of rankings.

    Args:
        log: questions and answers.
        every: new answers after which the trainer ranks again.
        n: number of rows of a ranking.
        rounds: whether it ranks again when all rows of the last ranking are answered, and at no other time.
    """

    def __init__(self, log: LabelLog, *, every: int = EVERY, n: int = RANKED, rounds: bool = False) -> None:
        self._log, self._every, self._n, self._rounds = log, every, n, rounds
        self._trainer: Trainer | None = None
        self._lock = threading.Lock()
        self._requested: int | None = None  # event of the last request of this process
        self._since: float | None = None  # when the job began that is not done; None if there is none
        self._failed = False
        self.error: str | None = None

    def start(self, trainer: Trainer) -> None:
        """Take the trainer, and request the first ranking. Without a trainer none is requested."""
        self._trainer = trainer
        self.request_if_due(0)

    def request_if_due(self, free: int, *, now: bool = False) -> bool:
        """Request a ranking if enough has changed since the last request. Call it without any lock.

        It is due at the start, after `every` new answers, after a change of the classes, and after any answer while few
        rows are free or when a person comes (`now`). After a failure few free rows are no reason: each answer would
        start another failing job.

        Args:
            free: number of rows that the next person could get.
            now: request it if anything has changed at all.
        """
        if self._trainer is None:
            return False
        state = str(self._trainer.state.get("state"))
        with self._lock:
            if state == "stopped" or (self._since is not None and not self._is_lost(state)):
                return False
            if self._requested is not None:
                answers = answers_since(self._log, self._requested)
                few = answers > 0 and (now or (free < MIN_FREE and not self._failed))
                enough = answers > 0 if self._rounds else few or answers >= self._every
                if not enough and not classes_changed_since(self._log, self._requested):
                    return False
            if self.is_round_open:  # also at the start, of a round that an earlier process began
                return False
            event = self._log.last_event
            self._requested, self._since, self._failed = event, time.monotonic(), False
            keep = sorted({*self._log.readers(), *rows_that_stay(self._log)})
        self._trainer.request(event, self._n, keep)
        return True

    @property
    def is_round_open(self) -> bool:
        """Whether rows of the last ranking wait for an answer, where the next ranking waits for all of them."""
        return self._rounds and self._log.counts().get(PENDING, 0) > 0

    @property
    def is_round_awaited(self) -> bool:
        """Whether people wait for the rows of the next round, which the trainer is selecting."""
        return self._rounds and self._since is not None

    def _is_lost(self, state: str) -> bool:
        """Whether the job in progress will not be answered, as after the end of the trainer's process."""
        assert self._since is not None
        return state in ("idle", "failed") and time.monotonic() - self._since > _LOST

    def done(self, error: str | None = None) -> None:
        """Note the end of a job, with its error if it failed."""
        with self._lock:
            self._since, self._failed, self.error = None, error is not None, error

    @property
    def state(self) -> Reply:
        """What the trainer does, as shown in the header. Call it without any lock."""
        shown: Reply = {"state": "stopped", "stage": None, "done": 0, "total": 0, "left": None, "error": None}
        if self._trainer is not None:
            shown |= {name: value for name, value in self._trainer.state.items() if name in shown}
            if self.error is not None and shown["state"] in ("idle", "failed"):
                shown |= {"state": "failed", "error": shown["error"] or self.error}
        return shown

    def search(self, text: str, n: int, timeout: float) -> Mapping[str, Any]:
        """The texts that are most like a text, see `Trainer.search`. Call it without any lock: it waits."""
        if self._trainer is None:
            return {"why": "no model is running", "again": False}
        return self._trainer.search(text, n, timeout)

    def close(self) -> None:
        """End the trainer."""
        if self._trainer is not None:
            self._trainer.close()
