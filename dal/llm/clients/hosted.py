"""What all models behind an HTTP API share: limits, retries, the cache and the money."""

import asyncio
import math
import os
import re
import threading
import warnings
from abc import abstractmethod
from collections.abc import Coroutine, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

from dal.errors import ConfigError, LLMError, shortened, shown
from dal.llm.clients.batching import HALF, Batching
from dal.llm.clients.client import Bill, Client, LLMWarning, PriceBound, Reply, Request
from dal.llm.clients.extra_body import check_extra_body, size_of_extra
from dal.llm.clients.prices import FREE, Rates, rates_of
from dal.llm.clients.provider import Provider
from dal.llm.clients.reply_cache import ReplyCache
from dal.llm.clients.sending import Sending
from dal.monitor import SILENT, Monitor

T = TypeVar("T")

_LONGEST_WAIT = 1e7  # seconds, of which an event loop can count no end


@dataclass(frozen=True, kw_only=True)
class HostedClient(Client):
    """A model behind an HTTP API.

    Args:
        base_url: the server's address; None: the provider's own.
        concurrency: how many requests may be on their way at once.
        requests_per_minute: how many may be sent in a minute; None for no limit.
        tokens_per_minute: how many tokens, in and out, may be sent and asked for in a minute; None for no limit.
        retries: how often a request is tried again after rate limits, server errors, timeouts and cut connections.
        first_wait: seconds before the first retry where the server does not say; doubled each time, up to a minute.
        timeout: seconds until an answer is given up.
        cache: the file that keeps every answer; None: `replies.db` in DAL_CACHE or `~/.cache/dal`.
        ledger: the account in that file that is charged. A cap is held against it, over all runs and processes.
        cap: dollars that the account may spend in all; None for no cap.
        prices: dollars per million tokens by model, as `{my-model: {input: 0.5, output: 2.0}}`, before dal's own table.
        batch: send requests as batches: half the price, an answer within a day.
        poll_seconds: how often to ask whether a batch has ended.
        key_variable: the environment variable that holds the key.
        extra_body: what else to send with every request, such as `{thinking: {type: disabled}}`; nothing that changes
            what an answer costs.

    Raises:
        ConfigError: an option that makes no sense, or a cap for a model whose price is not known.
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
            raise ConfigError(f"model is the name of a model, got {shortened(repr(self.model), 60)}")
        if self.key_variable is not None and not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", self.key_variable):
            raise ConfigError("key_variable is the name of an environment variable, such as OPENAI_API_KEY")
        if self.base_url is not None:
            check_address(self.base_url, "base_url")
        if self.extra_body is not None:
            check_extra_body(self.extra_body)
        if self.prices is not None and not isinstance(self.prices, Mapping):
            raise ConfigError("prices is a mapping such as {my-model: {input: 0.5, output: 2.0}}")
        for name in self.prices or {}:
            rates_of(name, self.prices)
        if self.cap is not None and self.rates() is None:
            raise ConfigError(f"a cap cannot hold: the price of {self.model} is not known; {self._how_to_price()}")

    def _check_numbers(self) -> None:
        """Raises `ConfigError` for a number that is none or out of its range. Written out to load without PyTorch."""
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
                raise ConfigError(f"{name} is a whole number, got {shown(getattr(self, name))}")
        for name in ("timeout", "poll_seconds", "first_wait"):
            if getattr(self, name) > _LONGEST_WAIT:
                raise ConfigError(
                    f"{name} is in seconds, at most {_LONGEST_WAIT:,.0f}, got {shown(getattr(self, name))}"
                )

    # -- what a provider says --------------------------------------------------------------------------------------

    @abstractmethod
    def provider(self) -> str:
        """Whose answers they are, in the cache."""

    @abstractmethod
    def wire(self, key: str) -> Provider:
        """The protocol, through the provider's SDK."""

    def server(self) -> str | None:
        """The address of the server, None for the provider's own."""
        return self.base_url

    def key_name(self) -> str | None:
        """The environment variable that holds the key, None when no key is sent."""
        return self.key_variable

    # -- the contract ----------------------------------------------------------------------------------------------

    def complete(self, requests: Sequence[Request], *, monitor: Monitor = SILENT) -> list[Reply]:
        """One reply per request, in order. Identical requests are sent once; what is in the cache is not sent.

        Ctrl-C waits for the answers that are on their way, because they are paid for; a second one does not.

        Raises:
            LLMError: a wrong key, an unknown model, or a server that stays down.
            CapError: the cap in dollars does not allow the next request.
        """
        digests = [self.digest(request) for request in requests]
        orders = dict(zip(digests, requests, strict=True))
        monitor.started(f"asking {self.model}", len(requests))
        with self._open() as cache:
            here = cache.replies(list(orders))
            missing = {digest: request for digest, request in orders.items() if digest not in here}
            hits = sum(digest in here for digest in digests)
            if hits:
                cache.count_cached(hits)
                monitor.advanced(hits)
            if missing:
                monitor.advanced(len(digests) - hits - len(missing))
                here |= _run(self._bought(missing, cache, self._key(), monitor))
        monitor.finished()
        return [here[digest] for digest in digests]

    def price_each(self, requests: Sequence[Request]) -> list[PriceBound]:
        """What each would cost now if it were asked alone, an estimate and an upper bound; nothing when in the cache.

        The estimate takes four bytes for a token and a quarter of `max_tokens` for each answer.

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
        found = []
        for digest, request in zip(digests, requests, strict=True):
            found.append(PriceBound() if digest in paid else rates.price(request, self.extra_size))
            paid.add(digest)
        return found

    def together(self, prices: Sequence[PriceBound]) -> PriceBound:
        """What one call costs whose requests have these prices: half in a batch, but for one, which goes alone."""
        share = HALF if self.batch else 1.0
        low, high = (
            math.fsum(share * dollars for dollars in each) + (1 - share) * max(each, default=0.0)
            for each in ([price.low for price in prices], [price.high for price in prices])
        )
        return PriceBound(low, high)

    def bill(self) -> Bill:
        """What the account `ledger` has spent so far, over all runs."""
        if not self._is_there():
            return Bill()
        with self._open() as cache:
            return cache.bill()

    # -- parts of it -----------------------------------------------------------------------------------------------

    def digest(self, request: Request) -> str:
        """The key of a request in the cache."""
        extra = [self.extra_body] if self.extra_body else []
        return request.digest(self.provider(), self.model, *extra)

    @property
    def extra_size(self) -> int:
        """How many bytes `extra_body` adds to every request."""
        return size_of_extra(self.extra_body)

    def rates(self) -> Rates | None:
        """What the model costs: by `prices`, else nothing on a server of one's own, else by dal's table.

        None when it is not known.
        """
        return rates_of(self.model, self.prices or {}) or (FREE if self.is_own() else rates_of(self.model))

    def is_own(self) -> bool:
        """Whether the server belongs to the user, so that its answers cost nothing."""
        return False

    def file(self) -> Path:
        """The file that keeps the answers."""
        if self.cache is not None:
            given = Path(self.cache)
            try:
                return given if given.is_absolute() or given.exists() else given.expanduser()
            except RuntimeError as error:
                raise ConfigError(f"cache {shortened(self.cache, 120)}: there is no home of that name") from error
            except OSError:  # a name that is too long, which the cache refuses
                return given
        from dal.store.cache_folder import cache_folder

        return cache_folder() / "replies.db"

    def _is_there(self) -> bool:
        """Whether something is where answers are kept; a name that no file can have is refused when it is opened."""
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
            raise LLMError(f"the key in {variable} has a line break or a character that no key has: set it once more")
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
            sending = Sending(self, wire, cache, rates, key, monitor)
            return await Batching(self, wire, cache, rates, sending, monitor).run(missing)
        finally:
            await wire.close()


def check_address(url: str, name: str) -> None:
    """Make sure that `url` is the address of a server, with nothing in it that a server could read as an option.

    Raises:
        ConfigError: it is not; no part of it is told that may be a password.
    """
    try:
        parts = urlsplit(url)
        known = parts.scheme in {"http", "https"} and bool(parts.hostname) and (parts.port is None or parts.port > 0)
    except (ValueError, AttributeError, TypeError):
        known = False
    if not known or not url.isprintable() or any(char.isspace() for char in url):
        raise ConfigError(f"{name} is the address of a server, such as https://host/v1")
    if "@" in parts.netloc:
        raise ConfigError(
            f"{name} holds a name or a password, which would be written down: name a variable by key_variable"
        )
    if "?" in url or "#" in url:
        raise ConfigError(f"{name} ends before a ? or #: {parts.scheme}://{shortened(parts.netloc + parts.path, 120)}")


def _is_number(value: object) -> bool:
    """Whether a value is a number that a float can hold, and no bool."""
    try:
        return isinstance(value, int | float) and not isinstance(value, bool) and not math.isnan(value)
    except OverflowError:
        return False


def _run(work: Coroutine[Any, Any, T]) -> T:
    """The result of a coroutine; in a thread of its own where a loop is running already, as in a notebook."""
    return _run_beside(work) if _inside_a_loop() else asyncio.run(work)


def _inside_a_loop() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


def _run_beside(work: Coroutine[Any, Any, T]) -> T:
    loop = asyncio.new_event_loop()
    outcome: list[T] = []
    trouble: list[BaseException] = []
    task = loop.create_task(work)

    def target() -> None:
        try:
            outcome.append(loop.run_until_complete(task))
        except BaseException as error:
            trouble.append(error)
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
    if trouble:
        raise trouble[0]
    return outcome[0]
