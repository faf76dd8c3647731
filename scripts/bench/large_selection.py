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

import argparse
import json
import math
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from memory import AnonymousMemory

DIMENSIONS, CLASSES, BATCH = 384, 10, 100
DRAWN = 100_000  # rows that are drawn at once

#: Strategy and its options, by name of the case.
CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "Margin": ("Margin", {}),
    "CoreSet(embeddings)": ("CoreSet", {"space": "embeddings"}),
    "CoreSet(features)": ("CoreSet", {"space": "features"}),
    "BADGE": ("BADGE", {}),
}


def main() -> None:
    """Measure the cases and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, nargs="+", default=[100_000, 1_000_000])
    parser.add_argument("--cases", nargs="+", choices=CASES, default=list(CASES))
    parser.add_argument("--dtype", choices=("float32", "float16"), default="float32", help="type of the stored vectors")
    parser.add_argument("--folder", type=Path, help="keep vectors and results there")
    parser.add_argument("--again", action="store_true", help="measure cases again that have a result")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.child:
        print(json.dumps(measured(given.child, given.folder, given.rows[0], given.dtype)))
        return
    with tempfile.TemporaryDirectory() as temporary:
        folder = given.folder or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        for rows in sorted(given.rows):
            measure(folder, rows, given.cases, given.dtype, again=given.again)
        show(folder, sorted(given.rows), given.cases, given.dtype)


def measure(folder: Path, rows: int, cases: Sequence[str], dtype: str, *, again: bool) -> None:
    """Measure cases at a size, each in a process of its own, and add them to the results in the folder."""
    path = results_of(folder, rows, dtype)
    found = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    for case in cases:
        if case in found and not again:
            continue
        vectors = vectors_of(folder, rows, dtype)
        if not vectors.exists():
            draw_vectors(vectors, rows, dtype)
        options = ["--child", case, "--rows", str(rows), "--dtype", dtype, "--folder", str(folder)]
        printed = subprocess.run(
            [sys.executable, __file__, *options], check=True, stdout=subprocess.PIPE, text=True
        ).stdout
        found[case] = json.loads(printed)
        path.write_text(json.dumps(found, indent=1), encoding="utf-8")
        print(f"{rows:>12,} {case:20} {found[case]}", file=sys.stderr)


def vectors_of(folder: Path, rows: int, dtype: str) -> Path:
    """File of the vectors."""
    return folder / f"vectors-{rows}.{dtype}"


def results_of(folder: Path, rows: int, dtype: str) -> Path:
    """File of the results at a size."""
    return folder / f"results-{rows}.{dtype}.json"


def draw_vectors(path: Path, rows: int, dtype: str) -> None:
    """Write vectors around 200 points, and the class of each in a second file."""
    import numpy as np

    rng, partial = np.random.default_rng(0), path.with_suffix(".new")
    middles = rng.standard_normal((200, DIMENSIONS), np.float32)
    direction = rng.standard_normal((DIMENSIONS, CLASSES), np.float32)
    with partial.open("wb") as file, path.with_suffix(".labels").open("wb") as labels:
        for start in range(0, rows, DRAWN):
            n = min(DRAWN, rows - start)
            vectors = middles[rng.integers(0, 200, n)] + rng.standard_normal((n, DIMENSIONS), np.float32)
            vectors.astype(dtype).tofile(file)
            (vectors @ direction).argmax(1).astype(np.int64).tofile(labels)
    partial.rename(path)


def pool_of(folder: Path, rows: int, dtype: str) -> Any:
    """The vectors as a pool with labels."""
    import numpy as np
    import pyarrow as pa
    import torch

    from dal.data.columns import TextColumn
    from dal.data.rows import Rows

    path = vectors_of(folder, rows, dtype)
    mapped = torch.from_file(str(path), size=rows * DIMENSIONS, dtype=getattr(torch, dtype)).view(rows, DIMENSIONS)
    labels = torch.from_file(str(path.with_suffix(".labels")), size=rows, dtype=torch.int64)
    ids = TextColumn(pa.array(np.arange(rows)).cast(pa.large_string()))
    names = tuple(f"topic {i}" for i in range(CLASSES))
    return Rows(mapped, ids, labels, torch.ones(rows, dtype=torch.bool), names)


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


def show(folder: Path, sizes: Sequence[int], cases: Sequence[str], dtype: str) -> None:
    """Print a Markdown table."""
    found = {size: json.loads(results_of(folder, size, dtype).read_text(encoding="utf-8")) for size in sizes}
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
        slope = math.log(last / first) / math.log(sizes[-1] / sizes[0]) if len(sizes) > 1 else math.nan
        print(f"| {case} | {' | '.join(cells)} | {slope:.2f} |")


if __name__ == "__main__":
    main()
