"""One-line messages for errors caused by files or the machine, as opposed to bugs in the program."""

import json
import re
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from dal.errors import ConfigError, DataError, one_line, shortened

#: Prefixes of modules whose errors mean that a file is damaged.
_READERS = ("sqlite3", "_csv", "csv", "yaml", "zipfile", "zlib", "pyarrow", "safetensors")

#: Local variables of this package that hold the path being processed.
_NAMES = ("path", "file", "source", "folder", "place", "config")


@contextmanager
def naming_options(names: Mapping[str, str]) -> Iterator[None]:
    """Name the options that were typed, and not the keys of a config, in the errors of a block.

    Args:
        names: key of a config, such as data.text -> option of the command, such as --text.
    """
    keys = "|".join(map(re.escape, names))
    try:
        yield
    except (ConfigError, DataError) as error:
        message = re.sub(rf"(?<![\w./-])({keys})(?![\w/]|\.\w)", lambda found: names[found[1]], str(error))
        if message == str(error):
            raise
        raise type(error)(message) from error


def describe_failure(error: Exception) -> str | None:
    """Message about a file or the machine, with the path where it is known; None for all other errors."""
    what = _reason(error)
    if what is None:
        return None
    path = getattr(error, "filename", None) or _path_of(error)
    if path is None or (not isinstance(error, OSError) and str(path) in what):
        return what
    shown = path.decode(errors="backslashreplace") if isinstance(path, bytes) else str(path)
    return f"{shortened(shown, 200)}: {what}"


def _reason(error: Exception) -> str | None:
    if isinstance(error, OSError):
        return error.strerror or one_line(error)
    if isinstance(error, UnicodeDecodeError):
        return f"not {error.encoding} text: byte {error.start + 1} cannot be read ({error.reason})"
    if isinstance(error, UnicodeEncodeError):
        found = ascii(error.object[error.start : error.end][:8])
        return f"{found} cannot be written as {error.encoding} ({error.reason})"
    if isinstance(error, RecursionError):
        return "the input is nested too deeply"
    # PyTorch's errors by name and text: to import it for their classes takes seconds.
    named, words = type(error).__name__ == "OutOfMemoryError", "can't allocate memory"
    if isinstance(error, MemoryError) or named or words in str(error):
        return "there is not enough memory on this machine"
    if isinstance(error, RuntimeError) and "home directory" in str(error):
        return "a path begins with ~ and does not name a user of this machine"
    if isinstance(error, ValueError) and "embedded null" in str(error):
        return "a name with a NUL character"
    if isinstance(error, UnicodeError | json.JSONDecodeError) or type(error).__module__.startswith(_READERS):
        return f"cannot be read: {one_line(error)}"
    return None


def _path_of(error: Exception) -> Path | None:
    """The path that this package was processing when the error was raised."""
    package = str(Path(__file__).parents[1])
    frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
    for frame in reversed(frames):
        if frame.f_code.co_filename.startswith(package):
            for name in _NAMES:
                found = frame.f_locals.get(name)
                if isinstance(found, Path):
                    return found
    return None
