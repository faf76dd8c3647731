"""A whole round on a large pool of vectors, stage by stage: processor time, time and memory, by number of rows.

    python scripts/bench/large_round.py [--rows 100000 1000000] [--strategies Margin CoreSet BADGE] [--folder FOLDER]

The pool is that of `large_selection.py`: drawn vectors of 384 dimensions in a memory-mapped file (10,000,000 rows are
7.7 GB of disk in float16) and ten classes. For each strategy, in a process of its own: the session is opened and 100
random rows are answered; then a round is measured, from the fit of the probe over the selection of 100 rows and their
answers to the next fit and the measures of the round, which score 1,000 rows of the pool and compare distances. Memory
is the anonymous memory of the whole process at the peak of a stage, without pages of the mapped file, which the system
can drop. Texts would in addition be read, tokenized and embedded, once: see `large_pool.py` and docs/large_pools.md.

The slope is that of the processor seconds in the number of rows, both as logarithms: 1 is linear. Results are kept in
the folder, so that an interrupted call continues; `--again` measures again. Linux only.
"""

import argparse
import json
import math
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from large_selection import BATCH, draw_vectors, pool_of, vectors_of
from memory import AnonymousMemory

STRATEGIES = {"Margin": {}, "CoreSet": {"space": "embeddings"}, "BADGE": {}}
STAGES = ("open", "first fit", "select", "answer", "fit", "measure")


def main() -> None:
    """Measure the rounds and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, nargs="+", default=[100_000, 1_000_000])
    parser.add_argument("--strategies", nargs="+", choices=STRATEGIES, default=list(STRATEGIES))
    parser.add_argument("--dtype", choices=("float32", "float16"), default="float16", help="type of the stored vectors")
    parser.add_argument("--folder", type=Path, help="keep vectors and results there")
    parser.add_argument("--again", action="store_true", help="measure rounds again that have a result")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.child:
        print(json.dumps(measured(given.child, given.folder, given.rows[0], given.dtype)))
        return
    with tempfile.TemporaryDirectory() as temporary:
        folder = given.folder or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        for rows in sorted(given.rows):
            measure(folder, rows, given.strategies, given.dtype, again=given.again)
        show(folder, sorted(given.rows), given.strategies, given.dtype)


def measure(folder: Path, rows: int, strategies: Sequence[str], dtype: str, *, again: bool) -> None:
    """Measure rounds at a size, each in a process of its own, and add them to the results in the folder."""
    path = results_of(folder, rows, dtype)
    found = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    for name in strategies:
        if name in found and not again:
            continue
        vectors = vectors_of(folder, rows, dtype)
        if not vectors.exists():
            draw_vectors(vectors, rows, dtype)
        options = ["--child", name, "--rows", str(rows), "--dtype", dtype, "--folder", str(folder)]
        command = [sys.executable, __file__, *options]
        found[name] = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)
        path.write_text(json.dumps(found, indent=1), encoding="utf-8")
        print(f"{rows:>12,} {name:8} {found[name]}", file=sys.stderr)


def results_of(folder: Path, rows: int, dtype: str) -> Path:
    """File of the results at a size."""
    return folder / f"rounds-{rows}.{dtype}.json"


def measured(name: str, folder: Path, rows: int, dtype: str) -> dict[str, dict[str, float]]:
    """Processor seconds, seconds, and peak of the anonymous memory of the process in bytes, by stage."""
    import torch

    from dal import strategies
    from dal.data import Splits
    from dal.experiments.round_measures import Measures
    from dal.learners.probe_learner import ProbeLearner
    from dal.session import Session

    torch.set_num_threads(1)
    pool, found = pool_of(folder, rows, dtype), dict[str, dict[str, float]]()
    strategy = getattr(strategies, name)(**STRATEGIES[name])

    def stage(what: str, step: Callable[[], Any]) -> Any:
        with AnonymousMemory() as memory:
            began, clock = time.process_time(), time.perf_counter()
            result = step()
            found[what] = {"cpu": time.process_time() - began, "seconds": time.perf_counter() - clock}
        found[what]["process"] = memory.peak
        return result

    learner = ProbeLearner(model=None)
    session = stage("open", lambda: Session(Splits(pool), learner, strategies.Random(), hide_labels=True))
    asked = session.ask(BATCH)
    session.tell(asked, pool.labels[asked])
    session.strategy = strategy
    stage("first fit", lambda: session.predictor)
    asked = stage("select", lambda: session.ask(BATCH))
    stage("answer", lambda: session.tell(asked, pool.labels[asked]))
    stage("fit", lambda: session.predictor)
    stage("measure", lambda: Measures(session).of_round(session.last_selection))
    return found


def show(folder: Path, sizes: Sequence[int], strategies: Sequence[str], dtype: str) -> None:
    """Print a Markdown table."""
    found = {size: json.loads(results_of(folder, size, dtype).read_text(encoding="utf-8")) for size in sizes}
    heads = " | ".join(f"{size:,} rows: processor s | s | peak, GiB" for size in sizes)
    print(f"| strategy | stage | {heads} | slope |")
    print("|---" * (3 + 3 * len(sizes)) + "|")
    for name in strategies:
        for what in (*STAGES, "the round"):
            each = [_stage(found[size][name], what) for size in sizes]
            cells = [f"{one['cpu']:.2f} | {one['seconds']:.2f} | {one['process'] / 2**30:.2f}" for one in each]
            first, last = (max(one["cpu"], 1e-3) for one in (each[0], each[-1]))
            slope = math.log(last / first) / math.log(sizes[-1] / sizes[0]) if len(sizes) > 1 else math.nan
            print(f"| {name} | {what} | {' | '.join(cells)} | {slope:.2f} |")


def _stage(stages: dict[str, dict[str, float]], what: str) -> dict[str, float]:
    """The figures of a stage, or of all of them."""
    if what in stages:
        return stages[what]
    sums = {key: sum(each[key] for each in stages.values()) for key in ("cpu", "seconds")}
    return sums | {"process": max(each["process"] for each in stages.values())}


if __name__ == "__main__":
    main()
