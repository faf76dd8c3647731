"""Cold-start selection by a pretrained language model: from its losses, or from descriptions of the classes."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch.nn import functional as F

from dal.functional.central import central_rows
from dal.functional.clustering import kmeans
from dal.functional.ranking import top
from dal.outputs import log_probs
from dal.strategy import Query, Selection, Strategy


@dataclass(frozen=True)
class ALPS(Strategy):
    """The row nearest the center of each of n k-means clusters of surprisal vectors (masked-language-model losses).

    The vector of a text holds `-log p(token t | text)` for a random 15% of its tokens and 0 elsewhere (`surprisal`,
    computed by the masked-language-model head of the learner's checkpoint), scaled to unit length. k-means with k = n;
    from each cluster the row nearest the center, the largest cluster first. The score is the size of the cluster, the
    note `inertia` the inertia of the clustering. It uses neither labels nor a trained model, so another strategy should
    follow after the cold start (`Phases`).

    Yuan, Lin and Boyd-Graber 2020, "Cold-start Active Learning through Self-supervised Language Modeling".
    """

    needs = frozenset({"surprisal"})
    multilabel = True
    paper = "Yuan et al. 2020"
    advice = "A cold start for encoders with a masked-language-model head. Try ClusterCenters first: it is simpler."

    def select(self, query: Query) -> Selection:
        """Select n positions, largest cluster first."""
        surprisal = query.pool.surprisal  # (N, T)
        nonzero = surprisal.any(0)  # (T,): columns of zeros do not change any distance
        nonzero[0] = True  # so that at least one column is left
        x = F.normalize(surprisal[:, nonzero], dim=1)
        clusters = kmeans(x, query.n, generator=query.generator)
        positions, sizes = central_rows(x, clusters)
        return Selection(positions, sizes.to(x.dtype), {"inertia": clusters.inertia})


@dataclass(frozen=True)
class LikelyPerClass(Strategy):
    """The rows that most probably belong to each class, by the class descriptions alone, rare classes first.

    Each step takes the class with the fewest labels, and from it the row with the highest probability that is not yet
    selected. Between classes with equally many labels, the one with the smallest share of the pool, the mean of its
    probabilities, comes first; rows already selected for the batch count as labels of the class that they were selected
    for. Without labels these are turns: every class gets a row before any gets its second. The probabilities are those
    of `zero_shot_logits` (multi-label: one sigmoid for each class), which need no labels; the score is the probability
    of the class that a row was selected for.

    Relevance sampling for every class, on predictions without labels: after Lewis and Gale 1994, "A Sequential
    Algorithm for Training Text Classifiers". Likely rows of one class are alike, and their labels say nothing about the
    shares of the classes, so another strategy should follow after about one row for each class (`Phases`).
    """

    needs = frozenset({"zero_shot_logits"})
    multilabel = True
    paper = "after Lewis and Gale 1994"
    advice = "Finds rare classes before any label, by class descriptions. Switch after about one row for each class."

    def select(self, query: Query) -> Selection:
        """Select n positions, in the order of the turns."""
        likely = log_probs(query.pool.zero_shot_logits, query.pool.multilabel)  # (N, C)
        shares = likely.exp().mean(0)
        turns = top(-shares, len(shares), generator=query.generator).tolist()  # the rarest class first
        labels = query.labels.sum(0) if query.labels.dim() == 2 else torch.bincount(query.labels, minlength=len(shares))
        counts = [int(count) for count in labels.tolist()]
        ranked = {c: iter(top(likely[:, c], query.n, generator=query.generator).tolist()) for c in turns}
        chosen: dict[int, int] = {}  # position -> class that it was selected for
        while len(chosen) < query.n:
            c = min(turns, key=lambda each: counts[each])  # of equal counts, the first in turn
            chosen[_first_new(ranked[c], chosen)] = c
            counts[c] += 1
        positions, classes = torch.tensor([*chosen.items()], device=likely.device).T
        return Selection(positions, likely[positions, classes].exp())


def _first_new(ranked: Iterator[int], chosen: dict[int, int]) -> int:
    """First position that is not chosen; there is one among the n best while fewer than n are chosen."""
    return next(position for position in ranked if position not in chosen)
