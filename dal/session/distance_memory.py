"""Distance bounds that strategies keep between rounds, for feature spaces that training does not change.

A cache: it never changes a selection, lives in memory only, and is empty in a resumed session.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from dal.functional.k_center import Bounds
from dal.outputs import Outputs
from dal.strategy import Memory


@dataclass(frozen=True, eq=False)
class CachedBounds:
    """Upper bounds of the distances to the nearest labeled row in one feature space.

    Attributes:
        squared: (size,) squared bound for each row of the data; infinite if unknown.
        rows: (A,) rows of the data to which the distances were measured.
        values: (A, D) features of these rows at that time.
    """

    squared: Tensor
    rows: Tensor
    values: Tensor


class SessionMemory:
    """Distance bounds of one session, by row of the data.

    Bounds are dropped if they include a row that is no longer labeled (retracted or declined), since they would be too
    low, or if the features have changed. Rows outside the current candidates keep their bounds: more labeled rows
    never increase the distance to the nearest one.

    Args:
        size: number of rows of the data.
        names: outputs that need no training; bounds are kept for these only.
    """

    def __init__(self, size: int, names: frozenset[str]) -> None:
        self.size, self.names = size, names
        self.kept: dict[str, CachedBounds] = {}

    def of(self, candidates: Tensor, labeled_rows: Tensor, pool: Outputs, labeled: Outputs) -> Memory:
        """The memory as seen by a query over these candidates and labeled rows."""
        return _QueryMemory(self, candidates, labeled_rows, pool, labeled)


class _QueryMemory(Memory):
    """View of a session's memory, indexed by position in the query's pool and among its labeled rows."""

    def __init__(
        self, session: SessionMemory, candidates: Tensor, labeled_rows: Tensor, pool: Outputs, labeled: Outputs
    ) -> None:
        self._session, self._candidates, self._labeled_rows = session, candidates, labeled_rows
        self._pool, self._labeled = pool, labeled

    def bounds(self, name: str, pool: Outputs, labeled: Outputs) -> Bounds | None:
        kept = self._session.kept.get(name)
        if kept is None or not self._knows(name, pool, labeled):
            return None
        positions = self._known(kept, labeled[name])
        if positions is None:
            del self._session.kept[name]
            return None
        new = torch.ones(len(self._labeled_rows), dtype=torch.bool)
        new[positions] = False
        return Bounds(kept.squared[self._candidates.to(kept.squared.device)], new.to(kept.squared.device))

    def keep(self, name: str, pool: Outputs, labeled: Outputs, squared: Tensor, chosen: Tensor) -> None:
        if not self._knows(name, pool, labeled):
            return
        before = self._session.kept.get(name)
        device = squared.device
        if before is None or self._known(before, labeled[name]) is None:
            bounds = torch.full((self._session.size,), torch.inf, dtype=squared.dtype, device=device)
        else:
            bounds = before.squared.to(device)
        # Rows that were no candidates keep their older bounds: a distance only falls as centers are added.
        bounds[self._candidates.to(device)] = squared
        self._session.kept[name] = CachedBounds(
            bounds,
            torch.cat([self._labeled_rows, self._candidates[chosen.cpu()]]),
            torch.cat([labeled[name], pool.blockwise(name)[chosen]]),
        )

    def _knows(self, name: str, pool: Outputs, labeled: Outputs) -> bool:
        """Whether bounds are kept for this output, and `pool` and `labeled` are the outputs of this query's rows."""
        if name not in self._session.names or not len(labeled):
            return False
        # By identity: a strategy may pass outputs that it has scaled or restricted, to which no bounds apply.
        return pool.blockwise(name) is self._pool.blockwise(name) and labeled[name] is self._labeled[name]

    def _known(self, kept: CachedBounds, values: Tensor) -> Tensor | None:
        """Positions of the bounds' rows among the labeled rows; None if the bounds are no longer valid."""
        position = torch.full((self._session.size,), -1)
        position[self._labeled_rows] = torch.arange(len(self._labeled_rows))
        known = position[kept.rows]
        # A retracted label is a center no more, and a center of other values (a model fitted again) is another one.
        if bool((known < 0).any()) or not torch.equal(values[known.to(values.device)], kept.values.to(values.device)):
            return None
        return known
