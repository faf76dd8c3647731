"""Typicality-based selection for the first labels."""

import heapq
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from dal.functional.checking import Options
from dal.functional.drawing import some_rows
from dal.functional.partition import partition
from dal.functional.typical import typicality
from dal.strategy import Query, Selection, Strategy

#: Maximum number of rows that k-means clusters; the other rows join the nearest center.
CLUSTERED = 50_000

#: Maximum number of rows of a cluster among which neighbours are searched.
AMONG = 4_096


@dataclass(frozen=True)
class TypiClust(Strategy):
    """The most typical row of each of the largest clusters without a labeled row.

    All rows, labeled ones included, are scaled to unit length and clustered by k-means into L + n clusters, at most
    `max_clusters`. Each step takes the largest of the clusters with the fewest labeled and selected rows, and from it
    the row of highest typicality `1 / mean distance to its nearest neighbors in the cluster`. Clusters with fewer than
    `min_size` rows are used only after all others are exhausted. The score is the typicality, at most 1e5; the note
    `clusters` is the number of clusters.

    Approximation for large pools: k-means runs on 50,000 rows drawn at random, and in a cluster of more than 4,096 rows
    the neighbours are searched in a random sample of that size. Extra memory: two copies of the embeddings.

    Hacohen, Dekel and Weinshall 2022, "Active Learning on a Budget: Opposite Strategies Suit High and Low Budgets".

    Args:
        neighbors: number of nearest neighbours in the typicality of a row.
        max_clusters: maximum number of clusters.
        min_size: minimum number of rows of a cluster that is used before the small ones.
        space: output to cluster.
    """

    neighbors: int = 20
    max_clusters: int = 500
    min_size: int = 5
    space: str = "embeddings"
    multilabel = True
    paper = "Hacohen et al. 2022"
    advice = "The first labels: typical rows of every topic, no model needed. Falls behind once a model can be trusted."

    def __post_init__(self) -> None:
        Options(self).whole("neighbors", "max_clusters", "min_size", least=1).vectors("space")

    @property
    def needs(self) -> frozenset[str]:  # type: ignore[override]
        """The chosen space."""
        return frozenset({self.space})

    @property
    def labeled_needs(self) -> frozenset[str]:  # type: ignore[override]
        """The chosen space."""
        return frozenset({self.space})

    def select(self, query: Query) -> Selection:
        """Select n positions, in the order in which their clusters were visited."""
        x = query.pool[self.space]
        N = len(x)
        if len(query.labeled):
            x = torch.cat([x, query.labeled[self.space]])
        x = F.normalize(x, dim=1)  # (N + L, E)
        k = min(len(x), self.max_clusters, len(query.labeled) + query.n)
        assignment = partition(x, k, at_most=CLUSTERED, generator=query.generator)
        sizes = torch.bincount(assignment, minlength=k).tolist()
        labeled = torch.bincount(assignment[N:], minlength=k).tolist()
        members = assignment.argsort(stable=True).split(sizes)
        # Smallest key first: large clusters before small ones, then the fewest labels, then the most rows.
        clusters = [(size < self.min_size, labeled[c], -size, c) for c, size in enumerate(sizes) if size > labeled[c]]
        heapq.heapify(clusters)
        queues: dict[int, Iterator[tuple[float, int]]] = {}
        chosen: list[tuple[float, int]] = []
        while len(chosen) < query.n:
            small, count, size, c = heapq.heappop(clusters)
            if c not in queues:
                queues[c] = self._most_typical(x, members[c], N, query)
            row = next(queues[c], None)
            if row is not None:
                chosen.append(row)
                heapq.heappush(clusters, (small, count + 1, size, c))
        scores, positions = zip(*chosen, strict=True)
        return Selection(
            torch.tensor(positions, device=x.device), torch.tensor(scores, device=x.device), {"clusters": k}
        )

    def _most_typical(self, x: Tensor, members: Tensor, N: int, query: Query) -> Iterator[tuple[float, int]]:
        """Typicality and position of the pool rows of one cluster, most typical first."""
        among = some_rows(len(members), AMONG, generator=query.generator).to(x.device)
        typical = typicality(x[members], self.neighbors, among=None if len(among) == len(members) else among)
        typical, members = typical[members < N], members[members < N]
        order = typical.argsort(descending=True, stable=True)[: query.n]
        return zip(typical[order].tolist(), members[order].tolist(), strict=True)
