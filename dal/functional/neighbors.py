"""Exact nearest neighbours, in blocks: never more than a block of the distances is held."""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from dal.functional.blocks import blocks
from dal.functional.points import Points, as_points, check_finite, recompute

#: An expanded squared distance is off by less than this many roundings of the sum of the squared norms.
ROUNDING = 32


@dataclass(frozen=True, eq=False)
class Neighbors:
    """The k nearest of every row, nearest first.

    Attributes:
        distances: (N, k).
        indices: (N, k) int64.
    """

    distances: Float[Tensor, "N k"]
    indices: Int64[Tensor, "N k"]


def k_nearest(
    points: Points | Float[Tensor, "N D"], k: int, *, among: Points | Float[Tensor, "M D"] | None = None
) -> Neighbors:
    """The k nearest of `among` for every point, exact, as `Neighbors`; without it, the k nearest other points.

    Of equally near ones the first are taken. A duplicate of a point is a neighbour at distance 0; the point is not its
    own.

    Raises:
        ValueError: there are fewer than k neighbours, or a point is not finite.

    >>> k_nearest(torch.tensor([[0.0], [1.0], [5.0]]), 1).indices
    tensor([[1],
            [0],
            [1]])
    """
    points = as_points(points)
    others = points if among is None else as_points(among)
    available = len(others) - (among is None)
    if not 1 <= k <= available:
        raise ValueError(f"{k} nearest neighbours were asked for among {available}")
    check_finite(points)
    check_finite(others)
    squared, indices = _k_nearest(points, others, k, themselves=among is None)
    return Neighbors(squared.sqrt(), indices)


def nearest_distance(
    points: Points | Float[Tensor, "N D"], *, among: Points | Float[Tensor, "M D"] | None = None
) -> Float[Tensor, " N"]:
    """Distance of every point to the nearest of `among`, (N,); without it, to the nearest other point.

    Infinite where there is none.

    >>> nearest_distance(torch.tensor([[0.0], [1.0], [5.0]]))
    tensor([1., 1., 4.])
    """
    available = len(points) - 1 if among is None else len(among)
    if available < 1:
        return as_points(points).squared_norms().fill_(torch.inf)
    return k_nearest(points, 1, among=among).distances.squeeze(1)


def nearest(points: Points, others: Points) -> tuple[Float[Tensor, " N"], Int64[Tensor, " N"]]:
    """Squared distance of every point to the nearest of M others (N,), and which one that is (N,).

    Of equally near ones the first is taken.
    """
    squared, indices = _k_nearest(points, others, 1, themselves=False)
    return squared.squeeze(1), indices.squeeze(1)


def _k_nearest(points: Points, others: Points, k: int, *, themselves: bool) -> tuple[Tensor, Tensor]:
    """Squared distances and indices (N, k) of the k nearest others, of which the points may be `themselves`."""
    squared = points.squared_norms().new_empty(len(points), k)
    indices = torch.empty(len(points), k, dtype=torch.int64, device=points.device)
    width = max(points.width, k, min(len(others), 512))
    for rows in blocks(len(points), width, points.device):
        own = torch.arange(rows.start, rows.stop, device=points.device)[:, None] if themselves else None
        squared[rows], indices[rows] = _k_nearest_of_block(points[rows], others, k, own)
    return squared, indices


def _k_nearest_of_block(points: Points, others: Points, k: int, own: Tensor | None) -> tuple[Tensor, Tensor]:
    """The same for one block of B points, of which `own` (B, 1) are the indices among the others.

    The expanded distances, with what rounding may have done to them, only tell which others can be among the nearest.
    Those are compared by differences: so equally near ones are equal, whatever the blocks.
    """
    best = points.squared_norms().new_empty(len(points), 0)  # (B, up to k)
    at = torch.empty(len(points), 0, dtype=torch.int64, device=points.device)
    for columns in blocks(len(others), len(points), points.device):
        index = torch.arange(columns.start, columns.stop, device=points.device).expand(len(points), -1)  # (B, M)
        block = others[columns]
        squared, sums = points.expanded_distances(block)  # type: ignore[arg-type]
        if own is not None:
            squared.masked_fill_(index == own, torch.inf)
        slack = sums.mul_(ROUNDING * torch.finfo(sums.dtype).eps)
        bound = _kth(torch.cat([best, squared + slack], 1), k)  # the k nearest are no farther than this
        possible = (squared - slack <= bound) & squared.isfinite()
        exact = recompute(points, block, squared.fill_(torch.inf), possible)
        best, at = torch.cat([best, exact], 1), torch.cat([at, index], 1)
        chosen = _smallest(best, min(k, best.shape[1]))
        best, at = best.gather(1, chosen), at.gather(1, chosen)
    return best, at


def _kth(values: Tensor, k: int) -> Tensor:
    """The k-th smallest value of every row, (B, 1); infinite where there are fewer."""
    if values.shape[1] < k:
        return values.new_full((len(values), 1), torch.inf)
    return values.amin(1, keepdim=True) if k == 1 else values.topk(k, 1, largest=False).values[:, -1:]


def _smallest(values: Tensor, k: int) -> Tensor:
    """Columns of the k smallest values of every row, smallest first, equal ones in order, (B, k).

    `topk` leaves open which of several equal values it takes: rows where that shows are sorted whole.
    """
    if k == 1:
        return values.argmin(1, keepdim=True)  # the first of equals, by contract
    found = values.topk(k, 1, largest=False)
    chosen = found.indices.sort(1).values
    chosen = chosen.gather(1, values.gather(1, chosen).argsort(dim=1, stable=True))  # (B, k)
    tied = ((values <= found.values[:, -1:]).sum(1) > k).nonzero().flatten()
    if len(tied):
        chosen[tied] = values[tied].argsort(dim=1, stable=True)[:, :k]
    return chosen
