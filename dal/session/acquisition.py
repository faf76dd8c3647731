"""Selection of a batch: draw candidates, run one model pass over them, select rows with the strategy."""

import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from dal.errors import SessionError
from dal.learner import SILENT, UNPARSED_SHARE, Learner, Monitor, Predictor, Prepared, recorded_outputs
from dal.learners.rank_outputs import keeping_wide_outputs
from dal.learners.shared_choice import choose_where_outputs_lie
from dal.outputs import Outputs, listing
from dal.session.checked_arguments import check_needs, reads_trained
from dal.session.current_model import CurrentModel
from dal.session.distance_memory import SessionMemory
from dal.session.last_pass import MeasuredCandidates
from dal.session.near_duplicates import near_duplicates
from dal.session.pool_state import PoolState
from dal.session.queried_batch import QueriedBatch
from dal.session.round_candidates import RoundCandidates, RowsToScore
from dal.session.seeds import Seeds, Stream
from dal.strategies.candidates import Candidates
from dal.strategy import Query, RoundState, Selection, Strategy, all_needs, choose, name_of

_RESCORED = 4  # rows per wanted row to score again exactly after a pass in reduced precision
_TARGETS = 1000  # size of the target sample, which represents the pool


class Acquisition:
    """Selects the next batch without storing it. Its caches affect speed, never the selection.

    Args:
        pool: the `dal.data.Rows` to select from.
        learner: learner that provides the models.
        model: model of the current labels.
        candidates: generator of the rows to score; None for all.
        recall_every: in rounds 1, 1 + k, 1 + 2k and so on, the batch is also selected among all unasked rows, to
            measure the recall of the candidates; 0 for never.
        seed: together with the round it determines every random choice.
        monitor: receives the progress of passes.
        folder: run folder, for the pass that a generator keeps; None keeps it in memory.

    Attributes:
        memory: strategy state kept between rounds.
    """

    def __init__(
        self,
        pool: Any,
        learner: Learner,
        model: CurrentModel,
        *,
        candidates: Candidates | None,
        seed: int,
        monitor: Monitor,
        recall_every: int = 0,
        folder: Path | None = None,
    ) -> None:
        self._pool, self._learner, self._model = pool, learner, model
        self._seed, self._monitor, self._recall_every = seed, monitor, recall_every
        self.memory = SessionMemory(len(pool), frozenset(learner.label_free))
        self._candidates = RoundCandidates(pool, learner, model, candidates, folder, monitor)

    def choose(
        self, strategy: Strategy, n: int, pool_state: PoolState, round_state: RoundState, *, everywhere: bool = False
    ) -> QueriedBatch:
        """Select up to n unasked rows with the strategy.

        Args:
            strategy: query strategy.
            n: batch size.
            pool_state: state of the pool's rows.
            round_state: state of the round, as schedules see it.
            everywhere: score all unasked rows instead of the candidates.

        Raises:
            SessionError: no row is left to query, or the strategy needs a trained model and nothing is labeled.
            NeedError: the strategy reads outputs that the learner does not provide.
        """
        unlabeled = pool_state.unasked_rows
        if not len(unlabeled):
            raise SessionError(f"nothing is left to ask: all {len(self._pool)} rows have a label or were declined")
        n = min(n, len(unlabeled))
        acting, seeds = strategy.resolve(round_state), Seeds(self._seed, round_state.round)
        check_needs(acting, self._learner, multilabel=self._pool.multilabel)
        labeled, labels = pool_state.labeled_set
        scored = RowsToScore(unlabeled, generated=False)
        if not everywhere:
            trained = reads_trained(acting, self._learner)
            scored = self._candidates.draw(unlabeled, labeled, labels, n, seeds, trained=trained)
        predictor, prepared, provided = self._model_for(acting, pool_state)
        select = partial(
            select_rows,
            acting,
            n=n,
            predictor=predictor,
            prepared=prepared,
            labeled=labeled,
            labels=labels,
            seeds=seeds,
            state=round_state,
            monitor=self._monitor,
        )
        recorded = recorded_outputs(provided) | scored.keeps
        selection, pool, seconds = select(scored.rows, memory=self.memory, recorded=recorded)
        rows, scores = scored.rows[selection.positions], selection.scores
        measured, k = None, self._recall_every
        if scored.keeps:
            with timed(seconds, "keep"):
                passes = [(unlabeled, pool), self._pass_over_asked(unlabeled, scored.keeps, seeds)]
                measured = self._candidates.keep(scored, rows, passes, seeds.round)
        elif k and seeds.round % k == 1 % k and predictor is not None and len(scored.rows) < len(unlabeled):
            with timed(seconds, "recall"):
                whole, _, _ = select(unlabeled)
                measured = MeasuredCandidates.of(unlabeled[whole.positions], scored.rows)
        duplicates = seeds.generator(Stream.DUPLICATES)
        notes = {name: float(value) for name, value in selection.notes.items()}
        if UNPARSED_SHARE in pool.names and len(pool):
            notes[UNPARSED_SHARE] = float(pool[UNPARSED_SHARE].mean())
        return QueriedBatch(
            round=seeds.round + 1,
            rows=rows,
            scores=None if scores is None else scores.detach().double().cpu(),
            notes=notes,
            strategy=name_of(acting),
            candidates=len(scored.rows),
            near_duplicates=near_duplicates(self._pool.inputs, scored.rows, selection.positions, pool, duplicates),
            seconds=seconds,
            reason=selection.reason,
            configured="" if name_of(acting) in name_of(strategy) else name_of(strategy),
            unasked=len(unlabeled),
            candidate_recall=None if measured is None else measured.recall,
            measured_candidates=0 if measured is None else measured.count,
            scored=(0 if predictor is None else len(scored.rows)) if scored.generated else None,
        )

    def continue_from(self, earlier: "Acquisition") -> None:
        """Take over the distances and the candidates' state of a selection from the same pool."""
        self.memory = earlier.memory
        self._candidates.continue_from(earlier._candidates)

    def measured(self, batch: QueriedBatch, round: int) -> QueriedBatch:
        """The same batch with the current model's mean uncertainty on it."""
        from dal.evaluation.batch_quality import mean_uncertainty

        predictor, seconds = self._model.predictor.around_thresholds(), dict(batch.seconds)
        with timed(seconds, "measure"):
            seed = Seeds(self._seed, round).number(Stream.EVALUATE)
            pool = self._model.prepare("pool")
            outputs = predictor.outputs(pool, batch.rows, {"logits"}, seed=seed, monitor=self._monitor)
            return replace(batch, uncertainty=mean_uncertainty(outputs), seconds=seconds)

    def _pass_over_asked(self, unlabeled: Tensor, names: frozenset[str], seeds: Seeds) -> tuple[Tensor, Outputs]:
        """The other rows of the pool, and their outputs: later rounds read those of labeled rows as well."""
        asked = torch.ones(len(self._pool), dtype=torch.bool)
        asked[unlabeled] = False
        rows, prepared = asked.nonzero().flatten(), self._model.prepare("pool")
        predictor, seed = self._model.predictor.around_thresholds(), seeds.number(Stream.PASS)
        return rows, predictor.outputs(prepared, rows, names, seed=seed, monitor=self._monitor)

    def _model_for(
        self, acting: Strategy, pool_state: PoolState
    ) -> tuple[Predictor | None, Prepared | None, frozenset[str]]:
        """The model that the strategy reads, its prepared pool and its output names.

        None if the strategy reads nothing, the untrained model if that provides everything, else the trained model.
        """
        if not all_needs(acting):
            return None, None, frozenset()
        if not reads_trained(acting, self._learner):
            pool = self._model.prepare("pool")
            return self._learner.untrained(pool), pool, self._learner.label_free
        if not pool_state.trains:
            name = name_of(acting)
            raise SessionError(
                f"{name} reads {listing(all_needs(acting))} of a trained model, and nothing is labeled yet: start with "
                f"Phases(first=ClusterCenters(), then={name}(), until=20), or label some rows first"
            )
        return self._model.predictor, self._model.prepare("pool"), self._learner.provides


def select_rows(
    acting: Strategy,
    candidates: Tensor,
    n: int,
    *,
    predictor: Predictor | None,
    prepared: Prepared | None,
    labeled: Tensor,
    labels: Tensor,
    seeds: Seeds,
    state: RoundState | None = None,
    memory: SessionMemory | None = None,
    recorded: frozenset[str] = frozenset(),
    monitor: Monitor = SILENT,
) -> tuple[Selection, Outputs, dict[str, float]]:
    """Select n of the candidates after one model pass over them.

    Args:
        acting: strategy that acts in this round.
        candidates: (N,) int64 rows of the pool to select from.
        n: number of rows to select, 1 <= n <= N.
        predictor: model to read; None when the strategy reads no outputs.
        prepared: pool prepared for the predictor; None when the strategy reads no outputs.
        labeled: (L,) int64 labeled rows of the pool.
        labels: their labels, (L,) int64 or (L, C) bool.
        seeds: random seeds of this round.
        state: state of the round.
        memory: strategy state kept between rounds; None to keep nothing.
        recorded: names of outputs to compute in the same pass for the records only.
        monitor: receives the progress of the pass.

    Returns:
        The selection, with positions among the candidates on the CPU; the outputs of the candidates; and the durations
        of "pass" and "select" in seconds.
    """
    multilabel = labels.dim() == 2
    seconds: dict[str, float] = {}
    predictor = None if predictor is None else predictor.around_thresholds()

    def outputs_of(rows: Tensor, names: Iterable[str], *, exact: bool) -> Outputs:
        assert predictor is not None
        assert prepared is not None
        seed = seeds.number(Stream.PASS)
        with keeping_wide_outputs(acting.exact_on_shards and not rescore):
            return predictor.outputs(prepared, rows, names, seed=seed, exact=exact, monitor=monitor)

    def query(pool: Outputs, n: int) -> Query:
        target = Outputs(length=0, multilabel=multilabel)
        if acting.target_needs:
            target = pool.take(seeds.sample(len(pool), _TARGETS, Stream.TARGET))
        generator = seeds.generator(Stream.SELECT)
        return Query(pool, n, generator, at_labeled, target, labels.to(pool.device), state=state or RoundState())

    # A pass in reduced precision perturbs the scores slightly and could swap rows at the edge of the batch. Where the
    # score of a row depends on that row alone, the best 4n rows are therefore scored again exactly: a small pass,
    # where an exact pass over all candidates would double the cost. For 4n candidates or fewer, one exact pass is all.
    reduced = predictor is not None and predictor.approximate and acting.rowwise
    rescore = reduced and _RESCORED * n < len(candidates)

    with timed(seconds, "pass"):
        at_labeled = Outputs(length=len(labeled), multilabel=multilabel)
        if predictor is None:
            pool = Outputs(length=len(candidates), multilabel=multilabel)
        else:
            rows = torch.cat([candidates, labeled]) if acting.labeled_needs else candidates
            outputs = outputs_of(rows, all_needs(acting) | recorded, exact=reduced and not rescore)
            pool = outputs
            if acting.labeled_needs:  # one pass for both: joint samples must be the same functions for all rows
                pool, at_labeled = outputs.take(slice(len(candidates))), outputs.take(slice(len(candidates), None))

    with timed(seconds, "select"):
        if rescore:
            # By position: in the order of the inexact scores, these would decide ties of the exact ones.
            best = choose(acting, query(pool, _RESCORED * n)).positions.cpu().sort().values
            exact = outputs_of(candidates[best], all_needs(acting), exact=True).to(pool.device)
            selection = choose(acting, query(exact, n))
            positions = best[selection.positions.cpu()]
        else:
            asked = query(pool, n)
            if memory is not None:
                asked = replace(asked, memory=memory.of(candidates, labeled, pool, at_labeled))
            selection = choose_where_outputs_lie(acting, asked)
            positions = selection.positions.cpu()
    return replace(selection, positions=positions), pool, seconds


@contextmanager
def timed(seconds: dict[str, float], name: str) -> Iterator[None]:
    """Record the duration of the block in seconds under `name`."""
    start = time.perf_counter()
    yield
    seconds[name] = time.perf_counter() - start
