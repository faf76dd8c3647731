"""Batches: half the price, an answer within a day. After an interruption the process waits for the same batches."""

import asyncio
import logging
import math
import time
import uuid
import warnings
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, TypeVar

from dal.errors import CapError, LLMError
from dal.llm.clients.client import LLMWarning, Reply, Request
from dal.llm.clients.failures import FailureKind, RequestFailure, failure_of
from dal.llm.clients.prices import Rates, size_of
from dal.llm.clients.provider import BatchResult, LostBatchError, Provider, ProviderAnswer
from dal.llm.clients.reply_cache import BudgetExceeded, RemoteBatch, ReplyCache
from dal.llm.clients.sending import LOOK_SECONDS, Sending, cap_line, place
from dal.monitor import Monitor

if TYPE_CHECKING:
    from dal.llm.clients.hosted import HostedClient

T = TypeVar("T")

_log = logging.getLogger("dal")

HALF = 0.5  # what a request costs in a batch
_REQUESTS, _BYTES = 10_000, 50_000_000  # in one batch; the providers allow several times as much
_CREATING = 600.0  # seconds until another process takes a batch that has no name yet for dead


class RefusedError(LLMError):
    """A batch that was certainly not made, or that the server does not have.

    Attributes:
        status: the HTTP status.
    """

    def __init__(self, text: str, status: int | None) -> None:
        super().__init__(text)
        self.status = status


class Batching:
    """The requests of one call, answered by batches or one by one.

    A batch is noted before it is sent, with the money for it, and its name as soon as the server tells it. A process
    that finds one that holds a wanted request waits for it instead of paying again, whether it asks for batches or not.
    """

    def __init__(
        self,
        client: "HostedClient",
        wire: Provider,
        cache: ReplyCache,
        rates: Rates,
        sending: Sending,
        monitor: Monitor,
    ) -> None:
        self._client, self._wire, self._cache, self._rates = client, wire, cache, rates
        self._sending, self._monitor = sending, monitor
        self._errors: dict[str, str] = {}

    async def run(self, orders: Mapping[str, Request]) -> dict[str, Reply]:
        """A reply for every request, by digest."""
        replies = await self._collected(orders)
        batching, tried = self._client.batch and len(orders) - len(replies) > 1, False
        while left := self._left(orders, replies):
            if batching and tried:
                new = await self._by_batch(left)
            else:
                # The first of a batch goes alone: it finds out what the model does not take before all fail on it.
                new = await self._one_by_one(dict(left[:1] if batching else left))
                tried = True
            replies |= new or await self._collected(dict(left))
        if self._sending.refused:
            warnings.warn(
                f"{place(self._client)} refused {self._sending.refused} requests for their length; they count as "
                "answered by an empty text, and are not kept",
                LLMWarning,
                stacklevel=2,
            )
        return replies

    def _left(self, orders: Mapping[str, Request], replies: Mapping[str, Reply]) -> list[tuple[str, Request]]:
        return [(digest, request) for digest, request in orders.items() if digest not in replies]

    async def _one_by_one(self, orders: Mapping[str, Request]) -> dict[str, Reply]:
        try:
            return await self._sending.run(orders)
        except CapError:
            if not self._client.batch or not await self._freed():
                raise
        return {}

    async def _by_batch(self, left: Sequence[tuple[str, Request]]) -> dict[str, Reply]:
        """The replies of a batch of some of the requests; none where others have sent or must first settle theirs."""
        if not await self._submit(left):
            await self._sending.rest(min(LOOK_SECONDS, self._client.poll_seconds))
            return {}
        new = await self._collected(dict(left))
        if not new:
            said = next(iter(self._errors.values()), "the batch ended without an answer")
            raise LLMError(f"{place(self._client)} answers no request of a batch ({said})")
        return new

    # -- waiting ---------------------------------------------------------------------------------------------------

    async def _collected(self, orders: Mapping[str, Request]) -> dict[str, Reply]:
        """The replies of all open batches that hold a wanted request, once they have ended."""
        while wanted := [
            batch for batch in self._cache.batches(self._client.provider()) if not batch.digests.isdisjoint(orders)
        ]:
            for batch in wanted:
                await self._end(batch)
        found = {key: replace(reply, cached=False) for key, reply in self._cache.replies(list(orders)).items()}
        if found:
            self._monitor.advanced(len(found))
        return found

    async def _freed(self) -> bool:
        """Wait for a batch that holds money of the ledger, whatever process sent it; False when there is none."""
        batches = self._cache.batches(self._client.provider())
        held = [batch for batch in batches if batch.ledger == self._client.ledger]
        if held:
            _log.info("the cap allows no more before a batch that was sent is settled; waiting for it")
            await self._end(held[0])
        return bool(held)

    async def _end(self, batch: RemoteBatch) -> None:
        id = batch.id
        if id is None:
            if not batch.ours:
                return await self._rest()
            id = await self._patiently(self._finding(batch.name, batch.digests, batch.at))
            if id is None:  # it was never made
                return self._cache.end_batch(batch.name, [], self._client.provider())
            self._cache.name_batch(batch.name, id)
        try:
            while not await self._patiently(partial(self._wire.ended, id)):
                await self._rest()
            results = await self._patiently(partial(self._results, id))
        except LostBatchError:
            self._cache.end_batch(batch.name, [], self._client.provider())
            raise
        except RefusedError as error:
            if error.status == 404:
                return self._missing(batch, id)
            raise
        self._errors |= {result.digest: result.error for result in results if result.answer is None}
        self._cache.end_batch(batch.name, self._priced(results, batch.aside), self._client.provider())

    def _missing(self, batch: RemoteBatch, id: str) -> None:
        """Give up a batch that the server does not have, once the user was told: another key may find it.

        Raises:
            LLMError: the user was not told yet.
        """
        where, count = place(self._client), len(batch.aside)
        aside = f"up to ${math.fsum(batch.aside.values()):.4f}"
        if self._cache.give_up_batch(batch.name):
            warnings.warn(
                f"{where} still has no batch {id}: it is given up, its {count} requests are asked again, and {aside} "
                "stays counted for it in the ledger, because it may have been billed",
                LLMWarning,
                stacklevel=2,
            )
            return
        sent = time.strftime("%Y-%m-%d %H:%M", time.localtime(batch.at))
        raise LLMError(
            f"{where} no longer has the batch {id} of {count} requests, sent {sent} (404). All other answers are in "
            f"the cache, and {aside} stays set aside for the batch, because it may have been billed. If it was sent "
            "with another key or base_url, set that again; otherwise run the same command again, which gives the batch "
            "up and asks its requests again"
        )

    async def _results(self, id: str) -> list[BatchResult]:
        return [result async for result in self._wire.results(id)]

    def _priced(self, results: Sequence[BatchResult], aside: Mapping[str, float]) -> list[tuple[str, str, Reply]]:
        model = self._client.model
        return [
            (each.digest, model, self._reply(each.answer, aside.get(each.digest, 0.0)))
            for each in results
            if each.answer
        ]

    def _reply(self, answer: ProviderAnswer, worst: float) -> Reply:
        """The answer with its price: all that was set aside where the server does not count tokens."""
        usage = answer.usage
        if usage is None:
            return Reply(answer.text, dollars=worst, truncated=answer.truncated)
        dollars = HALF * self._rates.dollars(usage)
        return Reply(answer.text, usage.all_input, usage.output, dollars, truncated=answer.truncated)

    async def _rest(self) -> None:
        try:
            await self._sending.rest(self._client.poll_seconds)
        except asyncio.CancelledError:
            _log.warning("stopping; the batch goes on, and the same command waits for it again")
            raise

    # -- sending ---------------------------------------------------------------------------------------------------

    async def _submit(self, left: Sequence[tuple[str, Request]]) -> bool:
        """Send the first of the requests as a batch: as many as one may hold and the cap allows.

        Returns:
            False where none was sent, because others have them on their way, or money that is set aside may come back.

        Raises:
            CapError: there is no money, and none may come back.
        """
        extra = self._client.extra_size
        some = _within_limits(left, extra)
        name, orders = uuid.uuid4().hex, dict(some)
        prices = [(digest, HALF * self._rates.price(request, extra).high) for digest, request in some]
        until = time.time() + _CREATING
        taken = self._cache.begin_batch(name, self._client.provider(), prices, self._client.cap, until)
        if isinstance(taken, BudgetExceeded):
            if not await self._freed() and not taken.awaited:
                raise CapError(cap_line(self._client, taken, prices[0][1]))
            return False
        if not taken:
            return False
        without = frozenset(self._sending.without)
        bodies = {digest: self._wire.body(orders[digest], without) for digest in taken}
        try:
            id = await self._patiently(partial(self._wire.submit, name, bodies), self._finding(name, taken))
        except RefusedError:
            self._cache.end_batch(name, [], self._client.provider())
            raise
        except BaseException:
            self._cache.abandon_batch(name)
            raise
        assert id is not None
        self._cache.name_batch(name, id)
        return True

    def _why(self, failure: RequestFailure) -> str:
        """One line about a call on batches that is refused: no model is named in it that could be unknown."""
        if failure.status != 404:
            return self._sending.why(failure)
        return (
            f"{place(self._client)} takes no batches at this address ({failure.text}): set batch to false, or check "
            "base_url"
        )

    def _finding(
        self, name: str, digests: Iterable[str], since: float | None = None
    ) -> Callable[[], Awaitable[str | None]]:
        at = time.time() if since is None else since
        return partial(self._wire.find, name, frozenset(digests), at, self._rest)

    async def _patiently(
        self, call: Callable[[], Awaitable[T]], after_loss: Callable[[], Awaitable[T]] | None = None
    ) -> T:
        """The result of a call that is not billed, tried again like a request. `after_loss` may know a lost result."""
        tries = 0
        while True:
            try:
                return await call()
            except LLMError:
                raise
            except Exception as error:
                failure = failure_of(error, self._sending.key)
            if failure.kind in {FailureKind.STOP, FailureKind.REFUSED}:
                raise RefusedError(self._why(failure), failure.status)
            tries += 1
            await self._sending.back_off(failure, tries)
            if (
                failure.kind is FailureKind.UNKNOWN
                and after_loss is not None
                and (found := await after_loss()) is not None
            ):
                return found


def _within_limits(left: Sequence[tuple[str, Request]], extra: int) -> list[tuple[str, Request]]:
    """As many of the requests, each with `extra` bytes in addition, as one batch may hold, at least one."""
    some: list[tuple[str, Request]] = []
    room = _BYTES
    for digest, request in left[:_REQUESTS]:
        room -= size_of(request) + extra
        if some and room < 0:
            break
        some.append((digest, request))
    return some
