"""Time and syncs of an answer with SQLite's write-ahead log and with its rollback journal.

    python scripts/bench/journals.py [FOLDER] [--answers 200]

FOLDER is on the disk to measure; by default it is temporary. Compare the two journals with each other, and both with
the time of a sync: on a network file system each sync is a request to the server. Syncs are counted by `strace`.
"""

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", nargs="?", type=Path)
    parser.add_argument("--answers", type=int, default=200)
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        print(f"{answering(options.folder, options.answers):.2f}")
        return
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        place = Path(folder)
        print(f"sync of a block    {syncing(place / 'block', options.answers):6.2f} ms")
        for journal in ("wal", "rollback"):
            milliseconds, syncs = measured(place, journal, options.answers)
            print(f"answer, {journal:10} {milliseconds:6.2f} ms, {syncs} syncs")


def syncing(path: Path, times: int) -> float:
    """Median milliseconds of writing a block and syncing it."""
    found = []
    with path.open("wb") as file:
        for _ in range(times):
            began = time.perf_counter()
            os.pwrite(file.fileno(), bytes(4096), 0)
            os.fsync(file.fileno())
            found.append(time.perf_counter() - began)
    return 1000 * median(found)


def measured(place: Path, journal: str, answers: int) -> tuple[float, str]:
    """Median milliseconds of an answer, and its syncs by the difference of two numbers of answers."""
    environment = {**os.environ, "DAL_JOURNAL": journal}

    def run(number: int, *before: str) -> float:
        with tempfile.TemporaryDirectory(dir=place) as folder:
            command = [*before, sys.executable, __file__, folder, "--answers", str(number), "--child"]
            return float(subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout)

    if shutil.which("strace") is None:
        return run(answers), "uncounted"
    counts = []
    for number in (10, 30):
        trace = place / f"trace-{number}"
        run(number, "strace", "-f", "-e", "trace=fsync,fdatasync", "-o", str(trace))
        counts.append(len(re.findall(r"sync\(", trace.read_text(encoding="utf-8"))))
    return run(answers), f"{(counts[1] - counts[0]) / 20:.1f}"


def answering(folder: Path, answers: int) -> float:
    """Median milliseconds of an answer."""
    from dal.store.label_log import LabelLog

    found = []
    with LabelLog(folder / "labels.db") as log:
        log.change_classes({"do": "add", "name": "x"}, key="x")
        log.rank([f"r{row}" for row in range(answers)], strategy="S", wanted={}, details={})
        for row in range(answers):
            began = time.perf_counter()
            log.answer(f"r{row}", "x", who="ada", key=f"ada {row}", replaces=None)
            found.append(time.perf_counter() - began)
    return 1000 * median(found)


if __name__ == "__main__":
    main()
