"""State of a session, as it is read: the rows of its pool, their labels, and the batches so far."""

import threading
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any, Concatenate, ParamSpec, TypeVar, cast

import torch
from torch import Tensor

from dal.data.rows import Rows
from dal.errors import LearnerError, SessionError
from dal.learner import Learner
from dal.session.annotation_log import AnnotationLog
from dal.session.current_model import CurrentModel
from dal.session.past_metrics import RoundMetrics
from dal.session.pool_state import PoolState
from dal.session.queried_batch import QueriedBatch
from dal.store.atomic_files import named
from dal.store.label_store import LabelStore
from dal.strategy import RoundState, Strategy

P = ParamSpec("P")
R = TypeVar("R")


def in_turn(method: Callable[Concatenate[Any, P], R]) -> Callable[Concatenate[Any, P], R]:
    """Run a method under the session's lock, so that one thread at a time is inside the session."""

    @wraps(method)
    def locked(self: Any, *arguments: P.args, **options: P.kwargs) -> R:
        with self._turn:
            return method(self, *arguments, **options)

    return cast(Callable[Concatenate[Any, P], R], locked)


def storing(method: Callable[Concatenate[Any, P], R]) -> Callable[Concatenate[Any, P], R]:
    """Run a method that stores something under the session's lock, unless the session only reads a folder."""
    locked = in_turn(method)

    @wraps(method)
    def checked(self: Any, *arguments: P.args, **options: P.kwargs) -> R:
        if self._read_folder is not None:
            raise SessionError(
                f"{named(self._read_folder)} was opened to read its model: open a session of it to ask and to store "
                "answers, as in dal.Project(folder) or dal.Session(..., folder=folder)"
            )
        return locked(self, *arguments, **options)

    return cast(Callable[Concatenate[Any, P], R], checked)


class SessionState:
    """What a session knows of its pool. See `Session` for the attributes."""

    data: Any
    pool: Rows
    learner: Learner
    strategy: Strategy
    store: LabelStore
    metrics: list[Any]
    budget: int | None
    folder: Path | None
    _read_folder: Path | None
    _turn: threading.RLock
    _annotations: AnnotationLog
    _model: CurrentModel

    @property
    def pool_state(self) -> PoolState:
        """The state of all pool rows at this moment: an immutable value, which can be pickled.

        It does not change when the session goes on.
        """
        return self._annotations.state

    @property
    def pending(self) -> Tensor:
        """Queried rows that have no answer yet, (n,) int64, in the order in which to ask them."""
        return self.pool_state.pending

    @property
    def labeled_rows(self) -> Tensor:
        """Rows with a label, (L,) int64, ascending."""
        return self.pool_state.labeled_rows

    @property
    def labels(self) -> Tensor:
        """Labels of `labeled_rows`, (L,) int64, or (L, C) bool when multi-label."""
        return self.pool_state.labels

    @property
    def weak_rows(self) -> Tensor:
        """Rows without an answer that are trained on with a proposed (weak) label, (n,) int64, ascending."""
        return self.pool_state.weak_rows

    @property
    def unasked_rows(self) -> Tensor:
        """Unlabeled rows that were never queried, (N,) int64, ascending."""
        return self.pool_state.unasked_rows

    @property
    def given(self) -> int:
        """Number of labels that came with the data and are not hidden: the starting set."""
        return int(self.pool_state.given.all().sum())

    @property
    def can_evaluate(self) -> bool:
        """Whether the data has test rows with labels."""
        return self._has_labels("test")

    @property
    def trains(self) -> bool:
        """Whether the training set is not empty: a label, or a proposal with a weight above 0."""
        return self.pool_state.trains

    @property
    def round(self) -> int:
        """Number of batches queried so far."""
        return self.store.round

    @property
    @in_turn
    def state(self) -> RoundState:
        """The state of the round, as schedules see it before the next batch."""
        return self._round_state(self.pool_state)

    def _round_state(self, pool_state: PoolState) -> RoundState:
        labels = pool_state.labels
        multilabel, classes = self.pool.multilabel, len(self.pool.classes)
        counts = labels.sum(0) if multilabel else torch.bincount(labels, minlength=classes)
        asked = self.store.answered + pool_state.n_pending
        return RoundState(
            round=self.round,
            labels=len(labels),
            per_class=tuple(counts.tolist()),
            budget=None if self.budget is None else max(0, self.budget - asked),
            metrics=RoundMetrics(self.metrics, self._current_scores),
        )

    @in_turn
    def _current_scores(self) -> dict[str, float] | None:
        """Scores of the current model on the validation rows, or the test rows without any; None without a model."""
        parts = [part for part in ("validation", "test") if self._has_labels(part)]
        if not parts or not self.trains:
            return None
        try:
            scores = self._model.evaluate(parts[0])
        except LearnerError:  # such as labels of a single class
            return None
        return {"round": self.round, "labels": self.pool_state.n_labeled, **scores}

    def _has_labels(self, part: str) -> bool:
        rows = getattr(self.data, part)
        return rows is not None and bool(rows.known.any())

    @property
    @in_turn
    def last_selection(self) -> QueriedBatch | None:
        """The latest queried batch, with scores and the reason for the choice; None before the first."""
        return self._annotations.last_batch()
