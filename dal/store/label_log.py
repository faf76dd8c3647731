"""Log of questions and answers for people at work: appended to and queried by index, without a replay."""

import json
import sqlite3
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from dal.errors import AnswerError, SessionError, shortened
from dal.store import leases
from dal.store.class_table import encoded
from dal.store.events import Answer, Event, Skip, Value
from dal.store.label_reader import SELECT, STANDS, LabelReader, now_or
from dal.store.leases import LEASE
from dal.store.row_state import ADJUDICATED, NEW, RETIRED, RowState
from dal.store.standing_rows import write_states

#: Source of answers that were known before anybody was asked.
IMPORTED = "import"


class ConflictError(AnswerError):
    """An answer replaces another one than the person knew of.

    Attributes:
        stands: the person's current answer to the row; None if there is none.
    """

    def __init__(self, message: str, stands: Event | None) -> None:
        super().__init__(message)
        self.stands = stands


class LabelLog(LabelReader):
    """Append-only log of questions, answers and changes of classes in a SQLite file, for several people at once.

    Each call is one transaction, which is on disk before the call returns. What stands for a row is a line of an
    indexed table that is written in the same transaction, so that no call depends on the length of the log.
    Thread-safe.

    Args:
        path: SQLite file, created if it does not exist; None keeps the log in memory. A file of an earlier version is
            migrated, with a copy next to it.
        access, upto: as in `LabelFile`.

    Raises:
        SessionError: the file is not a label store, is damaged, or was written by a newer version.

    Example:
        >>> log = LabelLog(None)
        >>> log.ask(["a", "b", "c"])
        1
        >>> log.claim("ada", 2), log.claim("ben", 2)
        (['a', 'b'], ['c'])
        >>> log.answer("a", "spam", who="ada", key="k1", replaces=None).event
        4
        >>> log.row("a").state, log.counts()
        ('answered', {'answered': 1, 'pending': 2})
    """

    # -- transactions ----------------------------------------------------------------------------------------------

    @contextmanager
    def changing(self) -> Iterator[sqlite3.Connection]:
        """Open a write transaction that excludes other threads and processes.

        What others have written is read at the beginning. Calls on this log inside the block join the transaction:
        they are committed together at its end, or not at all after an error.

        Raises:
            SessionError: the file cannot be written, or is damaged.
        """
        with self._lock, self._reporting("could not be written; nothing of this call was stored"):
            connection = self._connection()
            if self._joined:
                yield connection
                return
            connection.execute("BEGIN IMMEDIATE")  # not deferred: what is read next must not change before the write
            try:
                self._joined = True
                self._catch_up(connection)  # checks within the block see what other processes have written
                yield connection
                connection.execute("COMMIT")
            except BaseException:
                if not self._closed and connection.in_transaction:
                    connection.execute("ROLLBACK")
                    self._table_event = -1  # it may include a change that was rolled back
                raise
            finally:
                self._joined = False
            self._catch_up(connection)  # only committed rows enter the state, by the way that a reader takes too

    # -- questions -------------------------------------------------------------------------------------------------

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
            withdrawn = [row for (row,) in connection.execute(free, ((1 << 40) - 1, now)).fetchall()]
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

    # -- leases ----------------------------------------------------------------------------------------------------

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
            return leases.claim(connection, who, n, seconds=seconds, now=now_or(at))

    def claim_row(self, row: str, who: str, *, seconds: float = LEASE, at: float | None = None) -> bool:
        """Lease a certain row to a person, such as one found by a search; False if somebody else holds it."""
        with self.changing() as connection:
            state = self._states(connection, [row]).get(row, RowState())
            return leases.claim_row(connection, row, state, who, seconds=seconds, now=now_or(at))

    def release(self, row: str, who: str) -> None:
        """End the lease of a row."""
        with self.changing() as connection:
            self._end_lease(connection, row, who)

    # -- answers ---------------------------------------------------------------------------------------------------

    def tell(self, answers: Sequence[Answer]) -> None:
        """Store the answers, all or none. A later answer replaces an earlier one to the same row."""
        at = time.time()
        with self.changing() as connection:
            round = self._round(connection)
            lines = [
                (
                    "skipped" if isinstance(answer.value, Skip) else "answered",
                    at,
                    round,
                    answer.row,
                    None if isinstance(answer.value, Skip) else json.dumps(answer.value, ensure_ascii=False),
                    answer.who,
                    answer.source,
                    answer.seconds,
                    answer.cost,
                    answer.confidence,
                    answer.key,
                    None if answer.seen is None else json.dumps(dict(answer.seen), ensure_ascii=False),
                )
                for answer in answers
            ]
            connection.executemany(
                "INSERT INTO events (kind, at, round, row, value, who, source, seconds, cost, confidence, key, seen)"
                " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                lines,
            )
            self._restate(connection, [answer.row for answer in answers])

    def answer(
        self,
        row: str,
        value: Value | Skip,
        *,
        who: str,
        key: str,
        replaces: int | None,
        source: str = "person",
        seconds: float | None = None,
        cost: float | None = None,
        seen: Mapping[str, Any] | None = None,
    ) -> Event:
        """Store the answer of a person, end her lease, and return the event.

        A key that is stored already stores nothing, so that a request can be repeated.

        Args:
            row: row id.
            value: class name, several when multi-label, or `SKIP`.
            who: person.
            key: identifier of the request.
            replaces: number of the person's current answer, which this one replaces; None if there is none.
            source, seconds, cost, seen: as in `Answer`.

        Raises:
            ConflictError: the person's current answer is not `replaces`.
            AnswerError: a class does not exist or cannot be chosen any more, or the row was retired.
        """
        with self.changing() as connection:
            known = self._keyed(connection, key)
            if known is not None:
                return known
            if self._states(connection, [row]).get(row, RowState()).state == RETIRED:
                raise AnswerError(f"the row {shortened(row)!r} was taken out of the pool")
            self._check_classes(value)
            stands = self._latest(connection, row, who)
            if (None if stands is None else stands.event) != replaces:
                raise ConflictError(f"the answer of {who!r} to this text was changed elsewhere", stands)
            self.tell([Answer(row, value, who, source, seconds, cost, None, key, seen)])
            self._end_lease(connection, row, who)
            stored = self._keyed(connection, key)
        assert stored is not None
        return stored

    def adjudicate(self, row: str, value: Value | Skip, *, who: str, key: str) -> Event:
        """Settle a dispute by an answer of its own, which rewrites nobody's, and return the event."""
        with self.changing() as connection:
            known = self._keyed(connection, key)
            if known is not None:
                return known
            self._check_classes(value)
            self.tell([Answer(row, value, who, ADJUDICATED, key=key)])
            self._end_lease(connection, row, who)
            stored = self._keyed(connection, key)
        assert stored is not None
        return stored

    def defer(self, row: str, *, who: str, key: str) -> Event:
        """Put a pending row last in the queue, end the person's lease, and return the event."""
        return self._append("deferred", row, who=who, key=key, restated=True)

    def note(self, row: str, text: str, *, who: str, key: str) -> Event:
        """Store a note to a row and return the event."""
        return self._append("noted", row, text, who=who, key=key)

    def undo_of(self, who: str, *, key: str, seconds: float = LEASE) -> Event | None:
        """Retract the last answer, skip, deferral or note of a person, and lease its row to her again.

        Returns:
            The event that was retracted, with the current names of its classes; None if there is nothing to undo.
        """
        with self.changing() as connection:
            known = self._keyed(connection, key)
            if known is not None and known.retracts is not None:
                return self.renamed(self._numbered(connection, known.retracts))
            query = (
                f"{SELECT} WHERE who = ? AND kind IN ('answered', 'skipped', 'deferred', 'noted') AND source IS NOT ? "
                f"AND {STANDS} ORDER BY event DESC LIMIT 1"
            )
            line = connection.execute(query, (who, IMPORTED)).fetchone()
            if line is None:
                return None
            event = self._event(line)
            self._retract(connection, event, who=who, key=key)
            if event.kind != "noted" and self.row(event.row).state != RETIRED:
                self.claim_row(event.row, who, seconds=seconds)
        return self.renamed(event)

    def retract(self, number: int, *, who: str = "", key: str | None = None) -> None:
        """Retract an answer, a skip, a deferral, a note, a retirement or a change of a class by its number.

        Raises:
            AnswerError: there is no such event, or it was retracted already, or a later change of a class depends on
                it. Nothing is stored.
        """
        with self.changing() as connection:
            event = self._numbered(connection, number)
            query = "SELECT 1 FROM events WHERE retracts = ?"
            if event.kind in ("asked", "withdrawn", "retracted") or connection.execute(query, (number,)).fetchone():
                raise AnswerError(f"event {number} cannot be retracted")
            self._retract(connection, event, who=who, key=key)

    def _retract(self, connection: sqlite3.Connection, event: Event, *, who: str, key: str | None) -> None:
        inserted = connection.execute(
            "INSERT INTO events (kind, at, round, row, who, retracts, key) VALUES ('retracted', ?, ?, ?, ?, ?, ?)",
            (time.time(), self._round(connection), event.row, who or None, event.event, key),
        )
        if event.row:
            self._restate(connection, [event.row])
            return
        try:
            self._table.retract(inserted.lastrowid or 0, event.event)
        except ValueError as error:
            raise AnswerError(str(error)) from error
        self._table_event = inserted.lastrowid or 0
        self._restate_answered(connection)

    # -- classes and rows ------------------------------------------------------------------------------------------

    def change_classes(self, change: Mapping[str, Any], *, who: str = "", key: str | None = None) -> Event:
        """Add, rename, describe, merge, retire, restore or bind a class, or change the guideline for all texts.

        No answer is rewritten: answers are read through the table of classes.

        Args:
            change: `{"do": "add", "name": ..., "description": ...}`, `{"do": "rename", "id": ..., "name": ...}`,
                `{"do": "describe", "id": ..., "text": ..., "examples": [...]}`, `{"do": "merge", "id": ..., "into":
                ...}`, `{"do": "retire", "id": ...}`, `{"do": "restore", "id": ...}` (a class that was merged or
                retired), `{"do": "bind", "id": ..., "letter": ...}` or `{"do": "guide", "text": ...}`.
            who: person.
            key: identifier of the request; a stored one changes nothing.

        Raises:
            AnswerError: the change is impossible. Nothing is stored.
        """
        with self.changing() as connection:
            known = None if key is None else self._keyed(connection, key)
            if known is not None:
                return known
            if change.get("do") == "restore":
                number = self._table.removal(change.get("id"))
                self.retract(number, who=who, key=key)
                return self._numbered(connection, self._table_event)
            change = {**change, "id": len(self._table)} if change.get("do") == "add" else dict(change)
            self._table.check(change)
            inserted = connection.execute(
                "INSERT INTO events (kind, at, round, row, value, who, key) VALUES ('class', ?, ?, '', ?, ?, ?)",
                (time.time(), self._round(connection), encoded(change), who or None, key),
            )
            number = inserted.lastrowid or 0
            self._table.apply(number, encoded(change))
            self._table_event = number
            if change["do"] == "merge":  # what stands changes only where people disagreed
                query = "SELECT row FROM standing WHERE wanted > 1"
                self._restate(connection, [row for (row,) in connection.execute(query).fetchall()])
            elif change["do"] == "retire":
                self._restate_answered(connection)
            return self._numbered(connection, number)

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

    # -- people ----------------------------------------------------------------------------------------------------

    def set_person(
        self,
        who: str,
        *,
        token: bytes | None,
        rights: Iterable[str] = (),
        until: float | None = None,
        since: float | None = None,
    ) -> None:
        """Give a person access, or replace her token, rights and times.

        Args:
            who: name.
            token: SHA-256 digest of her token.
            rights: words such as "classes" and "adjudicate".
            until: when the access ends, in seconds since 1970; None if it does not.
            since: when it began; None for now.
        """
        with self.changing() as connection:
            connection.execute(
                "INSERT INTO people VALUES (?, ?, ?, ?, ?) ON CONFLICT (who) DO UPDATE SET token = excluded.token, "
                "rights = excluded.rights, since = excluded.since, until = excluded.until",
                (who, token, json.dumps(sorted(rights)), now_or(since), until),
            )

    def remove_person(self, who: str) -> None:
        """End a person's access. Her answers are kept."""
        with self.changing() as connection:
            connection.execute("UPDATE people SET until = ?, token = NULL WHERE who = ?", (time.time(), who))

    def _restate(self, connection: sqlite3.Connection, rows: Iterable[str]) -> None:
        write_states(connection, rows, self._table, self._event)

    def _restate_answered(self, connection: sqlite3.Connection) -> None:
        """Write the states of all rows with answers, after a change of what counts as one."""
        query = "SELECT DISTINCT row FROM events WHERE kind IN ('answered', 'skipped')"
        self._restate(connection, [row for (row,) in connection.execute(query).fetchall()])

    def _append(
        self, kind: str, row: str, value: str | None = None, *, who: str, key: str, restated: bool = False
    ) -> Event:
        with self.changing() as connection:
            known = self._keyed(connection, key)
            if known is not None:
                return known
            connection.execute(
                "INSERT INTO events (kind, at, round, row, value, who, key) VALUES (?, ?, ?, ?, ?, ?, ?)",
                (kind, time.time(), self._round(connection), row, value, who, key),
            )
            if restated:
                self._restate(connection, [row])
                self._end_lease(connection, row, who)
            stored = self._keyed(connection, key)
        assert stored is not None
        return stored

    def _end_lease(self, connection: sqlite3.Connection, row: str, who: str) -> None:
        connection.execute("DELETE FROM leases WHERE row = ? AND who = ?", (row, who))

    def _check_classes(self, value: Value | Skip) -> None:
        if isinstance(value, Skip) or not len(self._table):
            return
        active = {entry.name for entry in self._table.active}
        wrong = [name for name in ((value,) if isinstance(value, str) else value) if name not in active]
        if wrong:
            raise AnswerError(f"there is no class {shortened(wrong[0])!r} that can be chosen")
