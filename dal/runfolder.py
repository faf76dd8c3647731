"""A run folder: who works in it, what made it, where, and the metrics of its rounds."""

import dataclasses
import enum
import functools
import importlib.metadata
import json
import os
import platform
import shutil
import sys
from abc import ABC
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import torch
import yaml

from dal.durable import recover, replacing, write_whole
from dal.errors import BusyError, ConfigError, SessionError

CONFIG = "config.yaml"
METRICS = "metrics.jsonl"
LABELS = "labels.db"
MODEL = "model"
ENVIRONMENT = "environment.json"

_LOCK = ".lock"
_MARKER = "trained_on.json"
_PACKAGES = ("deep-active-learning", "torch", "lightning", "transformers", "datasets", "numpy", "scikit-learn", "peft")


class Lock:
    """The right to work in a folder, held by one process at a time. Released when the process ends, however it ends.

    Raises:
        BusyError: another process (or another session of this one) holds it. It is named.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._file: IO[str] | None = open(folder / _LOCK, "a+", encoding="utf-8")  # noqa: SIM115
        try:
            _lock(self._file)
        except OSError as error:
            self._file.seek(0)
            holder = self._file.read().strip() or "unknown"
            self._file.close()
            who = "this very process" if holder == str(os.getpid()) else f"another process (pid {holder})"
            raise BusyError(
                f"{folder} is in use by {who}: wait until it has finished, or choose another folder"
            ) from error
        self._file.truncate(0)
        self._file.write(str(os.getpid()))
        self._file.flush()
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self._let_go)

    def release(self) -> None:
        """Let others work in the folder. Calling it twice is harmless."""
        self._let_go()

    def _let_go(self) -> None:
        """Close the file; a forked worker does so too, or the lock would outlive the process that took it."""
        if self._file is not None:
            self._file.close()
            self._file = None


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

    def _lock(file: IO[str]) -> None:
        file.seek(1 << 20)  # beyond the pid, which others must be able to read
        msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)

else:
    import fcntl

    def _lock(file: IO[str]) -> None:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


# -- config.yaml ---------------------------------------------------------------------------------------------------


def describe(value: Any) -> Any:
    """What made `value`, as plain lists, dicts, strings and numbers: the form of `config.yaml`.

    A plain dataclass becomes the dict of its fields. One with an abstract base, which a config must choose by class,
    becomes `{"class_path": ..., "init_args": {...}}`, and so does a `functools.partial`. A function or class becomes
    its import path.

    Example:
        >>> from dal.oracles.simulated import Simulated
        >>> describe(Simulated(noise=0.1))
        {'class_path': 'dal.oracles.simulated.Simulated', 'init_args': {'noise': 0.1, 'seed': 0}}
    """
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, enum.Enum):
        return value.name
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if isinstance(value, Mapping):
        return {str(key): describe(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [describe(item) for item in (sorted(value) if isinstance(value, set | frozenset) else value)]
    if isinstance(value, functools.partial):
        return {"class_path": _path(value.func), "init_args": describe(value.keywords)}
    if hasattr(value, "fingerprint") and hasattr(value, "__len__"):
        return {"rows": len(value), "fingerprint": value.fingerprint}
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {field.name: describe(getattr(value, field.name)) for field in dataclasses.fields(value) if field.init}
        return {"class_path": _path(type(value)), "init_args": fields} if isinstance(value, ABC) else fields
    if callable(value) and hasattr(value, "__qualname__"):
        return _path(value)
    return {"class_path": _path(type(value))} if type(value).__module__ != "torch" else str(value)


def _path(value: Any) -> str:
    return f"{value.__module__}.{value.__qualname__}"


def write_config(folder: Path, config: Mapping[str, Any], *, ignored: Sequence[str] = ()) -> None:
    """Write `config.yaml` into `folder`, or make sure that the one there says the same.

    Args:
        ignored: keys that may differ.

    Raises:
        ConfigError: it says something else; the first key that differs is named.
    """
    path = folder / CONFIG
    if path.exists():
        difference = _difference(read_config(folder), _plain(config), ignored)
        if difference is not None:
            key, before, now = difference
            raise ConfigError(
                f"{folder} holds another run: {key} is {_shown(before)} there and {_shown(now)} here; choose another "
                "folder"
            )
        return
    folder.mkdir(parents=True, exist_ok=True)
    write_whole(path, yaml.safe_dump(_plain(config), sort_keys=False, allow_unicode=True, width=120))


def read_config(folder: Path) -> dict[str, Any]:
    """What `config.yaml` in `folder` says.

    Raises:
        ConfigError: there is none, or it is no YAML mapping.
    """
    path = folder / CONFIG
    if not path.is_file():
        raise ConfigError(f"{folder} is not a run folder: it has no {CONFIG}")
    try:
        config = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} cannot be read: {' '.join(str(error).split())}") from error
    if not isinstance(config, dict):
        raise ConfigError(f"{path} does not hold keys and values")
    return config


def _plain(config: Mapping[str, Any]) -> dict[str, Any]:
    """The config as reading it back would give it."""
    return dict(json.loads(json.dumps(describe(config))))


_MISSING = object()


def _difference(before: Any, now: Any, ignored: Sequence[str], key: str = "") -> tuple[str, Any, Any] | None:
    if not (isinstance(before, dict) and isinstance(now, dict)):
        return None if before == now else (key, before, now)
    for name in [*now, *(name for name in before if name not in now)]:
        if not key and name in ignored:
            continue
        path = f"{key}.{name}" if key else str(name)
        if name not in before and now[name] is None:
            continue  # an option that is younger than the folder, and not used
        found = _difference(before.get(name, _MISSING), now.get(name, _MISSING), ignored, path)
        if found is not None:
            return found
    return None


def _shown(value: Any) -> str:
    text = "absent" if value is _MISSING else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 80 else text[:77] + "..."


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
        before = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        write_whole(path, json.dumps(now, indent=1, ensure_ascii=False) + "\n")
        return []
    return [key for key, value in now.items() if before.get(key) != value]


# -- metrics.jsonl -------------------------------------------------------------------------------------------------


def append_metrics(folder: Path, line: Mapping[str, Any]) -> None:
    """Append one JSON line to `metrics.jsonl`, on disk when this returns. A torn last line is cut off first."""
    with open(folder / METRICS, "a+b") as file:
        file.seek(0)
        content = file.read()
        whole = content.rfind(b"\n") + 1
        if whole < len(content):
            file.truncate(whole)
        file.write(json.dumps(dict(line), ensure_ascii=False).encode() + b"\n")
        file.flush()
        os.fsync(file.fileno())


def read_metrics(folder: Path) -> list[dict[str, Any]]:
    """The lines of `metrics.jsonl` in `folder`, oldest first; none without the file. A torn last line is dropped.

    Raises:
        SessionError: another line is not JSON.
    """
    path = folder / METRICS
    if not path.exists():
        return []
    lines = path.read_bytes().split(b"\n")[:-1]  # what follows the last line's end is torn, or empty
    found = []
    for number, line in enumerate(lines, 1):
        try:
            found.append(dict(json.loads(line)))
        except ValueError as error:
            raise SessionError(f"{path}, line {number} is not JSON: remove the line or restore the file") from error
    return found


# -- the saved model -----------------------------------------------------------------------------------------------


def trained_on(folder: Path) -> tuple[str, float] | None:
    """What the model saved in `folder` was trained on, as `keep_model` was told, and the seconds that it took.

    None when no whole model is there.
    """
    _recover(folder)
    try:
        marker = json.loads((folder / MODEL / _MARKER).read_text(encoding="utf-8"))
        return str(marker["trained_on"]), float(marker["seconds"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


@contextmanager
def keep_model(folder: Path, marker: str, seconds: float = 0.0) -> Iterator[Path]:
    """An empty folder to save a model in; it becomes `folder/model`, whole, or nothing changes."""
    _recover(folder)
    with replacing(folder / MODEL) as new:
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
