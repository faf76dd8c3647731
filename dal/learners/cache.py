"""What is computed once and kept on disk: where it lies, and how it is written whole or not at all."""

import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def cache_folder() -> Path:
    """Where tokens and embeddings are kept: the environment's DAL_CACHE, or `~/.cache/dal`."""
    chosen = os.environ.get("DAL_CACHE")
    return Path(chosen) if chosen else Path.home() / ".cache" / "dal"


@contextmanager
def written_whole(folder: Path) -> Iterator[Path]:
    """A temporary folder beside `folder` that takes its place when the block ends well, and vanishes otherwise."""
    folder = Path(folder)
    folder.parent.mkdir(parents=True, exist_ok=True)
    stamp = uuid.uuid4().hex[:12]
    target = folder.parent / f".{folder.name}.{stamp}.new"
    target.mkdir()
    try:
        yield target
        for path in target.rglob("*"):
            if path.is_file():
                _sync(path)
        old = folder.parent / f".{folder.name}.{stamp}.old"
        if folder.exists():
            folder.rename(old)
        target.rename(folder)
        shutil.rmtree(old, ignore_errors=True)
    finally:
        shutil.rmtree(target, ignore_errors=True)


def _sync(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())
