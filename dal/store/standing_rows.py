"""The table of the states of rows, derived from their events in the transaction that stores these."""

import json
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any

from dal.store import events
from dal.store.class_table import ClassTable
from dal.store.events import SKIP, Event, Skip, Value
from dal.store.row_state import PENDING, RETIRED, RowState, row_state
from dal.store.state_counts import StateCounts

_CHUNK = 500  # values bound to one statement
_COLUMNS = "row, state, place, wanted, people, event, classes"
_NEW = RowState()


def meaning(classes: ClassTable, event: Event) -> Value | Skip | None:
    """Meaning of an answer in the current classes: names, `SKIP`, or None for a class that was retired."""
    if event.kind == "skipped":
        return SKIP
    return None if event.value is None else classes.current_value(event.value, event.event)


def renamed(classes: ClassTable, event: Event) -> Event:
    """An answer with the current names of its classes; other events as they are."""
    if event.kind != "answered" or event.value is None or not len(classes):
        return event
    return replace(event, value=classes.current_value(event.value, event.event))


def write_states(
    connection: sqlite3.Connection,
    rows: Iterable[str],
    classes: ClassTable,
    read: Callable[[Sequence[Any]], Event],
    counts: StateCounts,
) -> None:
    """Write the states of rows according to their events, and end the leases of those that are done.

    Args:
        connection: connection in a write transaction.
        rows: row ids.
        classes: the current classes.
        read: function that converts a line of the table `events`.
        counts: number of rows of each state, which is kept up to date.
    """
    for part in _chunks(dict.fromkeys(rows)):
        log: dict[str, list[Event]] = {row: [] for row in part}
        query = f"SELECT {events.COLUMNS} FROM events WHERE row IN ({_marks(part)}) ORDER BY event"
        for line in connection.execute(query, part):
            event = read(line)
            log[event.row].append(event)
        states = {row: row_state(each, lambda event: meaning(classes, event)) for row, each in log.items()}
        lines = [
            (
                row,
                state.state,
                state.place,
                state.wanted,
                state.people,
                None if state.answer is None else state.answer.event,
                _class_ids(state.answer, classes),
            )
            for row, state in states.items()
            if state != _NEW
        ]
        before = set(connection.execute(f"SELECT {_COLUMNS} FROM standing WHERE row IN ({_marks(part)})", part))
        gone, new = before.difference(lines), [line for line in lines if line not in before]  # most stay as they are
        counts.change((line[1] for line in gone), (line[1] for line in new))
        connection.executemany("DELETE FROM standing WHERE row = ?", [(line[0],) for line in gone])
        connection.executemany("INSERT INTO standing VALUES (?, ?, ?, ?, ?, ?, ?)", new)
        done = [(row,) for row, state in states.items() if _is_over(state)]
        connection.executemany("DELETE FROM leases WHERE row = ?", done)


def _is_over(state: RowState) -> bool:
    """Whether nobody can answer a row any more. A row that was found by a search is new and may be held."""
    return state.state == RETIRED or (state.state != PENDING and state.people > 0)


def read_states(
    connection: sqlite3.Connection, rows: Sequence[str], read: Callable[[Sequence[Any]], Event]
) -> dict[str, RowState]:
    """States of the rows that are not new, by id. The round of the query is not read.

    Args:
        connection: connection.
        rows: row ids.
        read: function that converts a line of the table `events`.
    """
    found: dict[str, RowState] = {}
    columns = ", ".join(f"e.{name}" for name in events.COLUMNS.split(", "))
    head = "s.row, s.state, s.wanted, s.people, s.place"
    for part in _chunks(rows):
        query = (
            f"SELECT {head}, {columns} FROM standing AS s LEFT JOIN events AS e ON e.event = s.event "
            f"WHERE s.row IN ({_marks(part)})"
        )
        for row, state, wanted, people, place, *line in connection.execute(query, part):
            found[row] = RowState(state, wanted, people, None if line[0] is None else read(line), place)
    return found


def _class_ids(event: Event | None, classes: ClassTable) -> str | None:
    """The classes of an answer as JSON: ids, or names outside the table of classes."""
    if event is None or event.kind != "answered" or event.value is None:
        return None
    names = (event.value,) if isinstance(event.value, str) else event.value
    ids = (classes.id_at(name, event.event) for name in names)
    return json.dumps([name if number is None else number for name, number in zip(names, ids, strict=True)])


def _chunks(rows: Iterable[str]) -> Iterator[list[str]]:
    values = list(rows)
    for start in range(0, len(values), _CHUNK):
        yield values[start : start + _CHUNK]


def _marks(part: Sequence[str]) -> str:
    return ", ".join("?" * len(part))
