"""Log of questions and answers for people at work: appended to and queried by index, without a replay."""

import json
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from dal.errors import AnswerError, shortened
from dal.store.class_log import ClassLog
from dal.store.events import Answer, Event, Skip, Value
from dal.store.label_reader import SELECT, STANDS, now_or
from dal.store.leases import LEASE
from dal.store.question_log import QuestionLog
from dal.store.row_state import ADJUDICATED, RETIRED, RowState

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


class LabelLog(QuestionLog, ClassLog):
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

    # -- answers -------------------------------------------------------------------------------------------------------

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
                    answer.wanted,
                )
                for answer in answers
            ]
            connection.executemany(
                "INSERT INTO events (kind, at, round, row, value, who, source, seconds, cost, confidence, key, seen, "
                "wanted) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                lines,
            )
            if any(answer.wanted is not None for answer in answers):  # rows wait again, for others, where they were
                self._places.forget()
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
            stands = self.answers_by(row).get(who)
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

    # -- people --------------------------------------------------------------------------------------------------------

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
