"""State of a pool's rows (unasked, pending, labeled or declined) as an immutable value."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import IntEnum

import torch
from torch import Tensor

from dal.session.row_values import RowValues


class RowStatus(IntEnum):
    """Status of a row of the pool."""

    UNASKED = 0  # no label, never queried
    GIVEN = 1  # the label came with the data
    PENDING = 2  # queried, without an answer
    ANSWERED = 3  # labeled by an answer
    DECLINED = 4  # answered with `SKIP`


_NO_ROWS = torch.zeros(0, dtype=torch.int64)


@dataclass(frozen=True, eq=False)
class PoolState:
    """State of a pool of N rows at one moment. A session replaces it after each change and never modifies it.

    It can be pickled and holds no file, lock or model, so it can be sent to another process. States share the values
    that do not differ: a change of one row copies at most 256 KB of each attribute, whatever N is. The tensors that the
    properties return are copies.

    Attributes:
        status: (N,) uint8, the `RowStatus` of each row.
        codes: (N,) int64, class index, -1 where unlabeled; (N, C) bool when multi-label.
        weights: (N,) float32 training weight of the proposed label, used while the row has no answer; 0 for none.
        proposed: proposed labels, valid where `weights` is above 0; coded like `codes`.
        given: (N,) bool, whether the label came with the data and is not hidden.
        counts: number of rows of each `RowStatus`.
        queue: rows in the order in which to ask them. Those that are no longer pending are left out when it is read.
    """

    status: RowValues
    codes: RowValues
    weights: RowValues
    proposed: RowValues
    given: RowValues
    counts: tuple[int, ...]
    queue: Tensor = _NO_ROWS

    @classmethod
    def initial(cls, given: Tensor, codes: Tensor, blank: Tensor) -> "PoolState":
        """The state before the first query.

        Args:
            given: (N,) bool, whether the label came with the data and is not hidden.
            codes: (N,) int64 labels of these rows, or (N, C) bool when multi-label; not read elsewhere.
            blank: code of an unlabeled row.
        """
        codes = codes.clone()
        codes[~given] = blank
        counts = [0] * len(RowStatus)
        counts[RowStatus.GIVEN] = int(given.sum())
        counts[RowStatus.UNASKED] = len(given) - counts[RowStatus.GIVEN]
        return cls(
            status=RowValues.of(given * torch.tensor(int(RowStatus.GIVEN), dtype=torch.uint8)),
            codes=RowValues.of(codes),
            weights=RowValues.full(len(given), torch.tensor(0.0)),
            proposed=RowValues.full(len(given), blank),
            given=RowValues.of(given.clone()),
            counts=tuple(counts),
        )

    def __len__(self) -> int:
        return sum(self.counts)

    # -- masks and rows ----------------------------------------------------------------------------------------------

    @property
    def labeled(self) -> Tensor:
        """Whether each row has a label, (N,) bool."""
        status = self.status.all()
        return (status == RowStatus.GIVEN) | (status == RowStatus.ANSWERED)

    @property
    def declined(self) -> Tensor:
        """Whether the current answer of each row is `SKIP`, (N,) bool."""
        return self.status.all() == RowStatus.DECLINED

    @property
    def asked(self) -> Tensor:
        """Whether each row was ever queried or answered, (N,) bool; such rows are not queried again."""
        return self.status.all() >= RowStatus.PENDING

    @property
    def pending(self) -> Tensor:
        """Queried rows without an answer, (n,) int64, in the order in which to ask them."""
        # Answered rows stay in the queue until the next batch: removing each would copy the queue for every answer.
        return self.queue[self.status.at(self.queue) == RowStatus.PENDING]

    @property
    def labeled_rows(self) -> Tensor:
        """Rows with a label, (L,) int64, ascending."""
        return self.labeled.nonzero().flatten()

    @property
    def labels(self) -> Tensor:
        """Labels of `labeled_rows`, (L,) int64, or (L, C) bool when multi-label."""
        return self.labeled_set[1]

    @property
    def labeled_set(self) -> tuple[Tensor, Tensor]:
        """`labeled_rows` and `labels`, found in one search of the pool."""
        rows = self.labeled_rows
        return rows, self.codes.at(rows)

    @property
    def unasked_rows(self) -> Tensor:
        """Unlabeled rows that were never queried, ascending int64."""
        return (self.status.all() == RowStatus.UNASKED).nonzero().flatten()

    @property
    def weak_rows(self) -> Tensor:
        """Rows trained on with a proposed label, (n,) int64, ascending: neither labeled nor declined."""
        status = self.status.all()
        open_rows = (status == RowStatus.UNASKED) | (status == RowStatus.PENDING)
        return (open_rows & (self.weights.all() > 0)).nonzero().flatten()

    def is_pending(self, rows: Sequence[int]) -> list[bool]:
        """Whether each of these rows was queried and has no answer."""
        pending: list[bool] = (self.status.at(torch.tensor(rows, dtype=torch.int64)) == RowStatus.PENDING).tolist()
        return pending

    # -- counts and training set -------------------------------------------------------------------------------------

    @property
    def n_labeled(self) -> int:
        """Number of rows with a label."""
        return self.counts[RowStatus.GIVEN] + self.counts[RowStatus.ANSWERED]

    @property
    def n_pending(self) -> int:
        """Number of queried rows without an answer."""
        return self.counts[RowStatus.PENDING]

    @property
    def trains(self) -> bool:
        """Whether the training set is not empty: a label, or a proposal with a weight above 0."""
        return self.n_labeled > 0 or len(self.weak_rows) > 0

    @property
    def training_set(self) -> tuple[Tensor, Tensor, Tensor | None]:
        """Rows, labels and sample weights of answers and weighted proposals; weights are None if all are answers."""
        (rows, labels), weak = self.labeled_set, self.weak_rows
        if not len(weak):
            return rows, labels, None
        weights = torch.cat([torch.ones(len(rows)), self.weights.at(weak)])
        return torch.cat([rows, weak]), torch.cat([labels, self.proposed.at(weak)]), weights

    # -- changes -----------------------------------------------------------------------------------------------------

    def with_asked(self, rows: Tensor) -> "PoolState":
        """The state after a batch, (n,) int64 rows, was queried."""
        pending = torch.full((len(rows),), RowStatus.PENDING, dtype=torch.uint8)
        return replace(self._with_status(rows, pending), queue=torch.cat([self.pending, rows]))

    def with_only_pending(self, keep: Tensor) -> "PoolState":
        """The state in which, of the rows without an answer, exactly `keep` are pending.

        Args:
            keep: (k,) int64 distinct rows. Those with a label, and declined ones, stay as they are.
        """
        status = self.status.at(keep)
        kept = keep[(status == RowStatus.UNASKED) | (status == RowStatus.PENDING)]
        dropped = self.pending[~torch.isin(self.pending, kept)]
        unasked = torch.where(self.given.at(dropped), int(RowStatus.GIVEN), int(RowStatus.UNASKED)).to(torch.uint8)
        return replace(self._with_status(dropped, unasked), queue=_NO_ROWS).with_asked(kept)

    def with_answers(self, rows: Tensor, codes: Tensor, declined: Tensor) -> "PoolState":
        """The state after answers.

        Args:
            rows: (n,) int64 distinct rows.
            codes: (n,) int64 class indices, -1 for `SKIP`; (n, C) bool when multi-label.
            declined: (n,) bool, whether the answer is `SKIP`.
        """
        answered = torch.full((len(rows),), RowStatus.ANSWERED, dtype=torch.uint8)
        answered[declined] = RowStatus.DECLINED
        return replace(self._with_status(rows, answered), codes=self.codes.changed(rows, codes))

    def without_answer(self, row: int, code: Tensor, *, asked: bool) -> "PoolState":
        """The state after the only answer of a row was retracted.

        Args:
            row: the row. If it was queried it becomes the first pending row.
            code: its label in the data; the code of an unlabeled row without one.
            asked: whether the row was queried.
        """
        rows = torch.tensor([row])
        labeled = RowStatus.GIVEN if bool(self.given.at(rows)) else RowStatus.UNASKED
        status = torch.tensor([RowStatus.PENDING if asked else labeled], dtype=torch.uint8)
        state = replace(self._with_status(rows, status), codes=self.codes.changed(rows, code[None]))
        # First in the queue: an annotator who retracts an answer wants to give another one.
        return replace(state, queue=torch.cat([rows, self.pending])) if asked else state

    def with_proposals(self, rows: Tensor, codes: Tensor, weights: Tensor) -> "PoolState":
        """The state after labels were proposed.

        Args:
            rows: (n,) int64 distinct rows.
            codes: (n,) int64 class indices; (n, C) bool when multi-label.
            weights: (n,) float32 training weights.
        """
        return replace(self, proposed=self.proposed.changed(rows, codes), weights=self.weights.changed(rows, weights))

    def _with_status(self, rows: Tensor, status: Tensor) -> "PoolState":
        before = torch.bincount(self.status.at(rows), minlength=len(RowStatus))
        gained = torch.bincount(status, minlength=len(RowStatus)) - before
        counts = tuple(n + change for n, change in zip(self.counts, gained.tolist(), strict=True))
        return replace(self, status=self.status.changed(rows, status), counts=counts)
