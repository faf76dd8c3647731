"""Files of a run folder: the metrics of the rounds and the latest model."""

import json
import os
import shutil
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from dal.errors import ConfigError, DataError, SessionError, one_line, shortened
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
from dal.store.renamed_keys import RENAMED_KEYS, MetricsLine

METRICS = "metrics.jsonl"
LABELS = "labels.db"
ROWS = "rows.db"
MODEL = "model"
LAST_PASS = "last_pass"
ENVIRONMENT = "environment.json"
LOCK = ".lock"
#: File that marks the folder of a model that was saved on its own.
SAVED_MODEL = "dal_model.json"

#: Regular files that dal keeps in the folder of a session, run, comparison or project.
FILES: tuple[str, ...] = ("config.yaml", METRICS, ENVIRONMENT)
FILES += tuple(f"{name}{side}" for name in (LABELS, ROWS) for side in ("", "-wal", "-shm", "-journal"))
FILES += (LOCK, "labels.v1.db", "logged.json", "map.json", "report.html", "successor.json", "worker.log")
_MARKER = "trained_on.json"


def check_folder(folder: Path | str) -> Path:
    """Check a run folder, which need not exist yet, and return its path.

    Raises:
        ConfigError: `folder` is not a folder and cannot be created, or one of its files is a folder, a pipe or a
            broken link.
    """
    if not isinstance(folder, str | os.PathLike) or not str(folder):
        raise ConfigError(f"a folder is named by its path, got {folder!r}")
    path = Path(folder)
    if "\0" in str(path):
        raise ConfigError(f"{named(path)} cannot be a folder: a name has no NUL")
    try:
        for each in (path, *path.absolute().parents):
            try:
                mode = each.stat().st_mode
            except (FileNotFoundError, NotADirectoryError):
                continue
            if not stat.S_ISDIR(mode):
                raise ConfigError(f"{named(each)} is a file, where a folder is wanted: choose another folder")
            if not os.access(each, os.W_OK | os.X_OK):
                raise ConfigError(f"{named(path)} cannot be written: permission denied in {named(each)}")
            break
        check_regular(path, FILES)
    except (OSError, ValueError) as error:
        raise ConfigError(f"{named(path)} cannot be a folder: {reason_of(error)}") from error
    return path


def reason_of(error: Exception) -> str:
    """The reason of a system error, in one line."""
    return error.strerror if isinstance(error, OSError) and error.strerror else one_line(error)


# -- metrics.jsonl -------------------------------------------------------------------------------------------------


def append_metrics(folder: Path, line: Mapping[str, Any]) -> None:
    """Append a JSON line to `metrics.jsonl`, synced to disk. An incomplete last line is removed first.

    Raises:
        SessionError: the file cannot be written.
    """
    path = folder / METRICS
    try:
        content = json.dumps(dict(line), ensure_ascii=False).encode() + b"\n"
    except UnicodeEncodeError:  # a lone surrogate can only be written as an escape
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


_BLOCK = 1 << 16  # bytes read at a time from the end of a file


def _end_of_lines(file: IO[bytes]) -> int:
    """Offset of the end of the last complete line, searched backwards from the end of the file."""
    end = file.seek(0, os.SEEK_END)
    while end > 0:
        start = max(0, end - _BLOCK)
        file.seek(start)
        newline = file.read(end - start).rfind(b"\n")
        if newline >= 0:
            return start + newline + 1
        end = start
    return 0


def read_metrics(folder: Path | str) -> list[dict[str, Any]]:
    """Read the lines of `metrics.jsonl`, oldest first; [] without the file. An incomplete last line is ignored.

    Args:
        folder: folder of one strategy and seed, such as "runs/tickets/Margin-seed0", or of a session.

    Raises:
        DataError: the folder is that of a run or comparison, whose cells have the file.
        SessionError: a line is not a JSON object or has a value of the wrong type, or the file cannot be read.
    """
    path = Path(folder) / METRICS
    try:
        if not os.path.lexists(path):
            if cells := sorted(each.parent for each in Path(folder).glob(f"*/{METRICS}")):
                raise DataError(
                    f"{named(Path(folder))} is the folder of a run, which has a {METRICS} for each strategy and seed: "
                    f"name one of them, such as {named(cells[0])}"
                )
            return []
        if not path.is_file():
            raise SessionError(f"{named(path)} is not a regular file: remove it")
        lines = path.read_bytes().split(b"\n")[:-1]  # after the last newline: empty, or an incomplete line
    except (OSError, ValueError) as error:
        raise SessionError(f"{named(path)} cannot be read: {reason_of(error)}") from error
    metrics: list[dict[str, Any]] = []
    for number, line in enumerate(lines, 1):
        try:
            entry = parse_json(line)
        except ValueError as error:
            raise SessionError(
                f"{named(path)}, line {number} is not JSON: remove the line or restore the file"
            ) from error
        if not isinstance(entry, dict):
            raise SessionError(
                f"{named(path)}, line {number} is not a JSON object: remove the line or restore the file"
            )
        for key, value in entry.items():
            if not _fits(RENAMED_KEYS.get(key) or key, value):
                raise SessionError(
                    f"{named(path)}, line {number}: {shortened(key)} is {shortened(repr(value))}: restore the file"
                )
        metrics.append(MetricsLine(entry))
    return metrics


_COUNTS = {"round", "labels", "seed", "declined"}
_WORDS = {"strategy", "reason"}
_OPTIONAL_WORDS = {"acting_strategy"}  # null in a round without a batch, such as the start on labels in the data
_FIGURES = {"accuracy", "macro_f1", "micro_f1", "balanced_accuracy", "matthews", "auroc", "log_loss", "near_duplicates"}
_FIGURES |= {"average_precision"}
_TABLES = {
    "successor",
    "stopping",
    "stopping_measures",
    "own_metrics",
    "notes",
    "cost",
    "sources",
    "per_class",
    "pool",
    "batch",
}
_LARGEST = 1 << 53  # largest integer that JSON readers with double precision keep exactly


def _fits(key: str, value: Any) -> bool:
    """Whether a value of a line has the type that a resumed run and its summary expect under this name."""
    if key in _COUNTS:
        return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= _LARGEST
    if key in _FIGURES or key.endswith("_seconds"):
        return value is None or (isinstance(value, int | float) and abs(value) <= _LARGEST) or value != value
    if key in _TABLES:
        return value is None or isinstance(value, dict)
    if key in _OPTIONAL_WORDS and value is None:
        return True
    return key not in _WORDS | _OPTIONAL_WORDS or isinstance(value, str)


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Convert an OSError during a write of `path` to a SessionError with a one-line message.

    Raises:
        SessionError: the file cannot be written, for example because the disk is full.
    """
    try:
        yield
    except OSError as error:
        raise SessionError(f"{named(path)} could not be written: {reason_of(error)}") from error


# -- the saved model -----------------------------------------------------------------------------------------------


def trained_on(folder: Path) -> tuple[str, float] | None:
    """The marker and the fit seconds of the model saved in `folder` by `keep_model`; None without a complete model."""
    _recover(folder)
    try:
        marker = parse_json(read_regular(folder / MODEL / _MARKER))
        if not all(each.is_file() or each.is_dir() for each in (folder / MODEL).rglob("*")):
            return None  # opening a pipe might block forever
        return str(marker["trained_on"]), float(marker["seconds"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


@contextmanager
def keep_model(folder: Path, marker: str, seconds: float = 0.0) -> Iterator[Path]:
    """Replace `folder/model` atomically: yields an empty folder to save the model in.

    Args:
        folder: run folder.
        marker: digest of everything that determines the model.
        seconds: duration of the fit.
    """
    _recover(folder)
    with writing(folder / MODEL), replacing(folder / MODEL) as new:
        yield new
        write_whole(new / _MARKER, json.dumps({"trained_on": marker, "seconds": seconds}) + "\n")


def _recover(folder: Path) -> None:
    """Restore the last model after a kill during its replacement."""
    new, old, final = folder / f"{MODEL}.new", folder / f"{MODEL}.old", folder / MODEL
    if old.exists() and not final.exists():  # temporary names of an earlier version
        old.rename(final)
    for leftover in (new, old):
        shutil.rmtree(leftover, ignore_errors=True)
    recover(final)
