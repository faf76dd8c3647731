"""Creation of project folders, and additions to their rows and labels."""

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from dal.annotate.imported_labels import LabelImport
from dal.config.kinds import PROJECT
from dal.config.stored import write_config
from dal.data.imported_rows import ImportedRows
from dal.errors import ConfigError
from dal.experiments.project_experiment import current_experiment, project_experiment
from dal.store.atomic_files import named, replacing
from dal.store.label_log import LabelLog
from dal.store.project_rows import ProjectRows, RowChanges
from dal.store.run_folder import LABELS, ROWS

__all__ = ["add_to_project", "create_project", "current_experiment", "project_experiment"]


def create_project(
    folder: Path,
    imported: ImportedRows,
    config: Mapping[str, Any],
    *,
    changes: Sequence[Mapping[str, Any]] = (),
    labels: LabelImport | None = None,
    who: str = "",
) -> RowChanges:
    """Create a project folder with a copy of its rows. An error or a kill leaves no folder.

    Args:
        folder: the folder, which does not exist or is empty.
        imported: the rows.
        config: the config of an experiment, as `dal.config.stored.describe` gives it. Its data are the project's rows.
        changes: changes of classes, see `LabelLog.change_classes`, in order.
        labels: known labels of the rows.
        who: person who made the changes and gave the labels.

    Raises:
        ConfigError: the folder holds something, or cannot be written.
        SessionError: a row cannot be stored, or the disk is full.
    """
    if folder.is_dir() and any(folder.iterdir()):
        raise ConfigError(f"{named(folder)} is not empty: choose another folder")
    data = dict(config["data"]) | {"path": ROWS, "label": None, "classes": None, "descriptions": None}
    with replacing(folder) as partial:
        with ProjectRows.create(partial / ROWS) as rows:
            added = rows.add(imported.project_rows(), source=imported.path, digest=imported.digest)
        with LabelLog(partial / LABELS) as log, log.changing():
            for change in changes:
                log.change_classes(change, who=who, imported=True)
            if labels is not None:
                labels.store(log, who=who)
        write_config(partial, {**config, "data": data}, kind=PROJECT)
    return added


def add_to_project(
    folder: Path,
    imported: ImportedRows | None,
    *,
    replace: bool = False,
    left_out: Collection[str] = (),
    retired: Sequence[str] = (),
    restored: Sequence[str] = (),
    changes: Sequence[Mapping[str, Any]] = (),
    labels: LabelImport | None = None,
    who: str = "",
) -> RowChanges:
    """Add rows, labels and classes to a project, and retire rows: all of it, or after an error nothing.

    The caller holds the lock of the folder. The rows are committed last: after a kill between the two files the log
    may have labels of rows that are not there, which count once the same call is repeated.

    Args:
        folder: the project.
        imported: rows to add; None for none.
        replace: whether texts of ids that exist replace those in the project.
        left_out: ids of imported rows that are not added.
        retired: ids of rows to take out of the pool. Their answers are kept.
        restored: ids of retired rows to bring back.
        changes: changes of classes, in order.
        labels: known labels.
        who: person who does it.

    Raises:
        SessionError: a row cannot be stored, or the disk is full.
    """
    with ProjectRows(folder / ROWS) as rows, LabelLog(folder / LABELS) as log, rows.changing():
        changed = RowChanges(0, 0, (), 0)
        if imported is not None:
            given = (row for row in imported.project_rows() if row.id not in left_out)
            changed = rows.add(given, source=imported.path, digest=imported.digest, replace=replace)
        with log.changing():
            for change in changes:
                log.change_classes(change, who=who, imported=True)
            if labels is not None:
                labels.store(log, who=who)
            if retired:
                log.retire(retired, who=who)
            if restored:
                log.restore(restored, who=who)
    return changed
