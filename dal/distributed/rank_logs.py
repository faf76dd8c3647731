"""Folder with the output of the ranks of a run, removed at its end, or by a later run where that was killed."""

import contextlib
import os
import shutil
import stat
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from dal.errors import DalError, RankError
from dal.store.folder_lock import Lock
from dal.store.run_folder import LOCK

_PREFIX = "dal-ranks-"
_KEPT = 24 * 3600.0  # seconds for which output of ranks is kept after a failure


@contextmanager
def rank_logs() -> Iterator[Path]:
    """Context manager with a new folder for the output of ranks, locked during the block.

    It is removed at the end, except after a `RankError`, whose message names a file of it. Folders of earlier runs
    that have ended are removed first, if nothing was written to them for a day.
    """
    _remove_left(Path(tempfile.gettempdir()))
    folder = Path(tempfile.mkdtemp(prefix=_PREFIX))
    with contextlib.ExitStack() as stack:
        with contextlib.suppress(DalError):  # a file system without locks, where no folder is removed either
            stack.callback(Lock(folder).release)
        try:
            yield folder
        except RankError:
            raise
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        shutil.rmtree(folder, ignore_errors=True)


def _remove_left(place: Path) -> None:
    """Remove the folders of this user's runs that have ended. Errors are ignored, since nothing depends on it."""
    with contextlib.suppress(OSError), os.scandir(place) as entries:
        for entry in entries:
            if entry.name.startswith(_PREFIX):
                with contextlib.suppress(OSError, DalError):  # it is in use, or is removed by another process
                    if _is_left(Path(entry.path)):
                        Lock(Path(entry.path)).release()
                        shutil.rmtree(entry.path, ignore_errors=True)


def _is_left(folder: Path) -> bool:
    """Whether a folder is one of this user's runs that nothing was written to for a day.

    Others can write to the folder for temporary files: a link is none, and neither is a folder without a lock file,
    as of an earlier version, of which nothing says whether its run has ended.

    Raises:
        OSError: there is no lock file, or the folder cannot be read.
    """
    status = folder.lstat()
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.getuid():
        return False
    if not stat.S_ISREG((folder / LOCK).lstat().st_mode):
        return False
    latest = max(path.lstat().st_mtime for path in (folder, *folder.iterdir()))
    return time.time() - latest > _KEPT
