"""Progress of cells in other processes: each keeps a line in a file of its folder, which the command shows.

A file, since the process may run on another node, and outlive the command or be started again by a scheduler. It is a
convenience: an error of reading or writing it is ignored, and nothing depends on its content.
"""

import contextlib
import os
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Set
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from dal.errors import counted, printable
from dal.experiments.console import Quiet
from dal.experiments.heartbeat import CountingMonitor, Heartbeat
from dal.learner import Monitor
from dal.store.atomic_files import open_regular, recover, temporary_name

#: File in the folder of a cell with a line on its progress, while the cell runs in a process of its own.
PROGRESS = "progress.txt"

_EVERY = 5.0  # seconds between two writes of a file, and between two readings of all files
_STALE = 120.0  # seconds without a change after which a line is not shown; network file systems hide one for a minute
_MOST_LINES = 6  # lines that are shown at once
_TURN = 10.0  # seconds after which the next lines are shown, where there are more
_MOST_BYTES = 400  # of a line


class CellReporter(Quiet):
    """Reporter of a cell in a process of its own: keeps the line that a log would have in the file of the cell.

    Args:
        folder: folder of the cell.
        title: name of the cell, such as "Margin, seed 0".
    """

    def __init__(self, folder: Path, title: str) -> None:
        self._path, self._title = folder / PROGRESS, title
        self._guard, self._ended = threading.Lock(), False
        self._heartbeat = Heartbeat(self._write, _EVERY)
        self._heartbeat.stage(title)

    def __enter__(self) -> Self:
        with contextlib.suppress(OSError):
            recover(self._path)  # removes what a killed process has left
        self._heartbeat.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._heartbeat.stop()
        with self._guard, contextlib.suppress(OSError):
            self._ended = True
            self._path.unlink(missing_ok=True)

    def _write(self, line: str) -> None:
        """Replace the file. Nothing is synced to disk: after a power failure no process runs."""
        partial = self._path.with_name(temporary_name(PROGRESS, "new"))
        with self._guard, contextlib.suppress(OSError):
            if self._ended:
                return
            try:
                with open(partial, "x", encoding="utf-8", errors="backslashreplace") as file:
                    file.write(f"{line.removeprefix('  ... ')}\n")
                partial.replace(self._path)
            except OSError:  # the disk is full, or the file is a folder
                partial.unlink(missing_ok=True)

    def stage(self, text: str) -> None:
        """Name the stage, such as loading the data."""
        self._heartbeat.stage(f"{self._title}: {text}")

    def cell(self, name: str, seed: int) -> None:
        """Name the cell again, after a stage."""
        self._heartbeat.stage(self._title)

    def plan(self, parts: int, noun: str, at_once: int = 1) -> None:
        """Note the number of rounds, to say how many are left."""
        self._heartbeat.plan(parts, noun, at_once)

    def part_done(self) -> None:
        """Count a round."""
        self._heartbeat.part_done()

    def parts_dropped(self, count: int) -> None:
        """Count these rounds as not planned."""
        self._heartbeat.parts_dropped(count)

    def round(self, line: Mapping[str, Any]) -> None:
        """Count the round."""
        self.part_done()

    def monitor(self, check: Callable[[], None]) -> Monitor:
        """Monitor that counts the steps of fits and passes."""
        return CountingMonitor(check, self._heartbeat, self.say)


@dataclass(frozen=True)
class _Seen:
    """The line of a cell, and when it was first read.

    A line that was there before the command counts as old: it is that of a killed process, or will change soon.
    """

    text: str
    since: float = float("-inf")


class CellsProgress:
    """The lines of the cells that run in other processes, as their files say.

    Args:
        folder: folder of the grid.
        names: names of the cells that have not ended.
        clock: time in seconds.
    """

    def __init__(self, folder: Path, names: Iterable[str], clock: Callable[[], float] = time.monotonic) -> None:
        self._folder, self._clock = folder, clock
        self._read_at = clock()
        self._cells = {name: _Seen(_line_in(folder / name / PROGRESS)) for name in names}

    def ended(self, name: str) -> None:
        """Show nothing on a cell any more."""
        self._cells.pop(name, None)

    def lines(self, queued: Set[str] = frozenset()) -> list[str]:
        """The lines of running cells in the order of the grid; of more than six, six at a time in turn.

        Args:
            queued: names of the cells that wait in the queue of a scheduler, of which those without a line are counted
                in a further line. The scheduler is asked rarely, so that some may have started.
        """
        now = self._clock()
        if now - self._read_at >= _EVERY:
            self._read_at = now
            for name, seen in list(self._cells.items()):
                text = _line_in(self._folder / name / PROGRESS)
                if text != seen.text and name in self._cells:
                    self._cells[name] = _Seen(text, now)
        fresh = {name: seen.text for name, seen in list(self._cells.items()) if seen.text and now - seen.since < _STALE}
        shown = list(fresh.values())
        if len(fresh) > _MOST_LINES:
            pages = -(-len(fresh) // _MOST_LINES)
            first = int(now / _TURN) % pages * _MOST_LINES
            shown = shown[first : first + _MOST_LINES]
            shown.append(f"and {len(fresh) - len(shown)} other cells")
        waiting = len(queued - fresh.keys())
        if waiting:
            shown.append(f"{counted(waiting, 'cell')} in the queue of the scheduler")
        return shown


def _line_in(path: Path) -> str:
    """The line in the file of a cell, fit for a terminal; empty if there is none."""
    try:
        opened = open_regular(path, os.O_RDONLY)
    except OSError:
        return ""
    try:
        content = os.read(opened, _MOST_BYTES)
    except OSError:
        return ""
    finally:
        os.close(opened)
    first = content.decode(errors="replace").split("\n")[0]
    return printable(first, _MOST_BYTES)
