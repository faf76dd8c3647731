"""Batch selection by Fisher information."""

from dataclasses import dataclass

import torch

from dal.functional.checking import MAX_SCALE, MIN_SCALE, Options
from dal.functional.fisher import bait, fisher_factors
from dal.functional.ranking import top
from dal.strategy import Query, Selection, Strategy


@dataclass(frozen=True)
class BAIT(Strategy):
    """Rows whose labels minimise the expected uncertainty of the last layer on the pool (Fisher information trace).

    Minimises `tr(M^-1 F)`, with M the Fisher information of the labeled and the selected rows plus `regularisation`,
    and F the mean Fisher information of the pool. The information of a row is `I = (diag(p) - p p') (x) h h'`;
    multi-label: `diag(p (1 - p)) (x) h h'`. Greedy forward-backward selection: `oversampling` times n rows are added,
    then all but n removed. The score is the decrease of the objective when the row was added; the note `objective` is
    its final value.

    Three approximations bound memory to `candidates * rank * dimensions` numbers: only the `candidates` rows with the
    largest trace of I can be selected, and a random sample of the same size represents the pool; I keeps the `rank`
    most probable classes of a row, rescaled to the full trace; and if C * D exceeds `dimensions`, gradients are
    projected with random signs. Below these limits the computation is exact.

    Ash, Goel, Krishnamurthy and Kakade 2021, "Gone Fishing: Neural Active Learning with Fisher Embeddings".

    Args:
        candidates: maximum number of rows that can be selected (raised to `oversampling` times n), and of rows that
            represent the pool.
        dimensions: dimensions of the projected gradients.
        rank: rank of the information matrix of a row.
        oversampling: rows added per row kept, at least 1; 1 removes none.
        regularisation: prior precision of every weight; the right value depends on the scale of the features.
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
    advice = "Strong at any batch size but expensive: seconds to minutes a batch. Relies on the model's probabilities."

    def __post_init__(self) -> None:
        options = Options(self)
        options.whole("candidates", "dimensions", "rank", least=1, description="at least 1")
        options.number("oversampling", least=1, description="at least 1")
        options.number("regularisation", least=MIN_SCALE, most=MAX_SCALE)

    def select(self, query: Query) -> Selection:
        """Select n positions, in the order in which they were added."""
        pool = fisher_factors(
            query.pool.probs,
            query.pool.features,
            generator=query.generator,
            dimensions=self.dimensions,
            rank=self.rank,
            multilabel=query.pool.multilabel,
        )
        labeled = pool.like(query.labeled.probs, query.labeled.features) if len(query.labeled) else None
        traces = pool.traces()  # (N,)
        count = max(self.candidates, round(self.oversampling * query.n))
        candidates = top(traces, min(count, len(traces)), generator=query.generator)
        target = pool
        if len(query.pool) > self.candidates:
            drawn = torch.randperm(len(query.pool), generator=query.generator)[: self.candidates]
            target = pool[drawn.to(query.pool.device)]
        design = bait(
            pool[candidates],
            query.n,
            target=target,
            labeled=labeled,
            regularisation=self.regularisation,
            oversampling=self.oversampling,
        )
        return Selection(candidates[design.positions], design.gains, {"objective": design.objective})
