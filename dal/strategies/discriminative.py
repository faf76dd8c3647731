"""Discriminative active learning: selects rows that are easy to distinguish from the labeled ones."""

from dataclasses import dataclass

import torch
from torch import Tensor

from dal.functional.blocks import blocks
from dal.functional.checking import Options
from dal.functional.drawing import some_rows
from dal.functional.logistic import Plane, separate
from dal.functional.ranking import top
from dal.strategy import Query, Selection, Strategy


@dataclass(frozen=True)
class Discriminative(Strategy):
    """Rows with the highest probability of being unlabeled under a classifier of labeled versus unlabeled rows.

    A logistic regression is trained to distinguish labeled rows from the pool, and the rows of largest
    `P(unlabeled | x)` are selected. They then count as labeled and the classifier is trained again, `sub_batches` times
    in total, so that a batch does not concentrate in one region. The score is that probability, with both sides
    weighted equally. Without labeled rows, the first row is the one nearest the mean of the pool, with score 1.

    The publication uses a small network; the linear classifier is convex, so its result is independent of the
    initialisation. It is trained on features that are centered and scaled to mean squared length 1, and on at most
    `sample` rows of each side, drawn again for every sub-batch. Extra memory: `6 sample D + 3 D^2 + O(N)` numbers.

    Gissin and Shalev-Shwartz 2019, "Discriminative Active Learning".

    Args:
        sub_batches: number of parts in which the n rows are selected.
        penalty: strength of the L2 regularisation.
        sample: maximum number of training rows on each side.
        space: output that the classifier is trained on.
    """

    sub_batches: int = 10
    penalty: float = 0.01
    sample: int = 4_000
    space: str = "features"
    multilabel = True
    paper = "Gissin and Shalev-Shwartz 2019"
    advice = "Large batches that should resemble the pool as a whole. Ignores classes; weak with very few labels."

    def __post_init__(self) -> None:
        Options(self).whole("sub_batches", "sample", least=1).number("penalty", above=0).vectors("space")

    @property
    def needs(self) -> frozenset[str]:  # type: ignore[override]
        """The chosen space."""
        return frozenset({self.space})

    @property
    def labeled_needs(self) -> frozenset[str]:  # type: ignore[override]
        """The chosen space."""
        return frozenset({self.space})

    def select(self, query: Query) -> Selection:
        """Select n positions, sub-batch by sub-batch."""
        x = query.pool[self.space]
        scaling = _Standardization.of(x)
        labeled = scaling(query.labeled[self.space]) if len(query.labeled) else x[:0]
        free = torch.ones(len(x), dtype=torch.bool, device=x.device)
        positions = torch.empty(0, dtype=torch.int64, device=x.device)
        scores: list[Tensor] = []
        if not len(labeled):
            positions = scaling.squared_norms(x).argmin().view(1)
            free[positions] = False
            scores.append(x.new_ones(1))
        plane: Plane | None = None
        left = query.n - len(positions)
        parts = min(left, self.sub_batches)
        for size in [len(range(part, left, parts)) for part in range(parts)]:  # these differ by at most one
            known = self._sampled(torch.cat([labeled, scaling(x[positions])]), query)
            unknown = scaling(x[self._sampled(free.nonzero().flatten(), query)])
            # From the last plane, as few rows have changed sides; the optimum is unique, so this only saves steps.
            plane = separate(known, unknown, penalty=self.penalty, start=plane)
            logits = scaling.logits(x, plane)  # (N,)
            # By logits, not probabilities, which round to 1 for many rows that differ in their logits.
            picks = top(logits.masked_fill(~free, -torch.inf), size, generator=query.generator)
            free[picks] = False
            positions = torch.cat([positions, picks])
            scores.append(logits[picks].sigmoid())
        return Selection(positions, torch.cat(scores))

    def _sampled(self, rows: Tensor, query: Query) -> Tensor:
        return rows[some_rows(len(rows), self.sample, generator=query.generator).to(rows.device)]


@dataclass(frozen=True, eq=False)
class _Standardization:
    """Centers rows on the mean of the pool and scales them to mean squared length 1.

    The penalty then has the same effect for features of any scale.
    """

    mean: Tensor
    scale: Tensor

    @classmethod
    def of(cls, x: Tensor) -> "_Standardization":
        centered = cls(x.mean(0), x.new_ones(()))
        spread = centered.squared_norms(x).double().mean().sqrt().to(x.dtype)
        return cls(centered.mean, torch.where(spread > 0, 1 / spread, centered.scale))

    def __call__(self, x: Tensor) -> Tensor:
        return (x - self.mean) * self.scale

    def squared_norms(self, x: Tensor) -> Tensor:
        """Squared length of every standardized row, (N,)."""
        return torch.cat([self(x[rows]).square().sum(1) for rows in blocks(len(x), x.shape[1], x.device)])

    def logits(self, x: Tensor, plane: Plane) -> Tensor:
        """Logit of the second side (unlabeled) for every row, (N,)."""
        weight, bias = plane.weight.to(x.dtype), plane.bias.to(x.dtype)
        return torch.cat([self(x[rows]) @ weight + bias for rows in blocks(len(x), x.shape[1], x.device)])
