"""Candidates of a round, and the passes over the whole pool that some generators keep for later rounds."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from dal.learner import Learner, Monitor
from dal.outputs import Outputs
from dal.session.current_model import CurrentModel
from dal.session.last_pass import LastPass, MeasuredCandidates, keep_pass, load_pass
from dal.session.seeds import Seeds, Stream
from dal.strategies.candidates import CandidateQuery, Candidates, candidate_rows


@dataclass(frozen=True, eq=False)
class RowsToScore:
    """The rows that a round scores.

    Attributes:
        rows: (K,) int64 rows.
        keeps: names of the outputs that are kept of this pass; empty where none is.
        replaced: (R,) int64 candidates that the round would have had from the pass that is kept so far; None where
            the round scores its candidates, or no pass is kept.
        generated: whether a candidate generator decided on the rows, also if it took all.
    """

    rows: Tensor
    keeps: frozenset[str] = frozenset()
    replaced: Tensor | None = None
    generated: bool = True


class RoundCandidates:
    """Draws the candidates of each round.

    Args:
        pool: the `dal.data.Rows` to draw from.
        learner: learner whose untrained model the generator reads.
        model: model of the current labels.
        generator: generator of the candidates; None for all rows.
        folder: run folder, for the pass that a generator keeps; None keeps it in memory.
        monitor: receives the progress of passes.
    """

    def __init__(
        self,
        pool: Any,
        learner: Learner,
        model: CurrentModel,
        generator: Candidates | None,
        folder: Path | None,
        monitor: Monitor,
    ) -> None:
        self._pool, self._learner, self._model, self._monitor = pool, learner, model, monitor
        self._generator, self._folder = generator, folder
        self._memory: dict[Any, Any] = {}
        self._last: LastPass | None = None

    def continue_from(self, earlier: "RoundCandidates") -> None:
        """Take over what was kept in earlier rounds of a session with the same pool."""
        self._memory, self._last = earlier._memory, earlier._last

    def draw(
        self, unlabeled: Tensor, labeled: Tensor, labels: Tensor, n: int, seeds: Seeds, *, trained: bool
    ) -> RowsToScore:
        """Draw the rows to score in a round.

        Args:
            unlabeled: (M,) int64, rows that can be drawn, ascending.
            labeled: (L,) int64 labeled rows, ascending.
            labels: their labels, (L,) int64 or (L, C) bool.
            n: batch size.
            seeds: random seeds of the round.
            trained: whether the strategy reads a trained model.
        """
        if self._generator is None:
            return RowsToScore(unlabeled, generated=False)
        if not self._generator.keeps:
            return RowsToScore(self._candidates(unlabeled, labeled, labels, n, seeds, None))
        if not trained:
            return RowsToScore(unlabeled, generated=False)  # the pass of a trained model is what such a generator saves
        last = self._kept()
        if last is None or last.round >= seeds.round:  # of this round: it was stopped before its batch was stored
            return RowsToScore(unlabeled, frozenset(self._generator.keeps))
        candidates = self._candidates(unlabeled, labeled, labels, n, seeds, last)
        if seeds.round - last.round < last.distance:
            return RowsToScore(candidates)
        return RowsToScore(unlabeled, frozenset(self._generator.keeps), candidates)

    def keep(
        self, scored: RowsToScore, batch: Tensor, passes: Sequence[tuple[Tensor, Outputs]], round: int
    ) -> MeasuredCandidates | None:
        """Keep a pass over the whole pool for later rounds, and measure the candidates that it replaces.

        Args:
            scored: rows of the round.
            batch: (n,) rows that were selected from them.
            passes: rows (m,) and their outputs; each row of the pool is in one of them.
            round: number of the round.

        Returns:
            The recall of the candidates that the round would have had; None if no pass was kept before.

        Raises:
            NeedError: an output has no vector per row.
            LearnerError: an output is not finite.
            SessionError: the folder cannot be written.
        """
        generator, last, model = self._generator, self._last, self._model.marker
        assert generator is not None
        measured, distance = None, 1
        if last is not None and scored.replaced is not None:
            measured = MeasuredCandidates.of(batch, scored.replaced)
            step = 1 if measured.recall >= generator.min_recall else -1
            distance = min(max(last.distance + step, 1), generator.every)
        elif last is not None:  # of the same round: it was stopped, or its batch was not stored
            measured, distance = last.measured if last.model == model else None, last.distance
        self._last = last = None  # closes its files, which are replaced
        self._last = keep_pass(
            self._folder, passes, scored.keeps, pool=self._pool, run=self._model.run_marker, round=round,
            distance=distance, model=model, measured=measured,
        )  # fmt: skip
        return measured

    def _kept(self) -> LastPass | None:
        """The pass that is kept, from the folder in the first round of a resumed session."""
        if self._last is None and self._folder is not None and self._generator is not None:
            names, run = self._generator.keeps, self._model.run_marker
            self._last = load_pass(self._folder, names, rows=len(self._pool), run=run)
        return self._last

    def _candidates(
        self, unlabeled: Tensor, labeled: Tensor, labels: Tensor, n: int, seeds: Seeds, last: LastPass | None
    ) -> Tensor:
        generator = self._generator
        assert generator is not None
        names, owner, seed = frozenset(generator.needs), type(generator).__name__, seeds.number(Stream.PASS)

        def read(rows: Tensor) -> Outputs:
            pool = self._model.prepare("pool")
            outputs = self._learner.untrained(pool).outputs(pool, rows, names, seed=seed, monitor=self._monitor)
            return outputs.declare(names, f"{owner}.needs")

        def read_kept(rows: Tensor) -> Outputs:
            assert last is not None
            return last.read(rows).declare(generator.keeps, f"{owner}.keeps")

        return candidate_rows(
            generator,
            CandidateQuery(
                unlabeled=unlabeled,
                labeled=labeled,
                labels=labels,
                n=n,
                generator=seeds.generator(Stream.CANDIDATES),
                size=len(self._pool),
                read=read,
                memory=self._memory,
                read_kept=None if last is None else read_kept,
            ),
        )
