"""Telling and opening many answers: processor seconds and peak memory, each size in a process of its own.

    python scripts/bench/store.py [--sizes 10000 30000 100000] [--out store.json]

For each size: a pool of that many rows; all of them asked in one batch and told in one call; the label store opened;
a session opened on the folder; one round after that (the state, a line of metrics, what the answers cost, what a
stopping rule reads); metrics of 2,000 rounds appended. Memory is the growth of the process during the step. The last
column is the growth from the smallest size to the largest, divided by the growth of the size: 1 is linear.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from memory import max_memory

STEPS = ("tell", "open store", "open session", "round", "metrics")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="+", default=[10_000, 30_000, 100_000])
    parser.add_argument("--out", type=Path)
    parser.add_argument("--child", nargs=3, metavar=("STEP", "SIZE", "FOLDER"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        step, size, folder = options.child
        print(json.dumps(measured(step, int(size), Path(folder))))
        return
    found: dict[str, dict[int, dict[str, float]]] = {step: {} for step in STEPS}
    for size in options.sizes:
        with tempfile.TemporaryDirectory() as folder:
            for step in STEPS:
                found[step][size] = child(step, size, folder)
    show(found, options.sizes)
    if options.out:
        options.out.write_text(json.dumps(found, indent=1))


def child(step: str, size: int, folder: str) -> dict[str, float]:
    command = [sys.executable, __file__, "--child", step, str(size), folder]
    result: dict[str, float] = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    return result


def measured(step: str, size: int, folder: Path) -> dict[str, float]:
    """Processor seconds and megabytes that a step takes."""
    work = prepare(step, size, folder)
    before, start = peak(), time.process_time()
    kept = work()
    seconds = time.process_time() - start
    del kept
    return {"seconds": seconds, "megabytes": peak() - before}


def prepare(step: str, size: int, folder: Path) -> Callable[[], Any]:
    """What is to be measured, everything before it done."""
    import torch

    from dal.data import Rows, Splits
    from dal.evaluation.cost import Prices
    from dal.experiments.round_measures import Measures
    from dal.learners.probe_learner import ProbeLearner
    from dal.session import Session
    from dal.stopping import Labels
    from dal.store.label_store import LabelStore
    from dal.store.run_folder import append_metrics
    from dal.strategies.random import Random

    torch.set_num_threads(1)
    pool = Rows.from_inputs(torch.zeros(size, 1), classes=["ham", "spam"], ids=[f"row {i:07d}" for i in range(size)])

    def opened() -> Session:
        return Session(Splits(pool), ProbeLearner(model=None), Random(), folder=folder)

    if step == "tell":
        session = opened()
        rows = torch.randperm(size, generator=torch.Generator().manual_seed(0))
        session.ask_these(rows, strategy="bench")
        values = [int(row) % 2 for row in rows]
        return lambda: session.tell(rows, values, who="ada", source="person", seconds=2.5)
    if step == "open store":
        return lambda: LabelStore(folder / "labels.db")
    if step == "open session":
        return opened
    if step == "metrics":
        line = {"round": 0, "labels": size, "rows": [f"row {i:07d}" for i in range(100)]}
        return lambda: [append_metrics(folder, line) for _ in range(2000)]
    session = opened()
    measures = Measures(session, pool_sample=0, distances=False, prices=Prices(per_label=0.1))
    return lambda: (session.state, measures._spent(), session.observe(Labels(max_labels=1)), session.last_selection)


def peak() -> float:
    """The most memory that this process has held, in megabytes."""
    return max_memory() / 2**20


def show(found: dict[str, dict[int, dict[str, float]]], sizes: list[int]) -> None:
    print(f"{'':13}" + "".join(f"{size:>20,}" for size in sizes) + f"{'growth':>9}")
    for step in STEPS:
        cells = "".join(
            f"{each['seconds']:10.2f} s {each['megabytes']:5.0f} MB" for each in (found[step][size] for size in sizes)
        )
        first, last = (max(found[step][size]["seconds"], 1e-3) for size in (sizes[0], sizes[-1]))
        print(f"{step:13}{cells}{last / first / (sizes[-1] / sizes[0]):9.2f}")


if __name__ == "__main__":
    main()
