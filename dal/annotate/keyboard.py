"""Single keys of a terminal: raw mode that is restored at any end, named keys, pastes, and keys that are held."""

import contextlib
import os
import select
import signal
import sys
import time
from collections import deque
from collections.abc import Callable
from types import FrameType
from typing import Any, NamedTuple, Self

_NAMES = {
    "\r": "enter", "\n": "enter", "\x7f": "backspace", "\x08": "backspace", "\x03": "end", "\x04": "end",
    "\x1c": "end", "\x1a": "suspend", "\x1b": "escape", "\t": "tab", "\x0c": "resize",
}  # fmt: skip
_SEQUENCES = {
    "[A": "up", "[B": "down", "[C": "right", "[D": "left", "OA": "up", "OB": "down", "OC": "right", "OD": "left",
    "[5~": "pageup", "[6~": "pagedown", "[H": "home", "[F": "last", "[1~": "home", "[4~": "last", "[3~": "delete",
}  # fmt: skip

_ENTER = "\x1b[?1049h\x1b[?2004h\x1b[?25l"  # another screen, pastes with marks around them, no cursor
_LEAVE = "\x1b[?25h\x1b[?2004l\x1b[?1049l"
_ESCAPE_SECONDS = 0.05  # within which the rest of a sequence arrives; later it was the key Escape
_AGAIN_SECONDS = 1.0  # a key pressed again sooner may be one that is held
_REPEAT_SECONDS = 0.12  # longest gap between the repetitions of a key that is held
_PASTE = b"\x1b[200~"  # what follows is text and no keys, however slowly it arrives
_MAX_PASTE = 100_000


def has_keys() -> bool:
    """Whether stdin and stdout are a terminal whose single keys can be read."""
    if sys.stdin is None or sys.stdout is None or not (sys.stdin.isatty() and sys.stdout.isatty()):
        return False
    try:
        import termios  # noqa: F401
    except ImportError:  # Windows
        return False
    return os.environ.get("TERM", "dumb") != "dumb"


class Key(NamedTuple):
    """A key: a character, or the name of another key; "paste" has the `text`, and "" stands for no key in time."""

    name: str
    text: str = ""


class Keyboard:
    """The keys of a terminal, as a context in which the screen belongs to the program.

    In raw mode Ctrl-C is a key ("end"). The terminal is restored when the context ends, also by an exception, and when
    the process is terminated by SIGTERM or SIGHUP. Not on Windows, see `has_keys`.

    Args:
        source: file descriptor of the terminal that keys are read from.
        screen: file descriptor of the terminal that is written to.
    """

    def __init__(self, source: int = 0, screen: int = 1) -> None:
        self._source, self._screen = source, screen
        self._saved: Any = None
        self._handlers: dict[int, Any] = {}
        self._waiting: deque[Key] = deque()
        self._bytes = b""
        self._wake: tuple[int, int] | None = None
        self._last, self._last_at, self._held = "", 0.0, False

    # -- mode ----------------------------------------------------------------------------------------------------------

    def __enter__(self) -> Self:
        self._wake = os.pipe()
        for end in self._wake:
            os.set_blocking(end, False)
        self._handlers[signal.SIGWINCH] = signal.signal(signal.SIGWINCH, self._resized)
        for number in (signal.SIGTERM, signal.SIGHUP):
            if signal.getsignal(number) is not signal.SIG_IGN:
                self._handlers[number] = signal.signal(number, self._terminated)
        self._enter()
        return self

    def __exit__(self, *error: object) -> None:
        self._leave()
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
        self._handlers.clear()
        if self._wake is not None:
            for end in self._wake:
                os.close(end)
            self._wake = None

    def _enter(self) -> None:
        import termios
        import tty

        self._saved = termios.tcgetattr(self._source)
        tty.setraw(self._source, termios.TCSADRAIN)
        self.write(_ENTER)

    def _leave(self) -> None:
        """Restore the terminal. Safe in a signal handler, and when it was restored before."""
        with contextlib.suppress(OSError):
            os.write(self._screen, _LEAVE.encode())
        if self._saved is not None:
            import termios

            with contextlib.suppress(termios.error, OSError):
                termios.tcsetattr(self._source, termios.TCSAFLUSH, self._saved)
            self._saved = None

    def _resized(self, number: int, frame: FrameType | None) -> None:
        if self._wake is not None:
            with contextlib.suppress(OSError):
                os.write(self._wake[1], b"w")

    def _terminated(self, number: int, frame: FrameType | None) -> None:
        self._leave()
        before = self._handlers.get(number)
        if callable(before):
            before(number, frame)
        signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)

    def suspend(self) -> None:
        """Stop the process as Ctrl-Z does, with the terminal restored, until it is continued."""
        self._leave()
        os.kill(os.getpid(), signal.SIGTSTP)
        self._enter()

    def write(self, text: str) -> None:
        """Write to the terminal, in its encoding, with escapes for what it lacks."""
        encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
        left = text.encode(encoding, "backslashreplace")
        while left:
            left = left[os.write(self._screen, left) :]

    # -- keys ----------------------------------------------------------------------------------------------------------

    def discard(self) -> None:
        """Forget the keys that were pressed and not read, which were meant for an earlier text."""
        while self._available(0.0) and self._fill():
            pass
        self._waiting.clear()
        self._bytes = b""

    def read(self, timeout: float, *, may_repeat: Callable[[str], bool] = lambda name: False) -> Key:
        """The next key, or one with the name "" after `timeout` seconds. Repetitions of a key that is held are dropped.

        A terminal does not tell a key that is held from one that is pressed again. What comes soon after the same key
        waits for a moment: if the key comes a third time, it is held.

        Args:
            timeout: seconds to wait for a key.
            may_repeat: whether a key may be held.
        """
        end = time.monotonic() + timeout
        while True:
            key = self._next(max(0.0, end - time.monotonic()))
            now = time.monotonic()
            if may_repeat(key.name) or (len(key.name) != 1 and key.name not in ("enter", "backspace")):
                return key
            same, gap = key.name == self._last, now - self._last_at
            self._last, self._last_at = key.name, now
            if not same or gap > _AGAIN_SECONDS:
                self._held = False
                return key
            if self._held and gap <= 2 * _REPEAT_SECONDS:
                continue
            self._held = False
            following = self._next(_REPEAT_SECONDS)
            if following.name == key.name:
                self._held, self._last_at = True, time.monotonic()
                continue
            if following.name:
                self._waiting.appendleft(following)
            return key

    def _next(self, timeout: float) -> Key:
        """The next key as it was pressed."""
        end = time.monotonic() + timeout
        while not self._waiting:
            left = end - time.monotonic()
            if not self._available(max(0.0, left)):
                if self._bytes and not self._bytes.startswith(_PASTE):  # the beginning of a sequence that did not go on
                    self._waiting.extend(_keys_of(self._bytes, final=True)[0])
                    self._bytes = b""
                    continue
                return Key("")
            if not self._fill():
                return Key("end")
        return self._waiting.popleft()

    def _available(self, timeout: float) -> bool:
        """Whether something can be read. A beginning of a sequence is not waited for any longer."""
        if self._bytes and not self._bytes.startswith(_PASTE):
            timeout = min(timeout, _ESCAPE_SECONDS) if timeout else timeout
        assert self._wake is not None
        ready, _, _ = select.select([self._source, self._wake[0]], [], [], timeout)
        if self._wake[0] in ready:
            with contextlib.suppress(OSError):
                os.read(self._wake[0], 1024)
            self._waiting.append(Key("resize"))
        return bool(ready)

    def _fill(self) -> bool:
        """Read what is there into keys; False at the end of the input."""
        ready, _, _ = select.select([self._source], [], [], 0)
        if not ready:
            return True  # only the size of the terminal changed
        try:
            given = os.read(self._source, 65_536)
        except OSError:  # the terminal is gone
            given = b""
        if not given:
            return False
        keys, self._bytes = _keys_of(self._bytes + given)
        self._waiting.extend(keys)
        return True


def _keys_of(given: bytes, *, final: bool = False) -> tuple[list[Key], bytes]:
    """The keys of bytes from a terminal, and the bytes of a key that is not complete; with `final` there are none."""
    keys: list[Key] = []
    text = given.decode("utf-8", "surrogateescape")
    place = 0
    while place < len(text):
        char = text[place]
        if char == "\x1b":
            rest = text[place + 1 :]
            if rest.startswith("[200~"):
                stop = rest.find("\x1b[201~")
                if stop < 0 and not final and len(rest) < _MAX_PASTE:
                    break
                inside = rest[5:] if stop < 0 else rest[5:stop]
                keys.append(Key("paste", inside.replace("\r", "\n")))
                place = len(text) if stop < 0 else place + 1 + stop + 6
                continue
            length = _sequence_length(rest)
            if length is None:
                if not final:
                    break
                length = len(rest)
            name = "escape" if length == 0 else _SEQUENCES.get(rest[:length])
            keys += [] if name is None else [Key(name)]
            place += 1 + length
            continue
        if "\udc80" <= char <= "\udcff":  # an incomplete or invalid character
            if not final and len(text) - place < 4 and all("\udc80" <= each <= "\udcff" for each in text[place:]):
                break
            place += 1
            continue
        place += 1
        if char in _NAMES:
            keys.append(Key(_NAMES[char]))
        elif char.isprintable():
            keys.append(Key(char))
    return keys, text[place:].encode("utf-8", "surrogateescape")


def _sequence_length(rest: str) -> int | None:
    """Length of a control sequence after its Escape; 0 if it is only the key, None if it may go on."""
    if not rest:
        return None
    if rest[0] == "O":
        return 2 if len(rest) > 1 else None
    if rest[0] != "[":
        return 1  # Alt and a key, which means nothing here
    for place, char in enumerate(rest[1:], 1):
        if "@" <= char <= "~":
            return place + 1
    return None
