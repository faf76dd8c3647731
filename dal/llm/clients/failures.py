"""What an error of an SDK means for a request: whether to try again, when, and whether it may have been billed."""

import email.utils
import math
import time
from dataclasses import dataclass
from enum import Enum
from typing import Any


class FailureKind(Enum):
    """What to do about a failure, and what it may have cost."""

    STOP = "stop"  # no request of this client will ever be answered; not billed
    REFUSED = "refused"  # this request is not taken as it is; not billed
    BUSY = "busy"  # the server took no work; not billed, try again
    UNKNOWN = "unknown"  # the answer is lost: perhaps billed, try again


@dataclass(frozen=True)
class RequestFailure:
    """A failure of one attempt.

    Attributes:
        kind: what to do.
        text: one line for a person.
        status: the HTTP status, None without an answer.
        wait: seconds that the server asks to wait, None when it does not say.
    """

    kind: FailureKind
    text: str
    status: int | None = None
    wait: float | None = None

    @property
    def shared(self) -> bool:
        """Whether every other request would meet it as well: a rate limit, or an overloaded server."""
        return self.status in _BUSY


class UnreadableError(Exception):
    """An answer that came and is none."""


_STOP = {401, 402, 403, 404}
_REFUSED = {400, 413, 422}
_BUSY = {429, 503, 529}
#: Errors of httpx before anything was sent.
_UNSENT = {"ConnectError", "ConnectTimeout", "PoolTimeout"}


def failure_of(error: Exception, key: str) -> RequestFailure:
    """What an error of the anthropic or openai package means. The key is cut out of every text."""
    status = getattr(error, "status_code", None)
    if isinstance(status, int):
        text = f"{status}: {_message(error)}".replace(key, "<key>") if key else f"{status}: {_message(error)}"
        return RequestFailure(_kind(status, error), text, status, _wait(getattr(error, "response", None)))
    cause = type(error.__cause__).__name__ if error.__cause__ is not None else ""
    name = type(error).__name__
    if cause in _UNSENT:
        return RequestFailure(FailureKind.BUSY, "no connection")
    if name in {"APITimeoutError", "TimeoutError"}:
        return RequestFailure(FailureKind.UNKNOWN, "no answer in time")
    if name == "APIConnectionError":
        return RequestFailure(FailureKind.UNKNOWN, "the connection was cut")
    if isinstance(error, UnreadableError | ValueError | RecursionError):  # the latter two: broken JSON
        return RequestFailure(FailureKind.UNKNOWN, "an answer that is not of the protocol")
    raise error


def _kind(status: int, error: Exception) -> FailureKind:
    if status in _STOP or (status == 429 and "insufficient_quota" in _message(error) + str(_code(error))):
        return FailureKind.STOP
    if status in _BUSY:
        return FailureKind.BUSY
    # A server error may come after the work was done, so it may be billed.
    return FailureKind.UNKNOWN if status >= 500 or status in {408, 409} else FailureKind.REFUSED


def _code(error: Exception) -> Any:
    return getattr(error, "code", None)


def _message(error: Exception) -> str:
    """The server's own words, one line."""
    body = getattr(error, "body", None)
    inner = body.get("error", body) if isinstance(body, dict) else body
    said = inner.get("message") if isinstance(inner, dict) else inner
    return " ".join(str(said or type(error).__name__).split())[:200]


def _wait(response: Any) -> float | None:
    """Seconds of a Retry-After header: a number, or a date."""
    headers: Any = getattr(response, "headers", {})
    milliseconds, said = headers.get("retry-after-ms"), headers.get("retry-after")
    try:
        seconds = float(said) if milliseconds is None else float(milliseconds) / 1000
    except (TypeError, ValueError):
        try:
            moment = email.utils.parsedate_tz(said) if said else None
            seconds = max(0.0, email.utils.mktime_tz(moment) - time.time()) if moment else math.nan
        except (ValueError, OverflowError, TypeError):  # a date that no calendar has
            return None
    return None if math.isnan(seconds) or seconds < 0 else seconds
