"""Strategies that cover the pool with balls of one radius."""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from dal.functional.checking import Options
from dal.functional.coverage import max_coverage, pure_radius
from dal.functional.drawing import some_rows
from dal.functional.k_center import farthest_others
from dal.functional.partition import partition
from dal.strategy import Query, Selection, Strategy

#: The radius is estimated from the balls around so many rows, each among all rows of the pool; the clusters it needs
#: are those of so many.
BALLS = 2_000
CLUSTERED = 50_000


@dataclass(frozen=True)
class ProbCover(Strategy):
    """The row within whose radius the most rows lie that no labeled or chosen row covers yet, again and again.

    `argmax_i |{j not covered: |x_i - x_j| <= delta}|` on the embeddings at unit length, equal ones by chance. Without
    a given delta it is estimated as published: the largest radius at which a share `purity` of the balls holds rows of
    one k-means cluster only. Once all is covered, the row farthest from everything labeled or chosen comes next.
    The score is how many rows of the pool are newly covered; the notes are `delta`, and the share of the pool that is
    covered in the end, `coverage`.

    An approximation for large pools: beyond `targets` rows, as many drawn at random stand for the pool; any row may
    still be chosen. The radius is estimated from 2,000 balls drawn at random, with clusters of 50,000 rows. Extra
    memory: two copies of the embeddings, three of the targets', 8 MiB, and O(N) numbers.

    Yehuda, Dekel, Hacohen and Weinshall 2022, "Active Learning Through a Covering Lens".

    Args:
        delta: the radius, between 0 and 2; None to estimate it every round. The note of a first round is a good value
            to keep.
        purity: share of the balls that must be pure, where delta is estimated.
        clusters: how many clusters stand for classes there; None for the number of classes: that of the outputs when
            multi-label, else those that labels have shown, or 10 before there are two.
        targets: how many rows stand for the pool at most.
        space: the name of the outputs whose distances count.
    """

    delta: float | None = None
    purity: float = 0.95
    clusters: int | None = None
    targets: int = 10_000
    space: str = "embeddings"
    multilabel = True
    paper = "Yehuda et al. 2022"
    advice = "Very few labels on embeddings with dense topics. Hangs on its radius: MaxHerding is the safer choice."

    def __post_init__(self) -> None:
        options = Options(self)
        options.number("delta", least=0, most=2, optional=True)
        options.number("purity", above=0, most=1)
        options.whole("clusters", least=1, optional=True)
        options.whole("targets", least=1).vectors("space")

    @property
    def needs(self) -> frozenset[str]:  # type: ignore[override]
        """The chosen space."""
        return frozenset({self.space})

    @property
    def labeled_needs(self) -> frozenset[str]:  # type: ignore[override]
        """The chosen space."""
        return frozenset({self.space})

    def select(self, query: Query) -> Selection:
        """n positions in greedy order."""
        x = F.normalize(query.pool[self.space], dim=1)  # (N, E)
        labeled = F.normalize(query.labeled[self.space], dim=1) if len(query.labeled) else x[:0]
        delta = self._radius(x, query) if self.delta is None else self.delta
        some = some_rows(len(x), self.targets, generator=query.generator).to(x.device)
        y = x if len(some) == len(x) else x[some]
        cover = max_coverage(x, query.n, delta, targets=y, centers=labeled, generator=query.generator)
        positions, scores = cover.positions, cover.gains * (len(x) / len(y))
        missing = query.n - len(positions)
        if missing:
            positions = torch.cat([positions, farthest_others(x, positions, missing, centers=labeled)])
        coverage = float(cover.covered.float().mean())
        return Selection(positions, F.pad(scores.to(x.dtype), (0, missing)), {"delta": delta, "coverage": coverage})

    def _radius(self, x: Tensor, query: Query) -> float:
        """The largest radius whose balls are pure, at most 2: then every ball holds everything."""
        k = min(len(x), self.clusters or _classes(query))
        assignment = partition(x, k, at_most=CLUSTERED, generator=query.generator)
        rows = some_rows(len(x), BALLS, generator=query.generator).to(x.device)
        return min(2.0, pure_radius(x, assignment, purity=self.purity, rows=rows))


def _classes(query: Query) -> int:
    """How many classes there are as far as is known; 10 before labels have shown two."""
    seen = query.labels.shape[1] if query.labels.dim() == 2 else len(query.labels.unique())
    return seen if seen > 1 else 10
