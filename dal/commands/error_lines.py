"""Errors that files or the machine cause, told from mistakes in the program, each in one line."""

import json
import traceback
from pathlib import Path

from dal.errors import one_line, shortened

#: Modules, by the beginning of their names, whose errors say that a file is damaged.
_READERS = ("sqlite3", "_csv", "csv", "yaml", "zipfile", "zlib", "pyarrow", "safetensors")

#: Local variables of ours that hold the path which is worked on.
_NAMES = ("path", "file", "source", "folder", "place", "config")


def trouble(error: Exception) -> str | None:
    """What is wrong with a file or the machine, with its path where it is known; None for all other errors."""
    what = _reason(error)
    if what is None:
        return None
    named = getattr(error, "filename", None) or _path_of(error)
    if named is None or (not isinstance(error, OSError) and str(named) in what):
        return what
    shown = named.decode(errors="backslashreplace") if isinstance(named, bytes) else str(named)
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
        return "something that is nested too deep to be read"
    if isinstance(error, MemoryError) or _lacks_memory(error):
        return "the memory of this machine does not suffice"
    if isinstance(error, RuntimeError) and "home directory" in str(error):
        return "a path that begins with ~ and names no user of this machine"
    if isinstance(error, ValueError) and "embedded null" in str(error):
        return "a name with a NUL character"
    if isinstance(error, UnicodeError | json.JSONDecodeError) or type(error).__module__.startswith(_READERS):
        return f"cannot be read: {one_line(error)}"
    return None


def _lacks_memory(error: Exception) -> bool:
    return type(error).__name__ == "OutOfMemoryError" or "can't allocate memory" in str(error)


def _path_of(error: Exception) -> Path | None:
    """The path that our code was working on when the error was raised."""
    package = str(Path(__file__).parents[1])
    frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
    for frame in reversed(frames):
        if frame.f_code.co_filename.startswith(package):
            for name in _NAMES:
                found = frame.f_locals.get(name)
                if isinstance(found, Path):
                    return found
    return None
