"""Where what is computed once is kept on disk."""

import os
from pathlib import Path


def cache_folder() -> Path:
    """Where tokens and embeddings are kept: the environment's DAL_CACHE, or `~/.cache/dal`."""
    chosen = os.environ.get("DAL_CACHE")
    return Path(chosen) if chosen else Path.home() / ".cache" / "dal"
