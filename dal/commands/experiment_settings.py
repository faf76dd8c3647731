"""Experiments from a user's config files, and experiments and sessions of folders of `dal ask`."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from dal.commands.paths import check_folder, require_asked
from dal.commands.terminal import say
from dal.config.kinds import PROJECT, kind_of
from dal.errors import ConfigError
from dal.experiments.stored_experiments import assemble, stored_experiment
from dal.store.atomic_files import check_regular, named, typed
from dal.store.run_folder import FILES, LABELS
from dal.store.similar_names import similar_entry

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


def build_experiment(settings: "Node", overrides: "Override", folder: Path, *, stored: bool = False) -> "Experiment":
    """Build an experiment from settings, and print the notes about it; arguments are those of `assemble`."""
    experiment, notes = assemble(settings, overrides, folder, stored=stored)
    for note in notes:
        say(note)
    return experiment


def asked_experiment(folder: Path, config: Path | None, overrides: "Override | None") -> "Experiment":
    """The experiment of a `dal ask` folder or a project: from its stored config, or from the one it is started with.

    Raises:
        ConfigError: the folder is invalid, belongs to a run or comparison, or its config differs from the given one.
    """
    from dal.config.settings_tree import Override

    check_folder(folder)
    check_regular(folder, sorted(FILES))
    stored = folder / "config.yaml"
    if not stored.exists():
        if config is None:
            if not folder.exists() and (hint := similar_entry(folder, folders=True)):
                raise ConfigError(f"there is no folder {named(folder)}{hint}")
            how = f"start it with `dal ask {typed(folder)} --config CONFIG`"
            raise ConfigError(f"{named(folder)} has no config.yaml yet: {how}")
        return read_experiment(config, overrides or Override(), folder)
    require_asked(folder)
    if kind_of(folder) == PROJECT:
        given = "--config" if config is not None else overrides.first().place if overrides and overrides.inside else ""
        if given:
            raise ConfigError(f"{named(folder)} is a project with a config: omit {given}, or edit {named(stored)}")
        from dal.experiments.project_experiment import current_experiment

        return current_experiment(folder)
    if config is not None:  # as when the command that started the folder is repeated
        experiment = read_experiment(config, overrides or Override(), folder)
        _require_same(experiment, folder)
        return experiment
    if overrides is not None and overrides.inside:
        given = overrides.first().place
        raise ConfigError(f"{named(folder)} already has a config: omit {given}, or edit {named(stored)}")
    return stored_experiment(folder)


def _require_same(experiment: "Experiment", folder: Path) -> None:
    """Raise ConfigError unless the experiment is the one of the folder's config, but for keys that may change."""
    from dal.config.stored import first_difference
    from dal.experiments.folder_config import may_change

    config = config_to_store(experiment)
    difference = first_difference(folder, config, ignored=may_change(folder, config))
    if difference is not None:
        or_edit = f"omit --config, or edit {named(folder / 'config.yaml')}"
        if not _was_asked(folder):
            or_edit += ", or delete the folder, in which nothing was asked yet"
        raise ConfigError(f"{named(folder)} already has a different config: {difference}; {or_edit}")


def _was_asked(folder: Path) -> bool:
    """Whether the folder has a question or an answer."""
    from dal.store.label_log import LabelLog

    path = folder / LABELS
    if not path.exists():
        return False
    with LabelLog(path, access="read") as log:
        return log.last_event > 0


def config_to_store(experiment: "Experiment") -> dict[str, Any]:
    """The config to store in a `dal ask` folder: the experiment without the keys that may change."""
    from dal.experiments.folder_config import FREE, describe_given

    return {key: value for key, value in describe_given(experiment).items() if key not in FREE}


def open_session(experiment: "Experiment", folder: Path, monitor: "Monitor | None" = None) -> "Session":
    """Open the session of a `dal ask` folder, with a monitor of its fits and passes."""
    from dal.experiments.results import Cell
    from dal.learner import SILENT

    cell = Cell(folder.name, experiment.strategy, experiment.seeds[0])
    return experiment.session(cell, folder, simulated=False, monitor=SILENT if monitor is None else monitor)
