"""Folders and files that are written whole or not at all."""

import contextlib
import errno
import functools
import hashlib
import os
import platform
import re
import shutil
import stat
import sys
import time
import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from dal.errors import ConfigError, printable


@contextmanager
def replacing(folder: Path) -> Iterator[Path]:
    """An empty sibling folder to write to, which replaces `folder` when the block ends without an error.

    What was written is on disk before it replaces anything. After an error nothing has changed, and nothing is left.
    After a kill at any instant the folder is the old one or the new one, whole: at once where the system can exchange
    two names (Linux), else from the next `recover` or `replacing` on, which also remove what the kill left.

    Raises:
        ConfigError: there is a file of this name.
        OSError: the disk is full, or the folder may not be written to.
    """
    folder = Path(folder).absolute()
    make_folder(folder.parent)
    recover(folder)
    if folder.exists() and not folder.is_dir():
        raise ConfigError(f"{named(folder)} is a file, where a folder is to be written: choose another name")
    partial, previous = (folder.with_name(temporary_name(folder.name, end)) for end in ("new", "old"))
    partial.mkdir()
    try:
        yield partial
        synchronise(partial)
        if not os.path.lexists(folder):
            partial.rename(folder)
        elif not _exchange(partial, folder):
            folder.rename(previous)
            partial.rename(folder)
        synchronise_folder(folder.parent)
    finally:
        if os.path.lexists(previous) and not os.path.lexists(folder):
            previous.rename(folder)
        for leftover in (partial, previous):
            _remove(leftover)


def recover(path: Path) -> None:
    """Put back and clean up what a killed process left of the folder or file `path`: nothing else is touched.

    What a process that is still alive is writing stays, and so does all else for a day where the process cannot be
    asked, because it ran on another computer.
    """
    head = f".{_short(path.name)}."
    nested = f".{head}"  # of what was written whole inside a folder that was itself being written
    try:
        names = os.listdir(path.parent)
    except OSError:
        return
    left = [path.with_name(name) for name in names if name.startswith(head) and _is_leftover(path.parent, name, head)]
    for name in names:
        if name.startswith(nested) and _is_leftover(path.parent, name, nested):
            _remove(path.with_name(name))
    old = sorted((each for each in left if each.name.endswith(".old")), key=_age)
    if old and not os.path.lexists(path):
        with contextlib.suppress(OSError):  # another process has put it back in this very moment
            old.pop(0).rename(path)
            synchronise_folder(path.parent)
    for each in (*old, *(each for each in left if each.name.endswith(".new"))):
        _remove(each)


def temporary_name(name: str, end: str) -> str:
    """A name for a sibling of the file or folder `name` that `recover` knows as left over once this process has ended.

    Args:
        name: of the file or folder.
        end: "new" for what is being written, "old" for what is being replaced.
    """
    return f".{_short(name)}.{_computer()}-{os.getpid()}-{uuid.uuid4().hex[:12]}.{end}"


def make_folder(folder: Path) -> None:
    """Create the folder and its parents where they are missing, on disk when this returns."""
    missing = []
    while not folder.is_dir():
        missing.append(folder)
        folder = folder.parent
        if folder == folder.parent:
            break
    for each in reversed(missing):
        each.mkdir(exist_ok=True)
        synchronise_folder(each.parent)


_MARK = r"[0-9a-f]{12}\.(?:new|old)"
_LEFTOVER = re.compile(
    rf"(?:(?:[0-9a-f]{{8}}-[0-9]+-)?{_MARK}\.)?(?:(?P<computer>[0-9a-f]{{8}})-(?P<pid>[0-9]+)-)?{_MARK}"
)
_DAY = 24 * 3600.0  # seconds after which nobody is writing any more


def _is_leftover(folder: Path, name: str, head: str) -> bool:
    """Whether an entry of a folder is what a process left that has ended; the last process counts where two wrote."""
    found = _LEFTOVER.fullmatch(name, len(head))
    if found is None:
        return False
    if found["computer"] == _computer():
        return not is_alive(int(found["pid"]))
    # An earlier version wrote no process; "old" is what it was about to remove.
    return (found["pid"] is None and name.endswith("old")) or _age(folder / name) > _DAY


def _age(path: Path) -> float:
    """Seconds since the path was written; 0 where it is gone."""
    try:
        return max(0.0, time.time() - path.lstat().st_mtime)
    except OSError:
        return 0.0


def _short(name: str) -> str:
    """The name, or a shorter one, so that what is added to it stays within the 255 bytes of a file name."""
    whole = os.fsencode(name)
    return name if len(whole) <= 180 else f"{os.fsdecode(whole[:120])}~{hashlib.sha256(whole).hexdigest()[:12]}"


@functools.cache
def _computer() -> str:
    """A digest that tells apart computers which share a folder, since a process number says nothing on another."""
    return hashlib.sha256(platform.node().encode()).hexdigest()[:8]


def is_alive(pid: int) -> bool:
    """Whether a process of this number runs on this computer."""
    if os.name == "nt":  # there, os.kill would end it
        return True
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except OSError:
        return True  # it is another user's
    try:  # a process that has ended keeps its number until its parent asks for the exit status
        return Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()[:1] != [b"Z"]
    except OSError:
        return True


def _exchange(one: Path, other: Path) -> bool:
    """Whether the system has exchanged the names of two folders, in one step."""
    if not sys.platform.startswith("linux"):
        return False
    import ctypes  # here, since most commands never replace a folder

    try:
        renameat2 = ctypes.CDLL(None).renameat2
    except (AttributeError, OSError):
        return False
    here, exchange = -100, 2  # AT_FDCWD, RENAME_EXCHANGE
    done: int = renameat2(here, os.fsencode(one), here, os.fsencode(other), exchange)
    return done == 0


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with contextlib.suppress(OSError):
            path.unlink()


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
            raise ConfigError(f"{named(path)} is a folder, not a file to write to")
        try:
            mode = final.stat().st_mode
        except FileNotFoundError:
            if not final.parent.is_dir():
                raise ConfigError(f"there is no folder {named(path.parent)}") from None
            mode = None
        if mode is not None and not stat.S_ISREG(mode):
            raise ConfigError(f"{named(path)} is a device, a pipe or a socket, not a file to write to")
        if not os.access(final.parent, os.W_OK | os.X_OK) or (mode is not None and not os.access(final, os.W_OK)):
            raise ConfigError(f"{named(path)} cannot be written: permission denied")
    except (OSError, ValueError) as error:  # a name that is too long, a NUL, a loop of links, a file among the folders
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise ConfigError(f"{named(path)} cannot be written: {reason}") from error
    return final


def named(path: Path) -> str:
    """A path for a message: control characters escaped, its middle left out where it is long."""
    return printable(str(path), 120)


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
    recover(final)
    partial = final.with_name(temporary_name(final.name, "new"))
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


def check_regular(folder: Path, names: Iterable[str]) -> None:
    """Refuse a folder in which one of these names is that of a pipe, a folder or a link that leads nowhere.

    Raises:
        ConfigError: names it.
    """
    for name in names:
        path = folder / name
        if os.path.lexists(path) and not path.is_file():
            raise ConfigError(f"{named(path)} is not a regular file: remove it")


def read_regular(path: Path) -> bytes:
    """What a regular file holds.

    Raises:
        OSError: it cannot be read, or is something else, such as a pipe, from which reading might never end.
    """
    if not stat.S_ISREG(path.stat().st_mode):
        raise OSError(errno.EINVAL, "not a regular file", str(path))
    return path.read_bytes()


def synchronise(path: Path) -> None:
    """Have a file, or a folder with all that is in it, on disk."""
    for inside in [path] if path.is_file() else [*path.rglob("*"), path]:
        if inside.is_dir():
            synchronise_folder(inside)
        elif inside.is_file():
            with inside.open("rb+") as opened:
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
