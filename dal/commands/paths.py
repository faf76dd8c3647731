"""Checks of the files and folders of a command line, before anything is opened."""

import argparse
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from dal.config.kinds import ASKED, BEGUN, CELL, COMPARISON, PROJECT, RUN, kind_of
from dal.errors import ConfigError, shortened
from dal.store.atomic_files import check_output, named, typed
from dal.store.run_folder import FILES, LABELS, ROWS, SAVED_MODEL
from dal.store.similar_names import similar_entry
from dal.store.sqlite_files import is_database

if TYPE_CHECKING:
    from dal.experiments.experiment import Experiment

_CONFIG = "config.yaml"
_FOLDERS = {"model", "checks", "report", "logs"}
_MAX_NAME = 255  # bytes, on all common file systems


def path_of(text: str) -> Path:
    """Parse a path argument. An empty string is refused, since it would mean the current folder."""
    if not text:
        raise argparse.ArgumentTypeError("the name is empty")
    return Path(text)


def person_of(text: str) -> str:
    """Parse the name of a person; an empty one is nobody's."""
    from dal.annotate.person_names import checked_name

    try:
        return checked_name(text) if text else ""
    except ConfigError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def check_folder(folder: Path) -> None:
    """Raise ConfigError unless the path is a writable folder or one can be created there."""
    above = folder
    try:
        while not above.exists() and above != above.parent:
            above = above.parent
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise ConfigError(f"{named(folder)} cannot be a folder: {reason}") from error
    wrong = "contains a null character" if "\0" in str(folder) else ""
    if any(len(os.fsencode(part)) > _MAX_NAME for part in folder.parts):
        wrong = f"is longer than {_MAX_NAME} bytes"
    if wrong or (above != folder and folder.is_symlink()):
        raise ConfigError(f"{named(folder)} cannot be: its name {wrong or 'is that of a link that leads nowhere'}")
    if not above.is_dir():
        what = "is a file, not a folder" if above == folder else f"cannot be made: {named(above)} is a file"
        raise ConfigError(f"{named(folder)} {what}")
    if not os.access(above, os.W_OK | os.X_OK):
        raise ConfigError(f"{named(folder)} cannot be written to: permission denied")


def check_new_folder(folder: Path) -> None:
    """Raise ConfigError unless the path is a folder that can be made, or an empty one."""
    check_folder(folder)
    if (folder / _CONFIG).is_file() and kind_of(folder) == PROJECT:
        raise ConfigError(f"{named(folder)} is a project already: `dal add {typed(folder)} FILE` adds texts to it")
    if folder.is_dir() and any(folder.iterdir()):
        raise ConfigError(f"{named(folder)} is not empty: choose another folder")


def require_asked(folder: Path) -> None:
    """Raise ConfigError unless people answer in the folder: a run manages its own questions and answers."""
    _refuse(folder, (ASKED, PROJECT, BEGUN), "`dal ask` and `dal tell` need a folder of their own")


def require_project(folder: Path) -> None:
    """Raise ConfigError unless the folder is a project."""
    if not (folder / _CONFIG).is_file():
        hint = similar_entry(folder, folders=True)
        if not folder.exists() and hint:
            raise ConfigError(f"there is no folder {named(folder)}{hint}")
        what = f"{named(folder)} has no config.yaml" if folder.exists() else f"there is no folder {named(folder)}"
        raise ConfigError(f"{what}: make a project with `dal init {typed(folder)} --data FILE`")
    _refuse(folder, (PROJECT,), "this command is for projects, which `dal init` makes")
    for name in (LABELS, ROWS):  # a new one would hide that labels or texts are gone
        if not os.path.lexists(folder / name):
            raise ConfigError(f"{named(folder)} has no {name}: put a backup of it there")


def require_run(folder: Path) -> None:
    """Raise ConfigError for a folder that has a config and does not belong to a run."""
    if (folder / _CONFIG).is_file():
        _refuse(folder, (RUN, BEGUN), "`dal run` needs a folder of its own")


def require_stored(folder: Path, cell: str | None) -> None:
    """Raise ConfigError unless the folder has a config, or for a cell of a folder that has none.

    What needs the config, such as the names of cells, is checked when it has been read.
    """
    from dal.experiments.stored_experiments import stored_config

    stored_config(folder)
    kind = kind_of(folder)
    if cell is not None and kind in (ASKED, PROJECT, CELL):
        what = "is a project, which has no cells" if kind == PROJECT else "is itself one cell"
        raise ConfigError(f"--cell {shortened(cell)}: {named(folder)} {what}")


def _refuse(folder: Path, kinds: tuple[str, ...], otherwise: str) -> None:
    kind, name = kind_of(folder), named(folder)
    if kind in kinds:
        return
    messages = {
        RUN: f"{name} belongs to `dal run`, which answers its own questions: {otherwise}",
        COMPARISON: f"{name} belongs to `dal compare` (`dal compare --resume {typed(folder)}` resumes it): {otherwise}",
        CELL: f"{name} is one strategy and seed of a run, which answers its own questions: {otherwise}",
        ASKED: f"{name} belongs to `dal ask` and `dal tell`, where a person answers: {otherwise}",
        PROJECT: f"{name} is a project of `dal init`, where people answer: {otherwise}",
    }
    raise ConfigError(messages[kind])


# -- files -----------------------------------------------------------------------------------------------------------


def check_input(file: Path) -> None:
    """Raise ConfigError unless the path is a regular file."""
    try:
        if file.is_file():
            return
        what = "a folder" if file.is_dir() else "a device or a pipe" if file.exists() else ""
    except OSError as error:
        raise ConfigError(f"{named(file)} cannot be read: {error.strerror}") from error
    if what:
        raise ConfigError(f"{named(file)} is {what}, not a file to read")
    raise ConfigError(f"{named(file)}: there is no such file{similar_entry(file, folders=False)}")


def check_sheet(output: Path, folder: Path, *, force: bool) -> None:
    """Raise ConfigError for an output file that cannot be written or must not be replaced.

    Args:
        output: path of the CSV file to write.
        folder: folder of the command, which need not exist yet.
        force: whether an existing file may be replaced.
    """
    check_folder(folder)
    if output.parent.absolute() == folder.absolute() and not folder.exists():
        check_folder(output)
    else:
        check_output(output)
    final = Path(os.path.realpath(output))
    if _is_kept(final, folder):
        raise ConfigError(f"{named(output)} is one of dal's own files: choose another name")
    if final.exists() and not force:
        raise ConfigError(
            f"{named(output)} already exists and may contain answers: `dal tell` it, choose another name, or "
            "overwrite it with --force"
        )


def check_new_file(output: Path, folder: Path, *, force: bool) -> None:
    """Raise ConfigError as `check_sheet` does, for a file that holds results and no answers."""
    check_sheet(output, folder, force=True)
    if output.exists() and not force:
        raise ConfigError(f"{output} already exists: choose another name, or replace it with --force")


def check_model_folder(target: Path, folder: Path) -> None:
    """Raise ConfigError for a folder to which no model of `folder` can be saved.

    Args:
        target: folder to write. What may be replaced in it is checked by `dal.experiments.saved_model.check_target`.
        folder: folder of the command.
    """
    if not target.name:  # "." and "/"
        raise ConfigError(f"{named(target)} cannot be replaced by a folder with the model: name another one")
    check_folder(target)
    check_folder(target.absolute().parent)
    final = Path(os.path.realpath(target))
    within = Path(os.path.realpath(folder))
    if final in (within, *within.parents) or (final.parent == within and final.name in {*FILES, *_FOLDERS}):
        raise ConfigError(f"{named(target)} is one of dal's own folders: choose another name for the model")


def _is_kept(final: Path, folder: Path) -> bool:
    """Whether the file is one of dal's own files, or a SQLite database."""
    place = final.parent
    ours = place == Path(os.path.realpath(folder)) or (place / _CONFIG).is_file() or (place / LABELS).is_file()
    if final.name == _CONFIG or (ours and final.name in FILES):
        return True
    if place.name in _FOLDERS and (place.parent / LABELS).is_file():
        return True
    if (place / SAVED_MODEL).is_file() and final.exists():
        return True
    return final.is_file() and is_database(final)


def check_sources(output: Path, sources: Iterable[str | Path | None]) -> None:
    """Raise ConfigError for an output that would overwrite an input: the config, a data file, or a data folder."""
    final = Path(os.path.realpath(output))
    for source in sources:
        if source is None:
            continue
        try:
            read = Path(os.path.realpath(Path(source).expanduser()))
            within = read.is_dir() and read in final.parents
            same = read == final or (read.is_file() and final.is_file() and read.samefile(final))
        except (OSError, ValueError, RuntimeError):  # not a path, or the home of an unknown user
            continue
        if same or within:
            what = "is inside the data folder" if within else "is read by this command"
            raise ConfigError(f"{named(output)} {what}: choose another name")


def sources_of(experiment: "Experiment") -> Iterator[str]:
    """The files and folders that the data is read from."""
    for name in ("path", "test", "descriptions"):
        value = getattr(experiment.data, name, None)
        if isinstance(value, str):
            yield value
