"""The active learning session: it selects rows, stores annotations and trains the model. The only mutable object."""

import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import wraps
from pathlib import Path
from typing import Any, Concatenate, ParamSpec, TypeVar, cast

import torch
from torch import Tensor

from dal.config.moved import accepts_old_attributes
from dal.data.rows import Rows
from dal.errors import ConfigError, LearnerError, SessionError
from dal.evaluation.own_metrics import Metric
from dal.learner import SILENT, Learner, Monitor, Predictor, Prepared
from dal.objective import Objective, as_objective, check_objective
from dal.outputs import Outputs
from dal.session.acquisition import Acquisition
from dal.session.annotation_log import AnnotationLog
from dal.session.answer_values import AnswerDecoder, one_per_row, spread
from dal.session.batch_plan import BatchPlan
from dal.session.checked_arguments import (
    batch_size,
    check_needs,
    loaded,
    pool_rows,
    require_classes,
    require_kind,
    whole_number,
)
from dal.session.current_model import CurrentModel
from dal.session.past_metrics import RoundMetrics
from dal.session.pool_state import PoolState
from dal.session.queried_batch import QueriedBatch
from dal.session.stopping_figures import StoppingFigures
from dal.stopping import recorded_figures as record
from dal.stopping.rule import History, StoppingRule, Verdict, judged
from dal.store.folder_lock import Lock
from dal.store.label_store import LabelStore
from dal.store.proposals import Proposal
from dal.store.renamed_keys import MetricsLine
from dal.store.run_folder import LABELS, METRICS, append_metrics, check_folder, read_metrics
from dal.strategies.candidates import Candidates, as_candidates, check_candidates
from dal.strategy import RoundState, Strategy

__all__ = ["QueriedBatch", "Session", "check_needs"]

P = ParamSpec("P")
R = TypeVar("R")


def _in_turn(method: "Callable[Concatenate[Session, P], R]") -> "Callable[Concatenate[Session, P], R]":
    """Run a method under the session's lock, so that one thread at a time is inside the session."""

    @wraps(method)
    def locked(self: "Session", *arguments: P.args, **options: P.kwargs) -> R:
        with self._turn:
            return method(self, *arguments, **options)

    return cast("Callable[Concatenate[Session, P], R]", locked)


@accepts_old_attributes
class Session:
    """Active learning session: selects rows to label, stores annotations and trains the model on them.

    With a `folder`, every change is on disk before the call returns, and a new session on that folder resumes where the
    previous one stopped, even after a crash: stored batches are never selected again, and the model is refitted from
    (seed, round, labels) unless the saved one is current. Without a folder the session lives in memory. A session is
    thread-safe: calls from several threads run one at a time.

    Args:
        data: a `Splits` (`pool`, and `test` and `validation` or None), or any object whose `load()` returns one, such
            as a `TextData`.
        learner: the learner to train.
        strategy: the query strategy.
        folder: directory of the session's files, used by one session at a time; None keeps the session in memory.
        seed: non-negative seed; together with the round it determines every random choice.
        candidates: pool rows to score each round: a number of random rows, or a generator of
            `dal.strategies.candidates`; None scores the whole pool. Raised to the batch size where that is larger.
        hide_labels: ignore the labels in the data, for experiments in which an oracle answers from them.
        budget: total number of labels to ask for, reported to strategies and schedules; None for no limit.
        save_model: save the latest model in the folder.
        monitor: receives the progress of fits and passes.
        prepared: prepared parts of the data, shared between sessions with the same data and learner.
        store: label store with the questions and answers so far, instead of one in the folder; the caller closes it.
            Such a session has no folder, and its data may lack classes: it then selects rows by label-free strategies.
        objective: score that stopping rules look at unless they name another; None for the accuracy. That of the model
            is an option of the learner.
        own_metrics: metrics of the user that stopping rules may name.

    Raises:
        ConfigError: an argument is invalid, or an objective is not defined for the data.
        NeedError: the strategy or the candidate generator reads outputs that the learner does not provide, or the
            strategy does not support multi-label data.
        BusyError: another process uses the folder.
        SessionError: the stored labels do not match the data, or a file of the folder cannot be read.

    Example:
        >>> import torch
        >>> from dal.data import Rows, Splits
        >>> from dal.learners.probe_learner import ProbeLearner
        >>> from dal.strategies.random import Random
        >>> pool = Rows.from_inputs(torch.randn(100, 4), classes=["cat", "dog"])
        >>> session = Session(Splits(pool=pool), ProbeLearner(model=None), Random())
        >>> rows = session.ask(2)
        >>> session.tell(rows, ["cat", "dog"])
        2
        >>> session.predictor.outputs(session.prepared, rows).probs.shape
        torch.Size([2, 2])
    """

    def __init__(
        self,
        data: Any,
        learner: Learner,
        strategy: Strategy,
        *,
        folder: Path | str | None = None,
        seed: int = 0,
        candidates: int | Candidates | None = None,
        hide_labels: bool = False,
        budget: int | None = None,
        save_model: bool = True,
        monitor: Monitor = SILENT,
        prepared: dict[str, Prepared] | None = None,
        store: LabelStore | None = None,
        objective: Objective | Mapping[str, Any] | None = None,
        own_metrics: Sequence[Metric] = (),
    ) -> None:
        objective = as_objective(objective)
        require_kind(learner, Learner, "learner", "ProbeLearner()")
        require_kind(strategy, Strategy, "strategy", "Margin()")
        require_kind(monitor, Monitor, "monitor", "SILENT")
        if whole_number(seed, "seed") < 0:
            raise ConfigError(f"seed must not be negative, got {seed}")
        if budget is not None and whole_number(budget, "budget") < 0:
            raise ConfigError(f"budget must not be negative, got {budget}")
        if store is not None and folder is not None:
            raise ConfigError("a session has a folder or a store of its caller, not both: give one of them")
        self.candidates = as_candidates(candidates)
        self.data = loaded(data)
        self.pool: Rows = self.data.pool
        self.learner, self.strategy = learner, strategy
        self.folder = None if folder is None else check_folder(folder)
        self.seed, self.hide_labels, self.budget = int(seed), hide_labels, budget
        self.save_model = save_model
        self.evaluate_seconds = 0.0
        for part in (self.data.pool, self.data.test, self.data.validation):
            if isinstance(part, Rows):
                part.require_finite()
        if store is None:
            require_classes(self.pool.classes)
        for each in (objective, getattr(learner, "objective", None)):
            check_objective(each, self.pool.classes, multilabel=self.pool.multilabel)
        check_needs(strategy, learner, multilabel=self.pool.multilabel)
        check_candidates(self.candidates, learner)
        self._turn = threading.RLock()  # reentrant: methods call each other
        self._lock = None if self.folder is None else Lock(self.folder)
        try:
            self.metrics = [] if self.folder is None else read_metrics(self.folder)
            # Before the store is opened, which would create an empty one in place of the lost answers.
            if self.folder is not None and self.metrics and not (self.folder / LABELS).exists():
                raise SessionError(
                    f"{self.folder / LABELS} is missing, and {METRICS} next to it has {len(self.metrics)} lines of its "
                    "answers: put it back, or choose another folder"
                )
            self._owns_store = store is None
            if store is None:
                store = LabelStore(None if self.folder is None else self.folder / LABELS)
            self.store = store
            self._classes = AnswerDecoder(self.pool.classes, self.pool.multilabel)
            self._annotations = AnnotationLog(
                self.pool,
                self._classes,
                self.store,
                hide_labels=hide_labels,
                labels_changed=lambda: self._model.drop(),  # made below
            )
        except BaseException:
            self.close()
            raise
        monitor = BatchPlan(monitor, self.store)
        self._model = CurrentModel(
            self.data,
            learner,
            self._annotations,
            self.store,
            folder=self.folder,
            seed=seed,
            save=save_model,
            monitor=monitor,
            prepared={} if prepared is None else prepared,
        )
        self._acquisition = Acquisition(
            self.pool, learner, self._model, candidates=self.candidates, seed=seed, monitor=monitor
        )
        self._figures = StoppingFigures(
            self.data,
            self._annotations,
            self.store,
            self._model,
            seed=self.seed,
            monitor=monitor,
            objective=objective,
            own_metrics=own_metrics,
        )

    # -- state -----------------------------------------------------------------------------------------------------

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
    @_in_turn
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

    @_in_turn
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
    @_in_turn
    def last_selection(self) -> QueriedBatch | None:
        """The latest queried batch, with scores and the reason for the choice; None before the first."""
        return self._annotations.last_batch()

    @property
    @_in_turn
    def prepared(self) -> Prepared:
        """The pool as prepared by the learner, computed once."""
        return self._model.prepare("pool")

    @property
    @_in_turn
    def predictor(self) -> Predictor:
        """The model trained on the current labels: fitted on first access, discarded as soon as the labels change.

        Raises:
            SessionError: nothing is labeled yet.
            LearnerError: the learner cannot be trained on these labels.
        """
        return self._model.predictor

    @property
    def fit_seconds(self) -> float:
        """Duration of the latest fit in seconds; 0 before the first."""
        return self._model.fit_seconds

    # -- queries ---------------------------------------------------------------------------------------------------

    @_in_turn
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

    @_in_turn
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

    @_in_turn
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

    # -- answers ---------------------------------------------------------------------------------------------------

    @_in_turn
    def tell(
        self,
        rows: Tensor | Sequence[int] | int,
        values: Any,
        *,
        who: str = "",
        source: str = "person",
        seconds: float | Sequence[float | None] | None = None,
        cost: float | Sequence[float | None] | None = None,
        confidence: float | Sequence[float | None] | None = None,
        correct: bool = False,
    ) -> int:
        """Store annotations and return the number of new ones. All are stored, or none if one is invalid.

        An annotation that repeats the current one of its row is not stored again.

        Args:
            rows: (n,) pending rows, in any order.
            values: one annotation per row: a class name or index; when multi-label a list of them (possibly empty) or
                (C,) bool; `SKIP` declines the row.
            who: name of the annotator or model.
            source: kind of annotator, such as "person", "simulated" or "llm".
            seconds: time spent on the row, a scalar or (n,).
            cost: cost of the row in dollars, a scalar or (n,).
            confidence: confidence of the annotator in [0, 1], a scalar or (n,).
            correct: accept rows that are not pending: corrections, or labels from another source.

        Raises:
            AnswerError: lists all unknown classes and all rows that are not pending. Nothing was stored.
        """
        numbers = pool_rows(rows, len(self.pool), inside=False)
        return self._annotations.tell(
            numbers,
            one_per_row(values, len(numbers)),
            who=who,
            source=source,
            seconds=spread(seconds, len(numbers), "seconds"),
            costs=spread(cost, len(numbers), "costs"),
            confidences=spread(confidence, len(numbers), "confidences"),
            correct=correct,
        )

    @_in_turn
    def propose(
        self,
        rows: Tensor | Sequence[int],
        values: Any,
        *,
        weight: float | Sequence[float],
        who: str = "",
        source: str = "llm",
        confidence: float | Sequence[float | None] | None = None,
        seconds: float | Sequence[float | None] | None = None,
        cost: float | Sequence[float | None] | None = None,
    ) -> None:
        """Store proposed labels: weak labels for training, or model predictions to audit.

        A proposal does not answer a query and is not counted as a label. With a weight above 0 it is trained on as
        long as its row has no answer.

        Args:
            rows: (n,) rows of the pool.
            values: one label per row, as for `tell`, without `SKIP`.
            weight: sample weight in training, from 0 (unused) to 1 (same as an answer), a scalar or (n,).
            who: name of the model or annotator.
            source: kind of annotator.
            confidence: confidence in [0, 1], a scalar or (n,).
            seconds: time spent on the row, a scalar or (n,).
            cost: cost of the row in dollars, a scalar or (n,).

        Raises:
            AnswerError: lists all values that are not classes. Nothing was stored.
        """
        numbers = pool_rows(rows, len(self.pool))
        ids, count = list(self.pool.ids.take(numbers)), len(numbers)
        names = self._classes.read_all(one_per_row(values, count), ids)
        weights = [each or 0.0 for each in spread(weight, count, "weights")]
        confidences, durations = spread(confidence, count, "confidences"), spread(seconds, count, "seconds")
        costs = spread(cost, count, "costs")
        self._annotations.propose(
            [
                Proposal(id, names[i], who, source, weights[i], confidences[i], durations[i], costs[i])
                for i, id in enumerate(ids)
            ]
        )

    @_in_turn
    def undo(self) -> int:
        """Retract the most recent answer and return its row.

        The row gets back its previous answer if it had one; otherwise a queried row becomes the first pending one.

        Raises:
            SessionError: there is no answer; or the row is no longer in the data, or the class of its previous answer
                is not. Nothing was retracted.
        """
        return self._annotations.undo()

    # -- the model -------------------------------------------------------------------------------------------------

    @_in_turn
    def evaluate(self) -> dict[str, float]:
        """Evaluate the current model on the labeled test rows, with `dal.evaluation.metrics.evaluate`.

        Raises:
            SessionError: the data has no test rows with labels, or nothing is labeled yet.
        """
        self._require_test()
        self.predictor, self._model.prepare("test")  # fit and prepare before the clock starts
        start = time.perf_counter()
        figures = self._model.evaluate("test")
        self.evaluate_seconds = time.perf_counter() - start
        return figures

    @_in_turn
    def score(self, learner: Learner) -> dict[str, float]:
        """Train another learner on the current labels and return its test metrics, with the `seconds` of its fit.

        Raises:
            SessionError: the data has no test rows with labels.
            LearnerError: the learner cannot be trained on these labels.
        """
        self._require_test()
        return self._model.score(learner)

    def _require_test(self) -> None:
        if not self.can_evaluate:
            raise SessionError("there is no labeled test set to evaluate on: give the data a test split")

    @property
    @_in_turn
    def marker(self) -> str:
        """Digest of everything that determines the current model, except the initial model of a warm start."""
        return self._model.marker

    @_in_turn
    def export_model(self, folder: Path) -> None:
        """Save the current model in `folder`, atomically, for other sessions to import."""
        self._model.export_model(folder)

    @_in_turn
    def import_model(self, folder: Path) -> bool:
        """Load the model of `folder` if it was trained on the current labels; return whether it was.

        `fit_seconds` becomes the duration of that model's fit.
        """
        return self._model.import_model(folder)

    @_in_turn
    def scored(self, part: str, names: Iterable[str] = ()) -> tuple[Outputs, Tensor]:
        """The current model's logits for the labeled rows of "test" or "validation", on the CPU, and their labels.

        Cached until the labels change.

        Args:
            part: part of the data.
            names: further outputs to compute in the same pass.
        """
        return self._model.scored(part, names)

    @_in_turn
    def read(self, rows: Tensor, names: Iterable[str], *, part: str = "pool") -> Outputs:
        """Outputs of rows of a part, from the untrained model if it provides all `names`, else from the current one."""
        return self._model.read(rows, names, part)

    @_in_turn
    def continue_from(self, earlier: "Session") -> None:
        """Take over what a session on earlier answers to the same data computed, which is not used afterwards.

        The model is taken over if the labels are the same; otherwise it is what a learner with a warm start continues
        from. The recorded metrics and the distances between rows are taken over too. Only time depends on this, and
        the model of a warm start.

        Args:
            earlier: session with the same data, learner and seed.
        """
        self.metrics[:] = earlier.metrics
        self._model.continue_from(earlier._model)
        self._acquisition.continue_from(earlier._acquisition)

    @_in_turn
    def record(self, line: Mapping[str, Any]) -> None:
        """Append the metrics of a round to `metrics` and, synced to disk, to the folder's `metrics.jsonl`."""
        if self.folder is not None:
            append_metrics(self.folder, line)  # first: if it fails, memory and disk still agree
        self.metrics.append(MetricsLine(line))

    # -- stopping --------------------------------------------------------------------------------------------------

    @_in_turn
    def should_stop(self, rule: StoppingRule) -> Verdict:
        """Evaluate a stopping rule. The verdict is truthy when the rule stops; its `text` gives the reason or progress.

        Call it before every `ask`: the rule sees only the rounds in which it was called. The figures that the rule
        reads are computed once a round and recorded, so that a resumed session continues with the same figures. While
        rows are pending or nothing is labeled, nothing is recorded and the rule judges the previous rounds.

        Raises:
            ConfigError: the rule reads figures that cannot be recorded, such as validation scores without validation
                rows.
            NeedError: the rule measures outputs that the learner does not provide.
            PluginError: the rule failed, or measured something that cannot be stored.

        Example:
            >>> import torch
            >>> from dal.data import Rows, Splits
            >>> from dal.learners.probe_learner import ProbeLearner
            >>> from dal.stopping import Labels
            >>> from dal.strategies.random import Random
            >>> pool = Rows.from_inputs(torch.randn(100, 4), torch.arange(100) % 2, classes=["cat", "dog"])
            >>> session = Session(Splits(pool=pool), ProbeLearner(model=None), Random(), hide_labels=True)
            >>> while not session.should_stop(Labels(max_labels=30)):
            ...     rows = session.ask(20)
            ...     _ = session.tell(rows, pool.labels[rows])
            >>> session.should_stop(Labels(max_labels=30)).text
            '40 of 30 labels were bought'
        """
        record.check(rule, self.data, self.learner, self._figures.metrics)
        self._annotations.follow()
        event = self.store.labels_event
        if not self.pool_state.n_pending and self.pool_state.n_labeled:
            # Once per state of the labels: asking again must not add a line, which would count as a round.
            present = [line for line in self.metrics if line.get("event") == event]
            if not any(record.holds(line, rule) and self._figures.has_objective(line) for line in present):
                state = self.state
                head = {"round": state.round, "labels": state.labels, "class_counts": list(state.per_class)}
                self.record(head | {"event": event, **self.observe(rule)})
        return judged(rule, History(tuple(self.metrics)))

    @_in_turn
    def observe(self, rule: StoppingRule) -> dict[str, Any]:
        """Compute what the rule reads and measures, by name, as JSON values for a line of `metrics.jsonl`."""
        return self._figures.of(rule, self.state)

    # -- opening and closing ---------------------------------------------------------------------------------------

    def close(self) -> None:
        """Close the session's own store and release the folder's lock. Calling it again has no effect."""
        if hasattr(self, "store") and self._owns_store:  # the constructor may have failed before
            self.store.close()
        if self._lock is not None:
            self._lock.release()

    def __enter__(self) -> "Session":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
