"""Recall of candidate generators: the share of the batch chosen from the whole pool that is among the candidates.

    python scripts/bench/candidates.py --data FOLDER --out candidates.jsonl     run what is missing
    python scripts/bench/candidates.py --out candidates.jsonl --report         print the table, in Markdown

FOLDER holds `NAME/train.parquet` and `NAME/test.parquet` as for strategies.py, whose --cache of MiniLM embeddings is
used and filled. The model is `ProbeLearner` on them: `--system` names its head as in strategies.py, by default the
default one, with the descriptions of descriptions.yaml and self-training; `adjusted` has neither.

A cell is one strategy on one data set with one seed. It starts from random labels; then, in each round, the strategy
chooses a batch from the whole pool, each generator draws candidates of each share of the pool, and the recall is noted.
The batch is labeled, so that all generators are measured on the same labels. `SEALS` has no size: it gets the number of
neighbours whose union comes closest to the share from below, and 1 where even that is more. A finished cell is one line
of --out, written at once; a rerun does what is missing.

`LinearProxy` is measured here against models on its own embeddings: what it finds of the choices of a fine-tuned model
is another question, which `recall_every` of a run answers.
"""

import argparse
import json
import os
import statistics
import sys
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from dal.outputs import Outputs
from dal.session.acquisition import select_rows
from dal.session.seeds import Seeds, Stream
from dal.strategies import BADGE, CoreSet, Margin
from dal.strategies.candidates import SEALS, AnchorAL, CandidateQuery, RandomSubset, candidate_rows
from dal.strategies.proxy_candidates import LinearProxy
from dal.strategy import RoundState

sys.path.insert(0, str(Path(__file__).parent))
from strategies import LARGER, SYSTEMS, Task, embed, learner_of, load_task, per_class, table, task_file

STRATEGIES = {"Margin": Margin(), "BADGE": BADGE(), "CoreSet": CoreSet()}
SHARES = (0.01, 0.05, 0.1, 0.3)
SIZED = {"RandomSubset": RandomSubset, "AnchorAL": AnchorAL, "LinearProxy": LinearProxy}
GOAL = 0.9


def unlabeled(task: Task, rows: Tensor) -> Tensor:
    return torch.ones(len(task.pool), dtype=torch.bool).index_fill_(0, rows, False).nonzero().flatten()


def query_of(task: Task, labeled: Tensor, n: int, seeds: Seeds) -> CandidateQuery:
    def read(rows: Tensor) -> Outputs:
        return Outputs({"embeddings": task.pool.inputs[rows]})

    generator = seeds.generator(Stream.CANDIDATES)
    labels = task.labels[labeled]
    return CandidateQuery(unlabeled(task, labeled), labeled, labels, n, generator, len(task.pool), read)


def seals_rows(task: Task, labeled: Tensor, n: int, seeds: Seeds, sizes: Sequence[int]) -> list[Tensor]:
    """For each size, the candidates of `SEALS` with the most neighbours whose union does not exceed it."""
    query = query_of(task, labeled, n, seeds)
    most = min(len(task.pool) - 1, 2 * max(sizes))
    near = SEALS(most)._neighbors(query)  # (L, most), nearest first
    first = torch.full((len(task.pool),), most)  # the rank at which a labeled row first names each row
    ranks = torch.arange(most).expand_as(near)
    first = first.scatter_reduce(0, near.flatten(), ranks.flatten(), "amin")[query.unlabeled]
    counts = torch.bincount(first, minlength=most + 1)[:most].cumsum(0)  # candidates with 1, 2, ... neighbours
    return [query.unlabeled[first < max(1, int((counts <= size).sum()))] for size in sizes]


def run_cell(
    task: Task, strategy: str, seed: int, *, start: int, batch: int, rounds: int, system: str = "gated"
) -> dict[str, Any]:
    """Recall of every generator and share in each round of a cell."""
    learner = learner_of(task, f"{strategy} @ {system}")
    labeled = torch.randperm(len(task.pool), generator=torch.Generator().manual_seed(seed))[:start].sort().values
    recall: dict[str, list[list[float]]] = {name: [[] for _ in SHARES] for name in (*SIZED, "SEALS")}
    drawn: dict[str, list[list[float]]] = {name: [[] for _ in SHARES] for name in recall}
    labels = []
    for round in range(rounds):
        seeds, rest = Seeds(seed, round + 1), unlabeled(task, labeled)
        selection, _, _ = select_rows(
            STRATEGIES[strategy],
            rest,
            batch,
            predictor=learner.fit(task.pool, labeled, task.labels[labeled], seed=seeds.number(Stream.FIT)),
            prepared=task.pool,
            labeled=labeled,
            labels=task.labels[labeled],
            seeds=seeds,
            state=RoundState(round, len(labeled), per_class(task, labeled)),
        )
        chosen = rest[selection.positions]
        sizes = [max(batch, int(share * len(rest))) for share in SHARES]
        found = {
            name: [candidate_rows(make(size=size), query_of(task, labeled, batch, seeds)) for size in sizes]
            for name, make in SIZED.items()
        }
        found["SEALS"] = seals_rows(task, labeled, batch, seeds, sizes)
        for name, by_share in found.items():
            for i, rows in enumerate(by_share):
                recall[name][i].append(int(torch.isin(chosen, rows).sum()) / batch)
                drawn[name][i].append(len(rows) / len(rest))
        labels.append(len(labeled))
        labeled = torch.cat([labeled, chosen]).sort().values
    return {"labels": labels, "pool": len(task.pool), "recall": recall, "drawn": drawn}


def read_lines(path: Path) -> list[dict[str, Any]]:
    """The finished cells; a torn last line is left out."""
    if not path.exists():
        return []
    lines = []
    for text in path.read_text(encoding="utf-8").splitlines():
        try:
            lines.append(json.loads(text))
        except json.JSONDecodeError:
            continue
    return lines


def append_line(path: Path, line: Mapping[str, Any]) -> None:
    """Add a finished cell, on a line of its own even after a torn one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    torn = path.exists() and path.stat().st_size > 0 and not path.read_bytes().endswith(b"\n")
    with path.open("a", encoding="utf-8") as out:
        out.write("\n" * torn + json.dumps(line) + "\n")


def run(options: argparse.Namespace) -> None:
    finished = {tuple(line[key] for key in KEYS) for line in read_lines(options.out)}
    options.pool = None
    for seed in range(options.seeds):
        for name in options.sets:
            size = max(options.batch, LARGER.get(name, 0))
            start = max(options.start, 2 * LARGER.get(name, 0))
            cells = [(name, s, seed, start, size, options.rounds, options.system) for s in options.strategies]
            missing = [cell for cell in cells if cell not in finished]
            if not missing:
                continue
            file = task_file(options, name)
            if not file.exists():
                embed(options, name)
            for cell in missing:
                began = time.process_time()
                _, strategy, *_ = cell
                line = run_cell(
                    load_task(file),
                    strategy,
                    seed,
                    start=start,
                    batch=size,
                    rounds=options.rounds,
                    system=options.system,
                )
                line = dict(zip(KEYS, cell, strict=True)) | line | {"cpu_seconds": time.process_time() - began}
                append_line(options.out, line)
                print(f"{cell}: {line['cpu_seconds']:.1f} s of processor", file=sys.stderr, flush=True)


#: Keys of a cell in a line.
KEYS = ("data", "strategy", "seed", "start", "batch", "rounds", "system")


def report(lines: Sequence[Mapping[str, Any]]) -> str:
    """One row for each head, strategy and generator: recall at each share, and at 10 % on each data set."""
    sets = list(dict.fromkeys(line["data"] for line in lines))
    systems = list(dict.fromkeys(line["system"] for line in lines))
    values: dict[tuple[str, str, str, float, str], list[float]] = defaultdict(list)
    for line in lines:
        for name, by_share in line["recall"].items():
            for share, recalls in zip(SHARES, by_share, strict=True):
                values[line["system"], line["strategy"], name, share, line["data"]].append(statistics.mean(recalls))
    rows = []
    for system, strategy, name in product(systems, STRATEGIES, ("RandomSubset", "SEALS", "AnchorAL", "LinearProxy")):
        of_set = {(share, data): values[system, strategy, name, share, data] for share in SHARES for data in sets}
        if not any(of_set.values()):
            continue
        means = {key: statistics.mean(each) for key, each in of_set.items() if each}
        overall = [statistics.mean([m for (s, _), m in means.items() if s == share]) for share in SHARES]
        shown = [f"**{value:.2f}**" if value >= GOAL else f"{value:.2f}" for value in overall]
        rows.append([system, strategy, name, *shown, *(spread(of_set[0.1, data]) for data in sets)])
    heads = [f"{100 * share:g} %" for share in SHARES]
    return table(["head", "strategy", "candidates", *heads, *(f"10 %, {data}" for data in sets)], rows)


def spread(values: Sequence[float]) -> str:
    """Mean and standard deviation over the seeds."""
    if not values:
        return "-"
    return f"{statistics.mean(values):.2f}" + (f" ± {statistics.stdev(values):.2f}" if len(values) > 1 else "")


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default=os.environ.get("DAL_TEST_DATA"), help="folder of data sets")
    parser.add_argument("--sets", nargs="+", default=["trec6", "mr", "banking77", "agnews"])
    parser.add_argument("--strategies", nargs="+", default=list(STRATEGIES), choices=list(STRATEGIES))
    parser.add_argument("--system", default="gated", choices=[name for name in SYSTEMS if name])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--start", type=int, default=20, help="labels drawn at random first")
    parser.add_argument("--batch", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--out", type=Path, default=Path("runs/bench/candidates.jsonl"))
    parser.add_argument("--cache", type=Path, default=Path("runs/bench/embeddings"))
    parser.add_argument("--report", action="store_true", help="print the table of --out and run nothing")
    options = parser.parse_args(argv)
    if not options.report:
        if not options.data:
            parser.error("give --data, or set DAL_TEST_DATA")
        run(options)
    print(report(read_lines(options.out)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
