"""Strategies that combine the uncertainty of a row with its position in feature space."""

from dataclasses import dataclass

import torch
from torch import Tensor

from dal.functional.central import central_rows
from dal.functional.checking import MAX_SCALE, MIN_SCALE, Options
from dal.functional.clustering import kmeans
from dal.functional.consistency import inconsistency
from dal.functional.hierarchy import average_linkage, round_robin
from dal.functional.ranking import top
from dal.functional.similarity import mean_similarity
from dal.functional.uncertainty import entropy, margin
from dal.outputs import Outputs
from dal.strategy import Query, ScoreStrategy, Selection, Strategy

#: Maximum number of rows of smallest margin that `ClusterMargin` clusters.
_MAX_CLUSTERED = 10_000


@dataclass(frozen=True)
class ClusterMargin(Strategy):
    """Rows of small margin, drawn round-robin from clusters of them, so that near-duplicates do not fill the batch.

    The `factor * n` rows of smallest margin (at most 10,000) are grouped by agglomerative clustering with average
    linkage until `clusters` are left. Rows are then taken from the clusters in turn, the smallest cluster first, and
    within a cluster the smallest margin first. The score is the negative margin.

    The publication clusters the whole pool once and reuses the clusters in every round; here only the rows of small
    margin are clustered, in every round. With more than 4,000 of them, the centers of 2,000 k-means clusters are
    clustered instead.

    Citovsky et al. 2021, "Batch Active Learning at Scale".

    Args:
        factor: number of clustered rows per selected row, at least 1.
        clusters: number of clusters; `None` for n.
        space: output in which distances are computed.
    """

    factor: float = 10.0
    clusters: int | None = None
    space: str = "features"
    multilabel = True
    paper = "Citovsky et al. 2021"
    advice = "Margin for large batches and pools with many near-duplicates; for small batches Margin is cheaper."

    def __post_init__(self) -> None:
        options = Options(self)
        options.number("factor", least=1, description="at least 1")
        options.whole("clusters", least=1, optional=True, description="at least 1").vectors("space")

    @property
    def needs(self) -> frozenset[str]:  # type: ignore[override]
        """The predictions and the chosen space."""
        return frozenset({"probs", self.space})

    def select(self, query: Query) -> Selection:
        """Select n positions, in round-robin order."""
        scores = -margin(query.pool.probs, multilabel=query.pool.multilabel)
        count = max(query.n, min(_MAX_CLUSTERED, round(self.factor * query.n)))
        uncertain = top(scores, min(count, len(scores)), generator=query.generator)  # the smallest margin first
        clusters = min(len(uncertain), self.clusters or query.n)
        assignment = average_linkage(query.pool[self.space][uncertain], clusters, generator=query.generator)
        positions = uncertain[round_robin(assignment, query.n)]
        return Selection(positions, scores[positions])


@dataclass(frozen=True)
class CLUE(Strategy):
    """The row nearest the center of each of n k-means clusters, with rows weighted by their uncertainty.

    k-means with k = n on the features minimises `sum_k sum_{i in k} H(p_i) |x_i - center_k|^2`, where the weight H(p_i)
    is the entropy of the prediction. Rows of the largest clusters come first, and the score is the size of the cluster.
    If all entropies are 0, all rows have the same weight.

    Prabhu, Chandrasekaran, Saenko and Hoffman 2021, "Active Domain Adaptation via Clustering Uncertainty-weighted
    Embeddings".

    Args:
        temperature: divisor of the logits in the entropy: below 1 the weight concentrates on the most uncertain rows;
            far above 1 all weights become equal.
        space: output to cluster.
    """

    temperature: float = 1.0
    space: str = "features"
    multilabel = True
    paper = "Prabhu et al. 2021"
    advice = "Pools unlike the labeled rows, large batches. Costs a k-means with k = n; ignores the labeled rows."

    def __post_init__(self) -> None:
        Options(self).number("temperature", least=MIN_SCALE, most=MAX_SCALE).vectors("space")

    @property
    def needs(self) -> frozenset[str]:  # type: ignore[override]
        """The predictions and the chosen space."""
        return frozenset({"logits", self.space})

    def select(self, query: Query) -> Selection:
        """Select n positions, largest cluster first."""
        x = query.pool[self.space]
        tempered = Outputs({"logits": query.pool.logits / self.temperature}, multilabel=query.pool.multilabel)
        weights = entropy(tempered.probs, multilabel=tempered.multilabel)  # (N,)
        weights = torch.where(weights.amax() > 0, weights, 1.0)
        clusters = kmeans(x, query.n, weights=weights, generator=query.generator)
        positions, sizes = central_rows(x, clusters)
        return Selection(positions, sizes.to(x.dtype), {"inertia": clusters.inertia})


@dataclass(frozen=True)
class DropQuery(Strategy):
    """Rows whose prediction changes in at least half of the dropout samples, one from each of n clusters.

    A row is a candidate if `|{k : argmax p_k != argmax p}| / K >= threshold`. The features of the candidates are
    clustered (k-means, k = n), and the row nearest each center is selected, the largest cluster first. With fewer than
    n candidates all of them are selected, followed by the rows with the most disagreeing samples. The score is the
    share of disagreeing samples; multi-label: that of the class with the most disagreement.

    Gupte et al. 2024, "Revisiting Active Learning in the Era of Vision Foundation Models".

    Args:
        threshold: minimum share of disagreeing samples of a candidate, above 0 and at most 1.
        space: output to cluster.
    """

    threshold: float = 0.5
    space: str = "features"
    multilabel = True
    paper = "Gupte et al. 2024"
    advice = "Frozen foundation models with head-only dropout. Random where dropout changes no prediction."

    def __post_init__(self) -> None:
        Options(self).number("threshold", above=0, most=1).vectors("space")

    @property
    def needs(self) -> frozenset[str]:  # type: ignore[override]
        """The predictions, the votes of the samples, and the chosen space."""
        return frozenset({"logits", "vote_shares", self.space})

    def select(self, query: Query) -> Selection:
        """Select n positions: candidates, largest cluster first, or all candidates followed by other rows."""
        pool = query.pool
        disagreement = inconsistency(pool.logits, pool.vote_shares, multilabel=pool.multilabel)  # (N,)
        # Shares are rounded multiples of 1/K, hence the tolerance.
        candidates = (disagreement >= self.threshold - 1e-6).nonzero().flatten()
        if len(candidates) <= query.n:
            positions = top(disagreement, query.n, generator=query.generator)
        else:
            x = pool[self.space][candidates]
            positions = candidates[central_rows(x, kmeans(x, query.n, generator=query.generator))[0]]
        return Selection(positions, disagreement[positions], {"candidates": float(len(candidates))})


@dataclass(frozen=True)
class InformationDensity(ScoreStrategy):
    """Entropy weighted by the mean similarity to the pool, so that uncertain but representative rows come first.

    `score = H(p_i) (1/N sum_j cos(x_i, x_j))^beta`. The mean similarity is computed from the mean of all rows at unit
    length, without comparing pairs. A negative mean similarity counts as 0. Multi-label: the mean binary entropy.

    Settles and Craven 2008, "An Analysis of Active Learning Strategies for Sequence Labeling Tasks".

    Args:
        beta: exponent of the similarity, at least 0; 0 ignores it.
        space: output in which similarities are computed.
    """

    beta: float = 1.0
    space: str = "features"
    multilabel = True
    paper = "Settles and Craven 2008"
    advice = "Noisy pools where uncertainty selects outliers. Misses rare classes; batches may be redundant."

    def __post_init__(self) -> None:
        Options(self).number("beta", least=0, description="0 or more").vectors("space")

    @property
    def needs(self) -> frozenset[str]:  # type: ignore[override]
        """The predictions and the chosen space."""
        return frozenset({"probs", self.space})

    def score(self, query: Query) -> Tensor:
        """Entropy weighted by the similarity, (N,)."""
        uncertainty = entropy(query.pool.probs, multilabel=query.pool.multilabel)
        return uncertainty * mean_similarity(query.pool[self.space]).clamp_min(0).pow(self.beta)
