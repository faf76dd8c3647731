"""A strategy for dal, in a package of its own."""

from dataclasses import dataclass

import torch
from torch import Tensor

from dal.functional.uncertainty import margin
from dal.strategy import Query, ScoreStrategy


@dataclass(frozen=True)
class SpreadMargin(ScoreStrategy):
    """Smallest top-two margin first, with a bonus far from labeled rows."""

    weight: float = 1.0
    needs = frozenset({"probs", "features"})
    labeled_needs = frozenset({"features"})
    advice = "Where uncertain rows resemble one another."

    def score(self, query: Query) -> Tensor:
        closeness = margin(query.pool.probs)  # (N,)
        if not len(query.labeled):
            return -closeness
        gap = torch.cdist(query.pool.features, query.labeled.features).amin(-1)  # (N,)
        return self.weight * gap / gap.amax().clamp_min(1e-12) - closeness
