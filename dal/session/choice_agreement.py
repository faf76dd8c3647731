"""Whether two models, trained on the same labels, would choose the same rows."""

import math
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from dal.errors import NeedError
from dal.functional.uncertainty import margin
from dal.learner import Learner, Predictor, Prepared
from dal.outputs import Outputs, closure
from dal.session.acquisition import select_rows
from dal.session.checked_arguments import check_needs
from dal.session.seeds import Seeds
from dal.strategy import RoundState, Strategy, all_needs


@dataclass(frozen=True)
class ChoiceAgreement:
    """Agreement of the choices of two models on a sample of unlabeled rows.

    Attributes:
        rows: number of rows in the sample.
        n: number of rows that each model chooses.
        shared: number of rows that both choose; None if the strategy reads nothing, or what a model does not provide.
            Two random choices share `n * n / rows` rows on average.
        rank_correlation: Spearman correlation of the two margins over the sample; None if a model has no logits, or
            the same margin everywhere.
        percentile: mean share of the sample, 0 to 1, that has a larger margin under the second model than the rows
            that the first chooses; 1/2 for random rows; None where `shared` or the second model's margin is.
    """

    rows: int
    n: int
    shared: int | None
    rank_correlation: float | None
    percentile: float | None

    @property
    def details(self) -> dict[str, Any]:
        """The attributes as JSON values."""
        return asdict(self)


@dataclass(frozen=True, eq=False)
class Chooser:
    """A trained model to choose with: its learner, and the pool as prepared by that."""

    learner: Learner
    predictor: Predictor
    pool: Prepared


def choice_agreement(
    acting: Strategy,
    rows: Tensor,
    n: int,
    first: Chooser,
    second: Chooser,
    *,
    labeled: Tensor,
    labels: Tensor,
    seeds: Seeds,
    state: RoundState,
) -> ChoiceAgreement:
    """Choose n of the rows with each model, with the same random numbers, and compare.

    Args:
        acting: strategy that acts in this round.
        rows: (N,) int64 unlabeled rows of the pool.
        n: number of rows to choose, 1 <= n <= N.
        first: model that chooses now.
        second: model that the labels are meant for.
        labeled: (L,) int64 labeled rows of the pool.
        labels: their labels, (L,) int64 or (L, C) bool.
        seeds: random seeds of this round.
        state: state of the round.
    """
    multilabel = labels.dim() == 2
    chosen: list[Tensor | None] = []
    margins: list[Tensor | None] = []
    for model in (first, second):
        recorded = frozenset({"logits"}) & closure(model.learner.provides)
        if not all_needs(acting) or not _serves(acting, model, multilabel):
            chosen.append(None)
            read = model.predictor.outputs(model.pool, rows, recorded) if recorded else None
        else:
            selection, read, _ = select_rows(
                acting,
                rows,
                n,
                predictor=model.predictor,
                prepared=model.pool,
                labeled=labeled,
                labels=labels,
                seeds=seeds,
                state=state,
                recorded=recorded,
            )
            chosen.append(selection.positions)
        margins.append(_margins(read) if recorded and read is not None else None)
    shared = percentile = None
    if chosen[0] is not None and chosen[1] is not None:
        shared = int(torch.isin(chosen[0], chosen[1]).sum())
        if margins[1] is not None:
            percentile = float(_surer_share(margins[1])[chosen[0]].mean())
    return ChoiceAgreement(len(rows), n, shared, _rank_correlation(*margins), percentile)


def _serves(acting: Strategy, model: Chooser, multilabel: bool) -> bool:
    try:
        check_needs(acting, model.learner, multilabel=multilabel)
    except NeedError:
        return False
    return True


def _margins(outputs: Outputs) -> Tensor:
    """Margin of each row, (N,) float64 on the CPU; small where the model is unsure."""
    return margin(outputs.probs, multilabel=outputs.multilabel).double().cpu()


def _surer_share(margins: Tensor) -> Tensor:
    """Share of the other rows with a larger margin than each row, (N,); ties count half."""
    from scipy.stats import rankdata

    ranks = torch.from_numpy(rankdata(-margins.numpy()))  # 1 for the largest margin
    return (ranks - 1) / max(1, len(margins) - 1)


def _rank_correlation(first: Tensor | None, second: Tensor | None) -> float | None:
    """Spearman correlation; None if a side is missing or constant."""
    if first is None or second is None or len(first.unique()) < 2 or len(second.unique()) < 2:
        return None
    from scipy.stats import spearmanr

    found = float(spearmanr(first.numpy(), second.numpy()).statistic)
    return found if math.isfinite(found) else None
