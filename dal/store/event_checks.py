"""Checks of all lines of a log at once, by SQL: a long log is opened without an object for each of its events."""

import json
import sqlite3
from collections.abc import Iterable
from contextlib import closing
from dataclasses import dataclass, replace
from functools import lru_cache

from dal.store.events import Value, read_value
from dal.store.label_database import SCHEMA

# Number of events, their last round, how many of them no label store wrote, and the distinct answers as a JSON array:
# one scan. That the columns have the right types is known of a strict table: `PRAGMA quick_check` verifies it.
_EVENTS = """
SELECT count(*), max(round), count(*) FILTER (WHERE round < 0 OR
    CASE kind
        WHEN 'asked' THEN round < 1 OR wanted < 1
        WHEN 'answered' THEN value IS NULL OR wanted < 1
        WHEN 'noted' THEN value IS NULL
        WHEN 'class' THEN value IS NULL
        WHEN 'retracted' THEN retracts IS NULL
        ELSE kind NOT IN ('skipped', 'withdrawn', 'deferred', 'retired')
    END), json_group_array(DISTINCT value) FILTER (WHERE kind = 'answered')
FROM events WHERE event > ?
"""

# Retractions of something that is not there, or of another row, or for the second time. Those of changes of classes
# (row '') are checked by the table of classes.
_WRONG_RETRACTIONS = """
SELECT 1 FROM events AS r WHERE r.retracts IS NOT NULL AND {event} > ? AND (
    r.kind <> 'retracted'
    OR EXISTS (SELECT 1 FROM events AS d WHERE d.retracts = r.retracts AND d.event < r.event)
    OR r.row <> '' AND NOT EXISTS (
        SELECT 1 FROM events AS o WHERE o.event = r.retracts AND o.event < r.event AND o.row = r.row
        AND o.kind IN ('answered', 'skipped', 'deferred', 'noted', 'retired')
    )
) LIMIT 1
"""

#: Conditions that a line of a table fails only if no label store wrote it; the types of its columns are known.
_LINES = {"proposals": "round >= 0 AND weight BETWEEN 0 AND 1", "unread": "round >= 0"}


@dataclass(frozen=True)
class LogEnd:
    """How far a log was read.

    Attributes:
        event: number of the last event.
        round: number of batches queried.
        multilabel: whether there is an answer with a list of classes.
        single: whether there is an answer with one class.
    """

    event: int = 0
    round: int = 0
    multilabel: bool = False
    single: bool = False

    def with_values(self, values: Iterable[Value]) -> "LogEnd":
        """The end of a log that also has these answers."""
        kinds = {type(value) for value in values}
        return replace(self, multilabel=self.multilabel or tuple in kinds, single=self.single or str in kinds)


def checked_end(connection: sqlite3.Connection, known: LogEnd) -> LogEnd | None:
    """The end of a log if all events after `known` are as a label store writes them.

    As good as reading and replaying each of them, but for the order of rounds, which nothing depends on, and for text
    that is not UTF-8 in an id or a name, which is noticed when it is read.

    Returns:
        None if an event has to be looked at: a replay then tells which one, and why.
    """
    ends = "SELECT (SELECT min(event) FROM events), (SELECT max(event) FROM events)"  # each found without a scan
    first, last = connection.execute(ends).fetchone()
    if (last or 0) == known.event:
        return known
    if last is None or first < 1 or last < known.event:
        return None
    if not known.event and not _is_strict(connection, "events"):  # later, SQLite refuses what is of another type
        return None
    try:
        count, round, wrong, answers = connection.execute(_EVENTS, (known.event,)).fetchone()
    except sqlite3.OperationalError:  # of text that is not UTF-8, among others
        return None
    batches = connection.execute("SELECT coalesce(max(round), 0) FROM batches").fetchone()[0]
    if count != last - known.event or wrong or round > batches:
        return None
    event = "r.event" if known.event else "+r.event"  # by number, since few events are new, or by the index of all
    if connection.execute(_WRONG_RETRACTIONS.format(event=event), (known.event,)).fetchone():
        return None
    try:
        values = [read_value(text) for text in json.loads(answers)]
    except ValueError:
        return None
    return replace(known, event=last, round=max(round, known.round)).with_values(values)


def are_usual(connection: sqlite3.Connection, table: str, after: int) -> bool:
    """Whether all lines of `proposals` or `unread` after a number are as a label store writes them."""
    query = f"SELECT 1 FROM {table} WHERE number > ? AND NOT ({_LINES[table]}) LIMIT 1"
    if not _is_strict(connection, table) or connection.execute(query, (after,)).fetchone():
        return False
    if table == "unread":
        return True
    distinct = "SELECT DISTINCT value FROM proposals WHERE number > ?"
    try:
        return all(read_value(text) is not None for (text,) in connection.execute(distinct, (after,)))
    except (ValueError, sqlite3.OperationalError):
        return False


def _is_strict(connection: sqlite3.Connection, table: str) -> bool:
    """Whether SQLite enforces the types of a table's columns as in a new file."""
    return _columns(connection, table) == _expected(table)


@lru_cache
def _expected(table: str) -> list[tuple[object, ...]]:
    with closing(sqlite3.connect(":memory:")) as connection:
        connection.executescript(SCHEMA)
        return _columns(connection, table)


def _columns(connection: sqlite3.Connection, table: str) -> list[tuple[object, ...]]:
    """Whether a table is strict, and name, type, NOT NULL and key of its columns."""
    strict = connection.execute("SELECT strict FROM pragma_table_list WHERE name = ?", (table,)).fetchall()
    query = 'SELECT name, type, "notnull", pk FROM pragma_table_info(?)'
    return strict + connection.execute(query, (table,)).fetchall()
