"""What tokens cost: a table by model, an estimate before a request, a bound for it, and its price afterwards."""

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

#: No tokenizer makes more tokens of a text than it has bytes; this many come on top: the chat format, and what a
#: provider's system prompt says about a tool.
_EXTRA_TOKENS = 1024
_BYTES_PER_TOKEN = 4
_MILLION = 1e6


#: More tokens than any request has: a count beyond it is an error of the server.
_MOST_TOKENS = 1_000_000_000


class Usage(NamedTuple):
    """Tokens as a provider bills them. `input` does not count those read from or written to its prompt cache."""

    input: int
    output: int
    cached: int = 0
    written: int = 0

    @property
    def all_input(self) -> int:
        """Every token that went in."""
        return self.input + self.cached + self.written

    @property
    def is_possible(self) -> bool:
        """Whether all of them are counts. A negative one would give money back."""
        return all(type(each) is int and 0 <= each <= _MOST_TOKENS for each in self)


@dataclass(frozen=True)
class Rates:
    """Dollars per million tokens of one model.

    Args:
        input: what is sent.
        output: what comes back.
        cached: input read from the provider's prompt cache; None: as `input`.
        written: input written to that cache; None: as `input`.
        long_above: requests of more input tokens than this cost more.
        long_factor: so many times as much.

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
        """What the tokens cost."""
        cached = self.input if self.cached is None else self.cached
        written = self.input if self.written is None else self.written
        total = usage.input * self.input + usage.output * self.output + usage.cached * cached + usage.written * written
        is_long = self.long_above is not None and usage.all_input > self.long_above
        return total * (self.long_factor if is_long else 1.0) / _MILLION

    def price(self, request: Request, extra: int = 0) -> PriceBound:
        """What a request costs: an estimate, and a bound.

        The estimate takes four bytes for a token and a quarter of `max_tokens` for the answer. The bound takes a token
        for every byte, 1,024 more for the format, the highest of the rates for input, and `max_tokens` for the answer.

        Args:
            request: what is asked.
            extra: bytes that are sent with it.
        """
        size = size_of(request) + extra
        likely = Usage(size // _BYTES_PER_TOKEN, request.max_tokens // 4)
        most = Usage(size + _EXTRA_TOKENS, request.max_tokens)
        ways = (most, most._replace(input=0, written=most.input), most._replace(input=0, cached=most.input))
        return PriceBound(self.dollars(likely), max(map(self.dollars, ways)))


FREE = Rates(0.0, 0.0)


def size_of(request: Request) -> int:
    """How many bytes of text a request sends: prompts and schema."""
    schema = "" if request.schema is None else json.dumps(request.schema, ensure_ascii=False)
    return sum(len(text.encode("utf-8", "replace")) for text in (request.system, request.prompt, schema))


def likely_tokens(request: Request, extra: int = 0) -> int:
    """How many tokens a request and its answer take from a limit per minute, at four bytes for a token.

    `extra` bytes are sent with it.
    """
    return (size_of(request) + extra) // _BYTES_PER_TOKEN + request.max_tokens


def rates_of(model: str, table: Mapping[str, Mapping[str, float]] | None = None) -> Rates | None:
    """What `model` costs by a table, dal's own when None; None where it is not in it.

    A name with a date (`gpt-4o-mini-2024-07-18`) has the price of the name without it.

    Raises:
        ConfigError: the table is no table of prices.

    Example:
        >>> rates_of("claude-haiku-4-5-20251001").output
        5.0
    """
    table = _table() if table is None else table
    bare = re.sub(r"-(\d{8}|\d{4}-\d{2}-\d{2})$", "", model)
    return next((_rates(name, table[name]) for name in (model, bare) if name in table), None)


def _rates(model: str, given: Any) -> Rates:
    known = [field.name for field in fields(Rates)]
    ok = isinstance(given, Mapping) and {"input", "output"} <= set(given) <= set(known)
    values = list(given.values()) if ok else []
    numbers = all(
        isinstance(value, int | float) and not isinstance(value, bool) for value in values if value is not None
    )
    if not ok or not numbers or not all(0 <= value < math.inf for value in values if value is not None):
        raise ConfigError(
            f"prices: {model} takes dollars per million tokens, as in {{input: 0.5, output: 2.0}}; it may have "
            f"{', '.join(known)}"
        )
    if given["input"] is None or given["output"] is None or not (given.get("long_factor", 1.0) or 0) >= 1:
        raise ConfigError(f"prices: {model} needs numbers for input and output, and a long_factor of at least 1")
    return Rates(**given)


@cache
def _table() -> Mapping[str, Mapping[str, float]]:
    read: dict[str, Any] = parse_yaml(Path(__file__).with_name("prices.yaml").read_text(encoding="utf-8"))
    models: dict[str, Mapping[str, float]] = read["models"]
    return models
