"""What a large pool costs: processor seconds and memory of each stage, by number of rows.

    python scripts/bench/large_pool.py [--rows 100000 1000000] [--stages load open ...] [--folder FOLDER]

`--rows 100000 1000000 10000000` adds ten million rows: about 18 GB of disk in the folder, 15.4 of them for the vectors,
which are made for the stages that read them only.

The rows are made: 11 words each, one label of ten classes (Parquet), and vectors of 384 dimensions in a file. A tenth
as many answers as rows are in a label store, asked and answered 1,000 at a time, with a time of each. Every stage runs
in a process of its own, which first does what comes before the stage; only the stage is measured. Memory is the
growth of the anonymous memory of the process during the stage, at its peak, without pages of memory-mapped files. The
slope is that of the processor seconds in the number of rows, both as logarithms: 1 is linear.

Results are kept in the folder, so that an interrupted call continues; `--again` measures again.
"""

import argparse
import json
import math
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from memory import AnonymousMemory, anonymous_memory

CLASSES = tuple(f"topic {i}" for i in range(10))
DIMENSIONS, BATCH = 384, 100
ASKED = 1_000  # answers of a batch in the label store


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, nargs="+", default=[100_000, 1_000_000])
    parser.add_argument("--stages", nargs="+", choices=STAGES, default=list(STAGES))
    parser.add_argument("--folder", type=Path, help="keep data and results there")
    parser.add_argument("--again", action="store_true", help="measure stages again that have a result")
    parser.add_argument("--child", nargs=2, metavar=("STAGE", "ROWS"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        stage, rows = options.child
        print(json.dumps(measured(STAGES[stage], options.folder / rows)))
        return
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.folder or Path(temporary)
        for rows in sorted(options.rows):
            measure(folder, rows, options.stages, again=options.again)
        show(folder, sorted(options.rows), options.stages)


def measure(folder: Path, rows: int, stages: list[str], *, again: bool) -> None:
    """Measure the stages at a size, and add them to the results in its folder."""
    data = folder / str(rows)
    data.mkdir(parents=True, exist_ok=True)
    path = data / "results.json"
    found = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    for stage in stages:
        if stage in found and not again:
            continue
        for make, name, stages_with_it in (
            (make_texts, "pool.parquet", STAGES),
            (make_vectors, "vectors.f32", WITH_VECTORS),
            (make_answers, "labels.db", WITH_ANSWERS),
        ):
            if stage in stages_with_it and not (data / name).exists():
                make(data / name, rows)
        command = [sys.executable, __file__, "--child", stage, str(rows), "--folder", str(folder)]
        said = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
        found[stage] = json.loads(said)
        path.write_text(json.dumps(found, indent=1), encoding="utf-8")
        print(f"{rows:>12,} {stage:14} {found[stage]}", file=sys.stderr)


# -- data --------------------------------------------------------------------------------------------------------------


def make_texts(path: Path, rows: int) -> None:
    import numpy as np
    import pyarrow as pa
    import pyarrow.parquet as pq

    rng = np.random.default_rng(0)
    words = pa.array([f"{a}{b}{c}" for a in ("ba", "ke", "lo", "mi") for b in "nrst" for c in range(125)])
    partial = path.with_suffix(".new")
    with pq.ParquetWriter(partial, pa.schema([("text", pa.string()), ("label", pa.string())])) as writer:
        for start in range(0, rows, 100_000):
            n = min(100_000, rows - start)
            columns = [words.take(pa.array(rng.integers(0, len(words), n))) for _ in range(11)]
            texts = pa.compute.binary_join_element_wise(*columns, " ")
            labels = pa.array(CLASSES).take(pa.array(rng.integers(0, len(CLASSES), n)))
            writer.write_table(pa.table({"text": texts, "label": labels}))
    partial.rename(path)


def make_vectors(path: Path, rows: int) -> None:
    import numpy as np

    rng, partial = np.random.default_rng(1), path.with_suffix(".new")
    with partial.open("wb") as file:
        for start in range(0, rows, 100_000):
            rng.standard_normal((min(100_000, rows - start), DIMENSIONS), np.float32).tofile(file)
    partial.rename(path)


def make_answers(path: Path, rows: int) -> None:
    """Write a label store with an answer for every tenth row, as one call of `ask` and `tell` for each batch would."""
    from dal.store.events import Answer
    from dal.store.label_store import LabelStore

    pool = loaded(path.parent).pool
    ids, partial = list(pool.ids.take(slice(0, None, 10))), path.with_suffix(".new")
    with LabelStore(partial) as store:
        store._connection().execute("PRAGMA synchronous = OFF")
        for start in range(0, len(ids), ASKED):
            batch = ids[start : start + ASKED]
            store.ask(batch, strategy="bench")
            store.tell(
                [
                    Answer(row, CLASSES[int(row[:4], 16) % 10], "ada", seconds=round((start + i) * 0.00137 % 60, 3))
                    for i, row in enumerate(batch)
                ]
            )
    partial.rename(path)


def loaded(folder: Path, **options: Any) -> Any:
    from dal.data import TextData

    return TextData(str(folder / "pool.parquet"), text="text", label="label", **options).load()


def opened(folder: Path, *, answers: bool = False, vectors: bool = False) -> Any:
    """A session on the pool: in memory, on the stored answers, or on vectors instead of texts."""
    import torch

    from dal.data import Splits
    from dal.learners.probe_learner import ProbeLearner
    from dal.session import Session
    from dal.store.label_store import LabelStore
    from dal.strategies.random import Random

    pool = loaded(folder).pool
    if vectors:
        file = str(folder / "vectors.f32")
        mapped = torch.from_file(file, shared=False, size=len(pool) * DIMENSIONS, dtype=torch.float32)
        pool = replace(pool, inputs=mapped.view(-1, DIMENSIONS))
    store = LabelStore.snapshot(folder / "labels.db") if answers else None
    return Session(Splits(pool), ProbeLearner(model=None), Random(), hide_labels=True, store=store)


def told(session: Any) -> Any:
    """The session after a first batch was answered."""
    rows = session.ask(BATCH)
    session.tell(rows, session.pool.labels[rows])
    return session


# -- stages: what comes before, and what is measured -------------------------------------------------------------------


def load(folder: Path) -> Callable[[], Any]:
    load_few()
    return lambda: loaded(folder)


def load_shares(folder: Path) -> Callable[[], Any]:
    load_few()
    return lambda: loaded(folder, test=0.01)


def load_few() -> None:
    """Load a small file, so that what is imported for that is not measured."""
    with tempfile.TemporaryDirectory() as temporary:
        make_texts(Path(temporary) / "pool.parquet", 1_000)
        loaded(Path(temporary), test=0.1)


def fingerprint(folder: Path) -> Callable[[], Any]:
    pool = loaded(folder).pool
    return lambda: pool.fingerprint


def digests(folder: Path) -> Callable[[], Any]:
    pool = loaded(folder).pool
    return lambda: pool.ids.digests


def open_session(folder: Path) -> Callable[[], Any]:
    from dal.data import Splits
    from dal.learners.probe_learner import ProbeLearner
    from dal.session import Session
    from dal.strategies.random import Random

    pool = loaded(folder).pool
    return lambda: Session(Splits(pool), ProbeLearner(model=None), Random(), hide_labels=True)


def open_answers(folder: Path) -> Callable[[], Any]:
    from dal.store.label_store import LabelStore

    return lambda: LabelStore(folder / "labels.db", access="read")


def open_session_answers(folder: Path) -> Callable[[], Any]:
    from dal.data import Splits
    from dal.learners.probe_learner import ProbeLearner
    from dal.session import Session
    from dal.store.label_store import LabelStore
    from dal.strategies.random import Random

    pool = loaded(folder).pool
    return lambda: Session(
        Splits(pool),
        ProbeLearner(model=None),
        Random(),
        hide_labels=True,
        store=LabelStore(folder / "labels.db", access="read"),
    )


def ask(folder: Path) -> Callable[[], Any]:
    session = opened(folder)
    return lambda: session.ask(BATCH)


def ask_answers(folder: Path) -> Callable[[], Any]:
    session = opened(folder, answers=True)
    return lambda: session.ask(BATCH)


def tell(folder: Path) -> Callable[[], Any]:
    session = opened(folder)
    rows = session.ask(BATCH)
    values = session.pool.labels[rows]
    return lambda: session.tell(rows, values)


def undo(folder: Path) -> Callable[[], Any]:
    session = told(opened(folder))
    return session.undo


def first_fit(folder: Path) -> Callable[[], Any]:
    session = told(opened(folder, vectors=True))
    return lambda: session.predictor


def later_fit(folder: Path) -> Callable[[], Any]:
    session = told(opened(folder, vectors=True))
    session.predictor  # noqa: B018
    told(session)
    return lambda: session.predictor


def first_measures(folder: Path) -> Callable[[], Any]:
    from dal.experiments.round_measures import Measures

    session = told(opened(folder, vectors=True))
    session.predictor  # noqa: B018
    return lambda: Measures(session).of_round(session.last_selection)


def later_measures(folder: Path) -> Callable[[], Any]:
    from dal.experiments.round_measures import Measures

    session = told(opened(folder, vectors=True))
    measures = Measures(session)
    measures.of_round(session.last_selection)
    told(session).predictor  # noqa: B018
    return lambda: measures.of_round(session.last_selection)


def work(folder: Path) -> Callable[[], Any]:
    from dal.evaluation.cost import Prices, costs, sources
    from dal.experiments.recorded_work import recorded_work

    session = opened(folder, answers=True)
    store, prices = session.store, Prices(per_hour=60.0)

    def figures() -> Any:
        record = recorded_work(store.work, store.proposals, store.unread)
        return session.state, costs(record, prices), sources(record, prices)

    return figures


STAGES = {
    "load": load,
    "load shares": load_shares,
    "fingerprint": fingerprint,
    "digests": digests,
    "open": open_session,
    "ask": ask,
    "tell": tell,
    "undo": undo,
    "first fit": first_fit,
    "later fit": later_fit,
    "first measures": first_measures,
    "later measures": later_measures,
    "open store": open_answers,
    "open answers": open_session_answers,
    "ask answers": ask_answers,
    "costs": work,
}


WITH_VECTORS = ("first fit", "later fit", "first measures", "later measures")
WITH_ANSWERS = ("open store", "open answers", "ask answers", "costs")


# -- measuring ---------------------------------------------------------------------------------------------------------


def measured(stage: Callable[[Path], Callable[[], Any]], folder: Path) -> dict[str, float]:
    """Processor seconds of a stage, and how much the anonymous memory of the process grew, in bytes."""
    import torch

    torch.set_num_threads(1)
    step = stage(folder)
    with AnonymousMemory() as memory:
        start = time.process_time()
        kept = step()
        seconds = time.process_time() - start
    left = anonymous_memory() - memory.before
    del kept
    return {"seconds": seconds, "peak": memory.peak - memory.before, "kept": left}


def show(folder: Path, sizes: list[int], stages: list[str]) -> None:
    """Print a Markdown table of all stages."""
    found = {size: json.loads((folder / str(size) / "results.json").read_text(encoding="utf-8")) for size in sizes}
    print(f"{os.uname().machine}, one thread; seconds are processor seconds, bytes are those at the peak\n")
    print("| stage | " + " | ".join(f"{size:,} rows: s | us/row | bytes/row" for size in sizes) + " | slope |")
    print("|---|" + "---|" * (3 * len(sizes) + 1))
    for stage in stages:
        cells = []
        for size in sizes:
            each = found[size][stage]
            cells += [f"{each['seconds']:.2f}", f"{each['seconds'] / size * 1e6:.2f}", f"{each['peak'] / size:.0f}"]
        first, last = (max(found[size][stage]["seconds"], 1e-3) for size in (sizes[0], sizes[-1]))
        slope = math.log(last / first) / math.log(sizes[-1] / sizes[0]) if len(sizes) > 1 else math.nan
        print(f"| {stage} | " + " | ".join(cells) + f" | {slope:.2f} |")


if __name__ == "__main__":
    main()
