"""Forked children of a process that has imported everything: a command starts in milliseconds, within limits."""

import ctypes
import os
import resource
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

#: What commands import when they need it; loaded once, so that no child has to.
PRELOADED = (
    "dal.cli",
    "dal.experiments.experiment",
    "dal.experiments.comparison",
    "dal.session.session",
    "dal.data.label_cells",
    "dal.annotate.row_matching",
    "dal.annotate.sheet",
    "dal.report",
    "dal.config.build",
    "dal.config.without_imports",
    "dal.experiments.stored_model",
    "dal.commands.audit_report",
    "dal.commands.automatic_labeling",
    "dal.commands.accuracy_estimate",
    "dal.commands.predicted_rows",
    "dal.commands.dry_run",
    "dal.experiments.executor",
    "dal.learners.tfidf_learner",
    "dal.llm.prompting.reply_parsing",
    "dal.llm.llm_learner",
    "dal.oracles.router",
    "dal.stopping",
    "datasets",
    "pyarrow.parquet",
    "pyarrow.csv",
    "sklearn.feature_extraction.text",
    "sklearn.linear_model",
    "matplotlib.figure",
    "multiprocessing.pool",
    "concurrent.futures.thread",
    "lightning",
    "openai",
)


@dataclass
class Ended:
    """How a child ended.

    Attributes:
        code: its exit code; minus the signal that killed it.
        late: whether it was killed for taking too long.
        processor: seconds of processor time.
        megabytes: the most memory that it had, above what it began with.
    """

    code: int
    late: bool
    processor: float
    megabytes: float


@dataclass
class Limits:
    """What a child may take."""

    wall: float = 120.0
    processor: int = 25
    megabytes: int = 1500


@dataclass
class Child:
    """A forked child at work."""

    pid: int
    began: float
    limits: Limits
    subject: Any = None
    late: bool = field(default=False)

    def kill(self, number: int = signal.SIGKILL) -> None:
        """Send a signal to the child and to what it started."""
        try:
            os.killpg(self.pid, number)
        except ProcessLookupError:
            os.kill(self.pid, number)  # it has not made its own group yet

    def poll(self) -> Ended | None:
        """How it ended, None while it works. One that is too late is killed."""
        pid, status, used = os.wait4(self.pid, os.WNOHANG)
        if not pid:
            if time.monotonic() - self.began > self.limits.wall:
                self.late = True
                self.kill()
            return None
        code = os.waitstatus_to_exitcode(status)
        late = self.late or code == -signal.SIGXCPU
        return Ended(code, late, used.ru_utime + used.ru_stime, used.ru_maxrss / 1024)

    def wait(self) -> Ended:
        """How it ended, once it has."""
        while (ended := self.poll()) is None:
            time.sleep(0.005)
        return ended


def preload() -> None:
    """Import what commands need. Nothing of the path may be the current folder."""
    import importlib

    import torch

    torch.set_num_threads(1)
    sys.dont_write_bytecode = True  # of modules in the folders that are tried
    sys.path[:] = [entry for entry in sys.path if entry not in ("", os.getcwd()) or os.path.isdir(f"{entry}/dal")]
    for name in PRELOADED:
        importlib.import_module(name)


def fork(work: Callable[[], int], folder: Path, logs: Path, limits: Limits | None = None, subject: Any = None) -> Child:
    """Start `work` in `folder`; what it prints goes to `logs`.out and `logs`.err, and its result is the exit code."""
    limits = limits or Limits()
    sys.stdout.flush()
    sys.stderr.flush()
    pid = os.fork()
    if pid:
        return Child(pid, time.monotonic(), limits, subject)
    code = 1
    try:
        _settle(folder, logs, limits)
        code = work()
    except SystemExit as ended:
        code = ended.code if isinstance(ended.code, int) else 1
    except BaseException:
        traceback.print_exc()
    finally:
        try:
            sys.stdout.flush()
            sys.stderr.flush()
        finally:
            os._exit(code)


def command(arguments: Iterable[str]) -> Callable[[], int]:
    """The `dal` command with these arguments, as work."""

    def work() -> int:
        from dal.cli import main

        sys.argv = ["dal", *arguments]
        return main(list(arguments))

    return work


def _settle(folder: Path, logs: Path, limits: Limits) -> None:
    os.setsid()
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    for number, path in ((0, Path(os.devnull)), (1, logs.with_suffix(".out")), (2, logs.with_suffix(".err"))):
        opened = os.open(path, os.O_RDWR | (0 if number == 0 else os.O_CREAT | os.O_APPEND), 0o644)
        os.dup2(opened, number)
    sys.stdin = open(0, encoding="utf-8", closefd=False)  # noqa: SIM115
    sys.stdout = open(1, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
    sys.stderr = open(2, "w", encoding="utf-8", errors="backslashreplace", buffering=1, closefd=False)  # noqa: SIM115
    os.chdir(folder)
    as_owner()
    resource.setrlimit(resource.RLIMIT_CPU, (limits.processor, limits.processor + 5))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    limit_memory(limits.megabytes)
    tempfile.tempdir = None


def limit_memory(megabytes: int) -> None:
    """Let this process have so much more address space than it has."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
    most = pages * resource.getpagesize() + (megabytes << 20)
    resource.setrlimit(resource.RLIMIT_AS, (most, most))


def as_owner() -> None:
    """Give up root's right to read and write what its mode forbids, so that a mode of 000 means something."""
    if os.geteuid() != 0 or sys.platform != "linux":
        return
    library = ctypes.CDLL(None, use_errno=True)
    header = (ctypes.c_uint32 * 2)(0x20080522, 0)  # version 3, this process
    data = (ctypes.c_uint32 * 6)()
    if library.capget(header, data) == 0:
        for at in (0, 1, 2):  # effective, permitted, inheritable
            data[at] &= ~0b110  # CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH
        library.capset(header, data)


def several(subjects: Iterable[Any], start: Callable[[Any], Child], jobs: int) -> Iterator[tuple[Any, Ended]]:
    """Every subject and how its child ended, as they end, `jobs` at a time."""
    waiting, working = iter(subjects), list[Child]()
    try:
        while True:
            while len(working) < jobs and (subject := next(waiting, None)) is not None:
                child = start(subject)
                child.subject = subject
                working.append(child)
            if not working:
                return
            for child in list(working):
                if (ended := child.poll()) is not None:
                    working.remove(child)
                    yield child.subject, ended
            time.sleep(0.003)
    finally:
        for child in working:
            child.kill()
            child.wait()
