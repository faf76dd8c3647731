"""The client interface of language models: requests, replies, prices and bills."""

import hashlib
import json
import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from dal.errors import ConfigError, shortened
from dal.monitor import SILENT, Monitor


class LLMWarning(UserWarning):
    """Warning about a condition that affects the meaning or the cost of a language model's answers."""


@dataclass(frozen=True)
class Request:
    """One request to a language model. Together with the name of the model it determines the cache key.

    Attributes:
        prompt: user turn.
        system: system prompt. Use the same one for many requests to benefit from the provider's prompt cache.
        schema: JSON schema of the answer (an object), enforced if the server supports it; None for free text.
        temperature: sampling temperature; 0 for the most probable answer.
        max_tokens: maximum length of the answer, in tokens of the model.
        sample: number of the repetition. Requests that differ in `sample` only are independent samples.

    Raises:
        ConfigError: a prompt is not text, `max_tokens` is below 1, or the temperature is negative or not finite.
    """

    prompt: str
    system: str = ""
    schema: Mapping[str, Any] | None = None
    temperature: float = 0.0
    max_tokens: int = 256
    sample: int = 0

    def __post_init__(self) -> None:
        if not isinstance(self.prompt, str) or not isinstance(self.system, str):
            raise ConfigError("prompt and system of a Request must be text")
        if type(self.max_tokens) is not int or not 1 <= self.max_tokens < 1 << 31:
            raise ConfigError(f"max_tokens must be an integer from 1, got {shortened(repr(self.max_tokens), 40)}")
        if not isinstance(self.temperature, int | float) or not 0 <= self.temperature < math.inf:
            raise ConfigError(f"temperature must be at least 0, got {shortened(repr(self.temperature), 40)}")

    def digest(self, *context: Any) -> str:
        """Return the SHA-256 hex digest of the request and its `context` (provider, model, ...).

        The key order of the schema matters, because a model that must state its reasons first answers differently.

        Example:
            >>> Request("Good?").digest("model-a") == Request("Good?", sample=1).digest("model-a")
            False
        """
        parts = [*context, self.system, self.prompt, self.schema, float(self.temperature), self.max_tokens, self.sample]
        return hashlib.sha256(json.dumps(parts).encode("ascii")).hexdigest()


@dataclass(frozen=True)
class Reply:
    """Reply to a request.

    Attributes:
        text: verbatim text, JSON for a structured answer; empty if the server refused the request for its length.
        input_tokens, output_tokens: token counts reported by the server.
        dollars: cost when the reply was bought, also for a reply from the cache.
        cached: whether the reply comes from the cache.
        truncated: whether the answer was truncated at `max_tokens`.
        seconds: duration of the request that bought the reply.
    """

    text: str
    input_tokens: int = 0
    output_tokens: int = 0
    dollars: float = 0.0
    cached: bool = False
    truncated: bool = False
    seconds: float = 0.0


class PriceBound(NamedTuple):
    """Price of requests in dollars: an estimate (`low`) and an upper bound (`high`)."""

    low: float = 0.0
    high: float = 0.0


@dataclass(frozen=True)
class Bill:
    """Total spending of a ledger.

    Attributes:
        requests: number of answers paid for.
        cached: number of answers served from the cache.
        input_tokens, output_tokens: tokens of the answers paid for.
        dollars: cost of these answers.
        unsettled: dollars reserved for requests that are in flight, or whose answer was lost and may have been billed.

    Example:
        >>> print(Bill(requests=3, cached=2, input_tokens=900, output_tokens=60, dollars=0.0012))
        3 requests paid for and 2 from the cache; 900 tokens in, 60 out; $0.0012
    """

    requests: int = 0
    cached: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    dollars: float = 0.0
    unsettled: float = 0.0

    @property
    def spent(self) -> float:
        """Upper bound of the spending in dollars, which a cap limits."""
        return self.dollars + self.unsettled

    def __str__(self) -> str:
        lost = f", and up to ${self.unsettled:.4f} for answers that are awaited or were lost" if self.unsettled else ""
        return (
            f"{self.requests} requests paid for and {self.cached} from the cache; {self.input_tokens:,} tokens in, "
            f"{self.output_tokens:,} out; ${self.dollars:.4f}{lost}"
        )


class Client(ABC):
    """Base class of clients. Concrete clients are frozen dataclasses with plain constructor arguments.

    Attributes:
        model: name of the model at the server or on the Hugging Face hub.
    """

    model: str

    @abstractmethod
    def complete(self, requests: Sequence[Request], *, monitor: Monitor = SILENT) -> list[Reply]:
        """Return one reply per request, in order.

        Raises:
            LLMError: the key is wrong, the model is unknown, or the server is unavailable.
            CapError: the next request would exceed the cap. Replies already bought are in the cache.
        """

    def price(self, requests: Sequence[Request]) -> PriceBound:
        """Return the price of `complete` for these requests, without sending them; 0 for a local model."""
        return self.together(self.price_each(requests))

    def price_each(self, requests: Sequence[Request]) -> list[PriceBound]:
        """Return the price of each request on its own, in order; 0 for repetitions of a request."""
        return [PriceBound()] * len(requests)

    def together(self, prices: Sequence[PriceBound]) -> PriceBound:
        """Return the price of one call with requests of these prices."""
        return PriceBound(math.fsum(each.low for each in prices), math.fsum(each.high for each in prices))

    def bill(self) -> Bill:
        """Return the total spending so far; 0 for a local model."""
        return Bill()
