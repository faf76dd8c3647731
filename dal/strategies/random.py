"""The baseline that every other strategy is measured against."""

from dataclasses import dataclass

import torch

from dal.strategy import Query, Selection, Strategy


@dataclass(frozen=True)
class Random(Strategy):
    """Rows drawn uniformly without replacement: `P(S) = 1 / binomial(N, n)` for every set S of n rows.

    Reads nothing, so it causes neither a fit nor a pass. Its labels are an unbiased sample of the pool, which no other
    strategy's are: take it for a test set, or whenever the labels will serve more than this one model.
    """

    multilabel = True
    advice = "The baseline. Its labels are an unbiased sample; beaten by others only where rows differ in worth."

    def select(self, query: Query) -> Selection:
        """n positions in random order."""
        return Selection(torch.randperm(len(query.pool), generator=query.generator)[: query.n])
