"""Experiments and sessions from config files and folders."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dal.commands.paths import FILES, check_folder, require_asked
from dal.commands.terminal import say
from dal.errors import ConfigError, shortened
from dal.store.atomic_files import check_regular, named

if TYPE_CHECKING:
    from dal.config.settings_tree import Node, Override
    from dal.experiments.experiment import Experiment
    from dal.session import Session


#: Files that a run folder or one of its cells has.
_OF_RUNS = ("environment.json", "labels.db", "metrics.jsonl", "successor.json", "model")


def read_experiment(config: Path, overrides: "Override", folder: Path) -> "Experiment":
    """The experiment of the user's own config file, in `folder` unless the config names one.

    Its class paths may name code in the current folder, unless the file is one that a run folder keeps.
    """
    from dal.config import allowed_code as importing
    from dal.config import settings_tree as tree

    if not is_stored(config):
        importing.allow_current_folder()
    return build_experiment(tree.read(config), overrides, folder, stored=is_stored(config))


def is_stored(config: Path) -> bool:
    """Whether a config is that of a run folder, which may be somebody else's."""
    return config.name == "config.yaml" and any((config.parent / name).exists() for name in _OF_RUNS)


def stored_experiment(folder: Path) -> "Experiment":
    """The experiment of the config in a run folder, whose class paths may name installed packages alone."""
    from dal.config import settings_tree as tree

    return build_experiment(tree.read(stored_config(folder)), tree.Override(), folder, stored=True)


def build_experiment(settings: "Node", overrides: "Override", folder: Path, *, stored: bool = False) -> "Experiment":
    """The experiment of settings, in `folder` unless they name one. `stored`: whether they are those of a folder."""
    from dal.config import without_imports as static
    from dal.config.kinds import KIND, check_kind
    from dal.config.settings_tree import Node

    if KIND in settings.value:
        check_kind(settings.value[KIND])
        settings = Node({key: node for key, node in settings.value.items() if key != KIND}, None, settings.place)
    static.check(settings, overrides)
    settings = _placed(settings, overrides, folder)
    from dal.config.build import build
    from dal.experiments.experiment import Experiment
    from dal.session.checked_arguments import check_needs
    from dal.strategies.candidates import as_candidates, check_candidates

    experiment, notes = build(Experiment, settings, overrides, stored=stored)
    _check(experiment, settings.place)
    for note in notes:
        say(note)
    if "transformers" in sys.modules:  # whose bars for every saved file would break up the run's own display
        from transformers.utils.logging import disable_progress_bar

        disable_progress_bar()
    for strategy in (experiment.strategy, experiment.baseline):
        if strategy is not None:
            check_needs(strategy, experiment.learner, multilabel=experiment.data.multilabel)
    check_candidates(as_candidates(experiment.candidates), experiment.learner)
    return experiment


def _check(experiment: "Experiment", place: str) -> None:
    """Raises `ConfigError` for a folder without a name, or seeds that are too large."""
    if experiment.folder is not None and not experiment.folder.strip():
        raise ConfigError(f"{place}: folder is empty: name one, such as runs/first")
    if max(experiment.seeds) >= 1 << 63:
        raise ConfigError(f"{place}: seeds must be smaller than 2^63, got {shortened(str(max(experiment.seeds)))}")


def stored_config(folder: Path) -> Path:
    """The config in a folder.

    Raises:
        ConfigError: there is no such folder, or it has none.
    """
    require_folder(folder)
    if not (folder / "config.yaml").is_file():
        raise ConfigError(f"{named(folder)} is not a run folder: it has no config.yaml")
    return folder / "config.yaml"


def require_folder(folder: Path) -> None:
    """Refuse a folder that is not there."""
    try:
        if folder.is_dir():
            return
        file = folder.exists()
    except OSError as error:
        raise ConfigError(f"{named(folder)} cannot be a folder: {error.strerror}") from error
    raise ConfigError(f"{named(folder)} is a file, not a folder" if file else f"there is no folder {named(folder)}")


def settled(folder: Path, config: Path | None, overrides: "Override | None") -> "Experiment":
    """The experiment of a folder to ask from: of its own config, or of the one that it is started with.

    Raises:
        ConfigError: the folder is none, belongs to a run or comparison, or has another config than the one given.
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
    if config is not None:  # as where the command that began the folder is given again
        experiment = read_experiment(config, overrides or Override(), folder)
        _require_same(experiment, folder)
        return experiment
    if overrides is not None and overrides.inside:
        given = overrides.first().place
        raise ConfigError(f"{named(folder)} has its config already: leave {given} away, or edit {named(stored)}")
    return stored_experiment(folder)


def _require_same(experiment: "Experiment", folder: Path) -> None:
    """Refuse an experiment that is not the one in the folder's own config."""
    from dal.config.stored import first_difference

    difference = first_difference(folder, kept_config(experiment))
    if difference is not None:
        or_edit = f"leave --config away, or edit {named(folder / 'config.yaml')}"
        raise ConfigError(f"{named(folder)} has its config already, and another: {difference}; {or_edit}")


def kept_config(experiment: "Experiment") -> dict[str, Any]:
    """What the config of a folder to ask from says of its experiment."""
    from dal.config.stored import describe
    from dal.experiments.experiment import FREE

    return {key: value for key, value in describe(experiment).items() if key not in FREE}


def open_session(experiment: "Experiment", folder: Path) -> "Session":
    """The session of a folder to ask from."""
    from dal.experiments.experiment import Cell

    return experiment.session(Cell(folder.name, experiment.strategy, experiment.seeds[0]), folder, simulated=False)


def _placed(settings: "Node", overrides: "Override", folder: Path) -> "Node":
    from dal.config.settings_tree import Node

    given = overrides.inside.get("folder")
    if given is not None and given.node is not None and not (given.node.raw or "").strip():
        raise ConfigError("--folder is empty: name one, such as runs/first, or null to keep nothing")
    if given is None and (settings.value.get("folder") is None or settings.value["folder"].value is None):
        return Node({**settings.value, "folder": Node(str(folder), str(folder), settings.place)}, None, settings.place)
    return settings
