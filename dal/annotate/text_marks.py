"""Texts with their invisible characters marked, for a terminal. The rules are those of `page/text_view.js`."""

import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass

_NAMES = {
    0x00: "NUL", 0x07: "BEL", 0x08: "BS", 0x0B: "VT", 0x0C: "FF", 0x1B: "ESC", 0x7F: "DEL", 0x85: "NEL", 0xAD: "SHY",
    0x61C: "ALM", 0x180E: "MVS", 0x200B: "ZWSP", 0x200C: "ZWNJ", 0x200D: "ZWJ", 0x200E: "LRM", 0x200F: "RLM",
    0x2028: "LS", 0x2029: "PS", 0x202A: "LRE", 0x202B: "RLE", 0x202C: "PDF", 0x202D: "LRO", 0x202E: "RLO",
    0x2060: "WJ", 0x2066: "LRI", 0x2067: "RLI", 0x2068: "FSI", 0x2069: "PDI", 0xFEFF: "BOM", 0x3164: "HF",
    0xFFFC: "OBJ",
}  # fmt: skip

# Scripts whose spelling needs joiners, such as Persian and Hindi: how the names of their characters begin.
_JOINING = (
    "ARABIC", "SYRIAC", "MONGOLIAN", "DEVANAGARI", "BENGALI", "GURMUKHI", "GUJARATI", "ORIYA", "TAMIL", "TELUGU",
    "KANNADA", "MALAYALAM", "SINHALA", "KHMER", "MYANMAR",
)  # fmt: skip
_FILLERS = (0x115F, 0x1160, 0x3164, 0xFFA0)
_BLACK_FLAG = 0x1F3F4


@dataclass(frozen=True)
class Cell:
    """A character on the screen with what combines with it, or the mark of an invisible one.

    Attributes:
        text: what is printed.
        width: columns that it takes.
        style: "" for text, "mark" for the mark of an invisible character, "unread" for what the model does not read.
        breaks: whether a new line begins after it.
    """

    text: str
    width: int
    style: str = ""
    breaks: bool = False


def cells(text: str, read_up_to: int | None = None) -> Iterator[Cell]:
    """The cells of a text.

    Args:
        text: any text.
        read_up_to: number of characters that the model reads; None for all.

    Example:
        >>> [cell.text for cell in cells("a\\u202eb")]
        ['a', '[RLO]', 'b']
    """
    in_flag = False
    held = ""  # a character that others may still combine with
    held_style = ""
    for place, char in enumerate(text):
        code = ord(char)
        in_flag = code == _BLACK_FLAG or (in_flag and 0xE0020 <= code <= 0xE007F)
        before, after = text[place - 1 : place], text[place + 1 : place + 2]
        style = "unread" if read_up_to is not None and place >= read_up_to else ""
        if char == "\r" and after == "\n":
            continue
        visible = not _is_invisible(char) or _is_ordinary(char, before, after, in_flag)
        if visible and char not in "\n\t" and _width(char) == 0 and held:
            held += char
            continue
        if held:
            yield Cell(held, _cluster_width(held), held_style)
            held = ""
        if not visible:
            yield Cell(f"[{_NAMES.get(code) or f'U+{code:04X}'}]", len(_NAMES.get(code) or f"U+{code:04X}") + 2, "mark")
            if char in "\u2028\u2029\r":
                yield Cell("", 0, style, breaks=True)
        elif char == "\n":
            yield Cell("", 0, style, breaks=True)
        elif char == "\t":
            yield Cell(" ", 1, style)
        else:
            held, held_style = char, style
    if held:
        yield Cell(held, _cluster_width(held), held_style)


def marked(text: str) -> str:
    """A text on one line, with its invisible characters as marks.

    Example:
        >>> marked("a\\x1b[2J\\nb")
        'a[ESC][2J b'
    """
    return "".join(" " if cell.breaks else cell.text for cell in cells(text))


def marked_lines(text: str) -> str:
    """A text with its line breaks, and its other invisible characters as marks."""
    return "".join("\n" if cell.breaks else cell.text for cell in cells(text))


def width(text: str) -> int:
    """Columns that a text without line breaks takes.

    Example:
        >>> width("日本"), width("e\\u0301")
        (4, 1)
    """
    return sum(cell.width for cell in cells(text))


def cut(text: str, columns: int) -> str:
    """The beginning of a marked text that fits, with "..." if it is cut."""
    if width(text) <= columns:
        return text
    kept, used = "", 0
    for cell in cells(text):
        if used + cell.width > columns - 3:
            break
        kept, used = kept + cell.text, used + cell.width
    return f"{kept}..."[: max(0, columns)] if columns < 3 else f"{kept}..."


def wrapped(given: Iterator[Cell], columns: int) -> list[list[Cell]]:
    """Lines of cells, broken between words, and within a word that is longer than a line."""
    lines: list[list[Cell]] = []
    line: list[Cell] = []
    used, space = 0, -1  # columns of the line, and the place of its last space
    for cell in given:
        if cell.breaks:
            lines.append(line)
            line, used, space = [], 0, -1
            continue
        if used + cell.width > columns and line:
            if cell.text == " ":  # a space at the end of a line is not shown
                lines.append(line)
                line, used, space = [], 0, -1
                continue
            rest = line[space + 1 :] if space >= 0 else []
            lines.append(line[: space + 1] if space >= 0 else line)
            line, used, space = rest, sum(each.width for each in rest), -1
        if cell.text == " ":
            space = len(line)
        line.append(cell)
        used += cell.width
    lines.append(line)
    return lines


def _is_invisible(char: str) -> bool:
    code = ord(char)
    return (
        unicodedata.category(char) in ("Cc", "Cf", "Cs")
        or code in (0x2028, 0x2029, 0xFFFC, *_FILLERS)
        or 0xFE00 <= code <= 0xFE0F
        or 0xE0100 <= code <= 0xE01EF
    )


def _is_ordinary(char: str, before: str, after: str, in_flag: bool) -> bool:
    """Whether a character does its ordinary work between its neighbours, as a joiner within an emoji does."""
    code = ord(char)
    if char in "\n\t":
        return True
    if 0xFE00 <= code <= 0xFE0F:
        return before != "" and not _is_invisible(before)
    if code == 0x200D and _is_picture(before) and _is_picture(after):
        return True
    if code in (0x200C, 0x200D):
        return _joins(before) and (_joins(after) or code == 0x200D)
    return 0xE0020 <= code <= 0xE007F and in_flag


def _is_picture(char: str) -> bool:
    if not char:
        return False
    code = ord(char)
    return code == 0xFE0F or 0x1F000 <= code <= 0x1FAFF or 0x2190 <= code <= 0x2BFF or code in (0xA9, 0xAE, 0x3030)


def _joins(char: str) -> bool:
    if not char:
        return False
    return unicodedata.category(char).startswith("M") or unicodedata.name(char, "").startswith(_JOINING)


def _width(char: str) -> int:
    if unicodedata.category(char) in ("Mn", "Me", "Cf") or 0x1F3FB <= ord(char) <= 0x1F3FF:
        return 0
    return 2 if unicodedata.east_asian_width(char) in ("W", "F") else 1


def _cluster_width(cluster: str) -> int:
    """Columns of a character with what combines with it. Joined emoji are counted one by one, as most terminals do."""
    return max(1, sum(map(_width, cluster)))
