"""The errors a user can meet. Each message says what was wrong, where, and what to do about it."""

import importlib
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
    """What an exception says, without its line breaks, cut where it goes on and on."""
    return " ".join(str(error).split())[:300] or type(error).__name__


def require(module: str, extra: str) -> ModuleType:
    """The imported optional dependency `module`, or a `MissingExtraError` that names the extra to install."""
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name is None or module.split(".")[0] != error.name.split(".")[0]:
            raise
        raise MissingExtraError(f"{module} is not installed: pip install 'deep-active-learning[{extra}]'") from error
