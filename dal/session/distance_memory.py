"""What strategies keep from one round to the next: upper bounds of distances in spaces that no training changes.

Nothing here may change a choice. It lives in memory only; a session made again starts with none of it.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from dal.functional.k_center import Bounds
from dal.outputs import Outputs
from dal.strategy import Memory


@dataclass(frozen=True, eq=False)
class CachedBounds:
    """Bounds of one space.

    Attributes:
        squared: one for each row of the data, infinite where nothing is known.
        rows: (A,) rows of the data: the squared distances are to the nearest of these.
        values: (A, D) where they were.
    """

    squared: Tensor
    rows: Tensor
    values: Tensor


class SessionMemory:
    """What the strategies of one session keep, by row of the data.

    Bounds that account for a row without a label now (its answer was taken back, or it was declined) are dropped, since
    they would be too low, and so are those of a space that has changed. Rows that are not among this round's candidates
    keep their bounds: a distance to some labeled rows is never less than that to more of them.

    Args:
        size: rows of the data.
        names: of the outputs that need no training; nothing else is kept.
    """

    def __init__(self, size: int, names: frozenset[str]) -> None:
        self.size, self.names = size, names
        self.kept: dict[str, CachedBounds] = {}

    def of(self, candidates: Tensor, labeled_rows: Tensor, pool: Outputs, labeled: Outputs) -> Memory:
        """The memory of a query about these rows of the data."""
        return _QueryMemory(self, candidates, labeled_rows, pool, labeled)


class _QueryMemory(Memory):
    """A session's memory as a query sees it: by position in its pool and among its labeled rows."""

    def __init__(
        self, session: SessionMemory, candidates: Tensor, labeled_rows: Tensor, pool: Outputs, labeled: Outputs
    ) -> None:
        self._session, self._candidates, self._labeled_rows = session, candidates, labeled_rows
        self._pool, self._labeled = pool, labeled

    def bounds(self, name: str, pool: Outputs, labeled: Outputs) -> Bounds | None:
        kept = self._session.kept.get(name)
        if kept is None or not self._knows(name, pool, labeled):
            return None
        known = self._known(kept, labeled[name])
        if known is None:
            del self._session.kept[name]
            return None
        new = torch.ones(len(self._labeled_rows), dtype=torch.bool)
        new[known] = False
        return Bounds(kept.squared[self._candidates.to(kept.squared.device)], new.to(kept.squared.device))

    def keep(self, name: str, pool: Outputs, labeled: Outputs, squared: Tensor, chosen: Tensor) -> None:
        if not self._knows(name, pool, labeled):
            return
        before = self._session.kept.get(name)
        device = squared.device
        if before is None or self._known(before, labeled[name]) is None:
            every = torch.full((self._session.size,), torch.inf, dtype=squared.dtype, device=device)
        else:
            every = before.squared.to(device)
        every[self._candidates.to(device)] = squared
        self._session.kept[name] = CachedBounds(
            every,
            torch.cat([self._labeled_rows, self._candidates[chosen.cpu()]]),
            torch.cat([labeled[name], pool[name][chosen]]),
        )

    def _knows(self, name: str, pool: Outputs, labeled: Outputs) -> bool:
        """Whether the space is one that stays, and the outputs are of the rows that this memory is about."""
        if name not in self._session.names or not len(labeled):
            return False
        return pool[name] is self._pool[name] and labeled[name] is self._labeled[name]

    def _known(self, kept: CachedBounds, values: Tensor) -> Tensor | None:
        """Where the rows that the bounds account for stand among the labeled ones; None when the bounds do not hold."""
        place = torch.full((self._session.size,), -1)
        place[self._labeled_rows] = torch.arange(len(self._labeled_rows))
        known = place[kept.rows]
        if bool((known < 0).any()) or not torch.equal(values[known.to(values.device)], kept.values.to(values.device)):
            return None
        return known
