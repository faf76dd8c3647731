"""Leases: which person is reading which row, so that no two people get the same text."""

import sqlite3
from collections.abc import Sequence

from dal.store.answered_places import UNANSWERED
from dal.store.row_state import PENDING, RowState

#: Duration of a lease in seconds.
LEASE = 600.0

_NO_END = 1 << 62  # after the places of all rows

# Pending rows with fewer other readers than answers that are still wanted, not held or answered by the person.
_FREE = f"""
SELECT s.row FROM standing AS s
WHERE s.place < :end AND (s.place < 0 OR s.place >= :first)
    AND s.wanted - s.people >
        (SELECT count(*) FROM leases AS l WHERE l.row = s.row AND l.who <> :who AND l.until > :now)
    AND NOT EXISTS (SELECT 1 FROM leases AS m WHERE m.row = s.row AND m.who = :who AND m.until > :now)
    AND {UNANSWERED}
ORDER BY s.place LIMIT :n
"""

_TAKE = f"""
INSERT INTO leases (row, who, since, until) SELECT row, :who, :now, :until FROM ({_FREE}) WHERE true
ON CONFLICT (row, who) DO UPDATE SET since = excluded.since, until = excluded.until
"""

# Rows that were found by a search, or whose answer is being changed, have no place: they come first.
_HELD = """
SELECT l.row FROM leases AS l LEFT JOIN standing AS s USING (row) WHERE l.who = :who AND l.until > :now
ORDER BY s.place IS NOT NULL, s.place, l.since DESC LIMIT :n
"""


def claim(connection: sqlite3.Connection, who: str, n: int, *, seconds: float, now: float, first: int = 0) -> list[str]:
    """Lease the next rows to a person, after those that she holds already, and return their ids.

    Args:
        connection: connection in a write transaction.
        who: person.
        n: number of rows.
        seconds: duration of the leases, also of those that exist.
        now: seconds since 1970.
        first: place from 0 before which the person has answered all pending rows.
    """
    values = {"who": who, "now": now, "until": now + seconds, "n": n, "first": first, "end": _NO_END}
    _follow_clock(connection, seconds=seconds, now=now)
    held = len(connection.execute(_HELD, values).fetchall())
    if held < n:
        connection.execute(_TAKE, values | {"n": n - held})
    rows = [row for (row,) in connection.execute(_HELD, values).fetchall()]
    _end_expired(connection, rows, now=now)
    extended = [(now + seconds, row, who) for row in rows]
    connection.executemany("UPDATE leases SET until = ? WHERE row = ? AND who = ?", extended)
    return rows


def _follow_clock(connection: sqlite3.Connection, *, seconds: float, now: float) -> None:
    """Let no lease end later than one that begins now, nor have begun later, as after the clock was set back."""
    values = {"now": now, "until": now + seconds}
    connection.execute("UPDATE leases SET until = :until WHERE until > :until", values)
    connection.execute("UPDATE leases SET since = :now - 1 WHERE since > :now", values)  # earlier than those to come


def _end_expired(connection: sqlite3.Connection, rows: Sequence[str], *, now: float) -> None:
    """End the expired leases of rows that are somebody else's now: a clock that is set back must not renew them."""
    connection.executemany("DELETE FROM leases WHERE row = ? AND until <= ?", [(row, now) for row in rows])


def free(connection: sqlite3.Connection, who: str, n: int, *, now: float, first: int, end: int) -> int:
    """Number of rows, at most `n`, with places before `end` that `claim` could lease to a person.

    Args:
        connection: connection to the log.
        who, n, now, first: as for `claim`.
        end: a place.
    """
    values = {"who": who, "n": n, "now": now, "first": first, "end": end}
    return int(connection.execute(f"SELECT count(*) FROM ({_FREE})", values).fetchone()[0])


def claim_row(
    connection: sqlite3.Connection, row: str, state: RowState, who: str, *, seconds: float, now: float
) -> bool:
    """Lease a certain row to a person; False if others hold it.

    Args:
        connection: connection in a write transaction.
        row: row id.
        state: its state.
        who, seconds, now: as for `claim`.
    """
    _follow_clock(connection, seconds=seconds, now=now)
    query = "SELECT count(*) FROM leases WHERE row = ? AND who <> ? AND until > ?"
    others = connection.execute(query, (row, who, now)).fetchone()[0]
    if others and others >= state.wanted - (state.people if state.state == PENDING else 0):
        return False
    _end_expired(connection, [row], now=now)
    connection.execute(
        "INSERT INTO leases VALUES (?, ?, ?, ?) "
        "ON CONFLICT (row, who) DO UPDATE SET since = excluded.since, until = excluded.until",
        (row, who, now, now + seconds),
    )
    return True


def claimable(connection: sqlite3.Connection, *, now: float) -> int:
    """Number of pending rows that another person could be given."""
    query = """
        SELECT count(*) FROM standing AS s WHERE place IS NOT NULL AND s.wanted - s.people >
            (SELECT count(*) FROM leases AS l WHERE l.row = s.row AND l.until > ?)
    """
    return int(connection.execute(query, (now,)).fetchone()[0])


def readers(connection: sqlite3.Connection, *, now: float) -> dict[str, list[str]]:
    """People who hold a row, by row id."""
    held: dict[str, list[str]] = {}
    for row, who in connection.execute("SELECT row, who FROM leases WHERE until > ? ORDER BY row, since", (now,)):
        held.setdefault(row, []).append(who)
    return held
