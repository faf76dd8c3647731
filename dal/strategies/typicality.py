"""Strategies that ask for typical rows."""

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

#: The means of the clusters are those of at most so many rows; in a cluster, neighbours are looked for among so many.
CLUSTERED = 50_000
AMONG = 4_096


@dataclass(frozen=True)
class TypiClust(Strategy):
    """The most typical row of each of the largest clusters without a labeled row.

    k-means of all rows, labeled ones too, at unit length into L + n clusters, `max_clusters` at most. Then again and
    again: of the clusters with fewest labeled and chosen rows the largest, and from it the row of largest typicality
    `1 / mean distance to its nearest neighbors in the cluster`. Clusters of fewer than `min_size` rows wait until the
    others are used up. The score is the typicality, of at most 1e5; the note `clusters` says how many there are.

    An approximation for large pools: the means are those of 50,000 rows drawn at random, and in a cluster of more than
    4,096 rows the neighbours are sought among as many drawn from it. Extra memory: two copies of the embeddings.

    Hacohen, Dekel and Weinshall 2022, "Active Learning on a Budget: Opposite Strategies Suit High and Low Budgets".

    Args:
        neighbors: how many nearest neighbours a row's typicality looks at.
        max_clusters: how many clusters there are at most.
        min_size: rows of the smallest cluster that is worth a question.
        space: the name of the outputs to cluster.
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
        """n positions in the order in which their clusters had their turn."""
        x = query.pool[self.space]
        N = len(x)
        if len(query.labeled):
            x = torch.cat([x, query.labeled[self.space]])
        x = F.normalize(x, dim=1)  # (N + L, E)
        k = min(len(x), self.max_clusters, len(query.labeled) + query.n)
        assignment = partition(x, k, at_most=CLUSTERED, generator=query.generator)
        sizes = torch.bincount(assignment, minlength=k).tolist()
        taken = torch.bincount(assignment[N:], minlength=k).tolist()
        members = assignment.argsort(stable=True).split(sizes)
        turns = [(size < self.min_size, taken[c], -size, c) for c, size in enumerate(sizes) if size > taken[c]]
        heapq.heapify(turns)
        queues: dict[int, Iterator[tuple[float, int]]] = {}
        chosen: list[tuple[float, int]] = []
        while len(chosen) < query.n:
            small, count, size, c = heapq.heappop(turns)
            if c not in queues:
                queues[c] = self._most_typical(x, members[c], N, query)
            row = next(queues[c], None)
            if row is not None:
                chosen.append(row)
                heapq.heappush(turns, (small, count + 1, size, c))
        scores, positions = zip(*chosen, strict=True)
        return Selection(
            torch.tensor(positions, device=x.device), torch.tensor(scores, device=x.device), {"clusters": k}
        )

    def _most_typical(self, x: Tensor, members: Tensor, N: int, query: Query) -> Iterator[tuple[float, int]]:
        """Typicality and position of the pool's rows among the members of a cluster, most typical first."""
        among = some_rows(len(members), AMONG, generator=query.generator).to(x.device)
        typical = typicality(x[members], self.neighbors, among=None if len(among) == len(members) else among)
        typical, members = typical[members < N], members[members < N]
        order = typical.argsort(descending=True, stable=True)[: query.n]
        return zip(typical[order].tolist(), members[order].tolist(), strict=True)
