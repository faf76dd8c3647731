"""The trainer process: trains on a snapshot of the answers of a folder, and says which texts to answer next.

    python -m dal.annotate.trainer FOLDER

One JSON object a line. A job on stdin:

    {"job": 7, "event": 123, "n": 30, "keep": ["id", ...]}

(`dal.annotate.ranker.RankingJob`), and on stdout, which nothing else writes to, any number of progress lines and then a
ranking or an error:

    {"job": 7, "stage": "selecting the texts", "done": 100, "total": 5000, "left": 12.5}
    {"job": 7, "event": 123, "strategy": "Margin", "reason": "", "rows": [...], "stop": null, "figures": {...}, ...}
    {"job": 7, "error": "one line"}

(`dal.annotate.ranker.Ranker.rank`). Lines without a job (null) tell of the start, and {"job": null, "ready": true}
says that the libraries are loaded. "done" and "total" are null where work is not counted; "left" is the number of
seconds that it will go on, as its pace so far says, or null. A search for texts like a given one

    {"search": 3, "text": "bleeding after aspirin", "n": 20}

is answered after the jobs before it, by ids with cosines, most similar first, or by an error:

    {"search": 3, "found": [["id", 0.83], ...]}
    {"search": 3, "error": "one line"}

The folder is only read. The process ends at the end of stdin and when its parent has ended.

The imports of this module are light: what watches the parent must run before PyTorch is imported, which takes seconds.
"""

import argparse
import json
import os
import queue
import signal
import sys
import threading
import time
import traceback
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Any

from dal.errors import DalError, one_line
from dal.monitor import Monitor
from dal.store.bounded_json import parse_json
from dal.store.parent_process import end_with_parent

_INTERVAL = 0.25  # seconds between two progress lines
_NICENESS = 10
_LEAST_TIMED = 2.0  # seconds of work from which its pace is known
#: Stage in which texts are read and embedded.
READING = "reading the texts"
_WORK = {
    "fit": "training the model",
    "pass": "running the model over the texts",
    "adaptation": "adapting the encoder to the texts",
}


class Progress(Monitor):
    """Sends messages, and of the progress of a job the newest state, at most 4 times a second.

    Args:
        file: receives the lines of the protocol.
    """

    def __init__(self, file: IO[str]) -> None:
        self._file, self._lock = file, threading.Lock()
        self._job: int | None = None
        self._stage, self._work = "", ""
        self._done: int | None = None
        self._total: int | None = None
        self._since = 0.0  # start of the counted work
        self._changed = False
        threading.Thread(target=self._send_states, name="dal-trainer-progress", daemon=True).start()

    def begin(self, job: int | None) -> None:
        """Begin to report the progress of a job; None for the start of the process."""
        with self._lock:
            self._job, self._stage, self._work, self._done, self._total = job, "", "", None, None

    def stage(self, text: str) -> None:
        """Begin a stage of the job, such as "reading the texts"."""
        self._set(text, "", None, None)

    def started(self, what: str, total: int) -> None:
        """Begin counted work within the stage."""
        self._since = time.monotonic()
        self._set(self._stage, "" if self._stage == READING else _WORK.get(what, what), 0, total)

    def advanced(self, count: int) -> None:
        """Count work that is done."""
        self._set(self._stage, self._work, (self._done or 0) + count, self._total)

    def finished(self) -> None:
        """End the counted work."""
        self._set(self._stage, "", None, None)

    def _set(self, stage: str, work: str, done: int | None, total: int | None) -> None:
        with self._lock:
            self._stage, self._work, self._done, self._total = stage, work, done, total
            self._changed = True

    def send(self, message: Mapping[str, Any]) -> None:
        """Send a message that ends the job; no progress line of it follows."""
        line = json.dumps(message, allow_nan=False)
        with self._lock:
            self._changed = False
            self._write(line)

    def _send_states(self) -> None:
        while True:
            threading.Event().wait(_INTERVAL)
            with self._lock:
                if self._changed:
                    self._changed = False
                    stage = f"{self._stage}: {self._work}" if self._work else self._stage
                    state = {"job": self._job, "stage": stage, "done": self._done, "total": self._total}
                    self._write(json.dumps(state | {"left": self._left()}))

    def _left(self) -> float | None:
        """Seconds that the counted work will go on at its pace so far; None if that is not known."""
        passed = time.monotonic() - self._since
        if not self._done or not self._total or passed < _LEAST_TIMED:
            return None
        return round(passed * max(0, self._total - self._done) / self._done, 1)

    def _write(self, line: str) -> None:
        try:
            self._file.write(line + "\n")
            self._file.flush()
        except OSError:  # the parent has closed its end: nobody waits for a ranking any more
            os._exit(0)


def main(arguments: list[str] | None = None) -> int:
    """Run jobs from stdin until it ends.

    Returns:
        The exit code: 1 if the libraries cannot be loaded.
    """
    parser = argparse.ArgumentParser("python -m dal.annotate.trainer", allow_abbrev=False)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--parent", type=int, help="process id of the parent; by default the present one")
    parser.add_argument("--allow-code", type=Path, help="folder with classes that the config names")
    options = parser.parse_args(arguments)
    end_with_parent(options.parent)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, which ends this process
    signal.signal(signal.SIGTERM, signal.SIG_DFL)  # nothing is lost by an end at once
    if hasattr(os, "nice"):
        os.nice(_NICENESS)
    # Libraries print to stdout: their lines go to stderr, and the protocol has a descriptor of its own.
    progress = Progress(os.fdopen(os.dup(1), "w", encoding="utf-8"))
    os.dup2(2, 1)
    lines: queue.SimpleQueue[bytes] = queue.SimpleQueue()
    threading.Thread(target=_read_lines, args=(lines,), name="dal-trainer-stdin", daemon=True).start()
    progress.stage("loading the libraries")
    try:
        from dal.annotate.ranker import Ranker
        from dal.config.allowed_code import restricted_imports

        with restricted_imports(options.allow_code):
            ranker = Ranker(options.folder, progress, progress.stage)
            progress.send({"job": None, "ready": True})
            while True:
                _work_off(ranker, progress, lines.get())
    except Exception as error:
        print(_line_of(error), file=sys.stderr)  # the last line of stderr is shown by the parent
        return 1


def _read_lines(lines: "queue.SimpleQueue[bytes]") -> None:
    """Pass on the lines of stdin, and end the process with it, whatever it is doing."""
    for line in iter(sys.stdin.buffer.readline, b""):
        lines.put(line)
    os._exit(0)


def _work_off(ranker: Any, progress: Progress, line: bytes) -> None:
    """Do a job or a search, and send its result or its error."""
    name, number = "job", None
    try:
        given = parse_json(line)
        if isinstance(given, dict):
            name = "search" if "search" in given else "job"
            number = given.get(name)
        if name == "search":
            progress.begin(None)
            message = {name: number, "found": ranker.search(*_search_fields(given))}
        else:
            message = {name: number, **_ranking(ranker, progress, given)}
    except Exception as error:
        message = {name: number if isinstance(number, int) else None, "error": _line_of(error)}
    progress.send(message)


def _ranking(ranker: Any, progress: Progress, given: Any) -> dict[str, Any]:
    from dal.annotate.ranker import RankingJob

    job = RankingJob(*_fields(given))
    progress.begin(job.number)
    ranking: dict[str, Any] = ranker.rank(job)
    return ranking


def _search_fields(given: dict[str, Any]) -> tuple[str, int]:
    """The text and the number of texts of a search, checked."""
    text, n = given.get("text"), given.get("n")
    if type(given["search"]) is not int or not isinstance(text, str) or type(n) is not int or n < 1:
        raise DalError("a search has a number, a text, and a number of texts from 1")
    return text, n


def _fields(given: Any) -> Iterator[Any]:
    """The values of a job, checked."""
    if not isinstance(given, dict):
        raise DalError("a job is a JSON object")
    for name, least in (("job", 0), ("event", 0), ("n", 1)):
        value = given.get(name)
        if type(value) is not int or value < least:
            raise DalError(f"{name} must be a whole number from {least}, not {value!r}")
        yield value
    keep = given.get("keep", [])
    if not isinstance(keep, list) or not all(isinstance(id, str) for id in keep):
        raise DalError("keep must be a list of ids")
    yield keep


def _line_of(error: Exception) -> str:
    """The error as one line; an unexpected one with its class, and with its traceback on stderr."""
    if isinstance(error, DalError):
        return one_line(error)
    traceback.print_exception(error, file=sys.stderr)
    return f"{type(error).__name__}: {one_line(error)}"


if __name__ == "__main__":
    sys.exit(main())
