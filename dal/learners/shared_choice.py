"""Selection by the ranks that hold wide outputs of the pool: they choose together, and rank 0 gets the selection."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, overload

import torch
from torch import Tensor

from dal.errors import NeedError, SelectionError
from dal.functional.exchange import Shard
from dal.learner import Monitor
from dal.learners.rank_outputs import RankRows, kept_here
from dal.learners.ranks import Job, NotShareableError, job_comm
from dal.outputs import Outputs, sources
from dal.strategy import Query, RoundState, Selection, Strategy, choose, choose_on_shards, name_of

_log = logging.getLogger("dal")


class _Unsent(Sequence[Mapping[str, float]]):
    """The metrics of earlier rounds, which are not sent to the ranks: reading them could fit and score a model."""

    def _refuse(self, *arguments: Any) -> Any:
        raise NotShareableError("its strategy reads the metrics of earlier rounds")

    __len__ = __iter__ = __contains__ = _refuse

    @overload
    def __getitem__(self, index: int) -> Mapping[str, float]: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Mapping[str, float]]: ...
    def __getitem__(self, index: int | slice) -> Any:
        return self._refuse()


@dataclass(frozen=True, eq=False)
class _Part:
    """The part of a pool that lies on a rank.

    Attributes:
        number: number of the pass whose outputs the rank keeps.
        names: names of those that the strategy reads.
        positions: (R,) positions of its rows in the pool, ascending.
        places: (R,) places of these rows among those that it keeps.
        total: number of rows in the pool.
        sent: outputs of these rows that rank 0 has.
    """

    number: int
    names: tuple[str, ...]
    positions: Tensor
    places: Tensor
    total: int
    sent: Outputs


def choose_where_outputs_lie(strategy: Strategy, query: Query) -> Selection:
    """Run a strategy as `choose` does, on the ranks if wide outputs of the pool lie there and it is exact on shards.

    Otherwise, the outputs that lie on other ranks are fetched, and the choice is made here.
    """
    rows = {name: value for name, value in query.pool.collected.items() if isinstance(value, RankRows)}
    if rows and strategy.exact_on_shards:
        try:
            return _chosen_by_ranks(strategy, query, rows)
        except NotShareableError as error:
            _log.warning("%s chooses on rank 0 alone: %s", name_of(strategy), error)
        except (NeedError, SelectionError):
            pass  # raised again below, with the positions in the whole pool
    return choose(strategy, replace(query, pool=fetched(query.pool)))


def fetched(outputs: Outputs) -> Outputs:
    """The same outputs, of which none lies on other ranks any more."""
    rows = [name for name, value in outputs.collected.items() if isinstance(value, RankRows)]
    return outputs.extended({name: outputs[name] for name in rows}) if rows else outputs


def _chosen_by_ranks(strategy: Strategy, query: Query, rows: Mapping[str, RankRows]) -> Selection:
    some, pool, wanted = next(iter(rows.values())), query.pool, sources(strategy.needs)
    here = {name: value for name, value in pool.collected.items() if name in wanted and name not in rows}
    narrow = Outputs(here, length=len(pool), multilabel=pool.multilabel, thresholds=pool.thresholds)
    state = replace(query.state, metrics=_Unsent())
    others = query.n, query.generator.get_state(), fetched(query.labeled), fetched(query.target), query.labels, state
    jobs = []
    for positions, places in some.kept.places_of(some.rows):
        names = tuple(sorted(wanted & rows.keys()))
        part = _Part(some.kept.number, names, positions, places, len(pool), narrow.take(positions))
        jobs.append(Job(_choose, (strategy, part, *others)))
    selection: Selection = some.kept.ranks.run("choice", jobs)[0]
    return selection


def _choose(
    strategy: Strategy,
    part: _Part,
    n: int,
    random_state: Tensor,
    labeled: Outputs,
    target: Outputs,
    labels: Tensor,
    state: RoundState,
    *,
    monitor: Monitor,
) -> Selection | None:
    """Choose together with the other ranks; rank 0 returns the selection."""
    kept, comm = kept_here(part.number), job_comm()
    device = next(iter(kept.values())).device
    pool = part.sent.to(device).extended({name: kept[name][part.places.to(device)] for name in part.names})
    generator = torch.Generator()
    generator.set_state(random_state)
    query = Query(
        pool, n, generator, labeled.to(device), target.to(device), labels.to(device), state=state,
        shard=Shard(comm, part.positions.to(device), part.total),
    )  # fmt: skip
    selection = choose_on_shards(strategy, query)
    return selection if comm.rank == 0 else None
