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

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from large_selection import BATCH
from large_vectors import Results, pool_of, run_cases, slope
from memory import AnonymousMemory

STRATEGIES = {"Margin": {}, "CoreSet": {"space": "embeddings"}, "BADGE": {}}
STAGES = ("open", "first fit", "select", "answer", "fit", "measure")


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


def show(found: Results, sizes: Sequence[int], strategies: Sequence[str]) -> None:
    """Print a Markdown table."""
    heads = " | ".join(f"{size:,} rows: processor s | s | peak, GiB" for size in sizes)
    print(f"| strategy | stage | {heads} | slope |")
    print("|---" * (3 + 3 * len(sizes)) + "|")
    for name in strategies:
        for what in (*STAGES, "the round"):
            each = [_stage(found[size][name], what) for size in sizes]
            cells = [f"{one['cpu']:.2f} | {one['seconds']:.2f} | {one['process'] / 2**30:.2f}" for one in each]
            first, last = (max(one["cpu"], 1e-3) for one in (each[0], each[-1]))
            print(f"| {name} | {what} | {' | '.join(cells)} | {slope(first, last, sizes):.2f} |")


def _stage(stages: dict[str, dict[str, float]], what: str) -> dict[str, float]:
    """The figures of a stage, or of all of them."""
    if what in stages:
        return stages[what]
    sums = {key: sum(each[key] for each in stages.values()) for key in ("cpu", "seconds")}
    return sums | {"process": max(each["process"] for each in stages.values())}


if __name__ == "__main__":
    run_cases(
        __file__, __doc__, list(STRATEGIES), measured, show,
        option="--strategies", dtype="float16", results="rounds",
    )  # fmt: skip
