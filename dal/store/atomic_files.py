"""Atomic writes of files and folders."""

import contextlib
import errno
import functools
import hashlib
import os
import platform
import re
import shlex
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
    """Replace a folder atomically by a new one: yields an empty sibling folder to write to.

    The new content is synced to disk before it replaces `folder` at the end of the block. An error in the block
    changes nothing and leaves no files. After a kill at any moment `folder` is completely the old or the new one: at
    once where the system can exchange two names (Linux), otherwise after the next `recover` or `replacing`, which also
    remove temporary files.

    Raises:
        ConfigError: `folder` is a file.
        OSError: the disk is full, or the parent folder is not writable.
    """
    folder = Path(folder).absolute()
    make_folder(folder.parent)
    recover(folder)
    if folder.exists() and not folder.is_dir():
        raise ConfigError(
            f"{named(folder)} is a file, where a folder is to be written: move it, or choose another name"
        )
    partial, previous = (folder.with_name(temporary_name(folder.name, end)) for end in ("new", "old"))
    partial.mkdir()
    try:
        yield partial
        synchronise(partial)  # before the rename: after a power failure the new name must not hold empty files
        if not os.path.lexists(folder):
            partial.rename(folder)
        elif not _exchange(partial, folder):  # two renames leave a moment without the folder, which `recover` mends
            folder.rename(previous)
            partial.rename(folder)
        synchronise_folder(folder.parent)
    finally:
        if os.path.lexists(previous) and not os.path.lexists(folder):
            previous.rename(folder)
        for leftover in (partial, previous):
            _remove_quietly(leftover)


def recover(path: Path) -> None:
    """Restore the file or folder `path` after a kill during its replacement, and remove temporary files.

    Temporary files of a live process are kept. Those of another computer, whose processes cannot be checked, are kept
    for a day.
    """
    head = f".{_short(path.name)}."
    nested = f".{head}"  # prefix of temporary files inside a folder that was itself being written
    try:
        names = os.listdir(path.parent)
    except OSError:
        return
    left = [path.with_name(name) for name in names if name.startswith(head) and _is_leftover(path.parent, name, head)]
    for name in names:
        if name.startswith(nested) and _is_leftover(path.parent, name, nested):
            _remove_quietly(path.with_name(name))
    old = sorted((each for each in left if each.name.endswith(".old")), key=_age)
    if old and not os.path.lexists(path):
        with contextlib.suppress(OSError):  # another process may restore it at the same time
            old.pop(0).rename(path)
            synchronise_folder(path.parent)
    for each in (*old, *(each for each in left if each.name.endswith(".new"))):
        _remove_quietly(each)


def temporary_name(name: str, end: str) -> str:
    """Name of a temporary sibling of the file or folder `name`, which `recover` removes once this process has ended.

    Args:
        name: name of the file or folder.
        end: "new" for content being written, "old" for content being replaced.
    """
    return f".{_short(name)}.{_computer()}-{os.getpid()}-{uuid.uuid4().hex[:12]}.{end}"


def make_folder(folder: Path) -> None:
    """Create a folder and its missing parents, synced to disk."""
    missing = []
    while not folder.is_dir():
        missing.append(folder)
        folder = folder.parent
        if folder == folder.parent:
            break
    for each in reversed(missing):  # outermost first, each entry synced in its parent
        each.mkdir(exist_ok=True)
        synchronise_folder(each.parent)


_MARK = r"[0-9a-f]{12}\.(?:new|old)"
_LEFTOVER = re.compile(
    rf"(?:(?:[0-9a-f]{{8}}-[0-9]+-)?{_MARK}\.)?(?:(?P<computer>[0-9a-f]{{8}})-(?P<pid>[0-9]+)-)?{_MARK}"
)
_DAY = 24 * 3600.0  # seconds after which a write is assumed to have ended


def _is_leftover(folder: Path, name: str, head: str) -> bool:
    """Whether an entry of a folder is a temporary file of a process that has ended; of two processes the last."""
    match = _LEFTOVER.fullmatch(name, len(head))
    if match is None:
        return False
    if match["computer"] == _computer():
        return not is_alive(int(match["pid"]))
    # Names of an earlier version have no process id; its "old" entries were about to be removed.
    return (match["pid"] is None and name.endswith("old")) or _age(folder / name) > _DAY


def _age(path: Path) -> float:
    """Seconds since the last modification; 0 if the path no longer exists."""
    try:
        return max(0.0, time.time() - path.lstat().st_mtime)
    except OSError:
        return 0.0


def _short(name: str) -> str:
    """The name, shortened so that a temporary name stays within the limit of 255 bytes."""
    whole = os.fsencode(name)
    return name if len(whole) <= 180 else f"{os.fsdecode(whole[:120])}~{hashlib.sha256(whole).hexdigest()[:12]}"


@functools.cache
def _computer() -> str:
    """Digest of the host name, since process ids are meaningful only on the computer that assigned them."""
    return hashlib.sha256(platform.node().encode()).hexdigest()[:8]


def is_alive(pid: int) -> bool:
    """Whether a process with this id runs on this computer. Always True on Windows."""
    if os.name == "nt":  # os.kill would terminate the process there
        return True
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except OSError:
        return True  # it belongs to another user
    try:  # a zombie keeps its id until its parent reads the exit status
        return Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()[:1] != [b"Z"]
    except OSError:
        return True


def _exchange(one: Path, other: Path) -> bool:
    """Exchange the names of two folders atomically; return whether the system supports it."""
    if not sys.platform.startswith("linux"):
        return False
    import ctypes  # imported here, since most commands never replace a folder

    try:
        renameat2 = ctypes.CDLL(None).renameat2
    except (AttributeError, OSError):
        return False
    at_fdcwd, rename_exchange = -100, 2
    status: int = renameat2(at_fdcwd, os.fsencode(one), at_fdcwd, os.fsencode(other), rename_exchange)
    return status == 0


def remove(path: Path) -> None:
    """Remove a file, a link, or a folder with all its content. Links are removed, not followed.

    Raises:
        OSError: it does not exist, or cannot be removed.
    """
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink()


def _remove_quietly(path: Path) -> None:
    """Remove a path as far as that is possible."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with contextlib.suppress(OSError):
            path.unlink()


def check_output(path: Path) -> Path:
    """Check that a file can be written, and return its path with symbolic links resolved.

    Call it before any work whose result goes to this file.

    Raises:
        ConfigError: `path` is a folder, a device or a pipe, its parent is missing or not writable, or the name is
            invalid.
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
    except (OSError, ValueError) as error:  # a long name, a NUL, a loop of links, a file among the parents
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise ConfigError(f"{named(path)} cannot be written: {reason}") from error
    return final


def named(path: Path) -> str:
    """Format a path for a message: control characters escaped, the middle of a long path left out."""
    return printable(str(path), 120)


def typed(path: Path) -> str:
    """Format a path as an argument of a command that a person types in a shell: whole, and quoted where needed.

    Example:
        >>> typed(Path("my project")), typed(Path("runs/first"))
        ("'my project'", 'runs/first')
    """
    return shlex.quote(str(path))


def write_whole(path: Path, text: str | bytes, *, private: bool = False, follow_links: bool = True) -> None:
    """Write a file atomically: readers see the old or the new content, never a part.

    An existing file keeps its mode and owner.

    Args:
        path: file to write.
        text: content; str is encoded as UTF-8.
        private: create a new file with mode 0600.
        follow_links: whether the target of a symbolic link is replaced, as users expect of the files that they name, or
            the link, as is safe in a folder that others can write to.

    Raises:
        ConfigError: see `check_output`.
        OSError: the disk is full or fails.
    """
    final = check_output(path) if follow_links else path.absolute()
    recover(final)
    partial = final.with_name(temporary_name(final.name, "new"))
    try:
        opened = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600 if private else 0o666)
        with open(opened, "wb") as file:
            file.write(text if isinstance(text, bytes) else text.encode("utf-8"))
            file.flush()  # to the operating system; `fsync` below takes it to the disk
            before = final.lstat() if os.path.lexists(final) else None
            if before is not None and stat.S_ISREG(before.st_mode):  # the new file takes over its permissions and owner
                os.chmod(partial, stat.S_IMODE(before.st_mode))
                with contextlib.suppress(OSError, AttributeError):  # only root may change the owner
                    os.chown(partial, before.st_uid, before.st_gid)
            os.fsync(file.fileno())
        partial.replace(final)
        synchronise_folder(final.parent)
    finally:
        partial.unlink(missing_ok=True)


def check_regular(folder: Path, names: Iterable[str]) -> None:
    """Check that the entries with these names, where they exist, are regular files.

    Raises:
        ConfigError: an entry is a folder, a pipe, a broken link, or a link out of the folder, which may come from
            others: what is written to it would go to a file of the user.
    """
    for name in names:
        path = folder / name
        if os.path.lexists(path) and not path.is_file():
            raise ConfigError(f"{named(path)} is not a regular file: remove it")
        if path.is_symlink() and Path(os.path.realpath(path)).parent != Path(os.path.realpath(folder)):
            raise ConfigError(
                f"{named(path)} is a link to {named(Path(os.path.realpath(path)))}, which would be written to: put a "
                "copy of that file in its place"
            )


def open_regular(path: Path, flags: int) -> int:
    """Open a regular file and return its descriptor. A symbolic link is not followed.

    In a folder that others can write to, a link could lead to any file of the user, and a pipe to a wait without end.

    Args:
        path: file to open.
        flags: flags of `os.open`.

    Raises:
        OSError: the file cannot be opened, is a link, or is not regular.
    """
    for name in ("O_NOFOLLOW", "O_NONBLOCK", "O_BINARY"):  # each is missing on some systems
        flags |= getattr(os, name, 0)
    refused = OSError(errno.EINVAL, "not a regular file", str(path))
    try:
        opened = os.open(path, flags, 0o666)
    except OSError as error:
        raise (refused if path.is_symlink() else error) from None
    if not stat.S_ISREG(os.fstat(opened).st_mode):
        os.close(opened)
        raise refused
    return opened


def read_regular(path: Path) -> bytes:
    """Read a regular file.

    Raises:
        OSError: the file cannot be read, or is not regular: reading from a pipe might never end.
    """
    if not stat.S_ISREG(path.stat().st_mode):
        raise OSError(errno.EINVAL, "not a regular file", str(path))
    return path.read_bytes()


def synchronise(path: Path) -> None:
    """Sync a file, or a folder with all its content, to disk."""
    for inside in [path] if path.is_file() else [*path.rglob("*"), path]:
        if inside.is_dir():
            synchronise_folder(inside)
        elif inside.is_file():
            with inside.open("rb+") as opened:
                os.fsync(opened.fileno())


def synchronise_folder(folder: Path) -> None:
    """Sync a folder's entries to disk, so that a rename survives a power failure. Does nothing on Windows."""
    if os.name == "nt":
        return
    opened = os.open(folder, os.O_RDONLY)
    try:
        with contextlib.suppress(OSError):  # some network file systems do not support it
            os.fsync(opened)
    finally:
        os.close(opened)
