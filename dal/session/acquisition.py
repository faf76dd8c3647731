"""Selection of a batch: draw candidates, run one model pass over them, select rows with the strategy."""

import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from dal.errors import SessionError
from dal.learner import UNREAD, Learner, Monitor, Predictor, Prepared, watched
from dal.outputs import Outputs, listing
from dal.session.checked_arguments import check_needs, reads_trained
from dal.session.current_model import CurrentModel
from dal.session.distance_memory import SessionMemory
from dal.session.pool_state import PoolState
from dal.session.queried_batch import QueriedBatch
from dal.session.redundancy import near_duplicates
from dal.session.seeds import Seeds, Stream
from dal.strategies.candidates import CandidateQuery, Candidates, candidate_rows
from dal.strategy import Query, RoundState, Selection, Strategy, all_needs, choose, name_of

_RECHECKED = 4  # best rows per wanted row to score again exactly after a pass in reduced precision
_TARGETS = 1000  # size of the target sample, which represents the pool


@dataclass(frozen=True, eq=False)
class Chosen:
    """Rows selected among the candidates, and the candidates' outputs.

    Attributes:
        selection: selected positions among the candidates, on the CPU.
        pool: outputs of the candidates.
        seconds: durations of "pass" and "select".
    """

    selection: Selection
    pool: Outputs
    seconds: Mapping[str, float]


@dataclass(frozen=True, eq=False)
class Reader:
    """Provides a strategy with the model outputs of one round, for the candidates and the labeled rows.

    Attributes:
        predictor: model to read; None when the strategy reads no outputs.
        prepared: pool prepared for the predictor; None when the strategy reads no outputs.
        labeled: (L,) int64 labeled rows of the pool.
        labels: their labels, (L,) int64 or (L, C) bool.
        seeds: random seeds of this round.
        monitor: receives the progress of the pass.
        memory: strategy state kept between rounds; None to keep nothing.
        watched: output names read in the same pass for the records only.
    """

    predictor: Predictor | None
    prepared: Prepared | None
    labeled: Tensor
    labels: Tensor
    seeds: Seeds
    monitor: Monitor
    memory: SessionMemory | None = None
    watched: frozenset[str] = frozenset()

    @property
    def multilabel(self) -> bool:
        """Whether a row may have several classes."""
        return self.labels.dim() == 2

    def choose(self, acting: Strategy, candidates: Tensor, n: int) -> Chosen:
        """Select n of the candidates after one pass over them.

        A pass in reduced precision perturbs the scores slightly. If the strategy scores each row independently, the
        best 4n rows are computed again in full precision and the selection is made among these.
        """
        seconds: dict[str, float] = {}
        reduced = self.predictor is not None and self.predictor.approximate and acting.rowwise
        few = _RECHECKED * n >= len(candidates)
        with timed(seconds, "pass"):
            pool, labeled = self._outputs(acting, candidates, exact=reduced and few)
        with timed(seconds, "select"):
            if reduced and not few:
                selection = self._recheck(acting, candidates, pool, labeled, n)
            else:
                query = self._query(acting, pool, labeled, n)
                if self.memory is not None:
                    query = replace(query, memory=self.memory.of(candidates, self.labeled, pool, labeled))
                selection = choose(acting, query)
            selection = replace(selection, positions=selection.positions.cpu())
        return Chosen(selection, pool, seconds)

    def _outputs(self, acting: Strategy, candidates: Tensor, exact: bool) -> tuple[Outputs, Outputs]:
        """Outputs of the candidates and of the labeled rows, from a single pass over both where both are needed."""
        unread = Outputs(length=len(self.labeled), multilabel=self.multilabel)
        if self.predictor is None:
            return Outputs(length=len(candidates), multilabel=self.multilabel), unread
        if not acting.labeled_needs:
            return self._pass(candidates, all_needs(acting) | self.watched, exact), unread
        outputs = self._pass(torch.cat([candidates, self.labeled]), all_needs(acting) | self.watched, exact)
        return outputs.take(slice(len(candidates))), outputs.take(slice(len(candidates), None))

    def _pass(self, rows: Tensor, names: Iterable[str], exact: bool) -> Outputs:
        assert self.predictor is not None
        assert self.prepared is not None
        seed = self.seeds.number(Stream.PASS)
        return self.predictor.outputs(self.prepared, rows, names, seed=seed, exact=exact, monitor=self.monitor)

    def _query(self, acting: Strategy, pool: Outputs, labeled: Outputs, n: int) -> Query:
        target = Outputs(length=0, multilabel=self.multilabel)
        if acting.target_needs:
            target = pool.take(self.seeds.sample(len(pool), _TARGETS, Stream.TARGET))
        labels = self.labels.to(pool.device)
        return Query(pool, n, self.seeds.generator(Stream.SELECT), labeled, target, labels)

    def _recheck(self, acting: Strategy, candidates: Tensor, pool: Outputs, labeled: Outputs, n: int) -> Selection:
        best = choose(acting, self._query(acting, pool, labeled, _RECHECKED * n)).positions.cpu().sort().values
        exact = self._pass(candidates[best], all_needs(acting), exact=True).to(pool.device)
        chosen = choose(acting, self._query(acting, exact, labeled, n))
        return replace(chosen, positions=best[chosen.positions.cpu()])


@contextmanager
def timed(seconds: dict[str, float], name: str) -> Iterator[None]:
    """Record the duration of the block in seconds under `name`."""
    start = time.perf_counter()
    yield
    seconds[name] = time.perf_counter() - start


class Acquisition:
    """Selects the next batch without storing it. Its caches affect speed, never the selection.

    Args:
        pool: the `dal.data.Rows` to select from.
        learner: learner that provides the models.
        progress: state of the pool's rows.
        model: model of the current labels.
        candidates: generator of the rows to score; None for all.
        seed: together with the round it determines every random choice.
        monitor: receives the progress of passes.

    Attributes:
        memory: strategy state kept between rounds.
    """

    def __init__(
        self,
        pool: Any,
        learner: Learner,
        progress: PoolState,
        model: CurrentModel,
        *,
        candidates: Candidates | None,
        seed: int,
        monitor: Monitor,
    ) -> None:
        self._pool, self._learner, self._progress, self._model = pool, learner, progress, model
        self._generator, self._seed, self._monitor = candidates, seed, monitor
        self.memory = SessionMemory(len(pool), frozenset(learner.label_free))
        self._candidate_memory: dict[Any, Any] = {}

    def choose(self, strategy: Strategy, n: int, state: RoundState, *, everywhere: bool = False) -> QueriedBatch:
        """Select up to n unasked rows with the strategy.

        Args:
            strategy: query strategy.
            n: batch size.
            state: state of the round, as schedules see it.
            everywhere: score all unasked rows instead of the candidates.

        Raises:
            SessionError: no row is left to query, or the strategy needs a trained model and nothing is labeled.
            NeedError: the strategy reads outputs that the learner does not provide.
        """
        available = self._progress.unasked_rows
        if not len(available):
            raise SessionError(f"nothing is left to ask: all {len(self._pool)} rows have a label or were declined")
        n = min(n, len(available))
        acting, seeds = strategy.resolve(state), Seeds(self._seed, state.round)
        check_needs(acting, self._learner, multilabel=self._pool.multilabel)
        return self._chosen(acting, available if everywhere else self._candidates(available, n, seeds), n, seeds)

    def measured(self, asked: QueriedBatch, round: int) -> QueriedBatch:
        """The same batch with the current model's mean uncertainty on it."""
        from dal.evaluation.batch_quality import mean_uncertainty

        predictor, seconds = self._model.predictor, dict(asked.seconds)
        with timed(seconds, "measure"):
            seed = Seeds(self._seed, round).number(Stream.EVALUATE)
            pool = self._model.prepare("pool")
            outputs = predictor.outputs(pool, asked.rows, {"logits"}, seed=seed, monitor=self._monitor)
            return replace(asked, uncertainty=mean_uncertainty(outputs), seconds=seconds)

    def _candidates(self, available: Tensor, n: int, seeds: Seeds) -> Tensor:
        if self._generator is None:
            return available
        names, seed = frozenset(self._generator.needs), seeds.number(Stream.PASS)

        def read(rows: Tensor) -> Outputs:
            pool = self._model.prepare("pool")
            outputs = self._learner.untrained(pool).outputs(pool, rows, names, seed=seed, monitor=self._monitor)
            return outputs.declare(names)

        return candidate_rows(
            self._generator,
            CandidateQuery(
                unasked=available,
                labeled=self._progress.labeled_rows,
                labels=self._progress.labels,
                n=n,
                generator=seeds.generator(Stream.CANDIDATES),
                size=len(self._pool),
                read=read,
                memory=self._candidate_memory,
            ),
        )

    def _chosen(self, acting: Strategy, candidates: Tensor, n: int, seeds: Seeds) -> QueriedBatch:
        predictor, prepared, offered = self._read_by(acting)
        labeled, labels = self._progress.labeled_rows, self._progress.labels
        reader = Reader(predictor, prepared, labeled, labels, seeds, self._monitor, self.memory, watched(offered))
        chosen = reader.choose(acting, candidates, n)
        positions, scores = chosen.selection.positions, chosen.selection.scores
        duplicates = seeds.generator(Stream.DUPLICATES)
        notes = {name: float(value) for name, value in chosen.selection.notes.items()}
        if UNREAD in chosen.pool.names and len(chosen.pool):
            notes[UNREAD] = float(chosen.pool[UNREAD].mean())  # share of unreadable model responses
        return QueriedBatch(
            round=seeds.round + 1,
            rows=candidates[positions],
            scores=None if scores is None else scores.detach().double().cpu(),
            notes=notes,
            strategy=name_of(acting),
            candidates=len(candidates),
            near_duplicates=near_duplicates(self._pool.inputs, candidates, positions, chosen.pool, duplicates),
            seconds=chosen.seconds,
            why=chosen.selection.why,
        )

    def _read_by(self, acting: Strategy) -> tuple[Predictor | None, Prepared | None, frozenset[str]]:
        """The model that the strategy reads, its prepared pool and its output names.

        None if the strategy reads nothing, the untrained model if that provides everything, else the trained model.
        """
        if not all_needs(acting):
            return None, None, frozenset()
        if not reads_trained(acting, self._learner):
            pool = self._model.prepare("pool")
            return self._learner.untrained(pool), pool, self._learner.label_free
        if not self._progress.trains:
            name = name_of(acting)
            raise SessionError(
                f"{name} reads {listing(all_needs(acting))} of a trained model, and nothing is labeled yet: start with "
                f"Phases(first=ClusterCenters(), then={name}(), until=20), or label some rows first"
            )
        return self._model.predictor, self._model.prepare("pool"), self._learner.provides
