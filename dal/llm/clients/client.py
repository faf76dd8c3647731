"""The contract of a language model: requests in, replies out, in the same order."""

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
    """Something about a language model that changes what its answers mean or cost, but does not stop the work."""


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

    Raises:
        ConfigError: no text, a limit below 1, or a temperature below 0 or not finite.
    """

    prompt: str
    system: str = ""
    schema: Mapping[str, Any] | None = None
    temperature: float = 0.0
    max_tokens: int = 256
    sample: int = 0

    def __post_init__(self) -> None:
        if not isinstance(self.prompt, str) or not isinstance(self.system, str):
            raise ConfigError("prompt and system of a Request are text")
        if type(self.max_tokens) is not int or not 1 <= self.max_tokens < 1 << 31:
            raise ConfigError(f"max_tokens is a whole number from 1, got {shortened(repr(self.max_tokens), 40)}")
        if not isinstance(self.temperature, int | float) or not 0 <= self.temperature < math.inf:
            raise ConfigError(f"temperature is a number from 0, got {shortened(repr(self.temperature), 40)}")

    def digest(self, *context: Any) -> str:
        """64 hexadecimal digits that stand for this request in a `context` (provider, model, ...).

        The order of the schema's keys counts: a model that is asked for its reasons first answers differently.

        Example:
            >>> Request("Good?").digest("model-a") == Request("Good?", sample=1).digest("model-a")
            False
        """
        parts = [*context, self.system, self.prompt, self.schema, float(self.temperature), self.max_tokens, self.sample]
        return hashlib.sha256(json.dumps(parts).encode("ascii")).hexdigest()


@dataclass(frozen=True)
class Reply:
    """One answer as it came.

    Attributes:
        text: verbatim; for a structured answer its JSON. Empty where the server refused the request for its length.
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


class PriceBound(NamedTuple):
    """What requests would cost, in dollars: an estimate, and an upper bound."""

    low: float = 0.0
    high: float = 0.0


@dataclass(frozen=True)
class Bill:
    """What was bought so far.

    Attributes:
        requests: answers that were paid for.
        cached: answers that were in the cache already.
        input_tokens, output_tokens: of those that were paid for.
        dollars: what those cost.
        unsettled: dollars set aside for requests whose answer is awaited or was lost, and may have been billed.

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
        """The most that can have been spent, which is what a cap is held against."""
        return self.dollars + self.unsettled

    def __str__(self) -> str:
        lost = f", and up to ${self.unsettled:.4f} for answers that are awaited or were lost" if self.unsettled else ""
        return (
            f"{self.requests} requests paid for and {self.cached} from the cache; {self.input_tokens:,} tokens in, "
            f"{self.output_tokens:,} out; ${self.dollars:.4f}{lost}"
        )


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

    def price(self, requests: Sequence[Request]) -> PriceBound:
        """What `complete` would cost now, before anything is sent; nothing for a model of one's own."""
        return self.together(self.price_each(requests))

    def price_each(self, requests: Sequence[Request]) -> list[PriceBound]:
        """What each of them would cost now if it were asked alone, in order; a repeated one costs the first time."""
        return [PriceBound()] * len(requests)

    def together(self, prices: Sequence[PriceBound]) -> PriceBound:
        """What one call costs whose requests have these prices."""
        return PriceBound(math.fsum(each.low for each in prices), math.fsum(each.high for each in prices))

    def bill(self) -> Bill:
        """What was bought so far; nothing for a model of one's own."""
        return Bill()
