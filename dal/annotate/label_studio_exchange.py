"""The exchange with a Label Studio, in a thread: annotations become answers, and new rankings its order of tasks."""

import math
import threading
import time
from collections.abc import Callable

from dal.annotate.label_studio_client import LabelStudioClient, LabelStudioError, changed_at
from dal.annotate.label_studio_service import LabelStudioService
from dal.errors import DalError, counted, one_line, shortened
from dal.formats.label_studio_export import ReadTasks

#: Seconds between two readings however many hints come, and at most, since hints get lost.
PAUSE, LONGEST_PAUSE = 2.0, 60.0

_ALL = 3600.0  # seconds after which all tasks are read again: Label Studio stamps some changes in local time
_OVERLAP = 10.0  # seconds before the last change that are read again: a change may be committed late
_SHOWN = 20  # mistakes of one reading that are shown


class LabelStudioExchange:
    """Reads what changed in a project of Label Studio whenever there is a hint, and writes the rankings.

    Args:
        client: the server.
        service: the project here.
        show: shows a line to the user.
        pause, longest_pause: see `PAUSE` and `LONGEST_PAUSE`, in seconds.

    Attributes:
        project: number of the project there; None until the server has named it.
    """

    def __init__(
        self,
        client: LabelStudioClient,
        service: LabelStudioService,
        show: Callable[[str], object],
        *,
        pause: float = PAUSE,
        longest_pause: float = LONGEST_PAUSE,
    ) -> None:
        self._client, self._service, self._show = client, service, show
        self._pause, self._longest_pause = pause, longest_pause
        self.project = client.project
        self._since, self._all_at = 0.0, time.monotonic()
        self._tasks: dict[str, set[int]] = {}  # row -> tasks
        self._version, self._sent = "", set[int]()  # version and tasks of the predictions that are there
        self._absent = 0  # ranked rows without a task, as last shown
        self._mistakes: set[str] = set()
        self._error = ""
        self._hinted, self._closed = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._run, name="dal-label-studio", daemon=True)

    def start(self) -> None:
        """Start the thread, which first reads the whole project: what changed while nobody listened counts, too."""
        self._thread.start()
        self.hint()

    def hint(self) -> None:
        """Read soon. Returns at once, and any number of hints causes one reading."""
        self._hinted.set()

    def close(self) -> None:
        """End the thread, after the reading in progress."""
        self._closed.set()
        self._hinted.set()
        if self._thread.is_alive():
            self._thread.join(5)

    def _run(self) -> None:
        failures = 0
        while not self._closed.is_set():
            self._hinted.wait(min(self._longest_pause, self._pause * 2**failures) if failures else self._longest_pause)
            self._hinted.clear()
            if self._closed.is_set() or self.project is None:
                continue
            try:
                self.read()
                self.push()
                failures, self._error = 0, ""
            except Exception as error:  # the next reading finds what this one has missed
                if self._closed.is_set():
                    return  # the files may be closed by now
                failures = min(failures + 1, 10)
                # The message of an error that is not ours may hold what was sent.
                line = one_line(error) if isinstance(error, DalError) else f"the reading failed: {type(error).__name__}"
                if line != self._error:
                    self._error = line
                    self._show(f"{line}; trying again")
            self._closed.wait(self._pause)

    def read(self) -> None:
        """Read the tasks that changed since the last reading, and store their answers."""
        assert self.project is not None
        server = f"{self._client.server}/{self.project}"
        if time.monotonic() - self._all_at > _ALL:
            self._since, self._all_at = 0.0, time.monotonic()
        everything, latest = ReadTasks(), self._since
        for page in self._client.tasks(self.project, self._since - _OVERLAP):
            part = self._service.read(page, server)
            everything.answers += part.answers
            everything.mistakes += part.mistakes
            everything.present |= part.present
            for row, task in part.tasks:
                if isinstance(task, int):
                    self._tasks.setdefault(row, set()).add(task)
            latest = max([latest, *(at for task in page if math.isfinite(at := changed_at(task)))])
            if self._closed.is_set():
                return
        stored, retracted = self._service.store(everything)
        self._since = latest
        self._report(everything, stored.new, retracted, len(stored.disputed))

    def push(self) -> None:
        """Write the latest ranking as predictions, unless it is there."""
        assert self.project is not None
        version, ranked = self._service.ranked()
        if version != self._version:
            self._version, self._sent = version, set()
            if self._client.version(self.project) == version:  # written before a restart
                self._sent = {task for row in ranked for task in self._tasks.get(row, ())}
        predictions = [
            {"task": task, **prediction, "model_version": version}
            for row, prediction in ranked.items()
            for task in sorted(self._tasks.get(row, set()) - self._sent)
        ]
        absent = sum(row not in self._tasks for row in ranked)
        if absent and absent != self._absent:
            self._show(
                f"{absent} of the {len(ranked)} texts to label next are no tasks there: import what "
                "dal export FOLDER --to label-studio --all writes"
            )
        self._absent = absent
        if not predictions:
            return
        try:
            self._client.push(self.project, predictions, version)
        except LabelStudioError:
            self._tasks, self._since = {}, 0.0  # a task may have been deleted: the next reading is of all
            raise
        self._sent |= {int(each["task"]) for each in predictions}
        self._show(f"{time.strftime('%H:%M:%S')} {counted(len(predictions), 'task')} ranked: {version}")

    def _report(self, read: ReadTasks, new: int, retracted: int, disputed: int) -> None:
        parts = [f"{counted(new, 'answer')} stored"] if new else []
        parts += [f"{counted(retracted, 'answer')} retracted, since the annotation was deleted"] if retracted else []
        parts += [f"people disagree on {counted(disputed, 'text')}"] if disputed else []
        if parts:
            self._show(f"{time.strftime('%H:%M:%S')} {'; '.join(parts)}")
        fresh = [each for each in read.mistakes if each not in self._mistakes]
        self._mistakes = self._mistakes | set(fresh) if len(self._mistakes) < 10_000 else set(fresh)
        for each in fresh[:_SHOWN]:
            self._show(f"not stored: {shortened(each, 300)}")
        if len(fresh) > _SHOWN:
            self._show(f"not stored: {len(fresh) - _SHOWN} more")
