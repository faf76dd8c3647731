"""The strategy that chooses a strategy."""

from dataclasses import dataclass, field, replace

import torch
from torch import Tensor
from torch.nn import functional as F

from dal.functional.checking import Options
from dal.functional.signal import neighbor_agreement
from dal.strategies.batches import Diversified
from dal.strategies.composition import ComposedStrategy, Mixture
from dal.strategies.herding import MaxHerding, UHerding
from dal.strategies.random import Random
from dal.strategy import Query, RoundState, Selection, Strategy, choose

#: Labels below which the agreement of neighbours is not judged.
_JUDGED = 30


@dataclass(frozen=True)
class Auto(ComposedStrategy):
    """What suits the number of labels: typical rows first, then unsure and different ones; random where nothing helps.

    - `few` acts while a model of these labels could not be trusted: fewer than `per_class` labels for each class on
      average, or fewer than two classes seen.
    - Then `many` acts.
    - `blind` acts in the place of `many` while the nearest labeled neighbour in the embeddings has the same label no
      more often than chance (from 30 labels on; single-label data only): what a model is unsure of is then noise, and
      every other choice would only bias the sample.
    - A class without any label is what the herding half of `many` finds, and every batch says how many there still are.

    Every batch says in words which of the three acted and why (`Selection.why`); a run logs it when it changes. No
    figure of the test set is read.

    Hacohen, Dekel and Weinshall 2022, "Active Learning on a Budget: Opposite Strategies Suit High and Low Budgets";
    Bae, Oliveira and Sutherland 2025, "Uncertainty Herding: One Active Learning Method for All Label Budgets".

    Args:
        few: label-free, while labels are few.
        many: once a model can be trusted.
        blind: where the embeddings tell nothing about the labels.
        per_class: labels for each class, on average, from which on `many` acts.
    """

    few: Strategy = field(default_factory=MaxHerding)
    many: Strategy = field(default_factory=lambda: Mixture((UHerding(), Diversified())))
    blind: Strategy = field(default_factory=Random)
    per_class: float = 5.0
    paper = "after Hacohen et al. 2022 and Bae et al. 2025"
    advice = "The default. Typical rows while labels are few, then unsure and different ones; says why when it changes."

    def __post_init__(self) -> None:
        Options(self).number("per_class", least=0)

    @property
    def parts(self) -> tuple[Strategy, ...]:
        """All three."""
        return self.few, self.many, self.blind

    @property
    def title(self) -> str:
        """Its name alone: the parts change from round to round."""
        return "Auto"

    @property
    def needs(self) -> frozenset[str]:  # type: ignore[override]
        """What its parts read, the embeddings to judge by, and the logits, which tell how many classes there are."""
        return super().needs | {"embeddings", "logits"}

    @property
    def labeled_needs(self) -> frozenset[str]:  # type: ignore[override]
        """What its parts read, and the embeddings to judge by."""
        return super().labeled_needs | {"embeddings"}

    def resolve(self, state: RoundState) -> Strategy:
        """`few` while labels are few; itself afterwards, as its parts act in this round."""
        if self._few(state):
            return self.few.resolve(state)
        acting = replace(self, many=self.many.resolve(state), blind=self.blind.resolve(state))
        return self if acting == self else acting

    def why(self, state: RoundState) -> str:
        """Why `few` acts; what comes afterwards says so itself."""
        return self._few(state)

    def select(self, query: Query) -> Selection:
        """The choice of the part that acts, and why."""
        state = _state(query)
        why = self._few(state)
        if why:
            return replace(choose(self.few.resolve(state), query), why=why)
        agreement, above = self._signal(query)
        if above <= 0 and len(query.labels) >= _JUDGED and query.labels.dim() == 1:
            acting, why = (
                self.blind,
                (
                    f"{self.blind.title}: the nearest of {len(query.labels)} labeled rows has the same label in "
                    f"{agreement:.0%} of cases, no more than by chance: nothing tells which rows are worth asking"
                ),
            )
        else:
            acting = self.many
            why = f"{self.many.title}: {len(query.labels)} labels, enough to go by the model's doubt{_unseen(state)}"
        found = choose(acting.resolve(state), query)
        notes = {**found.notes, "neighbor_agreement": agreement}
        return replace(found, notes=notes, why=why)

    def _few(self, state: RoundState) -> str:
        """Why a model could not be trusted yet; empty when it could."""
        classes = max(2, len(state.per_class))
        seen = sum(count > 0 for count in state.per_class)
        title = self.few.title
        if state.per_class and seen < 2:
            return f"{title}: {state.labels} labels in {seen} class{'es' if seen != 1 else ''}, which train no model"
        if state.labels < max(1, self.per_class * classes):
            return f"{title}: {state.labels} labels, fewer than {self.per_class:g} for each of {classes} classes"
        return ""

    def _signal(self, query: Query) -> tuple[float, float]:
        if query.labels.dim() != 1 or not len(query.labels):
            return 0.0, 0.0
        embeddings: Tensor = query.labeled.embeddings
        return neighbor_agreement(F.normalize(embeddings, dim=1), query.labels)


def _unseen(state: RoundState) -> str:
    """How many classes nobody has given yet, which accuracy would hide; empty when none."""
    unseen = sum(not count for count in state.per_class)
    return f", though {unseen} of {len(state.per_class)} classes have no label yet" if unseen else ""


def _state(query: Query) -> RoundState:
    """What the query tells of the round, with a place for every class that the model knows."""
    if query.labels.dim() == 2:
        counts = query.labels.sum(0)
    else:
        counts = torch.bincount(query.labels, minlength=query.pool.logits.shape[1])
    return RoundState(labels=len(query.labels), per_class=tuple(counts.tolist()))
