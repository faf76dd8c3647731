"""Batches that combine a score with diversity: in an embedding space, or over the predicted classes."""

from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.nn import functional as F

from dal.functional.checking import Options
from dal.functional.clustering import kmeans, medoids
from dal.functional.ranking import top
from dal.strategies.composition import ComposedStrategy
from dal.strategies.stochastic import above_lowest, check_scores
from dal.strategies.uncertainty import Margin
from dal.strategy import Query, ScoreStrategy, Selection, Strategy


@dataclass(frozen=True)
class Diversified(ComposedStrategy):
    """The row nearest the center of each of n clusters of the `factor * n` rows that another strategy scores highest.

    k-means with k = n on rows scaled to unit length, each weighted by its score minus the lower bound of the scores:
    `argmin sum_i w_i |x_i - center(i)|^2`. Of equally near rows the one with the higher score is selected. Where
    duplicates leave clusters empty, the remaining rows with the highest scores fill the batch. The scores of the
    selection are those of the strategy.

    Zhdanov 2019, "Diverse Mini-Batch Active Learning".

    Args:
        strategy: strategy that scores the rows.
        factor: number of clustered rows per selected row: 1 gives the strategy itself; far above 50 the scores lose
            their effect.
        space: output to cluster.
    """

    strategy: ScoreStrategy = field(default_factory=Margin)
    factor: int = 10
    space: str = "embeddings"
    delegates = False
    paper = "Zhdanov 2019"
    advice = "Uncertain and diverse, for batches from redundant pools. Little to gain with a few rows per batch."

    def __post_init__(self) -> None:
        check_scores(self)
        Options(self).whole("factor", least=1).vectors("space")

    @property
    def title(self) -> str:
        """Name including the strategy, such as "DiversifiedMargin"."""
        return f"Diversified{self.strategy.title}"

    @property
    def parts(self) -> tuple[Strategy, ...]:
        """The strategy that scores."""
        return (self.strategy,)

    @property
    def needs(self) -> frozenset[str]:  # type: ignore[override]
        """The needs of the strategy, and the space."""
        return super().needs | {self.space}

    def select(self, query: Query) -> Selection:
        """Select n positions, highest score first."""
        scores = self.strategy.checked_score(query)
        best = top(scores, min(len(scores), self.factor * query.n), generator=query.generator)
        chosen = best[self._spread(query, best, scores[best])]
        return Selection(chosen, scores[chosen])

    def _spread(self, query: Query, best: Tensor, scores: Tensor) -> Tensor:
        """Choose n diverse rows of the best ones, as ascending positions among them."""
        if len(best) == query.n:
            return torch.arange(query.n, device=best.device)
        x = F.normalize(query.pool[self.space][best], dim=1)  # (B, E)
        weights = above_lowest(self.strategy, scores)
        weights = (weights / weights.amax().clamp_min(1e-12)).clamp_min(1e-6)  # every row keeps some weight
        rows = medoids(x, kmeans(x, query.n, generator=query.generator, weights=weights))
        picked = torch.zeros(len(best), dtype=torch.bool, device=best.device)
        picked[rows[rows < len(best)]] = True  # an empty cluster has no medoid
        others = (~picked).nonzero().flatten()  # ascending, so the highest scores first
        return torch.cat([picked.nonzero().flatten(), others])[: query.n].sort().values


@dataclass(frozen=True)
class ClassBalanced(ComposedStrategy):
    """The highest scores of another strategy within each predicted class, so that the labels become balanced.

    Each step takes the class with the fewest labels among those that still have a row predicted as that class, and from
    it the row with the highest score. Rows already selected for the batch count as labels of their predicted class.
    The label counts of the classes thus become equal as far as the predictions are right, and a class without remaining
    rows passes its share on. Between classes with equal counts, the row with the higher score comes first. Multi-label:
    a row counts for every class with a probability above 1/2; rows without such a class fill the batch last.

    Aggarwal, Popescu and Hudelot 2020, "Active Learning for Imbalanced Datasets", balance a batch by predicted classes;
    here the counts of the labeled set are included. A model that has seen a single class predicts it for every row;
    the selection is then that of the strategy itself.

    Args:
        strategy: strategy that scores the rows.
    """

    strategy: ScoreStrategy = field(default_factory=Margin)
    delegates = False
    paper = "after Aggarwal et al. 2020"
    advice = "Imbalanced classes and macro-F1: finds rare classes that the model already predicts. Biases class shares."

    def __post_init__(self) -> None:
        check_scores(self)

    @property
    def title(self) -> str:
        """Name including the strategy, such as "ClassBalancedMargin"."""
        return f"ClassBalanced{self.strategy.title}"

    @property
    def parts(self) -> tuple[Strategy, ...]:
        """The strategy that scores."""
        return (self.strategy,)

    @property
    def needs(self) -> frozenset[str]:  # type: ignore[override]
        """The needs of the strategy, and the probabilities."""
        return super().needs | {"probs"}

    def select(self, query: Query) -> Selection:
        """Select n positions, in the order in which they fill the classes."""
        scores = self.strategy.checked_score(query)
        chosen = _filled(*_queues(query, scores), _labels_per_class(query), query.n)
        positions = torch.tensor(chosen, dtype=torch.int64, device=scores.device)
        missing = query.n - len(positions)
        if missing:
            rest = scores.index_fill(0, positions, -torch.inf)
            positions = torch.cat([positions, top(rest, missing, generator=query.generator)])
        return Selection(positions, scores[positions])


#: For every class the rows predicted to have it, as (score, position), lowest score first.
_Queues = list[list[tuple[float, int]]]


def _queues(query: Query, scores: Tensor) -> tuple[_Queues, dict[int, list[int]]]:
    """The n best rows predicted to have each class, and the predicted classes of each of these rows."""
    probs = query.pool.probs  # (N, C)
    multilabel = query.pool.multilabel
    top_class = None if multilabel else probs.argmax(-1)  # (N,)
    queues, classes = [], {}
    for c in range(probs.shape[1]):
        rows = ((probs[:, c] > 0.5) if top_class is None else (top_class == c)).nonzero().flatten()
        if len(rows):
            rows = rows[top(scores[rows], min(query.n, len(rows)), generator=query.generator)].flip(0)
        queue = list(zip(scores[rows].tolist(), rows.tolist(), strict=True))
        predicted = (probs[rows] > 0.5).tolist() if multilabel else []
        for i, (_, row) in enumerate(queue):
            classes[row] = [k for k, has in enumerate(predicted[i]) if has] if multilabel else [c]
        queues.append(queue)
    return queues, classes


def _labels_per_class(query: Query) -> list[int]:
    """Number of labeled rows of each class."""
    if query.labels.dim() == 2:
        counts = query.labels.sum(0)
    else:
        counts = torch.bincount(query.labels.long(), minlength=query.pool.probs.shape[1])
    return [int(count) for count in counts.tolist()]


def _filled(queues: _Queues, classes: dict[int, list[int]], counts: list[int], n: int) -> list[int]:
    """Up to n positions, each from the class with the fewest labels that has a row left. Consumes the queues."""
    chosen: dict[int, None] = {}
    while len(chosen) < n:
        for queue in queues:
            while queue and queue[-1][1] in chosen:  # selected as a row of another of its classes
                queue.pop()
        ready = [c for c, queue in enumerate(queues) if queue]
        if not ready:
            break
        _, row = queues[min(ready, key=lambda c: (counts[c], -queues[c][-1][0]))].pop()
        chosen[row] = None
        for c in classes[row]:
            counts[c] += 1
    return list(chosen)
