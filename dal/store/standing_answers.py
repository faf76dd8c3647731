"""Answers that stand, read in bulk from the table of the states of rows."""

import json
import sqlite3
from collections.abc import Iterator

from dal.store.bounded_json import parse_json
from dal.store.class_table import ClassTable
from dal.store.events import Value, read_value

_PAGE = 10_000  # ids fetched at a time

#: States of rows with an answer that stands: a row that waits for another person may have one.
_STATES = ("answered", "pending")
_DECLINED = "state IN ('declined', 'disputed') OR state = 'pending' AND event IS NOT NULL AND classes IS NULL"


def answers_by_event(connection: sqlite3.Connection, classes: ClassTable) -> Iterator[tuple[str, Value]]:
    """Row id and answer in the current names of its classes, in the order of the answers."""
    query = (
        "SELECT s.row, e.event, e.value FROM standing AS s JOIN events AS e ON e.event = s.event "
        "WHERE s.classes IS NOT NULL ORDER BY e.event"
    )
    for row, event, text in connection.execute(query):
        value = classes.current_value(read_value(text), event)
        if value is not None:
            yield row, value


def rows_by_answer(
    connection: sqlite3.Connection, classes: ClassTable, *, multilabel: bool
) -> Iterator[tuple[Value, list[str]]]:
    """Answer in the current names of its classes, and ids of rows that have it, in pages. An answer may come again.

    Reads an index only, which has neither the times nor the texts of the answers.

    Args:
        connection: connection to the log.
        classes: the current classes.
        multilabel: whether the answers are lists of classes.
    """
    for state in _STATES:
        query = "SELECT DISTINCT classes FROM standing WHERE state = ? AND classes IS NOT NULL ORDER BY classes"
        for (text,) in connection.execute(query, (state,)).fetchall():
            names = _current_names(text, classes)
            value: Value = names if multilabel else names[0]
            last = ""  # no row has an empty id
            while page := _page(connection, state, text, last):
                yield value, page
                last = page[-1]


def _page(connection: sqlite3.Connection, state: str, classes: str, after: str) -> list[str]:
    """The next ids of rows with a state and classes, as one JSON array: reading each line would take twice as long."""
    rows = "SELECT row FROM standing WHERE state = ? AND classes = ? AND row > ? ORDER BY row LIMIT ?"
    query = f"SELECT json_group_array(row) FROM ({rows})"
    page: list[str] = json.loads(connection.execute(query, (state, classes, after, _PAGE)).fetchone()[0])
    return page


def declined_rows(connection: sqlite3.Connection) -> Iterator[list[str]]:
    """Ids of the rows that are neither trained on nor asked again, in pages."""
    lines = connection.execute(f"SELECT row FROM standing WHERE {_DECLINED}")
    while page := lines.fetchmany(_PAGE):
        yield [row for (row,) in page]


def waiting_answers(connection: sqlite3.Connection) -> int:
    """Number of rows with an answer that stands although they wait for another person."""
    query = "SELECT count(*) FROM standing WHERE state = 'pending' AND classes IS NOT NULL"
    return int(connection.execute(query).fetchone()[0])


def answers_by_source(connection: sqlite3.Connection) -> dict[str, int]:
    """Number of answers that stand, by their source, in the order of their sources' first ones."""
    query = (
        "SELECT coalesce(e.source, ''), count(*) FROM standing AS s JOIN events AS e ON e.event = s.event "
        "WHERE s.classes IS NOT NULL GROUP BY 1 ORDER BY min(e.event)"
    )
    return dict(connection.execute(query).fetchall())


def _current_names(text: str, classes: ClassTable) -> tuple[str, ...]:
    """The current names of classes that the table of states holds as ids, or as names outside the table of classes."""
    finals = ((each if isinstance(each, str) else classes.final(each)) for each in parse_json(text))
    names = (each if isinstance(each, str) else each.name for each in finals if each is not None)
    return tuple(dict.fromkeys(names))
