"""Strategies based on the gradients of the loss at the model's own predictions."""

from dataclasses import dataclass
from typing import Literal, get_args

from torch import Tensor

from dal.errors import ConfigError
from dal.functional.exchange import gather_rows
from dal.functional.gradients import expected_gradient_length
from dal.functional.k_center import k_center_greedy
from dal.functional.seeding import distances_at_selection, kmeans_plusplus
from dal.strategy import Query, ScoreStrategy, Selection, Strategy

Seeding = Literal["kmeans++", "k-center"]


@dataclass(frozen=True)
class BADGE(Strategy):
    """k-means++ sampling on gradient embeddings: long gradients (uncertain rows) that differ from one another.

    `g_i = (p_i - onehot(argmax p_i)) (x) h_i` is the gradient of the loss at the predicted label with respect to the
    last layer's weight, stored as its two factors. k-means++ takes the longest gradient first, then draws each row with
    probability `min_j |g_i - g_j|^2 / sum_i min_j |g_i - g_j|^2`, with j over the rows selected before. Multi-label:
    `(p_i - 1[p_i > 1/2]) (x) h_i`. The score is the distance at selection.

    Ash, Zhang, Krishnamurthy, Langford and Agarwal 2020, "Deep Batch Active Learning by Diverse, Uncertain Gradient
    Lower Bounds".

    Args:
        seeding: selection rule on the gradients: "kmeans++" as published, or the deterministic "k-center", which takes
            the gradient farthest from those of the labeled and selected rows.
    """

    seeding: Seeding = "kmeans++"
    needs = frozenset({"grads"})
    multilabel = True
    exact_on_shards = True
    paper = "Ash et al. 2020"
    advice = "A safe default for batches: rarely the worst. The selection is random, so compare several seeds."

    def __post_init__(self) -> None:
        if self.seeding not in get_args(Seeding):
            allowed = " or ".join(map(repr, get_args(Seeding)))
            raise ConfigError(f"seeding of BADGE must be {allowed}, not {self.seeding!r}")

    @property
    def labeled_needs(self) -> frozenset[str]:  # type: ignore[override]
        """The gradients with "k-center" seeding, which starts from them; otherwise nothing."""
        return frozenset({"grads"}) if self.seeding == "k-center" else frozenset()

    def select(self, query: Query) -> Selection:
        """Select n positions, in the order in which they were chosen."""
        grads = query.pool.blockwise("grads")
        if self.seeding == "k-center":
            centers = query.labeled.grads if len(query.labeled) else None
            cover = k_center_greedy(grads, query.n, centers=centers, shard=query.shard)
            return Selection(cover.positions, cover.distances, {"radius": cover.radius})
        positions = kmeans_plusplus(grads, query.n, generator=query.generator, shard=query.shard)
        selected = grads[positions] if query.shard is None else gather_rows(grads, positions, query.shard)
        return Selection(positions, distances_at_selection(selected))


@dataclass(frozen=True)
class ExpectedGradientLength(ScoreStrategy):
    """Largest expected Euclidean length of the last layer's gradient, over the predicted label distribution.

    `score = sum_c p_c |p - e_c| |[h; 1]|` in closed form, because the gradient at label c with respect to weight and
    bias is `(p - e_c) (x) [h; 1]`. Multi-label: `sqrt(sum_c p_c (1 - p_c)) |[h; 1]|`, the root of the expected squared
    length, an upper bound; the expected length itself would be a sum over 2^C label sets. Long feature vectors get high
    scores regardless of their content.

    Settles, Craven and Ray 2007, "Multiple-Instance Active Learning"; for deep text models Zhang, Lease and Wallace
    2017, "Active Discriminative Text Representation Learning".
    """

    needs = frozenset({"probs", "features"})
    multilabel = True
    rowwise = True
    paper = "Settles et al. 2007"
    advice = "Uncertainty weighted by feature length: better than Entropy only where that length is meaningful."

    def score(self, query: Query) -> Tensor:
        """Expected gradient length, (N,)."""
        pool = query.pool
        return expected_gradient_length(pool.probs, pool.features, multilabel=pool.multilabel)
