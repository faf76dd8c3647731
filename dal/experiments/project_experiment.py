"""The experiment of a project folder, whose classes and retired rows are in its log of labels."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import fields, replace
from pathlib import Path

from dal.config import settings_tree as tree
from dal.config.kinds import PROJECT, kind_of
from dal.data.project_data import ProjectData
from dal.data.text_data import TextData
from dal.errors import ConfigError
from dal.experiments.experiment import Experiment
from dal.experiments.stored_experiments import assemble, stored_config
from dal.store.atomic_files import named, typed
from dal.store.label_log import LabelLog
from dal.store.row_state import RETIRED
from dal.store.run_folder import LABELS, ROWS

_PAGE = 10_000  # retired rows read at a time


def project_experiment(
    folder: Path,
    classes: Sequence[str],
    descriptions: Mapping[str, str | Sequence[str]] | None = None,
    retired: Collection[str] = (),
) -> Experiment:
    """Build the experiment of a project folder. Its class paths may name only installed packages.

    Args:
        folder: the project.
        classes: names of the classes that can be chosen, in the order of their codes.
        descriptions: class name -> text or texts that describe the class.
        retired: ids of rows that are left out.

    Raises:
        ConfigError: the folder is no project, its config is invalid, or there are too few classes for a model.
    """
    settings = tree.read(stored_config(folder))
    if kind_of(folder) != PROJECT:
        raise ConfigError(f"{named(folder)} is not a project: `dal init` makes one")
    data = settings.value.get("data", tree.Node({})).value
    if not isinstance(data, dict):
        raise ConfigError(f"{settings.place}: data takes the options of the rows of the project")
    multilabel = "multilabel" in data and data["multilabel"].value is True
    if len(classes) < (1 if multilabel else 2):
        count = "no class" if not classes else "one class"
        raise ConfigError(
            f"{named(folder)} has {count}, and a model needs {'one' if multilabel else 'two'}: add them with "
            f"`dal classes {typed(folder)} add NAME`, or while answering"
        )
    given = {name: [text] if isinstance(text, str) else list(text) for name, text in (descriptions or {}).items()}
    log = str(folder / LABELS)
    data |= {
        "path": tree.node_of(str(folder / ROWS), settings.place),
        "classes": tree.node_of(list(classes), log),
        "descriptions": tree.node_of({name: texts for name, texts in given.items() if texts} or None, log),
    }
    experiment, _ = assemble(settings, tree.Override(), folder, stored=True)
    options = {each.name: getattr(experiment.data, each.name) for each in fields(TextData)}
    return replace(experiment, data=ProjectData(**options, retired=frozenset(retired)))


def current_experiment(folder: Path) -> Experiment:
    """Build the experiment of a project folder with the classes and retired rows of its log, which is only read.

    Raises:
        ConfigError: see `project_experiment`.
        SessionError: the log is missing or damaged.
    """
    stored_config(folder)
    with LabelLog(folder / LABELS, access="read") as log:
        entries = log.classes.active
        retired, after = set[str](), ""
        while some := log.in_state(RETIRED, after=after, limit=_PAGE):
            retired.update(some)
            after = some[-1]
    descriptions = {
        each.name: [text for text in (each.description, *each.examples) if text.strip()] for each in entries
    }
    return project_experiment(folder, [each.name for each in entries], descriptions, retired)
