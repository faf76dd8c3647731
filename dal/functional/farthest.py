"""Farthest-first selection with lazy upper bounds: exact distances are computed only for points that can win.

Worked example: six points on a line, one given center at 0, windows of two points. All distances are squared.

>>> from dal.functional.centers import Centers
>>> from dal.functional.points import DensePoints
>>> points = DensePoints(torch.tensor([[1.0], [3.0], [9.0], [10.0], [6.0], [2.0]]))
>>> centers = Centers(points, DensePoints(torch.zeros(1, 1)), 3, None)
>>> upper = torch.tensor([1.0, 9.0, 81.0, 100.0, 36.0, 4.0], dtype=torch.float64)  # to the center 0, so checked = 1
>>> search = FarthestFirst(centers, upper, checked=1, window=2)
>>> search.pick(3), search.centers.picks
(tensor([100.,  16.,   9.], dtype=torch.float64), tensor([3, 4, 1]))
>>> search.checked
tensor([1, 4, 2, 2, 4, 2], dtype=torch.int32)

1. The first window holds positions 3 and 2 (bounds 100 and 81); the largest bound outside is 36. Position 3 wins with
   100. The new center 10 lowers position 2 to (10 - 9)^2 = 1, below 36, so the window ends. The bounds of the others
   are stale now, but still valid upper bounds: a distance to the nearest center never grows.
2. For the next window, `_freshen` measures the stale points with the largest bounds against the center 10: position 4
   falls from 36 to min(36, 16) = 16, position 1 stays at min(9, 49) = 9. Nothing else can be among the two largest.
   The largest bound outside is 4 (position 5), which `_filled_window` made exact along with the two.
3. Position 4 wins with 16; its distance 9 to position 1 leaves that at min(9, 9) = 9. Both exceed the 4 outside, so
   position 1 is the third pick. The picks 100, 16, 9 are those of an exhaustive search.
4. Position 0 still has `checked` = 1: its bound 1 was never among the largest, so it was compared with no pick at all.

Invariants to keep: no bound in `upper` is below the true value, and picks have -1; a pick is made only if it exceeds
every bound outside its window by more than the rounding errors; all other comparisons are made in float64 (`_settle`).
"""

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from dal.functional.centers import TABLE, Centers, measured, rounding
from dal.functional.points import check_finite
from dal.functional.ranking import top
from dal.functional.row_source import PoolPoints
from dal.functional.window import pick_block, rounding_error_bound

#: Number of rows whose bounds are updated at once.
BATCH, ACCELERATOR_BATCH = 1024, 8192

#: Number of rows compared with a mean in float64 at once.
EXACT = 256

#: Maximum number of rows compared in float64 when too many are equally far for a window.
TIED = 4096

#: Number of picks between two synchronisations with the device.
BLOCK, ACCELERATOR_BLOCK = 16, 64

#: Sizes of the first and of the largest window, in rows.
WINDOW, ACCELERATOR_WINDOW = (256, 512), (1024, 2048)


class FarthestFirst:
    """Repeatedly picks the point farthest from all centers; ties go to the lowest position.

    A squared distance to the nearest center never grows, so any earlier value is an upper bound. `upper` (N,) float64
    holds such bounds, and -1 for picked points. `checked` (N,) is the number of leading centers that a bound accounts
    for, up to rounding; `exact` (N,) the number of those for which it is the exact float64 value, or 0.

    Picks come from a window: the points with the largest bounds, made exact, and the table of their mutual distances
    in float64. The farthest point of the window wins while it exceeds every bound outside. Ties, and comparisons that
    rounding in float64 leaves open, are decided by `_settle`.

    Args:
        centers: initial centers; must not be empty.
        upper: (N,) float64, valid upper bounds of the squared distances.
        checked: number of leading centers that the bounds account for.
        window: number of rows in a window; adapted to the data by default.
    """

    def __init__(self, centers: Centers, upper: Float[Tensor, " N"], checked: int, window: int | None = None) -> None:
        self.centers, self.upper = centers, upper
        self.points = centers.points
        self.checked = torch.full((len(upper),), checked, dtype=torch.int32, device=upper.device)
        self.exact = torch.zeros_like(self.checked)
        on_cpu = upper.device.type == "cpu"
        self._block = BLOCK if on_cpu else ACCELERATOR_BLOCK
        self._batch = BATCH if on_cpu else ACCELERATOR_BATCH
        smallest, largest = WINDOW if on_cpu else ACCELERATOR_WINDOW
        self._window, self._largest = (smallest, largest) if window is None else (window, window)
        self._smallest = self._window
        self._squared: list[Tensor] = []
        self._removed = len(centers) - len(centers.given)

    def pick(self, count: int) -> Float[Tensor, " count"]:
        """Make `count` picks and return their squared distances at selection, (count,) float64.

        The positions are appended to `centers.picks`.
        """
        left, without_window = count, 1
        while left:
            made = self._pick_in_window(left)
            if made:
                without_window = 1
            else:  # too many ties for a window: try the next one only after more and more picks without
                made = self._pick_among_equals(min(left, without_window))
                without_window *= 2
            left -= made
        return torch.cat([*self._squared, self.upper[:0]])

    def farthest_left(self) -> float:
        """Largest squared distance among the points not picked; 0 if all are picked."""
        if not self._left():
            return 0.0
        self._filled_window(1)  # cheap: lowers most bounds without float64
        while True:
            rows, outside = self._largest_bounds()
            winner = self._settle(rows)
            if self._precedes(winner, outside):
                return float(self.upper[winner])

    def leaders(self, size: int) -> tuple[Int64[Tensor, " W"], Int64[Tensor, " O"]]:
        """The `size` farthest rows by (distance, position), with exact bounds, and the next row, if there is one."""
        left = self._left()
        if not left:
            return self.checked[:0].long(), self.checked[:0].long()
        self._filled_window(size)
        order = top(self.upper, min(size + 1, left))
        return order[:size], order[size:]

    def remove(self, rows: Int64[Tensor, " P"]) -> None:
        """Mark rows as picked."""
        self.upper[rows] = -1
        self._removed += len(rows)

    def set_exact(self, rows: Int64[Tensor, " R"], squared: Float[Tensor, " R"]) -> None:
        """Set the exact float64 squared distances of rows to the nearest center."""
        self.upper[rows] = squared
        self.checked[rows] = self.exact[rows] = len(self.centers)

    def _take(self, rows: Int64[Tensor, " P"], squared: Float[Tensor, " P"]) -> None:
        self.centers.add(rows)
        self.remove(rows)
        self._squared.append(squared)

    def _pick_in_window(self, wanted: int) -> int:
        """Pick from one window until a point outside could be farther, and return the number of picks."""
        rows, outside = self._filled_window(min(self._window, 2 * wanted + 16))
        if len(rows) < 2:
            return 0
        near = measured(self.points[rows].to(torch.float64), self.centers.origin)
        table = near.table(near).clamp_min_(0).fill_diagonal_(-1)  # the -1 masks a point once it is picked
        current, made, block = self.upper[rows], 0, self._block
        error = rounding_error_bound(near, current)
        while made < wanted:
            picks, squared, tied = pick_block(current, table, error, outside, min(block, wanted - made))
            self._take(rows[picks], squared)
            made += len(picks)
            if tied is None:
                block = min(2 * block, self._block)
                continue
            if len(tied) == 0:
                break
            block = 1  # one tie is often followed by more
            winner = self._settle(rows[tied].sort().values)
            at = (rows == winner).nonzero().flatten()
            self._take(winner, self.upper[winner])
            torch.minimum(current, table[at[0]], out=current)
            made += 1
        self._lower(rows, current.where(current >= 0, torch.inf))  # bounds of picks stay at -1
        self.checked[rows] = len(self.centers)
        if made > len(rows) // 4:  # larger windows pay off
            self._window = min(2 * self._window, self._largest)
        elif made < len(rows) // 16:  # few rows of the window were picked
            self._window = max(self._window // 2, self._smallest)
        return made

    def _filled_window(self, size: int) -> tuple[Int64[Tensor, " W"], float]:
        """Return the rows with the largest bounds, made exact, and the largest bound outside the window."""
        count = size
        while True:
            self._freshen(size)
            order = top(self.upper, min(count + 1, self._left()))
            inexact = (self.exact[order] < len(self.centers)) & (self.upper[order] > 0)  # a bound of 0 is exact
            next_ = self.upper[order[size : size + 1]] if len(order) > size else self.upper.new_full((1,), -1)
            left, outside = torch.cat([inexact[:size].sum(0, keepdim=True).double(), next_]).tolist()
            if not left:
                return order[:size], outside
            self.make_exact(order[inexact])
            count = min(2 * count, TIED)

    def _left(self) -> int:
        """Number of points that are not picked."""
        return len(self.upper) - self._removed

    def _freshen(self, size: int) -> None:
        """Update bounds, from the largest down, until the `size` largest ones account for all centers."""
        while True:
            stale = (self.checked < len(self.centers)) & (self.upper > 0)
            largest = self.upper[~stale]
            enough = len(largest) - self._removed >= size  # otherwise they give no threshold
            largest = largest.topk(size).values if enough else largest
            floor = largest[-1] if enough else self.upper.new_tensor(-1.0)
            rows = (stale & (self.upper > floor)).nonzero().flatten()
            if not len(rows):
                return
            if not enough:
                self._refresh(rows[self.upper[rows].topk(min(size, len(rows))).indices], floor)
                continue
            for number, batch in enumerate(rows[self.upper[rows].argsort(descending=True)].split(self._batch)):
                if number and bool(self.upper[batch[0]] <= floor):
                    break
                self._refresh(batch, floor)
                fresh = self.upper[batch].where(self.checked[batch] == len(self.centers), -1.0)
                largest = torch.cat([largest, fresh]).topk(size).values
                floor = largest[-1]
            return

    def _refresh(self, rows: Int64[Tensor, " R"], floor: Tensor) -> None:
        """Measure rows against the centers they lack: a few first, then all for the rows that stay above `floor`."""
        while len(rows):
            starts, counts = self.checked[rows].unique(return_counts=True)
            starts, counts = torch.stack([starts.long(), counts]).tolist()
            groups = rows[self.checked[rows].argsort(stable=True)].split(counts)
            for start, group in zip(starts, groups, strict=True):
                stop = self._next_stop(start)
                for block in group.split(max(16, TABLE // (stop - start))):
                    self._lower(block, self.centers.bounds(self.points[block], slice(start, stop)).double())
                self.checked[group] = stop
            if self._next_stop(starts[0]) == len(self.centers):
                return
            rows = rows[(self.upper[rows] > floor) & (self.checked[rows] < len(self.centers))]

    def _next_stop(self, start: int) -> int:
        """Index of the center before which the next measurement ends, for rows measured up to `start`."""
        # Growing steps: most rows fall below the threshold after a few centers, and the others need few measurements.
        return min(4 * max(start, 64), len(self.centers))

    def _lower(self, rows: Tensor, squared: Tensor) -> None:
        """Lower the bounds of the rows to `squared` where that is smaller."""
        old = self.upper[rows]
        lowered = squared < old
        # A lowered bound comes from the table or from float32, so it is no longer the exact float64 value.
        self.upper[rows] = torch.where(lowered, squared.clamp_min(0), old)
        self.exact[rows] = self.exact[rows].where(~lowered, self.exact.new_zeros(()))

    def _pick_among_equals(self, wanted: int) -> int:
        """Pick in float64 among the points with the largest bounds, and return the number of picks."""
        made = 0
        while made < wanted:
            rows, outside = self._largest_bounds()
            while made < wanted and len(rows):
                winner = self._settle(rows)
                if float(self.upper[winner]) == 0:  # all points left are duplicates of centers: take them in order
                    left = (self.upper >= 0).nonzero().flatten()[: wanted - made]
                    self._take(left, self.upper.new_zeros(len(left)))
                    return made + len(left)
                if not self._precedes(winner, outside):
                    break
                self._take(winner, self.upper[winner])
                made += 1
                rows = rows[rows != winner]
        return made

    def _largest_bounds(self) -> tuple[Int64[Tensor, " R"], Int64[Tensor, " O"]]:
        """Rows of the largest bounds, ascending, with ties broken by position, and the next row, if there is one."""
        order = top(self.upper, min(TIED + 1, self._left()))
        return order[:TIED].sort().values, order[TIED:]

    def _precedes(self, row: Tensor, other: Tensor) -> bool:
        """Whether the bound of a row exceeds that of another row, if any, or equals it at a lower position."""
        own, bound = self.upper[row], self.upper[other]
        return bool(((own > bound) | ((own == bound) & (row < other))).all())

    def _settle(self, rows: Int64[Tensor, " R"]) -> Int64[Tensor, " 1"]:
        """Farthest of some rows (ascending) in float64; ties go to the lowest position."""
        upper = self.upper[rows]
        exact = (self.exact[rows] == len(self.centers)) | (upper == 0)
        count = 64
        while True:
            best = upper.argmax().view(1)  # the first maximum, as torch documents
            if bool(exact[best]):
                return rows[best]
            chosen = (~exact).nonzero().flatten()
            if len(chosen) > count:
                chosen = chosen[top(upper[chosen], count)]
            upper[chosen] = self.make_exact(rows[chosen])
            exact[chosen] = True
            count = min(2 * count, TIED)

    def make_exact(self, rows: Int64[Tensor, " R"]) -> Float[Tensor, " R"]:
        """Compute the exact squared distances of rows to the nearest center, (R,), and keep them as bounds."""
        stale = rows[self.exact[rows] < len(self.centers)]
        if len(stale):
            # Rows are measured together from the center that the least advanced one lacks; known values cap the result.
            start = int(self.exact[stale].min())
            below = self.upper[stale].where(self.exact[stale] > 0, self.upper.new_tensor(torch.inf))
            self.upper[stale] = self.centers.exact(stale, start, below)
            self.exact[stale] = self.checked[stale] = len(self.centers)
        return self.upper[rows]


def farthest_from(
    points: PoolPoints, mean: Tensor
) -> tuple[Int64[Tensor, " 1"], Float[Tensor, " 1"], Float[Tensor, ""]]:
    """The point farthest from the mean of points (`Points.mean`), its squared distance, and the mean squared distance.

    Points within rounding errors of the farthest are compared in float64, and ties go to the lowest position.

    Raises:
        ValueError: a point is not finite.
    """
    gap = points.squared_distances_from(mean).double()
    if not bool(gap.isfinite().all()):
        check_finite(points)
    length = mean.square().sum()
    error = rounding(points) * (gap.amax() + length)
    rows = (gap >= gap.amax() - 2 * error).nonzero().flatten()
    if len(rows) > 1:
        exact = torch.cat([points[part].to(torch.float64).squared_distances_from(mean) for part in rows.split(EXACT)])
        gap[rows] = exact
        rows = rows[exact >= exact.amax() - slack(exact.amax(), length)]
    return rows[:1], gap[rows[:1]], gap.mean()


def slack(squared: Tensor, length: Tensor) -> Tensor:
    """Bound of the rounding errors of squared distances from a mean of squared length `length`, in float64."""
    return 64 * torch.finfo(torch.float64).eps * (squared + length)
