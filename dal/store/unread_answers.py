"""Model responses that could not be parsed, stored verbatim with their cost."""

import sqlite3
import time
from collections.abc import Sequence
from dataclasses import astuple, dataclass, replace
from typing import Any

from dal.store.events import check_columns, check_figures

SCHEMA = """
CREATE TABLE IF NOT EXISTS unread (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    at REAL NOT NULL,                 -- seconds since 1970, UTC
    round INTEGER NOT NULL,
    row TEXT NOT NULL,                -- the row's id
    text TEXT NOT NULL,               -- verbatim
    who TEXT NOT NULL, source TEXT NOT NULL,
    seconds REAL, cost REAL
) STRICT
"""


@dataclass(frozen=True)
class Unread:
    """A model response that could not be parsed.

    Attributes:
        row: row id.
        text: verbatim response; empty if unknown.
        who: name of the model.
        source: kind of annotator, such as "llm".
        seconds: duration of the request; None if unknown.
        cost: cost in dollars; None if unknown.
    """

    row: str
    text: str
    who: str = ""
    source: str = "llm"
    seconds: float | None = None
    cost: float | None = None


def append(connection: sqlite3.Connection, given: Sequence[Unread], round: int) -> None:
    """Store responses within the open transaction. Lone surrogates, which SQLite refuses, are escaped."""
    at = time.time()
    texts = [each.text.encode("utf-8", "backslashreplace").decode("utf-8") for each in given]
    connection.executemany(
        "INSERT INTO unread (at, round, row, text, who, source, seconds, cost) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        [(at, round, *astuple(replace(each, text=text))) for each, text in zip(given, texts, strict=True)],
    )


COLUMNS = "at, round, row, text, who, source, seconds, cost"


def read(line: Sequence[Any]) -> Unread:
    """Convert a row of the table `unread`, in the order of `COLUMNS`, to a response.

    Raises:
        ValueError: a value cannot have been written by a label store.
    """
    at, round, row, text, who, source, seconds, cost = line
    check_columns(at, round, row, who=who, source=source, text=text)
    check_figures(seconds=seconds, cost=cost)
    return Unread(row, text, who, source, seconds, cost)
