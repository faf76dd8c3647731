"""A `dal` command in a pseudo-terminal: its screen, keys as a person presses them, and how it ends."""

import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from pathlib import Path
from typing import Any

#: Time between two keys of a person, in seconds. Faster ones are taken for a key that is held.
PACE = 0.3


class TerminalProcess:
    """A process whose terminal is read and typed into.

    Args:
        arguments: those of `dal`.
        size: columns and lines of the terminal.
    """

    def __init__(self, *arguments: object, size: tuple[int, int] = (80, 24), cwd: Path | None = None) -> None:
        self.master, self.slave = pty.openpty()
        self.resize(*size, tell=False)
        self.before = termios.tcgetattr(self.slave)
        self.written = ""
        self.process = subprocess.Popen(
            [sys.executable, "-m", "dal", *map(str, arguments)],
            stdin=self.slave,
            stdout=self.slave,
            stderr=self.slave,
            env={**os.environ, "TERM": "xterm-256color", "PYTHONIOENCODING": "utf-8"},
            cwd=cwd,
            start_new_session=True,
            # A shell starts what it runs in the background with Ctrl-C ignored, and a child would inherit that.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )

    def __enter__(self) -> "TerminalProcess":
        return self

    def __exit__(self, *error: object) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self.master)
        os.close(self.slave)

    def resize(self, columns: int, lines: int, *, tell: bool = True) -> None:
        fcntl.ioctl(self.slave, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))
        if tell:
            self.process.send_signal(signal.SIGWINCH)

    def read(self, seconds: float = 0.0) -> None:
        """Read what the process writes, until it pauses."""
        while select.select([self.master], [], [], seconds)[0]:
            self.written += os.read(self.master, 65_536).decode("utf-8", "replace")
            seconds = 0.05

    @property
    def screen(self) -> str:
        """The last screen without its styles."""
        return without_styles(self.written.rpartition("\x1b[H")[2])

    def wait_for(self, words: str, timeout: float = 60.0) -> str:
        """Wait until the screen has these words, and return it."""
        end = time.monotonic() + timeout
        while words not in self.screen:
            assert time.monotonic() < end, f"{words!r} is not on the screen:\n{self.screen}"
            assert self.process.poll() is None or words in self.screen, f"ended:\n{self.written[-2000:]}"
            self.read(0.1)
        self.read()
        return self.screen

    def type(self, keys: str, *, pace: float = PACE) -> None:
        """Press keys, one after the other, as slowly as a person."""
        for key in keys:
            time.sleep(pace)
            self.send(key)

    def send(self, text: str) -> None:
        """Send text at once, such as a paste or the sequence of a key."""
        os.write(self.master, text.encode())
        self.read(0.05)

    def end(self, timeout: float = 60.0) -> int:
        """Wait for the end of the process and return its exit code."""
        stop = time.monotonic() + timeout
        while self.process.poll() is None:
            assert time.monotonic() < stop, f"the process goes on:\n{self.screen}"
            self.read(0.1)
        self.read(0.1)
        return self.process.returncode

    @property
    def is_restored(self) -> bool:
        """Whether the modes of the terminal are those from before the process, and its screen was left."""
        now: Any = termios.tcgetattr(self.slave)
        left = self.written.rpartition("\x1b[?1049l")
        return now == self.before and bool(left[1]) and "\x1b[?1049h" not in left[2]


def without_styles(text: str) -> str:
    """Text of a terminal without escape sequences."""
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text).replace("\r\n", "\n")
