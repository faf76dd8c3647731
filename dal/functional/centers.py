"""Distances of points to the nearest of a growing list of centers: cheap upper bounds, and exact values for a few."""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from dal.functional.blocks import blocks
from dal.functional.points import Points
from dal.functional.row_source import PoolPoints

#: Maximum number of elements in a table of distances: 8 MiB of float32.
TABLE = 2**21

#: Number of centers compared in float64 at once.
WIDE = 1024


@dataclass(frozen=True, eq=False)
class Measured:
    """Points relative to a common origin, with squared norms (M,) raised by the maximum rounding error."""

    points: Points
    norms: Float[Tensor, " M"]

    def __getitem__(self, index: Tensor | slice) -> "Measured":
        return Measured(self.points[index], self.norms[index])

    def __len__(self) -> int:
        return len(self.points)

    def table(self, others: "Measured") -> Float[Tensor, "N M"]:
        """Upper bounds of all squared distances (N, M), too large by at most `2 rounding(|x|^2 + |y|^2)`."""
        inner = self.points.inner_products(others.points)  # type: ignore[arg-type]
        return inner.mul_(-2).add_(self.norms[:, None]).add_(others.norms)


def measured(points: Points, origin: Tensor | None) -> Measured:
    """Convert points to `Measured`, relative to an origin (`None` leaves them in place)."""
    points = points.shifted(origin)
    return Measured(points, points.squared_norms().mul_(1 + rounding(points)))


def rounding(points: PoolPoints) -> float:
    """Error bound of expanded squared distances relative to `|x|^2 + |y|^2`, for any order of summation.

    The error of a sum of D products is at most D units (eps / 2) times the sum of their magnitudes, which by
    Cauchy-Schwarz is at most half of `|x|^2 + |y|^2`. The rest covers the norms and the other operations.
    """
    return (1.25 * points.width + 16) * torch.finfo(points.dtype).eps / 2


class Centers:
    """Growing list of centers: the given ones followed by the picks, in the order in which points are measured.

    Holds (L + room) * (D + 2) numbers.

    Args:
        points: N points from which the picks come.
        given: L initial centers without duplicates.
        room: maximum number of picks.
        origin: origin that limits cancellation in inner products (`Points.origin`); `None` for zero.
    """

    def __init__(self, points: PoolPoints, given: Points, room: int, origin: Tensor | None) -> None:
        self.points, self.given, self.origin = points, given, origin
        self.picks = torch.empty(room, dtype=torch.int64, device=points.device)
        self._near = points.empty(len(given) + room)
        self._norms = torch.empty(len(given) + room, dtype=points.dtype, device=points.device)
        self._length = 0
        self._put(given)

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, part: slice) -> Measured:
        start, stop, _ = part.indices(self._length)
        return Measured(self._near[start:stop], self._norms[start:stop])

    def add(self, picks: Int64[Tensor, " P"]) -> None:
        """Append the points at these positions to the centers."""
        made = self._length - len(self.given)
        self.picks[made : made + len(picks)] = picks
        self._put(self.points[picks])

    def _put(self, points: Points) -> None:
        part = slice(self._length, self._length + len(points))
        new = self._measured(points)
        self._near.put(part, new.points)  # type: ignore[arg-type]
        self._norms[part] = new.norms
        self._length = part.stop

    def _measured(self, points: Points) -> Measured:
        return measured(points, self.origin)

    def bounds(self, points: Points, part: slice) -> Float[Tensor, " R"]:
        """Upper bounds of the squared distances of R points to the nearest center of a slice, (R,)."""
        near, others = self._measured(points), self[part]
        inner = near.points.inner_products(others.points)  # type: ignore[arg-type]
        return torch.sub(others.norms, inner, alpha=2, out=inner).amin(1).add_(near.norms)

    def exact(self, rows: Int64[Tensor, " R"], start: int, below: Float[Tensor, " R"]) -> Float[Tensor, " R"]:
        """Squared distances of the points at `rows` to the nearest center from index `start` on, float64, (R,).

        The result is capped at `below` (R,) float64. Expanded distances determine the centers that can be nearest, and
        these are compared by differences in float64.
        """
        best = below.clone()
        others = self[start:]
        spare = others.norms * (2 * rounding(self.points))
        for part in torch.arange(len(rows), device=rows.device).split(max(16, TABLE // max(1, len(others)))):
            near = self._measured(self.points[rows[part]])
            table = near.table(others)
            bound = torch.minimum(table.amin(1), below[part].to(table.dtype)) + near.norms * (
                2.1 * rounding(near.points)
            )
            possible = table.sub_(spare) <= bound[:, None]
            i, k = possible.nonzero(as_tuple=True)
            if len(i) > 4 * len(near) + 64:  # differences of so many pairs would cost more than float64 products
                i, k = self._narrowed(rows[part], possible, start)
            squared = self._differences(rows[part][i], k + start)
            best[part] = best[part].scatter_reduce(0, i, squared, "amin")
        return best

    def _narrowed(self, rows: Tensor, possible: Tensor, start: int) -> tuple[Tensor, Tensor]:
        """Pairs of points and their first nearest center by float64 expanded distances, used when many centers tie."""
        best = torch.full((len(rows),), torch.inf, dtype=torch.float64, device=rows.device)
        at = torch.full_like(rows, -1)
        x = self.points[rows].to(torch.float64).shifted(self.origin)
        norms = x.squared_norms()
        for columns in possible.any(0).nonzero().flatten().split(WIDE):
            y = self._raw(columns + start).to(torch.float64).shifted(self.origin)
            sums = norms[:, None] + y.squared_norms()
            squared = (sums - 2 * x.inner_products(y)).masked_fill_(~possible[:, columns], torch.inf)  # type: ignore[arg-type]
            slack = sums.mul_(64 * torch.finfo(torch.float64).eps)
            lowest = squared.amin(1)
            nearest = (squared <= lowest[:, None] + slack).int().argmax(1)  # the first of equals
            found = nearest[:, None]
            better = lowest < best - slack.gather(1, found).squeeze(1)
            best = torch.where(better, lowest, best)
            at = torch.where(better, columns[nearest], at)
        i = (at >= 0).nonzero().flatten()
        return i, at[i]

    def _differences(self, rows: Tensor, centers: Tensor) -> Float[Tensor, " P"]:
        """Squared distances between pairs of points at `rows` and centers at these indices, in float64, (P,)."""
        squared = torch.empty(len(rows), dtype=torch.float64, device=rows.device)
        for pairs in blocks(len(rows), self.points.width, rows.device):
            squared[pairs] = self.points[rows[pairs]].squared_differences(self._raw(centers[pairs]))  # type: ignore[arg-type]
        return squared

    def _raw(self, centers: Tensor) -> Points:
        """The centers at these indices, in their original coordinates."""
        given = centers < len(self.given)
        if bool(given.all()):
            return self.given[centers]
        raw = self._picked((centers - len(self.given)).clamp_min_(0))
        raw.put(given, self.given[centers[given]])  # type: ignore[arg-type]
        return raw

    def _picked(self, numbers: Tensor) -> Points:
        """Copies of the picks with these numbers, in their original coordinates."""
        return self.points[self.picks[numbers]]
