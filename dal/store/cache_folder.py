"""Where what is computed once is kept on disk, and whether it is still what was written."""

import contextlib
import json
import os
from collections.abc import Callable
from pathlib import Path

from dal.errors import ConfigError
from dal.store.atomic_files import read_regular, write_whole

_VERIFIED = "verified.json"


def cache_folder() -> Path:
    """Where tokens and embeddings are kept: the environment's DAL_CACHE, or `~/.cache/dal`."""
    chosen = os.environ.get("DAL_CACHE")
    return Path(chosen) if chosen else Path.home() / ".cache" / "dal"


def verified(folder: Path, check: Callable[[], bool]) -> bool:
    """Whether a check of the content of a folder's files holds, made again only when one of them has changed.

    What was found is kept in the folder with the sizes and times of its files, which take no time to compare.

    Raises:
        OSError: the folder cannot be read.
    """
    stamps = _stamps(folder)
    try:
        if json.loads(read_regular(folder / _VERIFIED)) == stamps:
            return True
    except (OSError, ValueError, RecursionError):
        pass  # never checked, or changed since
    if not check():
        return False
    with contextlib.suppress(OSError, ConfigError):  # a cache that others share may not be writable
        write_whole(folder / _VERIFIED, json.dumps(stamps))
    return True


def _stamps(folder: Path) -> dict[str, list[int]]:
    """The size and the times of the last change of every file, by name."""
    found = {}
    for path in sorted(folder.iterdir()):
        if path.name != _VERIFIED and not path.name.startswith(".dal-"):
            at = path.stat()
            found[path.name] = [at.st_size, at.st_mtime_ns, at.st_ctime_ns]
    return found
