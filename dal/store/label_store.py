"""Label store: an append-only log of all queries and annotations in one SQLite file."""

import sqlite3
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from dal.errors import SessionError, one_line
from dal.store import proposals, standing_answers
from dal.store import unread_answers as unread
from dal.store.bounded_json import parse_json
from dal.store.events import Batch, Event, Skip, Value
from dal.store.followed_log import FollowedLog
from dal.store.label_database import Access
from dal.store.label_reader import GIVEN, SELECT
from dal.store.log_state import AnnotationTotals
from dal.store.proposals import Proposal
from dal.store.row_state import RowState
from dal.store.unread_answers import Unread


class LabelStore(FollowedLog):
    """A log of queries and annotations as a session reads it: the state of all rows, and what was done so far.

    Each call appends its events in one transaction that is on disk before the call returns. The state (`answers`,
    `pending`, `skipped`, `round`) is determined by the events alone. Answers are keyed by row id and hold class names,
    so the pool may grow or be reordered. Thread-safe.

    Opening checks all events by SQL, and keeps none of them in memory: the state is read from the table of the states
    of rows when it is asked for. What only the events tell (`answers_before_batch`) replays them at the first call.

    Args:
        path: SQLite file, created if it does not exist; None keeps the log in memory.
        access, upto: as in `dal.store.label_database.LabelFile`.

    Raises:
        SessionError: the file is not a label store, is damaged, or was written by a newer version.

    Example:
        >>> from dal.store.events import Answer
        >>> store = LabelStore()
        >>> store.ask(["a", "b"])
        1
        >>> store.tell([Answer("a", "spam")])
        >>> store.answers, store.pending
        ({'a': 'spam'}, ['b'])
    """

    def __init__(self, path: Path | str | None = None, *, access: Access = "write", upto: int | None = None) -> None:
        self._work, self._work_event = AnnotationTotals(), 0  # totals of the answers up to this event
        self._sources_event = 0  # event to which the totals by source of the current answers belong
        self._queries: dict[int, tuple[int, int]] = {}  # round -> first and last event of its batch
        super().__init__(path, access=access, upto=upto)

    @classmethod
    def snapshot(cls, path: Path | str, upto: int | None = None) -> "LabelStore":
        """A copy in memory of the log in a file, as it was after event `upto`; None for its last event.

        The copy can be written to, and nothing reaches the file. What was proposed or recorded without an event is
        that of today.

        Raises:
            SessionError: the file is not a label store, or is damaged.
        """
        return cls(path, access="copy", upto=upto)

    # -- current state ---------------------------------------------------------------------------------------------

    @property
    def answers(self) -> dict[str, Value]:
        """Current answers: row id -> class name, or tuple of names when multi-label."""
        with self._current() as connection:
            return dict(standing_answers.answers_by_event(connection, self._table))

    def rows_by_answer(self) -> Iterator[tuple[Value, list[str]]]:
        """Current answers without an object for each: an answer and the ids of up to 10,000 rows that have it.

        The same answer may come again. Call it in `at_once`, so that nothing is written between two pages.
        """
        with self._current() as connection:
            if not (self._end.single and self._end.multilabel):
                multilabel = self._end.multilabel
                yield from standing_answers.rows_by_answer(connection, self._table, multilabel=multilabel)
                return
            for row, value in self.answers.items():  # the table of states does not tell "a" from ["a"]
                yield value, [row]

    @property
    def answered(self) -> int:
        """Number of rows with an answer that stands."""
        with self._current() as connection:
            counts = self._counts.read(connection, -2 if self._joined else self._last_event(connection))
            return counts.get("answered", 0) + standing_answers.waiting_answers(connection)

    def answer_to(self, row: str) -> Value | Skip | None:
        """Current answer of a row: class names, `SKIP`, or None."""
        return self.answers_to([row])[0]

    def answers_to(self, rows: Iterable[str]) -> list[Value | Skip | None]:
        """Current answer of each row, as `answer_to` returns it."""
        rows = list(rows)
        with self._current() as connection:
            states = self._states(connection, list(dict.fromkeys(rows)))
            return [self._value(states.get(row, RowState()).answer) for row in rows]

    @property
    def skipped(self) -> set[str]:
        """Ids of the rows that are neither trained on nor asked again: declined ones, and those in dispute."""
        with self._current() as connection:
            return {row for page in standing_answers.declined_rows(connection) for row in page}

    @property
    def pending(self) -> list[str]:
        """Ids of queried rows without an answer, in the order in which to ask them."""
        with self._current() as connection:
            query = "SELECT row FROM standing WHERE place IS NOT NULL ORDER BY place"
            return [row for (row,) in connection.execute(query)]

    @property
    def retired(self) -> set[str]:
        """Ids of the rows that were taken out of the pool."""
        with self._current() as connection:
            return {row for (row,) in connection.execute("SELECT row FROM standing WHERE state = 'retired'")}

    @property
    def work(self) -> AnnotationTotals:
        """Totals of cost, time and sources of the answers. Do not modify."""
        with self._current() as connection:
            if self._work_event < self._end.event:
                self._work.read(connection, after=self._work_event, upto=self._end.event)
                self._work_event = self._end.event
            if self._sources_event != self._end.event or self._joined:
                given = list(dict.fromkeys(source for source, _, _ in self._work.done))
                alone = len(given) == 1 and not self._joined  # then no answer has to be looked up
                current = {given[0]: self.answered} if alone else standing_answers.answers_by_source(connection)
                self._work.current = Counter(current)
                self._sources_event = -1 if self._joined else self._end.event  # what is written may be rolled back
            return self._work

    @property
    def answers_before_batch(self) -> dict[str, Event]:
        """Answers and skips that were current when the latest batch was queried, by row id."""
        with self._current() as connection:
            return self._replayed(connection, self._end.event).before_batch()

    def was_asked(self, row: str) -> bool:
        """Whether the row was queried, and the query was not withdrawn."""
        kinds = "kind IN ('asked', 'withdrawn')"
        with self._current() as connection:
            query = f"SELECT kind FROM events WHERE row = ? AND {kinds} ORDER BY event DESC LIMIT 1"
            return bool(connection.execute(query, (row,)).fetchone() == ("asked",))

    def asked_rounds(self, rows: Iterable[str]) -> dict[str, int]:
        """Round in which each of these rows was last queried, also if that was withdrawn; others are left out."""
        query = "SELECT round FROM events WHERE row = ? AND kind = 'asked' ORDER BY event DESC LIMIT 1"
        with self._current() as connection:
            found = ((row, connection.execute(query, (row,)).fetchone()) for row in rows)
            return {row: last[0] for row, last in found if last is not None}

    @property
    def proposals(self) -> list[Proposal]:
        """All proposed labels, oldest first."""
        return self._items(self._proposals)

    @property
    def weighted_proposals(self) -> list[Proposal]:
        """The proposed labels with a weight above 0, oldest first."""
        query = f"SELECT number, {proposals.COLUMNS} FROM proposals WHERE weight > 0 ORDER BY number"
        with self._current() as connection:
            return [
                self._read("line of proposals", line[0], proposals.read, line[1:]) for line in connection.execute(query)
            ]

    @property
    def unread(self) -> list[Unread]:
        """All model responses that could not be parsed, oldest first."""
        return self._items(self._unread)

    def batch(self, round: int) -> Batch:
        """The batch queried in `round`, counted from 1.

        Raises:
            SessionError: there is no such round.
        """
        with self._current() as connection:
            if not 1 <= round <= self._end.round:
                raise SessionError(f"{self._name} has no round {round}; rounds asked: {self._end.round}")
            head = connection.execute("SELECT strategy, details FROM batches WHERE round = ?", (round,)).fetchone()
            if head is None:
                raise self._damaged(f"its table batches has no round {round}, which was asked")
            within = "event BETWEEN ? AND ? AND kind = 'asked' AND round = ?"
            query = f"SELECT row, score FROM events WHERE {within} ORDER BY event"
            asked = connection.execute(query, (*self._batch_events(connection, round), round)).fetchall()
        strategy, details = head
        try:
            facts = parse_json(details) if isinstance(details, str | bytes) else None
        except ValueError as error:
            raise self._damaged(f"the details of round {round} cannot be read: {one_line(error)}") from error
        if not isinstance(strategy, str) or not isinstance(facts, dict):
            raise self._damaged(f"the details of round {round} are not those of a batch")
        scores = tuple(score for _, score in asked)
        known = None if any(score is None for score in scores) else scores
        return Batch(round, strategy, tuple(row for row, _ in asked), known, facts)

    # -- appending -------------------------------------------------------------------------------------------------

    def propose(self, given: Sequence[Proposal]) -> None:
        """Store proposed labels, all or none. They neither answer a query nor replace an answer."""
        with self.changing() as connection:
            proposals.append(connection, given, self._end.round)

    def keep_unread(self, given: Sequence[Unread]) -> None:
        """Store model responses that could not be parsed, all or none. They do not answer a query."""
        with self.changing() as connection:
            unread.append(connection, given, self._end.round)

    @property
    def last_given(self) -> tuple[str, Value | Skip | None] | None:
        """The row whose answer `undo` retracts, and its previous answer; None if there is nothing to undo."""
        with self._current() as connection:
            last = self._last_given(connection)
            if last is None:
                return None
            query = f"{SELECT} WHERE row = ? AND event < ? AND {GIVEN} ORDER BY event DESC LIMIT 1"
            before = connection.execute(query, (last.row, last.event)).fetchone()
            return last.row, None if before is None else self._value(self._event(before))

    def undo(self) -> str:
        """Retract the most recent answer (or skip) and return its row id.

        The previous answer of the row becomes current again; without one, a queried row becomes the first pending one.

        Raises:
            SessionError: there is nothing to undo.
        """
        with self.changing() as connection:
            last = self._last_given(connection)
            if last is None:
                raise SessionError("there is no answer to undo")
            self._retract(connection, last, who="", key=None)
        return last.row

    def record_budget(self, tokens: int) -> None:
        """Store the token budget, in tokens per batch, with which later passes start."""
        with self.changing() as connection:
            connection.execute("INSERT INTO budgets (round, tokens) VALUES (?, ?)", (self._end.round, tokens))

    # -- queries ---------------------------------------------------------------------------------------------------

    def _batch_events(self, connection: sqlite3.Connection, round: int) -> tuple[int, int]:
        """First and last event of the batch of a round, found for all rounds at once."""
        if round not in self._queries:
            within = "kind = 'asked' AND event > ? AND event <= ?"
            query = f"SELECT round, min(event), max(event) FROM events WHERE {within} GROUP BY round"
            known = max((last for _, last in self._queries.values()), default=0)
            lines = connection.execute(query, (known, self._end.event))
            self._queries |= {number: (first, last) for number, first, last in lines}
        return self._queries.get(round, (0, 0))

    def _last_given(self, connection: sqlite3.Connection) -> Event | None:
        """The last answer or skip that was not retracted."""
        line = connection.execute(f"{SELECT} WHERE {GIVEN} ORDER BY event DESC LIMIT 1").fetchone()
        return None if line is None else self._event(line)

    def _value(self, event: Event | None) -> Value | Skip | None:
        """The answer that an event holds, in the current names of its classes; None without an event."""
        return None if event is None else self.reading(event)
