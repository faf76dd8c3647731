"""Candidates from a cheap proxy: the rows that a linear classifier on vectors of the rows is least sure of."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from dal.functional.drawing import spread_rows
from dal.functional.ranking import top
from dal.functional.uncertainty import margin
from dal.strategies.candidates import CandidateQuery, Candidates, at_least, check_schedule, row_blocks

_PENALTY = 0.1  # as the default of `ProbeLearner`
_CENTRE_ROWS = 20_000  # rows whose mean is the centre of the vectors


@dataclass(frozen=True)
class LinearProxy(Candidates):
    """The rows with the smallest margin under logistic regression on the embeddings of the labeled rows.

    A model that is expensive to run, such as a fine-tuned transformer, then scores `size` rows instead of the pool.
    Embeddings are centred by their mean over up to 20,000 rows and divided by their norm, and the L2 penalty is that of
    `ProbeLearner`. The margin is that of the strategy `Margin`, ties go to the lower row. A fit takes L * E * C
    operations per step and the scores N * E * C, in blocks; memory is one score per unasked row. While fewer than two
    classes are labeled, the candidates are `size` random rows.

    Coleman et al. 2020, "Selection via Proxy: Efficient Data Selection for Deep Learning".

    Args:
        size: number of candidates; raised to the batch size if that is larger.
    """

    size: int = 100_000

    needs = frozenset({"embeddings"})
    paper = "Coleman et al. 2020"
    advice = "Uncertainty strategies on a model that is slow to run; recall_every measures how much it leaves out."

    def __post_init__(self) -> None:
        at_least(self, "size", 1)

    def choose(self, query: CandidateQuery) -> Tensor:
        """Return the rows with the smallest margins."""
        return _least_sure(query, lambda rows: query.read(rows).embeddings, self.size)


@dataclass(frozen=True)
class RefreshedProxy(Candidates):
    """The rows with the smallest margin under logistic regression on features of the model of an earlier round.

    A pass over the whole pool keeps the features of all rows, two bytes per number. In later rounds a linear classifier
    on them is fitted to all labels so far, and the model scores the rows that it is least sure of. The features of a
    fine-tuned model agree with its next versions about which rows are difficult, once there are enough labels; the
    embeddings of the frozen encoder agree less. Fit, scores and memory are those of `LinearProxy`.

    At first every round scores the whole pool and measures, at no further pass, which share of its batch the candidates
    would have contained. When that is `min_recall` or more, the next pass over the whole pool is one round later than
    before, up to `every` rounds; when it is less, one round earlier. A pool whose candidates never reach `min_recall`
    is scored whole in each round.

    After Coleman et al. 2020, "Selection via Proxy: Efficient Data Selection for Deep Learning".

    Args:
        size: number of candidates; raised to the batch size if that is larger.
        min_recall: recall, above 0 and up to 1, from which the passes over the whole pool become rarer.
        every: maximum number of rounds from one pass over the whole pool to the next, at least 2.
    """

    size: int = 100_000
    min_recall: float = 0.8
    every: int = 5

    keeps = frozenset({"features"})
    paper = "after Coleman et al. 2020"
    advice = "Uncertainty strategies, a fine-tuned model, a large pool. Skips passes while its measured recall is high."

    def __post_init__(self) -> None:
        at_least(self, "size", 1)
        check_schedule(self)

    def choose(self, query: CandidateQuery) -> Tensor:
        """Return the rows with the smallest margins."""
        read = query.read_kept
        if read is None:
            return query.unlabeled
        return _least_sure(query, lambda rows: read(rows).features, self.size)


def _least_sure(query: CandidateQuery, vectors: Callable[[Tensor], Tensor], count: int) -> Tensor:
    """The `count` unasked rows with the smallest margins of a linear classifier on vectors (n, D) of rows (n,)."""
    from dal.learners.heads.linear_head import fit_linear_head  # here: `dal list` must not load learners

    size = min(max(count, query.n), len(query.unlabeled))
    multilabel = query.labels.dim() == 2
    targets = _targets(query.labels)
    if targets is None:
        return query.sample(size)
    points = vectors(query.labeled).float()
    centre = vectors(spread_rows(query.size, _CENTRE_ROWS)).float().mean(0)
    head = fit_linear_head(
        points,
        targets.to(points),
        points.new_ones(len(points)),
        mean=centre,
        scale=torch.ones_like(centre),
        l2=_PENALTY,
        multilabel=multilabel,
        normalized=True,
    )
    margins = []
    for _, block in row_blocks(query.unlabeled):
        logits = head.logits(head.features(vectors(block).float()))
        probs = logits.sigmoid() if multilabel else logits.softmax(1)
        margins.append(margin(probs, multilabel=multilabel).cpu())
    return query.unlabeled[top(-torch.cat(margins), size)]


def _targets(labels: Tensor) -> Tensor | None:
    """Zeros and ones (L, C) of the classes that the labels tell apart; None if there are no two."""
    if labels.dim() == 2:
        told_apart = labels.any(0) & ~labels.all(0)
        return labels[:, told_apart] if bool(told_apart.any()) else None
    classes, codes = labels.unique(return_inverse=True)
    return F.one_hot(codes, len(classes)) if len(classes) > 1 else None
