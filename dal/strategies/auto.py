"""Automatic choice of a strategy by the number of labels."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType

import torch
from torch import Tensor
from torch.nn import functional as F

from dal.evaluation.agreement import kappa
from dal.functional.checking import Options
from dal.functional.drawing import spread_rows
from dal.functional.fold_predictions import fold_predictions
from dal.functional.signal import neighbor_agreement
from dal.strategies.batches import Diversified
from dal.strategies.composition import ComposedStrategy, Mixture
from dal.strategies.herding import MaxHerding, UHerding
from dal.strategies.random import Random
from dal.strategy import Query, RoundState, Selection, Strategy, choose

#: Minimum number of labels for the neighbour agreement to be meaningful, and for the agreement without a fifth of them.
_MIN_JUDGED, _MIN_STABLE = 30, 100

#: Parts of the labels that are left out in turn, so that there are at least as many labels of each class.
_FIFTHS = 5

#: Rows of the pool whose predictions are compared.
_COMPARED = 2000


@dataclass(frozen=True)
class Auto(ComposedStrategy):
    """Typical rows while labels are few, then uncertain and diverse ones; random where choosing does not pay.

    - `few` acts while a model trained on the labels would be unreliable: fewer than `per_class` labels per class on
      average, or fewer than two classes seen.
    - `many` acts afterwards.
    - `blind` replaces `many` while the nearest labeled neighbour in the embeddings has the same label no more often
      than expected by chance, each class counting the same (from 30 labels on, with two of each of two classes;
      single-label data only): the model's uncertainty is then mostly noise, and any other selection would only bias
      the sample.
    - `blind` also replaces `many` once choosing no longer pays, which is judged by how much the labels at hand still
      matter: linear classifiers on the embeddings without each fifth of the labels predict the pool like one on all of
      them (Cohen's kappa, mean over the fifths, of at least `stable`; from 100 labels on, five of each class among
      them; single-label data only). Random rows then also measure the quality without bias.
    - Classes without a label are found by the herding half of `many`; every batch reports their number.

    Every batch states which of the three acted and why (`Selection.reason`); a run logs it when it changes. Test-set
    metrics are never read.

    Hacohen, Dekel and Weinshall 2022, "Active Learning on a Budget: Opposite Strategies Suit High and Low Budgets";
    Bae, Oliveira and Sutherland 2025, "Uncertainty Herding: One Active Learning Method for All Label Budgets".

    Args:
        few: strategy while labels are few; usually label-free.
        many: strategy once the model is reliable.
        blind: strategy when the embeddings are uninformative about the labels, or choosing no longer pays.
        per_class: average number of labels per class from which on `many` acts.
        stable: kappa from which on choosing no longer pays, above 0 and at most 1; None to choose to the end.
    """

    few: Strategy = field(default_factory=MaxHerding)
    many: Strategy = field(default_factory=lambda: Mixture((UHerding(), Diversified())))
    blind: Strategy = field(default_factory=Random)
    per_class: float = 2.0
    stable: float | None = 0.97
    paper = "after Hacohen et al. 2022 and Bae et al. 2025"
    advice = "The default. Typical rows while labels are few, then uncertain and diverse ones; explains each change."
    earlier_values = MappingProxyType({"stable": None})

    def __post_init__(self) -> None:
        Options(self).number("per_class", least=0).number("stable", above=0, most=1, optional=True)

    @property
    def parts(self) -> tuple[Strategy, ...]:
        """The three strategies."""
        return self.few, self.many, self.blind

    @property
    def title(self) -> str:
        """The name alone, because the acting part changes from round to round."""
        return "Auto"

    @property
    def needs(self) -> frozenset[str]:  # type: ignore[override]
        """The needs of the parts, the embeddings for the neighbour agreement, and the logits for the class count."""
        return super().needs | {"embeddings", "logits"}

    @property
    def labeled_needs(self) -> frozenset[str]:  # type: ignore[override]
        """The labeled needs of the parts, and the embeddings for the neighbour agreement."""
        return super().labeled_needs | {"embeddings"}

    def resolve(self, state: RoundState) -> Strategy:
        """Return `few` while labels are few; afterwards this strategy, with its parts as they act in this round."""
        if self._reason_for_few(state):
            return self.few.resolve(state)
        acting = replace(self, many=self.many.resolve(state), blind=self.blind.resolve(state))
        return self if acting == self else acting

    def why(self, state: RoundState) -> str:
        """Explain why `few` acts; the selections of the later parts carry their own explanation."""
        return self._reason_for_few(state)

    def select(self, query: Query) -> Selection:
        """Return the selection of the acting part, with the reason why it acts."""
        state = _state(query)
        reason = self._reason_for_few(state)
        if reason:
            return replace(choose(self.few.resolve(state), query), reason=reason)
        labels = len(query.labels)
        agreement, above_chance = 0.0, 0.0
        if labels and query.labels.dim() == 1:
            embeddings: Tensor = query.labeled.embeddings
            agreement, above_chance = neighbor_agreement(F.normalize(embeddings, dim=1), query.labels)
        judged = query.labels.dim() == 1 and labels >= _MIN_JUDGED and sum(n > 1 for n in state.per_class) > 1
        if judged and above_chance <= 0:
            acting = self.blind
            reason = (
                f"{self.blind.title}: the nearest of {labels} labeled rows has the same label in {agreement:.0%} of "
                "cases (mean over classes), no more than by chance: the embeddings are uninformative about the labels"
            )
        elif self.stable is not None and (same := agreement_without_a_fifth(query, state.per_class)) >= self.stable:
            acting = self.blind
            reason = (
                f"{self.blind.title}: without a fifth of the {labels} labels a classifier predicts the pool almost as "
                f"with all of them (kappa {same:.3f}): choosing no longer pays, and random rows measure the quality"
            )
        else:
            acting = self.many
            unseen = sum(not count for count in state.per_class)
            # Accuracy hides classes that no row has been labeled with yet.
            hint = f", though {unseen} of {len(state.per_class)} classes have no label yet" if unseen else ""
            reason = f"{self.many.title}: {labels} labels, enough to rely on the model's uncertainty{hint}"
        selection = choose(acting.resolve(state), query)
        notes = {**selection.notes, "neighbor_agreement": agreement}
        return replace(selection, notes=notes, reason=reason)

    def _reason_for_few(self, state: RoundState) -> str:
        """Reason why a model would be unreliable; empty when there are enough labels."""
        classes = max(2, len(state.per_class))
        seen = sum(count > 0 for count in state.per_class)
        title = self.few.title
        if state.per_class and seen < 2:
            return f"{title}: {state.labels} labels in {seen} class{'es' if seen != 1 else ''}, which train no model"
        if state.labels < max(1, self.per_class * classes):
            return f"{title}: {state.labels} labels, fewer than {self.per_class:g} for each of {classes} classes"
        return ""


def _state(query: Query) -> RoundState:
    """The query's round state, with a count for every class of the model."""
    if query.labels.dim() == 2:
        counts = query.labels.sum(0)
    else:
        counts = torch.bincount(query.labels, minlength=query.pool.logits.shape[1])
    return replace(query.state, labels=len(query.labels), per_class=tuple(counts.tolist()))


def agreement_without_a_fifth(query: Query, per_class: Sequence[int]) -> float:
    """Mean kappa of classifiers without each fifth of the labels with one on all of them; 0 where there are too few.

    Args:
        query: query with the embeddings of the pool and the labeled rows.
        per_class: (C,) labels of each class.
    """
    if query.labels.dim() == 2 or len(query.labels) < _MIN_STABLE or min(per_class) < _FIFTHS:
        return 0.0
    rows = spread_rows(len(query.pool), _COMPARED).to(query.pool.device)
    sample: Tensor = query.pool.embeddings[rows]
    center = sample.float().mean(0)
    labeled, targets = (F.normalize(x.float() - center, dim=1) for x in (query.labeled.embeddings, sample))
    whole, *parts = fold_predictions(labeled, query.labels, targets, folds=_FIFTHS)
    C = len(per_class)
    tables = (torch.bincount(whole * C + part, minlength=C * C).view(C, C).cpu().numpy() for part in parts)
    values = [kappa(table) for table in tables]
    return sum(values) / len(values) if all(map(math.isfinite, values)) else 0.0
