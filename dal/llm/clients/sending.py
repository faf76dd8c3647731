"""Sends requests side by side until each has its reply: limits, retries, and money set aside before each of them."""

import asyncio
import logging
import math
import random
import time
import warnings
from collections import deque
from collections.abc import Mapping
from typing import TYPE_CHECKING

from dal.errors import CapError, LLMError
from dal.llm.clients.client import LLMWarning, Reply, Request
from dal.llm.clients.failures import FailureKind, RequestFailure, failure_of
from dal.llm.clients.pacing import Pacer
from dal.llm.clients.prices import Rates, likely_tokens
from dal.llm.clients.provider import Provider, ProviderAnswer
from dal.llm.clients.reply_cache import BudgetExceeded, ReplyCache, RequestedElsewhere, Reservation
from dal.monitor import Monitor

if TYPE_CHECKING:
    from dal.llm.clients.hosted import HostedClient

_log = logging.getLogger("dal")

_LONGEST_STEP = 60.0  # seconds between two tries, where the server does not ask for more
_LONGEST_ASKED = 600.0  # a server that asks for more is taken to be down
LOOK_SECONDS = 0.2  # between two looks for an answer that another process awaits
_GRACE = 5.0  # seconds after the timeout until others take a request for dead
_TOO_LONG = ("too long", "context length", "context window", "maximum context", "context size")
_CONCEDED = {
    "temperature": "a temperature, so the model's own default is used",
    "tool": "to be forced to a tool, so its own JSON format is asked for",
    "schema": "a JSON schema, so answers are free text",
    "max_tokens": "the limit by that name, so the other name is used",
}


class Stopped(Exception):
    """Another request has ended the work."""


class InBatchError(Exception):
    """A request that is part of a batch, whose end somebody has to wait for."""


class Failed(Exception):
    """An attempt without an answer."""

    def __init__(self, failure: RequestFailure) -> None:
        super().__init__(failure.text)
        self.failure = failure


class Sending:
    """The requests of one call on their way to a server.

    Every attempt sets its worst price aside first. What certainly cost nothing is given back at once; where an answer
    is lost, it stays set aside.

    Attributes:
        without: what this server was found not to take.
        refused: how many requests were refused for their length.
    """

    def __init__(
        self, client: "HostedClient", wire: Provider, cache: ReplyCache, rates: Rates, key: str, monitor: Monitor
    ) -> None:
        self._client, self._wire, self._cache, self._rates, self.key = client, wire, cache, rates, key
        self._monitor = monitor
        self._pacer = Pacer(client.requests_per_minute, client.tokens_per_minute)
        self._stopping, self._settled = asyncio.Event(), asyncio.Event()
        self._trouble: BaseException | None = None
        self._on_their_way = 0
        self.without: set[str] = set()
        self.refused = 0

    async def run(self, orders: Mapping[str, Request]) -> dict[str, Reply]:
        """A reply for every request, by digest, but for those that are found to be part of an open batch.

        When something stops the work, the requests that are on their way are waited for and stored, because they are
        paid for, and what stopped it is raised. It may be called again after that.
        """
        todo, replies = deque(orders.items()), dict[str, Reply]()
        count = min(self._client.concurrency, len(todo))
        workers = [asyncio.create_task(self._work(todo, replies)) for _ in range(count)]
        try:
            await asyncio.wait(workers)
        except asyncio.CancelledError:
            self._stopping.set()
            if self._on_their_way:
                _log.warning("stopping; %d answers are on their way and paid for, so they are waited for (Ctrl-C again "
                             "does not wait)", self._on_their_way)  # fmt: skip
            await asyncio.wait(workers)
            raise
        trouble, self._trouble = self._trouble, None
        self._stopping.clear()
        if trouble is not None:
            raise trouble
        return replies

    async def _work(self, todo: deque[tuple[str, Request]], replies: dict[str, Reply]) -> None:
        while todo and not self._stopping.is_set():
            digest, request = todo.popleft()
            try:
                replies[digest] = await self._reply(digest, request)
                self._monitor.advanced(1)
            except Stopped:
                return
            except InBatchError:
                continue
            except (Exception, KeyboardInterrupt) as error:  # a monitor may raise the latter
                self._trouble = self._trouble or error
                self._stopping.set()

    async def _reply(self, digest: str, request: Request) -> Reply:
        """The reply to one request, however many tries it takes."""
        tries = 0
        while True:
            without = frozenset(self.without)
            try:
                return await self._try(digest, request, without)
            except Failed as failed:
                failure = failed.failure
            if failure.kind is FailureKind.REFUSED:
                if failure.status == 413 or any(words in failure.text.lower() for words in _TOO_LONG):
                    self.refused += 1
                    return Reply("")
                self._concede(request, failure, without)
                continue
            if failure.kind is FailureKind.STOP:
                raise LLMError(self.why(failure)) from None
            tries += 1
            await self.back_off(failure, tries)

    async def _try(self, digest: str, request: Request, without: frozenset[str]) -> Reply:
        """One attempt, after its turn and with its money set aside."""
        extra = self._client.extra_size
        body, tokens = self._wire.body(request, without), likely_tokens(request, extra)
        worst = self._rates.price(request, extra).high
        leave = await self._leave(digest, worst, tokens)
        if isinstance(leave, Reply):
            return leave
        started = time.monotonic()
        answer = await self._answer(body, leave.number)
        reply = self._priced(answer, worst, time.monotonic() - started)
        self._cache.settle(leave.number, digest, self._client.provider(), self._client.model, reply)
        self._pacer.settle(tokens, reply.input_tokens + reply.output_tokens or tokens)
        return reply

    async def _answer(self, body: Mapping[str, object], number: int) -> ProviderAnswer:
        self._on_their_way += 1
        self._settled.clear()
        try:
            async with asyncio.timeout(self._client.timeout):
                return await self._wire.send(body)
        except asyncio.CancelledError:
            self._cache.lose(number)
            raise
        except Exception as error:
            failure = failure_of(error, self.key)
            (self._cache.lose if failure.kind is FailureKind.UNKNOWN else self._cache.release)(number)
            raise Failed(failure) from None
        finally:
            self._on_their_way -= 1
            self._settled.set()

    async def _leave(self, digest: str, dollars: float, tokens: int) -> Reservation | Reply:
        """Leave to send: the request's turn has come, nobody else awaits its answer, and there is money for it.

        Raises:
            CapError: there is not, and no other process has a request on its way whose money may come back.
            InBatchError: the answer comes with a batch.
        """
        while True:
            await self._turn(tokens)
            until = time.time() + self._client.timeout + _GRACE
            leave = self._cache.reserve(digest, dollars, self._client.cap, until)
            if isinstance(leave, Reservation):
                return leave
            self._pacer.settle(tokens, 0)
            if isinstance(leave, Reply):
                return leave
            if isinstance(leave, RequestedElsewhere) and leave.batch:
                raise InBatchError
            if isinstance(leave, BudgetExceeded) and not leave.awaited and not self._on_their_way:
                raise CapError(cap_line(self._client, leave, dollars))
            await self.rest(LOOK_SECONDS)

    async def _turn(self, tokens: int) -> None:
        wait = self._pacer.book(time.monotonic(), tokens)
        while wait > 0:
            await self.rest(wait)
            wait = self._pacer.paused(time.monotonic()) * random.uniform(1.0, 1.1)

    async def rest(self, seconds: float) -> None:
        """Wait, but not when the work is being stopped."""
        try:
            async with asyncio.timeout(seconds):
                await self._stopping.wait()
        except TimeoutError:
            return
        raise Stopped

    async def back_off(self, failure: RequestFailure, tries: int) -> None:
        """Wait before the next try: as long as the server asks, else longer each time.

        Raises:
            LLMError: that was the last try.
        """
        client = self._client
        if tries > client.retries:
            raise LLMError(f"{place(client)} gives no answer after {tries} tries; the last one: {failure.text}")
        if failure.wait is not None and failure.wait > _LONGEST_ASKED:
            raise LLMError(
                f"{place(client)} asks to wait {failure.wait:.0f} seconds ({failure.text}): go on later; what was "
                "bought is in the cache"
            )
        step = min(client.first_wait * 2.0 ** min(tries - 1, 60), _LONGEST_STEP) * random.uniform(0.5, 1.0)
        seconds = step if failure.wait is None else failure.wait + random.uniform(0.0, 0.1) * client.first_wait
        if failure.shared:
            self._pacer.pause(time.monotonic(), seconds)
        _log.info("%s; trying again in %.1f seconds", failure.text, seconds)
        await self.rest(seconds)

    def _concede(self, request: Request, failure: RequestFailure, without: frozenset[str]) -> None:
        """Leave out what the server refuses.

        Raises:
            LLMError: there is nothing left to leave out.
        """
        if frozenset(self.without) != without:  # conceded while this request was on its way
            return
        name = self._wire.concession(request, failure.text, without)
        if name is None:
            raise LLMError(f"{place(self._client)} refuses a request ({failure.text})")
        self.without.add(name)
        warnings.warn(
            f"{place(self._client)} does not take {_CONCEDED[name]} ({failure.text})", LLMWarning, stacklevel=2
        )

    def _priced(self, answer: ProviderAnswer, worst: float, seconds: float) -> Reply:
        """The answer with its price: the worst where the server does not count tokens."""
        usage = answer.usage
        if usage is None:
            return Reply(answer.text, 0, 0, worst, False, answer.truncated, seconds)
        dollars = self._rates.dollars(usage)
        if dollars > worst:
            warnings.warn(
                f"an answer cost ${dollars:.6f}, more than the bound of ${worst:.6f} that was set aside for it: a cap "
                "may be exceeded by the difference",
                LLMWarning,
                stacklevel=2,
            )
        return Reply(answer.text, usage.all_input, usage.output, dollars, False, answer.truncated, seconds)

    def why(self, failure: RequestFailure) -> str:
        """One line about a failure that ends the work."""
        client, where = self._client, place(self._client)
        if failure.status in {401, 403}:
            variable = client.key_name()
            held = (
                f"the key in {variable}" if variable else "a request without a key: name its variable by key_variable"
            )
            return f"{where} refuses {held} ({failure.status})"
        if failure.status == 404:
            address = " and base_url" * bool(client.server())
            return f"{where} knows no model {client.model!r} (404): check its name{address}"
        return f"{where} takes no requests ({failure.text})"


def place(client: "HostedClient") -> str:
    """The server, in words for a message."""
    return client.server() or client.provider()


def cap_line(client: "HostedClient", short: BudgetExceeded, dollars: float) -> str:
    """Why the cap stops the work."""
    bill = short.bill
    aside = f" and up to ${bill.unsettled:.4f} more for answers that are awaited or were lost" * bool(bill.unsettled)
    cap = math.inf if client.cap is None else client.cap
    return (
        f"the cap of ${cap:.4f} does not allow the next request, which may cost ${dollars:.4f}: the ledger "
        f"{client.ledger!r} has spent ${bill.dollars:.4f}{aside}; what was bought is in the cache"
    )
