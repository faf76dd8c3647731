"""Part three: commands that are killed at random instants and given again, next to one that was not."""

import argparse
import contextlib
import json
import mmap
import os
import random
import re
import select
import shutil
import signal
import sqlite3
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from attacks import children, folders
from attacks.children import Child, Ended, Limits

ROWS = 200
FEW = 20  # kills, below which no victim has workers: these start slowly
DENSE = 1.0  # seconds after the folder has appeared, in which half of the kills fall
LIMITS = Limits(wall=300.0, processor=200, megabytes=6_000)

ASKED = (
    "data: {path: pool.csv, id: id, label: null, classes: [access, billing, praise, shipping]}\n"
    "learner: TfidfLearner\nstrategy: {Phases: {first: Random, then: Margin, until: 10}}\n"
)
PAIR = ("compare", "run.yaml", "--strategies", "Margin", "--seeds", "1", "--folder", "work")  # and the baseline
GRID = ("compare", "run.yaml", "--strategies", "Margin,Entropy", "--seeds", "2", "--folder", "work")


@dataclass(frozen=True)
class Victim:
    """A command that is killed.

    Attributes:
        name: how the table calls it.
        arguments: of `dal`.
        before: the victim in whose folder it works, once that is done; None for a new one.
        share: how often it is chosen.
        targets: what is hit: everything, the process alone, or one of its workers.
        filled: whether the sheet is filled in before.
    """

    name: str
    arguments: tuple[str, ...]
    before: str | None
    share: float
    targets: tuple[str, ...] = ("all",)
    filled: bool = False


VICTIMS = (
    Victim("run", ("run", "run.yaml", "--folder", "work"), None, 0.26),
    Victim("compare", GRID, None, 0.16),
    Victim("compare --jobs 2", (*PAIR, "--jobs", "2"), None, 0.06, ("worker", "process", "all")),
    Victim("ask, first", ("ask", "work", "--config", "ask.yaml", "-n", "12", "-o", "todo.csv", "--force"), None, 0.14),
    Victim("tell, first", ("tell", "work", "todo.csv"), "ask, first", 0.12, filled=True),
    Victim("ask, later", ("ask", "work", "-n", "10", "-o", "todo.csv", "--force"), "tell, first", 0.14),
    Victim("tell, later", ("tell", "work", "todo.csv"), "ask, later", 0.12, filled=True),
)
SIGNALS = (signal.SIGKILL,) * 8 + (signal.SIGINT, signal.SIGTERM)


@dataclass
class Outcome:
    """How one victim ended, after one kill or several."""

    command: str
    signal: str
    title: str
    faults: list[str]
    said: str
    reproduction: str


@dataclass
class Whole:
    """What a command does when nobody kills it: what it leaves behind, and how long it takes."""

    facts: dict[str, Any]
    seconds: float


def attack(options: argparse.Namespace) -> Iterator[Outcome]:
    """Victim after victim in `options.jobs` processes, until there were `options.kills` kills."""
    root = options.out / "kills"
    shutil.rmtree(root, ignore_errors=True)
    root.mkdir(parents=True)
    some = [victim for victim in VICTIMS if options.kills >= FEW or "--jobs" not in victim.arguments]
    wholes = _wholes(root, some)
    enough = mmap.mmap(-1, 1)
    pipes = {}
    for number in range(options.jobs):
        reading, writing = os.pipe()
        pid = _helper(lambda: _victims(number, options, root, wholes, enough, writing))  # noqa: B023
        os.close(writing)
        pipes[reading] = pid
    count, rest = 0, dict.fromkeys(pipes, b"")
    try:
        while pipes:
            for pipe in select.select(list(pipes), [], [], 1.0)[0]:
                told = os.read(pipe, 1 << 16)
                if not told:
                    os.waitpid(pipes.pop(pipe), 0)
                *lines, rest[pipe] = (rest[pipe] + told).split(b"\n")
                for line in lines:
                    if count < options.kills:
                        yield Outcome(**json.loads(line))
                    count += 1
                    if count >= options.kills:
                        enough[0] = 1
    finally:
        enough[0] = 1
        for pid in pipes.values():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGTERM)
            os.waitpid(pid, 0)


def _helper(work: Callable[[], None]) -> int:
    sys.stdout.flush()
    pid = os.fork()
    if pid:
        return pid
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    try:
        work()
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(0)


def _wholes(root: Path, victims: Sequence[Victim]) -> dict[str, Whole]:
    """The victims, undisturbed: their folders are kept for those that go on from them."""
    start = root / "whole-start"
    start.mkdir()
    found = [[f"t{i}", *row] for i, row in enumerate(folders.texts(ROWS, seed=3))]
    folders.write_rows(start / "tickets.csv", [["id", "text", "label"], *found])
    folders.write_rows(start / "pool.csv", [["id", "text"], *(row[:2] for row in found)])
    (start / "run.yaml").write_text(folders.RUN, encoding="utf-8")
    (start / "ask.yaml").write_text(ASKED, encoding="utf-8")
    wholes = {}
    for victim in victims:
        place = root / ("whole-" + victim.name.replace(" ", "-"))
        _begin(victim, root, place)
        began = time.monotonic()
        ended = _start(victim, place).wait()
        if ended.code != 0:
            raise SystemExit(f"{victim.name} failed without a kill: see {place}")
        wholes[victim.name] = Whole(facts(place), time.monotonic() - began)
    return wholes


def _begin(victim: Victim, root: Path, place: Path) -> None:
    """The folder that a victim begins with."""
    before = "start" if victim.before is None else victim.before.replace(" ", "-")
    shutil.copytree(root / f"whole-{before}", place)
    for log in (*place.glob("x.*"), place / "started"):
        log.unlink(missing_ok=True)
    if victim.filled:
        folders.fill(place / "todo.csv")


def _start(victim: Victim, place: Path) -> Child:
    (place / "started").unlink(missing_ok=True)

    def work() -> int:
        (place / "started").touch()
        return children.command(victim.arguments)()

    return children.fork(work, place, place / "x", LIMITS)


def _victims(
    number: int, options: argparse.Namespace, root: Path, wholes: dict[str, Whole], enough: mmap.mmap, writing: int
) -> None:
    """Victim after victim, until there were enough kills."""
    lengths = {name: whole.seconds for name, whole in wholes.items()}
    item = number if options.item is None else options.item
    while not enough[0]:
        point = random.Random(f"{options.seed} kills {item}")
        place = root / f"victim-{item}"
        shutil.rmtree(place, ignore_errors=True)
        outcomes = list(_Story(point, root, place, wholes, lengths, item, options.seed).run())
        for outcome in outcomes:
            os.write(writing, json.dumps(outcome.__dict__).encode() + b"\n")
        if not any(outcome.faults for outcome in outcomes):
            shutil.rmtree(place, ignore_errors=True)
        item += options.jobs


@dataclass
class _Story:
    """One victim: it is killed once or more, and given again until it has come to its end."""

    point: random.Random
    root: Path
    place: Path
    wholes: dict[str, Whole]
    lengths: dict[str, float]
    item: int
    seed: int
    faults: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    hits: list[tuple[str, str]] = field(default_factory=list)

    def run(self) -> Iterator[Outcome]:
        """One outcome for each kill; the faults of all of them belong to the last."""
        some = [each for each in VICTIMS if each.name in self.wholes]
        victim = self.point.choices(some, [each.share for each in some])[0]
        _begin(victim, self.root, self.place)
        for _ in range(1 + (self.point.random() < 0.3)):
            self._hit(victim)
        ended = _start(victim, self.place).wait()
        if ended.code != 0:
            self.faults.append(
                f"given again, {victim.name} ends with {ended.code}" + (" (too late)" if ended.late else "")
            )
        else:
            self._compare(victim)
        said = (self.place / "x.err").read_text(encoding="utf-8", errors="replace")
        if "Traceback" in said:
            self.faults.append("a traceback")
        told = "; ".join(f"{how} {when}" for how, when in self.hits)
        title = f"victim {self.item}: {victim.name}: {told}"
        how = f"python scripts/bench/attack.py --only kills --kills 1 --jobs 1 --item {self.item} --seed {self.seed}"
        for number, (name, _) in enumerate(self.hits, 1):
            last = number == len(self.hits)
            words = "\n".join([*self.notes, said])[-1500:]
            found = list(dict.fromkeys(self.faults)) if last else []
            yield Outcome(victim.name, name, title, found, words, f"{how}  # about: instants vary; {self.place}")

    def _hit(self, victim: Victim) -> None:
        """Start the victim and kill it; nothing where it came to its end before."""
        number = self.point.choice(SIGNALS)
        target = self.point.choice(victim.targets) if number == signal.SIGKILL else "all"
        child = _start(victim, self.place)
        ended = self._await(child, lambda: (self.place / "started").exists())
        began, length = time.monotonic(), self.lengths[victim.name]
        if self.point.random() < 0.5:
            ended = ended or self._await(child, (self.place / "work").exists)
            instant = self.point.uniform(0, min(DENSE, length))
            when = f"{instant:.3f} s after the folder was there"
        else:
            instant = self.point.uniform(0, length)
            when = f"{instant:.3f} s after the start"
            if instant > 0.9 * length:
                self.lengths[victim.name] *= 1.05
        at = time.monotonic() + instant
        ended = ended or self._await(child, lambda: time.monotonic() >= at)
        if ended is None:
            if target == "worker":
                self._kill_worker(child)
            elif target == "process":
                os.kill(child.pid, signal.SIGKILL)
            else:
                child.kill(number)
            ended = child.wait()
            hit = ended.code != 0 or target == "worker"
        else:
            self.lengths[victim.name] = max(0.05, min(length, time.monotonic() - began))
            hit = False
        if hit:
            name = signal.Signals(number).name + ("" if target == "all" else f" of a {target}")
            self.hits.append((name, when))
            self._look(victim, number, target, ended)
        with contextlib.suppress(ProcessLookupError, PermissionError):
            if target != "process":
                os.killpg(child.pid, signal.SIGKILL)

    @staticmethod
    def _await(child: Child, ready: Callable[[], bool]) -> Ended | None:
        """How the child ended, None once something is ready."""
        while not ready():
            if (ended := child.poll()) is not None:
                return ended
            time.sleep(0.001)
        return None

    def _kill_worker(self, child: Child) -> None:
        """Kill one of the workers, where there is any; the command goes on with the others."""
        found = Path(f"/proc/{child.pid}/task/{child.pid}/children")
        workers = [int(word) for path in found.parent.parent.glob("*/children") for word in path.read_text().split()]
        if workers:
            os.kill(self.point.choice(workers), signal.SIGKILL)
        else:
            child.kill()

    def _look(self, victim: Victim, number: int, target: str, ended: Ended) -> None:
        """What a kill has left, and what the command has said of it."""
        for store in sorted((self.place / "work").glob("**/labels.db")):
            if fault := _half(store):
                self.faults.append(f"after the kill, a {fault}")
        said = (self.place / "x.err").read_text(encoding="utf-8", errors="replace")
        self.notes.append(f"[{signal.Signals(number).name}: exit code {ended.code}] {said.strip()[-300:]}")
        # 128 + number: the line that says how to go on was written; -number: the signal struck before or was SIGKILL
        farewell = 128 + number
        if target == "all" or number == signal.SIGINT:
            if ended.code not in (0, farewell, -number):
                self.faults.append(f"{victim.name}: exit code {ended.code} after {signal.Signals(number).name}")
            elif ended.code == farewell and not re.search(r"go on|again|resume", said):
                self.faults.append(f"{victim.name}: it is not said how to go on after {signal.Signals(number).name}")
        (self.place / "x.err").unlink()

    def _compare(self, victim: Victim) -> None:
        """What differs from the one that was not killed."""
        now, whole = facts(self.place), self.wholes[victim.name].facts
        for name in sorted({*now, *whole}):
            if name not in whole:
                odd = re.match(r"(.*?(?:^|/)(?:\.[^/]*|[^/]*\.(?:new|old)))(?:/|$)", name)
                left = re.sub(r"[0-9a-f]{8,}", "*", odd[1] if odd else name)
                self.faults.append(f"{victim.name}: {left} is left over")
            elif name not in now:
                self.faults.append(f"{victim.name}: {name} is missing")
            elif now[name] != whole[name]:
                self.faults.append(f"{victim.name}: {name} differs")


# -- what is compared --------------------------------------------------------------------------------------------------

_NOT_COMPARED = re.compile(r"(-wal|-shm|\.lock|\.log|started|/log|x\.(out|err))$")


def facts(place: Path) -> dict[str, Any]:
    """Every file below a folder, and of those that say what was asked, answered and measured, what they say."""
    found: dict[str, Any] = {}
    for path in sorted(place.rglob("*")):
        name = str(path.relative_to(place))
        if path.is_dir() or _NOT_COMPARED.search(name):
            continue
        if path.name == "labels.db":
            found |= {f"{name}: {part}": value for part, value in stored(path).items()}
        elif path.name == "metrics.jsonl":
            found[name] = [_timeless(json.loads(line)) for line in path.read_text(encoding="utf-8").splitlines()]
        elif path.suffix == ".yaml" or path.name in {"todo.csv", "quality.csv"}:  # the other tables hold times
            found[name] = path.read_text(encoding="utf-8-sig")
        else:
            found[name] = None
    return found


def stored(path: Path) -> dict[str, Any]:
    """The events and batches of a label store, without the time."""
    with contextlib.closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as base:
        base.row_factory = sqlite3.Row
        events = [_timeless(dict(row)) for row in base.execute("SELECT * FROM events ORDER BY event")]
        batches = [dict(row) for row in base.execute("SELECT * FROM batches ORDER BY round")]
    for batch in batches:
        batch["details"] = _timeless(json.loads(batch["details"]))
    answered = [event["row"] for event in events if event["kind"] == "answered"]
    once = len(answered) == len(set(answered))
    return {"events": events, "batches": batches, "every row is answered once": once}


def _timeless(value: Any) -> Any:
    """A value without seconds and moments, and without who computed it."""
    if isinstance(value, dict):
        kept = {
            key: inner for key, inner in value.items() if not key.endswith("seconds") and key not in ("at", "shared")
        }
        return {key: _timeless(inner) for key, inner in kept.items()}
    return [_timeless(inner) for inner in value] if isinstance(value, list) else value


def _half(path: Path) -> str:
    """What is wrong with a store as a kill left it; empty for nothing. The store itself is not opened."""
    if path.stat().st_size == 0:
        return "store of no bytes"
    copy = path.parent.parent / f"copy-of-{path.parent.name}.db"
    try:
        for end in ("", "-wal"):
            source = path.with_name(path.name + end)
            if source.exists():
                shutil.copy2(source, f"{copy}{end}")
        with contextlib.closing(sqlite3.connect(copy)) as base:
            if base.execute("PRAGMA integrity_check").fetchone()[0] != "ok":
                return "damaged store"
            if not base.execute("PRAGMA application_id").fetchone()[0]:
                return "half store"
            events = base.execute("SELECT kind, round, count(*) FROM events GROUP BY kind, round").fetchall()
            rounds = {number for _, number, _ in events}
            batches = {number for (number,) in base.execute("SELECT round FROM batches")}
            return "" if rounds - {0} <= batches else "batch without its head"
    except sqlite3.Error as error:
        return f"store that cannot be read ({error})"
    finally:
        for end in ("", "-wal", "-shm", "-journal"):
            Path(f"{copy}{end}").unlink(missing_ok=True)
