"""Wide outputs of a pass that stay on the ranks that computed them, and are read from there row by row."""

import itertools
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any
from weakref import finalize

import torch
from torch import Tensor

from dal.functional.row_source import RowSource
from dal.learner import Monitor
from dal.learners.ranks import Job, Ranks, job_comm

#: Size in bytes, of all rows, from which an output stays on the ranks: less is sent in a moment.
WIDE = 2**26

#: What this process keeps, by number of the pass and rank.
_KEPT: dict[tuple[int, int], Mapping[str, Tensor]] = {}

#: Numbers of passes whose outputs nothing reads any more; the next pass lets the ranks drop them.
_unused: list[int] = []

_numbers = itertools.count(1)
_keeping: ContextVar[bool] = ContextVar("keeping", default=False)


@contextmanager
def keeping_wide_outputs(keeping: bool) -> Iterator[None]:
    """Context manager in which wide outputs of shared passes may stay on the ranks, for a caller that selects there."""
    token = _keeping.set(keeping)
    try:
        yield
    finally:
        _keeping.reset(token)


def keeps_wide_outputs() -> bool:
    """Whether a shared pass is to leave wide outputs on the ranks."""
    return _keeping.get()


class RankOutputs:
    """Outputs of one pass on the ranks, as rank 0 sees them. They are dropped when nothing reads them any more.

    Args:
        ranks: the ranks.
        positions: for each rank, the positions in the pass of its rows, (n,), in its order.
        total: number of rows in the pass.

    Attributes:
        number: number of the pass.
        ranks: the ranks.
        owner: (N,) rank that has each row of the pass.
        place: (N,) place of the row among those of its rank.
    """

    def __init__(self, ranks: Ranks, positions: Sequence[Tensor], total: int) -> None:
        self.number, self.ranks = next(_numbers), ranks
        self.owner = torch.zeros(total, dtype=torch.int64)
        self.place = torch.zeros(total, dtype=torch.int64)
        for rank, own in enumerate(positions):
            self.owner[own], self.place[own] = rank, torch.arange(len(own))
        finalize(self, _unused.append, self.number).atexit = False

    def places_of(self, rows: Tensor) -> list[tuple[Tensor, Tensor]]:
        """For each rank, which of some rows of the pass it has, as positions among them, and their places there."""
        held = [(self.owner[rows] == rank).nonzero().flatten() for rank in range(self.ranks.size)]
        return [(positions, self.place[rows[positions]]) for positions in held]

    def read(self, name: str, rows: Tensor) -> Tensor:
        """Fetch an output of some rows of the pass, on the CPU."""
        held = self.places_of(rows)
        needed = 1 + max((rank for rank, (positions, _) in enumerate(held) if len(positions)), default=0)
        jobs = [Job(_read, (self.number, name, places)) for _, places in held[:needed]]
        parts: list[Tensor] = self.ranks.run("reading of outputs", jobs)
        out = parts[0].new_empty(len(rows), *parts[0].shape[1:])
        for (positions, _), part in zip(held, parts, strict=False):
            out[positions] = part
        return out


@dataclass(frozen=True, eq=False)
class RankRows(RowSource):
    """An output that lies on the ranks. Its rows may have any shape, and are fetched when they are indexed.

    Attributes:
        kept: outputs of the pass.
        name: name of the output.
    """

    kept: RankOutputs
    name: str

    @classmethod
    def of(cls, kept: RankOutputs, name: str, total: int, shape: tuple[int, ...]) -> "RankRows":
        """All rows of a pass, of this shape each."""

        def read(rows: Tensor) -> Tensor:
            return kept.read(name, rows)

        return cls(read, torch.arange(total), torch.Size(shape).numel(), kept, name)

    @property
    def at_once(self) -> int:
        """Size in bytes up to which selected rows are fetched at once: they are fetched when they are read."""
        return 0

    def tensor(self) -> Tensor:
        """Fetch all rows."""
        return self.read(self.rows)

    def mapped(self, function: Any) -> RowSource:
        """Rows after a function, which is applied to what was fetched."""
        return RowSource(lambda rows: function(self.read(rows)), self.rows, self.width)


def unused_numbers() -> tuple[int, ...]:
    """Return the numbers of passes that nothing reads any more, once."""
    numbers = tuple(_unused)
    del _unused[: len(numbers)]
    return numbers


def drop(unused: Sequence[int]) -> None:
    """Drop what this rank keeps of the passes of `unused_numbers`."""
    for number in unused:
        _KEPT.pop((number, job_comm().rank), None)


def keep(number: int, outputs: Mapping[str, Tensor]) -> None:
    """Keep outputs of this rank in this process."""
    if outputs:
        _KEPT[number, job_comm().rank] = outputs


def kept_here(number: int) -> Mapping[str, Tensor]:
    """Return the outputs of this rank in a pass."""
    return _KEPT[number, job_comm().rank]


def _read(number: int, name: str, places: Tensor, *, monitor: Monitor) -> Tensor:
    """Read rows of an output that this process keeps."""
    value = kept_here(number)[name]
    return value[places.to(value.device)].cpu()
