"""Folders and files that are written whole or not at all."""

import contextlib
import os
import shutil
import stat
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from dal.errors import ConfigError, shortened


@contextmanager
def replacing(folder: Path) -> Iterator[Path]:
    """An empty sibling folder to write to, which takes the place of `folder` when the block ends without an error.

    What was written is on disk before it takes the place. After an error nothing has changed, and nothing is left.
    """
    folder = Path(folder).absolute()
    folder.parent.mkdir(parents=True, exist_ok=True)
    mark = uuid.uuid4().hex[:12]
    partial, previous = folder.with_name(f".{folder.name}.{mark}.new"), folder.with_name(f".{folder.name}.{mark}.old")
    partial.mkdir()
    try:
        yield partial
        synchronise(partial)
        if folder.exists():
            folder.rename(previous)
        partial.rename(folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
        if previous.exists() and not folder.exists():
            previous.rename(folder)
        shutil.rmtree(previous, ignore_errors=True)


def check_output(path: Path) -> Path:
    """The file that a write to `path` creates or replaces: `path` itself, or what a symbolic link leads to.

    Call it before any work whose result goes there.

    Raises:
        ConfigError: it is a folder, a device or a pipe, its folder is missing or may not be written to, or the name is
            none that the file system takes.
    """
    try:
        final = Path(os.path.realpath(path))
        if not path.name or final.is_dir():
            raise ConfigError(f"{_named(path)} is a folder, not a file to write to")
        try:
            mode = final.stat().st_mode
        except FileNotFoundError:
            if not final.parent.is_dir():
                raise ConfigError(f"there is no folder {_named(path.parent)}") from None
            mode = None
        if mode is not None and not stat.S_ISREG(mode):
            raise ConfigError(f"{_named(path)} is a device, a pipe or a socket, not a file to write to")
        if not os.access(final.parent, os.W_OK | os.X_OK) or (mode is not None and not os.access(final, os.W_OK)):
            raise ConfigError(f"{_named(path)} cannot be written: permission denied")
    except (OSError, ValueError) as error:  # a name that is too long, a NUL, a loop of links, a file among the folders
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise ConfigError(f"{_named(path)} cannot be written: {reason}") from error
    return final


def _named(path: Path) -> str:
    return shortened(str(path).encode(errors="backslashreplace").decode().replace("\0", "\\0"), 120)


def write_whole(path: Path, text: str | bytes, *, private: bool = False) -> None:
    """Write a file so that a reader sees the old content or the new, never a part.

    A symbolic link stays a link: the file that it leads to is replaced. A file that exists keeps its mode and owner.

    Args:
        path: the file.
        text: written as UTF-8; bytes as they are.
        private: create a file that is new for its owner alone (mode 0600).

    Raises:
        ConfigError: see `check_output`.
        OSError: the disk is full or fails.
    """
    final = check_output(path)
    partial = final.with_name(f".dal-{uuid.uuid4().hex[:12]}.new")
    try:
        opened = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600 if private else 0o666)
        with open(opened, "wb") as file:
            file.write(text if isinstance(text, bytes) else text.encode("utf-8"))
            file.flush()
            if final.exists():
                before = final.stat()
                os.chmod(partial, stat.S_IMODE(before.st_mode))
                with contextlib.suppress(OSError, AttributeError):  # only root may give a file away
                    os.chown(partial, before.st_uid, before.st_gid)
            os.fsync(file.fileno())
        partial.replace(final)
        synchronise_folder(final.parent)
    finally:
        partial.unlink(missing_ok=True)


def synchronise(path: Path) -> None:
    """Have a file, or every file in a folder, on disk."""
    for file in [path] if path.is_file() else path.rglob("*"):
        if file.is_file():
            with file.open("rb+") as opened:
                os.fsync(opened.fileno())


def synchronise_folder(folder: Path) -> None:
    """Have the names in a folder on disk, so that a rename outlives a power failure. Windows has no such call."""
    if os.name == "nt":
        return
    opened = os.open(folder, os.O_RDONLY)
    try:
        with contextlib.suppress(OSError):  # some network file systems refuse it
            os.fsync(opened)
    finally:
        os.close(opened)
