"""Answers of machines that could not be read: kept verbatim, with what they cost. They say nothing of a row."""

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
    """An answer that could not be read.

    Attributes:
        row: the row's id.
        text: verbatim; empty where it is not known.
        who: the name of the model.
        source: what kind of answerer, such as "llm".
        seconds: how long it took; None when unknown.
        cost: in dollars; None when unknown.
    """

    row: str
    text: str
    who: str = ""
    source: str = "llm"
    seconds: float | None = None
    cost: float | None = None


def append(connection: sqlite3.Connection, given: Sequence[Unread], round: int) -> None:
    """Store them, within the transaction that is open."""
    at = time.time()
    connection.executemany(
        "INSERT INTO unread (at, round, row, text, who, source, seconds, cost) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        [(at, round, *astuple(replace(each, text=_storable(each.text)))) for each in given],
    )


def _storable(text: str) -> str:
    """The text, with lone surrogates, which no database takes, written as escapes."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


COLUMNS = "at, round, row, text, who, source, seconds, cost"


def read(line: Sequence[Any]) -> Unread:
    """The answer that a line of the store's table `unread` holds, in the order of `COLUMNS`.

    Raises:
        ValueError: it cannot have been written by a label store; the message says why.
    """
    at, round, row, text, who, source, seconds, cost = line
    check_columns(at, round, row, who=who, source=source, text=text)
    check_figures(seconds=seconds, cost=cost)
    return Unread(row, text, who, source, seconds, cost)
