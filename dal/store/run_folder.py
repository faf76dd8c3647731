"""A run folder: the metrics of its rounds and its latest model."""

import json
import os
import shutil
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from dal.errors import ConfigError, SessionError, one_line, shortened
from dal.store.atomic_files import (
    check_regular,
    named,
    read_regular,
    recover,
    replacing,
    synchronise_folder,
    write_whole,
)
from dal.store.bounded_json import parse_json

METRICS = "metrics.jsonl"
LABELS = "labels.db"
MODEL = "model"
ENVIRONMENT = "environment.json"

_FILES = ("config.yaml", METRICS, ENVIRONMENT, *(f"{LABELS}{side}" for side in ("", "-wal", "-shm", "-journal")))
_FILES += ("logged.json", "map.json", "report.html", "successor.json", "worker.log")
_MARKER = "trained_on.json"


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
