"""Logging of a run's figures to Lightning loggers: TensorBoard, CSV, MLflow, Weights & Biases and others."""

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

#: File in the folder of a cell with the state of remote loggers: the run id and the labels of the last logged round.
LOGGED = "logged.json"

#: A logger in a config: "CSVLogger", {"CSVLogger": {...}} or {"class_path": ..., "init_args": {...}}.
Recipe = str | dict[str, Any]

_HOME = "lightning.pytorch.loggers"
_WRITTEN = ("metrics.csv", "hparams.yaml", "events.out.tfevents.*")


def check_loggers(recipes: Sequence[Recipe]) -> None:
    """Raise `ConfigError` if a logger does not exist or is not a Lightning logger."""
    for recipe in recipes:
        _class_of(recipe)


@contextmanager
def open_loggers(
    recipes: Sequence[Recipe], folder: Path | None, cell: str, lines: Sequence[Mapping[str, Any]]
) -> Iterator["RoundLogger"]:
    """Open the loggers of a cell, log its previous rounds, and close them at the end of the block.

    Args:
        recipes: loggers, as in a config.
        folder: folder of the cell; None in memory.
        cell: name of the cell, used as name or version of the logged run.
        lines: lines of the previous rounds.

    Raises:
        ConfigError: a logger cannot be created.
    """
    kept: list[_Files | _Service] = []
    for recipe in recipes:
        takes = inspect.signature(_class_of(recipe)[0]).parameters.keys()
        # A logger of files writes into `save_dir/name/version`; with a project, it sends the lines to a service.
        files = {"save_dir", "name", "version"} <= takes and "project" not in takes
        kept.append(_Files(recipe, folder, cell) if files else _Service(recipe, folder, cell))
    logger = RoundLogger(kept)
    try:
        logger.replay(lines)
        yield logger
    finally:
        logger.close()


class RoundLogger:
    """Logs the figures of each round to several loggers, with the number of labels as step."""

    def __init__(self, loggers: Sequence["_Files | _Service"]) -> None:
        self._loggers = loggers

    def __call__(self, line: Mapping[str, Any]) -> None:
        """Log the figures of one round."""
        self.replay([line])

    def replay(self, lines: Sequence[Mapping[str, Any]]) -> None:
        """Log the figures of several rounds, with a single flush: some loggers rewrite everything on each flush."""
        for logger in self._loggers:
            for line in lines:
                logger.log(figures(line), int(line["labels"]))
            if lines:
                logger.flush()

    def close(self) -> None:
        """Finalise the loggers, which writes all pending figures."""
        for logger in self._loggers:
            logger.logger.finalize("success")


def figures(line: Mapping[str, Any], prefix: str = "") -> dict[str, float]:
    """The finite numbers of a line; nested ones are named by their path.

    Example:
        >>> figures({"round": 1, "accuracy": 0.5, "reason": "", "rows": ["a"], "pool": {"accuracy": None, "ece": 0.1}})
        {'round': 1.0, 'accuracy': 0.5, 'pool/ece': 0.1}
    """
    numbers: dict[str, float] = {}
    for name, value in line.items():
        if isinstance(value, Mapping):
            numbers |= figures(value, f"{prefix}{name}/")
        elif isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value):
            numbers[inert(f"{prefix}{name}")] = float(value)  # names include class names, and loggers write CSV
    return numbers


class _Files:
    """Adapter of loggers that write files, such as CSV and TensorBoard. Resuming a cell rewrites the files."""

    def __init__(self, recipe: Recipe, folder: Path | None, cell: str) -> None:
        options = {} if folder is None else {"save_dir": str(folder.parent / "logs")}
        self.logger = _made(recipe, options | {"name": ""}, {"version": cell})
        for pattern in _WRITTEN:  # files of a previous process, whose rounds are logged again
            for file in Path(self.logger.log_dir).glob(pattern):
                file.unlink()

    def log(self, metrics: Mapping[str, float], step: int) -> None:
        """Log figures; they are on disk after `flush`."""
        self.logger.log_metrics(dict(metrics), step)

    def flush(self) -> None:
        """Write the logged figures to disk."""
        self.logger.save()
        flush = getattr(self.logger.experiment, "flush", None)
        if flush is not None:
            flush()


class _Service:
    """Adapter of loggers that send figures to a service. Each round is sent at most once, also when a cell resumes.

    A round is recorded as logged before it is sent, so a kill in between loses that round in the service.
    """

    def __init__(self, recipe: Recipe, folder: Path | None, cell: str) -> None:
        cls, _ = _class_of(recipe)
        self._file, self._key = None if folder is None else folder / LOGGED, cls.__name__
        takes = inspect.signature(cls).parameters
        fixed: dict[str, Any] = {"run_name" if "run_name" in takes else "name": cell}
        before = self._stored()
        if before.get("run") is not None:
            fixed["run_id" if "run_id" in takes else "version"] = before["run"]
            if "project" in takes:  # Weights & Biases must be told explicitly to resume a run
                fixed["resume"] = "allow"
        self._labels = before.get("labels", -1)
        self.logger = _made(recipe, {}, {key: value for key, value in fixed.items() if key in takes or key == "resume"})

    def log(self, metrics: Mapping[str, float], step: int) -> None:
        """Log figures, unless they were logged before."""
        if step <= self._labels:
            return
        self._labels = step
        if self._file is not None:
            stored = self._all()
            self.logger.experiment  # noqa: B018, access starts the run and assigns its id
            run = None if self.logger.version is None else str(self.logger.version)
            stored |= {self._key: {"run": run, "labels": step}}
            write_whole(self._file, json.dumps(stored) + "\n", private=True)
        self.logger.log_metrics(dict(metrics), step)

    def flush(self) -> None:
        """Send the logged figures."""
        self.logger.save()

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

    cls = import_path(name if "." in name or ":" in name else f"{_HOME}.{name}")
    if not (inspect.isclass(cls) and issubclass(cls, Logger)):
        raise ConfigError(f"loggers: {name} is not a Lightning logger, such as CSVLogger or TensorBoardLogger")
    return cls, options


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
