"""Generalised coverage: strategies that make every row of the pool similar to a labeled or selected row."""

import math
from dataclasses import dataclass

from torch import Tensor
from torch.nn import functional as F

from dal.functional.checking import MAX_SCALE, MIN_SCALE, Options
from dal.functional.drawing import some_rows
from dal.functional.herding import HerdingState, closest_distance, max_herding
from dal.functional.uncertainty import margin
from dal.outputs import log_probs
from dal.strategy import Query, Selection, Strategy

#: Labeled rows nearer than this count as duplicates, whose distance does not reflect the density of the labels.
DUPLICATE = 0.01

#: Minimum weight of a row, so that coverage is still defined when the model is certain of every row.
FLOOR = 1e-6


@dataclass(frozen=True)
class MaxHerding(Strategy):
    """Greedy maximisation of the pool's mean similarity to the nearest labeled or selected row.

    Each step selects `argmax_i mean_j max(0, k(x_i, x_j) - c_j)` with `k(x, y) = exp(-|x - y|^2 / sigma^2)` on the
    embeddings scaled to unit length, and c_j the similarity of row j to the most similar labeled or selected row:
    ProbCover with a smooth ball, much less sensitive to its radius. The score is the gain; the note `coverage` is the
    final mean of c_j.

    Approximation for large pools: beyond `targets` rows, a random sample of that size represents the pool; any row can
    still be selected. Lazy greedy evaluation costs about one comparison of all rows with all targets. Extra memory: one
    copy of the embeddings, five of the targets', and O(N) numbers.

    Bae, Noh and Sutherland 2024, "Generalized Coverage for More Robust Low-Budget Active Learning".

    Args:
        sigma: bandwidth of the kernel.
        targets: maximum number of rows that represent the pool.
        space: output in which distances are computed.
    """

    sigma: float = 1.0
    targets: int = 4_000
    space: str = "embeddings"
    multilabel = True
    paper = "Bae et al. 2024"
    advice = "The first tens of labels: representative and spread out, no model needed. Later, uncertainty pays more."

    def __post_init__(self) -> None:
        Options(self).number("sigma", least=MIN_SCALE, most=MAX_SCALE).whole("targets", least=1).vectors("space")

    @property
    def needs(self) -> frozenset[str]:  # type: ignore[override]
        """The chosen space."""
        return frozenset({self.space})

    @property
    def labeled_needs(self) -> frozenset[str]:  # type: ignore[override]
        """The chosen space."""
        return frozenset({self.space})

    def select(self, query: Query) -> Selection:
        """Select n positions, in greedy order."""
        x, labeled = _at_unit_length(query, self.space)
        sample = some_rows(len(x), self.targets, generator=query.generator).to(x.device)
        herd = max_herding(x, query.n, targets=_rows(x, sample), centers=labeled, sigma=self.sigma)
        return _selection(herd)


@dataclass(frozen=True)
class UHerding(Strategy):
    """`MaxHerding` with every row weighted by the uncertainty of the model.

    Each step selects `argmax_i mean_j u_j max(0, k(x_i, x_j) - c_j)`, with u_j one minus the margin of row j
    (multi-label: mean over the classes). The bandwidth sigma is the smallest distance between two labeled rows. While
    labels are few and far apart, the kernel is wide and the selection resembles MaxHerding; with many labels it narrows
    until a row covers little but itself, as in Margin. Labeled rows nearer than 0.01 count as duplicates; if no two
    other rows remain, sigma is 1. The score is the gain; the notes are `sigma`, and `coverage`, the mean of u_j c_j.

    The published method also calibrates the model on held-out labels in every round. A strategy has no access to the
    model, so `temperature` is an option here. Approximation and memory are those of MaxHerding.

    Bae, Oliveira and Sutherland 2025, "Uncertainty Herding: One Active Learning Method for All Label Budgets".

    Args:
        sigma: bandwidth of the kernel; `None` for the smallest distance between two labeled rows.
        temperature: divisor of the logits; above 1 for an overconfident model.
        targets: maximum number of rows that represent the pool.
        space: output in which distances are computed.
    """

    sigma: float | None = None
    temperature: float = 1.0
    targets: int = 4_000
    space: str = "embeddings"
    multilabel = True
    paper = "Bae et al. 2025"
    advice = (
        "One method from tens to thousands of labels; needs a trained model. An overconfident one needs temperature."
    )

    def __post_init__(self) -> None:
        options = Options(self)
        options.number("temperature", least=MIN_SCALE, most=MAX_SCALE)
        options.number("sigma", least=MIN_SCALE, most=MAX_SCALE, optional=True)
        options.whole("targets", least=1).vectors("space")

    @property
    def needs(self) -> frozenset[str]:  # type: ignore[override]
        """The logits and the chosen space."""
        return frozenset({"logits", self.space})

    @property
    def labeled_needs(self) -> frozenset[str]:  # type: ignore[override]
        """The chosen space."""
        return frozenset({self.space})

    def select(self, query: Query) -> Selection:
        """Select n positions, in greedy order."""
        x, labeled = _at_unit_length(query, self.space)
        sigma = self.sigma
        if sigma is None:
            closest = closest_distance(labeled, beyond=DUPLICATE)
            sigma = closest if math.isfinite(closest) else 1.0
        sample = some_rows(len(x), self.targets, generator=query.generator).to(x.device)
        probs = log_probs(query.pool.logits[sample] / self.temperature, query.pool.multilabel).exp()  # (M, C)
        uncertainty = (1 - margin(probs, multilabel=query.pool.multilabel)).clamp(FLOOR, 1)
        herd = max_herding(x, query.n, targets=_rows(x, sample), centers=labeled, weights=uncertainty, sigma=sigma)
        return _selection(herd, sigma=sigma)


def _at_unit_length(query: Query, space: str) -> tuple[Tensor, Tensor]:
    x = F.normalize(query.pool[space], dim=1)  # (N, E)
    return x, F.normalize(query.labeled[space], dim=1) if len(query.labeled) else x[:0]


def _rows(x: Tensor, sample: Tensor) -> Tensor:
    return x if len(sample) == len(x) else x[sample]


def _selection(herd: HerdingState, **notes: float) -> Selection:
    return Selection(herd.positions, herd.gains, {**notes, "coverage": herd.coverage})
