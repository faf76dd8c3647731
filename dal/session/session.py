"""The active learning session: it selects rows, stores annotations and trains the model. The only mutable object."""

import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from dal.config.moved import accepts_old_attributes
from dal.data.rows import Rows
from dal.errors import ConfigError, SessionError
from dal.evaluation.own_metrics import Metric
from dal.learner import SILENT, Learner, Monitor, Prepared
from dal.objective import Objective, as_objective, check_objective
from dal.session.acquisition import Acquisition
from dal.session.annotation_log import AnnotationLog
from dal.session.answer_values import AnswerDecoder
from dal.session.batch_plan import BatchPlan
from dal.session.checked_arguments import (
    check_needs,
    loaded,
    require_classes,
    require_kind,
    whole_number,
)
from dal.session.current_model import CurrentModel
from dal.session.queried_batch import QueriedBatch
from dal.session.session_answers import SessionAnswers
from dal.session.session_model import SessionModel
from dal.session.session_queries import SessionQueries
from dal.session.session_state import in_turn
from dal.session.stopping_figures import StoppingFigures
from dal.stopping import recorded_figures as record
from dal.stopping.rule import History, StoppingRule, Verdict, judged
from dal.store.folder_lock import Lock
from dal.store.label_store import LabelStore
from dal.store.run_folder import LABELS, METRICS, check_folder, read_metrics
from dal.strategies.candidates import Candidates, as_candidates, check_candidates
from dal.strategy import Strategy

__all__ = ["QueriedBatch", "Session", "check_needs"]


@accepts_old_attributes
class Session(SessionQueries, SessionAnswers, SessionModel):
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
        recall_every: number k of rounds after which the recall of the candidates is measured again, from round 1 on:
            the batch is also selected after a pass over the whole pool; 0 for never.
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
        recall_every: int = 0,
    ) -> None:
        objective = as_objective(objective)
        require_kind(learner, Learner, "learner", "ProbeLearner()")
        require_kind(strategy, Strategy, "strategy", "Margin()")
        require_kind(monitor, Monitor, "monitor", "SILENT")
        if whole_number(seed, "seed") < 0:
            raise ConfigError(f"seed must not be negative, got {seed}")
        if budget is not None and whole_number(budget, "budget") < 0:
            raise ConfigError(f"budget must not be negative, got {budget}")
        if whole_number(recall_every, "recall_every") < 0:
            raise ConfigError(f"recall_every must not be negative, got {recall_every}")
        if store is not None and folder is not None:
            raise ConfigError("a session has a folder or a store of its caller, not both: give one of them")
        self.candidates = as_candidates(candidates)
        self.data = loaded(data)
        self.pool: Rows = self.data.pool
        self.learner, self.strategy = learner, strategy
        self.folder = None if folder is None else check_folder(folder)
        self._read_folder = None
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
            self.pool,
            learner,
            self._model,
            candidates=self.candidates,
            seed=seed,
            monitor=monitor,
            recall_every=int(recall_every),
            folder=self.folder,
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

    # -- stopping --------------------------------------------------------------------------------------------------

    @in_turn
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

    @in_turn
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
