"""Whether a text file quotes its cells, and where its quotes contradict each other."""

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
    """A quote that does not fit the others.

    Attributes:
        line: where its cell begins, from 1.
        problem: in words.
    """

    line: int
    problem: str


def _content(file: Path) -> memoryview:
    """The bytes of a file that is not empty, without its byte-order mark, in memory that is mapped while it is used."""
    with file.open("rb") as stream:
        data = memoryview(mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ))
    return data[len(_BYTE_ORDER_MARK) :] if bytes(data[:3]) == _BYTE_ORDER_MARK else data


def contradiction(file: Path, delimiter: str) -> Contradiction | None:
    """The first cell of a CSV file that begins with a quote and does not end with one; None where all do.

    Lenient readers let such a cell swallow the rows that follow it.
    """
    data = _content(file)
    if _all_fit(data, delimiter):
        return None
    cells = (cell for cell in _quoted_cells(data, delimiter) if not cell.fits)
    first = next(cells, None)
    return None if first is None else Contradiction(_line(data, first.start), first.problem)


def is_quoted(file: Path, delimiter: str) -> bool | Contradiction:
    """Whether the quotes at the beginning of cells enclose them, in a file cut by tabs.

    They are part of the text, as in most such files, where every line has all columns without them, unless the file
    shows that its writer enclosed cells: quotes are doubled within them, or a whole column has them.

    Returns:
        A contradiction where neither reading gives every row all columns, or where there is a sign of both.
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
    """The first line of a file with a carriage return that neither ends a line nor stands in quotes; None without one.

    Readers take it for the end of a row, so that a text becomes two rows, or loses its first character. In a file whose
    first line ends with a carriage return they all do.
    """
    data = _content(file)
    first = re.search(rb"[\r\n]+", data)
    if first is None or b"\n" not in first.group():
        return None
    cells = _quoted_cells(data, delimiter) if quoted else iter(())
    cell = None
    for found in re.finditer(rb"\r(?=[^\r\n])", data):
        while cell is None or cell.end <= found.start():
            cell = next(cells, _Cell(len(data), len(data) + 1, True))
        if found.start() < cell.start:
            return _line(data, found.start())
    return None


@dataclass(frozen=True)
class _Cell:
    """A cell that begins with a quote: where it begins and ends, and whether it ends with its closing quote."""

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
    """Whether all quotes open or close a cell or are doubled within one: what most files are, found without a loop."""
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


def _line(data: memoryview, place: int) -> int:
    """The line of a place, from 1."""
    return 1 + sum(bytes(data[start : min(start + _BLOCK, place)]).count(b"\n") for start in range(0, place, _BLOCK))


def _lines(data: memoryview) -> Iterator[bytes]:
    """The lines that are not empty, with empty ones as b""."""
    for match in re.finditer(rb"[^\n]*\n|[^\n]+\Z", data):
        yield match.group().rstrip(b"\r\n")


def _short_line(data: memoryview, delimiter: str) -> int | None:
    """The first line that has other than the first line's number of delimiters, from 1; None where all have it."""
    mark, expected = delimiter.encode(), None
    for number, line in enumerate(_lines(data), 1):
        if line:
            expected = line.count(mark) if expected is None else expected
            if line.count(mark) != expected:
                return number
    return None


def _whole_columns(data: memoryview, delimiter: str) -> bool:
    """Whether every column with a cell in quotes has all its cells in quotes, but for its name."""
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
