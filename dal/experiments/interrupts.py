"""Ctrl-C: a run ends between two steps, with everything that was acknowledged on disk. Termination ends it at once."""

import os
import shlex
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from dal.config.allowed_code import allow_option
from dal.errors import DalError


class Interrupted(DalError):
    """Ctrl-C. Everything that was acknowledged is on disk; the message says how to go on."""

    exit_code = 130


class InterruptCheck:
    """Raises `Interrupted` when Ctrl-C was pressed; called between batches, never in the middle of a write."""

    def __init__(self, folder: Path | None, command: str) -> None:
        self._folder, self._command = folder, command
        self.pressed = False

    def __call__(self) -> None:
        """Raise where Ctrl-C was pressed."""
        if self.pressed:
            how = "nothing was kept; the same command begins again" if self._folder is None else self.again
            raise Interrupted(f"stopped; {how}")

    @property
    def again(self) -> str:
        """How to go on, with the exact command."""
        return f"go on with: {shlex.join(['dal', self._command, '--resume', str(self._folder)])}{allow_option()}"

    def press(self, number: int, frame: FrameType | None) -> None:
        """The handler: the first Ctrl-C asks for a clean stop, a second one does not wait."""
        if self.pressed:
            raise KeyboardInterrupt
        self.pressed = True


@contextmanager
def interruptible(folder: Path | None, *, command: str = "run") -> Iterator[InterruptCheck]:
    """Own Ctrl-C meanwhile: Lightning would turn it into an exit, and a half-finished fit must not be stored.

    Args:
        folder: what to go on with, as the message says.
        command: of `dal`, which does so.
    """
    check = InterruptCheck(folder, command)
    if threading.current_thread() is not threading.main_thread():
        yield check
        return
    before = signal.signal(signal.SIGINT, check.press)
    try:
        with terminable(None if folder is None else check.again):
            yield check
    finally:
        signal.signal(signal.SIGINT, before)


class _Farewell:
    """A signal handler that says how to go on and ends the process, as the signal would have done in silence."""

    def __init__(self, how: str) -> None:
        self._line = f"dal: stopped; {how}\n".encode(errors="backslashreplace")

    def __call__(self, number: int, frame: FrameType | None) -> None:
        """Write the line and end: what was acknowledged is on disk at every instant."""
        os.write(2, self._line)
        os._exit(128 + number)


@contextmanager
def terminable(how: str | None) -> Iterator[None]:
    """Say how to go on when a scheduler ends the process or its terminal goes away.

    Only where the signals would end the process: a program with handlers of its own, or under `nohup`, keeps them.

    Args:
        how: what to say; None for nothing.
    """
    numbers = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]
    if how is None or threading.current_thread() is not threading.main_thread():
        yield
        return
    handlers = {number: signal.getsignal(number) for number in numbers}
    ours = {n: before for n, before in handlers.items() if before is signal.SIG_DFL or isinstance(before, _Farewell)}
    for number in ours:
        signal.signal(number, _Farewell(how))
    try:
        yield
    finally:
        for number, before in ours.items():
            signal.signal(number, before)
