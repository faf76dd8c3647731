"""The figures of a run to Lightning loggers: TensorBoard, CSV, MLflow, Weights & Biases, anybody's."""

import inspect
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from dal.errors import ConfigError
from dal.store.atomic_files import read_regular, write_whole
from dal.store.bounded_json import parse_json
from dal.store.spreadsheet import inert

#: What a cell's folder keeps of loggers that are no files: which run it is there, and the labels of its last round.
LOGGED = "logged.json"

#: A logger as a config names it: "CSVLogger", {"CSVLogger": {...}} or {"class_path": ..., "init_args": {...}}.
Recipe = str | dict[str, Any]

_HOME = "lightning.pytorch.loggers"
_WRITTEN = ("metrics.csv", "hparams.yaml", "events.out.tfevents.*")


def check_loggers(recipes: Sequence[Recipe]) -> None:
    """Raises `ConfigError` for a logger that there is not, or that is none."""
    for recipe in recipes:
        _class_of(recipe)


@contextmanager
def following(
    recipes: Sequence[Recipe], folder: Path | None, cell: str, lines: Sequence[Mapping[str, Any]]
) -> Iterator["RoundLogger"]:
    """Loggers of one cell, told of the rounds that it has already, and closed in the end.

    Args:
        recipes: the loggers.
        folder: of the cell; None in memory.
        cell: its name, which becomes the name or version of what a logger writes.
        lines: its rounds so far.

    Raises:
        ConfigError: a logger cannot be made.
    """
    every = RoundLogger(
        [_Files(recipe, folder, cell) if _is_files(recipe) else _Service(recipe, folder, cell) for recipe in recipes]
    )
    try:
        every.replay(lines)
        yield every
    finally:
        every.close()


class RoundLogger:
    """Tells several loggers of each round, under as many steps as there are labels."""

    def __init__(self, loggers: Sequence["_Files | _Service"]) -> None:
        self._loggers = loggers

    def __call__(self, line: Mapping[str, Any]) -> None:
        """Log the figures of one round."""
        self.replay([line])

    def replay(self, lines: Sequence[Mapping[str, Any]]) -> None:
        """Log the figures of several rounds, written once: a logger may write all that it has each time."""
        for logger in self._loggers:
            for line in lines:
                logger.log(figures(line), int(line["labels"]))
            if lines:
                logger.flush()

    def close(self) -> None:
        """Have all that was logged written."""
        for logger in self._loggers:
            logger.logger.finalize("success")


def figures(line: Mapping[str, Any], prefix: str = "") -> dict[str, float]:
    """The finite numbers of a line, those inside others by a path.

    Example:
        >>> figures({"round": 1, "accuracy": 0.5, "why": "", "rows": ["a"], "pool": {"accuracy": None, "ece": 0.1}})
        {'round': 1.0, 'accuracy': 0.5, 'pool/ece': 0.1}
    """
    found: dict[str, float] = {}
    for name, value in line.items():
        if isinstance(value, Mapping):
            found |= figures(value, f"{prefix}{name}/")
        elif isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value):
            found[inert(f"{prefix}{name}")] = float(value)  # loggers write CSV, and classes have any name
    return found


class _Files:
    """A logger that writes files, such as CSV and TensorBoard: they are rewritten when a cell goes on."""

    def __init__(self, recipe: Recipe, folder: Path | None, cell: str) -> None:
        options = {} if folder is None else {"save_dir": str(folder.parent / "logs")}
        self.logger = _made(recipe, options | {"name": ""}, {"version": cell})
        for pattern in _WRITTEN:  # by a process before this one; the rounds that it logged are logged again
            for file in Path(self.logger.log_dir).glob(pattern):
                file.unlink()

    def log(self, metrics: Mapping[str, float], step: int) -> None:
        """Log the figures; on disk after `flush`."""
        self.logger.log_metrics(dict(metrics), step)

    def flush(self) -> None:
        """Have what was logged on disk."""
        self.logger.save()
        flush = getattr(self.logger.experiment, "flush", None)
        if flush is not None:
            flush()


class _Service:
    """A logger that sends what it is told to somewhere: each round once, also when a cell goes on.

    That a round was logged is stored before it is sent, so that a kill between the two leaves it out there.
    """

    def __init__(self, recipe: Recipe, folder: Path | None, cell: str) -> None:
        cls, _ = _class_of(recipe)
        self._file, self._key = None if folder is None else folder / LOGGED, cls.__name__
        takes = inspect.signature(cls).parameters
        fixed: dict[str, Any] = {"run_name" if "run_name" in takes else "name": cell}
        before = self._stored()
        if before.get("run") is not None:
            fixed["run_id" if "run_id" in takes else "version"] = before["run"]
            if "project" in takes:  # Weights & Biases must be told that the run is there already
                fixed["resume"] = "allow"
        self._labels = before.get("labels", -1)
        self.logger = _made(recipe, {}, {key: value for key, value in fixed.items() if key in takes or key == "resume"})

    def log(self, metrics: Mapping[str, float], step: int) -> None:
        """Log the figures, unless they were logged before."""
        if step <= self._labels:
            return
        self._labels = step
        if self._file is not None:
            stored = self._all() | {self._key: {"run": self._run(), "labels": step}}
            write_whole(self._file, json.dumps(stored) + "\n", private=True)
        self.logger.log_metrics(dict(metrics), step)

    def flush(self) -> None:
        """Have what was logged sent."""
        self.logger.save()

    def _run(self) -> str | None:
        self.logger.experiment  # noqa: B018, which begins the run and gives it its id
        return None if self.logger.version is None else str(self.logger.version)

    def _stored(self) -> dict[str, Any]:
        stored = self._all().get(self._key, {})
        if not isinstance(stored, dict) or not isinstance(stored.get("labels", -1), int):
            raise ConfigError(f"{self._file} does not say what was logged: restore it, or remove it to log again")
        return dict(stored)

    def _all(self) -> dict[str, Any]:
        if self._file is None or not self._file.exists():
            return {}
        try:
            return dict(parse_json(read_regular(self._file)))
        except (OSError, ValueError, TypeError) as error:
            raise ConfigError(f"{self._file} cannot be read: restore it, or remove it to log again") from error


def _is_files(recipe: Recipe) -> bool:
    """Whether a logger writes into `save_dir/name/version`."""
    cls, _ = _class_of(recipe)
    return {"save_dir", "name", "version"} <= inspect.signature(cls).parameters.keys() and "project" not in (
        inspect.signature(cls).parameters
    )


def _made(recipe: Recipe, defaults: Mapping[str, Any], fixed: Mapping[str, Any]) -> Any:
    cls, options = _class_of(recipe)
    try:
        return cls(**{**defaults, **options, **fixed})
    except (TypeError, ValueError, ModuleNotFoundError) as error:
        raise ConfigError(f"the logger {cls.__name__} cannot be made: {' '.join(str(error).split())}") from error


def _class_of(recipe: Recipe) -> tuple[type, dict[str, Any]]:
    from dal.config.class_names import import_path

    name, options = _named(recipe)
    from lightning.pytorch.loggers import Logger

    found = import_path(name if "." in name or ":" in name else f"{_HOME}.{name}")
    if not (inspect.isclass(found) and issubclass(found, Logger)):
        raise ConfigError(f"loggers: {name} is not a Lightning logger, such as CSVLogger or TensorBoardLogger")
    return found, options


def _named(recipe: Recipe) -> tuple[str, dict[str, Any]]:
    if isinstance(recipe, str):
        return recipe, {}
    if "class_path" in recipe:
        return str(recipe["class_path"]), dict(recipe.get("init_args") or {})
    if len(recipe) == 1:
        [(name, options)] = recipe.items()
        return str(name), dict(options or {})
    raise ConfigError(
        "loggers: write a name such as CSVLogger, `{CSVLogger: {save_dir: logs}}`, or class_path and init_args"
    )
