"""Strategies that weigh how unsure rows are against how they lie in the pool."""

from dataclasses import dataclass

import torch
from torch import Tensor

from dal.functional.central import central_rows
from dal.functional.checking import LEAST_SCALE, MOST_SCALE, Options
from dal.functional.clustering import kmeans
from dal.functional.consistency import inconsistency
from dal.functional.hierarchy import average_linkage, round_robin
from dal.functional.ranking import top
from dal.functional.similarity import mean_similarity
from dal.functional.uncertainty import entropy, margin
from dal.outputs import Outputs
from dal.strategy import Query, ScoreStrategy, Selection, Strategy

#: Rows of smallest margin that `ClusterMargin` clusters at most.
_MOST = 10_000


@dataclass(frozen=True)
class ClusterMargin(Strategy):
    """Rows of small margin, taken in turns from clusters of them, so that no cluster of twins fills the batch.

    The `factor * n` rows of smallest margin (10,000 at most) are clustered bottom-up by the mean distance between
    members (average linkage) until `clusters` are left; then one row is taken from each cluster in turns, the smallest
    cluster first and in each the smallest margin first. Each score is minus the margin.

    As published, the whole pool is clustered once, and its clusters serve every round; here only the rows of small
    margin are, in each round. Of more than 4,000, the centers of 2,000 k-means clusters are joined in their stead.

    Citovsky et al. 2021, "Batch Active Learning at Scale".

    Args:
        factor: rows of small margin for each row that is asked.
        clusters: how many; null: n, so that each gives one.
        space: the name of the outputs whose distances count.
    """

    factor: float = 10.0
    clusters: int | None = None
    space: str = "features"
    multilabel = True
    paper = "Citovsky et al. 2021"
    advice = "Margin for large batches and pools full of near-copies; with small batches it is Margin for more money."

    def __post_init__(self) -> None:
        options = Options(self)
        options.number("factor", least=1, said="at least 1")
        options.whole("clusters", least=1, optional=True, said="at least 1").vectors("space")

    @property
    def needs(self) -> frozenset[str]:  # type: ignore[override]
        """The predictions and the chosen space."""
        return frozenset({"probs", self.space})

    def select(self, query: Query) -> Selection:
        """n positions, in the order of their turns."""
        scores = -margin(query.pool.probs, multilabel=query.pool.multilabel)
        count = max(query.n, min(_MOST, round(self.factor * query.n)))
        unsure = top(scores, min(count, len(scores)), generator=query.generator)  # the smallest margin first
        clusters = min(len(unsure), self.clusters or query.n)
        joined = average_linkage(query.pool[self.space][unsure], clusters, generator=query.generator)
        positions = unsure[round_robin(joined, query.n)]
        return Selection(positions, scores[positions])


@dataclass(frozen=True)
class CLUE(Strategy):
    """The row nearest the center of each of n clusters, in which unsure rows weigh more.

    k-means with k = n on the features, every row weighing as much as its entropy: it minimises
    `sum_k sum_{i in k} H(p_i) |x_i - center_k|^2`. The rows of the largest clusters come first, and the score is how
    many rows each stands for. Where all entropies are 0, all rows weigh the same.

    Prabhu, Chandrasekaran, Saenko and Hoffman 2021, "Active Domain Adaptation via Clustering Uncertainty-weighted
    Embeddings".

    Args:
        temperature: the logits are divided by it before the entropy: below 1 unsure rows decide alone, far above 1
            all rows weigh the same.
        space: the name of the outputs that are clustered.
    """

    temperature: float = 1.0
    space: str = "features"
    multilabel = True
    paper = "Prabhu et al. 2021"
    advice = "Pools unlike the labeled rows, large batches. Costs a k-means with k = n; ignores what is labeled."

    def __post_init__(self) -> None:
        Options(self).number("temperature", least=LEAST_SCALE, most=MOST_SCALE).vectors("space")

    @property
    def needs(self) -> frozenset[str]:  # type: ignore[override]
        """The predictions and the chosen space."""
        return frozenset({"logits", self.space})

    def select(self, query: Query) -> Selection:
        """n positions, largest cluster first."""
        x = query.pool[self.space]
        clusters = kmeans(x, query.n, weights=self._weights(query), generator=query.generator)
        positions, sizes = central_rows(x, clusters)
        return Selection(positions, sizes.to(x.dtype), {"inertia": clusters.inertia})

    def _weights(self, query: Query) -> Tensor:
        """The entropy of every row at the temperature, (N,); ones where all of them are 0."""
        tempered = Outputs({"logits": query.pool.logits / self.temperature}, multilabel=query.pool.multilabel)
        weights = entropy(tempered.probs, multilabel=tempered.multilabel)
        return torch.where(weights.amax() > 0, weights, 1.0)


@dataclass(frozen=True)
class DropQuery(Strategy):
    """Rows on which at least half of the sampled models contradict the model itself, one from each of n clusters.

    Where `|{k : argmax p_k != argmax p}| / K >= threshold` a row is a candidate; the candidates' features are clustered
    (k-means, k = n), and the row nearest each center is taken, the largest cluster first. With fewer than n candidates
    all are taken, and then the rows that most samples contradict. Each score is the share that contradicts.
    Multi-label: the share against the class that is contradicted most.

    Gupte et al. 2024, "Revisiting Active Learning in the Era of Vision Foundation Models".

    Args:
        threshold: the share of samples that must contradict.
        space: the name of the outputs that are clustered.
    """

    threshold: float = 0.5
    space: str = "features"
    multilabel = True
    paper = "Gupte et al. 2024"
    advice = "Frozen foundation models with head-only dropout. Where dropout changes nothing, the choice is random."

    def __post_init__(self) -> None:
        Options(self).number("threshold", above=0, most=1).vectors("space")

    @property
    def needs(self) -> frozenset[str]:  # type: ignore[override]
        """The prediction, the votes of the samples, and the chosen space."""
        return frozenset({"logits", "vote_shares", self.space})

    def select(self, query: Query) -> Selection:
        """n positions: candidates from the largest cluster first, or candidates and then others."""
        pool = query.pool
        against = inconsistency(pool.logits, pool.vote_shares, multilabel=pool.multilabel)  # (N,)
        candidates = (against >= self.threshold - 1e-6).nonzero().flatten()  # a share of K, rounded
        if len(candidates) <= query.n:
            positions = top(against, query.n, generator=query.generator)
        else:
            x = pool[self.space][candidates]
            positions = candidates[central_rows(x, kmeans(x, query.n, generator=query.generator))[0]]
        return Selection(positions, against[positions], {"candidates": float(len(candidates))})


@dataclass(frozen=True)
class InformationDensity(ScoreStrategy):
    """Unsure rows that are like many others: entropy, weighed by the similarity to the pool.

    `score = H(p_i) (1/N sum_j cos(x_i, x_j))^beta`, the mean taken through the mean of all rows at unit length, so no
    pair is ever compared. A row unlike the pool on average (a negative mean) counts as like nothing. Multi-label: the
    mean binary entropy.

    Settles and Craven 2008, "An Analysis of Active Learning Strategies for Sequence Labeling Tasks".

    Args:
        beta: how much the similarity counts; 0: not at all.
        space: the name of the outputs whose similarity counts.
    """

    beta: float = 1.0
    space: str = "features"
    multilabel = True
    paper = "Settles and Craven 2008"
    advice = "Noisy pools whose outliers uncertainty would ask for. Misses rare classes; batches may be redundant."

    def __post_init__(self) -> None:
        Options(self).number("beta", least=0, said="0 or more").vectors("space")

    @property
    def needs(self) -> frozenset[str]:  # type: ignore[override]
        """The predictions and the chosen space."""
        return frozenset({"probs", self.space})

    def score(self, query: Query) -> Tensor:
        """The weighed entropy, (N,)."""
        unsure = entropy(query.pool.probs, multilabel=query.pool.multilabel)
        return unsure * mean_similarity(query.pool[self.space]).clamp_min(0).pow(self.beta)
