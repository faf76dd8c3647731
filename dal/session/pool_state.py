"""Annotation state of each pool row (labeled, pending, declined or unasked), derived from the label store."""

import logging
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import torch
from torch import Tensor

from dal.data.label_values import listing
from dal.errors import DataError, SessionError
from dal.session.answer_values import AnswerDecoder, Given, Mistakes
from dal.store.events import SKIP, Skip, Value
from dal.store.label_store import LabelStore
from dal.store.proposals import Proposal

_log = logging.getLogger("dal")


class PoolState:
    """State of a pool as tensors over its rows, from the labels in the data and the events of a label store.

    Args:
        pool: the `dal.data.Rows` of the pool.
        classes: decoder for the pool's classes.
        store: label store. Answers to rows that are no longer in the pool stay in it.
        hide_labels: ignore the labels in the data.

    Attributes:
        given: (N,) bool, whether the label came with the data.
        labeled: (N,) bool, whether the row has a label.
        taken: (N,) bool, whether the row was ever queried or answered; such rows are not queried again.
        declined: (N,) bool, whether the current answer is `SKIP`.
        codes: (N,) int64, -1 where unlabeled; (N, C) bool when multi-label.
        weights: (N,) float32 training weight of the proposed label, used while the row has no answer; 0 for none.
        proposed: proposed labels, valid where `weights` is above 0; coded like `codes`.

    Raises:
        SessionError: the stored answers do not fit the classes of the data.
    """

    def __init__(self, pool: Any, classes: AnswerDecoder, store: LabelStore, *, hide_labels: bool) -> None:
        self._pool, self._classes, self._store = pool, classes, store
        self.given = torch.zeros(len(pool), dtype=torch.bool) if hide_labels else pool.known.clone()
        self._restore()

    def _restore(self) -> None:
        """Rebuild the state from the store."""
        size, store, blank = len(self._pool), self._store, self._classes.blank
        seen = store.written  # before reading: another thread may append to the store meanwhile
        self.codes: Tensor = self._pool.labels.clone()
        self.codes[~self.given] = blank
        self.labeled = self.given.clone()
        self.taken, self.declined = torch.zeros(size, dtype=torch.bool), torch.zeros(size, dtype=torch.bool)
        self.weights = torch.zeros(size)
        self.proposed: Tensor = blank.expand(size, *blank.shape).clone()
        self._pending: OrderedDict[int, None] = OrderedDict.fromkeys(self.rows_of(store.pending).tolist())
        pending = self.pending
        self.taken[pending], self.labeled[pending] = True, False
        answers = store.answers
        self.refuse_strangers(answers)
        present, rows = self._present(list(answers))
        self.labeled[rows], self.taken[rows] = True, True
        self.codes[rows] = self._classes.codes([answers[name] for name in present])
        skipped = self.rows_of(list(store.skipped))
        self.taken[skipped], self.labeled[skipped], self.declined[skipped] = True, False, True
        self._let_train(store.proposals)
        self._seen = seen

    def follow(self) -> bool:
        """Rebuild the state if another process or store has written to the same file; return whether it had."""
        if self._seen == self._store.written:
            return False
        self._restore()
        return True

    def _wrote(self, events: int = 0, proposals: int = 0) -> bool:
        """Whether the store has gained exactly these events and proposals; if not, rebuild the state."""
        expected = self._seen[0] + events, self._seen[1] + proposals
        if self._store.written != expected:
            self._restore()
            return False
        self._seen = expected
        return True

    @property
    def pending(self) -> Tensor:
        """Queried rows without an answer, (n,) int64, in order."""
        return torch.tensor(list(self._pending), dtype=torch.int64)

    @property
    def waiting(self) -> int:
        """Number of pending rows."""
        return len(self._pending)

    @property
    def labeled_rows(self) -> Tensor:
        """Rows with a label, (L,) int64, ascending."""
        return self.labeled.nonzero().flatten()

    @property
    def labels(self) -> Tensor:
        """Labels of `labeled_rows`, (L,) int64, or (L, C) bool when multi-label."""
        labels: Tensor = self.codes[self.labeled]
        return labels

    @property
    def unasked_rows(self) -> Tensor:
        """Unlabeled rows that were never queried, (N,) int64, ascending."""
        return (~self.labeled & ~self.taken).nonzero().flatten()

    @property
    def trains(self) -> bool:
        """Whether the training set is not empty: a label, or a proposal with a weight above 0."""
        return bool(self.labeled.any()) or bool(len(self.weak))

    @property
    def training_set(self) -> tuple[Tensor, Tensor, Tensor | None]:
        """Rows, labels and sample weights of answers and weighted proposals; weights are None if all are answers."""
        rows, labels, weak = self.labeled_rows, self.labels, self.weak
        if not len(weak):
            return rows, labels, None
        weights = torch.cat([torch.ones(len(rows)), self.weights[weak]])
        return torch.cat([rows, weak]), torch.cat([labels, self.proposed[weak]]), weights

    @property
    def weak(self) -> Tensor:
        """Rows trained on with a proposed label, (n,) int64, ascending: neither labeled nor declined."""
        return (~self.labeled & ~self.declined & (self.weights > 0)).nonzero().flatten()

    def propose(self, proposals: Sequence[Proposal]) -> bool:
        """Apply proposals just stored; return whether nothing else was stored meanwhile."""
        alone = self._wrote(proposals=len(proposals))
        if alone:
            self._let_train(proposals)
        return alone

    def _let_train(self, proposals: Sequence[Proposal]) -> None:
        """Apply the proposals with a weight; the last one of a row wins."""
        weighted = {proposal.row: proposal for proposal in proposals if proposal.weight}
        self.refuse_strangers({name: proposal.value for name, proposal in weighted.items()})
        present, rows = self._present(list(weighted))
        self.weights[rows] = torch.tensor([weighted[name].weight for name in present], dtype=torch.float32)
        self.proposed[rows] = self._classes.codes([weighted[name].value for name in present])

    def ask(self, rows: Tensor) -> bool:
        """Mark a batch just stored as pending; return whether nothing else was stored meanwhile."""
        alone = self._wrote(events=len(rows))
        if alone:
            self._pending.update(dict.fromkeys(rows.tolist()))
            self.taken[rows] = True
        return alone

    def read(
        self, rows: Sequence[int], given: Sequence[Given], *, correct: bool
    ) -> dict[int, tuple[int, Value | Skip]]:
        """Decode and check annotations; return (row, value) of the new ones by position in the call.

        Args:
            rows: rows of the pool.
            given: one annotation per row.
            correct: accept rows that are not pending.

        Raises:
            AnswerError: lists all values that are not classes and all rows that are not pending.
        """
        read: dict[int, tuple[int, Value | Skip]] = {}
        accepted: dict[int, Value | Skip] = {}
        mistakes = Mistakes()
        inside = [row for row in rows if 0 <= row < len(self._pool)]
        ids = list(self._pool.ids.take(inside))
        current = dict(zip(inside, zip(ids, self._store.answers_to(ids), strict=True), strict=True))
        for position, (row, item) in enumerate(zip(rows, given, strict=True)):
            if row not in current:
                mistakes.add("row {} is outside the pool of {}", row, len(self._pool))
                continue
            id, before = current[row]
            try:
                value = self._classes.read(item, hint=mistakes.listed)
            except ValueError as error:
                mistakes.add("row {}: {}", id, error)
                continue
            answer = accepted.get(row, before)
            if row in accepted and accepted[row] != value:
                mistakes.add("row {}: two answers, {} and {}", id, accepted[row], value)
            elif answer == value:
                continue  # a repetition is not stored again
            elif row not in self._pending and not correct:
                was = "was never asked" if answer is None else "was answered {} before"
                parts = [value] if answer is None else [answer, value]
                mistakes.add("row {} is not pending: it " + was + "; correct=True stores {} anyway", id, *parts)
            else:
                read[position] = (row, value)
                accepted[row] = value
        mistakes.refuse()
        return read

    def take(self, answers: Mapping[int, Value | Skip]) -> None:
        """Apply answers just stored, by row."""
        if not self._wrote(events=len(answers)):
            return
        rows, values = torch.tensor(list(answers), dtype=torch.int64), list(answers.values())
        declined = torch.tensor([value is SKIP for value in values])
        for row in answers:
            self._pending.pop(row, None)
        self.taken[rows], self.labeled[rows], self.declined[rows] = True, ~declined, declined
        self.codes[rows] = self._classes.codes(values)

    def undo(self, row: int) -> None:
        """Restore the state of a row after the store has retracted its last answer.

        The previous answer becomes current again. Without one the row is pending if it was queried, else as in the
        data.
        """
        if not self._wrote(events=1):
            return
        id = self._pool.ids[row]
        value = self._store.answer(id)
        if value is not None:
            self.labeled[row], self.declined[row] = value is not SKIP, value is SKIP
            self.codes[row] = self._classes.codes([value])[0]
            return
        asked, given = self._store.was_asked(id), bool(self.given[row])
        self.taken[row], self.labeled[row], self.declined[row] = asked, given and not asked, False
        self.codes[row] = self._pool.labels[row] if given else self._classes.blank
        if asked:
            self._pending[row] = None
            self._pending.move_to_end(row, last=False)

    def rows_of(self, ids: Sequence[str]) -> Tensor:
        """Rows with these ids, (n,) int64; ids that are not in the pool are left out."""
        return self._present(ids)[1]

    def _present(self, ids: Sequence[str]) -> tuple[Sequence[str], Tensor]:
        """The ids that are in the pool, and their rows."""
        try:
            return ids, self._pool.rows_of(ids) if ids else torch.zeros(0, dtype=torch.int64)
        except DataError:
            held = pc.is_in(pa.array(ids, pa.large_string()), value_set=self._pool.ids.arrow()).to_pylist()
            present = [name for name, here in zip(ids, held, strict=True) if here]
            _log.warning("%d rows with questions or answers are no longer in the pool", len(ids) - len(present))
            return self._present(present)

    def refuse_strangers(self, answers: Mapping[str, Value]) -> None:
        """Check stored answers, by row id, against the classes of the data.

        Raises:
            SessionError: an answer is not a class of the data, or is single-label and the data multi-label, or the
                reverse.
        """
        kind, where = tuple if self._classes.multilabel else str, self._store.path or "the store"
        if not all(isinstance(value, kind) for value in answers.values()):
            kinds = ("multi-label", "single-label")
            now, then = kinds if self._classes.multilabel else kinds[::-1]
            raise SessionError(f"{where} holds {then} answers, but the data is {now}")
        names = {name for value in answers.values() for name in ([value] if isinstance(value, str) else value)}
        unknown = self._classes.unknown(names)
        if unknown:
            raise SessionError(
                f"{where} holds answers of the classes {listing(unknown)}, which the data does not have; it has "
                f"{listing(self._classes.names)}"
            )
