"""What must stand in the log of a project after each step of a person, compared with what does."""

import re
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from dal.store.events import SKIP, Event
from dal.store.label_log import LabelLog
from dal.store.label_store import LabelStore
from dal.store.project_rows import ProjectRows

PERSON = "ana"


class TrialError(Exception):
    """Something was lost, stored twice, stored differently, or did not happen in time."""


def check(condition: object, message: str) -> None:
    """Raise `TrialError` with the message unless the condition holds."""
    if not condition:
        raise TrialError(message)


def wait(condition: Callable[[], Any], what: str, seconds: float = 30.0) -> Any:
    """Poll the condition, and return its first true value."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if value := condition():
            return value
        time.sleep(0.1)
    raise TrialError(f"waited {seconds:.0f} seconds for {what}")


def dal(*arguments: object) -> str:
    """Output of a command of `dal`, which must succeed."""
    command = [sys.executable, "-m", "dal", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    check(done.returncode == 0, f"dal {' '.join(map(str, arguments))}: exit code {done.returncode}: {done.stderr}")
    return done.stdout


class Server:
    """`dal annotate` as a process. The first start takes a free port, every later one the same."""

    def __init__(self, project: Path) -> None:
        self._project, self.port = project, 0
        self.start()

    def start(self) -> None:
        """Start it, and read its link."""
        command = [sys.executable, "-m", "dal", "annotate", str(self._project), "--no-open", "--who", PERSON]
        self._process = subprocess.Popen([*command, "--port", str(self.port)], stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None
        self.link = self._process.stdout.readline().strip()
        found = re.match(r"http://127\.0\.0\.1:(\d+)/\?token=", self.link)
        check(found, f"dal annotate printed no link but {self.link!r}")
        self.port = int(found[1]) if found else 0

    def kill(self) -> None:
        """End it at once, as a crash would."""
        self._process.kill()
        self._process.wait()

    def trainers(self) -> set[int]:
        """Ids of the child processes."""
        lines = subprocess.run(["ps", "-A", "-o", "pid=,ppid="], capture_output=True, text=True, check=True).stdout
        pairs = [tuple(map(int, line.split())) for line in lines.splitlines()]
        return {process for process, parent in pairs if parent == self._process.pid}

    def stop(self) -> str:
        """Ctrl-C; returns what was printed."""
        self._process.send_signal(signal.SIGINT)
        assert self._process.stdout is not None
        said = self._process.stdout.read()
        check(self._process.wait(30) == 0, f"dal annotate ended with exit code {self._process.returncode}")
        return said


class Ledger:
    """What must stand in the log of a project, compared with what does.

    Attributes:
        stands: row id -> sorted class names of the person's answer, or `SKIP`.
        done: name of a step -> how often it was made.
    """

    def __init__(self, project: Path) -> None:
        self.project = project
        with ProjectRows(project / "rows.db") as rows:
            self.texts = {row.id: row.text for row in rows}
        self.stands: dict[str, object] = {}
        self.done: Counter[str] = Counter()
        self._read = max((each.event for each in self._events()), default=0)

    def _events(self) -> list[Event]:
        return list(LabelStore.snapshot(self.project / "labels.db").events())

    @contextmanager
    def step(self, name: str, *kinds: str) -> Iterator[list[Event]]:
        """Check that the block adds exactly events of these kinds; rankings may arrive meanwhile. Fills the list."""
        new: list[Event] = []
        yield new
        wait(lambda: len(self._new()) >= len(kinds), f"{name}: {kinds}")
        new += self._new()
        check(
            [each.kind for each in new] == list(kinds), f"{name}: {kinds} expected, got {[each.kind for each in new]}"
        )
        self._read = self._events()[-1].event
        self.done[name] += 1

    def _new(self) -> list[Event]:
        return [each for each in self._events() if each.event > self._read and each.kind not in ("asked", "withdrawn")]

    def expect(self, new: Sequence[Event], text: str, names: Sequence[str]) -> None:
        """Record an answer that was just stored, after a look at it."""
        answer = new[-1]
        check(self.texts[answer.row] == text, f"{text!r} was shown, but {answer.row} was answered")
        stored = list(answer.value) if isinstance(answer.value, tuple) else [answer.value]
        check(sorted(map(str, stored)) == sorted(names), f"{names} was pressed, but {stored} stored for {answer.row}")
        check(answer.who == PERSON, f"{answer.who} answered {answer.row}")
        self.stands[answer.row] = sorted(names)

    def agree(self) -> None:
        """Check that the log says what was answered, read as another process does."""
        with LabelLog(self.project / "labels.db", access="read") as log:
            states = log.states(list(self.texts))
            found: dict[str, object] = {}
            for row in states:
                answer = log.answers_by(row).get(PERSON)
                if answer is None:
                    continue
                value = log.reading(answer)
                found[row] = SKIP if value is SKIP else sorted([value] if isinstance(value, str) else value or ())
        lost = {row: names for row, names in self.stands.items() if found.get(row) != names}
        check(not lost, f"lost or changed: { {row: (names, found.get(row)) for row, names in lost.items()} }")
        check(found.keys() == self.stands.keys(), f"never answered, but stored: {found.keys() - self.stands.keys()}")
        keys = Counter(each.key for each in self._events() if each.kind in ("answered", "skipped"))
        check(max(keys.values(), default=1) == 1, "a key was stored twice")

    def rankings(self) -> int:
        """Number of rankings of the trainer; other batches are in random order."""
        log = LabelStore.snapshot(self.project / "labels.db")
        return sum("top_up" not in log.batch(i).details for i in range(1, log.round + 1))
