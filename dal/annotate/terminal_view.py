"""Answering in a terminal with single keys, on the service, the queue and the log of the page."""

import os
import time
from collections.abc import Sequence

from dal.annotate.class_choice import FEW
from dal.annotate.keyboard import Key, Keyboard
from dal.annotate.labeling_session import LabelingSession
from dal.annotate.status_words import empty_words, status_words
from dal.annotate.text_marks import Cell, cells, cut, marked, width, wrapped

#: Seconds after a new text in which a key is ignored, since it was meant for the text before.
GUARD = 0.12
#: Columns of a text at most: longer lines are hard to read.
COLUMNS = 100
#: Characters of a note at most, as on the page.
MAX_NOTE = 4_000

_STYLES = {"": "", "mark": "\x1b[7m", "unread": "\x1b[2m", "dim": "\x1b[2m", "bold": "\x1b[1m", "bar": "\x1b[7m"}
_RESET = "\x1b[0m"
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
        size = _size()
        columns, rows = max(20, size[0]), max(8, size[1])
        status = cut(marked("  ".join(self._status())), columns)
        head = [_styled(status + " " * (columns - width(status)), "bar"), ""]
        foot = [*self._bar(columns, rows), *self._tools(columns)]
        body = self._help_lines(columns) if self._help else self._text_lines(min(columns, COLUMNS))
        self._height, self._lines = max(1, rows - len(head) - len(foot) - 1), len(body)
        self._top = max(0, min(self._top, self._lines - self._height))
        visible = body[self._top : self._top + self._height]
        left = self._lines - self._top - self._height
        words = f"... {left:,} more {'line' if left == 1 else 'lines'}: Space"
        more = _styled(cut(words, columns), "bold") if left > 0 else ""
        lines = [*head, *visible, *[""] * (self._height - len(visible)), more, *foot]
        self._keyboard.write("\x1b[H" + "\x1b[K\r\n".join(lines[:rows]) + "\x1b[J")

    def _status(self) -> list[str]:
        return status_words(self._session.header, project=self._session.project["name"])

    def _text_lines(self, columns: int) -> list[str]:
        row = self._session.row
        if row is None:
            return [_rendered(line) for line in wrapped(cells(empty_words(self._session.header)), columns)]
        lines = _passage(row["text"], row["read_up_to"], columns)
        if row["pair"] is not None:
            lines = [_styled("first text", "dim"), *lines, "", _styled("second text", "dim")]
            lines += _passage(row["pair"], None, columns)
        if row["read_up_to"] is not None and row["read_up_to"] < len(row["text"]):
            words = f"The model reads only the first {row['read_up_to']:,} characters."
            lines += ["", _styled(cut(words, columns), "dim")]
        return lines if self._session.hints is None else [*lines, "", *self._hint_lines(columns)]

    def _hint_lines(self, columns: int) -> list[str]:
        hints, session = self._session.hints, self._session
        assert hints is not None
        lines = [_styled("why", "dim"), *_passage(hints["why"], None, columns)]
        if hints["guesses"]:
            guesses = (f"{session.names([number])} {p:.2f}" for number, p in hints["guesses"])
            lines += [_styled("the model's guesses", "dim"), *_passage(", ".join(guesses), None, columns)]
        for near in hints["near"]:
            classes = cut(f"answered nearby: {marked(session.names(near['classes']))}", columns)
            lines += [_styled(classes, "dim"), f"  {cut(marked(near['text']), columns - 2)}"]
        for name, value in (session.row or {"fields": {}})["fields"].items():
            lines.append(cut(f"{marked(str(name))}: {marked(str(value))}", columns))
        return lines

    def _bar(self, columns: int, rows: int) -> list[str]:
        """The classes. Its height is the same for all texts, so that nothing moves."""
        session, choice = self._session, self._session.choice
        if not session.classes:
            words = "There is no class yet: add one with dal classes FOLDER add NAME"
            return [_styled(cut(words, columns), "bold")]
        most = max(2, min(FEW, rows // 3))
        height = min(
            most, len(_flow([self._item(place, each) for place, each in enumerate(choice.classes[:FEW])], columns))
        )
        shown = [] if session.row is None else choice.shown
        lines = _flow([self._item(place, each) for place, each in enumerate(shown[:FEW])], columns)[:most]
        lines = [*lines, *[""] * (height - len(lines))]
        if choice.many:
            left = len(shown) - FEW
            more = f"  ({left:,} more)" if left > 0 else "" if shown or session.row is None else "  (no class has this)"
            lines = [cut(f"class: {marked(choice.typed)}_{more}", columns), *lines]
        if choice.multilabel:
            n = len(choice.selected)
            names = f": {session.names(sorted(choice.selected))}" if n else ""
            lines.append(
                _styled(cut(f"Enter saves {n} {'class' if n == 1 else 'classes'}{marked(names)}", columns), "bold")
            )
        return lines

    def _item(self, place: int, each: dict[str, object]) -> tuple[str, str]:
        """A class as it is shown, and its style."""
        choice, number = self._session.choice, each["id"]
        word = "was" if (self._session.row or {}).get("was") else "now"
        capital = str(each["letter"]).upper() if choice.many else each["letter"]
        letter = f" ({capital})" if each["letter"] else ""
        box = "" if not choice.multilabel else "[x] " if number in choice.selected else "[ ] "
        was = f" <- {word}" if number in choice.marked else ""
        name = cut(marked(str(each["name"])), 40)
        return f"{place + 1} {box}{name}{letter}{was}", "bold" if place == choice.best else ""

    def _tools(self, columns: int) -> list[str]:
        """The line of commands, and the line of the last step or of the note."""
        if self._note is not None:
            typed = marked(self._note)
            room = columns - width("note: _")
            while width(typed) > room:
                typed = typed[max(1, (len(typed) - room) // 2) :]
            return [_styled(cut("Enter stores the note, Esc does not", columns), "dim"), f"note: {typed}_"]
        many, free = self._session.choice.many, [each["letter"] for each in self._session.classes]
        names = {"s": "later", "d": "decline", "f": "flag", "h": "hints", "q": "end"}
        words = [f"{letter.upper() if many else letter} {what}" for letter, what in names.items() if letter not in free]
        tools = "  ".join(["Backspace undo", *words, "? keys"])
        return [_styled(cut(tools, columns), "dim"), cut(marked(self._session.message), columns)]

    def _help_lines(self, columns: int) -> list[str]:
        session, many = self._session, self._session.choice.many
        multilabel = session.project["multilabel"]
        shift = "Shift+" if many else ""
        keys = [("1 ... 9", "select or deselect a class" if multilabel else "answer with a class, and go on")]
        if many:
            keys.append(("letters", "find a class by its name; the latest used come first; ' before digits"))
            keys.append(("Up, Down", "move the mark"))
            keys.append(
                ("Enter", "select the marked class" if multilabel else "answer with the marked class, and go on")
            )
            keys.append(("Esc", "empty the search"))
        else:
            keys.append(("letters", "classes that have one, as shown after the name"))
        if multilabel:
            keys.append(("Enter", "save what is selected, and go on"))
        keys += [
            ("Backspace", "undo the last step, any number of times" + ("" if many else "; also U")),
            (f"{shift}S", "later: put this text last"),
            (f"{shift}D", "decline: this text cannot be answered"),
            (f"{shift}F", "flag it with a note"),
            (f"{shift}H", "show or hide the hints"),
            ("Space, PageUp", "scroll the text"),
            (f"{shift}Q, Ctrl-C", "end; all answers are stored"),
        ]
        lines = [line for key, what in keys for line in _passage(f"{key:<16}{what}", None, columns)]
        if session.project["guide"]:
            lines += ["", *_passage(session.project["guide"], None, columns)]
        for each in session.classes:
            if each["description"]:
                lines += ["", *_passage(f"{each['name']}: {each['description']}", None, columns)]
        return [*lines, "", "Any other key closes this."]


def _size() -> tuple[int, int]:
    try:
        found = os.get_terminal_size(1)
    except OSError:
        return 80, 24
    return (found.columns or 80, found.lines or 24)


def _passage(text: str, read_up_to: int | None, columns: int) -> list[str]:
    return [_rendered(line) for line in wrapped(cells(text, read_up_to), columns)]


def _rendered(line: Sequence[Cell]) -> str:
    """A line of cells with its styles."""
    parts, style = [], ""
    for cell in line:
        if cell.style != style:
            parts.append((_RESET if style else "") + _STYLES[cell.style])
            style = cell.style
        parts.append(cell.text)
    return "".join(parts) + (_RESET if style else "")


def _styled(text: str, style: str) -> str:
    return f"{_STYLES[style]}{text}{_RESET}" if style and text else text


def _flow(items: Sequence[tuple[str, str]], columns: int) -> list[str]:
    """Items with their styles, next to each other in as many lines as they need."""
    lines: list[str] = []
    line, used = "", 0
    for text, style in items:
        text = cut(text, columns)
        if used and used + 3 + width(text) > columns:
            lines.append(line)
            line, used = "", 0
        line += ("   " if used else "") + _styled(text, style)
        used += (3 if used else 0) + width(text)
    return [*lines, line] if line else lines
