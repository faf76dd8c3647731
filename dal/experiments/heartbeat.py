"""Signs of life of long work in a log: a line whenever nothing was printed for ten seconds."""

import threading
import time
from collections.abc import Callable, Sequence

from dal.monitor import Monitor

#: Seconds without a line after which one says what is being done.
SILENCE = 10.0

_INDENT = "  ... "


class Heartbeat:
    """Says what long work is doing, how much of it is done and how long the rest may take.

    Args:
        write: prints a line.
        silence: seconds without a line after which one is printed.
        clock: time in seconds.
    """

    def __init__(
        self, write: Callable[[str], None], silence: float = SILENCE, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._write, self._silence, self._clock = write, silence, clock
        self._lock = threading.Lock()
        self._last = self._began = self._planned = self._part_ended = clock()
        self._stage = ""
        self._work: tuple[str, int] | None = None
        self._done = 0
        self._parts, self._parts_done, self._noun, self._at_once = 0, 0, "", 1
        self._details: Callable[[], Sequence[str]] = tuple
        self._stopped: threading.Event | None = None

    def start(self) -> None:
        """Print from a thread as well, since not all work reports its progress."""
        if self._stopped is None:
            self._stopped = threading.Event()
            threading.Thread(target=self._run, args=(self._stopped,), name="dal-heartbeat", daemon=True).start()

    def stop(self) -> None:
        """End the thread."""
        if self._stopped is not None:
            self._stopped.set()
            self._stopped = None

    def _run(self, stopped: threading.Event) -> None:
        while not stopped.wait(min(1.0, self._silence / 4)):
            self.beat()

    def printed(self) -> None:
        """Note that a line was printed, by whatever part of the program."""
        self._last = self._clock()

    def stage(self, text: str) -> None:
        """Begin a stage, such as "loading the data"."""
        self._stage, self._work, self._began = text, None, self._clock()
        self._details = tuple

    def watch(self, details: Callable[[], Sequence[str]]) -> None:
        """Print further lines with each line of the stage, such as those of other processes."""
        self._details = details

    def plan(self, parts: int, noun: str, at_once: int = 1) -> None:
        """Set how many parts the whole work has, such as 24 "rounds", and how many of them run at the same time."""
        self._parts, self._parts_done, self._noun, self._at_once = parts, 0, noun, at_once
        self._planned = self._part_ended = self._clock()

    def part_done(self) -> None:
        """Count a part of the whole work."""
        self._parts_done += 1
        self._part_ended = self._clock()

    def parts_dropped(self, count: int) -> None:
        """Take parts that will not be computed out of the plan."""
        self._parts -= count

    def work(self, what: str, total: int) -> None:
        """Begin counted work within the stage, such as a pass over 8,000 rows."""
        self._work, self._done, self._began = (what, total), 0, self._clock()

    def advanced(self, count: int) -> None:
        """Count work that is done."""
        self._done += count
        self.beat()

    def finished(self) -> None:
        """End the counted work."""
        self._work = None

    def beat(self) -> None:
        """Print a line if nothing was printed for long enough."""
        with self._lock:
            if not (self._stage or self._work) or self._clock() - self._last < self._silence:
                return
            self._last = self._clock()
            text = self.text()
        self._write("\n".join([text, *(f"{_INDENT}{line}" for line in self._details())]))

    def text(self) -> str:
        """The line: the stage, the work within it, and what is left of the whole."""
        now = self._clock()
        parts = [self._stage] if self._stage else []
        if self._work is not None:
            what, total = self._work
            parts.append(f"{what}, {self._done:,} of {total:,}")
        doing = ": ".join(parts) + f" ({duration(now - self._began)})"
        if not self._parts:
            return f"{_INDENT}{doing}"
        left = f"{self._parts_done} of {self._parts} {self._noun} done"
        if 0 < self._parts_done < self._parts:
            # Estimated when a part ends; falls while the next one runs, by the time that one takes at most.
            took, remaining = self._part_ended - self._planned, self._parts - self._parts_done
            rest = seconds_left(took, self._parts_done, remaining, self._at_once)
            rest -= min(now - self._part_ended, rest / remaining)
            left += f", about {duration(rest)} left"
        return f"{_INDENT}{doing}; {left}"


def seconds_left(took: float, done: int, left: int, at_once: int = 1) -> float:
    """Estimated seconds that the rest of some work takes, at the moment at which a part ends.

    Args:
        took: seconds so far.
        done: number of parts that are done, at least 1.
        left: number of parts that are not.
        at_once: number of parts that run at the same time; the others are taken for half done.
    """
    half_done = min(at_once - 1, left) / 2
    return took / (done + half_done) * (left - half_done)


class CheckingMonitor(Monitor):
    """Monitor that calls a function, which may raise to interrupt the work, whenever it advances.

    Args:
        check: the function.
    """

    def __init__(self, check: Callable[[], None]) -> None:
        self._check = check

    def started(self, what: str, total: int) -> None:
        """Check."""
        self._check()

    def advanced(self, count: int) -> None:
        """Check."""
        self._check()


class CountingMonitor(CheckingMonitor):
    """Monitor that counts fits and passes in a heartbeat.

    Args:
        check: function that may raise to interrupt the work.
        heartbeat: heartbeat that says how much is done.
        say: prints a line.
    """

    def __init__(self, check: Callable[[], None], heartbeat: Heartbeat, say: Callable[[str], None]) -> None:
        super().__init__(check)
        self._heartbeat, self._say = heartbeat, say

    def started(self, what: str, total: int) -> None:
        """Begin counted work."""
        super().started(what, total)
        self._heartbeat.work(what, total)

    def advanced(self, count: int) -> None:
        """Count work that is done."""
        self._heartbeat.advanced(count)
        super().advanced(count)

    def halved(self, token_budget: int) -> None:
        """Print the smaller budget."""
        self._say(halved_text(token_budget))

    def finished(self) -> None:
        """End the counted work."""
        self._heartbeat.finished()


def halved_text(token_budget: int) -> str:
    """The line about a pass that ran out of memory."""
    return f"out of memory: going on with {token_budget} tokens per batch"


def duration(seconds: float) -> str:
    """Format a duration in seconds: 45 s, 12 min 20 s, 2 h 30 min.

    Minutes are stated with tens of seconds, so that two lines of a log, ten seconds apart, never state the same time.
    """
    if round(seconds) < 60:
        return f"{seconds:.0f} s"
    tens = 10 * round(seconds / 10)
    total, large, small = (tens, "min", "s") if tens < 3600 else (round(seconds / 60), "h", "min")
    return f"{total // 60} {large}" + f" {total % 60} {small}" * bool(total % 60)
