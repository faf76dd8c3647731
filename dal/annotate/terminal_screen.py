"""What a terminal shows of a text: its lines, the bar of classes, the commands, and the keys."""

import os
from collections.abc import Sequence

from dal.annotate.class_choice import FEW
from dal.annotate.labeling_session import LabelingSession
from dal.annotate.service_contract import Reply
from dal.annotate.status_words import empty_words, status_words
from dal.annotate.text_marks import Cell, cells, cut, marked, width, wrapped

_STYLES = {"": "", "mark": "\x1b[7m", "unread": "\x1b[2m", "dim": "\x1b[2m", "bold": "\x1b[1m", "bar": "\x1b[7m"}
_RESET = "\x1b[0m"


def status_line(session: LabelingSession, columns: int) -> str:
    """The figures, in reverse."""
    status = cut(marked("  ".join(status_words(session.header, project=session.project["name"]))), columns)
    return styled(status + " " * (columns - width(status)), "bar")


def text_lines(session: LabelingSession, columns: int) -> list[str]:
    """The text, a second one of a pair, and the hints if they are open."""
    row = session.row
    if row is None:
        return [_rendered(line) for line in wrapped(cells(empty_words(session.header)), columns)]
    lines = _passage(row["text"], row["read_up_to"], columns)
    if row["pair"] is not None:
        lines = [styled("first text", "dim"), *lines, "", styled("second text", "dim")]
        lines += _passage(row["pair"], None, columns)
    if row["read_up_to"] is not None and row["read_up_to"] < len(row["text"]):
        words = f"The model reads only the first {row['read_up_to']:,} characters."
        lines += ["", styled(cut(words, columns), "dim")]
    return lines if session.hints is None else [*lines, "", *_hint_lines(session, columns)]


def _hint_lines(session: LabelingSession, columns: int) -> list[str]:
    hints = session.hints
    assert hints is not None
    lines = [styled("why", "dim"), *_passage(hints["why"], None, columns)]
    if hints["guesses"]:
        guesses = (f"{session.names([number])} {p:.2f}" for number, p in hints["guesses"])
        lines += [styled("the model's guesses", "dim"), *_passage(", ".join(guesses), None, columns)]
    for near in hints["near"]:
        classes = cut(f"answered nearby: {marked(session.names(near['classes']))}", columns)
        lines += [styled(classes, "dim"), f"  {cut(marked(near['text']), columns - 2)}"]
    for name, value in (session.row or {"fields": {}})["fields"].items():
        lines.append(cut(f"{marked(str(name))}: {marked(str(value))}", columns))
    return lines


def bar_lines(session: LabelingSession, columns: int, rows: int) -> list[str]:
    """The classes. Its height is the same for all texts, so that nothing moves."""
    choice = session.choice
    if not session.classes:
        return [styled(cut(session.without_classes, columns), "bold")]
    most = max(2, min(FEW, rows // 3))
    height = min(
        most, len(_flow([_item(session, place, each) for place, each in enumerate(choice.classes[:FEW])], columns))
    )
    shown = [] if session.row is None else choice.shown
    lines = _flow([_item(session, place, each) for place, each in enumerate(shown[:FEW])], columns)[:most]
    lines = [*lines, *[""] * (height - len(lines))]
    if choice.many:
        left = len(shown) - FEW
        more = f"  ({left:,} more)" if left > 0 else "" if shown or session.row is None else "  (no class has this)"
        lines = [cut(f"class: {marked(choice.typed)}_{more}", columns), *lines]
    if choice.multilabel:
        n = len(choice.selected)
        names = f": {session.names(sorted(choice.selected))}" if n else ""
        lines.append(styled(cut(f"Enter saves {n} {'class' if n == 1 else 'classes'}{marked(names)}", columns), "bold"))
    return lines


def _item(session: LabelingSession, place: int, each: Reply) -> tuple[str, str]:
    """A class as it is shown, and its style."""
    choice, number = session.choice, each["id"]
    word = "was" if (session.row or {}).get("was") else "now"
    capital = str(each["letter"]).upper() if choice.many else each["letter"]
    letter = f" ({capital})" if each["letter"] else ""
    box = "" if not choice.multilabel else "[x] " if number in choice.selected else "[ ] "
    was = f" <- {word}" if number in choice.marked else ""
    name = cut(marked(str(each["name"])), 40)
    return f"{place + 1} {box}{name}{letter}{was}", "bold" if place == choice.best else ""


def tool_lines(session: LabelingSession, note: str | None, columns: int) -> list[str]:
    """The line of commands, and that of the last step, or of the note that is being typed."""
    if note is not None:
        typed = marked(note)
        room = columns - width("note: _")
        while width(typed) > room:
            typed = typed[max(1, (len(typed) - room) // 2) :]
        return [styled(cut("Enter stores the note, Esc does not", columns), "dim"), f"note: {typed}_"]
    many, free = session.choice.many, [each["letter"] for each in session.classes]
    names = {"s": "later", "d": "decline", "f": "flag", "h": "hints", "q": "end"}
    words = [f"{letter.upper() if many else letter} {what}" for letter, what in names.items() if letter not in free]
    tools = "  ".join(["Backspace undo", *words, "? keys"])
    return [styled(cut(tools, columns), "dim"), cut(marked(session.message), columns)]


def help_lines(session: LabelingSession, columns: int) -> list[str]:
    """The keys, and the guidelines."""
    many = session.choice.many
    multilabel = session.project["multilabel"]
    shift = "Shift+" if many else ""
    keys = [("1 ... 9", "select or deselect a class" if multilabel else "answer with a class, and go on")]
    if many:
        keys.append(("letters", "find a class by its name; the latest used come first; ' before digits"))
        keys.append(("Up, Down", "move the mark"))
        keys.append(("Enter", "select the marked class" if multilabel else "answer with the marked class, and go on"))
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


def terminal_size() -> tuple[int, int]:
    """Columns and lines of the terminal."""
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


def styled(text: str, style: str) -> str:
    """A text in a style of the terminal."""
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
        line += ("   " if used else "") + styled(text, style)
        used += (3 if used else 0) + width(text)
    return [*lines, line] if line else lines
