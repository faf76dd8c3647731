"""Exclusive lock of a folder for one process."""

import errno
import os
import stat
import sys
import time
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from dal.errors import BusyError, ConfigError, SessionError
from dal.store.atomic_files import is_alive, make_folder, named
from dal.store.run_folder import check_folder, reason_of

_LOCK = ".lock"


class Lock:
    """Exclusive lock of a folder, acquired on construction. The system releases it when the process ends.

    Args:
        folder: folder to lock, created if it does not exist.

    Raises:
        BusyError: another process, or another session of this process, holds the lock.
        SessionError: the file system does not support locks.
        ConfigError: `folder` is not a folder and cannot be created.
    """

    def __init__(self, folder: Path) -> None:
        folder = check_folder(folder)
        try:
            make_folder(folder)
            self._file: IO[bytes] | None = _open_lock(folder / _LOCK)
        except OSError as error:
            raise ConfigError(f"{named(folder)} cannot be worked in: {reason_of(error)}") from error
        for patience in (*_PATIENCE, 0.0):
            try:
                _lock(self._file)
                break
            except OSError as error:
                holder = _holder(self._file)
                if error.errno in _BUSY and patience and (holder is None or not is_alive(holder)):
                    time.sleep(patience)  # the holder may have just ended, or not have written its pid yet
                    continue
                self._let_go()
                raise _refusal(folder, holder, error) from error
        self._file.truncate(0)
        self._file.write(str(os.getpid()).encode())
        self._file.flush()
        _held.add(self)

    def release(self) -> None:
        """Release the lock. Calling it again has no effect."""
        self._let_go()
        _held.discard(self)

    def _let_go(self) -> None:
        """Close the file. Forked children do so too, since an inherited descriptor would keep the lock."""
        if self._file is not None:
            self._file.close()
            self._file = None


#: Locks held by this process.
_held: "weakref.WeakSet[Lock]" = weakref.WeakSet()

_PATIENCE = (0.02, 0.05, 0.1)  # seconds between attempts if the recorded holder is not running
_BUSY = (errno.EWOULDBLOCK, errno.EAGAIN, errno.EACCES, errno.EDEADLK)


def _let_go_of_all() -> None:
    for lock in list(_held):
        lock._let_go()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_let_go_of_all)


def _open_lock(path: Path) -> IO[bytes]:
    """Open or create the lock file. Links, pipes and other special files are refused."""
    only = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0)
    opened = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | only, 0o666)
    if not stat.S_ISREG(os.fstat(opened).st_mode):
        os.close(opened)
        raise OSError(errno.EINVAL, f"{path.name} is not a regular file")
    return open(opened, "a+b")


def _holder(file: IO[bytes]) -> int | None:
    """The process id in a lock file; None if there is none."""
    file.seek(0)
    pid = file.read(20).strip()
    return int(pid) if pid.isdigit() else None


def _refusal(folder: Path, holder: int | None, error: OSError) -> SessionError:
    if error.errno not in _BUSY:
        return SessionError(
            f"{named(folder)} is on a file system without locks ({reason_of(error)}), so that nothing would keep two "
            "processes from writing there at once: work in a folder on a local disk, and copy it there afterwards"
        )
    if holder == os.getpid():
        who = "this very process: wait until it has finished"
    elif holder is None:
        who = "another process: wait until it has finished"
    elif is_alive(holder):
        who = f"another process (pid {holder}): wait until it has finished"
    else:
        who = (
            f"a process that pid {holder}, which has ended, left behind, or by one on another computer: end that one, "
            "wait"
        )
    return BusyError(f"{named(folder)} is in use by {who}, or choose another folder")


@contextmanager
def held(folder: Path | None) -> Iterator[None]:
    """Hold the lock of `folder` during the block; with None do nothing."""
    lock = None if folder is None else Lock(folder)
    try:
        yield
    finally:
        if lock is not None:
            lock.release()


if sys.platform == "win32":
    import msvcrt

    def _lock(file: IO[bytes]) -> None:
        file.seek(1 << 20)  # past the pid: other processes cannot read a locked range
        msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)

else:
    import fcntl

    def _lock(file: IO[bytes]) -> None:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
