"""Part two: files and replies mutated at random, given to the readers in long-lived workers."""

import argparse
import json
import mmap
import os
import random
import resource
import select
import signal
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from attacks import children

SECONDS = 5.0  # of processor time for one item, which takes some milliseconds
HUNG = 60.0  # seconds that a worker may be silent
MEGABYTES = 2_000
MOST_SHOWN, MOST_LINES = 2_000, 30


class TooSlowError(BaseException):
    """An item that took more processor time than allowed. No reader catches it."""


@dataclass
class Found:
    """How items ended.

    Attributes:
        kind: of file.
        outcome: "read", "refused" or what went wrong.
        faults: title, fault, what was said, and how to see it again, of each.
        count: of items.
    """

    kind: str
    outcome: str
    faults: list[tuple[str, str, str, str]] = field(default_factory=list)
    count: int = 1


@dataclass
class Trial:
    """One mutated item, ready to be read.

    Attributes:
        kind: of file.
        content: what is kept when it goes wrong.
        read: reads it, and gives what does not hold of the result.
    """

    kind: str
    content: bytes
    read: Callable[[], list[str]]


#: Makes the trial of a random number generator, in a folder.
Maker = Callable[[random.Random], Trial]


def maker_of(part: str, folder: Path) -> Maker:
    """What makes the trials of a part."""
    from attacks import readers

    made: Maker = {
        "data": readers.Data,
        "sheets": readers.Sheets,
        "replies": readers.Replies,
        "configs": readers.Configs,
    }[part](folder)
    return made


def attack(part: str, options: argparse.Namespace) -> Iterator[Found]:
    """Every mutated item of a part, read by `options.jobs` workers."""
    kept = options.out / "mutated"
    kept.mkdir(exist_ok=True)
    jobs = 1 if options.item is not None else options.jobs
    items = range(options.mutations) if options.item is None else range(options.item, options.item + 1)
    workers = [_Worker(part, options, items[number::jobs], kept) for number in range(jobs)]
    try:
        while any(worker.alive for worker in workers):
            ready, _, _ = select.select([worker.pipe for worker in workers if worker.alive], [], [], 1.0)
            for worker in workers:
                yield from worker.heard(worker.alive and worker.pipe in ready)
    finally:
        for worker in workers:
            worker.end()


class _Worker:
    """A forked process that reads item after item, replaced by another when it dies or hangs."""

    def __init__(self, part: str, options: argparse.Namespace, items: range, kept: Path) -> None:
        self.part, self.options, self.items, self.kept = part, options, items, kept
        self._at = mmap.mmap(-1, 8)  # the position of the item being read
        self._rest = b""
        self.alive = True
        self._start(0)

    def _start(self, position: int) -> None:
        self._at[:] = position.to_bytes(8)
        self.pipe, writing = os.pipe()
        sys.stdout.flush()
        self.pid = os.fork()
        if self.pid == 0:
            code = 1
            try:
                os.close(self.pipe)
                self._work(position, writing)
                code = 0
            except BaseException:
                traceback.print_exc()
            finally:
                os._exit(code)
        os.close(writing)
        self._last = time.monotonic()

    def heard(self, ready: bool) -> Iterator[Found]:
        """What it has told, and what became of it when it ended."""
        if not self.alive:
            return
        if not ready:
            if time.monotonic() - self._last > HUNG:
                os.kill(self.pid, signal.SIGKILL)
            return
        self._last = time.monotonic()
        told = os.read(self.pipe, 1 << 16)
        *lines, self._rest = (self._rest + told).split(b"\n")
        for line in lines:
            yield Found(**json.loads(line))
        if told:
            return
        os.close(self.pipe)
        _, status = os.waitpid(self.pid, 0)
        code = os.waitstatus_to_exitcode(status)
        if code == 0:
            self.alive = False
            return
        position = int.from_bytes(self._at[:])
        item = self.items[position]
        how = "hung" if code == -signal.SIGKILL else f"ended its process ({code})"
        yield Found("?", how, [(f"item {item}", how, "", reproduction(self.part, item, self.options))])
        self._rest = b""
        if position + 1 < len(self.items):
            self._start(position + 1)
        else:
            self.alive = False

    def end(self) -> None:
        """Kill it, where it works."""
        if self.alive:
            os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)
            self.alive = False

    def _work(self, position: int, writing: int) -> None:
        children.as_owner()
        children.limit_memory(MEGABYTES)
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        signal.signal(signal.SIGPROF, _too_slow)
        warnings.simplefilter("ignore")
        base = "/dev/shm" if os.path.isdir("/dev/shm") else None
        with tempfile.TemporaryDirectory(prefix="attack-", dir=base) as folder:
            os.chdir(folder)
            os.environ["HOME"] = folder
            maker = maker_of(self.part, Path(folder))
            for at in range(position, len(self.items)):
                self._at[:] = at.to_bytes(8)
                found = tried(maker, self.part, self.items[at], self.options, self.kept)
                line = json.dumps(found.__dict__).encode() + b"\n"
                while line:
                    line = line[os.write(writing, line) :]


def _too_slow(number: int, frame: Any) -> None:
    raise TooSlowError


def tried(maker: Maker, part: str, item: int, options: argparse.Namespace, kept: Path) -> Found:
    """One item, made from its number, read and judged."""
    trial = maker(random.Random(f"{options.seed} {part} {item}"))
    outcome, fault, said = "read", "", ""
    try:
        signal.setitimer(signal.ITIMER_PROF, SECONDS)
        faults = trial.read()
        signal.setitimer(signal.ITIMER_PROF, 0)
        fault = "; ".join(dict.fromkeys(faults))
        outcome = "read" if not fault else "read wrongly"
    except TooSlowError as error:
        outcome, said = "too slow", "".join(traceback.format_tb(error.__traceback__)[-3:])
        fault = f"took more than {SECONDS:.0f} seconds in {_place(error)}"
    except Exception as error:
        signal.setitimer(signal.ITIMER_PROF, 0)
        outcome, fault, said = _refused(error)
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
    if not fault:
        return Found(trial.kind, outcome)
    file = kept / f"{part}-{item}.{trial.kind.replace(' ', '_')}"
    file.write_bytes(trial.content)
    how = f"{reproduction(part, item, options)}  # {file}"
    return Found(trial.kind, outcome, [(f"item {item} ({trial.kind})", fault, said, how)])


def _refused(error: Exception) -> tuple[str, str, str]:
    """The outcome, what is wrong with the refusal, and what it says."""
    from attacks.inputs import CONTROL, RAW
    from dal.errors import DalError

    said = str(error)
    if not isinstance(error, DalError):
        return "raised", f"{type(error).__name__} in {_place(error)}", "".join(traceback.format_exception(error)[-4:])
    if len(said) > MOST_SHOWN or said.count("\n") > MOST_LINES:
        return "refused at length", f"long message from {_place(error)}", said[:400]
    if raw := RAW.search(said):
        return "refused", f"a raw exception in a message from {_place(error)}: {raw[0]}", said
    if control := CONTROL.search(said):
        return "refused", f"a control character in a message from {_place(error)}", f"{control[0]!r} in {said}"
    return "refused", "", said


def _place(error: BaseException) -> str:
    """The deepest place in dal that the error went through."""
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if "/dal/" in frame.filename]
    return f"dal/{frames[-1].filename.rpartition('/dal/')[2]} {frames[-1].name}" if frames else "no place in dal"


def reproduction(part: str, item: int, options: argparse.Namespace) -> str:
    """The command that reads one item again."""
    return f"python scripts/bench/attack.py --only {part} --item {item} --seed {options.seed}"
