"""The line of `metrics.jsonl` for each round of a run: scores, what was measured, what the stopping rule says."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from dal.experiments.round_measures import Measures, whole
from dal.learner import Learner
from dal.session import Session
from dal.session.queried_batch import QueriedBatch
from dal.stopping.rule import History, StoppingRule
from dal.strategy import name_of


@dataclass(frozen=True, eq=False)
class RoundLines:
    """The lines of one session's rounds.

    Args:
        session: whose.
        measures: what is recorded besides the scores.
        successor: another learner that is trained on the same labels.
        stop: judges each round.
        texts: whether the texts of each batch are kept.
    """

    session: Session
    measures: Measures
    successor: Learner | None = None
    stop: StoppingRule | None = None
    texts: bool = False

    def line(self, batch: QueriedBatch | None, round: int) -> dict[str, Any]:
        """What a round's line says that is the same for every cell that has the same labels and chose the same batch.

        Args:
            batch: what was chosen in this round, and is answered; None when nothing was.
            round: its number, 0 for the start.
        """
        line = self._scores(batch, round) | self.measures.of_round(batch)
        if self.successor is None or not self.session.can_evaluate:
            return line
        from dal.experiments.successor import succeeded

        return line | succeeded(self.session, self.successor)

    def completed(self, line: Mapping[str, Any], batch: QueriedBatch | None) -> dict[str, Any]:
        """The line with what is this session's own: its strategy, the texts, and whether to stop here."""
        line = {**line, "strategy": name_of(self.session.strategy)} | self._wordings(line, batch)
        return line | self._judged(line)

    def _wordings(self, line: Mapping[str, Any], batch: QueriedBatch | None) -> dict[str, Any]:
        """The texts of a round's batch, for the report, where they are wanted.

        Those of their nearest labeled rows are in the lines that chose them; the texts of rows whose label came with
        the data are added, by id.
        """
        if not self.texts or batch is None:
            return {}
        session = self.session
        pool, store = session.pool, session.store
        given = [row for row in dict.fromkeys(line.get("nearest", ())) if row is not None and not store.was_asked(row)]
        near = dict(zip(given, pool.texts(pool.rows_of(given)), strict=True)) if given else {}
        return {"texts": pool.texts(batch.rows)} | ({"nearest_texts": near} if near else {})

    def _judged(self, line: Mapping[str, Any]) -> dict[str, Any]:
        """What the stopping rule reads of the round, and what it says: stored with the round, so that it stands."""
        if self.stop is None:
            return {}
        read = self.session.observe(self.stop)
        verdict = self.stop.judge(History((*self.session.metrics, {**line, **read})))
        notes = {name: _finite(value) for name, value in verdict.notes.items()}
        return read | {"stopping": {"stop": verdict.stop, "text": verdict.text, "notes": notes}}

    def _scores(self, batch: QueriedBatch | None, round: int) -> dict[str, Any]:
        session, state = self.session, self.session.state
        predictor = session.predictor  # fitted before anything else, so that its time is its own
        figures = whole(session.evaluate()) if session.can_evaluate else {}
        del predictor
        return {
            "round": round,
            "labels": state.labels,
            "strategy": name_of(session.strategy),
            "acting": None if batch is None else batch.strategy,
            "why": "" if batch is None else batch.why,
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
        }


def _finite(value: float) -> float | None:
    """The number, None where JSON has no word for it."""
    return value if math.isfinite(value) else None
