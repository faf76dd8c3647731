"""Random sampling, the baseline of all other strategies."""

from dataclasses import dataclass

import torch

from dal.strategy import Query, Selection, Strategy


@dataclass(frozen=True)
class Random(Strategy):
    """Rows drawn uniformly without replacement: `P(S) = 1 / binomial(N, n)` for every set S of n rows.

    It reads no outputs, so it causes neither a fit nor a pass. Unlike the labels of any other strategy, its labels are
    an unbiased sample of the pool: use it for test sets, and for labels that serve more than one model.
    """

    multilabel = True
    exact_on_shards = True
    advice = "The baseline. Its labels are an unbiased sample; others win only where some rows are worth more."

    def select(self, query: Query) -> Selection:
        """Select n positions, in random order."""
        return Selection(torch.randperm(query.size, generator=query.generator)[: query.n])
