"""Selection of 100 of 100,000 x 64 rows that are distributed over ranks: messages, bytes and processor time.

    python scripts/bench/shards.py [--rows 100000] [--columns 64] [--n 100] [--ranks 1 2 3 4]

Ranks are threads that take turns, so that the processor time of a rank is its own work, without that of sending. The
selections are compared with those of one process, which are timed as well. Points are in 200 clusters.
"""

import argparse
import time
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from dal.functional.coverage import max_coverage
from dal.functional.exchange import Comm, Shard
from dal.functional.joint import greedy_batch
from dal.functional.k_center import k_center_greedy
from dal.functional.points import OuterPoints
from dal.functional.ranking import top
from dal.functional.seeding import kmeans_plusplus
from dal.testing.thread_ranks import CountingComm, on_ranks, shards_of

#: Positions selected from some rows, all or those of a rank, given the shard, `None` in one process.
Select = Callable[[Tensor, Shard | None], Tensor]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--columns", type=int, default=64)
    parser.add_argument("--n", type=int, default=100)
    parser.add_argument("--ranks", type=int, nargs="+", default=[1, 2, 3, 4])
    given = parser.parse_args()
    torch.set_num_threads(1)
    ranks = " | ".join(f"{each}" for each in given.ranks)
    print(f"| case | one process, s | ranks: {ranks} |")
    print("|---" * (2 + len(given.ranks)) + "|")
    for name, (rows, select) in cases(given.rows, given.columns, given.n).items():
        print(f"| {name} | {line(select, rows, given.ranks)} |", flush=True)


def cases(rows: int, columns: int, n: int) -> dict[str, tuple[int, Select]]:
    """Number of rows and selection, by name."""
    middles = 3 * torch.randn(200, columns, generator=seeded(0))
    x = middles[torch.randint(200, (rows,), generator=seeded(1))] + torch.randn(rows, columns, generator=seeded(2))
    unit = torch.nn.functional.normalize(x, dim=1)
    probs = torch.randn(rows, 4, generator=seeded(3)).softmax(1)
    scores, ties = probs.amax(1), (probs.amax(1) * 50).round()
    log_p = torch.randn(min(rows, 10_000), 16, 4, generator=seeded(4)).mul(1.5).log_softmax(-1)
    labeled, targets = x[:20], unit[torch.randperm(rows, generator=seeded(5))[:5_000]]
    errors = probs - torch.nn.functional.one_hot(probs.argmax(1), 4)

    def covering(own: Tensor, shard: Shard | None) -> Tensor:
        cover = max_coverage(unit[own], n, 0.6, targets=targets, generator=seeded(6), shard=shard)
        return cover.positions

    def seeding(own: Tensor, shard: Shard | None) -> Tensor:
        return kmeans_plusplus(x[own], n, generator=seeded(6), shard=shard)

    def badge(own: Tensor, shard: Shard | None) -> Tensor:
        return kmeans_plusplus(OuterPoints(errors[own], x[own]), n, generator=seeded(6), shard=shard)

    def batch_bald(own: Tensor, shard: Shard | None) -> Tensor:
        return greedy_batch(log_p[own], min(n, 10), generator=seeded(6), shard=shard).positions

    return {
        "`top`": (rows, lambda own, shard: top(scores[own], n, generator=seeded(6), shard=shard)),
        "`top`, 50 distinct scores": (rows, lambda own, shard: top(ties[own], n, generator=seeded(6), shard=shard)),
        "k-center, 20 labeled": (
            rows,
            lambda own, shard: k_center_greedy(x[own], n, centers=labeled, shard=shard).positions,
        ),
        "k-center, nothing labeled": (rows, lambda own, shard: k_center_greedy(x[own], n, shard=shard).positions),
        "k-means++": (rows, seeding),
        "BADGE, 4 classes": (rows, badge),
        "coverage of 5,000 targets": (rows, covering),
        "BatchBALD, n = 10, of 10,000": (len(log_p), batch_bald),
    }


def line(select: Select, total: int, ranks: Sequence[int]) -> str:
    """Processor seconds of one process; per number of ranks the collectives, kB of all ranks and seconds of rank 0."""
    everything = torch.arange(total)
    start = time.process_time()
    expected = select(everything, None)
    cells = [f"{time.process_time() - start:.2f}"]
    for size in ranks:
        own = shards_of(total, size)

        def run(comm: Comm, own: list[Tensor] = own) -> tuple[Tensor, int, int, float]:
            counting = CountingComm(comm)
            start = time.thread_time()
            positions = select(own[comm.rank], Shard(counting, own[comm.rank], total))
            return positions, counting.collectives, counting.sent, time.thread_time() - start

        results = on_ranks(size, run)
        if any(not torch.equal(positions, expected) for positions, *_ in results):
            raise SystemExit(f"{size} ranks selected other rows than one process")
        sent = sum(sent for _, _, sent, _ in results) / 1e3
        cells.append(f"{results[0][1]}; {sent:,.0f} kB; {results[0][3]:.2f} s")
    return " | ".join(cells)


def seeded(seed: int) -> torch.Generator:
    """A generator on the CPU."""
    return torch.Generator().manual_seed(seed)


if __name__ == "__main__":
    main()
