"""The files of a project that people answer: one process at a time has them open."""

from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from dal.annotate.project_settings import ProjectSettings
from dal.errors import SessionError
from dal.store.atomic_files import named
from dal.store.folder_lock import Lock
from dal.store.label_log import LabelLog
from dal.store.project_rows import ProjectRows
from dal.store.run_folder import LABELS, ROWS


@dataclass(frozen=True)
class ProjectFiles:
    """The open files of a project.

    Attributes:
        settings: settings of the project.
        rows: its texts.
        log: its questions and answers.
        closing: closes the files and lets other processes open the project.
    """

    settings: ProjectSettings
    rows: ProjectRows
    log: LabelLog
    closing: ExitStack


def open_project_files(folder: Path) -> ProjectFiles:
    """Open the files of a project for writing.

    Raises:
        ConfigError: the folder is not one of a project.
        BusyError: another process has it open; the message says which.
        SessionError: a file of the project is missing or damaged.
    """
    settings = ProjectSettings.of(folder)
    with ExitStack() as opened:
        opened.callback(Lock(folder).release)
        rows = ProjectRows(folder / ROWS)
        opened.callback(rows.close)
        if not (folder / LABELS).is_file():
            raise SessionError(f"{named(folder / LABELS)} is missing: put a backup of it there")
        log = LabelLog(folder / LABELS)
        opened.callback(log.close)
        return ProjectFiles(settings, rows, log, opened.pop_all())
