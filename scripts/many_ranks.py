"""Runs a config on several ranks, kills them at random, resumes with other numbers, and compares with one process.

    python scripts/many_ranks.py CONFIG [--ranks 1,2,3,4] [--kills 10] [--seed 0] [--folder build/many_ranks]

Further options are those of `dal run`. First the config is run on one rank, and whole on each number of ranks. Then
runs are killed: after a random time SIGKILL ends rank 0 or another rank, and the run is resumed with a random number of
ranks, until all kills are used. Compared are the events in `labels.db` and the lines of `metrics.jsonl`, without times.
Exit code 0 if all are equal and each lost rank was reported in one line with exit code 4.
"""

import argparse
import json
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

_TIMES = ("at", "time")


def without_times(value: Any) -> Any:
    """A line or an event without the moments and durations in it."""
    if isinstance(value, dict):
        kept = {key: item for key, item in value.items() if "seconds" not in key and key not in _TIMES}
        return {key: without_times(item) for key, item in kept.items()}
    return [without_times(item) for item in value] if isinstance(value, list) else value


def outcome(folder: Path) -> dict[str, Any]:
    """What a run has asked, stored and measured, by cell."""
    cells = {}
    for log in sorted(folder.glob("*/labels.db")):
        lines = (log.parent / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
        with sqlite3.connect(log) as database:
            database.row_factory = sqlite3.Row
            events = [without_times(dict(row)) for row in database.execute("SELECT * FROM events ORDER BY event")]
        cells[log.parent.name] = [without_times(json.loads(line)) for line in lines], events
    return cells


def differences(one: dict[str, Any], other: dict[str, Any]) -> list[str]:
    """In which cells and files two runs differ."""
    found = [f"cells {sorted(one)} and {sorted(other)}"] if one.keys() != other.keys() else []
    for cell in one.keys() & other.keys():
        names = zip(("metrics.jsonl", "events in labels.db"), one[cell], other[cell], strict=True)
        found += [f"{cell}: {name}" for name, before, now in names if before != now]
    return found


def started(arguments: list[str]) -> "subprocess.Popen[str]":
    """Start `dal run` with some arguments."""
    command = [sys.executable, "-m", "dal", "run", *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def other_ranks(process: int) -> list[int]:
    """The processes of the ranks that rank 0 has started."""
    try:
        return [int(child) for child in Path(f"/proc/{process}/task/{process}/children").read_text().split()]
    except OSError:
        return []


def disturbed(arguments: list[str], seconds: float, chance: random.Random) -> tuple[str, int, str]:
    """Start a run and kill one of its ranks after some seconds.

    Returns:
        The rank that was killed, "" for none because the run ended before; exit code and output.
    """
    process = started(arguments)
    time.sleep(seconds)
    others = other_ranks(process.pid)
    victim = chance.choice([process.pid, *others])
    name = ""
    if process.poll() is None:
        os.kill(victim, signal.SIGKILL)
        name = "rank 0" if victim == process.pid else "another rank"
    output, _ = process.communicate()
    return name, process.returncode, output


def main() -> int:
    """Run the trial and print a line for each run."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], allow_abbrev=False)
    parser.add_argument("config")
    parser.add_argument("--ranks", default="1,2,3,4", type=lambda text: [int(each) for each in text.split(",")])
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", type=Path, default=Path("build/many_ranks"))
    options, more = parser.parse_known_args()
    shutil.rmtree(options.folder, ignore_errors=True)
    chance, failures = random.Random(options.seed), 0

    def arguments(folder: Path, ranks: int) -> list[str]:
        if (folder / "config.yaml").exists():
            return ["--resume", str(folder), "--devices", str(ranks)]
        return [options.config, "--folder", str(folder), "--report", "false", "--devices", str(ranks), *more]

    def compared(name: str, folder: Path, output: str) -> int:
        unlike = differences(expected, outcome(folder))
        print(f"{name}: {'; '.join(unlike) or 'equal'}{f' ({output.strip()[-500:]})' if unlike else ''}", flush=True)
        return bool(unlike)

    begun = time.monotonic()
    whole = started(arguments(options.folder / "one", 1))
    output, _ = whole.communicate()
    if whole.returncode:
        print(output)
        return 1
    duration, expected = time.monotonic() - begun, outcome(options.folder / "one")
    events = sum(len(each[1]) for each in expected.values())
    print(f"one process: {len(expected)} cells, {events} events", flush=True)
    for ranks in options.ranks:
        folder = options.folder / f"ranks{ranks}"
        output, _ = started(arguments(folder, ranks)).communicate()
        failures += compared(f"{ranks} ranks", folder, output)
    kills = number = 0
    while kills < options.kills:
        number += 1
        folder, history, code = options.folder / f"killed{number}", list[str](), 1
        while code:
            ranks = chance.choice(options.ranks)
            seconds = chance.uniform(0, 1.2 * duration) if kills < options.kills else 1e9
            if seconds == 1e9:
                finishing = started(arguments(folder, ranks))
                output, _ = finishing.communicate()
                killed, code = "", finishing.returncode
            else:
                killed, code, output = disturbed(arguments(folder, ranks), seconds, chance)
            kills += bool(killed)
            history.append(f"{ranks} ranks" + (f", {killed} killed" if killed else ""))
            if killed == "another rank" and code:
                errors = [line for line in output.splitlines() if line.startswith("dal: error: ")]
                if code != 4 or len(errors) != 1 or "was killed by signal 9" not in errors[0]:
                    failures += 1
                    print(f"a lost rank ended with {code}: {output.strip()[-500:]}", flush=True)
            elif code and not killed:
                print(f"ended with {code}: {output.strip()[-500:]}", flush=True)
                return 1
        failures += compared(f"run {number} ({'; '.join(history)})", folder, output)
    print("all equal" if not failures else f"{failures} failures", flush=True)
    return bool(failures)


if __name__ == "__main__":
    sys.exit(main())
