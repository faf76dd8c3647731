"""Strategies that cover the pool, whatever the model thinks of it."""

from dataclasses import dataclass

import torch
from torch.nn import functional as F

from dal.functional.checking import Options
from dal.functional.clustering import kmeans, medoids
from dal.functional.k_center import farthest_others, k_center_greedy
from dal.strategy import Query, Selection, Strategy


@dataclass(frozen=True)
class CoreSet(Strategy):
    """The row farthest from everything labeled or chosen, again and again (greedy k-center).

    `argmax_i min_j |x_i - x_j|`, with j over the labeled rows and those chosen before. With nothing labeled it starts
    from the row farthest from the mean. Each score is that distance; the note `radius` is the largest distance left.
    In a label-free space a session keeps distances from round to round, so that a round measures the new labels only.

    Sener and Savarese 2018, "Active Learning for Convolutional Neural Networks: A Core-Set Approach".

    Args:
        space: the name of the outputs whose distances count: `features` of the trained model, or label-free
            `embeddings`, which need no model.
    """

    space: str = "features"
    multilabel = True
    paper = "Sener and Savarese 2018"
    advice = "Large batches over many classes or topics. Seeks outliers: weak on noisy pools and with very few labels."

    def __post_init__(self) -> None:
        Options(self).text("space")

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
        centers = query.labeled[self.space] if len(query.labeled) else None
        known = query.memory.bounds(self.space, query.pool, query.labeled)
        cover = k_center_greedy(query.pool[self.space], query.n, centers=centers, bounds=known)
        query.memory.keep(self.space, query.pool, query.labeled, cover.bounds, cover.positions)
        return Selection(cover.positions, cover.distances, {"radius": cover.radius})


@dataclass(frozen=True)
class ClusterCenters(Strategy):
    """The row nearest the center of each of n clusters: typical and different rows, from the first question on.

    k-means with k = n on the embeddings at unit length; from each cluster `argmin_i |x_i - center|`. The rows of the
    largest clusters come first, and the score is how many rows of the pool each stands for. Where duplicates leave
    clusters empty, the rows farthest from those chosen fill in, with score 0. The note `inertia` is that of the
    clustering. It does not look at the labels: after the cold start another strategy should take over (`Phases`).

    Xu et al. 2003, "Representative Sampling for Text Classification Using Support Vector Machines"; as a cold start for
    transformers Yuan, Lin and Boyd-Graber 2020, "Cold-start Active Learning through Self-supervised Language Modeling".

    Args:
        space: the name of the outputs to cluster.
    """

    space: str = "embeddings"
    multilabel = True
    paper = "Xu et al. 2003; Yuan et al. 2020"
    advice = "The cold start: typical rows of every topic before there is a model. Do not repeat it round after round."

    def __post_init__(self) -> None:
        Options(self).vectors("space")

    @property
    def needs(self) -> frozenset[str]:  # type: ignore[override]
        """The chosen space."""
        return frozenset({self.space})

    def select(self, query: Query) -> Selection:
        """n positions, largest cluster first."""
        x = F.normalize(query.pool[self.space], dim=1)  # (N, E)
        clusters = kmeans(x, query.n, generator=query.generator)
        sizes = torch.bincount(clusters.assignment, minlength=query.n)  # (n,)
        order = sizes.argsort(descending=True, stable=True)
        order = order[sizes[order] > 0]
        positions, scores = medoids(x, clusters)[order], sizes[order]
        missing = query.n - len(positions)
        if missing:
            positions = torch.cat([positions, farthest_others(x, positions, missing)])
        return Selection(positions, F.pad(scores, (0, missing)).to(x.dtype), {"inertia": clusters.inertia})
