"""Farthest-first selection by lazy upper bounds: only rows that can win are ever made exact."""

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from dal.functional.centers import TABLE, Centers, measured
from dal.functional.ranking import top
from dal.functional.window import doubt_of, pick_block

#: Rows that are brought up to date at once.
BATCH, ACCELERATOR_BATCH = 1024, 8192

#: Rows that are compared in float64 at most while too many are equally far for a window.
TIED = 4096

#: Picks between two looks at the device's results.
BLOCK, ACCELERATOR_BLOCK = 16, 64

#: Rows of the first window, and of the largest.
WINDOW, ACCELERATOR_WINDOW = (256, 512), (1024, 2048)


class FarthestFirst:
    """Picks the point farthest from all centers, again and again; of equally far ones the first.

    A squared distance to the nearest center never grows, so that any old value bounds it from above. `upper` (N,)
    float64 holds such bounds, -1 for picked points. `checked` counts the centers, in their order, that a bound is up
    to date with but for rounding; `exact` those that it is the float64 value for, or 0.

    Picks come from a window: the points with the largest bounds, made exact, and the table of their own distances in
    float64. The farthest of them wins as long as it is farther than every bound outside. Ties, and what rounding in
    float64 leaves open, are decided by `_settle`.

    Args:
        centers: the centers; must not be empty.
        upper: (N,) float64, valid bounds of the squared distances.
        checked: how many of the centers the bounds are up to date with.
        window: rows of a window, adapted to the data by default.
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

    def pick(self, count: int) -> Float[Tensor, " count"]:
        """Makes so many picks, found in `centers.picks`. Their squared distances at selection, (count,) float64."""
        left, patience = count, 1
        while left:
            made = self._pick_in_window(left)
            if made:
                patience = 1
            else:  # too many are equally far: patience grows, so that windows are not built for nothing
                made = self._pick_among_equals(min(left, patience))
                patience *= 2
            left -= made
        return torch.cat([*self._squared, self.upper[:0]])

    def farthest_left(self) -> float:
        """The largest squared distance of a point that was not picked, 0 where there is none."""
        if not self._left():
            return 0.0
        self._filled_window(1)  # most bounds fall without float64
        while True:
            rows, outside = self._largest_bounds()
            winner = self._settle(rows)
            if self._precedes(winner, outside):
                return float(self.upper[winner])

    def _take(self, rows: Int64[Tensor, " P"], squared: Float[Tensor, " P"]) -> None:
        self.centers.add(rows)
        self.upper[rows] = -1
        self._squared.append(squared)

    def _pick_in_window(self, wanted: int) -> int:
        """Picks from one window until a point outside could be farther. How many were made."""
        rows, outside = self._filled_window(min(self._window, 2 * wanted + 16))
        if len(rows) < 2:
            return 0
        near = measured(self.points[rows].to(torch.float64), self.centers.origin)
        table = near.table(near).clamp_min_(0).fill_diagonal_(-1)  # a pick's own row masks it
        current, made, block = self.upper[rows], 0, self._block
        doubt = doubt_of(near, current)
        while made < wanted:
            picks, best, open_ = pick_block(current, table, doubt, outside, min(block, wanted - made))
            self._take(rows[picks], best)
            made += len(picks)
            if open_ is None:
                block = min(2 * block, self._block)
                continue
            if len(open_) == 0:
                break
            block = 1  # where there is one tie there are often more
            winner = self._settle(rows[open_].sort().values)
            at = (rows == winner).nonzero().flatten()
            self._take(winner, self.upper[winner])
            torch.minimum(current, table[at[0]], out=current)
            made += 1
        self._lower(rows, current.where(current >= 0, torch.inf))  # a pick's bound stays as it is
        self.checked[rows] = len(self.centers)
        self._adapt(made, len(rows))
        return made

    def _filled_window(self, size: int) -> tuple[Int64[Tensor, " W"], float]:
        """The rows with the largest bounds, exact, and the largest bound outside."""
        several = size
        while True:
            self._freshen(size)
            order = top(self.upper, min(several + 1, self._left()))
            behind = self._behind(self.exact, order)
            next_ = self.upper[order[size : size + 1]] if len(order) > size else self.upper.new_full((1,), -1)
            late, outside = torch.cat([behind[:size].sum(0, keepdim=True).double(), next_]).tolist()
            if not late:
                return order[:size], outside
            self._make_exact(order[behind])
            several = min(2 * several, TIED)

    def _left(self) -> int:
        """How many points are not picked."""
        return len(self.upper) - self._picked()

    def _picked(self) -> int:
        return len(self.centers) - len(self.centers.given)

    def _behind(self, counts: Tensor, rows: Tensor) -> Tensor:
        """Which of the rows are not up to date by one of the counts. A bound of 0 always is."""
        return (counts[rows] < len(self.centers)) & (self.upper[rows] > 0)

    def _freshen(self, size: int) -> None:
        """Brings bounds up to date, from the largest down, until those of the `size` largest are."""
        while True:
            stale = (self.checked < len(self.centers)) & (self.upper > 0)
            largest = self.upper[~stale]
            enough = len(largest) - self._picked() >= size  # else they cannot tell how far down to go
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
        """Measures rows against centers that they have missed: some, then all, since most fall below `floor` early."""
        while len(rows):
            starts, counts = self.checked[rows].unique(return_counts=True)
            starts, counts = torch.stack([starts.long(), counts]).tolist()
            groups = rows[self.checked[rows].argsort(stable=True)].split(counts)
            for start, group in zip(starts, groups, strict=True):
                stop = self._stop(start)
                for block in group.split(max(16, TABLE // (stop - start))):
                    self._lower(block, self.centers.bounds(self.points[block], slice(start, stop)).double())
                self.checked[group] = stop
            if self._stop(starts[0]) == len(self.centers):
                return
            rows = rows[(self.upper[rows] > floor) & (self.checked[rows] < len(self.centers))]

    def _stop(self, start: int) -> int:
        """Up to which center to measure next what has been measured up to `start`."""
        return min(4 * max(start, 64), len(self.centers))

    def _lower(self, rows: Tensor, squared: Tensor) -> None:
        """The bounds of the rows are no larger than these."""
        old = self.upper[rows]
        lowered = squared < old
        self.upper[rows] = torch.where(lowered, squared.clamp_min(0), old)
        self.exact[rows] = self.exact[rows].where(~lowered, self.exact.new_zeros(()))

    def _adapt(self, made: int, size: int) -> None:
        """Larger windows where they pay, smaller ones where few of their rows are picked."""
        if made > size // 4:
            self._window = min(2 * self._window, self._largest)
        elif made < size // 16:
            self._window = max(self._window // 2, self._smallest)

    def _pick_among_equals(self, wanted: int) -> int:
        """Picks in float64 among the points with the largest bounds. How many were made."""
        made = 0
        while made < wanted:
            rows, outside = self._largest_bounds()
            while made < wanted and len(rows):
                winner = self._settle(rows)
                if float(self.upper[winner]) == 0:  # so are all others, for ever
                    return made + self._take_first_left(wanted - made)
                if not self._precedes(winner, outside):
                    break
                self._take(winner, self.upper[winner])
                made += 1
                rows = rows[rows != winner]
        return made

    def _largest_bounds(self) -> tuple[Int64[Tensor, " R"], Int64[Tensor, " O"]]:
        """The rows, ascending, of the largest bounds, the first among equals; and the next one, if there is one."""
        order = top(self.upper, min(TIED + 1, self._left()))
        return order[:TIED].sort().values, order[TIED:]

    def _precedes(self, row: Tensor, other: Tensor) -> bool:
        """Whether a row is farther than the bound of another, if there is one, or as far and before it."""
        ours, theirs = self.upper[row], self.upper[other]
        return bool(((ours > theirs) | ((ours == theirs) & (row < other))).all())

    def _take_first_left(self, wanted: int) -> int:
        left = (self.upper >= 0).nonzero().flatten()[:wanted]
        self._take(left, self.upper.new_zeros(len(left)))
        return len(left)

    def _settle(self, rows: Int64[Tensor, " R"]) -> Int64[Tensor, " 1"]:
        """The farthest of some rows (ascending), the first of equals, in float64."""
        upper = self.upper[rows]
        fresh = (self.exact[rows] == len(self.centers)) | (upper == 0)
        several = 64
        while True:
            best = upper.argmax().view(1)  # the first of equals, by contract
            if bool(fresh[best]):
                return rows[best]
            chosen = (~fresh).nonzero().flatten()
            if len(chosen) > several:
                chosen = chosen[top(upper[chosen], several)]
            upper[chosen] = self._make_exact(rows[chosen])
            fresh[chosen] = True
            several = min(2 * several, TIED)

    def _make_exact(self, rows: Int64[Tensor, " R"]) -> Float[Tensor, " R"]:
        start = int(self.exact[rows].min())
        known = self.exact[rows] > 0
        below = self.upper[rows].where(known, self.upper.new_tensor(torch.inf))
        self.upper[rows] = self.centers.exact(rows, start, below)
        self.exact[rows] = len(self.centers)
        self.checked[rows] = len(self.centers)
        return self.upper[rows]
