"""Location of the disk cache, and verification of its content."""

import contextlib
import json
import os
from collections.abc import Callable
from pathlib import Path

from dal.errors import ConfigError
from dal.store.atomic_files import read_regular, write_whole

_VERIFIED = "verified.json"


def cache_folder() -> Path:
    """Folder for cached tokens and embeddings: the environment variable DAL_CACHE, or `~/.cache/dal`."""
    configured = os.environ.get("DAL_CACHE")
    return Path(configured) if configured else Path.home() / ".cache" / "dal"


def verified(folder: Path, check: Callable[[], bool]) -> bool:
    """Whether `check` of a folder's content holds. It is run again only after a file has changed.

    A success is recorded in the folder with the sizes and times of its files, which are cheap to compare.

    Args:
        folder: folder to verify.
        check: slow check of the content, such as a checksum.

    Raises:
        OSError: the folder cannot be read.
    """
    stamps = _stamps(folder)
    try:
        if json.loads(read_regular(folder / _VERIFIED)) == stamps:
            return True
    except (OSError, ValueError, RecursionError):
        pass  # not checked yet, or changed since
    if not check():
        return False
    with contextlib.suppress(OSError, ConfigError):  # a shared cache may not be writable
        write_whole(folder / _VERIFIED, json.dumps(stamps))
    return True


def _stamps(folder: Path) -> dict[str, list[int]]:
    """Size, modification time and change time of every file, by name."""
    stamps = {}
    for path in sorted(folder.iterdir()):
        if path.name != _VERIFIED and not path.name.startswith(".dal-"):
            status = path.stat()
            stamps[path.name] = [status.st_size, status.st_mtime_ns, status.st_ctime_ns]
    return stamps
