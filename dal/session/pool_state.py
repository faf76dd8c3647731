"""Where each row of a pool stands: labeled, pending, declined or never asked. Derived from the store, kept in step."""

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
    """The state of the rows of a pool, as tensors over rows, from the data's own labels and the events of a store.

    Args:
        pool: the `dal.data.Rows` that questions are about.
        classes: their classes.
        store: what was asked and answered. Answers to rows that have left the pool stay there.
        hide_labels: whether the labels in the data are not taken as given.

    Attributes:
        given: (N,) bool: the label came with the data.
        labeled: (N,) bool: has a label.
        taken: (N,) bool: was asked or told at some time, so that it is not asked again.
        declined: (N,) bool: the answer that stands is `SKIP`.
        codes: (N,) int64, -1 where unlabeled; (N, C) bool when multi-label.
        weights: (N,) float32: what a proposal for the row counts in training while it has no answer; 0 for nothing.
        proposed: what was proposed, where `weights` is above 0; coded like `codes`.

    Raises:
        SessionError: the stored answers do not fit the classes of the data.
    """

    def __init__(self, pool: Any, classes: AnswerDecoder, store: LabelStore, *, hide_labels: bool) -> None:
        self._pool, self._classes, self._store = pool, classes, store
        self.given = torch.zeros(len(pool), dtype=torch.bool) if hide_labels else pool.known.clone()
        self._restore()

    def _restore(self) -> None:
        """Read it all from the store."""
        size, store, blank = len(self._pool), self._store, self._classes.blank
        seen = store.written
        self.codes: Tensor = self._pool.labels.clone()
        self.codes[~self.given] = blank
        self.labeled = self.given.clone()
        self.taken, self.declined = torch.zeros(size, dtype=torch.bool), torch.zeros(size, dtype=torch.bool)
        self.weights = torch.zeros(size)
        self.proposed: Tensor = blank.expand(size, *blank.shape).clone()
        self._pending: OrderedDict[int, None] = OrderedDict.fromkeys(self.rows_of(store.pending).tolist())
        pending = self.pending
        self.taken[pending], self.labeled[pending] = True, False
        self._restore_answers(store.answers)
        skipped = self.rows_of(list(store.skipped))
        self.taken[skipped], self.labeled[skipped], self.declined[skipped] = True, False, True
        self._let_train(store.proposals)
        self._seen = seen

    def _restore_answers(self, answers: Mapping[str, Value]) -> None:
        self.refuse_strangers(answers)
        present, rows = self._present(list(answers))
        self.labeled[rows] = True
        self.taken[rows] = True
        self.codes[rows] = self._classes.codes([answers[name] for name in present])

    def follow(self) -> bool:
        """Take in what another process or store has written to the same file; whether there was anything."""
        if self._seen == self._store.written:
            return False
        self._restore()
        return True

    def _wrote(self, events: int = 0, proposals: int = 0) -> bool:
        """Whether the store has got this since the last look and nothing else; otherwise all is read again."""
        then = self._seen[0] + events, self._seen[1] + proposals
        if self._store.written != then:
            self._restore()
            return False
        self._seen = then
        return True

    @property
    def pending(self) -> Tensor:
        """The rows to answer, (n,) int64, in order."""
        return torch.tensor(list(self._pending), dtype=torch.int64)

    @property
    def waiting(self) -> int:
        """How many rows are to be answered."""
        return len(self._pending)

    @property
    def labeled_rows(self) -> Tensor:
        """The rows with a label, (L,) int64, ascending."""
        return self.labeled.nonzero().flatten()

    @property
    def labels(self) -> Tensor:
        """The labels of `labeled_rows`: (L,) int64, or (L, C) bool when multi-label."""
        labels: Tensor = self.codes[self.labeled]
        return labels

    @property
    def unasked_rows(self) -> Tensor:
        """The rows without a label that were never asked, (N,) int64, ascending."""
        return (~self.labeled & ~self.taken).nonzero().flatten()

    @property
    def trains(self) -> bool:
        """Whether there is something to train on: an answer, or a proposal that counts."""
        return bool(self.labeled.any()) or bool(len(self.weak))

    @property
    def training_set(self) -> tuple[Tensor, Tensor, Tensor | None]:
        """Rows, labels and weights (None where all count alike): what was answered, and what was proposed."""
        rows, labels, weak = self.labeled_rows, self.labels, self.weak
        if not len(weak):
            return rows, labels, None
        weights = torch.cat([torch.ones(len(rows)), self.weights[weak]])
        return torch.cat([rows, weak]), torch.cat([labels, self.proposed[weak]]), weights

    @property
    def weak(self) -> Tensor:
        """The rows that train by what was proposed: (n,) int64, ascending. None that has an answer or was declined."""
        return (~self.labeled & ~self.declined & (self.weights > 0)).nonzero().flatten()

    def propose(self, proposals: Sequence[Proposal]) -> bool:
        """Let proposals stand that the store has just got; whether it has got nothing else."""
        alone = self._wrote(proposals=len(proposals))
        if alone:
            self._let_train(proposals)
        return alone

    def _let_train(self, proposals: Sequence[Proposal]) -> None:
        """Let the proposals stand; of two for a row the later one, unless it has no weight."""
        counting = {proposal.row: proposal for proposal in proposals if proposal.weight}
        self.refuse_strangers({name: proposal.value for name, proposal in counting.items()})
        present, rows = self._present(list(counting))
        self.weights[rows] = torch.tensor([counting[name].weight for name in present], dtype=torch.float32)
        self.proposed[rows] = self._classes.codes([counting[name].value for name in present])

    def ask(self, rows: Tensor) -> bool:
        """Let rows be pending that the store has just got as asked; whether it has got nothing else."""
        alone = self._wrote(events=len(rows))
        if alone:
            self._pending.update(dict.fromkeys(rows.tolist()))
            self.taken[rows] = True
        return alone

    def read(
        self, rows: Sequence[int], given: Sequence[Given], *, correct: bool
    ) -> dict[int, tuple[int, Value | Skip]]:
        """The answers to store, by their place in the call, without those that stand already.

        Args:
            rows: of the pool.
            given: one for each.
            correct: take rows that are not pending too.

        Raises:
            AnswerError: lists every value that is no class and every row that is not pending.
        """
        read: dict[int, tuple[int, Value | Skip]] = {}
        told: dict[int, Value | Skip] = {}
        mistakes = Mistakes()
        inside = [row for row in rows if 0 <= row < len(self._pool)]
        ids = list(self._pool.ids.take(inside))
        stands = dict(zip(inside, zip(ids, self._store.answers_to(ids), strict=True), strict=True))
        for place, (row, item) in enumerate(zip(rows, given, strict=True)):
            if row not in stands:
                mistakes.add("row {} is outside the pool of {}", row, len(self._pool))
                continue
            id, before = stands[row]
            try:
                value = self._classes.read(item, hint=mistakes.listed)
            except ValueError as error:
                mistakes.add("row {}: {}", id, error)
                continue
            standing = told.get(row, before)
            if row in told and told[row] != value:
                mistakes.add("row {}: two answers, {} and {}", id, told[row], value)
            elif standing == value:
                continue
            elif row not in self._pending and not correct:
                was = "was never asked" if standing is None else "was answered {} before"
                parts = [value] if standing is None else [standing, value]
                mistakes.add("row {} is not pending: it " + was + "; correct=True stores {} anyway", id, *parts)
            else:
                read[place] = (row, value)
                told[row] = value
        mistakes.refuse()
        return read

    def take(self, answers: Mapping[int, Value | Skip]) -> None:
        """Let the answers to these rows stand, which the store has just got."""
        if not self._wrote(events=len(answers)):
            return
        rows, values = torch.tensor(list(answers), dtype=torch.int64), list(answers.values())
        declined = torch.tensor([value is SKIP for value in values])
        for row in answers:
            self._pending.pop(row, None)
        self.taken[rows], self.labeled[rows], self.declined[rows] = True, ~declined, declined
        self.codes[rows] = self._classes.codes(values)

    def undo(self, row: int) -> None:
        """Let the row be as it was before its last answer, which the store has just retracted.

        Its earlier answer stands again; without one it is pending if it was asked, else as the data has it.
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
        """The rows with these ids, (n,) int64, without those that are not in the pool."""
        return self._present(ids)[1]

    def _present(self, ids: Sequence[str]) -> tuple[Sequence[str], Tensor]:
        """Those of the ids that the pool has, and their rows."""
        try:
            return ids, self._pool.rows_of(ids) if ids else torch.zeros(0, dtype=torch.int64)
        except DataError:
            held = pc.is_in(pa.array(ids, pa.large_string()), value_set=self._pool.ids.arrow()).to_pylist()
            present = [name for name, here in zip(ids, held, strict=True) if here]
            _log.warning("%d rows with questions or answers are not in the pool any more", len(ids) - len(present))
            return self._present(present)

    def refuse_strangers(self, answers: Mapping[str, Value]) -> None:
        """Make sure of answers by row id.

        Raises:
            SessionError: one names no class of the data, or is of the other kind.
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
