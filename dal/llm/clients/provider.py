"""What the engine needs of a provider's protocol, which the provider's own SDK speaks."""

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Any, NamedTuple

from dal.errors import LLMError
from dal.llm.clients.client import Request
from dal.llm.clients.failures import UnreadableError
from dal.llm.clients.prices import Usage


class ProviderAnswer(NamedTuple):
    """What a server answered. `usage` is None where it does not count tokens."""

    text: str
    usage: Usage | None
    truncated: bool


class BatchResult(NamedTuple):
    """What became of one request of a batch: an answer, or an error in words."""

    digest: str
    answer: ProviderAnswer | None
    error: str = ""


class Provider(ABC):
    """One provider's protocol, through its SDK with that one's own retries switched off.

    Attributes:
        concessions: what can be left out of a request when a server refuses it, in this order, and the words in the
            refusal that ask for it.
    """

    concessions: Mapping[str, tuple[str, ...]]

    @abstractmethod
    def body(self, request: Request, without: frozenset[str]) -> dict[str, Any]:
        """The JSON body of a request, but for what was conceded."""

    @abstractmethod
    async def send(self, body: Mapping[str, Any]) -> ProviderAnswer:
        """The server's answer; errors are those of the SDK."""

    @abstractmethod
    async def close(self) -> None:
        """Close the connections."""

    def concession(self, request: Request, refusal: str, without: frozenset[str]) -> str | None:
        """What to leave out after a refusal, None when nothing is left that it could be about."""
        said = refusal.lower()
        open_ = [name for name in self.concessions if name not in without and self._applies(name, request, without)]
        for name in open_:
            if any(word in said for word in self.concessions[name]):
                return name
        return next((name for name in open_ if name == "schema"), None)

    def _applies(self, name: str, request: Request, without: frozenset[str]) -> bool:
        return name not in {"tool", "schema"} or request.schema is not None

    # -- batches ---------------------------------------------------------------------------------------------------

    @abstractmethod
    async def submit(self, name: str, bodies: Mapping[str, Mapping[str, Any]]) -> str:
        """The server's name of a new batch; `bodies` are by digest."""

    @abstractmethod
    async def ended(self, id: str) -> bool:
        """Whether the server has finished with the batch."""

    @abstractmethod
    def results(self, id: str) -> AsyncIterator[BatchResult]:
        """What became of the requests of a batch that has ended."""

    @abstractmethod
    async def find(
        self, name: str, digests: frozenset[str], since: float, rest: Callable[[], Awaitable[None]]
    ) -> str | None:
        """The server's name of a batch whose creation it may have answered to nobody; None when there is none.

        `rest` waits for the time between two looks.
        """


class LostBatchError(LLMError):
    """A batch that the server refused as a whole, so that it was certainly not billed."""


#: Characters of an answer that are kept.
LONGEST_ANSWER = 1_000_000


def readable(read: Callable[[Any], ProviderAnswer], message: Any) -> ProviderAnswer:
    """What `read` makes of a message: text that can be stored, and a usage only where it can be true.

    Raises:
        UnreadableError: it is not of the protocol.
    """
    try:
        text, usage, truncated = read(message)
        whole = sendable(text[:LONGEST_ANSWER])
    except (AttributeError, TypeError, KeyError, IndexError, ValueError, RecursionError) as error:
        raise UnreadableError from error
    possible = usage is not None and usage.is_possible
    return ProviderAnswer(whole, usage if possible else None, bool(truncated) or len(text) > LONGEST_ANSWER)


def merged(body: Mapping[str, Any], extra: Mapping[str, Any]) -> dict[str, Any]:
    """`body` with what `extra` adds or replaces, one level deep."""
    joined = dict(body)
    for key, value in extra.items():
        old = joined.get(key)
        joined[key] = {**old, **value} if isinstance(old, Mapping) and isinstance(value, Mapping) else value
    return joined


def sendable(text: str) -> str:
    """The text without halves of surrogate pairs, which UTF-8 cannot carry."""
    return text.encode("utf-8", "replace").decode("utf-8")
