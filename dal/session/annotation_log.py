"""Questions, answers and proposals of a pool: stored in a label store, and applied to the pool's state."""

import logging
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pyarrow.compute as pc
import torch
from torch import Tensor

from dal.data.columns import IdPages, TextColumn
from dal.errors import DataError, SessionError
from dal.session.answer_checks import check_stored_answers, new_answers
from dal.session.answer_values import AnswerDecoder, Given
from dal.session.pool_state import PoolState
from dal.session.queried_batch import QueriedBatch
from dal.store.events import SKIP, Answer, Skip, Value
from dal.store.label_store import LabelStore
from dal.store.proposals import Proposal

_log = logging.getLogger("dal")


class AnnotationLog:
    """Stores queries, answers and proposals, and keeps the pool's state equal to what the store holds.

    Other processes and threads may write to the same store. Each method first reads what they wrote, and holds the
    store's lock from its checks until its own entries are stored.

    Args:
        pool: the `dal.data.Rows` of the pool.
        classes: decoder for the pool's classes.
        store: label store. Answers to rows that are no longer in the pool stay in it.
        hide_labels: ignore the labels in the data.
        labels_changed: called when the training set has changed.

    Attributes:
        state: current state of the pool, replaced after each change.

    Raises:
        SessionError: the stored answers do not fit the classes of the data.
    """

    def __init__(
        self,
        pool: Any,
        classes: AnswerDecoder,
        store: LabelStore,
        *,
        hide_labels: bool,
        labels_changed: Callable[[], None] = lambda: None,
    ) -> None:
        self._pool, self._classes, self._store = pool, classes, store
        self._hide_labels, self._labels_changed = hide_labels, labels_changed
        self._seen = (0, 0)
        self._last: QueriedBatch | None = None
        self.state = self._restored()

    # -- following the store -----------------------------------------------------------------------------------------

    def follow(self) -> bool:
        """Read what another process or thread has written to the store; return whether there was anything."""
        self._store.refresh()
        if self._seen == self._store.written:
            return False
        self.state = self._restored()
        self._labels_changed()
        return True

    def _restored(self) -> PoolState:
        """The state of the pool according to the data and the whole store, without an object for each answer."""
        pool, store, classes = self._pool, self._store, self._classes
        given = torch.zeros(len(pool), dtype=torch.bool) if self._hide_labels else pool.known
        state = PoolState.initial(given, pool.labels, classes.blank)
        with store.at_once():
            seen = store.written
            # In this order: an answer ends a question, and a proposal counts only while there is no answer.
            state = state.with_asked(self.rows_of(store.pending))
            ids, values, counts = IdPages(), list[Value](), list[int]()
            for value, page in store.rows_by_answer():
                values.append(value)
                counts.append(ids.add(page))
            check_stored_answers(values, classes, store.path)
            held, rows = self._held(ids.column())
            codes = classes.codes(values).repeat_interleave(torch.tensor(counts, dtype=torch.int64), 0)[held]
            state = state.with_answers(rows, codes, torch.zeros(len(rows), dtype=torch.bool))
            skipped = self.rows_of(list(store.skipped))
            state = state.with_answers(skipped, classes.codes([SKIP] * len(skipped)), torch.ones(len(skipped)).bool())
            state = self._with_proposals(state, store.weighted_proposals)
        self._seen = seen
        return state

    def _apply(
        self, change: Callable[[PoolState], PoolState], *, events: int = 0, proposals: int = 0, labels: bool
    ) -> None:
        """Apply a change to the state after its entries were stored.

        If anything else was stored meanwhile, the whole store is read again instead.

        Args:
            change: function from the state before to the state after these entries.
            events: number of events stored for the change.
            proposals: number of proposals stored for the change.
            labels: whether the change affects the training set.
        """
        expected = self._seen[0] + events, self._seen[1] + proposals
        alone = self._store.written == expected
        if labels or not alone:
            self._labels_changed()
        if alone:  # applying the change costs less than reading the whole store
            self.state, self._seen = change(self.state), expected
        else:
            self.state = self._restored()

    # -- writing -----------------------------------------------------------------------------------------------------

    def ask(self, batch: QueriedBatch) -> None:
        """Store a batch as queried, and log a new reason and many near-duplicates.

        Raises:
            SessionError: another process has changed the store since the batch was chosen. Nothing was stored.
        """
        before = self.last_batch()
        ids = list(self._pool.ids.take(batch.rows))
        scores = None if batch.scores is None else batch.scores.tolist()
        with self._store.changing():
            if self.follow():  # the batch was selected for a state that no longer holds
                where = "the store" if self._store.path is None else self._store.path.parent
                raise SessionError(f"{where} was changed meanwhile by another process: ask again")
            self._store.ask(ids, scores=scores, strategy=batch.strategy, details=batch.details)
        self._apply(lambda state: state.with_asked(batch.rows), events=len(ids), labels=False)
        self._last = batch
        if batch.reason and (before is None or before.reason.split(":")[0] != batch.reason.split(":")[0]):
            _log.info("batch %d: %s", batch.round, batch.reason)
        if batch.near_duplicates > 0.5:
            _log.warning(
                "%.0f%% of the %d rows that %s chose have a near-duplicate within the batch: their labels will teach "
                "little; a strategy that spreads its choice (BADGE, CoreSet, ClusterCenters) or a pool without "
                "duplicates would do better",
                100 * batch.near_duplicates,
                len(batch.rows),
                batch.strategy,
            )

    def last_batch(self) -> QueriedBatch | None:
        """The latest queried batch; None before the first.

        Raises:
            SessionError: its stored details are damaged.
        """
        store = self._store
        if store.round and (self._last is None or self._last.round != store.round):
            batch = store.batch(store.round)
            rows = self.rows_of(batch.rows)
            # Rows missing in the data are left out of `rows`, so that scores could not be told apart any more.
            scores = None if batch.scores is None or len(rows) < len(batch.rows) else torch.tensor(batch.scores)
            try:
                self._last = QueriedBatch.restored(batch.round, rows, scores, batch.strategy, batch.details)
            except ValueError as error:
                where = store.path or "the store"
                raise SessionError(
                    f"{where} is damaged (round {batch.round}: {error}): put a backup in its place"
                ) from error
        return self._last

    def tell(
        self,
        rows: Sequence[int],
        given: Sequence[Given],
        *,
        who: str,
        source: str,
        seconds: Sequence[float | None],
        costs: Sequence[float | None],
        confidences: Sequence[float | None],
        correct: bool,
    ) -> int:
        """Store annotations and return the number of new ones.

        Args:
            rows: rows of the pool.
            given: one annotation per row.
            who, source: as in `Answer`, for all rows.
            seconds, costs, confidences: as in `Answer`, one per row.
            correct: accept rows that are not pending.

        Raises:
            AnswerError: lists all values that are not classes and all rows that are not pending. Nothing was stored.
        """
        pool, classes, store = self._pool, self._classes, self._store
        with store.changing():  # no other process may write between the check and the store
            self.follow()
            new = new_answers(rows, given, pool=pool, classes=classes, state=self.state, store=store, correct=correct)
            if not new:
                return 0
            ids = pool.ids.take([row for row, _ in new.values()])
            store.tell(
                [
                    Answer(id, value, who, source, seconds[i], costs[i], confidences[i])
                    for id, (i, (_, value)) in zip(ids, new.items(), strict=True)
                ]
            )
        # Outside the transaction: the state follows what was committed, never what was rolled back.
        answered = torch.tensor([row for row, _ in new.values()], dtype=torch.int64)
        values = [value for _, value in new.values()]
        self._apply(lambda state: self._with_answers(state, answered, values), events=len(new), labels=True)
        return len(new)

    def propose(self, proposals: Sequence[Proposal]) -> None:
        """Store proposed labels. Those with a weight above 0 are trained on while their row has no answer."""
        with self._store.changing():
            self.follow()
            self._store.propose(proposals)
        weighted = any(proposal.weight for proposal in proposals)
        # Without a weight a proposal is not trained on, and the model need not be discarded.
        self._apply(lambda state: self._with_proposals(state, proposals), proposals=len(proposals), labels=weighted)

    def undo(self) -> int:
        """Retract the most recent answer and return its row.

        The previous answer becomes current again. Without one, the row is pending if it was queried, else as in the
        data.

        Raises:
            SessionError: there is no answer; or the row is no longer in the data, or the class of its previous answer
                is not. Nothing was retracted.
        """
        pool, store = self._pool, self._store
        with store.changing():  # no other process may write between the check and the store
            self.follow()
            last = store.last_given
            if last is not None:
                id, before = last
                if not len(self.rows_of([id])):
                    raise SessionError(
                        f"the last answer is to row {id!r}, which is no longer in the data: nothing was undone; put "
                        "the row back to retract its answer"
                    )
                if before is not None and not isinstance(before, Skip):
                    check_stored_answers([before], self._classes, store.path)
            id = store.undo()
        row = int(self.rows_of([id])[0])

        def undone(state: PoolState) -> PoolState:
            value = store.answer_to(id)
            if value is not None:
                return self._with_answers(state, torch.tensor([row]), [value])
            given = bool(state.given.at(torch.tensor([row])))
            return state.without_answer(
                row, pool.labels[row] if given else self._classes.blank, asked=store.was_asked(id)
            )

        self._apply(undone, events=1, labels=True)
        return row

    # -- ids and codes -----------------------------------------------------------------------------------------------

    def rows_of(self, ids: Sequence[str]) -> Tensor:
        """Rows with these ids, (n,) int64; ids that are not in the pool are left out."""
        return self._held(ids)[1]

    def _held(self, ids: Sequence[str]) -> tuple[Tensor, Tensor]:
        """Positions of the ids that are in the pool, (n,) int64, and their rows."""
        try:
            rows = self._pool.rows_of(ids) if len(ids) else torch.zeros(0, dtype=torch.int64)
            return torch.arange(len(ids)), rows
        except DataError:
            column = ids if isinstance(ids, TextColumn) else TextColumn.of(ids)
            inside = np.asarray(pc.is_in(column.arrow(), value_set=self._pool.ids.arrow()))
            held = np.flatnonzero(inside)
            _log.warning("%d rows with questions or answers are no longer in the pool", len(ids) - len(held))
            return torch.from_numpy(held), self._pool.rows_of(column.take(held))  # cannot fail again

    def _with_answers(self, state: PoolState, rows: Tensor, values: Sequence[Value | Skip]) -> PoolState:
        declined = torch.tensor([isinstance(value, Skip) for value in values])
        return state.with_answers(rows, self._classes.codes(values), declined)

    def _with_proposals(self, state: PoolState, proposals: Sequence[Proposal]) -> PoolState:
        """The state with the proposals that have a weight; the last one of a row wins."""
        weighted = {proposal.row: proposal for proposal in proposals if proposal.weight}
        values = [each.value for each in weighted.values()]
        check_stored_answers(values, self._classes, self._store.path)
        held, rows = self._held(list(weighted))
        weights = torch.tensor([each.weight for each in weighted.values()], dtype=torch.float32)[held]
        return state.with_proposals(rows, self._classes.codes(values)[held], weights)
