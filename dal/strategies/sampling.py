"""Strategies that draw rows by a stated law."""

from dataclasses import dataclass

from dal.functional.checking import Options
from dal.functional.drawing import draw_without_replacement, lightweight_law
from dal.strategy import Query, Selection, Strategy


@dataclass(frozen=True)
class LightweightCoreset(Strategy):
    """Rows drawn without replacement, half of the law uniform and half by squared distance to the mean of the pool.

    `q_i = 1 / 2N + |x_i - mean|^2 / 2 sum_j |x_j - mean|^2`: every row can be drawn, those far out more often. The
    score is N q_i: how many times likelier the row was than by pure chance, at least 1/2. Two passes over the pool,
    whatever n is, and O(N) numbers besides it. Looks at no label, nor at what is labeled.

    Bachem, Lucic and Krause 2018, "Scalable k-Means Clustering via Lightweight Coresets".

    Args:
        space: the name of the outputs whose distances count.
    """

    space: str = "embeddings"
    multilabel = True
    paper = "Bachem et al. 2018"
    advice = "Diversity at the price of Random, for pools of millions. Batches may be redundant; outliers come early."

    def __post_init__(self) -> None:
        Options(self).text("space")

    @property
    def needs(self) -> frozenset[str]:  # type: ignore[override]
        """The chosen space."""
        return frozenset({self.space})

    def select(self, query: Query) -> Selection:
        """n positions in the order of their draw."""
        law = lightweight_law(query.pool[self.space])  # (N,)
        positions = draw_without_replacement(law, query.n, generator=query.generator)
        return Selection(positions, (len(law) * law[positions]).float())
