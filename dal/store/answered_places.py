"""Where the questions begin that a person has not answered: those before are not looked at for each claim."""

import sqlite3

from dal.store.row_state import deferred_place

#: Condition of SQL: the person `:who` has no answer or skip of the row `s` of `standing`.
UNANSWERED = """(s.people = 0 OR NOT EXISTS (
    SELECT 1 FROM events AS e WHERE e.row = s.row AND +e.who = :who AND e.kind IN ('answered', 'skipped')
        AND NOT EXISTS (SELECT 1 FROM events AS r WHERE r.retracts = e.event)))"""

# Pending rows that the person has not answered, without deferred ones and those that were put first.
_OPEN = f"""
SELECT s.place FROM standing AS s WHERE s.place >= :first AND s.place < :end AND {UNANSWERED} ORDER BY s.place LIMIT 1
"""


class AnsweredPlaces:
    """Place of the first pending row that each person has not answered, kept in memory.

    With an overlap a person who works alone leaves thousands of rows that wait for others. New questions have higher
    places than earlier ones, and a row whose answer is retracted gets a negative one. Where rows come back to an
    earlier place, as after a change of a class, the places are forgotten.
    """

    def __init__(self) -> None:
        self._first: dict[str, int] = {}

    def first(self, connection: sqlite3.Connection, who: str) -> int:
        """A place, at least 0, before which the person has answered all pending rows. Call it under the log's lock."""
        values = {"who": who, "first": self._first.get(who, 0), "end": deferred_place(0)}
        found = connection.execute(_OPEN, values).fetchone()
        if found is None:  # all questions so far
            found = connection.execute("SELECT coalesce(max(event), 0) + 1 FROM events").fetchone()
        self._first[who] = int(found[0])
        return self._first[who]

    def forget(self) -> None:
        """Look at all pending rows again."""
        self._first.clear()
