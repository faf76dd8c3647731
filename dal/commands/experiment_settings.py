"""Experiments and sessions from config files and folders."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dal.commands.paths import check_folder, require_asked
from dal.commands.terminal import say
from dal.errors import ConfigError, shortened
from dal.store.atomic_files import check_regular, named
from dal.store.run_folder import FILES

if TYPE_CHECKING:
    from dal.config.settings_tree import Node, Override
    from dal.experiments.experiment import Experiment
    from dal.learner import Monitor
    from dal.session import Session


#: Files that mark a folder as a run folder or one of its cells.
_OF_RUNS = ("environment.json", "labels.db", "metrics.jsonl", "successor.json", "model")


def read_experiment(config: Path, overrides: "Override", folder: Path) -> "Experiment":
    """Build the experiment of a config file, in `folder` unless the config names one.

    Class paths in the user's own config may name code in the current folder; those in a run folder's config may not.
    """
    from dal.config import allowed_code as importing
    from dal.config import settings_tree as tree

    if not is_stored(config):
        importing.allow_current_folder()
    return build_experiment(tree.read(config), overrides, folder, stored=is_stored(config))


def is_stored(config: Path) -> bool:
    """Whether a config belongs to a run folder, which may come from somebody else."""
    return config.name == "config.yaml" and any((config.parent / name).exists() for name in _OF_RUNS)


def stored_experiment(folder: Path) -> "Experiment":
    """Build the experiment of a run folder. Its class paths may name only installed packages."""
    from dal.config import settings_tree as tree

    return build_experiment(tree.read(stored_config(folder)), tree.Override(), folder, stored=True)


def build_experiment(settings: "Node", overrides: "Override", folder: Path, *, stored: bool = False) -> "Experiment":
    """Build an experiment from settings.

    Args:
        settings: the config.
        overrides: options of the command line.
        folder: the experiment's folder, unless the settings name one.
        stored: whether the settings come from a run folder.
    """
    from dal.config import without_imports as static
    from dal.config.kinds import KIND, check_kind
    from dal.config.settings_tree import Node

    if KIND in settings.value:
        check_kind(settings.value[KIND])
        settings = Node({key: node for key, node in settings.value.items() if key != KIND}, None, settings.place)
    static.check(settings, overrides)
    settings = _with_folder(settings, overrides, folder)
    from dal.config.build import build
    from dal.experiments.experiment import Experiment
    from dal.session.checked_arguments import check_needs
    from dal.strategies.candidates import as_candidates, check_candidates

    experiment, notes = build(Experiment, settings, overrides, stored=stored)
    if experiment.folder is not None and not experiment.folder.strip():
        raise ConfigError(f"{settings.place}: folder is empty: name one, such as runs/first")
    if max(experiment.seeds) >= 1 << 63:
        largest = shortened(str(max(experiment.seeds)))
        raise ConfigError(f"{settings.place}: seeds must be smaller than 2^63, got {largest}")
    for note in notes:
        say(note)
    if "transformers" in sys.modules:  # its progress bars for saved files would break up the run's own display
        from transformers.utils.logging import disable_progress_bar

        disable_progress_bar()
    for strategy in (experiment.strategy, experiment.baseline):
        if strategy is not None:
            check_needs(strategy, experiment.learner, multilabel=experiment.data.multilabel)
    check_candidates(as_candidates(experiment.candidates), experiment.learner)
    return experiment


def stored_config(folder: Path) -> Path:
    """The config file of a folder.

    Raises:
        ConfigError: the folder or its config does not exist.
    """
    require_folder(folder)
    if not (folder / "config.yaml").is_file():
        raise ConfigError(f"{named(folder)} is not a run folder: it has no config.yaml")
    return folder / "config.yaml"


def require_folder(folder: Path) -> None:
    """Raise ConfigError unless the folder exists."""
    try:
        if folder.is_dir():
            return
        file = folder.exists()
    except OSError as error:
        raise ConfigError(f"{named(folder)} cannot be a folder: {error.strerror}") from error
    raise ConfigError(f"{named(folder)} is a file, not a folder" if file else f"there is no folder {named(folder)}")


def asked_experiment(folder: Path, config: Path | None, overrides: "Override | None") -> "Experiment":
    """The experiment of a `dal ask` folder: from its stored config, or from the config it is started with.

    Raises:
        ConfigError: the folder is invalid, belongs to a run or comparison, or its config differs from the given one.
    """
    from dal.config.settings_tree import Override

    check_folder(folder)
    check_regular(folder, sorted(FILES))
    stored = folder / "config.yaml"
    if not stored.exists():
        if config is None:
            name = named(folder)
            raise ConfigError(f"{name} has no config.yaml yet: start it with `dal ask {name} --config CONFIG`")
        return read_experiment(config, overrides or Override(), folder)
    require_asked(folder)
    if config is not None:  # as when the command that started the folder is repeated
        experiment = read_experiment(config, overrides or Override(), folder)
        _require_same(experiment, folder)
        return experiment
    if overrides is not None and overrides.inside:
        given = overrides.first().place
        raise ConfigError(f"{named(folder)} already has a config: omit {given}, or edit {named(stored)}")
    return stored_experiment(folder)


def _require_same(experiment: "Experiment", folder: Path) -> None:
    """Raise ConfigError unless the experiment is the one of the folder's config, but for descriptions of classes."""
    from dal.config.stored import first_difference
    from dal.experiments.folder_config import DESCRIBING

    difference = first_difference(folder, config_to_store(experiment), ignored=DESCRIBING)
    if difference is not None:
        or_edit = f"omit --config, or edit {named(folder / 'config.yaml')}"
        raise ConfigError(f"{named(folder)} already has a different config: {difference}; {or_edit}")


def config_to_store(experiment: "Experiment") -> dict[str, Any]:
    """The config to store in a `dal ask` folder: the experiment without the keys that may change."""
    from dal.config.stored import describe
    from dal.experiments.folder_config import FREE

    return {key: value for key, value in describe(experiment).items() if key not in FREE}


def open_session(experiment: "Experiment", folder: Path, monitor: "Monitor | None" = None) -> "Session":
    """Open the session of a `dal ask` folder, with a monitor of its fits and passes."""
    from dal.experiments.results import Cell
    from dal.learner import SILENT

    cell = Cell(folder.name, experiment.strategy, experiment.seeds[0])
    return experiment.session(cell, folder, simulated=False, monitor=SILENT if monitor is None else monitor)


def _with_folder(settings: "Node", overrides: "Override", folder: Path) -> "Node":
    """The settings, with `folder` as their folder unless they or the overrides name one."""
    from dal.config.settings_tree import Node

    given = overrides.inside.get("folder")
    if given is not None and given.node is not None and not (given.node.raw or "").strip():
        raise ConfigError("--folder is empty: name one, such as runs/first, or null to store nothing")
    if given is None and (settings.value.get("folder") is None or settings.value["folder"].value is None):
        return Node({**settings.value, "folder": Node(str(folder), str(folder), settings.place)}, None, settings.place)
    return settings
