"""The protocol interface of providers, implemented with their SDKs."""

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Any, NamedTuple

from dal.errors import LLMError
from dal.llm.clients.client import Request
from dal.llm.clients.prices import Usage
from dal.llm.clients.retries import UnreadableError


class ProviderAnswer(NamedTuple):
    """Answer of a server. `usage` is None if the server does not report token counts."""

    text: str
    usage: Usage | None
    truncated: bool


class BatchResult(NamedTuple):
    """Result of one request in a batch: an answer, or an error message."""

    digest: str
    answer: ProviderAnswer | None
    error: str = ""


class Provider(ABC):
    """Base class of protocol implementations, which use a provider's SDK with its retries disabled.

    Attributes:
        concessions: features that can be omitted from a request if the server rejects it, in order of preference, with
            words in the error message that indicate them.
    """

    concessions: Mapping[str, tuple[str, ...]]

    @abstractmethod
    def body(self, request: Request, without: frozenset[str]) -> dict[str, Any]:
        """Return the JSON body of a request, without the features in `without`."""

    @abstractmethod
    async def send(self, body: Mapping[str, Any]) -> ProviderAnswer:
        """Send a request and return the answer. Raises the errors of the SDK."""

    @abstractmethod
    async def close(self) -> None:
        """Close the connections."""

    def concession(self, request: Request, refusal: str, without: frozenset[str]) -> str | None:
        """Return the feature to omit after a rejection with the message `refusal`; None if there is none."""
        message = refusal.lower()
        left = [name for name in self.concessions if name not in without and self._applies(name, request, without)]
        for name in left:
            if any(word in message for word in self.concessions[name]):
                return name
        return next((name for name in left if name == "schema"), None)

    def _applies(self, name: str, request: Request, without: frozenset[str]) -> bool:
        return name not in {"tool", "schema"} or request.schema is not None

    # -- batches ---------------------------------------------------------------------------------------------------

    @abstractmethod
    async def submit(self, name: str, bodies: Mapping[str, Mapping[str, Any]]) -> str:
        """Submit a batch of request bodies, keyed by digest, and return its id at the server."""

    @abstractmethod
    async def ended(self, id: str) -> bool:
        """Return whether a batch has ended."""

    @abstractmethod
    def results(self, id: str) -> AsyncIterator[BatchResult]:
        """Yield the results of a batch that has ended."""

    @abstractmethod
    async def find(
        self, name: str, digests: frozenset[str], since: float, rest: Callable[[], Awaitable[None]]
    ) -> str | None:
        """Find a batch whose id was lost because the response to `submit` did not arrive. Returns None if none exists.

        Args:
            name: name under which the batch was submitted.
            digests: digests of its requests.
            since: time of the submission, in seconds since 1970.
            rest: waits between two queries.
        """


class LostBatchError(LLMError):
    """A batch that the server rejected as a whole and did not bill."""


#: Maximum length of an answer in characters; longer answers are truncated.
LONGEST_ANSWER = 1_000_000


def readable(read: Callable[[Any], ProviderAnswer], message: Any) -> ProviderAnswer:
    """Read a message with `read` and validate the result: text that can be stored, and plausible token counts or None.

    Raises:
        UnreadableError: the message does not follow the protocol.
    """
    try:
        text, usage, truncated = read(message)
        stored = sendable(text[:LONGEST_ANSWER])
    except (AttributeError, TypeError, KeyError, IndexError, ValueError, RecursionError) as error:
        raise UnreadableError from error
    possible = usage is not None and usage.is_possible
    return ProviderAnswer(stored, usage if possible else None, bool(truncated) or len(text) > LONGEST_ANSWER)


def merged(body: Mapping[str, Any], extra: Mapping[str, Any]) -> dict[str, Any]:
    """Return `body` updated with `extra`. Mappings in both are merged one level deep."""
    result = dict(body)
    for key, value in extra.items():
        old = result.get(key)
        result[key] = {**old, **value} if isinstance(old, Mapping) and isinstance(value, Mapping) else value
    return result


def sendable(text: str) -> str:
    """Replace lone surrogates, which cannot be encoded in UTF-8."""
    return text.encode("utf-8", "replace").decode("utf-8")
