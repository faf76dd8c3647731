"""Strategies that ask for what does not look labeled yet."""

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
    """The rows that a classifier of labeled against unlabeled rows is surest to be unlabeled.

    A logistic regression learns to tell the labeled rows from the pool; the rows of largest `P(unlabeled | x)` are
    chosen. They then count as labeled and it learns again, `sub_batches` times in all, so that one batch does
    not go to one place. The score is that probability, both sides counted alike. With nothing labeled the first row is
    the one nearest the mean of the pool, with score 1.

    Published with a small network; a linear one is convex, so the choice does not hang on its training. It learns on
    features about their mean and divided by their mean length, and on at most `sample` rows of each side, drawn again
    for every sub-batch. Extra memory: `6 sample D + 3 D^2 + O(N)` numbers.

    Gissin and Shalev-Shwartz 2019, "Discriminative Active Learning".

    Args:
        sub_batches: in how many parts the n rows are chosen.
        penalty: strength of the L2 regularisation.
        sample: rows of each side to learn from, at most.
        space: the name of the outputs to look at.
    """

    sub_batches: int = 10
    penalty: float = 0.01
    sample: int = 4_000
    space: str = "features"
    multilabel = True
    paper = "Gissin and Shalev-Shwartz 2019"
    advice = "Large batches that shall look like the pool as a whole. Blind to the classes; weak with very few labels."

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
        """n positions, sub-batch by sub-batch."""
        x = query.pool[self.space]
        view = _View.of(x)
        labeled = view(query.labeled[self.space]) if len(query.labeled) else x[:0]
        free = torch.ones(len(x), dtype=torch.bool, device=x.device)
        positions = torch.empty(0, dtype=torch.int64, device=x.device)
        scores: list[Tensor] = []
        if not len(labeled):
            positions = view.lengths(x).argmin().view(1)
            free[positions] = False
            scores.append(x.new_ones(1))
        plane: Plane | None = None
        for size in _parts(query.n - len(positions), self.sub_batches):
            known = self._some(torch.cat([labeled, view(x[positions])]), query)
            unknown = view(x[self._some(free.nonzero().flatten(), query)])
            plane = separate(known, unknown, penalty=self.penalty, start=plane)
            z = view.heights(x, plane)  # (N,)
            picks = top(z.masked_fill(~free, -torch.inf), size, generator=query.generator)
            free[picks] = False
            positions = torch.cat([positions, picks])
            scores.append(z[picks].sigmoid())
        return Selection(positions, torch.cat(scores))

    def _some(self, rows: Tensor, query: Query) -> Tensor:
        return rows[some_rows(len(rows), self.sample, generator=query.generator).to(rows.device)]


@dataclass(frozen=True, eq=False)
class _View:
    """Rows about the mean of the pool and of mean squared length 1, so that the penalty means the same everywhere."""

    mean: Tensor
    scale: Tensor

    @classmethod
    def of(cls, x: Tensor) -> "_View":
        view = cls(x.mean(0), x.new_ones(()))
        spread = view.lengths(x).double().mean().sqrt().to(x.dtype)
        return cls(view.mean, torch.where(spread > 0, 1 / spread, view.scale))

    def __call__(self, x: Tensor) -> Tensor:
        return (x - self.mean) * self.scale

    def lengths(self, x: Tensor) -> Tensor:
        """Squared length of every row, (N,)."""
        return torch.cat([self(x[rows]).square().sum(1) for rows in blocks(len(x), x.shape[1], x.device)])

    def heights(self, x: Tensor, plane: Plane) -> Tensor:
        """How far every row is on the second side of the plane, (N,)."""
        weight, bias = plane.weight.to(x.dtype), plane.bias.to(x.dtype)
        return torch.cat([self(x[rows]) @ weight + bias for rows in blocks(len(x), x.shape[1], x.device)])


def _parts(n: int, parts: int) -> list[int]:
    """n in so many parts that differ by one at most, none of them empty."""
    return [len(range(part, n, parts)) for part in range(min(n, parts))]
