"""Answering in a terminal with single keys, on the service, the queue and the log of the page."""

import time

from dal.annotate.keyboard import Key, Keyboard
from dal.annotate.labeling_session import LabelingSession
from dal.annotate.terminal_screen import (
    bar_lines,
    help_lines,
    status_line,
    styled,
    terminal_size,
    text_lines,
    tool_lines,
)
from dal.annotate.text_marks import cut

#: Seconds after a new text in which a key is ignored, since it was meant for the text before.
GUARD = 0.12
#: Columns of a text at most: longer lines are hard to read.
COLUMNS = 100
#: Characters of a note at most, as on the page.
MAX_NOTE = 4_000

_POLL, _POLL_WORKING, _POLL_WAITING = 15.0, 3.0, 0.5  # seconds between looks at the figures
_UNDO, _QUIT = "u", "q"  # commands unless a class is bound to the letter


class TerminalView:
    """The screen: the figures, the text, its classes and the keys.

    Args:
        session: the steps of the person.
        keyboard: the terminal.
    """

    def __init__(self, session: LabelingSession, keyboard: Keyboard) -> None:
        self._session, self._keyboard = session, keyboard
        self._top = 0  # first line of the text that is shown
        self._height = self._lines = 0  # of the text on the screen, and of the whole text
        self._shown_at = 0.0
        self._note: str | None = None  # what was typed of a note
        self._help = False

    def run(self) -> None:
        """Show texts and store answers until the person ends it."""
        self._new_text()
        while True:
            self._draw()
            key = self._keyboard.read(self._patience(), may_repeat=self._may_repeat)
            if key.name == "end":
                return
            if key.name == "suspend":
                self._keyboard.suspend()
            elif key.name == "":
                before = self._row_id()
                self._session.refresh()
                if self._row_id() != before:
                    self._new_text()
            elif key.name != "resize" and not self._handle(key):
                return

    def _patience(self) -> float:
        header = self._session.header
        if self._session.row is None and header.get("waiting"):
            return _POLL_WAITING
        return _POLL_WORKING if header["trainer"]["state"] in ("starting", "working") else _POLL

    def _may_repeat(self, name: str) -> bool:
        """Whether a key that is held does no harm, as in a note."""
        return self._note is not None or name == " " or (name == "backspace" and self._session.choice.typed != "")

    def _row_id(self) -> str | None:
        return None if self._session.row is None else self._session.row["id"]

    def _new_text(self) -> None:
        self._top, self._shown_at = 0, time.monotonic()
        self._keyboard.discard()

    # -- keys ----------------------------------------------------------------------------------------------------------

    def _handle(self, key: Key) -> bool:
        """Handle a key; False if the person ends it."""
        session = self._session
        session.tick()
        if self._note is not None:
            self._edit_note(key)
            return True
        if self._help:
            self._help = key.name in ("down", "up", "pagedown", "pageup", " ") and self._scroll(key.name)
            self._top = self._top if self._help else 0
            return True
        if key.name == "paste" or time.monotonic() - self._shown_at < GUARD:
            return True
        session.message = ""
        choice, name = session.choice, key.name
        if name == "backspace" and not choice.typed:
            self._moved(session.undo())
        elif name == "?":
            self._help, self._top = True, 0
        elif (command := self._command(name)) is not None:
            return self._run(command)
        elif session.row is None:
            pass
        elif (
            name in ("pagedown", "pageup")
            or (name == " " and not choice.typed)
            or (name in ("down", "up") and not choice.many)
        ):
            self._scroll(name)
        else:
            classes = choice.key(name)
            session.message = choice.warning
            if classes is not None:
                self._moved(session.answer(classes))
        return True

    def _command(self, name: str) -> str | None:
        """The command of a letter. With more than nine classes letters search, and capitals are commands."""
        letter = name.lower()
        if len(name) != 1 or (self._session.choice.many and not name.isupper()):
            return None
        if letter in (_UNDO, _QUIT):
            return None if any(each["letter"] == letter for each in self._session.classes) else letter
        return letter if letter in "sdfh" else None

    def _run(self, command: str) -> bool:
        session = self._session
        if command == _QUIT:
            return False
        if command == _UNDO:
            self._moved(session.undo())
        elif session.row is None:
            pass
        elif command == "s":
            self._moved(session.skip("later"))
        elif command == "d":
            self._moved(session.skip("decline"))
        elif command == "f":
            self._note = ""
        else:
            session.toggle_hints()
        return True

    def _moved(self, done: bool) -> None:
        if done or self._session.row is None:
            self._new_text()

    def _edit_note(self, key: Key) -> None:
        assert self._note is not None
        if key.name == "enter":
            text, self._note = self._note.strip(), None
            if text:
                self._session.flag(text)
        elif key.name == "escape":
            self._note = None
        elif key.name == "backspace":
            self._note = self._note[:-1]
        elif key.name == "paste" or len(key.name) == 1:
            self._note = (self._note + (key.text or key.name))[:MAX_NOTE]

    def _scroll(self, name: str) -> bool:
        step = {"down": 1, "up": -1, "pageup": -self._page}.get(name, self._page)
        self._top = max(0, min(self._top + step, self._lines - self._height))
        return True

    @property
    def _page(self) -> int:
        return max(1, self._height - 2)

    # -- drawing -------------------------------------------------------------------------------------------------------

    def _draw(self) -> None:
        """Draw the whole screen in one piece."""
        session, size = self._session, terminal_size()
        columns, rows = max(20, size[0]), max(8, size[1])
        head = [status_line(session, columns), ""]
        foot = [*bar_lines(session, columns, rows), *tool_lines(session, self._note, columns)]
        body = help_lines(session, columns) if self._help else text_lines(session, min(columns, COLUMNS))
        self._height, self._lines = max(1, rows - len(head) - len(foot) - 1), len(body)
        self._top = max(0, min(self._top, self._lines - self._height))
        visible = body[self._top : self._top + self._height]
        left = self._lines - self._top - self._height
        words = f"... {left:,} more {'line' if left == 1 else 'lines'}: Space"
        more = styled(cut(words, columns), "bold") if left > 0 else ""
        lines = [*head, *visible, *[""] * (self._height - len(visible)), more, *foot]
        self._keyboard.write("\x1b[H" + "\x1b[K\r\n".join(lines[:rows]) + "\x1b[J")
