"""Location of the disk cache."""

import os
from pathlib import Path


def cache_folder() -> Path:
    """Folder of cached values and replies: the environment variable DAL_CACHE, or `~/.cache/dal`."""
    configured = os.environ.get("DAL_CACHE")
    return Path(configured) if configured else Path.home() / ".cache" / "dal"
