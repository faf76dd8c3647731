"""Paths of data: whether a string names a file, a folder or a data set of the hub. Imports no NumPy or Arrow."""

from pathlib import Path

from dal.errors import DataError, printable
from dal.store.similar_names import similar_entry

#: Suffixes of data files.
FILE_TYPES = (".csv", ".tsv", ".jsonl", ".json", ".parquet")


def path_of(path: str) -> Path:
    """Convert to a Path, with `~` expanded to the home folder.

    Raises:
        DataError: the path is invalid.
    """
    if "\0" in path:
        raise DataError(f"{printable(path, 200)} is no path: it holds a character of code 0")
    try:
        return Path(path).expanduser()
    except RuntimeError:
        raise DataError(f"{printable(path, 200)} does not exist: there is no such user") from None


def existing(path: str) -> Path:
    """The path of a file or folder, or of what may be a data set of the hub, as `path_of`.

    Raises:
        DataError: it is neither; the message names a similar file.
    """
    if not path.strip():
        raise DataError("the path of the data is empty: name a file, a folder or a hub data set")
    file = path_of(path)
    if not file.exists() and not _may_be_hub(path):
        raise DataError(missing(file))
    return file


def is_file_name(path: str) -> bool:
    """Whether a string names a file or folder rather than a split: it exists, or looks like a path."""
    if "/" in path or Path(path).suffix.lower() in FILE_TYPES:
        return True
    try:
        return path_of(path).exists()
    except OSError:  # such as a name that is too long
        return False


def _may_be_hub(path: str) -> bool:
    """Whether a string that is not a file could be a hub name: "name" or "owner/name", optionally with ":config"."""
    owner, slash, name = path.partition(":")[0].rpartition("/")
    if "/" in owner or "\\" in path or Path(path).suffix.lower() in FILE_TYPES or (slash and Path(owner).is_dir()):
        return False
    plain = all(char.isalnum() or char in "-_." for char in owner + name)
    return plain and name[:1].isalnum() and (bool(slash) or "." not in name)


def missing(path: str | Path) -> str:
    """The message for a missing file, with a file of a similar name in the same folder."""
    file = Path(path)
    if not file.parent.is_dir():
        return f"{printable(str(file), 200)} does not exist: there is no folder {printable(str(file.parent), 200)}"
    return f"{printable(str(file), 200)} does not exist{similar_entry(file)}"
