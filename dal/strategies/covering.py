"""Coverage maximisation with balls of a fixed radius."""

from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor
from torch.nn import functional as F

from dal.functional.checking import Options
from dal.functional.coverage import max_coverage, pure_radius
from dal.functional.drawing import some_rows
from dal.functional.exchange import rows_of_ranks
from dal.functional.k_center import farthest_others
from dal.functional.partition import partition
from dal.functional.row_source import RowSource
from dal.strategy import Query, Selection, Strategy

#: Number of rows whose balls estimate the radius, each compared with all rows of the pool.
BALLS = 2_000

#: Maximum number of rows that k-means clusters for that estimate.
CLUSTERED = 50_000


@dataclass(frozen=True)
class ProbCover(Strategy):
    """Greedy coverage: repeatedly selects the row whose ball of radius delta covers the most uncovered rows.

    Each step selects `argmax_i |{j not covered: |x_i - x_j| <= delta}|` on the embeddings scaled to unit length; ties
    are broken at random. When delta is not given, it is estimated as published: the largest radius at which a share
    `purity` of the balls holds rows of one k-means cluster only. Once everything is covered, the row farthest from all
    labeled and selected rows comes next. The score is the number of newly covered rows of the pool; the notes are
    `delta`, and `coverage`, the share of the pool that is covered after the selection.

    Approximation for large pools: beyond `targets` rows, a random sample of that size represents the pool; any row can
    still be selected. The radius is estimated from 2,000 balls drawn at random and clusters of 50,000 rows. Extra
    memory: two copies of the embeddings, three of the targets', 8 MiB, and O(N) numbers.

    Yehuda, Dekel, Hacohen and Weinshall 2022, "Active Learning Through a Covering Lens".

    Args:
        delta: radius, between 0 and 2; `None` to estimate it in every round. The estimate of the first round, in its
            notes, is a good fixed value.
        purity: share of the balls that must be pure when delta is estimated.
        clusters: number of k-means clusters that approximate the classes in this estimate; `None` for the number of
            classes: that of the labels when multi-label, else the number of distinct labels, or 10 while there are
            fewer than two.
        targets: maximum number of rows that represent the pool.
        space: output in which distances are computed.
    """

    delta: float | None = None
    purity: float = 0.95
    clusters: int | None = None
    targets: int = 10_000
    space: str = "embeddings"
    multilabel = True
    paper = "Yehuda et al. 2022"
    advice = "Very few labels, embeddings with dense topics. Sensitive to its radius: MaxHerding is the safer choice."

    def __post_init__(self) -> None:
        options = Options(self)
        options.number("delta", least=0, most=2, optional=True)
        options.number("purity", above=0, most=1)
        options.whole("clusters", least=1, optional=True)
        options.whole("targets", least=1).vectors("space")

    @property
    def exact_on_shards(self) -> bool:  # type: ignore[override]
        """Whether the radius is given: its estimate needs all rows on one rank."""
        return self.delta is not None

    @property
    def needs(self) -> frozenset[str]:  # type: ignore[override]
        """The chosen space."""
        return frozenset({self.space})

    @property
    def labeled_needs(self) -> frozenset[str]:  # type: ignore[override]
        """The chosen space."""
        return frozenset({self.space})

    def select(self, query: Query) -> Selection:
        """Select n positions, in greedy order."""
        unit = partial(F.normalize, dim=1)
        # The estimate of the radius needs all rows in memory.
        vectors = query.pool[self.space] if self.delta is None else query.pool.blockwise(self.space)
        x = vectors.mapped(unit) if isinstance(vectors, RowSource) else unit(vectors)  # (N, E)
        delta = self._radius(x[:], query) if self.delta is None else self.delta
        labeled = unit(query.labeled[self.space]) if len(query.labeled) else x[:0]
        sample = some_rows(query.size, self.targets, generator=query.generator).to(x.device)
        if query.shard is not None:
            targets = rows_of_ranks(x, sample, query.shard)
        else:
            targets = x[:] if len(sample) == len(x) else x[sample]
        cover = max_coverage(
            x, query.n, delta, targets=targets, centers=labeled, generator=query.generator, shard=query.shard
        )
        positions, scores = cover.positions, cover.gains * (query.size / len(targets))
        missing = query.n - len(positions)
        if missing:
            others = farthest_others(x, positions, missing, centers=labeled, shard=query.shard)
            positions = torch.cat([positions, others])
        coverage = float(cover.covered.float().mean())
        return Selection(positions, F.pad(scores.to(x.dtype), (0, missing)), {"delta": delta, "coverage": coverage})

    def _radius(self, x: Tensor, query: Query) -> float:
        """Largest radius at which the required share of balls is pure, capped at 2, the diameter of the unit sphere."""
        classes = query.labels.shape[1] if query.labels.dim() == 2 else len(query.labels.unique())
        k = min(len(x), self.clusters or (classes if classes > 1 else 10))
        assignment = partition(x, k, at_most=CLUSTERED, generator=query.generator)
        rows = some_rows(len(x), BALLS, generator=query.generator).to(x.device)
        return min(2.0, pure_radius(x, assignment, purity=self.purity, rows=rows))
