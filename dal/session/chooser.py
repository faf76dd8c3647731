"""Who makes a session's batches: which rows are candidates, whose outputs are read, and what the strategy wants."""

from dataclasses import replace
from typing import Any

from torch import Tensor

from dal.errors import SessionError
from dal.learner import UNREAD, Learner, Monitor, Predictor, Prepared, watched
from dal.memory import SessionMemory
from dal.outputs import Outputs, listing
from dal.session.acquisition import Asked, Reader, Seeds, Stream, check_needs, reads_trained, timed
from dal.session.current_model import PresentModel
from dal.session.pool_state import Progress
from dal.session.redundancy import near_duplicates
from dal.strategies.candidates import CandidateQuery, Candidates, candidate_rows
from dal.strategy import RoundState, Strategy, all_needs, name_of


class Chooser:
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
        progress: Progress,
        model: PresentModel,
        *,
        candidates: Candidates | None,
        seed: int,
        monitor: Monitor,
    ) -> None:
        self._pool, self._learner, self._progress, self._model = pool, learner, progress, model
        self._generator, self._seed, self._monitor = candidates, seed, monitor
        self.memory = SessionMemory(len(pool), frozenset(learner.label_free))
        self._candidate_memory: dict[Any, Any] = {}

    def choose(self, strategy: Strategy, n: int, state: RoundState, *, everywhere: bool = False) -> Asked:
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

    def measured(self, asked: Asked, round: int) -> Asked:
        """The same batch, and how unsure the present model is of it."""
        from dal.evaluation.batch_quality import mean_doubt

        predictor, seconds = self._model.predictor, dict(asked.seconds)
        with timed(seconds, "measure"):
            seed = Seeds(self._seed, round).number(Stream.EVALUATE)
            pool = self._model.prepare("pool")
            outputs = predictor.outputs(pool, asked.rows, {"logits"}, seed=seed, monitor=self._monitor)
            return replace(asked, uncertainty=mean_doubt(outputs), seconds=seconds)

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

    def _chosen(self, acting: Strategy, candidates: Tensor, n: int, seeds: Seeds) -> Asked:
        predictor, prepared, offered = self._read_by(acting)
        labeled, labels = self._progress.labeled_rows, self._progress.labels
        reader = Reader(predictor, prepared, labeled, labels, seeds, self._monitor, self.memory, watched(offered))
        chosen = reader.choose(acting, candidates, n)
        positions, scores = chosen.selection.positions, chosen.selection.scores
        duplicates = seeds.generator(Stream.DUPLICATES)
        return Asked(
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
