"""Label stores in the format of version 1, as earlier versions wrote them."""

import sqlite3
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from dal.store import proposals, unread_answers

SCHEMA_1 = (
    """
    CREATE TABLE events (
        event INTEGER PRIMARY KEY AUTOINCREMENT,
        kind TEXT NOT NULL CHECK (kind IN ('asked', 'answered', 'skipped', 'retracted')),
        at REAL NOT NULL,
        round INTEGER NOT NULL,
        row TEXT NOT NULL,
        score REAL,
        value TEXT,
        who TEXT, source TEXT, seconds REAL, cost REAL, confidence REAL,
        retracts INTEGER REFERENCES events (event)
    ) STRICT
    """,
    "CREATE TABLE batches (round INTEGER PRIMARY KEY, strategy TEXT NOT NULL, details TEXT NOT NULL) STRICT",
    """
    CREATE TABLE budgets (
        number INTEGER PRIMARY KEY AUTOINCREMENT, round INTEGER NOT NULL, tokens INTEGER NOT NULL
    ) STRICT
    """,
    proposals.SCHEMA,
    unread_answers.SCHEMA,
    "PRAGMA application_id = 1684106289",
    "PRAGMA user_version = 1",
)

_COLUMNS = "kind, at, round, row, score, value, who, source, seconds, cost, confidence, retracts"


def write_version_1(path: Path, lines: Iterable[tuple[Any, ...]], batches: Iterable[tuple[int, str, str]]) -> None:
    """Write a label store of version 1.

    Args:
        path: file to create.
        lines: the events, in the order of the columns from `kind` on.
        batches: round, strategy and details of each batch.
    """
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("PRAGMA journal_mode = WAL")
    for statement in ("BEGIN", *SCHEMA_1, "COMMIT"):
        connection.execute(statement)
    connection.executemany("INSERT INTO batches VALUES (?, ?, ?)", list(batches))
    connection.executemany(f"INSERT INTO events ({_COLUMNS}) VALUES ({', '.join('?' * 12)})", list(lines))
    connection.close()
