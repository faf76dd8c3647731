"""The handle of the trainer process, for the annotation service. Imports no PyTorch."""

import contextlib
import json
import logging
import os
import queue
import signal
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import IO, Any, TypeAlias

from dal.annotate.trainer_searches import TrainerSearches
from dal.store.bounded_json import parse_json

_log = logging.getLogger("dal")

#: Jobs on their way to the trainer; None ends its stdin.
Jobs: TypeAlias = "queue.SimpleQueue[dict[str, Any] | None]"

_MAX_LINE = 1 << 24  # bytes of a line of the trainer
_TAIL = 20  # lines of the trainer's stderr that are kept for the message about its end
_FIRST_PAUSE, _MAX_PAUSE = 0.5, 60.0  # seconds before the first restart without a finished job in between, and the last
_CLOSING = 1.0  # seconds that `close` gives the trainer to end by itself


class TrainerProcess:
    """Runs `dal.annotate.trainer` in a process of its own, and restarts it, with growing pauses, if it is killed.

    Jobs run one at a time. A job that waits is replaced by a newer one; the job of a killed trainer is repeated. The
    trainer ends with this process, even if that is killed.

    Args:
        folder: folder of the project.
        on_ranking: called with each ranking (`dal.annotate.ranker.Ranker.rank`, and "job"), in another thread.
        on_state: called with each new `state`, in another thread.
        code: folder with classes that the config names; None for installed packages only.
        command: command of the child process; None for the trainer.
        first_pause: seconds before the first restart; doubled at each further one until a job is finished.

    Example:
        >>> trainer = TrainerProcess(Path("ddi"), on_ranking=print, command=[sys.executable, "-c", "input()"])
        >>> trainer.state["state"]
        'starting'
        >>> trainer.close()
        >>> trainer.state["state"]
        'stopped'
    """

    def __init__(
        self,
        folder: Path,
        *,
        on_ranking: Callable[[dict[str, Any]], object],
        on_state: Callable[[dict[str, Any]], object] = lambda state: None,
        code: Path | None = None,
        command: Sequence[str] | None = None,
        first_pause: float = _FIRST_PAUSE,
    ) -> None:
        self._command = list(command) if command is not None else _trainer_command(Path(folder), code)
        self._on_ranking, self._on_state, self._first_pause = on_ranking, on_state, first_pause
        self._lock = threading.Lock()
        self._searches = TrainerSearches(self._lock)
        self._closed = threading.Event()
        self._state: dict[str, Any] = _state("starting")
        self._numbers = 0
        self._current: dict[str, Any] | None = None  # the job that the trainer works on
        self._waiting: dict[str, Any] | None = None
        self._failures = 0  # ends of the trainer since the last finished job
        self._process: subprocess.Popen[bytes] | None = None
        self._outgoing: Jobs = queue.SimpleQueue()
        self._ready = False
        self._supervisor = threading.Thread(target=self._supervise, name="dal-trainer", daemon=True)
        self._supervisor.start()

    @property
    def state(self) -> dict[str, Any]:
        """What the trainer does, as JSON values.

        "state" is "starting", "working", "idle", "failed" (the last job, or the process; "error" says why in one line)
        or "stopped"; "stage", "done", "total" and "left" (seconds) tell of the present work and may be None.
        """
        with self._lock:
            return dict(self._state)

    @property
    def process_id(self) -> int | None:
        """Id of the child process; None while none runs."""
        process = self._process
        return None if process is None else process.pid

    def request(self, event: int, n: int, keep: Sequence[str] = ()) -> int:
        """Ask for a ranking, and return the number of the job. Returns at once.

        Args:
            event: last event of the log that the ranking may know.
            n: number of texts to select.
            keep: ids that must not be selected, such as claimed ones.
        """
        with self._lock:
            self._numbers += 1
            self._waiting = {"job": self._numbers, "event": event, "n": n, "keep": list(keep)}
            number = self._numbers
            changed = self._send_waiting()
        self._report(changed)
        return number

    def search(self, text: str, n: int, timeout: float) -> dict[str, Any]:
        """Search for the texts that are most like a text.

        Args:
            text: the text.
            n: largest number of texts.
            timeout: seconds to wait; a later call with the same text goes on waiting for the same search.

        Returns:
            `{"found": [[id, cosine], ...]}`, most similar first, or `{"why": "one line", "again": bool}`: why there is
            no result, and whether a later call may have one.
        """
        with self._lock:
            is_open = self._ready and not self._closed.is_set()
            return self._searches.find(text, n, timeout, self._outgoing.put if is_open else None, self._without_result)

    def _without_result(self) -> dict[str, Any]:
        """Why a search has no result, by the present state, with the lock held."""
        name, stage = self._state["state"], self._state["stage"]
        if name == "failed" and not self._ready:
            return {"why": str(self._state["error"]), "again": True}
        at_work = "the model is at work" if stage is None else f"the model is {stage}"
        whys = {"starting": "the model is loading", "stopped": "no model is running", "working": at_work}
        return {"why": whys.get(name, "the model has not answered yet"), "again": name != "stopped"}

    def close(self) -> None:
        """End the trainer within two seconds. Calling it again has no effect."""
        with self._lock:
            self._closed.set()
            self._searches.end("no model is running", again=False)
            process = self._process
            self._outgoing.put(None)
            changed = self._change(_state("stopped"))
        if process is not None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(_CLOSING)
            _kill(process)
        self._report(changed)
        if threading.current_thread() is not self._supervisor:
            self._supervisor.join(_CLOSING)

    def __enter__(self) -> "TrainerProcess":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # -- the child process -------------------------------------------------------------------------------------------

    def _supervise(self) -> None:
        """Run the trainer again and again, until `close`."""
        while not self._closed.is_set():
            try:
                ended = self._run()
            except OSError as error:  # no memory for a process, too many files
                ended = f"the trainer could not be started: {error.strerror or error}"
            with self._lock:
                if self._closed.is_set():
                    return
                self._failures += 1
                pause = min(_MAX_PAUSE, self._first_pause * 2 ** min(self._failures - 1, 20))
                changed = self._change(_state("failed", error=f"{ended}; it starts again in {pause:.3g} s"))
            self._report(changed)
            if self._closed.wait(pause):
                return

    def _run(self) -> str:
        """Run the trainer to its end, and say how it ended."""
        with self._lock:
            if self._closed.is_set():
                return ""
            process = subprocess.Popen(
                self._command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env=_environment(),
                start_new_session=True,  # Ctrl-C of a terminal is for the parent; and the whole group can be killed
            )
            self._process = process
            outgoing = self._outgoing = queue.SimpleQueue()
            changed = self._change(_state("starting", error=self._state["error"]))
        self._report(changed)
        tail: deque[str] = deque(maxlen=_TAIL)
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None
        threads = [
            threading.Thread(target=self._read, args=(process.stdout,), name="dal-trainer-out", daemon=True),
            threading.Thread(target=_drain, args=(process.stderr, tail), name="dal-trainer-err", daemon=True),
            threading.Thread(target=_write, args=(process.stdin, outgoing), name="dal-trainer-in", daemon=True),
        ]
        for thread in threads:
            thread.start()
        code = process.wait()
        _kill(process)  # worker processes of its libraries, which hold its pipes open
        outgoing.put(None)
        for thread in threads:
            thread.join(_CLOSING)
        for pipe in (process.stdout, process.stderr):
            with contextlib.suppress(OSError, ValueError):
                pipe.close()
        with self._lock:
            self._process, self._ready = None, False
            self._searches.end("the model ended, and starts again", again=True)
            if self._waiting is None:
                self._waiting = self._current
            self._current = None
        return _ended(code, tail)

    def _read(self, stdout: IO[bytes]) -> None:
        """Handle the lines of the trainer."""
        while line := stdout.readline(_MAX_LINE + 1):
            if not line.endswith(b"\n"):
                if len(line) <= _MAX_LINE:
                    return  # the trainer ended in the middle of a line
                while line and not line.endswith(b"\n"):
                    line = stdout.readline(_MAX_LINE)
                self._fail(f"the trainer sent a line of more than {_MAX_LINE:,} bytes")
                continue
            try:
                message = parse_json(line)
            except ValueError:
                message = None
            if isinstance(message, dict):
                self._receive(message)
            else:
                self._fail("the trainer sent a line that cannot be read")

    def _receive(self, message: dict[str, Any]) -> None:
        ranking = None
        with self._lock:
            if self._closed.is_set():
                return
            if "search" in message:
                self._searches.receive(message)
                return
            number = message.get("job")
            if message.get("ready") is True:
                self._ready = True
                changed = self._send_waiting() or self._change(_state("idle"))
            elif number is None and "stage" in message and not self._ready:
                changed = self._change(_state("starting", message, error=self._state["error"]))
            elif self._current is None or number not in (None, self._current["job"]):
                return  # of a job that failed before, by a line that could not be read
            elif "stage" in message:
                changed = self._change(_state("working", message))
            else:
                error = message.get("error")
                if error is None and not _is_ranking(message):
                    error = "the trainer sent a ranking that cannot be read"
                ranking = message if error is None else None
                self._current, self._failures = None, 0
                changed = self._change(_state("idle") if error is None else _state("failed", error=str(error)))
                changed |= self._send_waiting()
        if ranking is not None:
            self._call(self._on_ranking, ranking)
        self._report(changed)

    def _fail(self, error: str) -> None:
        """Give up the present job because of a line that could not be read."""
        with self._lock:
            if self._closed.is_set():
                return
            self._current = None
            changed = self._change(_state("failed", error=error))
            changed |= self._send_waiting()
        self._report(changed)

    def _send_waiting(self) -> bool:
        """Send the waiting job to an idle trainer, with the lock held; return whether the state changed."""
        if not self._ready or self._current is not None or self._waiting is None or self._closed.is_set():
            return False
        self._current, self._waiting = self._waiting, None
        self._outgoing.put(self._current)
        return self._change(_state("working"))

    def _change(self, state: dict[str, Any]) -> bool:
        """Set the state, with the lock held; return whether it differs from the one before."""
        before, self._state = self._state, state
        return state != before

    def _report(self, changed: bool) -> None:
        """Call `on_state`, without the lock: a caller may hold one of its own while it makes a request."""
        if changed:
            self._call(self._on_state, self.state)

    def _call(self, function: Callable[[dict[str, Any]], object], value: dict[str, Any]) -> None:
        try:
            function(value)
        except Exception:  # the thread goes on with the next line
            _log.exception("what the trainer sent could not be used")


def _trainer_command(folder: Path, code: Path | None) -> list[str]:
    # -P keeps the working directory, which others may be able to write to, off the import path.
    command = [sys.executable, "-P", "-m", "dal.annotate.trainer", str(folder.absolute()), "--parent", str(os.getpid())]
    return command if code is None else [*command, "--allow-code", str(code)]


def _environment() -> dict[str, str]:
    from dal.config.allowed_code import safe_environment

    return safe_environment()


def _state(name: str, progress: Mapping[str, Any] | None = None, *, error: str | None = None) -> dict[str, Any]:
    given = progress or {}
    return {"state": name, **{key: given.get(key) for key in ("stage", "done", "total", "left")}, "error": error}


def _is_ranking(message: Mapping[str, Any]) -> bool:
    rows = message.get("rows")
    return (
        type(message.get("event")) is int
        and isinstance(rows, list)
        and all(isinstance(row, dict) and isinstance(row.get("id"), str) for row in rows)
    )


def _drain(stderr: IO[bytes], tail: "deque[str]") -> None:
    """Read stderr, so that the trainer never blocks on it, and keep its last lines."""
    for line in iter(lambda: stderr.readline(1 << 16), b""):
        if text := line.decode("utf-8", "replace").strip():
            tail.append(text)


def _write(stdin: IO[bytes], jobs: Jobs) -> None:
    """Send jobs, in a thread of its own, since a full pipe blocks; then close the pipe."""
    with contextlib.suppress(OSError), stdin:  # a trainer that has ended is noticed by the supervisor
        while (job := jobs.get()) is not None:
            stdin.write(json.dumps(job).encode() + b"\n")
            stdin.flush()


def _kill(process: "subprocess.Popen[bytes]") -> None:
    """Kill the process, if it runs, and what is left of its group."""
    if hasattr(os, "killpg"):
        with contextlib.suppress(OSError):
            os.killpg(process.pid, signal.SIGKILL)
    else:
        process.kill()
    process.wait()


def _ended(code: int, tail: Sequence[str]) -> str:
    """How the trainer ended, in words."""
    if code < 0:
        hint = ", as when memory runs out" if -code == getattr(signal, "SIGKILL", 9) else ""
        return f"the trainer was killed (signal {-code}{hint})"
    last = f": {tail[-1]}" if tail and code else ""
    return f"the trainer ended with exit code {code}{last[:300]}"
