"""A run folder: its lock, the environment of the run, the metrics of its rounds and the latest model."""

import errno
import importlib.metadata
import json
import os
import platform
import shutil
import stat
import sys
import time
import weakref
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import torch

from dal.bounded import parse_json
from dal.errors import BusyError, ConfigError, SessionError, one_line, shortened
from dal.store.atomic_files import (
    check_regular,
    is_alive,
    make_folder,
    named,
    read_regular,
    recover,
    replacing,
    synchronise_folder,
    write_whole,
)

METRICS = "metrics.jsonl"
LABELS = "labels.db"
MODEL = "model"
ENVIRONMENT = "environment.json"

_LOCK = ".lock"
_FILES = ("config.yaml", METRICS, ENVIRONMENT, *(f"{LABELS}{side}" for side in ("", "-wal", "-shm", "-journal")))
_FILES += ("logged.json", "map.json", "report.html", "successor.json", "worker.log")
_MARKER = "trained_on.json"
_PACKAGES = ("deep-active-learning", "torch", "lightning", "transformers", "datasets", "numpy", "scikit-learn", "peft")


def check_folder(folder: Path | str) -> Path:
    """The path of a folder to work in, which need not be there yet.

    Raises:
        ConfigError: it is no folder and cannot become one, or has a pipe, a folder or a link that leads nowhere in the
            place of one of its files.
    """
    if not isinstance(folder, str | os.PathLike) or not str(folder):
        raise ConfigError(f"a folder is named by its path, got {folder!r}")
    path = Path(folder)
    if "\0" in str(path):
        raise ConfigError(f"{named(path)} cannot be a folder: a name has no NUL")
    try:
        for each in (path, *path.absolute().parents):
            try:
                there = each.stat().st_mode
            except (FileNotFoundError, NotADirectoryError):
                continue
            if not stat.S_ISDIR(there):
                raise ConfigError(f"{named(each)} is a file, where a folder is wanted: choose another folder")
            if not os.access(each, os.W_OK | os.X_OK):
                raise ConfigError(f"{named(path)} cannot be written: permission denied in {named(each)}")
            break
        check_regular(path, _FILES)
    except (OSError, ValueError) as error:
        raise ConfigError(f"{named(path)} cannot be a folder: {reason_of(error)}") from error
    return path


def reason_of(error: Exception) -> str:
    """Why the system refused."""
    return error.strerror if isinstance(error, OSError) and error.strerror else one_line(error)


class Lock:
    """The right to work in a folder, held by one process at a time. Released when the process ends, however it ends.

    Raises:
        BusyError: another process (or another session of this one) holds it. It is named, if it is still there.
        SessionError: the file system has no locks.
        ConfigError: this is no folder, and cannot become one.
    """

    def __init__(self, folder: Path) -> None:
        folder = check_folder(folder)
        try:
            make_folder(folder)
            self._file: IO[bytes] | None = _open_lock(folder / _LOCK)
        except OSError as error:
            raise ConfigError(f"{named(folder)} cannot be worked in: {reason_of(error)}") from error
        for patience in (*_PATIENCE, 0.0):
            try:
                _lock(self._file)
                break
            except OSError as error:
                holder = _holder(self._file)
                if error.errno in _BUSY and patience and (holder is None or not is_alive(holder)):
                    time.sleep(patience)  # it may have ended in this moment, or not have signed yet
                    continue
                self._let_go()
                raise _refusal(folder, holder, error) from error
        self._file.truncate(0)
        self._file.write(str(os.getpid()).encode())
        self._file.flush()
        _held.add(self)

    def release(self) -> None:
        """Let others work in the folder. Calling it twice is harmless."""
        self._let_go()
        _held.discard(self)

    def _let_go(self) -> None:
        """Close the file; a forked worker does so too, or the lock would outlive the process that took it."""
        if self._file is not None:
            self._file.close()
            self._file = None


#: The locks of this process.
_held: "weakref.WeakSet[Lock]" = weakref.WeakSet()

_PATIENCE = (0.02, 0.05, 0.1)  # seconds between looks at a lock whose holder is not there
_BUSY = (errno.EWOULDBLOCK, errno.EAGAIN, errno.EACCES, errno.EDEADLK)


def _let_go_of_all() -> None:
    for lock in list(_held):
        lock._let_go()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_let_go_of_all)


def _open_lock(path: Path) -> IO[bytes]:
    """The file of a lock. What stands there instead, such as a link or a pipe, is not touched."""
    only = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0)
    opened = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | only, 0o666)
    if not stat.S_ISREG(os.fstat(opened).st_mode):
        os.close(opened)
        raise OSError(errno.EINVAL, f"{path.name} is not a regular file")
    return open(opened, "a+b")


def _holder(file: IO[bytes]) -> int | None:
    """The process that signed a lock last; None when nobody has."""
    file.seek(0)
    signed = file.read(20).strip()
    return int(signed) if signed.isdigit() else None


def _refusal(folder: Path, holder: int | None, error: OSError) -> SessionError:
    if error.errno not in _BUSY:
        return SessionError(
            f"{named(folder)} is on a file system without locks ({reason_of(error)}), so that nothing would keep two "
            "processes from writing there at once: work in a folder on a local disk, and copy it there afterwards"
        )
    if holder == os.getpid():
        who = "this very process: wait until it has finished"
    elif holder is None:
        who = "another process: wait until it has finished"
    elif is_alive(holder):
        who = f"another process (pid {holder}): wait until it has finished"
    else:
        who = (
            f"a process that pid {holder}, which has ended, left behind, or by one on another computer: end that one, "
            "wait"
        )
    return BusyError(f"{named(folder)} is in use by {who}, or choose another folder")


@contextmanager
def held(folder: Path | None) -> Iterator[None]:
    """Be the one process that works in the folder meanwhile."""
    lock = None if folder is None else Lock(folder)
    try:
        yield
    finally:
        if lock is not None:
            lock.release()


if sys.platform == "win32":
    import msvcrt

    def _lock(file: IO[bytes]) -> None:
        file.seek(1 << 20)  # beyond the pid, which others must be able to read
        msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)

else:
    import fcntl

    def _lock(file: IO[bytes]) -> None:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


# -- environment.json ----------------------------------------------------------------------------------------------


def environment() -> dict[str, Any]:
    """The versions and the hardware that choices depend on. Nothing in it names a person or a machine."""
    packages = {}
    for name in _PACKAGES:
        try:
            packages[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    gpus = (
        [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())] if torch.cuda.is_available() else []
    )
    return {
        "python": platform.python_version(),
        "packages": packages,
        "platform": f"{platform.system()} {platform.machine()}",
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "threads": torch.get_num_threads(),
        "gpus": gpus,
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())


def record_environment(folder: Path) -> list[str]:
    """What has changed since `environment.json` was written to `folder` (nothing, when it is written now)."""
    path, now = folder / ENVIRONMENT, environment()
    try:
        before = parse_json(read_regular(path))
    except (OSError, ValueError):
        before = None
    if not isinstance(before, dict):
        with writing(path):
            write_whole(path, json.dumps(now, indent=1, ensure_ascii=False) + "\n", private=True)
        return []
    return [key for key, value in now.items() if before.get(key) != value]


# -- metrics.jsonl -------------------------------------------------------------------------------------------------


def append_metrics(folder: Path, line: Mapping[str, Any]) -> None:
    """Append one JSON line to `metrics.jsonl`, on disk when this returns. A torn last line is cut off first.

    Raises:
        SessionError: it cannot be written.
    """
    path = folder / METRICS
    try:
        content = json.dumps(dict(line), ensure_ascii=False).encode() + b"\n"
    except UnicodeEncodeError:  # half a surrogate pair, which only an escape can hold
        content = json.dumps(dict(line)).encode() + b"\n"
    with writing(path):
        new = not path.exists()
        with open(os.open(path, os.O_RDWR | os.O_CREAT, 0o600), "r+b") as file:
            file.truncate(_end_of_lines(file))
            file.seek(0, os.SEEK_END)
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        if new:
            synchronise_folder(folder)


_BLOCK = 1 << 16  # bytes of a file that are read at a time from its end


def _end_of_lines(file: IO[bytes]) -> int:
    """Where the last whole line of a file ends, read from its end."""
    place = file.seek(0, os.SEEK_END)
    while place > 0:
        start = max(0, place - _BLOCK)
        file.seek(start)
        found = file.read(place - start).rfind(b"\n")
        if found >= 0:
            return start + found + 1
        place = start
    return 0


def read_metrics(folder: Path) -> list[dict[str, Any]]:
    """The lines of `metrics.jsonl` in `folder`, oldest first; none without the file. A torn last line is dropped.

    Raises:
        SessionError: another line is no JSON object, or the file cannot be read.
    """
    path = folder / METRICS
    try:
        if not os.path.lexists(path):
            return []
        if not path.is_file():
            raise SessionError(f"{named(path)} is not a regular file: remove it")
        lines = path.read_bytes().split(b"\n")[:-1]  # what follows the last line's end is torn, or empty
    except (OSError, ValueError) as error:
        raise SessionError(f"{named(path)} cannot be read: {reason_of(error)}") from error
    found = []
    for number, line in enumerate(lines, 1):
        try:
            read = parse_json(line)
        except ValueError as error:
            raise SessionError(
                f"{named(path)}, line {number} is not JSON: remove the line or restore the file"
            ) from error
        if not isinstance(read, dict):
            raise SessionError(
                f"{named(path)}, line {number} is not a JSON object: remove the line or restore the file"
            )
        for key, value in read.items():
            if not _fits(key, value):
                raise SessionError(
                    f"{named(path)}, line {number}: {shortened(key)} is {shortened(repr(value))}: restore the file"
                )
        found.append(read)
    return found


_COUNTS = {"round", "labels", "seed"}
_WORDS = {"strategy", "acting", "why"}
_FIGURES = {"accuracy", "macro_f1", "micro_f1", "balanced_accuracy", "matthews", "auroc", "log_loss", "near_duplicates"}
_TABLES = {"successor", "stopping", "notes", "cost", "sources", "per_class", "pool", "batch"}
_LARGEST = 1 << 53  # of a whole number that every reader of JSON keeps


def _fits(key: str, value: Any) -> bool:
    """Whether a value of a line is of the kind that a resumed run and its summary read under this name."""
    if key in _COUNTS:
        return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= _LARGEST
    if key in _FIGURES or key.endswith("_seconds"):
        return value is None or (isinstance(value, int | float) and abs(value) <= _LARGEST) or value != value
    if key in _TABLES:
        return value is None or isinstance(value, dict)
    return key not in _WORDS or isinstance(value, str)


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Tell in one line why a file of a run folder cannot be written.

    Raises:
        SessionError: the disk is full, the file is a folder, or something of that kind.
    """
    try:
        yield
    except OSError as error:
        raise SessionError(f"{named(path)} could not be written: {reason_of(error)}") from error


# -- the saved model -----------------------------------------------------------------------------------------------


def trained_on(folder: Path) -> tuple[str, float] | None:
    """What the model saved in `folder` was trained on, as `keep_model` was told, and the seconds that it took.

    None when no whole model is there.
    """
    _recover(folder)
    try:
        marker = parse_json(read_regular(folder / MODEL / _MARKER))
        if not all(each.is_file() or each.is_dir() for each in (folder / MODEL).rglob("*")):
            return None  # opening a pipe might never end
        return str(marker["trained_on"]), float(marker["seconds"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


@contextmanager
def keep_model(folder: Path, marker: str, seconds: float = 0.0) -> Iterator[Path]:
    """An empty folder to save a model in; it becomes `folder/model`, whole, or nothing changes."""
    _recover(folder)
    with writing(folder / MODEL), replacing(folder / MODEL) as new:
        yield new
        write_whole(new / _MARKER, json.dumps({"trained_on": marker, "seconds": seconds}) + "\n")


def _recover(folder: Path) -> None:
    """Put back the last model when a kill struck during its replacement."""
    new, old, final = folder / f"{MODEL}.new", folder / f"{MODEL}.old", folder / MODEL
    if old.exists() and not final.exists():  # as an earlier version called it
        old.rename(final)
    for leftover in (new, old):
        shutil.rmtree(leftover, ignore_errors=True)
    recover(final)
