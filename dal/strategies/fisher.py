"""Strategies that choose rows for the Fisher information of their labels."""

from dataclasses import dataclass

import torch
from torch import Tensor

from dal.functional.checking import LEAST_SCALE, MOST_SCALE, Options
from dal.functional.fisher import bait, fisher_factors
from dal.functional.ranking import top
from dal.strategy import Query, Selection, Strategy


@dataclass(frozen=True)
class BAIT(Strategy):
    """Rows whose labels would leave the least doubt about the last layer, weighed by what the pool needs.

    Minimises `tr(M^-1 F)`, with M the Fisher information of the labeled and the chosen rows plus `regularisation`, and
    F the mean of the pool's. A row's information is `I = (diag(p) - p p') (x) h h'`; multi-label:
    `diag(p (1 - p)) (x) h h'`. Greedily `oversampling` times n rows are added, then all but n removed. Each score is by
    how much the row lowered the objective when it was added; the note `objective` is what is left.

    Three stated approximations keep it within `candidates * rank * dimensions` numbers: only the `candidates` rows with
    the largest trace of I can be chosen, and as many drawn at random stand for the pool; a row's I keeps its `rank`
    most probable classes, with the trace of all; and where C * D is more than `dimensions`, gradients are projected by
    random signs. With no more than each it is exact.

    Ash, Goel, Krishnamurthy and Kakade 2021, "Gone Fishing: Neural Active Learning with Fisher Embeddings".

    Args:
        candidates: rows that can be chosen (at least `oversampling` times n), and rows that stand for the pool.
        dimensions: of the projected gradients.
        rank: of a row's information.
        oversampling: how many rows are added for each that is kept; 1 removes none.
        regularisation: what is known about every weight without any label; features of another scale need another.
    """

    candidates: int = 2_500
    dimensions: int = 512
    rank: int = 5
    oversampling: float = 2.0
    regularisation: float = 1.0
    needs = frozenset({"probs", "features"})
    labeled_needs = frozenset({"probs", "features"})
    multilabel = True
    paper = "Ash et al. 2021"
    advice = "Strong in any batch size, and the dearest: seconds to minutes a batch. Trusts the model's probabilities."

    def __post_init__(self) -> None:
        options = Options(self)
        options.whole("candidates", "dimensions", "rank", least=1, said="at least 1")
        options.number("oversampling", least=1, said="at least 1")
        options.number("regularisation", least=LEAST_SCALE, most=MOST_SCALE)

    def select(self, query: Query) -> Selection:
        """n positions in the order in which they were added."""
        pool = fisher_factors(
            query.pool.probs,
            query.pool.features,
            generator=query.generator,
            dimensions=self.dimensions,
            rank=self.rank,
            multilabel=query.pool.multilabel,
        )
        labeled = pool.like(query.labeled.probs, query.labeled.features) if len(query.labeled) else None
        open_to_choice = self._candidates(pool.traces(), query)
        design = bait(
            pool[open_to_choice],
            query.n,
            target=pool[self._target(query)],
            labeled=labeled,
            regularisation=self.regularisation,
            oversampling=self.oversampling,
        )
        return Selection(open_to_choice[design.positions], design.gains, {"objective": design.objective})

    def _candidates(self, traces: Tensor, query: Query) -> Tensor:
        """Positions of the rows that can be chosen: those whose labels tell most about any weight at all."""
        count = max(self.candidates, round(self.oversampling * query.n))
        return top(traces, min(count, len(traces)), generator=query.generator)

    def _target(self, query: Query) -> Tensor | slice:
        """Positions of the rows that stand for the pool."""
        if len(query.pool) <= self.candidates:
            return slice(None)
        return torch.randperm(len(query.pool), generator=query.generator)[: self.candidates].to(query.pool.device)
