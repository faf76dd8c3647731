"""Base class of clients of HTTP APIs: rate limits, retries, the reply cache, and spending caps."""

import asyncio
import math
import os
import re
import threading
import warnings
from abc import abstractmethod
from collections.abc import Coroutine, Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

from dal.errors import ConfigError, LLMError, shortened, shown
from dal.llm.clients.batching import HALF, Batching
from dal.llm.clients.client import Bill, Client, LLMWarning, PriceBound, Reply, Request
from dal.llm.clients.client_settings import Endpoint, Limits
from dal.llm.clients.extra_body import check_extra_body, size_of_extra
from dal.llm.clients.prices import FREE, Rates, rates_of
from dal.llm.clients.provider import Provider
from dal.llm.clients.replies_and_spending import ReplyCache
from dal.llm.clients.sending import Sending
from dal.monitor import SILENT, Monitor
from dal.store.cache_folder import cache_folder

T = TypeVar("T")

_LONGEST_WAIT = 1e7  # seconds; event loops fail on much larger timeouts


@dataclass(frozen=True, kw_only=True)
class HostedClient(Client):
    """Base class of clients of an HTTP API.

    Args:
        base_url: address of the server; None for the provider's own.
        concurrency: maximum number of concurrent requests.
        requests_per_minute: maximum number of requests per minute; None for no limit.
        tokens_per_minute: maximum number of input and requested output tokens per minute; None for no limit.
        retries: maximum number of retries after rate limits, server errors, timeouts and connection errors.
        first_wait: seconds before the first retry, unless the server specifies them; doubled each time, up to a minute.
        timeout: seconds to wait for an answer.
        cache: file of the reply cache; None for `replies.db` in DAL_CACHE or `~/.cache/dal`.
        ledger: account in the cache to charge. The cap applies to the account, over all runs and processes.
        cap: maximum total spending of the account in dollars; None for no cap.
        prices: dollars per million tokens by model, such as `{my-model: {input: 0.5, output: 2.0}}`; takes precedence
            over the built-in table.
        batch: whether to send requests as batches, at half the price, answered within a day.
        poll_seconds: seconds between checks whether a batch has ended.
        key_variable: name of the environment variable with the API key.
        extra_body: additional fields of every request body, such as `{thinking: {type: disabled}}`. Fields that affect
            the price are rejected.

    Raises:
        ConfigError: an option is invalid, or there is a cap but the price of the model is unknown.
    """

    base_url: str | None = None
    concurrency: int = 8
    requests_per_minute: float | None = None
    tokens_per_minute: float | None = None
    retries: int = 8
    first_wait: float = 1.0
    timeout: float = 60.0
    cache: str | None = None
    ledger: str = "default"
    cap: float | None = None
    prices: Mapping[str, Mapping[str, float]] | None = field(default=None, hash=False)
    batch: bool = False
    poll_seconds: float = 30.0
    extra_body: Mapping[str, Any] | None = field(default=None, hash=False)
    key_variable: str | None = None

    def __post_init__(self) -> None:
        self._check_numbers()
        if not isinstance(self.batch, bool):
            raise ConfigError(f"batch must be true or false, got {shown(self.batch)}")
        if not isinstance(self.model, str) or not self.model.strip() or not self.model.isprintable():
            raise ConfigError(f"model must be the name of a model, got {shortened(repr(self.model), 60)}")
        if self.key_variable is not None and not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", self.key_variable):
            raise ConfigError("key_variable must be the name of an environment variable, such as OPENAI_API_KEY")
        if self.base_url is not None:
            check_address(self.base_url, "base_url")
        if self.extra_body is not None:
            check_extra_body(self.extra_body)
        if self.prices is not None and not isinstance(self.prices, Mapping):
            raise ConfigError("prices must be a mapping such as {my-model: {input: 0.5, output: 2.0}}")
        for name in self.prices or {}:
            rates_of(name, self.prices)
        if self.cap is not None and self.rates() is None:
            raise ConfigError(f"a cap is impossible: the price of {self.model} is not known; {self._how_to_price()}")

    def _check_numbers(self) -> None:
        """Raise `ConfigError` for invalid numbers."""
        optional = {"requests_per_minute", "tokens_per_minute", "cap"}
        for name in ("concurrency", "timeout", "poll_seconds", "requests_per_minute", "tokens_per_minute"):
            value = getattr(self, name)
            if not (value is None and name in optional) and not (_is_number(value) and value > 0):
                raise ConfigError(f"{name} must be more than 0, got {shown(value)}")
        for name in ("retries", "first_wait", "cap"):
            value = getattr(self, name)
            if not (value is None and name in optional) and not (_is_number(value) and value >= 0):
                raise ConfigError(f"{name} must not be negative, got {shown(value)}")
        for name in ("concurrency", "retries"):
            if type(getattr(self, name)) is not int:
                raise ConfigError(f"{name} must be an integer, got {shown(getattr(self, name))}")
        for name in ("timeout", "poll_seconds", "first_wait"):
            if getattr(self, name) > _LONGEST_WAIT:
                raise ConfigError(
                    f"{name} must be at most {_LONGEST_WAIT:,.0f} seconds, got {shown(getattr(self, name))}"
                )

    # -- provided by subclasses ------------------------------------------------------------------------------------

    @abstractmethod
    def provider(self) -> str:
        """Return the name of the provider, which is part of the cache key."""

    @abstractmethod
    def wire(self, key: str) -> Provider:
        """Return the protocol implementation, based on the provider's SDK."""

    def server(self) -> str | None:
        """Return the address of the server; None for the provider's own."""
        return self.base_url

    def key_name(self) -> str | None:
        """Return the name of the environment variable with the API key; None to send no key."""
        return self.key_variable

    # -- client interface ------------------------------------------------------------------------------------------

    def complete(self, requests: Sequence[Request], *, monitor: Monitor = SILENT) -> list[Reply]:
        """Return one reply per request, in order. Cached requests are not sent, and equal requests are sent once.

        Ctrl-C waits for the answers of requests in flight, because they are billed; a second Ctrl-C does not.

        Raises:
            LLMError: the key is wrong, the model is unknown, or the server is unavailable.
            CapError: the next request would exceed the cap.
        """
        digests = [self.digest(request) for request in requests]
        orders = dict(zip(digests, requests, strict=True))
        monitor.started(f"asking {self.model}", len(requests))
        with self._open() as cache:
            replies = cache.replies(list(orders))
            missing = {digest: request for digest, request in orders.items() if digest not in replies}
            hits = sum(digest in replies for digest in digests)
            if hits:
                cache.count_cached(hits)
                monitor.advanced(hits)
            if missing:
                monitor.advanced(len(digests) - hits - len(missing))
                replies |= _run(self._bought(missing, cache, self._key(), monitor))
        monitor.finished()
        return [replies[digest] for digest in digests]

    def price_each(self, requests: Sequence[Request]) -> list[PriceBound]:
        """Return an estimate and an upper bound of the price of each request on its own; 0 if it is in the cache.

        The estimate assumes four bytes per token and answers of a quarter of `max_tokens`.

        Raises:
            ConfigError: the price of the model is not known.
        """
        rates = self.rates()
        if rates is None:
            raise ConfigError(f"the price of {self.model} is not known; {self._how_to_price()}")
        digests = [self.digest(request) for request in requests]
        paid: set[str] = set()
        if self._is_there():
            with self._open() as cache:
                paid.update(cache.replies(list(dict.fromkeys(digests))))
        prices = []
        for digest, request in zip(digests, requests, strict=True):
            prices.append(PriceBound() if digest in paid else rates.price(request, self.extra_size))
            paid.add(digest)
        return prices

    def together(self, prices: Sequence[PriceBound]) -> PriceBound:
        """Return the price of one call with requests of these prices: half in a batch, except for the first request.

        The first request of a batch is sent on its own at the full price, here bounded by the most expensive one.
        """
        share = HALF if self.batch else 1.0
        low, high = (
            math.fsum(share * dollars for dollars in each) + (1 - share) * max(each, default=0.0)
            for each in ([price.low for price in prices], [price.high for price in prices])
        )
        return PriceBound(low, high)

    def bill(self) -> Bill:
        """Return the total spending of the account `ledger`, over all runs."""
        if not self._is_there():
            return Bill()
        with self._open() as cache:
            return cache.bill()

    # -- cache key, prices and key ---------------------------------------------------------------------------------

    def digest(self, request: Request) -> str:
        """Return the cache key of a request."""
        extra = [self.extra_body] if self.extra_body else []
        return request.digest(self.provider(), self.model, *extra)

    @property
    def extra_size(self) -> int:
        """Number of bytes that `extra_body` adds to every request."""
        return size_of_extra(self.extra_body)

    def rates(self) -> Rates | None:
        """Return the rates of the model: from `prices`, else 0 on the user's own server, else from the built-in table.

        None if the price is not known.
        """
        return rates_of(self.model, self.prices or {}) or (FREE if self.is_own() else rates_of(self.model))

    def is_own(self) -> bool:
        """Return whether the server is the user's own, so that answers are free."""
        return False

    def file(self) -> Path:
        """Return the path of the reply cache."""
        if self.cache is not None:
            given = Path(self.cache)
            try:
                return given if given.is_absolute() or given.exists() else given.expanduser()
            except RuntimeError as error:
                raise ConfigError(f"cache {shortened(self.cache, 120)}: the home directory is unknown") from error
            except OSError:  # a name that is too long, reported when the cache is opened
                return given
        return cache_folder() / "replies.db"

    def _is_there(self) -> bool:
        """Whether the cache file exists. An invalid name counts as existing, so that opening it reports the error."""
        try:
            return self.file().exists()
        except OSError:
            return True

    def _open(self) -> ReplyCache:
        return ReplyCache(self.file(), self.ledger)

    def _key(self) -> str:
        variable = self.key_name()
        key = os.environ.get(variable, "").strip() if variable else ""
        if not (key.isascii() and key.isprintable()):
            raise LLMError(f"the key in {variable} has a line break or an invalid character: set it again")
        if variable and not key:
            raise LLMError(f"there is no key: set the environment variable {variable}")
        return key

    def _how_to_price(self) -> str:
        return f"give prices={{{self.model}: {{input: dollars per million tokens, output: ...}}}}"

    async def _bought(
        self, missing: dict[str, Request], cache: ReplyCache, key: str, monitor: Monitor
    ) -> dict[str, Reply]:
        rates = self.rates()
        if rates is None:
            warnings.warn(
                f"the price of {self.model} is not known, so the bill says 0; {self._how_to_price()}",
                LLMWarning,
                stacklevel=2,
            )
            rates = FREE
        wire = self.wire(key)
        try:
            endpoint = Endpoint(self.provider(), self.model, self.server(), self.key_name(), self.extra_size)
            limits = Limits(**{each.name: getattr(self, each.name) for each in fields(Limits)})
            sending = Sending(endpoint, limits, wire, cache, rates, key, monitor)
            return await Batching(sending).run(missing)
        finally:
            await wire.close()


def check_address(url: str, name: str) -> None:
    """Check that `url` is the address of a server, without credentials, query and fragment.

    Raises:
        ConfigError: it is not. The message does not contain parts that may be a password.
    """
    try:
        parts = urlsplit(url)
        known = parts.scheme in {"http", "https"} and bool(parts.hostname) and (parts.port is None or parts.port > 0)
    except (ValueError, AttributeError, TypeError):
        known = False
    if not known or not url.isprintable() or any(char.isspace() for char in url):
        raise ConfigError(f"{name} must be the address of a server, such as https://host/v1")
    if "@" in parts.netloc:
        raise ConfigError(f"{name} contains a user name or password, which would be stored: use key_variable instead")
    if "?" in url or "#" in url:
        plain = f"{parts.scheme}://{shortened(parts.netloc + parts.path, 120)}"
        raise ConfigError(f"{name} must not have a ? or #: use {plain}")


def _is_number(value: object) -> bool:
    """Whether a value is a number, neither NaN nor a bool, within the range of a float."""
    try:
        return isinstance(value, int | float) and not isinstance(value, bool) and not math.isnan(value)
    except OverflowError:
        return False


def _run(work: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine, in a new thread if an event loop is already running, as in a notebook."""
    try:
        asyncio.get_running_loop()
        loop_is_running = True
    except RuntimeError:
        loop_is_running = False
    return _run_in_thread(work) if loop_is_running else asyncio.run(work)


def _run_in_thread(work: Coroutine[Any, Any, T]) -> T:
    loop = asyncio.new_event_loop()
    results: list[T] = []
    errors: list[BaseException] = []
    task = loop.create_task(work)

    def target() -> None:
        try:
            results.append(loop.run_until_complete(task))
        except BaseException as error:
            errors.append(error)
        finally:
            loop.close()

    thread = threading.Thread(target=target)
    thread.start()
    try:
        thread.join()
    except KeyboardInterrupt:
        loop.call_soon_threadsafe(task.cancel)
        thread.join()
        raise
    if errors:
        raise errors[0]
    return results[0]
