"""Questions of the log: batches, the ranking that replaces them, leases, and rows that are taken out of the pool."""

import json
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from dal.errors import SessionError
from dal.store import leases
from dal.store.label_reader import STANDS, now_or
from dal.store.leases import LEASE
from dal.store.log_writer import LogWriter
from dal.store.row_state import NEW, RETIRED, RowState, deferred_place


class QuestionLog(LogWriter):
    """The questions of a log, and the people who are reading them.

    Args:
        path, access, upto: as in `LabelReader`.
    """

    def ask(
        self,
        rows: Sequence[str],
        *,
        scores: Sequence[float] | None = None,
        strategy: str = "",
        details: Mapping[str, Any] | None = None,
        wanted: Mapping[str, int] | None = None,
    ) -> int:
        """Store a new batch, whose rows become pending in this order, and return its round.

        Args:
            rows: ids that are neither pending nor answered nor skipped.
            scores: one score per row; None if the strategy has none.
            strategy: name of the strategy that selected the rows.
            details: further JSON values about the selection, by name.
            wanted: id -> number of people who are to answer it, of rows that more than one is to answer.

        Raises:
            SessionError: a row is pending, answered or skipped, or occurs twice, or there are none. Nothing is stored.
        """
        scored: Iterable[float | None] = [None] * len(rows) if scores is None else scores
        with self.changing() as connection:
            states = self._states(connection, rows)
            taken = [row for row in rows if row in states and states[row].state != NEW]
            if taken or len(set(rows)) != len(rows) or not rows:
                detail = f"; asked already: {taken[:5]}" if taken else ", each of them once, at least one"
                raise SessionError(f"a batch must be rows that were not asked before{detail}")
            number, at = self._round(connection) + 1, time.time()
            connection.execute(
                "INSERT INTO batches VALUES (?, ?, ?)", (number, strategy, json.dumps(dict(details or {})))
            )
            people = wanted or {}
            connection.executemany(
                "INSERT INTO events (kind, at, round, row, score, wanted) VALUES ('asked', ?, ?, ?, ?, ?)",
                [
                    (at, number, row, score, people.get(row) if people.get(row, 1) > 1 else None)
                    for row, score in zip(rows, scored, strict=True)
                ],
            )
            self._restate(connection, rows)
        return number

    def rank(
        self,
        rows: Sequence[str],
        *,
        scores: Sequence[float] | None = None,
        strategy: str = "",
        details: Mapping[str, Any] | None = None,
        wanted: Mapping[str, int] | None = None,
        at: float | None = None,
    ) -> tuple[int, int]:
        """Replace the questions that nobody has claimed, answered or deferred by new ones, in one transaction.

        Args:
            rows: ids in the order in which to ask them. Those that somebody has claimed or answered meanwhile, or that
                were retired, are left out.
            scores, strategy, details, wanted: as for `ask`.
            at: time, in seconds since 1970, at which leases must not have expired; None for now.

        Returns:
            Number of rows asked, and number of earlier questions withdrawn.
        """
        scored = dict(zip(rows, [None] * len(rows) if scores is None else scores, strict=True))
        now = now_or(at)
        with self.changing() as connection:
            free = (
                "SELECT row FROM standing AS s WHERE place BETWEEN 0 AND ? AND people = 0 AND NOT EXISTS "
                "(SELECT 1 FROM leases AS l WHERE l.row = s.row AND l.until > ?)"
            )
            withdrawn = [row for (row,) in connection.execute(free, (deferred_place(0) - 1, now)).fetchall()]
            self.withdraw(withdrawn, at=now)
            taken = self._states(connection, list(scored))
            new = [row for row in scored if row not in taken or taken[row].state == NEW]
            if new:
                given = [scored[row] for row in new]
                known = [score for score in given if score is not None]
                self.ask(
                    new,
                    scores=known if len(known) == len(new) else None,
                    strategy=strategy,
                    details=details,
                    wanted=wanted,
                )
        return len(new), len(withdrawn)

    def withdraw(self, rows: Sequence[str], *, at: float | None = None) -> None:
        """Take pending rows out of the queue, and end their leases."""
        with self.changing() as connection:
            lines = [(now_or(at), self._round(connection), row) for row in rows]
            connection.executemany("INSERT INTO events (kind, at, round, row) VALUES ('withdrawn', ?, ?, ?)", lines)
            connection.executemany("DELETE FROM leases WHERE row = ?", [(row,) for row in rows])
            self._restate(connection, rows)

    # -- leases --------------------------------------------------------------------------------------------------------

    def claim(self, who: str, n: int, *, seconds: float = LEASE, at: float | None = None) -> list[str]:
        """Lease the next rows to a person and return their ids, first those that are leased to her already.

        No row is leased to more people than are to answer it, and none to a person who answered it.

        Args:
            who: person.
            n: number of rows.
            seconds: duration of the leases, also of those that exist.
            at: time in seconds since 1970; None for now.
        """
        with self.changing() as connection:
            first = self._places.first(connection, who)
            return leases.claim(connection, who, n, seconds=seconds, now=now_or(at), first=first)

    def claim_row(self, row: str, who: str, *, seconds: float = LEASE, at: float | None = None) -> bool:
        """Lease a certain row to a person, such as one found by a search; False if somebody else holds it."""
        with self.changing() as connection:
            state = self._states(connection, [row]).get(row, RowState())
            return leases.claim_row(connection, row, state, who, seconds=seconds, now=now_or(at))

    def release(self, row: str, who: str) -> None:
        """End the lease of a row."""
        with self.changing() as connection:
            self._end_lease(connection, row, who)

    # -- rows ----------------------------------------------------------------------------------------------------------

    def retire(self, rows: Sequence[str], *, who: str = "") -> int:
        """Take rows out of the pool and the queue, with their answers, and return how many were not retired before."""
        with self.changing() as connection:
            states = self._states(connection, rows)
            new = [row for row in dict.fromkeys(rows) if states.get(row, RowState()).state != RETIRED]
            connection.executemany(
                "INSERT INTO events (kind, at, round, row, who) VALUES ('retired', ?, ?, ?, ?)",
                [(time.time(), self._round(connection), row, who or None) for row in new],
            )
            self._restate(connection, new)
        return len(new)

    def restore(self, rows: Sequence[str], *, who: str = "") -> int:
        """Bring retired rows back, with their answers. Returns their number."""
        with self.changing() as connection:
            query = f"SELECT event FROM events AS e WHERE row = ? AND kind = 'retired' AND {STANDS}"
            numbers = [
                number for row in dict.fromkeys(rows) for (number,) in connection.execute(query, (row,)).fetchall()
            ]
            for number in numbers:
                self.retract(number, who=who)
        return len(numbers)
