"""Strategies that choose rows so that every row of the pool resembles one of them."""

import math
from dataclasses import dataclass

from torch import Tensor
from torch.nn import functional as F

from dal.functional.checking import LEAST_SCALE, MOST_SCALE, Options
from dal.functional.drawing import some_rows
from dal.functional.herding import HerdingState, closest_distance, max_herding
from dal.functional.uncertainty import margin
from dal.outputs import log_probs
from dal.strategy import Query, Selection, Strategy

#: Labeled rows nearer than this are duplicates, which say nothing about how dense the labels are.
DUPLICATE = 0.01

#: What a row of which the model is entirely sure still counts, so that something is left to cover.
FLOOR = 1e-6


@dataclass(frozen=True)
class MaxHerding(Strategy):
    """The row that most raises the pool's similarity to what is labeled or chosen, again and again.

    `argmax_i mean_j max(0, k(x_i, x_j) - c_j)` with `k(x, y) = exp(-|x - y|^2 / sigma^2)` on the embeddings at unit
    length, and c_j the similarity of row j to the most similar labeled or chosen row: ProbCover with a smooth ball,
    which hangs far less on its radius. The score is that gain; the note `coverage` is the mean of c_j in the end.

    An approximation for large pools: beyond `targets` rows, as many drawn at random stand for the pool; any row may
    still be chosen. Lazy greedy, so about one comparison of all rows with all targets. Extra memory: one copy of the
    embeddings, five of the targets', and O(N) numbers.

    Bae, Noh and Sutherland 2024, "Generalized Coverage for More Robust Low-Budget Active Learning".

    Args:
        sigma: bandwidth of the kernel.
        targets: how many rows stand for the pool at most.
        space: the name of the outputs whose distances count.
    """

    sigma: float = 1.0
    targets: int = 4_000
    space: str = "embeddings"
    multilabel = True
    paper = "Bae et al. 2024"
    advice = "The first tens of labels: representative and spread out, no model needed. Later, uncertainty pays more."

    def __post_init__(self) -> None:
        Options(self).number("sigma", least=LEAST_SCALE, most=MOST_SCALE).whole("targets", least=1).vectors("space")

    @property
    def needs(self) -> frozenset[str]:  # type: ignore[override]
        """The chosen space."""
        return frozenset({self.space})

    @property
    def labeled_needs(self) -> frozenset[str]:  # type: ignore[override]
        """The chosen space."""
        return frozenset({self.space})

    def select(self, query: Query) -> Selection:
        """n positions in greedy order."""
        x, labeled = _at_unit_length(query, self.space)
        some = some_rows(len(x), self.targets, generator=query.generator).to(x.device)
        herd = max_herding(x, query.n, targets=_rows(x, some), centers=labeled, sigma=self.sigma)
        return _selection(herd)


@dataclass(frozen=True)
class UHerding(Strategy):
    """`MaxHerding` of the rows that the model is unsure of.

    `argmax_i mean_j u_j max(0, k(x_i, x_j) - c_j)`, with u_j one minus the margin of row j (multi-label: the mean over
    the classes), and as bandwidth sigma the smallest distance of two labeled rows. While labels are few they lie far
    apart and all of the pool counts, as in MaxHerding; when they are many the kernel narrows down and only
    the row's own uncertainty is left, as in Margin. Labeled rows nearer than 0.01 are taken for duplicates; with fewer
    than two others, sigma is 1. The score is the gain; the notes are `sigma`, and `coverage`, the mean of u_j c_j.

    The published method also calibrates the model on held-out labels every round. A strategy holds no model that it
    could train for that: `temperature` is an option. Approximation and memory are those of MaxHerding.

    Bae, Oliveira and Sutherland 2025, "Uncertainty Herding: One Active Learning Method for All Label Budgets".

    Args:
        sigma: bandwidth of the kernel; None for the smallest distance of two labeled rows.
        temperature: the logits are divided by it; above 1 for a model that is too sure of itself.
        targets: how many rows stand for the pool at most.
        space: the name of the outputs whose distances count.
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
        options.number("temperature", least=LEAST_SCALE, most=MOST_SCALE)
        options.number("sigma", least=LEAST_SCALE, most=MOST_SCALE, optional=True)
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
        """n positions in greedy order."""
        x, labeled = _at_unit_length(query, self.space)
        sigma = _bandwidth(labeled) if self.sigma is None else self.sigma
        some = some_rows(len(x), self.targets, generator=query.generator).to(x.device)
        probs = log_probs(query.pool.logits[some] / self.temperature, query.pool.multilabel).exp()  # (M, C)
        unsure = (1 - margin(probs, multilabel=query.pool.multilabel)).clamp(FLOOR, 1)
        herd = max_herding(x, query.n, targets=_rows(x, some), centers=labeled, weights=unsure, sigma=sigma)
        return _selection(herd, sigma=sigma)


def _at_unit_length(query: Query, space: str) -> tuple[Tensor, Tensor]:
    x = F.normalize(query.pool[space], dim=1)  # (N, E)
    return x, F.normalize(query.labeled[space], dim=1) if len(query.labeled) else x[:0]


def _rows(x: Tensor, some: Tensor) -> Tensor:
    return x if len(some) == len(x) else x[some]


def _bandwidth(labeled: Tensor) -> float:
    """The smallest distance of two labeled rows that are no duplicates; 1 where there are none."""
    closest = closest_distance(labeled, beyond=DUPLICATE)
    return closest if math.isfinite(closest) else 1.0


def _selection(herd: HerdingState, **notes: float) -> Selection:
    return Selection(herd.positions, herd.gains, {**notes, "coverage": herd.coverage})
