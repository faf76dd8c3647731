"""Rankings of the texts of a project: which to answer next, for the trainer process."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from dal.annotate.answer_figures import class_counts, measured_accuracy
from dal.annotate.row_hints import RowHints
from dal.annotate.text_similarity import SimilarTexts
from dal.annotate.trainer import READING
from dal.config.kinds import PROJECT, kind_of
from dal.errors import DalError, LearnerError, SessionError
from dal.experiments.experiment import Experiment
from dal.experiments.project_experiment import project_experiment
from dal.experiments.results import Cell
from dal.experiments.round_record import recall_of
from dal.experiments.stored_experiments import stored_config, stored_experiment
from dal.learner import Monitor, Prepared
from dal.outputs import closure
from dal.session import Session
from dal.session.checked_arguments import loaded
from dal.session.queried_batch import QueriedBatch
from dal.stopping.recorded_figures import check as check_rule
from dal.stopping.rule import History, StoppingRule, judged
from dal.store.label_store import LabelStore
from dal.store.run_folder import LABELS
from dal.strategies.candidates import Candidates
from dal.strategies.random import Random
from dal.strategy import Strategy, all_needs

#: Least number of new answers, and share of all, after which the accuracy is measured again.
_NEW_ANSWERS, _NEW_SHARE = 10, 0.05

#: Outputs that depend neither on labels nor on classes.
_WITHOUT_CLASSES = frozenset({"embeddings", "surprisal"})


@dataclass(frozen=True)
class RankingJob:
    """A request for a ranking.

    Attributes:
        number: number of the job.
        event: last event of the log that the ranking may know.
        n: number of texts to select.
        keep: ids that must not be selected, such as claimed ones. All other texts without an answer may be.
    """

    number: int
    event: int
    n: int
    keep: Sequence[str] = ()


class Ranker:
    """Ranks the texts of a project or of a folder of `dal ask`. It reads the folder and never writes to it.

    The texts, their tokens and embeddings are kept from job to job, and the model where the labels are the same. After
    a change of the classes or the retired rows they are read again, embeddings from the cache.

    Args:
        folder: folder with `config.yaml` and `labels.db`.
        monitor: receives the progress of fits and passes.
        stage: called with the name of each stage.
    """

    def __init__(self, folder: Path, monitor: Monitor, stage: Callable[[str], None]) -> None:
        self._folder, self._monitor, self._stage = folder, monitor, stage
        self._facts: Any = None  # what the experiment was built from
        self._experiment: Experiment | None = None
        self._data: Any = None
        self._prepared: dict[str, Prepared] = {}
        self._session: Session | None = None
        self._hints = RowHints()
        self._similar: SimilarTexts | None = None  # made for the first search
        self._padded = False  # whether the classes were too few for a model, so that some were made up
        self._is_read = False  # whether the texts of the session have their embeddings
        self._token_budget: int | None = None
        self._measured: dict[str, Any] = {}  # accuracy and gain, with the number of "answers" at the time
        self._lines: list[dict[str, Any]] | None = None  # what the stopping rule read so far; None before the first job

    def rank(self, job: RankingJob) -> dict[str, Any]:
        """The ranking of a job, as JSON values.

        "event", "strategy" (name), "reason", "rows" (as `RowHints.of`, best first; fewer than n at the end of the
        pool), "kept" (the same for the kept rows without an answer), "stop" ({"stop", "text"} of the stopping rule,
        None without one), "details" (of the selection, as sessions store them with a batch), and "figures": "labels",
        "class_counts", "fit_seconds", "accuracy" and "gain" (of `measured_accuracy`), "token_budget" (None unless
        memory ran out), "recall" (of the candidates, in words; empty where this ranking did not measure it, None where
        none does) and "stopping_line" (what the stopping rule read; stored with the batch among "figures", it is read
        back by the next trainer).

        Raises:
            DalError: the folder cannot be read, or nothing can be selected.
        """
        self._stage("reading the answers")
        stored_config(self._folder)
        store = LabelStore.snapshot(self._folder / LABELS, upto=job.event)
        try:
            session = self._opened(store)
            batch, acting = self._selected(session, job)
            self._stage("comparing with the answers")
            stop, line = self._verdict(session)
            ranking = {
                "event": job.event,
                "strategy": batch.strategy,
                "reason": batch.reason,
                "rows": self._hints.of(session, batch.rows, acting, batch, guessed=not self._padded),
                "kept": self._hints.of(session, _unanswered(session, job.keep), acting, guessed=not self._padded),
                "stop": stop,
                "details": batch.details,
                "figures": self._figures(session) | {"stopping_line": line, "recall": self._recall(batch)},
            }
        except BaseException:
            if self._session is None or self._session.store is not store:
                store.close()
            raise
        self._token_budget = store.token_budget
        return ranking

    def search(self, text: str, n: int) -> list[list[Any]]:
        """Id and cosine of up to `n` texts of the last ranking's pool that are most like a text, as JSON values.

        Raises:
            DalError: nothing was ranked yet, or the texts cannot be compared.
        """
        if self._session is None:
            raise SessionError("the model has not read the texts")
        if self._similar is None:
            self._stage(READING)
            self._similar = SimilarTexts(self._session)
        return self._similar.of(text, n)

    def _opened(self, store: LabelStore) -> Session:
        """The session on a snapshot, with what earlier sessions computed."""
        facts = _class_facts(store)
        if self._experiment is None or facts != self._facts:
            self._stage(READING)
            self._forget()
            experiment, self._padded = _experiment(self._folder, store)
            self._data = loaded(experiment.data)
            self._experiment, self._facts = experiment, facts  # only now: the data may be refused
        if self._token_budget is not None and store.token_budget != self._token_budget:
            store.record_budget(self._token_budget)  # found by an earlier job, whose snapshot is gone
        if self._lines is None:
            self._lines = _stored_lines(store)
        experiment = self._experiment
        session = experiment.session(
            Cell(self._folder.name, experiment.strategy, experiment.seeds[0]),
            None,
            simulated=False,
            data=self._data,
            monitor=self._monitor,
            prepared=self._prepared,
            store=store,
        )
        if self._session is not None:
            session.continue_from(self._session)
            self._session.store.close()
        self._session = session
        self._read_texts(session)
        return session

    def _read_texts(self, session: Session) -> None:
        """Embed the texts, once, in a stage of its own: it takes the longest, and hints need all embeddings anyway."""
        if self._is_read or not (session.trains or all_needs(session.strategy)):
            return
        if "embeddings" in closure(session.learner.label_free):
            self._stage(READING)
            session.read(torch.arange(min(1, len(session.pool))), {"embeddings"})
        self._is_read = True

    def _forget(self) -> None:
        """Drop everything that belongs to the texts and classes read before."""
        if self._session is not None:
            self._session.store.close()
        self._session, self._experiment, self._data, self._is_read = None, None, None, False
        self._prepared, self._hints, self._measured, self._similar = {}, RowHints(), {}, None

    def _selected(self, session: Session, job: RankingJob) -> tuple[QueriedBatch, Strategy]:
        """The batch, and the strategy that selected it."""
        assert self._experiment is not None
        self._stage("selecting the texts")
        keep = session.rows_of(job.keep).unique()
        first = self._first_strategy(session)
        given = first if self._padded else self._experiment.initial_strategy(session)
        acting = (session.strategy if given is None else given).resolve(session.state)
        if not len(session.pool_state.with_only_pending(keep).unasked_rows):
            return _nothing_left(session), acting
        try:
            batch = session.choose(given, job.n, everywhere=False, keep=keep)
            few = f"{batch.strategy}: fewer than two classes, which train no model" if self._padded else ""
            return replace(batch, reason=few or batch.reason), acting
        except LearnerError as error:
            if sum(count > 0 for count in session.state.per_class) > 1:
                raise
            # No model can be trained on one class: the texts are selected as before the first label.
            batch = session.choose(first, job.n, everywhere=False, keep=keep)
            return replace(batch, reason=f"{batch.strategy}, as before the first answer: {error}"), first

    def _first_strategy(self, session: Session) -> Strategy:
        """The strategy of a session without labels, if it reads nothing that depends on the classes; else Random."""
        assert self._experiment is not None
        state = session.state
        unlabeled = replace(state, labels=0, per_class=tuple(0 for _ in state.per_class))
        for strategy in (session.strategy.resolve(unlabeled), self._experiment.cold_start):
            if all_needs(strategy) <= _WITHOUT_CLASSES & closure(session.learner.label_free):
                return strategy
        return Random()

    def _verdict(self, session: Session) -> tuple[dict[str, Any] | None, dict[str, Any] | None]:
        """What the stopping rule says, and the line of figures that it read in this round; None without a rule.

        `Session.should_stop` waits for the pending rows, and on a page some always are.
        """
        assert self._experiment is not None
        assert self._lines is not None
        rule, line = self._experiment.stop, None
        if rule is None:
            return None, None
        try:
            if session.pool_state.n_labeled:
                line = self._line(session, rule)
            classes = list(session.pool.classes)  # predictions of other classes cannot be compared
            verdict = judged(rule, History(tuple(each for each in self._lines if each.get("classes") == classes)))
        except DalError as error:  # the ranking is worth more than the verdict
            return {"stop": False, "text": f"the stopping rule cannot be judged: {error}"}, None
        return {"stop": verdict.stop, "text": verdict.text}, line

    def _recall(self, batch: QueriedBatch) -> str | None:
        """The recall of the candidates, as `dal ask` says it."""
        assert self._experiment is not None
        candidates = self._experiment.candidates
        keeps = isinstance(candidates, Candidates) and candidates.keeps
        measured = candidates is not None and (self._experiment.recall_every or keeps)
        return recall_of(batch) if measured else None

    def _line(self, session: Session, rule: StoppingRule) -> dict[str, Any]:
        """The figures of this round, recorded once for each state of the labels."""
        assert self._lines is not None
        event = session.store.labels_event
        for line in self._lines:
            if line.get("event") == event and line.get("classes") == list(session.pool.classes):
                return line
        check_rule(rule, session.data, session.learner)
        state = session.state
        head = {"round": state.round, "labels": state.labels, "class_counts": list(state.per_class), "event": event}
        line = {**head, "classes": list(session.pool.classes), **session.observe(rule)}
        self._lines.append(line)
        return line

    def _figures(self, session: Session) -> dict[str, Any]:
        """Figures about the answers; the accuracy is measured again once there are enough new ones."""
        answers = session.given + sum(session.store.work.done.values())  # corrections count too
        known = self._measured.get("answers", 0)
        if answers - known >= max(_NEW_ANSWERS, _NEW_SHARE * known):
            self._stage("measuring the accuracy")
            self._measured = {"answers": answers, **measured_accuracy(session, self._monitor)}
        accuracy, gain = self._measured.get("accuracy"), self._measured.get("gain")
        return {
            "labels": session.pool_state.n_labeled,
            "class_counts": {name: n for name, n in class_counts(session).items() if not self._padded or n},
            "fit_seconds": session.fit_seconds,
            "accuracy": accuracy,
            "gain": gain,
            "token_budget": session.store.token_budget,
        }


def _class_facts(store: LabelStore) -> Any:
    """What of a log decides how the texts of a project are read: classes with their descriptions, and retired rows."""
    entries = [(each.name, [each.description, *each.examples]) for each in store.classes.active]
    return [(name, [text for text in texts if text.strip()]) for name, texts in entries], store.retired


def _experiment(folder: Path, store: LabelStore) -> tuple[Experiment, bool]:
    """The experiment of a folder, with the classes of the log where it is a project.

    A model needs two classes. With fewer, others are made up, so that the texts can be ranked without a model.

    Returns:
        The experiment, and whether classes were made up.
    """
    if kind_of(folder) != PROJECT:
        return stored_experiment(folder), False
    classes, retired = _class_facts(store)
    names = [name for name, _ in classes]
    made_up = [f"(no class {number})" for number in range(len(names), 2)]
    return project_experiment(folder, [*names, *made_up], dict(classes), retired), bool(made_up)


def _stored_lines(store: LabelStore) -> list[dict[str, Any]]:
    """Figures that the stopping rule read in earlier rounds, where they are stored with the batches."""
    lines = []
    for round in range(1, store.round + 1):
        figures = store.batch(round).details.get("figures")
        line = figures.get("stopping_line") if isinstance(figures, dict) else None
        if isinstance(line, dict) and line not in lines:
            lines.append(line)
    return lines


def _unanswered(session: Session, ids: Sequence[str]) -> Tensor:
    """Rows with these ids that have no label, each once."""
    rows: Tensor = session.rows_of(list(dict.fromkeys(ids)))
    return rows[~session.pool_state.labeled[rows]]


def _nothing_left(session: Session) -> QueriedBatch:
    """A batch without rows, which says why."""
    empty = session.pool_state.pending[:0]
    reason = "nothing is left to ask: every text has an answer, was declined, or is being answered"
    return QueriedBatch(session.round + 1, empty, None, reason=reason)
