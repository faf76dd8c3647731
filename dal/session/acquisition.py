"""The choice of a batch: candidates, one pass of a model over them, and the rows that the strategy selects."""

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

_RECHECKED = 4  # times n: the rows of a pass in reduced precision that are scored again exactly
_TARGETS = 1000  # rows that stand for the pool where a strategy reads a target


@dataclass(frozen=True, eq=False)
class Chosen:
    """What a strategy chose among the candidates, and what it saw of them.

    Attributes:
        selection: positions among the candidates, on the CPU.
        pool: the outputs of the candidates.
        seconds: for "pass" and "select".
    """

    selection: Selection
    pool: Outputs
    seconds: Mapping[str, float]


@dataclass(frozen=True, eq=False)
class Reader:
    """What a strategy may see in one round: a model's outputs for the candidates and the labeled rows.

    Attributes:
        predictor: whom to read; None when nothing is read.
        prepared: the pool as the predictor takes it; None when nothing is read.
        labeled: (L,) int64 rows of the pool.
        labels: theirs, (L,) int64 or (L, C) bool.
        seeds: this round's random numbers.
        monitor: watches the pass.
        memory: what strategies keep from round to round; None when nothing is kept.
        watched: names that are read in the same pass for the record, and that no strategy sees.
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
        """The n rows that the strategy wants of the candidates, after one pass over these.

        A pass in reduced precision shifts scores a little: where the strategy scores row by row, the best 4n rows are
        computed again exactly, and the choice is made among those.
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
        """Outputs of the candidates and of the labeled rows, from one pass over both where both are read."""
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
    """Note how long the block took, in seconds, under this name."""
    start = time.perf_counter()
    yield
    seconds[name] = time.perf_counter() - start


class Acquisition:
    """Makes the next batch of questions, and stores nothing. What it remembers changes no choice.

    Args:
        pool: the `dal.data.Rows` to choose from.
        learner: whose models are read.
        progress: where the rows stand.
        model: the one that the present labels make.
        candidates: which rows are scored; None for all.
        seed: decides every random choice, together with the round.
        monitor: watches passes.

    Attributes:
        memory: what strategies keep from round to round.
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
        """What the strategy asks next: n of the rows that were never asked, or those that are left.

        Args:
            strategy: chooses.
            n: how many.
            state: the round, as schedules see it.
            everywhere: score all rows, not only the candidates.

        Raises:
            SessionError: nothing is left to ask, or the strategy reads a trained model and nothing is labeled.
            NeedError: the strategy reads what the learner does not provide.
        """
        available = self._progress.unasked_rows
        if not len(available):
            raise SessionError(f"nothing is left to ask: all {len(self._pool)} rows have a label or were declined")
        n = min(n, len(available))
        acting, seeds = strategy.resolve(state), Seeds(self._seed, state.round)
        check_needs(acting, self._learner, multilabel=self._pool.multilabel)
        return self._chosen(acting, available if everywhere else self._candidates(available, n, seeds), n, seeds)

    def measured(self, asked: QueriedBatch, round: int) -> QueriedBatch:
        """The same batch, and how unsure the present model is of it."""
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
        return QueriedBatch(
            round=seeds.round + 1,
            rows=candidates[positions],
            scores=None if scores is None else scores.detach().double().cpu(),
            notes={name: float(value) for name, value in chosen.selection.notes.items()} | _unread(chosen.pool),
            strategy=name_of(acting),
            candidates=len(candidates),
            near_duplicates=near_duplicates(self._pool.inputs, candidates, positions, chosen.pool, duplicates),
            seconds=chosen.seconds,
            why=chosen.selection.why,
        )

    def _read_by(self, acting: Strategy) -> tuple[Predictor | None, Prepared | None, frozenset[str]]:
        """Whom the strategy reads, and what that one offers: nobody, an untrained model if it will do, the trained."""
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


def _unread(pool: Outputs) -> dict[str, float]:
    """The note on a batch that says which share of a model's answers to the candidates could not be read."""
    return {UNREAD: float(pool[UNREAD].mean())} if UNREAD in pool.names and len(pool) else {}
