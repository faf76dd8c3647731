"""What opening a long log of answers costs: processor seconds and memory, by number of answers.

    python scripts/bench/opening.py [--answers 100000 1000000] [--folder FOLDER]

The log is that of a project in which all texts but a tenth were asked, in batches of 1,000, and have one answer of ten
classes, by one of ten people, with a time of its own. Opened are the label store, a session on a pool with the answered
ids, and the service of `dal annotate` with a first page for one of the people, each in a process of its own that has
imported its modules. Memory is the growth of the anonymous memory of the process at its peak. Linux only.
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

from memory import AnonymousMemory

PEOPLE = tuple(f"person {i}" for i in range(10))
CLASSES = tuple(f"class {i}" for i in range(10))
ASKED = 1_000  # rows of a batch


def main() -> None:
    """Make the folders, measure, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--answers", type=int, nargs="+", default=[100_000, 1_000_000])
    parser.add_argument("--folder", type=Path, help="keep the projects there, or use those that are there")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.child:
        print(json.dumps(measured(OPENED[given.child](given.folder))))
        return
    print("| opened | answers | processor s | MB |\n|---|---|---|---|")
    with tempfile.TemporaryDirectory() as temporary:
        for answers in given.answers:
            folder = (given.folder or Path(temporary)) / str(answers)
            if not folder.exists():
                make(folder, answers)
            for what in OPENED:
                command = [sys.executable, __file__, "--child", what, "--folder", str(folder)]
                found = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)
                print(f"| {what} | {answers:,} | {found['seconds']:.2f} | {found['bytes'] / 1e6:.0f} |", flush=True)


def make(folder: Path, answers: int) -> None:
    """Write the project: events as the service writes them, and what stands derived from them."""
    from dal.store.label_log import LabelLog
    from dal.store.project_rows import ProjectRow, ProjectRows

    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text("kind: project\ndata: {path: rows.db}\n", encoding="utf-8")
    with ProjectRows.create(folder / "rows.db") as stored:
        rows = (ProjectRow(f"row {i:07d}", f"text {i} about {CLASSES[i % 10]}") for i in range(answers + answers // 9))
        stored.add(rows, source="pool.csv")
    with LabelLog(folder / "labels.db") as log:
        for name in CLASSES:
            log.change_classes({"do": "add", "name": name}, who=PEOPLE[0])
        with log.changing() as connection:
            for round, start in enumerate(range(0, answers, ASKED), 1):
                batch = range(start, min(answers, start + ASKED))
                connection.execute("INSERT INTO batches VALUES (?, 'Margin', '{}')", (round,))
                asked = [("asked", 1.7e9, round, f"row {i:07d}", *[None] * 5) for i in batch]
                answered = [
                    (
                        "answered",
                        1.7e9 + i,
                        round,
                        f"row {i:07d}",
                        json.dumps(CLASSES[i * 7919 % 10]),
                        PEOPLE[i % 10],
                        "person",
                        milliseconds(i),
                        f"answer:{i}",
                    )
                    for i in batch
                ]
                connection.executemany(
                    "INSERT INTO events (kind, at, round, row, value, who, source, seconds, key) "
                    "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
                    asked + answered,
                )
            log._derive(connection)


def milliseconds(answer: int) -> float:
    """Seconds that an answer took, with three decimals."""
    return round(answer * 0.00137 % 60, 3)


def label_store(folder: Path) -> Callable[[], Any]:
    """Open the log as a session does."""
    from dal.store.label_store import LabelStore

    return lambda: LabelStore(folder / "labels.db", access="read")


def session(folder: Path) -> Callable[[], Any]:
    """Open the log and a session on it."""
    import numpy as np
    import torch

    from dal.data import Splits
    from dal.data.columns import TextColumn
    from dal.data.rows import Rows
    from dal.learners.probe_learner import ProbeLearner
    from dal.session import Session
    from dal.store.label_store import LabelStore
    from dal.strategies.random import Random

    count = int(folder.name)
    ids = TextColumn.of(f"row {i:07d}" for i in range(count))
    blank = torch.from_numpy(np.full(count, -1))
    pool = Rows(torch.zeros(count, 1), ids, blank, torch.zeros(count, dtype=torch.bool), CLASSES)

    def opened() -> Any:
        store = LabelStore(folder / "labels.db", access="read")
        made = Session(Splits(pool), ProbeLearner(model=None), Random(), store=store)
        assert made.pool_state.n_labeled == count
        return made

    return opened


def service(folder: Path) -> Callable[[], Any]:
    """Open the service of the annotation page, and show a person her first texts."""
    import dal.annotate.page_routes
    import dal.annotate.server  # noqa: F401  what the process of the page imports, too
    from dal.annotate.service import open_service

    def opened() -> Any:
        made = open_service(folder, trainer=False)
        assert made.state(PEOPLE[0])["header"]["answered"] == int(folder.name)
        return made

    return opened


OPENED = {"label store": label_store, "session": session, "service": service}


def measured(step: Callable[[], Any]) -> dict[str, float]:
    """Processor seconds of a step, and how much the anonymous memory grew at its peak."""
    with AnonymousMemory() as memory:
        start = time.process_time()
        kept = step()
        seconds = time.process_time() - start
    del kept
    return {"seconds": seconds, "bytes": memory.peak - memory.before}


if __name__ == "__main__":
    main()
