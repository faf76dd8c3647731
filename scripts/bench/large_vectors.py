"""Large pools of drawn vectors in memory-mapped files, and measurements by number of rows that can be continued.

For the benchmarks `large_selection.py` and `large_round.py`.
"""

import argparse
import json
import math
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

DIMENSIONS, CLASSES = 384, 10
DRAWN = 100_000  # rows that are drawn at once

#: Results by number of rows and case.
Results = dict[int, dict[str, Any]]


def run_cases(
    script: str,
    about: str | None,
    cases: Sequence[str],
    measured: Callable[[str, Path, int, str], Any],
    show: Callable[[Results, Sequence[int], Sequence[str]], None],
    *,
    option: str,
    dtype: str,
    results: str,
) -> None:
    """Read the command line, measure each case at each size in a process of its own, and print the table.

    Args:
        script: path of the benchmark, which is started again for each measurement.
        about: help of the benchmark.
        cases: names of the cases.
        measured: function that measures a case, given its name, the folder, the number of rows and the dtype.
        show: function that prints the results of the sizes and cases.
        option: option that selects cases.
        dtype: default type of the stored vectors.
        results: first part of the names of the files with results.
    """
    parser = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, nargs="+", default=[100_000, 1_000_000])
    parser.add_argument(option, dest="cases", nargs="+", choices=cases, default=list(cases))
    parser.add_argument("--dtype", choices=("float32", "float16"), default=dtype, help="type of the stored vectors")
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
        sizes = sorted(given.rows)
        found: Results = {}
        for rows in sizes:
            path = folder / f"{results}-{rows}.{given.dtype}.json"
            found[rows] = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
            for case in given.cases:
                if case not in found[rows] or given.again:
                    found[rows][case] = _in_a_process(script, case, folder, rows, given.dtype)
                    path.write_text(json.dumps(found[rows], indent=1), encoding="utf-8")
                    print(f"{rows:>12,} {case:20} {found[rows][case]}", file=sys.stderr)
        show(found, sizes, given.cases)


def _in_a_process(script: str, case: str, folder: Path, rows: int, dtype: str) -> Any:
    """Measure a case; the vectors are drawn first where they are missing."""
    vectors = vectors_of(folder, rows, dtype)
    if not vectors.exists():
        draw_vectors(vectors, rows, dtype)
    options = ["--child", case, "--rows", str(rows), "--dtype", dtype, "--folder", str(folder)]
    ended = subprocess.run([sys.executable, script, *options], check=True, stdout=subprocess.PIPE, text=True)
    return json.loads(ended.stdout)


def slope(first: float, last: float, sizes: Sequence[int]) -> float:
    """Slope of a cost in the number of rows, both as logarithms; NaN for one size."""
    return math.log(last / first) / math.log(sizes[-1] / sizes[0]) if len(sizes) > 1 else math.nan


def vectors_of(folder: Path, rows: int, dtype: str) -> Path:
    """File of the vectors."""
    return folder / f"vectors-{rows}.{dtype}"


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
