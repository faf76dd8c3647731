"""Exceptions for users. Each message says what was wrong, where, and what to do about it."""

import importlib
from collections.abc import Iterable
from difflib import get_close_matches
from itertools import pairwise
from types import ModuleType


class DalError(Exception):
    """Base class of errors that the user can fix. The command line prints one line and exits with `exit_code`."""

    exit_code = 2


class ConfigError(DalError):
    """A key, type or class in a config or on the command line is invalid."""


class DataError(DalError):
    """A data file is invalid: the message names the file, the row and the column."""


class AnswerError(DataError):
    """Answers cannot be stored. The call that raised it has written nothing."""


class NeedError(DalError):
    """An output was read but not declared, or declared but not provided by the learner."""


class SelectionError(DalError):
    """A strategy returned something other than n distinct positions of its pool."""


class LearnerError(DalError):
    """A model cannot do what is required of it, such as MC dropout without a dropout layer."""


class PluginError(DalError):
    """A stopping rule or a metric raised an error, or returned a value that cannot be used."""


class SessionError(DalError):
    """A call is not allowed in the current state of the session."""


class BusyError(SessionError):
    """Another process is using the run folder."""


class RankError(DalError):
    """A process of a run on several devices was lost, or cannot take part. What was stored before is kept."""

    exit_code = 4


class LLMError(DalError):
    """A language model cannot answer: wrong key, unknown model, server down. The message never contains the key."""


class CapError(LLMError):
    """The next request could exceed the cap in dollars. All paid answers are in the cache."""


class RenamedWarning(FutureWarning):
    """A name of version 0.1 is used in a user's own code or config. It ends with version 0.3."""


def renaming_note(before: str, now: str) -> str:
    """The sentence about a name of version 0.1, for a `RenamedWarning` or a note.

    Example:
        >>> renaming_note("the option clip", "gradient_clip_val")
        'the option clip is called gradient_clip_val from version 0.2 on; the old name ends with 0.3'
    """
    return f"{before} is called {now} from version 0.2 on; the old name ends with 0.3"


class MissingExtraError(DalError):
    """An optional dependency is not installed."""


def one_line(error: BaseException) -> str:
    """Message of an exception on one line of at most 300 characters, without error numbers."""
    message = str(error)
    if isinstance(error, OSError) and error.strerror:
        message = error.strerror if error.filename is None else f"{error.strerror}: {error.filename}"
    return " ".join(message.split())[:300] or type(error).__name__


def shortened(text: str, most: int = 80) -> str:
    """Shorten a text to at most `most` characters by leaving out its middle.

    Example:
        >>> shortened("a" * 1000, 20)
        'aaaaaaaaa...aaaaaaaa'
    """
    if len(text) <= most:
        return text
    tail = (most - 3) // 2
    return f"{text[: most - 3 - tail]}...{text[len(text) - tail :]}"


def how_ended(exit_code: int) -> str:
    """How a process ended, for messages; negative numbers are those of signals.

    Example:
        >>> how_ended(-9), how_ended(1)
        ('was killed by signal 9', 'ended with exit code 1')
    """
    return f"was killed by signal {-exit_code}" if exit_code < 0 else f"ended with exit code {exit_code}"


def counted(n: int, noun: str, plural: str | None = None) -> str:
    """A number with its noun; the plural is the noun with an "s" unless it is given.

    Example:
        >>> counted(1, "text"), counted(5200, "text"), counted(0, "row is", "rows are")
        ('1 text', '5,200 texts', '0 rows are')
    """
    return f"{n:,} {noun if n == 1 else plural or noun + 's'}"


def shown(value: object, most: int = 80) -> str:
    """Representation of a value on one line, shortened to at most `most` characters."""
    try:
        return shortened(" ".join(repr(value).split()), most)
    except ValueError:  # an int of more than 4,300 digits
        return f"a number of type {type(value).__name__} that is too long to show"


def printable(text: str, most: int = 80) -> str:
    """A name on one line: non-printable characters escaped, shortened to at most `most` characters."""
    text = shortened(text, most)
    return text if text.isprintable() else shortened(repr(text)[1:-1], most)  # an escape is up to ten characters


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """ "; did you mean 'x'?" for the most similar known word regardless of case, or an empty string.

    Without a similar one it is the shortest that begins with the word, such as TfidfLearner for "tfidf". Takes
    milliseconds for 10,000 known words: the exact comparison is limited to those that share most letter pairs.

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
    close = get_close_matches(word, candidates, n=1, cutoff=_SIMILAR)
    if not close and len(word) >= _LEAST_BEGINNING:
        close = sorted((name for name in folded if name.startswith(word)), key=len)[:1]
    return f"; did you mean {folded[close[0]]!r}?" if close else ""


# Least similarity of two words, between 0 and 1, at which one may be a misspelling of the other.
_SIMILAR = 0.65
# Fewer letters than these begin too many words.
_LEAST_BEGINNING = 3
# Longer words or more candidates would take seconds to compare.
_LONGEST_WORD = 200
_COMPARED = 100


def require(module: str, extra: str) -> ModuleType:
    """Import the optional dependency `module`, or raise a `MissingExtraError` that names the extra to install."""
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name is None or module.split(".")[0] != error.name.split(".")[0]:
            raise
        raise MissingExtraError(f"{module} is not installed: pip install 'deep-active-learning[{extra}]'") from error
