"""CSV files for spreadsheets: cells protected against formula injection, and a reader for files saved by them."""

import csv
import io
import math
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from dal.errors import AnswerError, printable, shortened
from dal.store.atomic_files import write_whole

# -- cells -----------------------------------------------------------------------------------------------------------

# Characters that begin a formula, in every width of Unicode.
_FORMULA = r"=+\-@\u2212\uff1d\uff0b\uff0d\uff20\ufe66\ufe62\ufe63\ufe6b\u207c\u207a\u207b\u208c\u208a\u208b\ufb29"
# Characters that end a cell or a line under some separator.
_BOUNDARY = r",;|\t\n\r\v\f\x1c-\x1e\x85\u2028\u2029\uff0c\uff1b\uff5c"
# Characters that a spreadsheet may drop before a formula: spaces, control and invisible characters, quotes.
_UNSEEN = (
    r"\"\x00-\x08\x0e-\x1b\x1f \x7f-\x84\x86-\xa0\xad\u034f\u061c\u115f\u1160\u1680\u180b-\u180e\u2000-\u200f"
    r"\u202a-\u202f\u205f-\u206f\u2800\u3000\u3164\ufe00-\ufe0f\ufeff\uffa0\ufff9-\ufffb\U000e0000-\U000e0fff"
)
_SUSPECT = re.compile(rf"[\t\r{_FORMULA}]")
# Possessive quantifiers scan each run between two boundaries once, so both patterns take linear time.
_FRONT = re.compile(rf"\A('*+)(?=[\t\r]|[{_UNSEEN}{_BOUNDARY}]*+[{_FORMULA}])")
_INNER = re.compile(rf"([{_BOUNDARY}])('*+)(?=[{_UNSEEN}]*+[{_FORMULA}])")
_QUOTED = re.compile(r"[\",;|\t\r\n]|\A\s|\s\Z")


def inert(cell: str) -> str:
    """Protect a cell against formula injection: put an apostrophe before everything that a spreadsheet would run.

    That is a formula at the beginning of the cell, or after a comma, semicolon, tab, bar or line break, where a cell
    begins if the file is read with another separator; spaces and quotes before it are ignored. `original` removes the
    apostrophes.

    Example:
        >>> inert("=1+1"), inert("1+1"), inert("a;=1")
        ("'=1+1", '1+1', "a;'=1")
    """
    if not _SUSPECT.search(cell):
        return cell
    return _INNER.sub(r"\1'\2", _FRONT.sub(r"'\1", cell))


def original(cell: str) -> str:
    """Undo `inert`; a cell without its apostrophes is returned unchanged.

    Example:
        >>> original("'=1+1"), original("a;'=1"), original("'tis")
        ('=1+1', 'a;=1', "'tis")
    """
    if "'" not in cell:
        return cell
    inner = _INNER.sub(lambda match: match[1] + match[2][1:], cell)
    return _FRONT.sub(lambda match: match[1][1:], inner)


def without_apostrophes(cell: str) -> str:
    """Remove all apostrophes before formulas; the result is the same for `cell` and `inert(cell)`."""
    if "'" not in cell:
        return cell
    return _FRONT.sub("", _INNER.sub(r"\1", cell))


# Columns of the files with texts written by `dal ask`, `dal predict` and `dal export`. Files of other origin often
# have those of _QUESTIONS, too.
_QUESTIONS = re.compile(r"id,text(,text_pair)?,label")
_CORPUS = "state,who,source,at,seconds,confidence,round,strategy,answers,notes"  # of `dal export`
_OWN = re.compile(rf"id,text(,text_pair)?(,score,label|,label,guess,confidence,decision|,label,{_CORPUS}(,.*)?)", re.S)


def may_be_own(head: Sequence[str], *, marked: bool) -> bool:
    """Whether a file with these columns may have been written by a command of `dal` with `as_csv`.

    Args:
        head: column names, in order.
        marked: whether the file begins with a byte-order mark, which `write_csv` writes.
    """
    names = ",".join(head)
    return _OWN.fullmatch(names) is not None or (marked and _QUESTIONS.fullmatch(names) is not None)


def is_inert(cell: str) -> bool:
    """Whether the cell may be a result of `inert`: everything that a spreadsheet would run has an apostrophe.

    Example:
        >>> is_inert("'=1+1"), is_inert("=1+1"), is_inert("1+1")
        (True, False, True)
    """
    return inert(original(cell)) == cell


# -- writing ---------------------------------------------------------------------------------------------------------


def as_csv(lines: Iterable[Sequence[object]], *, digits: int | None = 6) -> str:
    r"""Format rows as CSV, with every text made `inert`. None and non-finite numbers become empty cells.

    Args:
        lines: rows of texts and numbers.
        digits: significant digits of numbers; None for all.

    Example:
        >>> as_csv([["id", "score"], ["=a", 0.123456789]])
        "id,score\n'=a,0.123457\n"
    """
    return "".join(",".join(_cell(value, digits) for value in line) + "\n" for line in lines)


def _cell(value: object, digits: int | None) -> str:
    if value is None:
        return ""
    if isinstance(value, float) and not math.isfinite(value):
        return ""
    if isinstance(value, int | float) and not isinstance(value, bool):
        return str(value) if digits is None else f"{value:.{digits}g}"
    text = inert(str(value))
    return '"' + text.replace('"', '""') + '"' if _QUOTED.search(text) else text


def write_csv(path: Path, text: str) -> None:
    """Write a CSV file atomically, as UTF-8 with a byte-order mark so that spreadsheets detect the encoding."""
    write_whole(path, "\ufeff" + text)


# -- reading ---------------------------------------------------------------------------------------------------------

_SEPARATORS = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "bars"}
_MAX_SIZE = 1 << 30  # bytes
_MARKS = (
    (b"\xff\xfe\x00\x00", "utf-32"),
    (b"\x00\x00\xfe\xff", "utf-32"),
    (b"\xff\xfe", "utf-16"),
    (b"\xfe\xff", "utf-16"),
)


@dataclass(frozen=True)
class Sheet:
    """Records of a CSV file saved by a spreadsheet or a text editor.

    Attributes:
        head: column names, in lower case.
        lines: for each record its first line, counted from 1, and its cells, one per column.
        notes: messages for the user about how the file was read.
        columns: column names as they are in the file.
    """

    head: tuple[str, ...]
    lines: tuple[tuple[int, tuple[str, ...]], ...]
    notes: tuple[str, ...] = ()
    columns: tuple[str, ...] = ()


def read_sheet(path: Path, wanted: Sequence[str]) -> Sheet:
    """Read a CSV file separated by commas, semicolons, tabs or bars. Empty lines are skipped.

    Supported encodings are UTF-8, UTF-16, UTF-32 and Windows-1252. Tab-separated files may be unquoted.

    Args:
        path: file to read.
        wanted: required columns, in lower case; each must occur exactly once.

    Raises:
        AnswerError: the file cannot be read as CSV, a column is missing, or a record has too many cells.
    """
    text, notes = _decoded(path)
    separator, first_line = "", 1
    head, _, rest = text.partition("\n")
    if head.lower().startswith("sep="):  # a line with which spreadsheets declare the separator
        text, separator, first_line = rest, head[4:].rstrip("\r")[:1], 2
    with _long_cells():
        columns, lines = _parsed(path, text, separator or _separator(text, wanted), wanted, first_line)
    return Sheet(tuple(_names(columns)), tuple(lines), tuple(notes), columns)


def _decoded(path: Path) -> tuple[str, list[str]]:
    """The decoded text of a file, and a note if it is not UTF-8."""
    content = _content(path)
    if content.startswith((b"PK\x03\x04", b"\xd0\xcf\x11\xe0")):
        raise AnswerError(f"{path} is a workbook, not a CSV file: save it as CSV UTF-8")
    encoding = next((name for mark, name in _MARKS if content.startswith(mark)), None)
    notes = []
    if encoding is None and (encoding := _utf16(content)):  # before UTF-8, in which ASCII with zeros is valid too
        notes.append(f"{path} is UTF-16 without a byte-order mark; it was read as such")
    if encoding is not None:
        try:
            return content.decode(encoding), notes
        except UnicodeDecodeError as error:
            name = encoding.upper()[:6]
            raise AnswerError(
                f"{path} is not whole {name} text (byte {error.start + 1}): save it as CSV UTF-8"
            ) from error
    try:
        return content.decode("utf-8-sig"), []
    except UnicodeDecodeError as error:
        if b"\0" in content:
            raise AnswerError(f"{path} is a binary file, not a CSV file: save it as CSV UTF-8") from error
        return content.decode("cp1252", "replace"), [f"{path} is not UTF-8; it was read as Windows-1252"]


def _content(path: Path) -> bytes:
    try:
        if path.is_dir():
            raise AnswerError(f"{path} is a folder, not a CSV file")
        if path.exists() and not path.is_file():
            raise AnswerError(f"{path} is a device, a pipe or a socket, not a CSV file")
        size = path.stat().st_size
        if size > _MAX_SIZE:
            raise AnswerError(f"{path} has {size:,} bytes; at most {_MAX_SIZE:,} are read: tell it in parts")
        return path.read_bytes()
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise AnswerError(f"{shortened(ascii(str(path))[1:-1], 120)} cannot be read: {reason}") from error


def _utf16(content: bytes) -> str | None:
    """The encoding of UTF-16 content without a byte-order mark that begins with two ASCII characters, else None."""
    if len(content) < 4 or len(content) % 2:
        return None
    zeros = [byte == 0 for byte in content[:4]]
    if zeros == [False, True, False, True]:
        return "utf-16-le"
    return "utf-16-be" if zeros == [True, False, True, False] else None


def _separator(text: str, wanted: Sequence[str]) -> str:
    """The separator with which the header has the wanted columns; if there is none, the one with the most columns."""
    heads = {}
    for separator in _SEPARATORS:
        reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator)
        heads[separator] = _names(next((cells for cells in reader if any(cells)), []))
    matching = [separator for separator, head in heads.items() if all(head.count(name) == 1 for name in wanted)]
    return max(matching or heads, key=lambda separator: len(heads[separator]))


def _names(cells: Sequence[str]) -> list[str]:
    return [cell.strip().lower() for cell in cells]


def _parsed(
    path: Path, text: str, separator: str, wanted: Sequence[str], first_line: int
) -> tuple[tuple[str, ...], list[tuple[int, tuple[str, ...]]]]:
    """The header as written and the records; cells missing at the end of a record are empty."""
    words = _SEPARATORS.get(separator, repr(separator))
    records = _unquoted(text, first_line) if separator == "\t" else None
    head: tuple[str, ...] | None = None
    lines = []
    for line, cells in records or _records(path, text, separator, first_line):
        if not any(cells):
            continue
        if head is None:
            _check_head(path, line, cells, wanted, words)
            head = tuple(cells)
            continue
        if any(cell.strip() for cell in cells[len(head) :]):
            raise AnswerError(
                f"{path}, line {line} has {len(cells)} cells, expected {len(head)} (separated by {words}): is a quote "
                "mark missing around a cell?"
            )
        lines.append((line, (*cells[: len(head)], *[""] * (len(head) - len(cells)))))
    if head is None:
        raise AnswerError(f"{path} is empty: it needs the columns {' and '.join(wanted)}")
    return head, lines


def _check_head(path: Path, line: int, cells: Sequence[str], wanted: Sequence[str], words: str) -> None:
    head = _names(cells)
    for name in wanted:
        if head.count(name) != 1:
            problem = "no column" if name not in head else "more than one column"
            there = printable(", ".join(cells))
            raise AnswerError(f"{path}, line {line}: {problem} {name!r} among {there} (separated by {words})")


def _records(path: Path, text: str, separator: str, first_line: int) -> Iterator[tuple[int, list[str]]]:
    """The first line and the cells of each record of a quoted file."""
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True)
    while True:
        start = reader.line_num + first_line
        try:
            cells = next(reader, None)
        except csv.Error as error:
            raise AnswerError(
                f"{path}, line {start}: a quote mark is not closed, or not doubled within a cell ({error})"
            ) from error
        if cells is None:
            return
        yield start, cells


def _unquoted(text: str, first_line: int) -> list[tuple[int, list[str]]] | None:
    """The records of an unquoted tab-separated file; None if they differ in length, since its cells are then quoted."""
    reader = csv.reader(io.StringIO(text, newline=""), delimiter="\t", quoting=csv.QUOTE_NONE)
    records = [(line, cells) for line, cells in enumerate(reader, first_line) if any(cells)]
    if len({len(cells) for _, cells in records}) > 1:
        return None
    for _, cells in records:
        for column, cell in enumerate(cells):
            inner = cell[1:-1]
            # Some programs quote a cell of an otherwise unquoted file: only quotes that enclose all of it count.
            if len(cell) > 1 and cell[0] == cell[-1] == '"' and '"' not in inner.replace('""', ""):
                cells[column] = inner.replace('""', '"')
    return records


@contextmanager
def _long_cells() -> Iterator[None]:
    """Raise the csv module's limit of 128 KiB per cell during the block."""
    before = csv.field_size_limit(_MAX_SIZE)
    try:
        yield
    finally:
        csv.field_size_limit(before)
