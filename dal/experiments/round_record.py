"""Lines of `metrics.jsonl`, one per round of a run: scores, measures and the verdict of the stopping rule."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from dal.experiments.candidate_text import candidates_text, recall_text
from dal.experiments.round_measures import Measures, complete_metrics
from dal.experiments.successor import KEY, Successor
from dal.session import Session
from dal.session.queried_batch import QueriedBatch
from dal.stopping.rule import History, StoppingRule, judged
from dal.strategy import name_of


@dataclass(frozen=True, eq=False)
class RoundLines:
    """Builds the lines of a session's rounds.

    Args:
        session: session of the run.
        measures: measures to record besides the scores.
        successor: another learner that is trained on the same labels; None for none.
        stop: stopping rule; None for none.
        texts: whether to store the texts of each batch.
    """

    session: Session
    measures: Measures
    successor: Successor | None = None
    stop: StoppingRule | None = None
    texts: bool = False

    def line(self, batch: QueriedBatch | None, round: int) -> dict[str, Any]:
        """The part of a round's line that is shared by all cells with the same labels and batch.

        Args:
            batch: answered batch of this round; None if there was none.
            round: number of the round, 0 for the start.
        """
        scores = self._scores(batch, round)
        if self.stop is not None and self.stop.validation_needs:  # one pass for the rule and the measures
            self.session.scored("validation", self.stop.validation_needs)
        line = scores | self.measures.of_round(batch)
        if self.successor is None or not self.session.can_evaluate or not self.successor.due(round):
            return line
        return line | self.successor.metrics(self.session)

    def at_end(self, line: Mapping[str, Any]) -> dict[str, Any]:
        """The further parts of the line of the last round."""
        figures = self.measures.at_end()
        if self.successor is None or not self.session.can_evaluate or KEY in line:
            return figures
        return figures | self.successor.metrics(self.session)

    def completed(self, line: Mapping[str, Any], batch: QueriedBatch | None) -> dict[str, Any]:
        """The line with the parts specific to this session: strategy, texts and the verdict of the stopping rule."""
        line = {**line, "strategy": name_of(self.session.strategy)} | self._texts(line, batch)
        return line | self._stopping(line)

    def _texts(self, line: Mapping[str, Any], batch: QueriedBatch | None) -> dict[str, Any]:
        """The texts of a batch for the report; {} if they are not stored.

        Texts of nearest labeled rows are in the lines of the rounds that queried them. Those of rows whose label came
        with the data are added here, by id.
        """
        if not self.texts or batch is None:
            return {}
        session = self.session
        pool, store = session.pool, session.store
        given = [row for row in dict.fromkeys(line.get("nearest", ())) if row is not None and not store.was_asked(row)]
        near = dict(zip(given, pool.texts(pool.rows_of(given)), strict=True)) if given else {}
        return {"texts": pool.texts(batch.rows)} | ({"nearest_texts": near} if near else {})

    def _stopping(self, line: Mapping[str, Any]) -> dict[str, Any]:
        """The figures that the stopping rule reads, and its verdict, which is stored so that a resumed run keeps it."""
        if self.stop is None:
            return {}
        figures = self.session.observe(self.stop)
        verdict = judged(self.stop, History((*self.session.metrics, {**line, **figures})))
        notes = {name: _finite(value) for name, value in verdict.notes.items()}
        return figures | {"stopping": {"stop": verdict.stop, "text": verdict.text, "notes": notes}}

    def _scores(self, batch: QueriedBatch | None, round: int) -> dict[str, Any]:
        session, state = self.session, self.session.state
        predictor = session.predictor  # fitted first, so that `fit_seconds` is complete
        figures = complete_metrics(session.evaluate()) if session.can_evaluate else {}
        notes = dict(predictor.training_notes)
        del predictor
        declined = 0 if batch is None else int(session.pool_state.declined[batch.rows].sum())
        return {
            "round": round,
            "labels": state.labels,
            "strategy": name_of(session.strategy),
            "acting_strategy": None if batch is None else batch.strategy,
            "reason": "" if batch is None else batch.reason,
            "seed": session.seed,
            **{name: None if value is None else _finite(value) for name, value in figures.items()},
            "fit_seconds": session.fit_seconds,
            "pass_seconds": 0.0 if batch is None else batch.seconds.get("pass", 0.0),
            "select_seconds": 0.0 if batch is None else batch.seconds.get("select", 0.0),
            "evaluate_seconds": session.evaluate_seconds,
            "rows": [] if batch is None else [session.pool.ids[row] for row in batch.rows.tolist()],
            "scores": None if batch is None or batch.scores is None else [_finite(x) for x in batch.scores.tolist()],
            "notes": {} if batch is None else {name: _finite(value) for name, value in batch.notes.items()},
            "near_duplicates": 0.0 if batch is None else batch.near_duplicates,
            "class_counts": list(state.per_class),
            **candidates_of(batch),
            **({"declined": declined} if declined else {}),
            **({"training": notes} if notes else {}),
        }


def candidates_of(batch: QueriedBatch | None) -> dict[str, Any]:
    """How many of the unasked rows were candidates and were scored, and the recall where it was measured.

    A round that scored all rows has the candidates that an earlier pass would have given, where it measured them. {}
    without a candidate generator, and where no model read any row and no row was left out.
    """
    if batch is None:
        return {}
    count = batch.measured_candidates or batch.candidates
    left_out = 0 < count < batch.unasked
    if not left_out and not batch.scored:
        return {}
    counts: dict[str, Any] = {"count": count} if left_out else {}
    counts["of"] = batch.unasked
    if batch.scored is not None:
        counts["scored"] = batch.scored
    elif batch.candidates != count:  # a batch of an earlier version, after a pass that replaced its candidates
        counts["scored"] = batch.candidates
    if left_out and batch.candidate_recall is not None:
        counts |= {"recall": batch.candidate_recall, "recall_seconds": batch.seconds.get("recall", 0.0)}
    return {"candidates": counts}


def said_of_candidates(batch: QueriedBatch | None) -> str:
    """The words of the console on the candidates of a batch; empty without any."""
    return "" if batch is None else candidates_text(_candidates_line(batch))


def recall_of(batch: QueriedBatch | None) -> str:
    """The recall of the candidates that a batch was chosen from, in the words of the console; empty without one."""
    return "" if batch is None else recall_text(_candidates_line(batch))


def _candidates_line(batch: QueriedBatch) -> dict[str, Any]:
    """The part of a round's line that the words on its candidates read."""
    return {"rows": batch.rows.tolist(), **candidates_of(batch)}


def _finite(value: float) -> float | None:
    """The number, or None if it is NaN or infinite, which JSON cannot represent."""
    return value if math.isfinite(value) else None
