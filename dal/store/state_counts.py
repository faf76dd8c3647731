"""Number of rows in each state, kept in memory, so that a large table is counted once."""

import sqlite3
from collections.abc import Iterable


class StateCounts:
    """Counts of the table `standing` as they are after an event.

    States change only in transactions that store events. The counts are therefore those of the table as long as the
    last event is the one up to which they were counted, also if another process wrote it.
    """

    def __init__(self) -> None:
        self._event = -1  # last event that the counts include; -1 if they are unknown
        self._counts: dict[str, int] = {}

    def read(self, connection: sqlite3.Connection, event: int) -> dict[str, int]:
        """Number of rows of each state, but for new ones.

        Args:
            connection: connection to the log.
            event: number of its last event.
        """
        if self._event != event:
            query = "SELECT state, count(*) FROM standing GROUP BY state ORDER BY state"
            self._counts, self._event = dict(connection.execute(query).fetchall()), event
        return {state: n for state, n in sorted(self._counts.items()) if n}

    def begin(self, event: int) -> None:
        """Note the last event at the beginning of a write transaction: other processes may have written."""
        if self._event != event:
            self._event = -1

    def change(self, before: Iterable[str], after: Iterable[str]) -> None:
        """Count a change of the states of rows, in a write transaction."""
        for states, step in ((before, -1), (after, 1)):
            for state in states:
                self._counts[state] = self._counts.get(state, 0) + step

    def end(self, event: int) -> None:
        """Note the last event at the end of a write transaction."""
        if self._event >= 0:
            self._event = event

    def forget(self) -> None:
        """Count again at the next reading."""
        self._event = -1
