"""Strategies that sample rows from an explicit distribution."""

from dataclasses import dataclass

from dal.functional.checking import Options
from dal.functional.drawing import draw_without_replacement, lightweight_coreset_distribution
from dal.strategy import Query, Selection, Strategy


@dataclass(frozen=True)
class LightweightCoreset(Strategy):
    """Rows drawn without replacement from a mixture of the uniform and the squared-distance-to-mean distribution.

    `q_i = 1 / 2N + |x_i - mean|^2 / 2 sum_j |x_j - mean|^2`: every row can be drawn, outlying rows more often. The
    score is N q_i, the probability relative to uniform sampling, at least 1/2. The cost is two passes over the pool for
    any n, and O(N) extra memory. Labels and labeled rows are ignored.

    Bachem, Lucic and Krause 2018, "Scalable k-Means Clustering via Lightweight Coresets".

    Args:
        space: output in which distances are computed.
    """

    space: str = "embeddings"
    multilabel = True
    paper = "Bachem et al. 2018"
    advice = "Diversity at the cost of Random, for pools of millions. Batches may be redundant; outliers come early."

    def __post_init__(self) -> None:
        Options(self).text("space")

    @property
    def needs(self) -> frozenset[str]:  # type: ignore[override]
        """The chosen space."""
        return frozenset({self.space})

    def select(self, query: Query) -> Selection:
        """Select n positions, in the order in which they were drawn."""
        probabilities = lightweight_coreset_distribution(query.pool[self.space])  # (N,)
        positions = draw_without_replacement(probabilities, query.n, generator=query.generator)
        return Selection(positions, (len(probabilities) * probabilities[positions]).float())
