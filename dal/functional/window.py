"""Greedy picks within a window of points whose distances to each other are held, many of them between two looks."""

import torch
from jaxtyping import Float
from torch import Tensor

from dal.functional.centers import Measured, rounding
from dal.functional.threads import one_thread

#: Picks between two looks at the device's results, at most. On a CPU a look costs nothing, but a wasted pick does.
BLOCK, ACCELERATOR_BLOCK = 1, 64

#: A pick's squared distance may be off by this share at most, else it is computed by differences.
CLOSE = 1e-8


class WindowSchedule:
    """How many picks a greedy search makes before it looks at the device: one, then twice as many while all hold.

    Attributes:
        size: so many come next.
    """

    def __init__(self, device: torch.device) -> None:
        self.size = 1
        self._largest = BLOCK if device.type == "cpu" else ACCELERATOR_BLOCK

    def all_held(self, made: int, good: int) -> bool:
        """Whether all picks made hold, or only the first so many of them: then as many come next."""
        self.size = min(2 * self.size, self._largest) if good == made else max(1, good)
        return good == made


def doubt_of(near: Measured, squared: Tensor) -> Float[Tensor, " W"]:
    """How far values of the window may be above the true squared distances, (W,).

    What that is a share of depends on the nearest center, whose squared norm is at most `2 (|x|^2 + d^2)`.
    """
    return 2 * rounding(near.points) * (3 * near.norms + 2 * squared)


def pick_block(
    current: Tensor, table: Tensor, doubt: Tensor, outside: float, count: int
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Up to `count` picks from a window, made in one go without looking at them, as far as they are beyond doubt.

    `current` (W,), the squared distances, is lowered by these alone. Gives their places in the window, their squared
    distances, and the places between which the next pick is open: None where it is not, none of them where a point
    outside the window may be as far.
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
    least = best - doubt[picks]
    sure = (least > second.clamp_min(outside)) & (best * CLOSE > doubt[picks])
    good, floor = _before_first(sure, least)
    if good == count:
        return picks, best, None
    current.copy_(start)
    if good:
        torch.minimum(current, table[picks[:good]].amin(0), out=current)
    open_ = (current >= floor).nonzero().flatten() if floor > outside else picks[:0]
    return picks[:good], best[:good], open_


def _before_first(sure: Tensor, least: Tensor) -> tuple[int, float]:
    """How many come before the first that is not sure, and the value of that one: one look at the device."""
    answers = torch.stack([sure.double(), least]).tolist()
    good = next((step for step, yes in enumerate(answers[0]) if not yes), len(sure))
    return good, answers[1][good] if good < len(sure) else 0.0
