"""What selecting 100 rows of a large pool of vectors costs: processor time and memory, by strategy and number of rows.

    python scripts/bench/large_selection.py [--rows 100000 1000000] [--cases Margin BADGE ...] [--folder FOLDER]

The pool has drawn vectors of 384 dimensions in a memory-mapped file (10,000,000 rows are 15.4 GB of disk, 7.7 with
`--dtype float16`) and ten classes, which a linear function of the vectors decides. In a process of its own for each
case, a probe is fitted to 100 answers; then `ask(100)` is measured, without the fit. Memory is the growth of the
anonymous memory of the process at its peak, without pages of the mapped file, which the system can drop; the whole
process is the anonymous memory at its peak, including PyTorch and the session. The slope is that of the processor
seconds in the number of rows, both as logarithms: 1 is linear.

Results are kept in the folder, so that an interrupted call continues; `--again` measures again. Linux only.
"""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from large_vectors import Results, pool_of, run_cases, slope
from memory import AnonymousMemory

BATCH = 100

#: Strategy and its options, by name of the case.
CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "Margin": ("Margin", {}),
    "CoreSet(embeddings)": ("CoreSet", {"space": "embeddings"}),
    "CoreSet(features)": ("CoreSet", {"space": "features"}),
    "BADGE": ("BADGE", {}),
}


def opened(folder: Path, rows: int, dtype: str, case: str) -> Any:
    """A session on the vectors, with 100 answers and a fitted probe."""
    import torch

    from dal import strategies
    from dal.data import Splits
    from dal.learners.probe_learner import ProbeLearner
    from dal.session import Session

    torch.set_num_threads(1)
    pool = pool_of(folder, rows, dtype)
    name, options = CASES[case]
    strategy = getattr(strategies, name)(**options)
    session = Session(Splits(pool), ProbeLearner(model=None), strategies.Random(), hide_labels=True)
    asked = session.ask(BATCH)
    session.tell(asked, pool.labels[asked])
    session.predictor  # noqa: B018
    session.strategy = strategy
    return session


def measured(case: str, folder: Path, rows: int, dtype: str) -> dict[str, float]:
    """Processor seconds and bytes of memory of one `ask`."""
    session = opened(folder, rows, dtype, case)
    with AnonymousMemory() as memory:
        start = time.process_time()
        asked = session.ask(BATCH)
        seconds = time.process_time() - start
    return {
        "seconds": seconds,
        "peak": memory.peak - memory.before,
        "process": memory.peak,
        "selection": int((asked * (1 + 2 * session.pool.labels[asked].sum())).sum()),  # to compare runs
    }


def show(found: Results, sizes: Sequence[int], cases: Sequence[str]) -> None:
    """Print a Markdown table."""
    print(
        "| strategy | "
        + " | ".join(f"{size:,} rows: s | us a row | bytes a row | process, GiB" for size in sizes)
        + " | slope |"
    )
    print("|---" * (2 + 4 * len(sizes)) + "|")
    for case in cases:
        cells = []
        for size in sizes:
            each = found[size][case]
            cells += [
                f"{each['seconds']:.2f}",
                f"{each['seconds'] / size * 1e6:.2f}",
                f"{each['peak'] / size:.0f}",
                f"{each['process'] / 2**30:.2f}",
            ]
        first, last = (found[size][case]["seconds"] for size in (sizes[0], sizes[-1]))
        print(f"| {case} | {' | '.join(cells)} | {slope(first, last, sizes):.2f} |")


if __name__ == "__main__":
    run_cases(
        __file__, __doc__, list(CASES), measured, show, option="--cases", dtype="float32", results="results"
    )  # fmt: skip
