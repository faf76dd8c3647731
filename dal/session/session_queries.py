"""Queries of a session: the rows that are asked next."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from dal.errors import SessionError
from dal.session.acquisition import Acquisition
from dal.session.checked_arguments import batch_size, pool_rows
from dal.session.pool_state import PoolState
from dal.session.queried_batch import QueriedBatch
from dal.session.session_state import SessionState, in_turn, storing
from dal.strategy import Strategy


class SessionQueries(SessionState):
    """Selection of rows, and batches that were selected elsewhere."""

    _acquisition: Acquisition

    @storing
    def ask(self, n: int, *, strategy: Strategy | None = None, measured: bool = False) -> Tensor:
        """Select the next batch of rows to label, store it and return it: (n,) int64, best first.

        While rows are pending, return exactly these, whatever `n` is. Returns fewer than `n` rows at the end of the
        pool.

        Args:
            n: batch size, at least 1.
            strategy: strategy for this batch; None for the session's.
            measured: record the current model's mean uncertainty on the batch. Does not affect the choice.

        Raises:
            SessionError: no row is left to query, or the strategy needs a trained model and nothing is labeled.
        """
        n = batch_size(n)
        self._annotations.follow()
        if self.pool_state.n_pending:  # an unfinished batch: after a restart, the same rows are asked again
            return self.pending
        batch = self._selected(strategy, n, self.pool_state, everywhere=False)
        if measured and self.pool_state.n_labeled:
            batch = self._acquisition.measured(batch, self.round)
        self._annotations.ask(batch)
        return self.pending

    @in_turn
    def choose(
        self,
        strategy: Strategy | None,
        n: int,
        *,
        everywhere: bool = True,
        keep: Tensor | Sequence[int] | None = None,
    ) -> QueriedBatch:
        """Select up to `n` unasked rows without storing anything, as `ask` would.

        Args:
            strategy: strategy for this selection; None for the session's.
            n: number of rows, at least 1.
            everywhere: select from all unasked rows instead of the candidates of the round.
            keep: (k,) rows that must not be selected, such as those that a person is reading. The other pending rows
                then count as never asked and can be selected again. None leaves all pending rows asked.

        Raises:
            SessionError: no row is left to query, or the strategy needs a trained model and nothing is labeled.
        """
        n = batch_size(n)
        self._annotations.follow()
        pool_state = self.pool_state
        if keep is not None:
            rows = torch.tensor(pool_rows(keep, len(self.pool)), dtype=torch.int64).unique()
            pool_state = pool_state.with_only_pending(rows)
        return self._selected(strategy, n, pool_state, everywhere=everywhere)

    def _selected(self, strategy: Strategy | None, n: int, pool_state: PoolState, *, everywhere: bool) -> QueriedBatch:
        """Up to `n` unasked rows with the reason for their choice; nothing is stored."""
        strategy = self.strategy if strategy is None else strategy
        state = self._round_state(pool_state)
        batch = self._acquisition.choose(strategy, n, pool_state, state, everywhere=everywhere)
        return batch if batch.reason else replace(batch, reason=strategy.why(state))

    def rows_of(self, ids: Sequence[str]) -> Tensor:
        """Rows with these ids, (n,) int64; ids that are not in the pool are left out."""
        return self._annotations.rows_of(list(ids))

    @storing
    def ask_these(
        self,
        rows: Tensor,
        *,
        strategy: str,
        scores: Tensor | None = None,
        reason: str = "",
        notes: Mapping[str, float] = {},
    ) -> Tensor:
        """Store a batch that was selected outside the session as queried, and return its rows.

        Args:
            rows: (n,) int64, unlabeled rows that were never queried, best first.
            strategy: name of the selection method, for the records.
            scores: (n,) scores of the rows; None when the method has none.
            reason: reason for the choice, in words.
            notes: figures about the choice, by name.

        Raises:
            SessionError: rows are pending, or a row is labeled or was queried before.
        """
        rows = torch.tensor(pool_rows(rows, len(self.pool)), dtype=torch.int64)
        if scores is not None and len(scores) != len(rows):
            raise SessionError(f"{len(rows)} rows but {len(scores)} scores")
        self._annotations.follow()
        state = self.pool_state
        if state.n_pending:
            raise SessionError(f"{state.n_pending} rows are still to be answered")
        if not len(rows) or bool((state.labeled | state.asked)[rows].any()):
            raise SessionError("ask for rows that have no label and were never asked")
        batch = QueriedBatch(self.round + 1, rows, scores, notes or {}, strategy, candidates=len(rows), reason=reason)
        self._annotations.ask(batch)
        return self.pending
