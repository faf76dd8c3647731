"""The errors a user can meet. Each message says what was wrong, where, and what to do about it."""

import importlib
from collections.abc import Iterable
from difflib import get_close_matches
from itertools import pairwise
from types import ModuleType


class DalError(Exception):
    """Something the user can mend. The command line prints it as one line and leaves with `exit_code`."""

    exit_code = 2


class ConfigError(DalError):
    """A key, type or class in a config or on the command line that does not fit a constructor."""


class DataError(DalError):
    """A data file that cannot be used: names the file, the row and the column."""


class AnswerError(DataError):
    """Answers that cannot be stored. Nothing of the call that raised it was written."""


class NeedError(DalError):
    """A name that was read but not declared, or declared but not provided by the learner."""


class SelectionError(DalError):
    """A strategy that returned something other than n distinct positions of its pool."""


class LearnerError(DalError):
    """A model that cannot do what was asked of it, such as MC-dropout without any dropout."""


class SessionError(DalError):
    """A call that does not fit the state of the session."""


class BusyError(SessionError):
    """Another process is working in the run folder."""


class LLMError(DalError):
    """A language model that cannot answer: a wrong key, an unknown model, a server that stays down. Never the key."""


class CapError(LLMError):
    """The next request could exceed the cap in dollars. Everything that was bought is in the cache."""


class MissingExtraError(DalError):
    """An optional dependency that is not installed."""


def one_line(error: BaseException) -> str:
    """What an exception says, without line breaks and error numbers, cut where it goes on and on."""
    said = str(error)
    if isinstance(error, OSError) and error.strerror:
        said = error.strerror if error.filename is None else f"{error.strerror}: {error.filename}"
    return " ".join(said.split())[:300] or type(error).__name__


def shortened(text: str, most: int = 80) -> str:
    """A text for a message, its middle left out where it is longer than `most` characters.

    Example:
        >>> shortened("a" * 1000, 20)
        'aaaaaaaaa...aaaaaaaa'
    """
    if len(text) <= most:
        return text
    tail = (most - 3) // 2
    return f"{text[: most - 3 - tail]}...{text[len(text) - tail :]}"


def shown(value: object, most: int = 80) -> str:
    """A value for a message, on one line, its middle left out where it is long."""
    try:
        return shortened(" ".join(repr(value).split()), most)
    except ValueError:  # an int of more than 4,300 digits
        return f"a number of type {type(value).__name__} that is too long to show"


def printable(text: str, most: int = 80) -> str:
    """A name for a message of one line: control characters and halves of surrogate pairs escaped, its middle cut."""
    text = shortened(text, most)
    return text if text.isprintable() else shortened(repr(text)[1:-1], most)  # an escape is up to ten characters


def did_you_mean(word: str, known: Iterable[str], *, cutoff: float = 0.5) -> str:
    """ "; did you mean 'x'?" for the most similar known word regardless of case, or an empty string.

    Takes milliseconds with 10,000 known words: the exact comparison reads only those that share most pairs of letters.

    Example:
        >>> did_you_mean("Margn", ["Margin", "Random"])
        "; did you mean 'Margin'?"
    """
    folded = {name.lower(): name for name in reversed(list(known)) if len(name) <= _LONGEST_WORD}
    if len(word) > _LONGEST_WORD:
        return ""
    word = word.lower()
    candidates = list(folded)
    if len(candidates) > _COMPARED:
        pairs = set(pairwise(word))
        shared = {name: len(pairs.intersection(pairwise(name))) / (len(name) + 1) for name in folded}
        candidates = sorted(folded, key=shared.__getitem__, reverse=True)[:_COMPARED]
    close = get_close_matches(word, candidates, n=1, cutoff=cutoff)
    return f"; did you mean {folded[close[0]]!r}?" if close else ""


# Beyond these, comparing words takes seconds.
_LONGEST_WORD = 200
_COMPARED = 100


def require(module: str, extra: str) -> ModuleType:
    """The imported optional dependency `module`, or a `MissingExtraError` that names the extra to install."""
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name is None or module.split(".")[0] != error.name.split(".")[0]:
            raise
        raise MissingExtraError(f"{module} is not installed: pip install 'deep-active-learning[{extra}]'") from error
