"""States of rows after a change of a class: by SQL where a row has a single answer, by its events elsewhere."""

import json
import sqlite3
from collections.abc import Callable, Iterable

from dal.store.class_table import ClassTable
from dal.store.events import read_value

#: Restates rows by their events.
Restate = Callable[[Iterable[str]], None]

_TABLES = """
CREATE TEMP TABLE IF NOT EXISTS meant (value TEXT, first INTEGER, last INTEGER, id INTEGER);
CREATE TEMP TABLE IF NOT EXISTS simple (row TEXT PRIMARY KEY, event INTEGER, word TEXT) WITHOUT ROWID;
DELETE FROM temp.meant;
DELETE FROM temp.simple;
"""

# A single class that is meant by the value of an answer e.
_MEANT = "SELECT id FROM temp.meant AS m WHERE m.value = e.value AND e.event BETWEEN m.first AND m.last"

# Rows whose place in the order of questions, or whose next answer, depends on more than their last query.
_OTHERS = """
SELECT row FROM events NOT INDEXED WHERE kind IN ('deferred', 'retracted') OR source = 'adjudicated'
"""

# The last query of a row, as twice its event, one more if it was not withdrawn.
_ASKED = """
SELECT 2 * q.event + (q.kind = 'asked') FROM events AS q
WHERE q.row = s.row AND q.kind IN ('asked', 'withdrawn') ORDER BY q.event DESC LIMIT 1
"""


def restate_class(
    connection: sqlite3.Connection, classes: ClassTable, number: int, *, counted: bool, counts: bool, restate: Restate
) -> None:
    """Write the states of the rows that have an answer of a class, after that class was changed.

    The rows with one person's answer are changed by one statement: a log may have a hundred thousand of them, and
    everybody waits for this transaction.

    Args:
        connection: connection in a write transaction.
        classes: the classes after the change.
        number: id of the class that was merged, retired or restored.
        counted: whether its answers counted before.
        counts: whether they count now.
        restate: function that writes the states of rows by their events.
    """
    for statement in _TABLES.split(";")[:-1]:
        connection.execute(statement)
    values = _find_values(connection, classes, number)
    if counted == counts:  # what stands changes only where people disagreed, or no longer do
        restate(_rows_with(connection, values, "AND row IN (SELECT row FROM standing WHERE wanted > 1 AND people > 1)"))
        return
    (_count_again if counts else _count_no_more)(connection)
    restate(_rows_with(connection, values, "AND row NOT IN (SELECT row FROM temp.simple)"))
    connection.execute("DELETE FROM temp.simple")


def _find_values(connection: sqlite3.Connection, classes: ClassTable, number: int) -> str:
    """The values of answers that name the class, or one that was merged into it, at any time, as JSON.

    The table `meant` gets those of a single class, and the events between which the name stood for it.
    """
    family = classes.family(number)
    found: list[str] = []
    for (text,) in connection.execute("SELECT DISTINCT value FROM events NOT INDEXED WHERE kind = 'answered'"):
        value = read_value(text)
        meanings = [
            meaning
            for name in ((value,) if isinstance(value, str) else value)
            for meaning in classes.meanings(name)
            if meaning[2] in family
        ]
        if meanings:
            found.append(text)
        if isinstance(value, str):
            connection.executemany("INSERT INTO temp.meant VALUES (?, ?, ?, ?)", [(text, *each) for each in meanings])
    return json.dumps(found)


def _rows_with(connection: sqlite3.Connection, values: str, condition: str) -> list[str]:
    """Rows with an answer of these values that its person has not replaced: one that was replaced changes nothing."""
    query = (
        "SELECT row FROM events AS e NOT INDEXED WHERE kind = 'answered' AND value IN (SELECT value FROM json_each(?)) "
        f"{condition} AND NOT EXISTS (SELECT 1 FROM events AS n WHERE n.row = e.row AND n.event > e.event AND "
        "n.kind IN ('answered', 'skipped') AND coalesce(n.who, '') = coalesce(e.who, '') AND "
        "(n.source IS 'adjudicated') = (e.source IS 'adjudicated') AND "
        "NOT EXISTS (SELECT 1 FROM events AS r WHERE r.retracts = n.event))"
    )
    return list(dict.fromkeys(row for (row,) in connection.execute(query, (values,))))


def _count_no_more(connection: sqlite3.Connection) -> None:
    """Let the answer of the only person of rows no longer count: those that were asked are asked again."""
    connection.execute(
        f"INSERT INTO temp.simple SELECT s.row, ({_ASKED}), NULL FROM standing AS s JOIN events AS e "
        "ON e.event = s.event WHERE s.state = 'answered' AND s.wanted = 1 AND s.people = 1 AND e.kind = 'answered' "
        f"AND EXISTS ({_MEANT}) AND s.row NOT IN ({_OTHERS})"
    )
    asked = "SELECT row FROM temp.simple WHERE event % 2"
    connection.execute(f"DELETE FROM standing WHERE row IN (SELECT row FROM temp.simple) AND row NOT IN ({asked})")
    connection.execute(
        "UPDATE standing SET state = 'pending', place = s.event / 2, people = 0, event = NULL, classes = NULL "
        "FROM temp.simple AS s WHERE s.row = standing.row"
    )


def _count_again(connection: sqlite3.Connection) -> None:
    """Let the answer of the only person of rows count again: nobody is asked them any more."""
    # Of a group SQLite takes the columns without a function from the line with the maximum: the latest answer.
    connection.execute(
        f"INSERT INTO temp.simple SELECT row, max(event), '[' || ({_MEANT}) || ']' FROM events AS e NOT INDEXED "
        "WHERE kind IN ('answered', 'skipped', 'retracted') AND row <> '' GROUP BY row HAVING "
        "count(DISTINCT coalesce(who, '')) = 1 AND "
        "NOT total(kind = 'retracted' OR source IS 'adjudicated' OR wanted > 1) "
        f"AND kind = 'answered' AND EXISTS ({_MEANT})"
    )
    connection.execute(
        "DELETE FROM temp.simple WHERE row IN "
        "(SELECT row FROM standing WHERE state <> 'pending' OR people > 0 OR wanted > 1)"
    )
    connection.execute(
        "INSERT OR REPLACE INTO standing SELECT row, 'answered', NULL, 1, 1, event, word FROM temp.simple"
    )
    connection.execute("DELETE FROM leases WHERE row IN (SELECT row FROM temp.simple)")
