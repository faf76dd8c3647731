"""Send requests concurrently until each has a reply: rate limits, retries, and reservations against the cap."""

import asyncio
import logging
import math
import random
import time
import warnings
from collections import deque
from collections.abc import Mapping

from dal.errors import CapError, LLMError
from dal.llm.clients.client import LLMWarning, Reply, Request
from dal.llm.clients.client_settings import Endpoint, Limits
from dal.llm.clients.prices import Rates, likely_tokens
from dal.llm.clients.provider import Provider, ProviderAnswer
from dal.llm.clients.rate_limits import Pacer
from dal.llm.clients.replies_and_spending import BudgetExceeded, ReplyCache, RequestedElsewhere, Reservation
from dal.llm.clients.retries import FailureKind, RequestFailure, failure_of
from dal.monitor import Monitor

_log = logging.getLogger("dal")

_LONGEST_ASKED = 600.0  # maximum seconds that a server may request; beyond it counts as unavailable
LOOK_SECONDS = 0.2  # seconds between checks for an answer requested by another process
_GRACE = 5.0  # seconds after the timeout before other processes consider a request abandoned
_TOO_LONG = ("too long", "context length", "context window", "maximum context", "context size")
_CONCEDED = {
    "temperature": "a temperature, so the model's default is used",
    "tool": "forced tool calls, so its JSON format is used",
    "schema": "a JSON schema, so answers are free text",
    "max_tokens": "the limit under this name, so the other name is used",
}


class Stopped(Exception):
    """Another request has stopped the call."""


class InBatchError(Exception):
    """The request is part of an open batch, whose end must be awaited."""


class Failed(Exception):
    """A failed attempt to send a request."""

    def __init__(self, failure: RequestFailure) -> None:
        super().__init__(failure.text)
        self.failure = failure


class Sending:
    """Sends the requests of one call.

    Every attempt first reserves the upper bound of its price. The reservation is released if the attempt was certainly
    not billed, and kept if the answer was lost.

    Attributes:
        endpoint, limits, wire, cache, rates, monitor: as given; `Batching` reads them too.
        without: features that the server was found not to support.
        refused: number of requests rejected for their length.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        limits: Limits,
        wire: Provider,
        cache: ReplyCache,
        rates: Rates,
        key: str,
        monitor: Monitor,
    ) -> None:
        self.endpoint, self.limits, self.wire, self.cache = endpoint, limits, wire, cache
        self.rates, self.key, self.monitor = rates, key, monitor
        self._pacer = Pacer(limits.requests_per_minute, limits.tokens_per_minute)
        self._stopping, self._settled = asyncio.Event(), asyncio.Event()
        self._error: BaseException | None = None
        self._in_flight = 0
        self.without: set[str] = set()
        self.refused = 0

    async def run(self, orders: Mapping[str, Request]) -> dict[str, Reply]:
        """Return replies by digest, except for requests that turn out to be part of an open batch.

        After an error, the requests in flight are awaited and stored, because they are billed, and then the error is
        raised. The method may be called again afterwards.
        """
        todo, replies = deque(orders.items()), dict[str, Reply]()
        count = min(self.limits.concurrency, len(todo))
        workers = [asyncio.create_task(self._work(todo, replies)) for _ in range(count)]
        try:
            await asyncio.wait(workers)  # unlike `gather`, it does not cancel the workers when it is cancelled itself
        except asyncio.CancelledError:
            self._stopping.set()
            if self._in_flight:
                _log.warning(
                    "stopping; waiting for %d answers, which are already billed (press Ctrl-C again to quit at once)",
                    self._in_flight,
                )
            await asyncio.wait(workers)
            raise
        error, self._error = self._error, None  # reset, since `Batching` runs several times
        self._stopping.clear()
        if error is not None:
            raise error
        return replies

    async def _work(self, todo: deque[tuple[str, Request]], replies: dict[str, Reply]) -> None:
        while todo and not self._stopping.is_set():
            digest, request = todo.popleft()
            try:
                replies[digest] = await self._reply(digest, request)
                self.monitor.advanced(1)
            except Stopped:
                return
            except InBatchError:  # no reply yet: `Batching` waits for the batch, then takes it from the cache
                continue
            except (Exception, KeyboardInterrupt) as error:  # a monitor may raise the latter
                self._error = self._error or error
                self._stopping.set()

    async def _reply(self, digest: str, request: Request) -> Reply:
        """Send a request, with retries, until there is a reply."""
        tries = 0
        while True:
            without = frozenset(self.without)  # as sent: others may concede further features meanwhile
            try:
                return await self._try(digest, request, without)
            except Failed as failed:
                failure = failed.failure
            if failure.kind is FailureKind.REFUSED:
                if failure.status == 413 or any(words in failure.text.lower() for words in _TOO_LONG):
                    self.refused += 1
                    return Reply("")
                self._concede(request, failure, without)
                continue  # not counted as a try: every concession is made once, so this ends
            if failure.kind is FailureKind.STOP:
                raise LLMError(self.why(failure)) from None
            tries += 1
            await self.back_off(failure, tries)

    async def _try(self, digest: str, request: Request, without: frozenset[str]) -> Reply:
        """Make one attempt to send a request: wait for the rate limit, reserve its price, send it, and settle."""
        extra = self.endpoint.extra_size
        body, tokens = self.wire.body(request, without), likely_tokens(request, extra)
        bound = self.rates.price(request, extra).high  # reserved at its highest price, so that the cap holds
        reservation = await self._reserve(digest, bound, tokens)
        if isinstance(reservation, Reply):
            return reservation
        started = time.monotonic()
        answer = await self._answer(body, reservation.number)
        reply = self._priced(answer, bound, time.monotonic() - started)
        self.cache.settle(reservation.number, digest, self.endpoint.provider, self.endpoint.model, reply)
        self._pacer.settle(tokens, reply.input_tokens + reply.output_tokens or tokens)
        return reply

    async def _answer(self, body: Mapping[str, object], number: int) -> ProviderAnswer:
        self._in_flight += 1
        self._settled.clear()
        try:
            async with asyncio.timeout(self.limits.timeout):
                return await self.wire.send(body)
        except asyncio.CancelledError:
            self.cache.lose(number)  # it may be billed, so its reservation remains counted
            raise
        except Exception as error:
            failure = failure_of(error, self.key)
            (self.cache.lose if failure.kind is FailureKind.UNKNOWN else self.cache.release)(number)
            raise Failed(failure) from None
        finally:
            self._in_flight -= 1
            self._settled.set()

    async def _reserve(self, digest: str, dollars: float, tokens: int) -> Reservation | Reply:
        """Reserve the price of a request, once the rate limit allows it and no other process has sent it.

        Raises:
            CapError: the cap does not allow it, and no request in flight could release a reservation.
            InBatchError: the request is part of an open batch.
        """
        while True:
            wait = self._pacer.book(time.monotonic(), tokens)
            while wait > 0:
                await self.rest(wait)
                # The server may have asked for a pause meanwhile; spread, or all would resume at the same instant.
                wait = self._pacer.paused(time.monotonic()) * random.uniform(1.0, 1.1)
            until = time.time() + self.limits.timeout + _GRACE
            outcome = self.cache.reserve(digest, dollars, self.limits.cap, until)
            if isinstance(outcome, Reservation):
                return outcome
            self._pacer.settle(tokens, 0)  # nothing is sent
            if isinstance(outcome, Reply):
                return outcome
            if isinstance(outcome, RequestedElsewhere) and outcome.batch:
                raise InBatchError
            # Requests reserve more than they cost: while any is awaited, its settlement may make room under the cap.
            if isinstance(outcome, BudgetExceeded) and not outcome.awaited and not self._in_flight:
                raise CapError(cap_message(self.limits, outcome, dollars))
            await self.rest(LOOK_SECONDS)

    async def rest(self, seconds: float) -> None:
        """Wait for this number of seconds. Raises `Stopped` once the call is being stopped."""
        try:
            async with asyncio.timeout(seconds):
                await self._stopping.wait()
        except TimeoutError:
            return
        raise Stopped

    async def back_off(self, failure: RequestFailure, tries: int) -> None:
        """Wait before the next attempt: as long as the server requests, otherwise with exponential backoff.

        Raises:
            LLMError: there were `retries` retries already, or the server requests a very long wait.
        """
        limits, place = self.limits, self.endpoint.place
        if tries > limits.retries:
            raise LLMError(f"{place} gives no answer after {tries} attempts; the last one: {failure.text}")
        if failure.wait is not None and failure.wait > _LONGEST_ASKED:
            raise LLMError(
                f"{place} asks to wait {failure.wait:.0f} seconds ({failure.text}): try again later; replies "
                "already bought are in the cache"
            )
        seconds = failure.seconds_to_wait(tries, limits.first_wait)
        if failure.shared:  # a rate limit or an overloaded server: other requests would fail as well
            self._pacer.pause(time.monotonic(), seconds)
        _log.info("%s; retrying in %.1f seconds", failure.text, seconds)
        await self.rest(seconds)

    def _concede(self, request: Request, failure: RequestFailure, without: frozenset[str]) -> None:
        """Omit the feature that the server rejected from further requests.

        Raises:
            LLMError: there is no such feature.
        """
        if frozenset(self.without) != without:  # another request found out while this one was in flight
            return
        name = self.wire.concession(request, failure.text, without)
        if name is None:
            raise LLMError(f"{self.endpoint.place} refuses a request ({failure.text})")
        self.without.add(name)
        warnings.warn(
            f"{self.endpoint.place} does not accept {_CONCEDED[name]} ({failure.text})", LLMWarning, stacklevel=2
        )

    def _priced(self, answer: ProviderAnswer, bound: float, seconds: float) -> Reply:
        """The reply with its cost, which is the bound if the server does not report token counts."""
        usage = answer.usage
        if usage is None:
            return Reply(answer.text, 0, 0, bound, False, answer.truncated, seconds)
        dollars = self.rates.dollars(usage)
        if dollars > bound:
            warnings.warn(
                f"an answer cost ${dollars:.6f}, more than the bound of ${bound:.6f} reserved for it: a cap may be "
                "exceeded by the difference",
                LLMWarning,
                stacklevel=2,
            )
        return Reply(answer.text, usage.all_input, usage.output, dollars, False, answer.truncated, seconds)

    def why(self, failure: RequestFailure) -> str:
        """Return a one-line message about a failure that stops the call."""
        endpoint, place = self.endpoint, self.endpoint.place
        if failure.status in {401, 403}:
            variable = endpoint.key_variable
            refused = (
                f"the key in {variable}" if variable else "a request without a key: name its variable by key_variable"
            )
            return f"{place} refuses {refused} ({failure.status})"
        if failure.status == 404:
            address = " and base_url" * bool(endpoint.address)
            return f"{place} knows no model {endpoint.model!r} (404): check its name{address}"
        return f"{place} accepts no requests ({failure.text})"


def cap_message(limits: Limits, short: BudgetExceeded, dollars: float) -> str:
    """Return the error message for a request that would exceed the cap."""
    bill = short.bill
    reserved = f" and up to ${bill.unsettled:.4f} more for answers that are awaited or were lost" * bool(bill.unsettled)
    cap = math.inf if limits.cap is None else limits.cap
    return (
        f"the cap of ${cap:.4f} does not allow the next request, which may cost ${dollars:.4f}: the ledger "
        f"{limits.ledger!r} has spent ${bill.dollars:.4f}{reserved}; replies already bought are in the cache"
    )
