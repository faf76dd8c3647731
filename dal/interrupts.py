"""Ctrl-C: a run ends between two steps, with everything that was acknowledged on disk."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from dal.config.importing import allow_option
from dal.errors import DalError


class Interrupted(DalError):
    """Ctrl-C. Everything that was acknowledged is on disk; the message says how to go on."""

    exit_code = 130


class Check:
    """Raises `Interrupted` when Ctrl-C was pressed; called between batches, never in the middle of a write."""

    def __init__(self, folder: Path | None, command: str) -> None:
        self._folder, self._command = folder, command
        self.pressed = False

    def __call__(self) -> None:
        """Raise where Ctrl-C was pressed."""
        if self.pressed:
            again = f"go on with: dal {self._command} --resume {self._folder}{allow_option()}"
            how = "nothing was kept" if self._folder is None else again
            raise Interrupted(f"stopped; {how}")

    def press(self, number: int, frame: FrameType | None) -> None:
        """The handler: the first Ctrl-C asks for a clean stop, a second one does not wait."""
        if self.pressed:
            raise KeyboardInterrupt
        self.pressed = True


@contextmanager
def interruptible(folder: Path | None, *, command: str = "run") -> Iterator[Check]:
    """Own Ctrl-C meanwhile: Lightning would turn it into an exit, and a half-finished fit must not be stored.

    Args:
        folder: what to go on with, as the message says.
        command: of `dal`, which does so.
    """
    check = Check(folder, command)
    if threading.current_thread() is not threading.main_thread():
        yield check
        return
    before = signal.signal(signal.SIGINT, check.press)
    try:
        yield check
    finally:
        signal.signal(signal.SIGINT, before)
