"""What all requests to the annotation service share: its lock, transactions, the rankings of the trainer, its end."""

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from dal.annotate.overlap import Overlap
from dal.annotate.project_settings import ProjectSettings
from dal.annotate.project_views import ProjectViews
from dal.annotate.retraining import EVERY, MIN_FREE, RANKED, Retraining, Trainer
from dal.annotate.row_queue import LEASE, RowQueue
from dal.errors import SessionError, one_line
from dal.store.atomic_files import named
from dal.store.label_log import LabelLog
from dal.store.log_figures import free_rows
from dal.store.project_rows import ProjectRows


class ServiceState(ProjectViews):
    """A project that is open for people: calls of several threads take turns, and rankings arrive meanwhile.

    Args:
        log: questions and answers.
        rows: texts.
        settings: settings of the project.
        overlap: which rows several people answer; None for none.
        every: new answers after which the trainer ranks again.
        ranked: number of rows of a ranking.
        lease: duration of a lease, in seconds.
        rounds: whether people answer in rounds, see `dal.annotate.service.open_service`.
    """

    def __init__(
        self,
        log: LabelLog,
        rows: ProjectRows,
        settings: ProjectSettings,
        *,
        overlap: Overlap | None = None,
        every: int = EVERY,
        ranked: int = RANKED,
        lease: float = LEASE,
        rounds: bool = False,
    ) -> None:
        super().__init__(log, rows, settings, Retraining(log, every=every, n=ranked, rounds=rounds))
        self._lock = threading.RLock()
        self._file = _file_of(log.path)
        self._received = threading.Condition(self._lock)
        self._queue = RowQueue(log, rows, overlap, lease=lease, ranked_only=rounds)
        self._closing: list[Callable[[], None]] = []

    @property
    def log(self) -> LabelLog:
        """Questions and answers."""
        return self._log

    def start(self, trainer: Trainer) -> None:
        """Let a trainer rank the rows; without one they come in random order. Its rankings go to `receive`."""
        self._retraining.start(trainer)

    # -- rankings ------------------------------------------------------------------------------------------------------

    def trainer_changed(self, state: Mapping[str, Any]) -> None:
        """Take a new state of the trainer, from any thread: a job that failed is not waited for."""
        if state.get("state") == "failed":
            self._retraining.done(" ".join(str(state.get("error") or "the trainer failed").split()))
            with self._received:
                self._received.notify_all()

    def receive(self, message: Mapping[str, Any]) -> None:
        """Take a ranking of the trainer, or its error, from any thread."""
        if message.get("error") is not None:
            self._retraining.done(" ".join(str(message["error"]).split()))
        elif "rows" in message:
            try:
                with self._lock:
                    self._rankings.receive(message, self._queue.wanted)
                    self._queue.reopen()
                self._retraining.done()
            except Exception as error:  # people go on with the last ranking; the header shows the error
                self._retraining.done(f"a ranking could not be stored: {one_line(error)}")
        else:
            return  # progress
        with self._received:
            self._received.notify_all()

    def wait_for_ranking(self, timeout: float = 600.0) -> bool:
        """Wait for a ranking that knows all current answers.

        Args:
            timeout: seconds to wait at most.

        Returns:
            Whether there is one; False without a trainer, if it failed, or after the timeout.
        """
        end = time.monotonic() + timeout
        while True:
            latest = self._rankings.latest
            if latest is not None and (latest.event >= self._log.labels_event or self._retraining.is_round_open):
                return True
            self._retraining.request_if_due(MIN_FREE, now=True)
            state = str(self._retraining.state["state"])
            if state in ("stopped", "failed") or time.monotonic() > end:
                return False
            with self._received:
                self._received.wait(min(0.2, max(0.0, end - time.monotonic())))

    def _retrain(self, who: str) -> None:
        self._retraining.request_if_due(free_rows(self._log, who, time.time(), MIN_FREE))

    # -- transactions -------------------------------------------------------------------------------------------------

    @contextmanager
    def _changing(self) -> Iterator[None]:
        """A transaction; calls of other threads wait."""
        self._require_file()
        with self._lock:
            try:
                with self._log.changing():
                    yield
            except BaseException:
                self._queue.reopen()  # rows in random order that were not stored, as on a full disk, are asked again
                raise

    def _require_file(self) -> None:
        """Check that the log is still at its path: what is written to a removed file is lost without an error."""
        path = self._log.path
        if path is not None and _file_of(path) != self._file:
            raise SessionError(f"{named(path)} was moved or removed: nothing was stored; put it back")

    def on_close(self, action: Callable[[], None]) -> None:
        """Call a function when the service is closed, after the log and the rows."""
        self._closing.append(action)

    def close(self) -> None:
        """End the trainer and close the files. Calling it again has no effect."""
        self._retraining.close()
        with self._lock:
            self._log.close()
            self._rows.close()
            while self._closing:
                self._closing.pop()()


def _file_of(path: Path | None) -> tuple[int, int] | None:
    """Device and number of the file at a path; None if there is none."""
    try:
        found = None if path is None else path.stat()
    except OSError:
        return None
    return None if found is None else (found.st_dev, found.st_ino)
