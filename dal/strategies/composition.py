"""Strategies made of strategies."""

from dataclasses import dataclass

import torch
from torch import Tensor

from dal.errors import ConfigError
from dal.strategy import Query, RoundState, Selection, Strategy


@dataclass(frozen=True)
class Phases(Strategy):
    """`first` until there are labels enough, then `then`: the way to write a cold start.

    `then` acts once `until` rows have a label and at least `classes` classes have one. How many classes have one is
    not asked where it is not counted (`RoundState.per_class` is empty, as for multi-label). Either may be `Phases`
    itself.

    Args:
        first: acts at the start; one that needs no trained model, such as `ClusterCenters` or `Random`.
        then: acts afterwards.
        until: labeled rows from which on `then` acts.
        classes: classes that must have a label by then.
    """

    first: Strategy
    then: Strategy
    until: int = 20
    classes: int = 2
    advice = "A cold start: a label-free strategy until there are labels enough to train on, then another."

    def __post_init__(self) -> None:
        for name in ("until", "classes"):
            if getattr(self, name) < 0:
                raise ConfigError(f"{name} of Phases must be 0 or more, not {getattr(self, name)}")

    @property
    def title(self) -> str:
        """Both titles, such as "ClusterCenters+Margin"."""
        return f"{self.first.title}+{self.then.title}"

    @property
    def needs(self) -> frozenset[str]:  # type: ignore[override]
        """What either reads."""
        return frozenset(self.first.needs) | frozenset(self.then.needs)

    @property
    def labeled_needs(self) -> frozenset[str]:  # type: ignore[override]
        """What either reads."""
        return frozenset(self.first.labeled_needs) | frozenset(self.then.labeled_needs)

    @property
    def target_needs(self) -> frozenset[str]:  # type: ignore[override]
        """What either reads."""
        return frozenset(self.first.target_needs) | frozenset(self.then.target_needs)

    @property
    def multilabel(self) -> bool:  # type: ignore[override]
        """Whether both are right for multi-label outputs."""
        return self.first.multilabel and self.then.multilabel

    def resolve(self, state: RoundState) -> Strategy:
        """The strategy that acts in this round."""
        seen = sum(count > 0 for count in state.per_class)
        ready = state.labels >= self.until and (not state.per_class or seen >= self.classes)
        return (self.then if ready else self.first).resolve(state)

    def select(self, query: Query) -> Tensor | Selection:
        """The choice of the strategy that acts for as many labels as the query holds."""
        counted = query.labels.dim() == 1  # (L,) class indices, not (L, C) sets of classes
        per_class = tuple(torch.bincount(query.labels, minlength=1).tolist()) if counted else ()
        return self.resolve(RoundState(labels=len(query.labels), per_class=per_class)).select(query)
