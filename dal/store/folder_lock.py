"""Exclusive lock of a folder for one process, held with `filelock`.

`filelock` locks the file `.lock` with `flock`, as version 0.1 did, so that sessions of both versions exclude each
other; on Windows it locks another byte of the file. Added here are the process id of the holder, for the message, the
refusal of special files, and one-line errors.
"""

import errno
import os
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from dal.errors import BusyError, ConfigError, SessionError
from dal.store.atomic_files import is_alive, make_folder, named
from dal.store.run_folder import LOCK, check_folder, reason_of

_PATIENCE = (0.02, 0.05, 0.1)  # seconds between attempts if the recorded holder is not running


class Lock:
    """Exclusive lock of a folder, acquired on construction. The system releases it when the process ends.

    A forked child does not hold the lock of its parent.

    Args:
        folder: folder to lock, created if it does not exist.

    Raises:
        BusyError: another process, or another session of this process, holds the lock.
        SessionError: the file system does not support locks.
        ConfigError: `folder` is not a folder and cannot be created, or its `.lock` is not a regular file.
    """

    def __init__(self, folder: Path) -> None:
        folder = check_folder(folder)
        try:
            make_folder(folder)
            path = folder / LOCK
            self._lock = FileLock(
                path,
                thread_local=False,  # a session may be closed by another thread
                fallback_to_soft=False,  # a lock that is only a file would outlive a killed process
                preserve_lock_file=True,
                on_acquired=_write_pid,
            )
            for patience in (*_PATIENCE, 0.0):
                try:
                    self._lock.acquire(blocking=False)
                    return
                except Timeout:
                    holder = _holder(path)
                    if not patience or (holder is not None and is_alive(holder)):
                        raise BusyError(_in_use(folder, holder)) from None
                    time.sleep(patience)  # the holder may have just ended, or not have written its pid yet
        except OSError as error:
            if error.filename is not None:  # it could not be opened, whereas `flock` knows no name
                raise ConfigError(f"{named(folder)} cannot be worked in: {reason_of(error)}") from error
            raise SessionError(
                f"{named(folder)} is on a file system without locks ({reason_of(error)}), so that nothing would keep "
                "two processes from writing there at once: work in a folder on a local disk, and copy it there "
                "afterwards"
            ) from error

    def release(self) -> None:
        """Release the lock. Calling it again has no effect."""
        self._lock.release()


def _write_pid(file: int) -> None:
    """Write the id of this process to the open lock file.

    Raises:
        OSError: the file is a pipe or another special file.
    """
    if not stat.S_ISREG(os.fstat(file).st_mode):
        raise OSError(errno.EINVAL, f"{LOCK} is not a regular file", LOCK)
    os.truncate(file, 0)  # the id of an earlier holder may have more digits
    os.lseek(file, 0, os.SEEK_SET)  # Windows has no os.pwrite
    os.write(file, str(os.getpid()).encode())


def _holder(path: Path) -> int | None:
    """The process id in a lock file; None if there is none."""
    try:
        pid = path.read_bytes()[:20].strip()
    except OSError:  # Windows lets no other process read a locked file
        return None
    return int(pid) if pid.isdigit() else None


def _in_use(folder: Path, holder: int | None) -> str:
    """The message of a folder that is locked by a process with the id `holder`."""
    if holder == os.getpid():
        who = "this very process: wait until it has finished"
    elif holder is None:
        who = "another process: wait until it has finished"
    elif is_alive(holder):
        who = f"another process (pid {holder}): end it (dal annotate: Ctrl-C), wait until it has finished"
    else:
        who = (
            f"a process that pid {holder}, which has ended, left behind, or by one on another computer: end that one, "
            "wait"
        )
    return f"{named(folder)} is in use by {who}, or choose another folder"


@contextmanager
def held(folder: Path | None) -> Iterator[None]:
    """Hold the lock of `folder` during the block; with None do nothing."""
    lock = None if folder is None else Lock(folder)
    try:
        yield
    finally:
        if lock is not None:
            lock.release()
