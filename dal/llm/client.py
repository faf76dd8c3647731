"""The contract of a language model: requests in, replies out, in the same order."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from dal.monitor import SILENT, Monitor


@dataclass(frozen=True)
class Request:
    """One question to a model: what decides the answer, and nothing else (with the model's name it is the cache key).

    Attributes:
        prompt: the user turn.
        system: the system prompt, the same for many requests where a provider's prompt cache should help.
        schema: JSON schema of the answer (an object), enforced where the server can; None: free text.
        temperature: 0 for the most probable answer.
        max_tokens: the longest answer, in the model's tokens.
        sample: number of the repetition: another number is another draw.
    """

    prompt: str
    system: str = ""
    schema: Mapping[str, Any] | None = None
    temperature: float = 0.0
    max_tokens: int = 256
    sample: int = 0


@dataclass(frozen=True)
class Reply:
    """One answer as it came.

    Attributes:
        text: verbatim; for a structured answer its JSON.
        input_tokens, output_tokens: as the server counted them.
        dollars: what it cost when it was bought; a reply from the cache says what it cost then.
        cached: whether it was bought before this call.
        truncated: whether it stopped at `max_tokens`.
        seconds: how long the request took that bought it.
    """

    text: str
    input_tokens: int = 0
    output_tokens: int = 0
    dollars: float = 0.0
    cached: bool = False
    truncated: bool = False
    seconds: float = 0.0


class Price(NamedTuple):
    """What requests would cost, in dollars: an estimate from below and an upper bound."""

    low: float = 0.0
    high: float = 0.0


class Client(ABC):
    """A language model that answers requests. Leaves are frozen dataclasses with plain constructor arguments.

    Attributes:
        model: its name, as the server or the Hugging Face hub knows it.
    """

    model: str

    @abstractmethod
    def complete(self, requests: Sequence[Request], *, monitor: Monitor = SILENT) -> list[Reply]:
        """One reply per request, in order.

        Raises:
            LLMError: a wrong key, an unknown model, or a server that stays down.
            CapError: the cap in dollars does not allow the next request. What was bought is in the cache.
        """

    def price(self, requests: Sequence[Request]) -> Price:
        """What `complete` would cost now, before anything is sent; nothing for a model of one's own."""
        return Price()
