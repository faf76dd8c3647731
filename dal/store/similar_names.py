"""Files and folders whose names are similar to one that does not exist, for error messages."""

import os
from itertools import islice
from pathlib import Path

from dal.errors import did_you_mean

_READ = 10_000  # entries of a folder, at most


def similar_entry(path: Path, *, folders: bool | None = None) -> str:
    """`; did you mean 'x'?` for an entry of the same folder whose name is similar, or an empty string.

    Args:
        path: a path that does not exist.
        folders: True for folders only, False for files only, None for both.
    """
    try:
        with os.scandir(path.parent) as entries:
            names = [each.name for each in islice(entries, _READ) if folders is None or each.is_dir() == folders]
    except (OSError, ValueError):
        return ""
    hint = did_you_mean(path.name, names)
    return hint if path.parent == Path() else hint.replace("'", f"'{path.parent}{os.sep}", 1)
