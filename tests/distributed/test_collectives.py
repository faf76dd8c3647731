"""Selections on real processes of a gloo group, started once for all tests of this module."""

import json
import socket
import subprocess
import sys

import pytest
import torch

from dal.functional.k_center import k_center_greedy
from dal.functional.ranking import top
from dal.functional.seeding import kmeans_plusplus
from dal.strategies.gradient import BADGE
from dal.strategy import choose
from dal.testing.synthetic import Setting

RANKS = 2

RANK = """
import json, sys
from dataclasses import replace
from datetime import timedelta

import torch
import torch.distributed as dist

from dal.distributed.collectives import GroupComm
from dal.functional.exchange import Shard
from dal.functional.k_center import k_center_greedy
from dal.functional.ranking import top
from dal.functional.seeding import kmeans_plusplus
from dal.strategies.gradient import BADGE
from dal.strategy import choose_on_shards
from dal.testing.synthetic import Setting

rank, ranks, store = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
dist.init_process_group("gloo", init_method=store, rank=rank, world_size=ranks, timeout=timedelta(seconds=60))
comm = GroupComm()
x = torch.randn(500, 8, generator=torch.Generator().manual_seed(0))
shard = Shard(comm, torch.arange(rank, 500, ranks), 500)
own, generator = x[shard.rows], lambda: torch.Generator().manual_seed(1)
query = Setting(rows=200, n=20).query(BADGE())
part = Shard(comm, torch.arange(rank, 200, ranks), 200)
query = replace(query, pool=query.pool.take(part.rows), shard=part)
result = {
    "rank": comm.rank,
    "size": comm.size,
    "gathered": [each.tolist() for each in comm.all_gather(torch.tensor([rank, 7]))],
    "nothing": [list(each.shape) for each in comm.all_gather(torch.zeros(0, 3))],
    "top": top(own[:, 0].round(), 30, generator=generator(), shard=shard).tolist(),
    "k_center": k_center_greedy(own, 30, shard=shard).positions.tolist(),
    "kmeans_plusplus": kmeans_plusplus(own, 30, generator=generator(), shard=shard).tolist(),
    "badge": choose_on_shards(BADGE(), query).positions.tolist(),
}
print(json.dumps(result))
dist.destroy_process_group()
"""


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> list[dict]:
    """What each rank computed."""
    script = tmp_path_factory.mktemp("ranks") / "rank.py"
    script.write_text(RANK, encoding="utf-8")
    store = f"tcp://127.0.0.1:{free_port()}"
    processes = [
        subprocess.Popen([sys.executable, str(script), str(rank), str(RANKS), store], stdout=subprocess.PIPE, text=True)
        for rank in range(RANKS)
    ]
    try:
        return [json.loads(process.communicate(timeout=120)[0]) for process in processes]
    finally:
        for process in processes:
            process.kill()


def free_port() -> int:
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        return held.getsockname()[1]


def x() -> torch.Tensor:
    return torch.randn(500, 8, generator=torch.Generator().manual_seed(0))


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(1)


def test_tensors_arrive_in_the_order_of_ranks(results):
    assert [result["rank"] for result in results] == list(range(RANKS))
    for result in results:
        assert result["size"] == RANKS
        assert result["gathered"] == [[rank, 7] for rank in range(RANKS)]
        assert result["nothing"] == [[0, 3]] * RANKS


def test_kernels_select_the_rows_of_one_process(results):
    expected = {
        "top": top(x()[:, 0].round(), 30, generator=generator()).tolist(),
        "k_center": k_center_greedy(x(), 30).positions.tolist(),
        "kmeans_plusplus": kmeans_plusplus(x(), 30, generator=generator()).tolist(),
    }
    for result in results:
        assert {name: result[name] for name in expected} == expected


def test_a_strategy_selects_the_rows_of_one_process(results):
    expected = choose(BADGE(), Setting(rows=200, n=20).query(BADGE())).positions.tolist()
    assert [result["badge"] for result in results] == [expected] * RANKS
