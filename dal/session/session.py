"""The session: which rows to ask next, what was answered, and the model that follows. The only mutable object."""

import logging
import math
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import wraps
from pathlib import Path
from typing import Any, Concatenate, ParamSpec, TypeVar, cast

import torch
from torch import Tensor

from dal.data.rows import Rows
from dal.errors import AnswerError, ConfigError, SessionError, one_line
from dal.learner import SILENT, Learner, Monitor, Predictor, Prepared
from dal.outputs import Outputs
from dal.session.acquisition import Acquisition
from dal.session.answer_values import AnswerDecoder, one_per_row, spread
from dal.session.batch_plan import BatchPlan
from dal.session.checked_arguments import check_needs, require_classes, require_kind
from dal.session.current_model import CurrentModel
from dal.session.pool_state import PoolState
from dal.session.queried_batch import QueriedBatch
from dal.session.seeds import Stream
from dal.stopping import recorded_figures as record
from dal.stopping.rule import History, StoppingRule, Verdict
from dal.store.events import Answer, Skip
from dal.store.folder_lock import Lock
from dal.store.label_store import LabelStore
from dal.store.proposals import Proposal
from dal.store.run_folder import LABELS, METRICS, append_metrics, check_folder, read_metrics
from dal.strategies.candidates import Candidates, as_candidates, check_candidates
from dal.strategy import RoundState, Strategy

__all__ = ["QueriedBatch", "Session", "check_needs"]

_log = logging.getLogger("dal")

P = ParamSpec("P")
R = TypeVar("R")


def _in_turn(method: "Callable[Concatenate[Session, P], R]") -> "Callable[Concatenate[Session, P], R]":
    """A method that other threads wait for, as it waits for them."""

    @wraps(method)
    def waiting(self: "Session", *arguments: P.args, **options: P.kwargs) -> R:
        with self._turn:
            return method(self, *arguments, **options)

    return cast("Callable[Concatenate[Session, P], R]", waiting)


class Session:
    """Asks for labels, takes answers, and fits the model they make. Threads may share it: one call runs at a time.

    With a `folder`, everything is stored there before a call returns, and a session made again on that folder goes on
    where the last one stopped, however it stopped: stored questions are never recomputed, and the model is fitted again
    from (seed, round, labels) unless the saved one is current. Without a folder it lives in memory.

    Args:
        data: a `Splits` (`pool`, and `test` and `validation` or None), or anything with a `load()` that gives one, such
            as a `TextData`.
        learner: what is trained.
        strategy: what chooses.
        folder: where to keep it all. One session at a time may work in a folder.
        seed: decides every random choice, together with the round.
        candidates: which rows of the pool are scored each round: so many random ones, or those that a generator of
            `dal.strategies.candidates` draws; None scores all of them. A request for more rows than that makes as many
            candidates.
        hide_labels: do not take the labels in the data as given, because an oracle answers from them.
        budget: labels to ask for in all, as strategies and schedules are told; None when unlimited.
        save_model: keep the latest model in the folder.
        monitor: watches long work.
        prepared: the parts that were made ready before, to share between sessions on the same data and learner.

    Raises:
        NeedError: the strategy or the candidate generator reads what the learner does not provide, or the strategy is
            not right for multi-label data.
        BusyError: another process works in the folder.
        SessionError: the folder's labels do not fit the data, or its files cannot be read.

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
    ) -> None:
        require_kind(learner, Learner, "learner", "ProbeLearner()")
        require_kind(strategy, Strategy, "strategy", "Margin()")
        require_kind(monitor, Monitor, "monitor", "SILENT")
        if _whole(seed, "seed") < 0:
            raise ConfigError(f"seed must not be negative, got {seed}")
        if budget is not None and _whole(budget, "budget") < 0:
            raise ConfigError(f"budget must not be negative, got {budget}")
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
        require_classes(self.pool.classes)
        check_needs(strategy, learner, multilabel=self.pool.multilabel)
        check_candidates(self.candidates, learner)
        self._last: QueriedBatch | None = None
        self._stop_set: record.StopSet | None = None
        self._turn = threading.RLock()
        self._lock = None if self.folder is None else Lock(self.folder)
        try:
            self.metrics = [] if self.folder is None else read_metrics(self.folder)
            if self.folder is not None and self.metrics and not (self.folder / LABELS).exists():
                raise SessionError(
                    f"{self.folder / LABELS} is missing, and {METRICS} next to it has {len(self.metrics)} lines of its "
                    "answers: put it back, or choose another folder"
                )
            self.store = LabelStore(None if self.folder is None else self.folder / LABELS)
            self._classes = AnswerDecoder(self.pool.classes, self.pool.multilabel)
            self._progress = PoolState(self.pool, self._classes, self.store, hide_labels=hide_labels)
        except BaseException:
            self.close()
            raise
        self._monitor = BatchPlan(monitor, self.store)
        self._model = CurrentModel(
            self.data,
            learner,
            self._progress,
            self.store,
            folder=self.folder,
            seed=seed,
            save=save_model,
            monitor=self._monitor,
            prepared={} if prepared is None else prepared,
        )
        self._chooser = Acquisition(
            self.pool,
            learner,
            self._progress,
            self._model,
            candidates=self.candidates,
            seed=seed,
            monitor=self._monitor,
        )

    # -- what is known ---------------------------------------------------------------------------------------------

    @property
    @_in_turn
    def pending(self) -> Tensor:
        """The rows that were asked and are not answered, (n,) int64, in the order in which to ask them."""
        return self._progress.pending

    @property
    @_in_turn
    def labeled_rows(self) -> Tensor:
        """The rows with a label, (L,) int64, ascending."""
        return self._progress.labeled_rows

    @property
    @_in_turn
    def labels(self) -> Tensor:
        """The labels of `labeled_rows`: (L,) int64, or (L, C) bool when multi-label."""
        return self._progress.labels

    @property
    @_in_turn
    def weak_rows(self) -> Tensor:
        """The rows without an answer that train by what was proposed for them, (n,) int64, ascending."""
        return self._progress.weak

    @property
    @_in_turn
    def unasked_rows(self) -> Tensor:
        """The rows without a label that were never asked, (N,) int64, ascending."""
        return self._progress.unasked_rows

    @property
    @_in_turn
    def given(self) -> int:
        """How many labels came with the data and are not hidden: the starting set."""
        return int(self._progress.given.sum())

    @property
    def can_evaluate(self) -> bool:
        """Whether the data has test rows with labels."""
        return self.data.test is not None and bool(self.data.test.known.any())

    @property
    @_in_turn
    def trains(self) -> bool:
        """Whether there is something to train on: an answer, or a proposal that counts."""
        return self._progress.trains

    @property
    def round(self) -> int:
        """How many batches were ever asked."""
        return self.store.round

    @property
    @_in_turn
    def state(self) -> RoundState:
        """What a schedule may know before the next batch."""
        labels = self.labels
        multilabel, classes = self.pool.multilabel, len(self.pool.classes)
        counts = labels.sum(0) if multilabel else torch.bincount(labels, minlength=classes)
        asked = self.store.answered + self._progress.waiting
        return RoundState(
            round=self.round,
            labels=len(labels),
            per_class=tuple(counts.tolist()),
            budget=None if self.budget is None else max(0, self.budget - asked),
            metrics=tuple(_numbers(line) for line in self.metrics),
        )

    @property
    @_in_turn
    def last_selection(self) -> QueriedBatch | None:
        """The latest batch of questions and why it was chosen; None before the first."""
        if self._last is None and self.round:
            batch = self.store.batch(self.round)
            rows = self._progress.rows_of(batch.rows)
            scores = None if batch.scores is None or len(rows) < len(batch.rows) else torch.tensor(batch.scores)
            try:
                self._last = QueriedBatch.restored(batch.round, rows, scores, batch.strategy, batch.details)
            except ValueError as error:
                where = self.store.path or "the store"
                raise SessionError(
                    f"{where} is damaged (round {batch.round}: {error}): put a backup in its place"
                ) from error
        return self._last

    @property
    @_in_turn
    def prepared(self) -> Prepared:
        """The pool made ready for the learner, once."""
        return self._model.prepare("pool")

    @property
    @_in_turn
    def predictor(self) -> Predictor:
        """The model that the present labels make: fitted when first wanted, dropped as soon as they change.

        Raises:
            SessionError: nothing is labeled yet.
            LearnerError: the labels cannot train this learner.
        """
        return self._model.predictor

    @property
    def fit_seconds(self) -> float:
        """The seconds that the fit of the latest model took; 0 before the first."""
        return self._model.fit_seconds

    # -- asking ----------------------------------------------------------------------------------------------------

    @_in_turn
    def ask(self, n: int, *, strategy: Strategy | None = None, measured: bool = False) -> Tensor:
        """The next rows to label, (n,) int64, best first, stored as asked.

        While some are pending, those and no others, whatever n is. When fewer than n rows are left, those that are.

        Args:
            n: how many, at least 1.
            strategy: chooses this batch in the place of the session's.
            measured: keep with the batch how unsure the present model is of it, whatever chooses. Changes no choice.

        Raises:
            SessionError: nothing is left to ask, or the strategy reads a trained model and nothing is labeled.
        """
        n = _count(n)
        self._follow()
        if self._progress.waiting:
            return self.pending
        strategy, state = self.strategy if strategy is None else strategy, self.state
        asked = self._chooser.choose(strategy, n, state)
        if measured and state.labels:
            asked = self._chooser.measured(asked, state.round)
        self._store(asked if asked.why else replace(asked, why=strategy.why(state)))
        return self.pending

    @_in_turn
    def choose(self, strategy: Strategy, n: int) -> QueriedBatch:
        """What the strategy would ask now, with nothing stored: at most n of the rows that were never asked.

        Raises:
            SessionError: nothing is left, or the strategy reads a trained model and nothing is labeled.
        """
        n = _count(n)
        self._follow()
        return self._chooser.choose(strategy, n, self.state, everywhere=True)

    @_in_turn
    def ask_these(
        self,
        rows: Tensor,
        *,
        strategy: str,
        scores: Tensor | None = None,
        why: str = "",
        notes: Mapping[str, float] = {},
    ) -> Tensor:
        """The rows, stored as asked: questions that were chosen elsewhere.

        Args:
            rows: (n,) int64, never asked before, best first.
            strategy: what chose them, as records say it.
            scores: (n,), what made them win.
            why: in words.
            notes: figures of the choice.

        Raises:
            SessionError: some are pending, or a row was asked before.
        """
        rows = torch.tensor(self._rows(rows), dtype=torch.int64)
        if scores is not None and len(scores) != len(rows):
            raise SessionError(f"{len(rows)} rows but {len(scores)} scores")
        self._follow()
        if self._progress.waiting:
            raise SessionError(f"{self._progress.waiting} rows are still to be answered")
        if not len(rows) or bool((self._progress.labeled | self._progress.taken)[rows].any()):
            raise SessionError("ask for rows that have no label and were never asked")
        self._store(QueriedBatch(self.round + 1, rows, scores, notes or {}, strategy, candidates=len(rows), why=why))
        return self.pending

    def _store(self, asked: QueriedBatch) -> None:
        before = self.last_selection
        ids = list(self.pool.ids.take(asked.rows))
        scores = None if asked.scores is None else asked.scores.tolist()
        with self.store.changing():
            if self._follow():
                raise SessionError(f"{self.folder or 'the store'} was changed meanwhile by another process: ask again")
            self.store.ask(ids, scores=scores, strategy=asked.strategy, details=asked.details)
        if not self._progress.ask(asked.rows):
            self._model.drop()
        if asked.why and (before is None or before.why.split(":")[0] != asked.why.split(":")[0]):
            _log.info("batch %d: %s", asked.round, asked.why)
        self._last = asked
        if asked.near_duplicates > 0.5:
            _log.warning(
                "%.0f%% of the %d rows that %s chose have a near-duplicate within the batch: their labels will teach "
                "little; a strategy that spreads its choice (BADGE, CoreSet, ClusterCenters) or a pool without "
                "duplicates would do better",
                100 * asked.near_duplicates,
                len(asked.rows),
                asked.strategy,
            )

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
        """How many answers are now on disk: all that were given, or on an error none.

        An answer that a row has already is not stored twice.

        Args:
            rows: any part of the pending rows, (n,).
            values: one per row: a class name or index; when multi-label a list of them (an empty one is an answer) or a
                row of bools (C,); `SKIP` declines the row.
            who: the name of the person or model.
            source: what kind of answerer, such as "person", "simulated", "llm".
            seconds: spent on each row; cost: in dollars, of each row; confidence: in [0, 1]. One number, or one a row.
            correct: take answers for rows that are not pending too: corrections, or labels made elsewhere.

        Raises:
            AnswerError: lists every value that is no class and every row that is not pending. Nothing was stored.
        """
        asked = self._rows(rows, inside=False)
        given = one_per_row(values, len(asked))
        took, costs = _figures(seconds, len(asked), "seconds"), _figures(cost, len(asked), "costs")
        sure = _figures(confidence, len(asked), "confidences")
        with self.store.changing():  # what is checked holds until it is stored
            self._follow()
            read = self._progress.read(asked, given, correct=correct)
            ids = self.pool.ids.take([row for row, _ in read.values()])
            new = [
                Answer(id, value, who, source, took[i], costs[i], sure[i])
                for id, (i, (_, value)) in zip(ids, read.items(), strict=True)
            ]
            if new:
                self.store.tell(new)
        if new:
            self._model.drop()
            self._progress.take(dict(read.values()))
        return len(new)

    def _follow(self) -> bool:
        """Take in what another process has written to the store; whether there was anything."""
        self.store.refresh()
        if not self._progress.follow():
            return False
        self._model.drop()
        self._last = None
        return True

    def _rows(self, rows: Any, *, inside: bool = True) -> list[int]:
        """Rows of the pool, from a tensor, an array, a list or a number.

        Raises:
            AnswerError: they are no whole numbers, or outside the pool where `inside`.
        """
        try:
            given = torch.as_tensor(rows).flatten()
        except (TypeError, ValueError, RuntimeError, OverflowError) as error:
            raise AnswerError(f"rows are whole numbers, one or several: {one_line(error)}") from error
        if not len(given):
            return []
        if given.dtype == torch.bool or given.is_floating_point() or given.is_complex():
            hint = ": give mask.nonzero().flatten()" if given.dtype == torch.bool else ""
            raise AnswerError(f"rows are whole numbers, the places of rows in the pool, not {given.dtype}{hint}")
        numbers: list[int] = given.tolist()
        outside = [row for row in numbers if not 0 <= row < len(self.pool)] if inside else []
        if outside:
            raise AnswerError(f"row {outside[0]} is outside the pool of {len(self.pool)}")
        return numbers

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
        """Store what somebody says of the rows next to the answers: weak labels, or a machine's word to be audited.

        A proposal answers no question and counts as no label in any figure. With a weight it trains the model while
        its row has no answer, in the place of one.

        Args:
            rows: (n,), of the pool.
            values: one per row, as for `tell`, without `SKIP`.
            weight: in training, 0 (none) to 1 (as much as an answer). One number, or one a row.
            who: the name of the model or person.
            source: what kind of answerer.
            confidence: in [0, 1]; seconds: spent on each row; cost: in dollars, of each row. One number, or one a row.

        Raises:
            AnswerError: lists every value that is no class. Nothing was stored.
        """
        asked = self._rows(rows)
        ids = list(self.pool.ids.take(asked))
        names = self._classes.read_all(one_per_row(values, len(asked)), ids)
        sure = _figures(confidence, len(asked), "confidences")
        took, costs = _figures(seconds, len(asked), "seconds"), _figures(cost, len(asked), "costs")
        weights = [each or 0.0 for each in _figures(weight, len(asked), "weights")]
        new = [Proposal(id, names[i], who, source, weights[i], sure[i], took[i], costs[i]) for i, id in enumerate(ids)]
        with self.store.changing():
            self._follow()
            self.store.propose(new)
        if any(weights):
            self._model.drop()
        if not self._progress.propose(new):
            self._model.drop()

    @_in_turn
    def undo(self) -> int:
        """Retract the last answer and return its row, which is asked first again.

        An earlier answer to the same row stands again instead, where there was one.

        Raises:
            SessionError: there is nothing to undo; or the row has left the data, or its earlier answer is of a class
                that the data does not have. Nothing was retracted then.
        """
        with self.store.changing():  # what is checked holds until it is stored
            self._follow()
            last = self.store.last_given
            if last is not None:
                id, before = last
                if not len(self._progress.rows_of([id])):
                    raise SessionError(
                        f"the last answer is to row {id!r}, which is not in the data any more: nothing was undone; put "
                        "the row back to retract its answer"
                    )
                if before is not None and not isinstance(before, Skip):
                    self._progress.refuse_strangers({id: before})
            row = int(self._progress.rows_of([self.store.undo()])[0])
        self._model.drop()
        self._progress.undo(row)
        return row

    # -- the model -------------------------------------------------------------------------------------------------

    @_in_turn
    def evaluate(self) -> dict[str, float]:
        """The figures of `dal.evaluation.metrics.evaluate` for the present model on the labeled test rows.

        Raises:
            SessionError: the data has no test rows with labels, or nothing is labeled yet.
        """
        self._require_test()
        self.predictor, self._model.prepare("test")  # made before the clock starts
        start = time.perf_counter()
        figures = self._model.evaluate("test")
        self.evaluate_seconds = time.perf_counter() - start
        return figures

    @_in_turn
    def score(self, learner: Learner) -> dict[str, float]:
        """The figures of `evaluate` for another learner, trained on the present labels, and the `seconds` of its fit.

        Raises:
            SessionError: the data has no test rows with labels.
            LearnerError: the labels cannot train this learner.
        """
        self._require_test()
        return self._model.score(learner)

    def _require_test(self) -> None:
        if not self.can_evaluate:
            raise SessionError("there is no labeled test set to evaluate on: give the data a test split")

    @property
    @_in_turn
    def marker(self) -> str:
        """A digest of all that the present model follows from, but for a model that training goes on from."""
        return self._model.marker

    @_in_turn
    def leave(self, folder: Path) -> None:
        """Save the present model in `folder` for other sessions to adopt, whole or not at all."""
        self._model.leave(folder)

    @_in_turn
    def adopt(self, folder: Path) -> bool:
        """Whether another session left in `folder` the model that the present labels make, which is then this one's.

        It is loaded as this session's own would be after a restart, with the seconds that its fit took.
        """
        return self._model.adopt(folder)

    @_in_turn
    def scored(self, part: str) -> tuple[Outputs, Tensor]:
        """The present model's logits for the labeled rows of "test" or "validation", on the CPU, and those labels.

        One pass, kept until the labels change.
        """
        return self._model.scored(part)

    @_in_turn
    def read(self, rows: Tensor, names: Iterable[str], *, part: str = "pool") -> Outputs:
        """Outputs for rows of a part of the data: of an untrained model where that has all names, or of the present."""
        return self._model.read(rows, names, part)

    @_in_turn
    def record(self, line: Mapping[str, Any]) -> None:
        """Append a round's metrics: to the folder's `metrics.jsonl`, on disk at once, and to what schedules see."""
        if self.folder is not None:
            append_metrics(self.folder, line)
        self.metrics.append(dict(line))

    # -- when to stop ----------------------------------------------------------------------------------------------

    @_in_turn
    def should_stop(self, rule: StoppingRule) -> Verdict:
        """Whether the rule says to stop asking: true in an `if` when it does; its `text` says why, or how far it is.

        Call it between batches, each time before `ask`: a round that it is not called in is not seen by the rule. What
        the rule reads of the present round is then computed and recorded, once, so that a session made again on the
        folder goes on with the same numbers. While rows are pending, or nothing is labeled, nothing is recorded, and
        the rule judges the rounds before.

        Raises:
            ConfigError: it reads what cannot be recorded, such as scores on validation rows that the data has not.

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
        record.check(rule, self.data)
        self._follow()
        event = self.store.labels_event
        if not self._progress.waiting and bool(self._progress.labeled.any()):
            present = [line for line in self.metrics if line.get("event") == event]
            if not any(record.holds(line, rule) for line in present):
                state = self.state
                head = {"round": state.round, "labels": state.labels, "class_counts": list(state.per_class)}
                self.record(head | {"event": event, **self.observe(rule)})
        return rule.judge(History(tuple(self.metrics)))

    @_in_turn
    def observe(self, rule: StoppingRule) -> dict[str, Any]:
        """What the rule reads of the present state, by name, as JSON can hold it: for a line of `metrics.jsonl`."""
        found: dict[str, Any] = {}
        if "spent" in rule.needs:
            store = self.store
            found["spent"] = record.spent(store.work, store.answered, store.proposals, store.unread)
        if "validation" in rule.needs:
            found["validation"] = {"rows": len(self.data.validation), **self._model.evaluate("validation")}
        if "stop_set" in rule.needs:
            found["stop_set"] = self._predicted(rule.stop_set)
        return found

    def _predicted(self, size: int) -> dict[str, Any]:
        """The present model's predictions for the stop set, in full precision: two models may differ in a row only."""
        if self._stop_set is None or self._stop_set.wanted < size:
            self._stop_set = record.StopSet.draw(self.pool.ids, ~self._progress.given, size, self.seed)
        rows, seed = self._stop_set.rows, self._model.seeds.number(Stream.EVALUATE)
        outputs = self.predictor.outputs(self.prepared, rows, {"logits"}, seed=seed, exact=True, monitor=self._monitor)
        return self._stop_set.record(outputs, self._progress.labeled)

    # -- opening and closing ---------------------------------------------------------------------------------------

    def close(self) -> None:
        """Close the store and let others work in the folder. Calling it twice is harmless."""
        if hasattr(self, "store"):
            self.store.close()
        if self._lock is not None:
            self._lock.release()

    def __enter__(self) -> "Session":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def loaded(data: Any) -> Any:
    """The parts of a data set: a `dal.data.Splits`, or what the `load` of a `TextData` gives.

    Raises:
        ConfigError: it is neither.
    """
    wanted = "data must be a TextData or a Splits, such as Splits(pool=Rows.from_inputs(texts, classes=names))"
    if isinstance(data, type):
        raise ConfigError(f"{wanted}, got the class {data.__name__}")
    splits = data.load() if hasattr(data, "load") else data
    if not isinstance(getattr(splits, "pool", None), Rows):
        what = "; wrap it: Splits(pool=rows)" if isinstance(splits, Rows) else ""
        raise ConfigError(f"{wanted}, got {type(data).__name__}{what}")
    for part in ("test", "validation"):
        if not isinstance(getattr(splits, part, None), Rows | None):
            raise ConfigError(f"the {part} part of the data must be Rows, got {type(getattr(splits, part)).__name__}")
    return splits


def _whole(value: Any, name: str) -> int:
    """A whole number."""
    if isinstance(value, bool) or not hasattr(value, "__index__"):  # NumPy's numbers will do
        raise ConfigError(f"{name} must be a whole number, got {value!r}")
    return int(value)


def _count(n: Any) -> int:
    """How many rows to ask for."""
    if isinstance(n, bool) or not hasattr(n, "__index__"):
        raise SessionError(f"ask for a whole number of rows, not {n!r}")
    if n < 1:
        raise SessionError(f"ask for at least 1 row, not {n}")
    return int(n)


def _figures(value: Any, rows: int, name: str) -> list[float | None]:
    """One figure per row, as `spread` gives them, each of them finite."""
    given = spread(value.tolist() if hasattr(value, "tolist") else value, rows, name)
    for each in given:
        if each is not None and not (hasattr(each, "__float__") and math.isfinite(each)):
            raise AnswerError(f"{name} are finite numbers, got {each!r} (no answer of this call was stored)")
    return [None if each is None else float(each) for each in given]


def _numbers(line: Mapping[str, Any]) -> dict[str, float]:
    return {name: value for name, value in line.items() if isinstance(value, int | float)}
