"""One pass computed by several ranks: each takes every W-th batch of the one plan, so that no batch changes."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch import Tensor

from dal.learner import Monitor, Prepared
from dal.learners import rank_outputs
from dal.learners.collector import Collector
from dal.learners.inference import BatchComputation, halved_budget
from dal.learners.rank_outputs import RankOutputs, RankRows, drop, keep, unused_numbers
from dal.learners.ranks import Job, NotShareableError, Ranks

_log = logging.getLogger("dal")


@dataclass(frozen=True)
class Share:
    """The batches of one rank.

    Attributes:
        rows: rows of each batch, (B,) int64 each.
        starts: place of the first row of each batch in the whole pass.
        positions: (n,) positions of all these rows in the whole pass.
    """

    rows: tuple[Tensor, ...]
    starts: tuple[int, ...]
    positions: Tensor

    @classmethod
    def of(cls, batches: Sequence[tuple[int, int]], rows: Tensor, order: Tensor) -> "Share":
        """The share with these batches of `rows[order]`."""
        places = [order[start:stop] for start, stop in batches]
        return cls(tuple(rows[place] for place in places), tuple(start for start, _ in batches), torch.cat(places))


def run_shared(
    ranks: Ranks,
    batches: BatchComputation,
    rows: Tensor,
    order: Tensor,
    plan: Sequence[tuple[int, int]],
    monitor: Monitor,
    *,
    may_stay: bool,
) -> bool:
    """Compute a pass on several ranks, into the collector of `batches`.

    Neighbouring batches have nearly the same length, so that each rank has the same work. If memory runs out on a rank,
    it splits that batch only, and reports the smaller budget for later passes.

    Args:
        ranks: ranks to share the batches with.
        batches: computation of a batch.
        rows: (n,) rows of the pass.
        order: (n,) their order in the pass, longest first.
        plan: first row of each batch in that order, and the one after its last.
        monitor: receives the progress.
        may_stay: whether wide outputs may stay on the ranks that compute them.

    Returns:
        Whether the pass was computed: not if it has fewer batches than there are ranks, or if the network cannot be
        sent to another process.
    """
    if len(plan) < ranks.size:
        return False
    shares = [Share.of(plan[rank :: ranks.size], rows, order) for rank in range(ranks.size)]
    progress = _Scaled(monitor, len(shares[0].positions), len(rows))
    run = _run_and_keep if may_stay and type(batches.collector) is Collector else _run_and_collect
    try:
        run(ranks, batches, shares, progress)
    except NotShareableError as error:
        _say_local(str(error))
        return False
    progress.close()
    return True


def _run_and_collect(ranks: Ranks, batches: BatchComputation, shares: Sequence[Share], monitor: Monitor) -> None:
    """Compute the shares, and collect all outputs on rank 0."""
    settings = batches.samples, batches.seed, batches.precision, batches.store
    unused = unused_numbers()
    jobs = [Job(_compute_here, (batches, shares[0], unused))]
    for share in shares[1:]:
        part = batches.collector.part(share.positions)
        jobs.append(Job(_compute_there, (batches.module, batches.prepared, part, share, unused, *settings)))
    _, *computed = ranks.run("pass", jobs, monitor)
    for share, part in zip(shares[1:], computed, strict=True):
        batches.collector.add(share.positions, part)


def _run_and_keep(ranks: Ranks, batches: BatchComputation, shares: Sequence[Share], monitor: Monitor) -> None:
    """Compute the shares; wide outputs stay on the ranks, and narrow ones are collected on rank 0."""
    total = sum(len(share.positions) for share in shares)
    kept = RankOutputs(ranks, [share.positions for share in shares], total)
    keeping, unused = (kept.number, total, rank_outputs.WIDE), unused_numbers()
    settings = batches.samples, batches.seed, batches.precision, batches.store
    jobs = []
    for share in shares:
        part = batches.collector.part(share.positions)
        jobs.append(Job(_compute_and_keep, (keeping, batches.module, batches.prepared, part, share, unused, *settings)))
    computed = ranks.run("pass", jobs, monitor)
    for share, (part, _) in zip(shares, computed, strict=True):
        batches.collector.add(share.positions, part)
    for name, shape in computed[0][1].items():
        batches.collector.leave(name, RankRows.of(kept, name, total, shape))


@cache  # once per process and reason
def _say_local(reason: str) -> None:
    _log.warning("passes run on rank 0 alone: %s", reason)


def _compute_here(batches: BatchComputation, share: Share, unused: Sequence[int], *, monitor: Monitor) -> None:
    """Compute the share of rank 0, at its positions in the whole pass."""
    drop(unused)
    _compute(batches, share, share.positions, monitor)


def _compute_there(
    module: Any,
    prepared: Prepared,
    part: Collector,
    share: Share,
    unused: Sequence[int],
    *settings: Any,
    monitor: Monitor,
) -> Collector:
    """Compute the share of another rank in its process."""
    drop(unused)
    batches = BatchComputation(module, prepared, part, *settings)
    part.device = batches.module.device
    _compute(batches, share, torch.arange(part.length), monitor)
    return part


def _compute_and_keep(
    keeping: tuple[int, int, int], *arguments: Any, monitor: Monitor
) -> tuple[Collector, dict[str, tuple[int, ...]]]:
    """Compute the share of a rank; return its narrow outputs, and the shape of a row of those that it keeps.

    Args:
        keeping: number of the pass, number of its rows on all ranks, and size in bytes from which an output is kept.
        arguments: arguments of `_compute_there`.
        monitor: receives the progress.
    """
    part = _compute_there(*arguments, monitor=monitor)
    number, total, limit = keeping
    wide = part.without_wide(total, limit)
    keep(number, wide)
    return part, {name: tuple(value.shape[1:]) for name, value in wide.items()}


def _compute(batches: BatchComputation, share: Share, positions: Tensor, monitor: Monitor) -> None:
    """Compute a share, whose rows have these positions in the collector."""
    lengths, first = batches.prepared.lengths, 0
    with batches.running():
        for rows, start in zip(share.rows, share.starts, strict=True):
            waiting = [(0, len(rows))]
            while waiting:
                begin, end = waiting.pop()
                where = positions[first + begin : first + end]
                if batches.compute(rows[begin:end], where, start + begin):
                    monitor.advanced(end - begin)
                    continue
                monitor.halved(halved_budget(end - begin, int(lengths[rows[begin]])))
                middle = (begin + end + 1) // 2
                waiting += [(middle, end), (begin, middle)]
            first += len(rows)


class _Scaled(Monitor):
    """Reports the progress of one share as that of the whole pass, and each budget that is the smallest so far."""

    def __init__(self, monitor: Monitor, share: int, total: int) -> None:
        self._monitor, self._share, self._total = monitor, share, total
        self.token_budget = None  # the plan is made
        self._done = self._reported = 0

    def advanced(self, count: int) -> None:
        self._done += count
        reported = min(self._total * self._done // self._share, self._total - 1)  # the other ranks may still work
        self._monitor.advanced(reported - self._reported)
        self._reported = reported

    def halved(self, token_budget: int) -> None:
        if self.token_budget is None or token_budget < self.token_budget:
            self.token_budget = token_budget
            self._monitor.halved(token_budget)

    def close(self) -> None:
        """Report all rows as done."""
        self._monitor.advanced(self._total - self._reported)
