"""Diversity sampling: strategies that cover the pool without regard to the model's predictions."""

from dataclasses import dataclass

import torch
from torch.nn import functional as F

from dal.functional.checking import Options
from dal.functional.clustering import kmeans, medoids
from dal.functional.k_center import farthest_others, k_center_greedy
from dal.strategy import Query, Selection, Strategy


@dataclass(frozen=True)
class CoreSet(Strategy):
    """Greedy k-center: repeatedly selects the row farthest from all labeled and selected rows.

    Each step selects `argmax_i min_j |x_i - x_j|`, with j over the labeled rows and the rows selected before. Without
    labeled rows the first one is the row farthest from the mean. The score is the distance at selection; the note
    `radius` is the largest distance left. In a label-free space a session keeps distances from round to round, so that
    a round computes distances to the new labels only.

    Sener and Savarese 2018, "Active Learning for Convolutional Neural Networks: A Core-Set Approach".

    Args:
        space: output in which distances are computed: `features` of the trained model, or label-free `embeddings`,
            which need no trained model.
    """

    space: str = "features"
    multilabel = True
    exact_on_shards = True
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
        """Select n positions, in greedy order."""
        centers = query.labeled[self.space] if len(query.labeled) else None
        bounds = query.memory.bounds(self.space, query.pool, query.labeled)
        points = query.pool.blockwise(self.space)
        cover = k_center_greedy(points, query.n, centers=centers, bounds=bounds, shard=query.shard)
        query.memory.keep(self.space, query.pool, query.labeled, cover.bounds, cover.positions)
        return Selection(cover.positions, cover.distances, {"radius": cover.radius})


@dataclass(frozen=True)
class ClusterCenters(Strategy):
    """The row nearest the center of each of n k-means clusters: representative and diverse without any labels.

    k-means with k = n on the embeddings scaled to unit length; from each cluster `argmin_i |x_i - center|`. Rows of the
    largest clusters come first, and the score is the size of the cluster. Where duplicates leave clusters empty, the
    rows farthest from the selected ones fill the batch, with score 0. The note `inertia` is the inertia of the
    clustering. Labels are ignored, so another strategy should follow after the cold start (`Phases`).

    Xu et al. 2003, "Representative Sampling for Text Classification Using Support Vector Machines"; as a cold start for
    transformers Yuan, Lin and Boyd-Graber 2020, "Cold-start Active Learning through Self-supervised Language Modeling".

    Args:
        space: output to cluster.
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
        """Select n positions, largest cluster first."""
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
