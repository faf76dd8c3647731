"""Detection of quoted cells in CSV and TSV files, and of inconsistent quotes."""

import mmap
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

_BLOCK = 1 << 20
_QUOTE = ord('"')
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"


@dataclass(frozen=True)
class Contradiction:
    """An inconsistent quote.

    Attributes:
        line: first line of its cell, counted from 1.
        problem: description of the problem.
    """

    line: int
    problem: str


def _content(file: Path) -> memoryview:
    """Memory-mapped bytes of a non-empty file, without the byte-order mark."""
    with file.open("rb") as stream:
        data = memoryview(mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ))
    return data[len(_BYTE_ORDER_MARK) :] if bytes(data[:3]) == _BYTE_ORDER_MARK else data


def contradiction(file: Path, delimiter: str) -> Contradiction | None:
    """The first cell of a CSV file that begins with a quote and does not end with one; None if there is none.

    Lenient parsers would read the following rows as part of such a cell.
    """
    data = _content(file)
    if _all_fit(data, delimiter):
        return None
    cells = (cell for cell in _quoted_cells(data, delimiter) if not cell.fits)
    first = next(cells, None)
    return None if first is None else Contradiction(_line(data, first.start), first.problem)


def is_quoted(file: Path, delimiter: str) -> bool | Contradiction:
    """Whether the cells of a tab-separated file are enclosed in quotes.

    If every line has all columns when quotes are read as text, as in most such files, the cells are unquoted, unless
    quotes are doubled within cells or whole columns are quoted.

    Returns:
        True or False, or a contradiction if neither reading gives every row all columns or there is evidence of both.
    """
    data = _content(file)
    doubled = plain = misfit = None
    spans = False
    for cell in _quoted_cells(data, delimiter):
        if not cell.fits:
            misfit = cell
            break
        inside = bytes(data[cell.start + 1 : cell.end - 1])
        spans = spans or b"\n" in inside
        if b'""' in inside:
            doubled = doubled or cell
        elif inside:
            plain = plain or cell
    if misfit is None and doubled is None and plain is None:
        return False
    short = _short_line(data, delimiter)
    if misfit is not None and short is not None:
        return Contradiction(_line(data, misfit.start), f"{misfit.problem}, but line {short} lacks a tab without")
    if misfit is not None or short is not None:
        return misfit is None
    if spans:  # and every line has all columns without the quotes
        return False
    if plain is None or _whole_columns(data, delimiter):
        return True
    if doubled is None:
        return False
    line = _line(data, doubled.start)
    problem = f"a cell has quotes that it does not need, line {line} doubles them as only a file with quoted cells does"
    return Contradiction(_line(data, plain.start), problem)


def stray_return(file: Path, delimiter: str, *, quoted: bool) -> int | None:
    """The first line with a carriage return that neither ends a line nor is quoted; None if there is none.

    Parsers would end the row there and split a text into two rows. Files whose first line ends with a carriage return
    only are exempt, since there it is the line end.
    """
    data = _content(file)
    first = re.search(rb"[\r\n]+", data)
    if first is None or b"\n" not in first.group():
        return None
    cells = _quoted_cells(data, delimiter) if quoted else iter(())
    cell = None
    for match in re.finditer(rb"\r(?=[^\r\n])", data):
        while cell is None or cell.end <= match.start():
            cell = next(cells, _Cell(len(data), len(data) + 1, True))
        if match.start() < cell.start:
            return _line(data, match.start())
    return None


@dataclass(frozen=True)
class _Cell:
    """A cell that begins with a quote: its start and end, and whether it ends with a closing quote."""

    start: int
    end: int
    fits: bool
    problem: str = ""


def _quoted_cells(data: memoryview, delimiter: str) -> Iterator[_Cell]:
    mark = re.escape(delimiter.encode())
    pattern = re.compile(b'"(?<![^' + mark + rb'\r\n]")((?:[^"]++|"")*+)("?)')
    ends = (b"", b"\r", b"\n", delimiter.encode())
    for match in pattern.finditer(data):
        end = match.end()
        if not match.group(2):
            yield _Cell(match.start(), end, False, "a quote is opened and not closed")
        elif bytes(data[end : end + 1]) not in ends:
            yield _Cell(match.start(), end, False, "a quote is closed in the middle of a cell")
        else:
            yield _Cell(match.start(), end, True)


def _all_fit(data: memoryview, delimiter: str) -> bool:
    """Whether all quotes open or close a cell or are doubled within one. Vectorised, for the common case."""
    if not len(data):
        return True
    content = np.frombuffer(data, np.uint8)
    blocks = range(0, len(data), _BLOCK)
    places = [start + np.flatnonzero(content[start : start + _BLOCK] == _QUOTE) for start in blocks]
    quotes: NDArray[np.int64] = np.concatenate(places)
    if len(quotes) % 2:
        return False
    edges = np.frombuffer(b"\r\n" + delimiter.encode(), np.uint8)
    opening, closing = quotes[::2], quotes[1::2]
    before = (opening == 0) | np.isin(content[opening - 1], edges)
    after = (closing == len(content) - 1) | np.isin(content[np.minimum(closing + 1, len(content) - 1)], edges)
    doubled = closing[:-1] + 1 == opening[1:]
    before[1:] |= doubled
    after[:-1] |= doubled
    return bool(before.all() and after.all())


def _line(data: memoryview, offset: int) -> int:
    """The line of a byte offset, counted from 1."""
    return 1 + sum(bytes(data[start : min(start + _BLOCK, offset)]).count(b"\n") for start in range(0, offset, _BLOCK))


def _lines(data: memoryview) -> Iterator[bytes]:
    """The lines without their ends; empty lines as b""."""
    for match in re.finditer(rb"[^\n]*\n|[^\n]+\Z", data):
        yield match.group().rstrip(b"\r\n")


def _short_line(data: memoryview, delimiter: str) -> int | None:
    """The first line, from 1, whose number of delimiters differs from the first line's; None if there is none."""
    mark, expected = delimiter.encode(), None
    for number, line in enumerate(_lines(data), 1):
        if line:
            expected = line.count(mark) if expected is None else expected
            if line.count(mark) != expected:
                return number
    return None


def _whole_columns(data: memoryview, delimiter: str) -> bool:
    """Whether in every column with a quoted cell all cells are quoted, except the column name."""
    mark = delimiter.encode()
    some: set[int] = set()
    every: set[int] | None = None
    lines = (line for line in _lines(data) if line)
    next(lines, None)
    for line in lines:
        quoted = {column for column, cell in enumerate(line.split(mark)) if cell[:1] == cell[-1:] == b'"'}
        some |= quoted
        every = quoted if every is None else every & quoted
    return every is not None and some == every
