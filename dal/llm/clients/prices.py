"""Token prices: a table of models, the estimate and the bound for a request, and the cost of a reply."""

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from dal.config.bounded_yaml import parse_yaml
from dal.errors import ConfigError
from dal.llm.clients.client import PriceBound, Request

#: Bound on tokens beyond one per byte of text: the chat format, and the provider's system prompt for tool calls.
_EXTRA_TOKENS = 1024
_BYTES_PER_TOKEN = 4
_MILLION = 1e6


#: Upper bound on plausible token counts; a larger count is an error of the server.
_MOST_TOKENS = 1_000_000_000


class Usage(NamedTuple):
    """Token counts billed by a provider. `input` excludes tokens read from or written to the prompt cache."""

    input: int
    output: int
    cached: int = 0
    written: int = 0

    @property
    def all_input(self) -> int:
        """Total number of input tokens."""
        return self.input + self.cached + self.written

    @property
    def is_possible(self) -> bool:
        """Whether all values are plausible counts. A negative one would lower the spending."""
        return all(type(each) is int and 0 <= each <= _MOST_TOKENS for each in self)


@dataclass(frozen=True)
class Rates:
    """Dollars per million tokens of one model.

    Args:
        input: input tokens.
        output: output tokens.
        cached: input tokens read from the provider's prompt cache; None for the rate of `input`.
        written: input tokens written to that cache; None for the rate of `input`.
        long_above: number of input tokens above which all rates are higher; None for never.
        long_factor: factor of the rates of such requests.

    Example:
        >>> round(Rates(1.0, 5.0, cached=0.1).dollars(Usage(input=1000, output=200, cached=10_000)), 6)
        0.003
    """

    input: float
    output: float
    cached: float | None = None
    written: float | None = None
    long_above: int | None = None
    long_factor: float = 1.0

    def dollars(self, usage: Usage) -> float:
        """Return the cost of tokens in dollars."""
        cached = self.input if self.cached is None else self.cached
        written = self.input if self.written is None else self.written
        total = usage.input * self.input + usage.output * self.output + usage.cached * cached + usage.written * written
        is_long = self.long_above is not None and usage.all_input > self.long_above
        return total * (self.long_factor if is_long else 1.0) / _MILLION

    def price(self, request: Request, extra: int = 0) -> PriceBound:
        """Return an estimate and an upper bound of the price of a request.

        The estimate assumes four bytes per token and an answer of a quarter of `max_tokens`. The bound assumes one
        token per byte and 1,024 tokens for the format, the highest input rate, and an answer of `max_tokens`.

        Args:
            request: the request.
            extra: additional bytes sent with the request.
        """
        size = size_of(request) + extra
        likely = Usage(size // _BYTES_PER_TOKEN, request.max_tokens // 4)
        most = Usage(size + _EXTRA_TOKENS, request.max_tokens)
        billings = (most, most._replace(input=0, written=most.input), most._replace(input=0, cached=most.input))
        return PriceBound(self.dollars(likely), max(map(self.dollars, billings)))


FREE = Rates(0.0, 0.0)


def size_of(request: Request) -> int:
    """Return the number of bytes of text in a request: prompts and schema."""
    schema = "" if request.schema is None else json.dumps(request.schema, ensure_ascii=False)
    return sum(len(text.encode("utf-8", "replace")) for text in (request.system, request.prompt, schema))


def likely_tokens(request: Request, extra: int = 0) -> int:
    """Return the number of tokens that count towards a rate limit: the input at four bytes per token, and `max_tokens`.

    Args:
        request: the request.
        extra: additional bytes sent with the request.
    """
    return (size_of(request) + extra) // _BYTES_PER_TOKEN + request.max_tokens


def rates_of(model: str, table: Mapping[str, Mapping[str, float]] | None = None) -> Rates | None:
    """Return the rates of a model from a price table, the built-in one if `table` is None; None if it is not listed.

    A dated name (`gpt-4o-mini-2024-07-18`) has the price of the name without the date.

    Raises:
        ConfigError: the entry of the model is invalid.

    Example:
        >>> rates_of("claude-haiku-4-5-20251001").output
        5.0
    """
    table = _built_in() if table is None else table
    bare = re.sub(r"-(\d{8}|\d{4}-\d{2}-\d{2})$", "", model)
    return next((_rates(name, table[name]) for name in (model, bare) if name in table), None)


def _rates(model: str, given: Any) -> Rates:
    known = [field.name for field in fields(Rates)]
    ok = isinstance(given, Mapping) and {"input", "output"} <= set(given) <= set(known)
    values = [value for value in given.values() if value is not None] if ok else []
    numbers = all(isinstance(value, int | float) and not isinstance(value, bool) for value in values)
    if not ok or not numbers or not all(0 <= value < math.inf for value in values):
        raise ConfigError(
            f"prices: {model} must have dollars per million tokens, as in {{input: 0.5, output: 2.0}}; allowed keys "
            f"are {', '.join(known)}"
        )
    if given["input"] is None or given["output"] is None or not (given.get("long_factor", 1.0) or 0) >= 1:
        raise ConfigError(f"prices: {model} needs numbers for input and output, and a long_factor of at least 1")
    return Rates(**given)


@cache
def _built_in() -> Mapping[str, Mapping[str, float]]:
    read: dict[str, Any] = parse_yaml(Path(__file__).with_name("prices.yaml").read_text(encoding="utf-8"))
    models: dict[str, Mapping[str, float]] = read["models"]
    return models
