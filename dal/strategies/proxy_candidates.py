"""Candidates from a cheap proxy: the rows that a linear classifier on embeddings is least sure of."""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from dal.functional.drawing import spread_rows
from dal.functional.ranking import top
from dal.functional.uncertainty import margin
from dal.strategies.candidates import CandidateQuery, Candidates, at_least_one, row_blocks

_PENALTY = 0.1  # as the default of `ProbeLearner`
_CENTRE_ROWS = 20_000  # rows whose mean is the centre of the embeddings


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
    advice = "Uncertainty strategies on a model that is slow to run; see by recall_every how much it leaves out."

    def __post_init__(self) -> None:
        at_least_one(self, "size")

    def choose(self, query: CandidateQuery) -> Tensor:
        """Return the rows with the smallest margins."""
        from dal.learners.heads.linear_head import fit_linear_head  # here: `dal list` must not load learners

        size = min(max(self.size, query.n), len(query.unlabeled))
        multilabel = query.labels.dim() == 2
        targets = _targets(query.labels)
        if targets is None:
            return query.sample(size)
        points = query.read(query.labeled).embeddings.float()
        centre = query.read(spread_rows(query.size, _CENTRE_ROWS)).embeddings.float().mean(0)
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
            logits = head.logits(head.features(query.read(block).embeddings.float()))
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
