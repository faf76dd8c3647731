"""The session: which rows to ask next, what was answered, and the model that follows. The only mutable object."""

import logging
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from dal.batch_plan import BatchPlan
from dal.candidates import Candidates, as_candidates, check_candidates
from dal.choice import Asked, Stream, check_needs
from dal.chooser import Chooser
from dal.classes import Classes, one_per_row, refuse, spread
from dal.data.rows import Rows
from dal.errors import ConfigError, SessionError
from dal.events import Answer
from dal.labels import LabelStore
from dal.learner import SILENT, Learner, Monitor, Predictor, Prepared
from dal.outputs import Outputs
from dal.present_model import PresentModel
from dal.progress import Progress
from dal.proposals import Proposal
from dal.runfolder import LABELS, Lock, append_metrics, read_metrics
from dal.stopping import record
from dal.stopping.rule import History, StoppingRule, Verdict
from dal.strategy import RoundState, Strategy

__all__ = ["Asked", "Session", "check_needs"]

_log = logging.getLogger("dal")


class Session:
    """Asks for labels, takes answers, and fits the model they make. For one thread at a time.

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
            `dal.candidates` draws; None scores all of them. A request for more rows than that makes as many candidates.
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
        >>> from dal.learners.probe import ProbeLearner
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
        if seed < 0:
            raise ConfigError(f"seed must not be negative, got {seed}")
        self.candidates = as_candidates(candidates)
        self.data = data.load() if hasattr(data, "load") else data
        self.pool = self.data.pool
        self.learner, self.strategy = learner, strategy
        self.folder = None if folder is None else Path(folder)
        self.seed, self.hide_labels, self.budget = seed, hide_labels, budget
        self.save_model = save_model
        self.evaluate_seconds = 0.0
        for part in (self.data.pool, self.data.test, self.data.validation):
            if isinstance(part, Rows):
                part.require_finite()
        if not self.pool.classes:
            raise ConfigError("the data names no classes: give `classes`, the names that answers may have")
        check_needs(strategy, learner, multilabel=self.pool.multilabel)
        check_candidates(self.candidates, learner)
        self._last: Asked | None = None
        self._stop_set: record.StopSet | None = None
        self._lock = None if self.folder is None else Lock(self.folder)
        try:
            self.store = LabelStore(None if self.folder is None else self.folder / LABELS)
            self.metrics = [] if self.folder is None else read_metrics(self.folder)
            self._classes = Classes(self.pool.classes, self.pool.multilabel)
            self._progress = Progress(self.pool, self._classes, self.store, hide_labels=hide_labels)
        except BaseException:
            self.close()
            raise
        self._monitor = BatchPlan(monitor, self.store)
        self._model = PresentModel(
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
        self._chooser = Chooser(
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
    def pending(self) -> Tensor:
        """The rows that were asked and are not answered, (n,) int64, in the order in which to ask them."""
        return self._progress.pending.clone()

    @property
    def labeled_rows(self) -> Tensor:
        """The rows with a label, (L,) int64, ascending."""
        return self._progress.labeled_rows

    @property
    def labels(self) -> Tensor:
        """The labels of `labeled_rows`: (L,) int64, or (L, C) bool when multi-label."""
        return self._progress.labels

    @property
    def weak_rows(self) -> Tensor:
        """The rows without an answer that train by what was proposed for them, (n,) int64, ascending."""
        return self._progress.weak

    @property
    def unasked_rows(self) -> Tensor:
        """The rows without a label that were never asked, (N,) int64, ascending."""
        return self._progress.unasked_rows

    @property
    def given(self) -> int:
        """How many labels came with the data and are not hidden: the starting set."""
        return int(self._progress.given.sum())

    @property
    def can_evaluate(self) -> bool:
        """Whether the data has test rows with labels."""
        return self.data.test is not None and bool(self.data.test.known.any())

    @property
    def trains(self) -> bool:
        """Whether there is something to train on: an answer, or a proposal that counts."""
        return self._progress.trains

    @property
    def round(self) -> int:
        """How many batches were ever asked."""
        return self.store.round

    @property
    def state(self) -> RoundState:
        """What a schedule may know before the next batch."""
        labels = self.labels
        multilabel, classes = self.pool.multilabel, len(self.pool.classes)
        counts = labels.sum(0) if multilabel else torch.bincount(labels, minlength=classes)
        asked = len(self.store.answers) + len(self._progress.pending)
        return RoundState(
            round=self.round,
            labels=len(labels),
            per_class=tuple(counts.tolist()),
            budget=None if self.budget is None else max(0, self.budget - asked),
            metrics=tuple(_figures(line) for line in self.metrics),
        )

    @property
    def last_selection(self) -> Asked | None:
        """The latest batch of questions and why it was chosen; None before the first."""
        if self._last is None and self.round:
            batch = self.store.batch(self.round)
            rows = self._progress.rows_of(batch.rows)
            scores = None if batch.scores is None or len(rows) < len(batch.rows) else torch.tensor(batch.scores)
            self._last = Asked(batch.round, rows, scores, strategy=batch.strategy, **batch.details)
        return self._last

    @property
    def prepared(self) -> Prepared:
        """The pool made ready for the learner, once."""
        return self._model.prepare("pool")

    @property
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

    def ask(self, n: int, *, strategy: Strategy | None = None, measured: bool = False) -> Tensor:
        """The next rows to label, (n,) int64, best first, stored as asked.

        While some are pending, those and no others, whatever n is. When fewer than n rows are left, those that are.

        Args:
            n: how many, at least 1.
            strategy: chooses this batch in the place of the session's.
            measured: keep with the batch how unsure the present model is of it, whoever chooses. Changes no choice.

        Raises:
            SessionError: nothing is left to ask, or the strategy reads a trained model and nothing is labeled.
        """
        if n < 1:
            raise SessionError(f"ask for at least 1 row, not {n}")
        if len(self._progress.pending):
            return self.pending
        strategy, state = self.strategy if strategy is None else strategy, self.state
        asked = self._chooser.choose(strategy, n, state)
        if measured and state.labels:
            asked = self._chooser.measured(asked, state.round)
        self._store(asked if asked.why else replace(asked, why=strategy.why(state)))
        return self.pending

    def choose(self, strategy: Strategy, n: int) -> Asked:
        """What the strategy would ask now, with nothing stored: at most n of the rows that were never asked.

        Raises:
            SessionError: nothing is left, or the strategy reads a trained model and nothing is labeled.
        """
        return self._chooser.choose(strategy, n, self.state, everywhere=True)

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
        if len(self._progress.pending):
            raise SessionError(f"{len(self._progress.pending)} rows are still to be answered")
        if not len(rows) or bool((self._progress.labeled | self._progress.taken)[rows].any()):
            raise SessionError("ask for rows that have no label and were never asked")
        self._store(Asked(self.round + 1, rows, scores, notes or {}, strategy, candidates=len(rows), why=why))
        return self.pending

    def _store(self, asked: Asked) -> None:
        before = self.last_selection
        ids = [self.pool.ids[row] for row in asked.rows.tolist()]
        scores = None if asked.scores is None else asked.scores.tolist()
        self.store.ask(ids, scores=scores, strategy=asked.strategy, details=asked.details)
        self._progress.ask(asked.rows)
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
        asked = [int(row) for row in torch.as_tensor(rows).flatten().tolist()]
        read = self._progress.read(asked, one_per_row(values, len(asked)), correct=correct)
        took, costs = spread(seconds, len(asked), "seconds"), spread(cost, len(asked), "costs")
        sure = spread(confidence, len(asked), "confidences")
        new = [
            Answer(self.pool.ids[row], value, who, source, took[i], costs[i], sure[i])
            for i, (row, value) in read.items()
        ]
        if new:
            self.store.tell(new)
            for row, value in read.values():
                self._progress.take(row, value)
            self._model.drop()
        return len(new)

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
        """Store what somebody says of the rows beside the answers: weak labels, or a machine's word to be audited.

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
        asked = [int(row) for row in torch.as_tensor(rows).flatten().tolist()]
        names, mistakes = self._classes.read_all(one_per_row(values, len(asked)), [self.pool.ids[row] for row in asked])
        refuse(mistakes)
        sure = spread(confidence, len(asked), "confidences")
        took, costs = spread(seconds, len(asked), "seconds"), spread(cost, len(asked), "costs")
        weights = [each or 0.0 for each in spread(weight, len(asked), "weights")]
        new = [
            Proposal(self.pool.ids[row], names[i], who, source, weights[i], sure[i], took[i], costs[i])
            for i, row in enumerate(asked)
        ]
        self.store.propose(new)
        self._progress.propose(new)
        if any(weights):
            self._model.drop()

    def undo(self) -> int:
        """The row whose last answer is hereby retracted; it is asked first again.

        An earlier answer to the same row stands again instead, where there was one.

        Raises:
            SessionError: there is nothing to undo.
        """
        row = int(self.pool.rows_of([self.store.undo()])[0])
        self._model.drop()
        value = self.store.answer(self.pool.ids[row])
        if value is None:
            self._progress.release(row)
        else:
            self._progress.take(row, value)
        return row

    # -- the model -------------------------------------------------------------------------------------------------

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
    def marker(self) -> str:
        """A digest of all that the present model follows from, but for a model that training goes on from."""
        return self._model.marker

    def leave(self, folder: Path) -> None:
        """Save the present model in `folder` for other sessions to adopt, whole or not at all."""
        self._model.leave(folder)

    def adopt(self, folder: Path) -> bool:
        """Whether another session left in `folder` the model that the present labels make, which is then this one's.

        It is loaded as this session's own would be after a restart, with the seconds that its fit took.
        """
        return self._model.adopt(folder)

    def scored(self, part: str) -> tuple[Outputs, Tensor]:
        """The present model's logits for the labeled rows of "test" or "validation", on the CPU, and those labels.

        One pass, kept until the labels change.
        """
        return self._model.scored(part)

    def read(self, rows: Tensor, names: Iterable[str], *, part: str = "pool") -> Outputs:
        """Outputs for rows of a part of the data: of an untrained model where that has all names, or of the present."""
        return self._model.read(rows, names, part)

    def record(self, line: Mapping[str, Any]) -> None:
        """Append a round's metrics: to the folder's `metrics.jsonl`, on disk at once, and to what schedules see."""
        if self.folder is not None:
            append_metrics(self.folder, line)
        self.metrics.append(dict(line))

    # -- when to stop ----------------------------------------------------------------------------------------------

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
            >>> from dal.learners.probe import ProbeLearner
            >>> from dal.stopping import Labels
            >>> from dal.strategies.random import Random
            >>> pool = Rows.from_inputs(torch.randn(100, 4), torch.arange(100) % 2, classes=["cat", "dog"])
            >>> session = Session(Splits(pool=pool), ProbeLearner(model=None), Random(), hide_labels=True)
            >>> while not session.should_stop(Labels(most=30)):
            ...     rows = session.ask(20)
            ...     _ = session.tell(rows, pool.labels[rows])
            >>> session.should_stop(Labels(most=30)).text
            '40 of 30 labels were bought'
        """
        record.check(rule, self.data)
        event = self.store.labels_event
        if not len(self._progress.pending) and bool(self._progress.labeled.any()):
            present = [line for line in self.metrics if line.get("event") == event]
            if not any(record.holds(line, rule) for line in present):
                state = self.state
                head = {"round": state.round, "labels": state.labels, "class_counts": list(state.per_class)}
                self.record(head | {"event": event, **self.observe(rule)})
        return rule.judge(History(tuple(self.metrics)))

    def observe(self, rule: StoppingRule) -> dict[str, Any]:
        """What the rule reads of the present state, by name, as JSON can hold it: for a line of `metrics.jsonl`."""
        found: dict[str, Any] = {}
        if "spent" in rule.reads:
            store = self.store
            found["spent"] = record.spent(store.events(), len(store.answers), store.proposals, store.unread)
        if "validation" in rule.reads:
            found["validation"] = {"rows": len(self.data.validation), **self._model.evaluate("validation")}
        if "stop_set" in rule.reads:
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


def _figures(line: Mapping[str, Any]) -> dict[str, float]:
    return {name: value for name, value in line.items() if isinstance(value, int | float)}
