"""The exchange with a Label Studio, in a thread: annotations become answers, and new rankings its order of tasks."""

import math
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from dal.annotate.label_studio_client import LabelStudioClient, LabelStudioError, changed_at
from dal.annotate.label_studio_service import LabelStudioService
from dal.errors import ConfigError, DalError, counted, one_line, shortened

#: Seconds between two readings however many hints come, and at most, since hints get lost.
PAUSE, LONGEST_PAUSE = 2.0, 60.0

_ALL = 3600.0  # seconds after which all tasks are read again: Label Studio stamps some changes in local time
_OVERLAP = 10.0  # seconds before the last change that are read again: a change may be committed late
_SHOWN = 20  # mistakes of one reading that are shown
_IMPORTED = 200  # texts of one request


@dataclass
class _Reading:
    """Figures of one reading, over all its pages.

    Attributes:
        new, retracted, disputed, exported: number of answers that were stored, of those that were retracted, of rows
            that are in dispute since then, and of annotations that `dal export` wrote.
        mistakes: number of mistakes that were not shown before.
        shown: the first of them.
    """

    new: int = 0
    retracted: int = 0
    disputed: int = 0
    exported: int = 0
    mistakes: int = 0
    shown: list[str] = field(default_factory=list)


class LabelStudioExchange:
    """Reads what changed in a project of Label Studio whenever there is a hint, and writes the rankings.

    Args:
        client: the server.
        service: the project here.
        show: shows a line to the user.
        imports: whether texts that are no tasks there are imported, after the first reading.
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
        imports: bool = False,
        pause: float = PAUSE,
        longest_pause: float = LONGEST_PAUSE,
    ) -> None:
        self._client, self._service, self._show = client, service, show
        self._imports = imports
        self._pause, self._longest_pause = pause, longest_pause
        self.project = client.project
        self._since, self._all_at, self._is_full = 0.0, time.monotonic(), False
        self._tasks: dict[str, tuple[int, ...]] = {}  # row -> tasks
        self._version, self._sent = "", set[int]()  # version and tasks of the predictions that are there
        self._absent = self._exported = 0  # rows without a task, and exported annotations, as last shown
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
                if self.complete():
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
        """Read the tasks that changed since the last reading, and store their answers page by page.

        What was read before an error or a kill is stored. The next reading begins at the same time as this one, and
        stores nothing twice.
        """
        assert self.project is not None
        server = f"{self._client.server}/{self.project}"
        if time.monotonic() - self._all_at > _ALL:
            self._since = 0.0
        full, self._is_full = self._since == 0.0, False
        latest, again, reading = self._since, False, _Reading()
        if full:  # by number: a change during the reading is one of the next reading
            latest = self._client.latest_change(self.project)
            self._tasks, self._all_at = {}, time.monotonic()
        try:
            for page in self._client.tasks(self.project, self._since - _OVERLAP):
                again |= self._store(page, server, reading)
                if not full:
                    latest = max([latest, *(at for task in page if math.isfinite(at := changed_at(task)))])
                if self._closed.is_set():
                    return
        finally:
            self._report(reading, full=full)
            if reading.new or reading.retracted:
                self._service.rank()
        self._since, self._is_full = 0.0 if again else latest, full

    def _store(self, page: Sequence[Mapping[str, Any]], server: str, reading: _Reading) -> bool:
        """Store the answers of a page. Returns whether all tasks must be read again: an answer was retracted whose row
        has further tasks, in which an earlier answer of the person may be.
        """
        part = self._service.read(page, server)
        for row, task in part.tasks:
            if isinstance(task, int) and task not in self._tasks.get(row, ()):
                self._tasks[row] = (*self._tasks.get(row, ()), task)
        stored, retracted = self._service.store(part)
        reading.new += stored.new
        reading.retracted += retracted
        reading.disputed += len(stored.disputed)
        reading.exported += part.exported
        fresh = [each for each in part.mistakes if each not in self._mistakes]
        self._mistakes = self._mistakes | set(fresh) if len(self._mistakes) < 10_000 else set(fresh)
        reading.mistakes += len(fresh)
        reading.shown += fresh[: _SHOWN - len(reading.shown)]
        return retracted > 0 and any(len(self._tasks.get(row, ())) > 1 for row, _ in part.tasks)

    def complete(self) -> bool:
        """After a reading of all tasks, say how many texts are no tasks there, or import them.

        They are imported once, with their answers. Texts that are there are left as they are, so a repetition after an
        error, which begins with a reading of all tasks, imports the others only.

        Returns:
            Whether texts were imported. The next reading is then of all tasks, for their numbers.
        """
        assert self.project is not None
        if not self._is_full:
            return False
        total, absent = 0, list[str]()
        for row in self._service.row_ids():
            total += 1
            if row not in self._tasks:
                absent.append(row)
        if absent and self._imports:
            self._import(absent, total)
            self._imports = False
            return True
        self._imports = False
        if len(absent) != self._absent:
            self._absent = len(absent)
            if absent:
                self._show(
                    f"{self._absent:,} of {counted(total, 'text')} are not in project {self.project} of Label Studio: "
                    "--import imports them"
                )
        return False

    def _import(self, rows: Sequence[str], total: int) -> None:
        """Import rows as tasks, unless the labeling config there has other classes."""
        assert self.project is not None
        self._since = 0.0
        missing = self._service.check_config(self._client.config(self.project))
        if missing:
            raise ConfigError(
                f"nothing is imported into project {self.project} of Label Studio: its labeling config lacks the class "
                f"{shortened(missing[0], 40)!r}; paste the one that `dal export --to label-studio` writes"
            )
        for start in range(0, len(rows), _IMPORTED):
            self._client.import_tasks(self.project, self._service.tasks_of(rows[start : start + _IMPORTED]))
            if self._closed.is_set():
                return
        self._show(
            f"{time.strftime('%H:%M:%S')} {len(rows):,} of {counted(total, 'text')} imported into project "
            f"{self.project} of Label Studio"
        )

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
            for task in self._tasks.get(row, ())
            if task not in self._sent
        ]
        if not predictions:
            return
        try:
            self._client.push(self.project, predictions, version)
        except LabelStudioError:
            self._since = 0.0  # a task may have been deleted: the next reading is of all
            raise
        self._sent |= {int(each["task"]) for each in predictions}
        self._show(f"{time.strftime('%H:%M:%S')} {counted(len(predictions), 'task')} ranked: {version}")

    def _report(self, reading: _Reading, *, full: bool) -> None:
        parts = [f"{counted(reading.new, 'answer')} stored"] if reading.new else []
        if reading.retracted:
            which = counted(reading.retracted, "answer retracted: its", "answers retracted: their")
            parts.append(f"{which} annotation{'s were' if reading.retracted > 1 else ' was'} deleted or changed back")
        parts += [f"people disagree on {counted(reading.disputed, 'text')}"] if reading.disputed else []
        if parts:
            self._show(f"{time.strftime('%H:%M:%S')} {'; '.join(parts)}")
        if full and reading.exported and reading.exported != self._exported:
            self._exported = reading.exported
            which = counted(reading.exported, "annotation is an answer", "annotations are answers")
            self._show(f"{which} that dal exported and nobody has changed: left out")
        for each in reading.shown:
            self._show(f"not stored: {shortened(each, 300)}")
        if reading.mistakes > len(reading.shown):
            self._show(f"not stored: {reading.mistakes - len(reading.shown)} more")
