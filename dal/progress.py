"""Where each row of a pool stands: labeled, pending, declined or never asked. Derived from the store, kept in step."""

import logging
from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import torch
from torch import Tensor

from dal.classes import Classes, Given, refuse, shown
from dal.errors import DataError, SessionError
from dal.events import SKIP, Skip, Value
from dal.labels import LabelStore
from dal.proposals import Proposal

_log = logging.getLogger("dal")


class Progress:
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
        codes: (N,) int64, -1 where unlabeled; (N, C) bool when multi-label.
        weights: (N,) float32: what a proposal for the row counts in training while it has no answer; 0 for nothing.
        proposed: what was proposed, where `weights` is above 0; coded like `codes`.
        pending: (n,) int64, the rows to answer, in order.

    Raises:
        SessionError: the stored answers do not fit the classes of the data.
    """

    def __init__(self, pool: Any, classes: Classes, store: LabelStore, *, hide_labels: bool) -> None:
        self._pool, self._classes, self._store = pool, classes, store
        size = len(pool)
        self.given = torch.zeros(size, dtype=torch.bool) if hide_labels else pool.known.clone()
        self.codes: Tensor = pool.labels.clone()
        self.codes[~self.given] = classes.blank
        self.labeled = self.given.clone()
        self.taken = torch.zeros(size, dtype=torch.bool)
        self.weights = torch.zeros(size)
        self.proposed: Tensor = classes.blank.expand(size, *classes.blank.shape).clone()
        self._restore_answers(store.answers)
        self.propose(store.proposals)
        self.pending = self.rows_of(store.pending)
        for rows in (self.pending, self.rows_of(list(store.skipped))):
            self.labeled[rows] = False
            self.taken[rows] = True

    def _restore_answers(self, answers: Mapping[str, Value]) -> None:
        self._refuse_strangers(answers)
        present, rows = self._present(list(answers))
        self.labeled[rows] = True
        self.taken[rows] = True
        for row, name in zip(rows.tolist(), present, strict=True):
            self.codes[row] = self._classes.code(answers[name])

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
        declined = torch.zeros_like(self.labeled)
        declined[self.rows_of(list(self._store.skipped))] = True
        return (~self.labeled & ~declined & (self.weights > 0)).nonzero().flatten()

    def propose(self, proposals: Sequence[Proposal]) -> None:
        """Let the proposals stand; of two for a row the later one, unless it has no weight."""
        counting = {proposal.row: proposal for proposal in proposals if proposal.weight}
        self._refuse_strangers({name: proposal.value for name, proposal in counting.items()})
        present, rows = self._present(list(counting))
        for row, name in zip(rows.tolist(), present, strict=True):
            self.weights[row] = counting[name].weight
            self.proposed[row] = self._classes.code(counting[name].value)

    def ask(self, rows: Tensor) -> None:
        """Let the rows be pending."""
        self.pending = rows.clone()
        self.taken[rows] = True

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
        pending = set(self.pending.tolist())
        read: dict[int, tuple[int, Value | Skip]] = {}
        told: dict[int, Value | Skip] = {}
        mistakes = []
        for place, (row, item) in enumerate(zip(rows, given, strict=True)):
            if not 0 <= row < len(self._pool):
                mistakes.append(f"row {row} is outside the pool of {len(self._pool)}")
                continue
            name = f"row {self._pool.ids[row]!r}"
            try:
                value = self._classes.read(item)
            except ValueError as error:
                mistakes.append(f"{name}: {error}")
                continue
            standing = told.get(row, self._store.answer(self._pool.ids[row]))
            if row in told and told[row] != value:
                mistakes.append(f"{name}: two answers, {shown(told[row])} and {shown(value)}")
            elif standing == value:
                continue
            elif row not in pending and not correct:
                before = "never asked" if standing is None else f"answered {shown(standing)} before"
                mistakes.append(f"{name} is not pending: it was {before}; correct=True stores {shown(value)} anyway")
            else:
                read[place] = (row, value)
                told[row] = value
        refuse(mistakes)
        return read

    def take(self, row: int, value: Value | Skip) -> None:
        """Let the answer stand."""
        self.pending = self.pending[self.pending != row]
        self.taken[row] = True
        self.labeled[row] = value is not SKIP
        self.codes[row] = self._classes.code(value)

    def release(self, row: int) -> None:
        """Let the row be as it was before it was answered: pending if it was asked, else as the data has it."""
        given = bool(self.given[row])
        self.labeled[row] = given
        self.codes[row] = self._pool.labels[row] if given else self._classes.blank
        self.pending = self.rows_of(self._store.pending)
        self.taken[row] = bool((self.pending == row).any())

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

    def _refuse_strangers(self, answers: Mapping[str, Value]) -> None:
        """Answers that name no class of the data, or are of the other kind."""
        kind, where = tuple if self._classes.multilabel else str, self._store.path or "the store"
        if not all(isinstance(value, kind) for value in answers.values()):
            kinds = ("multi-label", "single-label")
            now, then = kinds if self._classes.multilabel else kinds[::-1]
            raise SessionError(f"{where} holds {then} answers, but the data is {now}")
        names = {name for value in answers.values() for name in ([value] if isinstance(value, str) else value)}
        unknown = self._classes.unknown(names)
        if unknown:
            raise SessionError(
                f"{where} holds answers of the classes {', '.join(unknown)}, which the data does not have; it has "
                f"{', '.join(self._classes.names[:20])}"
            )
