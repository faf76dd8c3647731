"""Answers of machines that could not be read: kept verbatim, with what they cost. They say nothing of a row."""

import sqlite3
import time
from collections.abc import Sequence
from dataclasses import astuple, dataclass, replace

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


def stored(connection: sqlite3.Connection, after: int) -> list[tuple[int, Unread]]:
    """Those whose number is above `after`, in order, with their numbers."""
    lines = connection.execute(
        "SELECT number, row, text, who, source, seconds, cost FROM unread WHERE number > ? ORDER BY number", (after,)
    )
    return [(number, Unread(*rest)) for number, *rest in lines.fetchall()]
