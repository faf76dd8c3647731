"""CSV files that a spreadsheet shows as they are, and runs nothing of."""

import csv
import io
from collections.abc import Iterable, Sequence
from pathlib import Path

from dal.durable import write_whole

_FORMULA = ("=", "+", "-", "@", "\t", "\r")  # a spreadsheet would run a cell that begins so


def inert(cell: str) -> str:
    """The cell as a spreadsheet shows it and does not run it: one that it would run begins with an apostrophe.

    Example:
        >>> inert("=1+1"), inert("1+1")
        ("'=1+1", '1+1')
    """
    return "'" + cell if cell.startswith(_FORMULA) else cell


def as_csv(lines: Iterable[Sequence[str | float]]) -> str:
    """The lines as CSV, every text in them inert and every number with 6 digits."""
    written = io.StringIO()
    writer = csv.writer(written, lineterminator="\n")
    writer.writerows([inert(cell) if isinstance(cell, str) else f"{cell:.6g}" for cell in line] for line in lines)
    return written.getvalue()


def write_csv(path: Path, text: str) -> None:
    """Write a CSV whole or not at all: UTF-8 with a byte-order mark, so that spreadsheets read it right."""
    write_whole(path, "\ufeff" + text)
