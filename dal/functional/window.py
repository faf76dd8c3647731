"""Greedy farthest-first picks within a window, whose points have a table of their mutual distances.

`pick_block` makes a whole block of picks on the device and asks only once, at the end, how many of them are valid. One
synchronisation per block instead of one per pick is what makes an accelerator fast here.

Worked example: three points on a line, at 0, 1 and 5. Their squared distances to the nearest center are 100, 81 and 36,
and every point outside the window is at most at 20. The diagonal of -1 masks a point once it is picked.

>>> table = torch.tensor([[-1.0, 1.0, 25.0], [1.0, -1.0, 16.0], [25.0, 16.0, -1.0]], dtype=torch.float64)
>>> current = torch.tensor([100.0, 81.0, 36.0], dtype=torch.float64)
>>> picks, squared, tied = pick_block(current, table, torch.zeros_like(current), outside=20.0, count=3)
>>> picks.tolist(), squared.tolist(), tied.tolist(), current.tolist()
([0, 2], [100.0, 25.0], [], [-1.0, 1.0, -1.0])

1. Place 0 has the largest value, 100, ahead of 81 and of 20 outside: a valid pick. `current` becomes the minimum with
   row 0 of the table: -1, min(81, 1) = 1 and min(36, 25) = 25.
2. Place 2 has 25, more than 1 and 20: valid. `current` becomes -1, min(1, 16) = 1 and -1.
3. Place 1 has 1, less than 20: a point outside may be farther, so this pick is invalid and is taken back. `current` is
   restored and lowered by the two valid picks only. The empty `tied` tells the caller to build another window.

Two equal values cannot be ordered here. With no pick made, `tied` names the places to compare exactly:

>>> pick_block(torch.tensor([100.0, 100.0, 36.0], dtype=torch.float64), table, torch.zeros(3), outside=20.0, count=3)[2]
tensor([0, 1])
"""

import torch
from jaxtyping import Float
from torch import Tensor

from dal.functional.centers import Measured, rounding
from dal.functional.threads import one_thread

#: Maximum number of picks between two synchronisations. On a CPU these are free, but a discarded pick costs time.
BLOCK, ACCELERATOR_BLOCK = 1, 64

#: Largest relative error of a pick's squared distance; otherwise it is computed from differences.
CLOSE = 1e-8


class WindowSchedule:
    """Number of picks per block of a greedy search: starts at one and doubles while all picks of a block are valid.

    Attributes:
        size: number of picks in the next block.
    """

    def __init__(self, device: torch.device) -> None:
        self.size = 1
        self._largest = BLOCK if device.type == "cpu" else ACCELERATOR_BLOCK

    def all_held(self, made: int, good: int) -> bool:
        """Record that the first `good` of `made` picks are valid, adapt `size`, and return whether all are."""
        self.size = min(2 * self.size, self._largest) if good == made else max(1, good)
        return good == made


def rounding_error_bound(near: Measured, squared: Tensor) -> Float[Tensor, " W"]:
    """Upper bounds of the rounding errors by which values of the window may exceed the true squared distances, (W,).

    The error is proportional to the squared norms of the point and of its nearest center, and the latter is at most
    `2 (|x|^2 + d^2)`.
    """
    return 2 * rounding(near.points) * (3 * near.norms + 2 * squared)


def pick_block(
    current: Tensor, table: Tensor, error: Tensor, outside: float, count: int
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Make up to `count` farthest-first picks from a window with a single synchronisation; see the module's example.

    Args:
        current: (W,) squared distances to the nearest center, -1 for picked points; updated in place by valid picks.
        table: (W, W) squared distances between the points of the window, -1 on the diagonal.
        error: (W,) upper bounds of the rounding errors of `current`.
        outside: largest squared distance that a point outside the window can have.
        count: maximum number of picks.

    Returns:
        The places of the valid picks in the window; their squared distances; and `None` if all `count` picks are valid,
        else the places among which rounding leaves the next pick open, empty if a point outside may be as far.
    """
    start = current.clone()
    values = current.new_empty(count, 2)
    places = torch.empty(count, 2, dtype=torch.int64, device=current.device)
    lowered = current.new_empty(1, len(current))
    with one_thread():
        for step in range(count):
            torch.topk(current, 2, out=(values[step], places[step]))
            torch.index_select(table, 0, places[step, :1], out=lowered)
            torch.minimum(current, lowered[0], out=current)
    best, second, picks = values[:, 0], values[:, 1], places[:, 0]
    least = best - error[picks]
    valid = (least > second.clamp_min(outside)) & (best * CLOSE > error[picks])
    flags, lows = torch.stack([valid.double(), least]).tolist()  # the only synchronisation of the block
    good = next((step for step, flag in enumerate(flags) if not flag), count)
    if good == count:
        return picks, best, None
    current.copy_(start)
    if good:
        torch.minimum(current, table[picks[:good]].amin(0), out=current)
    floor = lows[good]
    tied = (current >= floor).nonzero().flatten() if floor > outside else picks[:0]
    return picks[:good], best[:good], tied
