"""Handling of signals: Ctrl-C, SIGTERM and SIGUSR1 end a run between two steps, SIGHUP at once, with how to resume."""

import contextlib
import os
import shlex
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from dal.config.allowed_code import allow_option
from dal.errors import DalError


class Interrupted(DalError):
    """Ctrl-C was pressed. All acknowledged work is on disk; the message gives the command to resume."""

    exit_code = 130


#: Exit code of a run that a scheduler stopped and may start again: EX_TEMPFAIL of sysexits.h.
RESUMABLE = 75


class Stopped(Interrupted):
    """A scheduler asked for the end, by SIGTERM or SIGUSR1. The same command resumes the run."""

    exit_code = RESUMABLE


class InterruptCheck:
    """Callable that raises `Interrupted` after Ctrl-C, and `Stopped` after SIGTERM or SIGUSR1.

    It is called between batches, never during a write.

    Attributes:
        again: advice for going on, with the exact command; None if nothing is kept.
        announce: called once before the first of these errors is raised, where the end takes a while.
    """

    announce: Callable[[], None] | None = None

    def __init__(self, folder: Path | None, command: str, again: str | None = None) -> None:
        if again is None and folder is not None:
            again = f"go on with: {shlex.join(['dal', command, '--resume', str(folder)])}{allow_option()}"
        self.again = again
        self.pressed = self._stopping = self._terminated = False

    def __call__(self) -> None:
        """Raise `Interrupted` or `Stopped` if a signal has arrived."""
        if self.pressed or self._stopping:
            announce, self.announce = self.announce, None
            if announce is not None:
                announce()
            how = self.again or "nothing was kept; the same command begins again"
            raise (Interrupted if self.pressed else Stopped)(f"stopped; {how}")

    def press(self, number: int, frame: FrameType | None) -> None:
        """Signal handler: the first Ctrl-C requests a clean stop, the second stops at once."""
        if self.pressed:
            raise KeyboardInterrupt
        self.pressed = True

    def stop(self, number: int, frame: FrameType | None) -> None:
        """Signal handler of schedulers: requests a clean stop. A second SIGTERM ends the process at once."""
        if number == signal.SIGTERM and self._terminated:
            _TerminationHandler(self.again or "")(number, frame)
        self._stopping = True
        self._terminated |= number == signal.SIGTERM


@contextmanager
def interruptible(folder: Path | None, *, command: str = "run", again: str | None = None) -> Iterator[InterruptCheck]:
    """Handle signals during the block: Lightning would turn them into an exit, and a partial fit must not be stored.

    Ctrl-C requests a clean stop, and so do SIGTERM and SIGUSR1 where the work can go on later.

    Args:
        folder: folder to resume, for the message.
        command: command of `dal` that resumes it.
        again: advice for going on where that needs no folder.
    """
    check = InterruptCheck(folder, command, again)
    if threading.current_thread() is not threading.main_thread():
        yield check
        return
    before = signal.signal(signal.SIGINT, check.press)
    try:
        with terminable(check.again), _replaced(_STOPPING if check.again else (), check.stop):
            yield check
    except SystemExit:  # by which Lightning ends a fit after SIGTERM
        check()
        raise
    finally:
        signal.signal(signal.SIGINT, before)


_STOPPING = ("SIGTERM", "SIGUSR1")  # by which schedulers announce the end
_ENDING = ("SIGTERM", "SIGHUP", "SIGUSR1")  # that end a process

#: Removes the line of a progress display from a terminal and shows the cursor again, which the display hides.
_CLEAN = b"\r\x1b[2K\x1b[?25h"


class _TerminationHandler:
    """Signal handler that writes how to resume, and ends the process as the signal would."""

    def __init__(self, how: str) -> None:
        self._line = f"dal: stopped; {how}\n".encode(errors="backslashreplace")

    def __call__(self, number: int, frame: FrameType | None) -> None:
        """Write the line and end the process. This is safe at any time: acknowledged work is on disk."""
        with contextlib.suppress(OSError):  # the terminal may be gone
            if os.isatty(1):
                os.write(1, _CLEAN)
            os.write(2, (_CLEAN if os.isatty(2) else b"") + self._line)
        announced = number == getattr(signal, "SIGUSR1", None)  # a scheduler is to start the command again
        os._exit(RESUMABLE if announced else 128 + number)


@contextmanager
def interrupt_terminates() -> Iterator[None]:
    """Let Ctrl-C end the process as SIGTERM does during the block, within `terminable`.

    For imports: Python and extension modules lose a KeyboardInterrupt there, or turn it into other errors.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    handler, before = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)
    if not isinstance(handler, _TerminationHandler) or before is not signal.default_int_handler:
        yield
        return
    signal.signal(signal.SIGINT, handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


@contextmanager
def terminable(how: str | None) -> Iterator[None]:
    """Write how to resume when the process is terminated or its terminal is closed during the block.

    Existing signal handlers, and signals ignored under `nohup`, are left unchanged.

    Args:
        how: text to write; None to do nothing.
    """
    if how is None or threading.current_thread() is not threading.main_thread():
        yield
        return
    with _replaced(_ENDING, _TerminationHandler(how)):
        yield


@contextmanager
def _replaced(names: Sequence[str], handler: Callable[[int, FrameType | None], None]) -> Iterator[None]:
    """Set the handler of signals during the block, except for those that others handle or ignore."""
    numbers = [getattr(signal, name) for name in names if hasattr(signal, name)]
    handlers = {number: signal.getsignal(number) for number in numbers}
    ours = {
        n: before
        for n, before in handlers.items()
        if before is signal.SIG_DFL or isinstance(before, _TerminationHandler)
    }
    for number in ours:
        signal.signal(number, handler)
    try:
        yield
    finally:
        for number, before in ours.items():
            signal.signal(number, before)
