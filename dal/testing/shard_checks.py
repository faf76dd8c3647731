"""Conformance check of strategies that claim to be exact on shards, on ranks that are threads of this process."""

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

import torch

from dal.functional.exchange import Shard
from dal.strategy import Selection, Strategy, choose_on_shards
from dal.testing.conformance_report import CheckFailure, CheckSkipped, error_summary
from dal.testing.thread_ranks import on_shards

if TYPE_CHECKING:
    from dal.testing.strategies import Bench, Choices

#: Numbers of ranks, and settings of the pool: ties, duplicates, no labels, fewer rows on a rank than are selected.
RANKS = (1, 2, 3)
SETTINGS: tuple[dict[str, Any], ...] = (
    {"rows": 90, "n": 20},
    {"rows": 60, "n": 30, "distinct": 5},
    {"labeled": 0},
    {"rows": 3, "n": 3},
)


def check_shards(strategy: Strategy, bench: "Bench") -> str:
    """A strategy that claims `exact_on_shards` makes the same selection on every number of ranks."""
    if not strategy.exact_on_shards:
        raise CheckSkipped("does not claim exact_on_shards")
    for changes in SETTINGS:
        setting = bench.setting(**changes)
        choices = bench.choices(strategy, setting)
        expected, select = choices.choose(), partial(_select, choices)
        for ranks in RANKS:
            where = f"{ranks} ranks, {setting}"
            try:
                selections = on_shards(setting.rows, ranks, select)
            except Exception as error:
                raise CheckFailure(f"{error_summary(error)} ({where})") from error
            for selection in selections:
                _compare(selection, expected, where)
    return f"on {', '.join(map(str, RANKS))} ranks"


def _select(choices: "Choices", shard: Shard) -> Selection:
    query = choices.query()
    rows = shard.rows.to(query.pool.device)
    query = replace(query, pool=query.pool.take(rows), shard=replace(shard, rows=rows))
    return choose_on_shards(choices.strategy, query)


def _compare(selection: Selection, expected: Selection, where: str) -> None:
    if not torch.equal(selection.positions, expected.positions):
        raise CheckFailure(
            f"exact_on_shards is True, but the selection differs from that of one process ({where}): pass query.shard "
            "to the functions that select, and draw random numbers for query.size rows"
        )
    one, other = selection.scores, expected.scores
    if (one is None) != (other is None) or (one is not None and other is not None and not _close(one, other)):
        raise CheckFailure(f"the scores on shards differ from those of one process ({where})")


def _close(one: torch.Tensor, other: torch.Tensor) -> bool:
    return torch.allclose(one.double(), other.double(), rtol=1e-4, atol=1e-5)
