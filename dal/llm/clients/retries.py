"""Retries of failed requests: whether and when to retry, and whether the attempt may have been billed."""

import email.utils
import math
import random
import time
from dataclasses import dataclass
from enum import Enum
from typing import Any


class FailureKind(Enum):
    """Reaction to a failed request, and whether it may have been billed."""

    STOP = "stop"  # all requests of this client would fail: give up; not billed
    REFUSED = "refused"  # the request is rejected in this form: change it; not billed
    BUSY = "busy"  # the request was not processed: retry; not billed
    UNKNOWN = "unknown"  # the answer is lost: retry; may have been billed


@dataclass(frozen=True)
class RequestFailure:
    """A failed attempt to send a request.

    Attributes:
        kind: kind of failure.
        text: one-line message.
        status: HTTP status; None without a response.
        wait: seconds to wait before a retry, as requested by the server; None if not specified.
    """

    kind: FailureKind
    text: str
    status: int | None = None
    wait: float | None = None

    @property
    def shared(self) -> bool:
        """Whether it affects all requests: a rate limit, or an overloaded server."""
        return self.status in _BUSY

    def seconds_to_wait(self, tries: int, first_wait: float) -> float:
        """Seconds before the next attempt: as requested by the server, otherwise doubled with every attempt.

        The time is random within limits, so that requests that failed together are not sent together again.

        Args:
            tries: number of attempts so far, 1 or more.
            first_wait: maximum seconds before the first retry.
        """
        if self.wait is not None:
            return self.wait + random.uniform(0.0, 0.1) * first_wait
        return min(first_wait * 2.0 ** min(tries - 1, 60), _LONGEST_STEP) * random.uniform(0.5, 1.0)


class UnreadableError(Exception):
    """A response that does not follow the protocol."""


_LONGEST_STEP = 60.0  # maximum seconds between two attempts, unless the server requests more
_STOP = {401, 402, 403, 404}
_REFUSED = {400, 413, 422}
_BUSY = {429, 503, 529}
#: httpx errors raised before anything is sent.
_UNSENT = {"ConnectError", "ConnectTimeout", "PoolTimeout"}


def failure_of(error: Exception, key: str) -> RequestFailure:
    """Classify an error of the anthropic or openai package. The API key is removed from the message.

    Raises:
        Exception: the error itself, if it is of another kind.
    """
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
    no_quota = "insufficient_quota" in _message(error) + str(getattr(error, "code", None))
    if status in _STOP or (status == 429 and no_quota):
        return FailureKind.STOP
    if status in _BUSY:
        return FailureKind.BUSY
    # A server error may occur after the request was processed, so it may be billed.
    return FailureKind.UNKNOWN if status >= 500 or status in {408, 409} else FailureKind.REFUSED


def _message(error: Exception) -> str:
    """The message of the server on one line, at most 200 characters."""
    body = getattr(error, "body", None)
    inner = body.get("error", body) if isinstance(body, dict) else body
    message = inner.get("message") if isinstance(inner, dict) else inner
    return " ".join(str(message or type(error).__name__).split())[:200]


def _wait(response: Any) -> float | None:
    """Seconds in a Retry-After header, which is a number or a date."""
    headers: Any = getattr(response, "headers", {})
    milliseconds, value = headers.get("retry-after-ms"), headers.get("retry-after")
    try:
        seconds = float(value) if milliseconds is None else float(milliseconds) / 1000
    except (TypeError, ValueError):
        try:
            date = email.utils.parsedate_tz(value) if value else None
            seconds = max(0.0, email.utils.mktime_tz(date) - time.time()) if date else math.nan
        except (ValueError, OverflowError, TypeError):  # an impossible date
            return None
    return None if math.isnan(seconds) or seconds < 0 else seconds
