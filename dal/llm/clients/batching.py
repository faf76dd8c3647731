"""Batch requests, at half the price and answered within a day. After an interruption, waiting resumes."""

import asyncio
import logging
import math
import time
import uuid
import warnings
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import TypeVar

from dal.errors import CapError, LLMError
from dal.llm.clients.client import LLMWarning, Reply, Request
from dal.llm.clients.prices import size_of
from dal.llm.clients.provider import BatchResult, LostBatchError, ProviderAnswer
from dal.llm.clients.replies_and_spending import BudgetExceeded, RemoteBatch
from dal.llm.clients.retries import FailureKind, RequestFailure, failure_of
from dal.llm.clients.sending import LOOK_SECONDS, Sending, cap_message

T = TypeVar("T")

_log = logging.getLogger("dal")

HALF = 0.5  # price factor of a request in a batch
_REQUESTS, _BYTES = 10_000, 50_000_000  # limits per batch; those of the providers are several times higher
_APPEARING = 3.0  # seconds within which the server lists a batch whose creation it was sent before a kill
_CREATING = 600.0  # seconds before other processes consider a batch without an id abandoned


class RefusedError(LLMError):
    """A call that the server rejected: the batch was not created, or does not exist.

    Attributes:
        status: HTTP status.
    """

    def __init__(self, text: str, status: int | None) -> None:
        super().__init__(text)
        self.status = status


class Batching:
    """Answers the requests of one call, in batches or one by one.

    A batch is recorded in the cache before it is submitted, with the reservations for its requests, and its id as soon
    as the server returns it. A process that needs a request in an open batch waits for it instead of paying again, also
    if its own client does not use batches.

    Args:
        sending: sends requests one by one; it holds the endpoint, the limits and the cache of the call.
    """

    def __init__(self, sending: Sending) -> None:
        self._sending = sending
        self._endpoint, self._limits, self._wire = sending.endpoint, sending.limits, sending.wire
        self._cache, self._rates, self._monitor = sending.cache, sending.rates, sending.monitor
        self._errors: dict[str, str] = {}

    async def run(self, orders: Mapping[str, Request]) -> dict[str, Reply]:
        """Return a reply for every request, by digest."""
        replies = await self._collected(orders)  # batches of an interrupted run first: they are billed already
        batching, first_sent = self._limits.batch and len(orders) - len(replies) > 1, False
        while left := [(digest, request) for digest, request in orders.items() if digest not in replies]:
            if batching and first_sent:
                new = await self._by_batch(left)
            else:
                # Send the first request of a batch on its own, to find features that the model does not support
                # before the whole batch fails.
                new = await self._one_by_one(dict(left[:1] if batching else left))
                first_sent = True
            replies |= new or await self._collected(dict(left))
        if self._sending.refused:
            warnings.warn(
                f"{self._endpoint.place} refused {self._sending.refused} requests for their length; their answers are "
                "empty and not cached",
                LLMWarning,
                stacklevel=2,
            )
        return replies

    async def _one_by_one(self, orders: Mapping[str, Request]) -> dict[str, Reply]:
        try:
            return await self._sending.run(orders)
        except CapError:
            if not self._limits.batch or not await self._freed():
                raise
        return {}

    async def _by_batch(self, left: Sequence[tuple[str, Request]]) -> dict[str, Reply]:
        """The replies of a batch of some requests; empty if none was submitted because of other processes."""
        if not await self._submit(left):
            await self._sending.rest(min(LOOK_SECONDS, self._limits.poll_seconds))
            return {}
        new = await self._collected(dict(left))
        if not new:  # submitting the same requests again would be billed and fail again
            reason = next(iter(self._errors.values()), "the batch ended without an answer")
            raise LLMError(f"{self._endpoint.place} answers no request of a batch ({reason})")
        return new

    # -- waiting ---------------------------------------------------------------------------------------------------

    async def _collected(self, orders: Mapping[str, Request]) -> dict[str, Reply]:
        """Wait for all open batches with a required request, and return the replies that the cache has then."""
        while wanted := [
            batch for batch in self._cache.batches(self._endpoint.provider) if not batch.digests.isdisjoint(orders)
        ]:
            for batch in wanted:
                await self._end(batch)
        # Bought for this call, though by way of the cache: they must not count as answers that cost nothing.
        replies = {key: replace(reply, cached=False) for key, reply in self._cache.replies(list(orders)).items()}
        if replies:
            self._monitor.advanced(len(replies))
        return replies

    async def _freed(self) -> bool:
        """Wait for an open batch of the ledger, whose settlement may free reserved money. False if there is none."""
        batches = self._cache.batches(self._endpoint.provider)
        own = [batch for batch in batches if batch.ledger == self._limits.ledger]
        if own:
            _log.info("the cap is reached until an open batch is settled; waiting for it")
            await self._end(own[0])
        return bool(own)

    async def _end(self, batch: RemoteBatch) -> None:
        id = batch.id
        if id is None:
            if not batch.may_handle:
                return await self._rest()
            id = await self._found(batch)
            if id is None:  # it was never created
                return self._cache.end_batch(batch.name, [], self._endpoint.provider)
            self._cache.name_batch(batch.name, id)
        try:
            while not await self._with_retries(partial(self._wire.ended, id)):
                await self._rest()

            async def results_of() -> list[BatchResult]:  # read whole, so that a broken download is read again
                return [result async for result in self._wire.results(id)]

            results = await self._with_retries(results_of)
        except LostBatchError:
            self._cache.end_batch(batch.name, [], self._endpoint.provider)
            raise
        except RefusedError as error:
            if error.status == 404:
                return self._missing(batch, id)
            raise
        self._errors |= {result.digest: result.error for result in results if result.answer is None}
        self._cache.end_batch(batch.name, self._priced(results, batch.reserved), self._endpoint.provider)

    async def _found(self, batch: RemoteBatch) -> str | None:
        """Return the id of a batch whose process ended while it was submitting it; None if it was never created.

        The server may still be creating it, from a request that the process sent just before it was killed: if it were
        given up at the first look, its requests would be paid twice.
        """
        deadline = time.monotonic() + (_APPEARING if time.time() < batch.at + _CREATING else 0.0)
        while True:
            id = await self._with_retries(self._finding(batch.name, batch.digests, batch.at))
            if id is not None or time.monotonic() >= deadline:
                return id
            await self._sending.rest(_APPEARING / 6)

    def _missing(self, batch: RemoteBatch, id: str) -> None:
        """Give up a batch that the server does not have, but only the second time: another key may find it.

        Raises:
            LLMError: it is the first time.
        """
        where, count = self._endpoint.place, len(batch.reserved)
        reserved = f"up to ${math.fsum(batch.reserved.values()):.4f}"
        if self._cache.give_up_batch(batch.name):
            warnings.warn(
                f"{where} still has no batch {id}: it is given up, its {count} requests are sent again, and {reserved} "
                "remains counted in the ledger, because it may have been billed",
                LLMWarning,
                stacklevel=2,
            )
            return
        sent = time.strftime("%Y-%m-%d %H:%M", time.localtime(batch.at))
        raise LLMError(
            f"{where} no longer has the batch {id} of {count} requests, sent {sent} (404). All other answers are in "
            f"the cache, and {reserved} stays reserved for the batch, because it may have been billed. If it was sent "
            "with another key or base_url, set that again; otherwise run the same command again to give the batch up "
            "and send its requests again"
        )

    def _priced(self, results: Sequence[BatchResult], reserved: Mapping[str, float]) -> list[tuple[str, str, Reply]]:
        model = self._endpoint.model
        return [
            (each.digest, model, self._reply(each.answer, reserved.get(each.digest, 0.0)))
            for each in results
            if each.answer
        ]

    def _reply(self, answer: ProviderAnswer, bound: float) -> Reply:
        """The reply with its cost, which is the reservation if the server does not report token counts."""
        usage = answer.usage
        if usage is None:
            return Reply(answer.text, dollars=bound, truncated=answer.truncated)
        dollars = HALF * self._rates.dollars(usage)
        return Reply(answer.text, usage.all_input, usage.output, dollars, truncated=answer.truncated)

    async def _rest(self) -> None:
        try:
            await self._sending.rest(self._limits.poll_seconds)
        except asyncio.CancelledError:
            _log.warning("stopping; the batch continues, and the same command resumes waiting for it")
            raise

    # -- sending ---------------------------------------------------------------------------------------------------

    async def _submit(self, left: Sequence[tuple[str, Request]]) -> bool:
        """Submit the first requests as a batch: as many as the batch limits and the cap allow.

        Returns:
            False if none was submitted, because other processes have sent the requests, or reserved money may be freed.

        Raises:
            CapError: the cap allows no request, and no reserved money may be freed.
        """
        extra = self._endpoint.extra_size
        some = _within_limits(left, extra)
        name, orders = uuid.uuid4().hex, dict(some)
        prices = [(digest, HALF * self._rates.price(request, extra).high) for digest, request in some]
        until = time.time() + _CREATING
        # Recorded before it is sent: after a kill in between, the next run looks for a batch of this name.
        taken = self._cache.begin_batch(name, self._endpoint.provider, prices, self._limits.cap, until)
        if isinstance(taken, BudgetExceeded):
            if not await self._freed() and not taken.awaited:
                raise CapError(cap_message(self._limits, taken, prices[0][1]))
            return False
        if not taken:
            return False
        without = frozenset(self._sending.without)
        bodies = {digest: self._wire.body(orders[digest], without) for digest in taken}
        try:
            id = await self._with_retries(partial(self._wire.submit, name, bodies), self._finding(name, taken))
        except RefusedError:
            self._cache.end_batch(name, [], self._endpoint.provider)
            raise
        except BaseException:  # it may or may not have been created, so its reservation stays until that is known
            self._cache.abandon_batch(name)
            raise
        assert id is not None
        self._cache.name_batch(name, id)
        return True

    def _why(self, failure: RequestFailure) -> str:
        """A one-line message about a rejected call. A 404 is not about the model, which batch calls do not name."""
        if failure.status != 404:
            return self._sending.why(failure)
        return (
            f"{self._endpoint.place} accepts no batches at this address ({failure.text}): set batch to false, or check "
            "base_url"
        )

    def _finding(
        self, name: str, digests: Iterable[str], since: float | None = None
    ) -> Callable[[], Awaitable[str | None]]:
        at = time.time() if since is None else since
        return partial(self._wire.find, name, frozenset(digests), at, self._rest)

    async def _with_retries(
        self, call: Callable[[], Awaitable[T]], after_loss: Callable[[], Awaitable[T]] | None = None
    ) -> T:
        """Return the result of a call that is not billed, with retries. `after_loss` may recover a lost result."""
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
            # The server may have acted on a call whose response was lost: look before calling, and paying, again.
            if (
                failure.kind is FailureKind.UNKNOWN
                and after_loss is not None
                and (recovered := await after_loss()) is not None
            ):
                return recovered


def _within_limits(left: Sequence[tuple[str, Request]], extra: int) -> list[tuple[str, Request]]:
    """The first requests, each with `extra` additional bytes, that fit into one batch; at least one."""
    some: list[tuple[str, Request]] = []
    room = _BYTES
    for digest, request in left[:_REQUESTS]:
        room -= size_of(request) + extra
        if some and room < 0:  # a first request that is too large by itself is left to the server to refuse
            break
        some.append((digest, request))
    return some
