"""Exact nearest neighbours, in blocks: never more than a block of the distances is held."""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from dal.functional.blocks import blocks
from dal.functional.points import Points, as_points, check_finite


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
    distances = points.squared_norms().new_empty(len(points), k)
    indices = torch.empty(len(points), k, dtype=torch.int64, device=points.device)
    for rows in blocks(len(points), max(points.width, k, 512), points.device):
        best, at = _nearest_of(points, rows, others, k, themselves=among is None)
        distances[rows], indices[rows] = best.sqrt(), at
    return Neighbors(distances, indices)


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


def _nearest_of(points: Points, rows: slice, others: Points, k: int, *, themselves: bool) -> tuple[Tensor, Tensor]:
    """Squared distances and indices (B, k) of the k nearest others of a block of rows, nearest first."""
    own = torch.arange(rows.start, rows.stop, device=points.device)[:, None]  # (B, 1)
    best = points[rows].squared_norms().new_empty(len(own), 0)
    at = own[:, :0]
    for columns in blocks(len(others), len(own), points.device):
        index = torch.arange(columns.start, columns.stop, device=points.device)[None]  # (1, M)
        squared = points[rows].squared_distances(others[columns])  # type: ignore[arg-type]
        if themselves:
            squared.masked_fill_(index == own, torch.inf)
        best = torch.cat([best, squared], 1)
        at = torch.cat([at, index.expand(len(own), -1)], 1)
        chosen = _smallest(best, min(k, best.shape[1]))
        best, at = best.gather(1, chosen), at.gather(1, chosen)
    return best, at


def _smallest(values: Tensor, k: int) -> Tensor:
    """Columns of the k smallest values of every row, smallest first, equal ones in order, (B, k).

    `topk` leaves open which of several equal values it takes: rows where that shows are sorted whole.
    """
    found = values.topk(k, 1, largest=False)
    chosen = found.indices.sort(1).values
    chosen = chosen.gather(1, values.gather(1, chosen).argsort(dim=1, stable=True))  # (B, k)
    tied = ((values <= found.values[:, -1:]).sum(1) > k).nonzero().flatten()
    if len(tied):
        chosen[tied] = values[tied].argsort(dim=1, stable=True)[:, :k]
    return chosen
