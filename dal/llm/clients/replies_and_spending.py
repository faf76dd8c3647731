"""Cache of replies with their cost, reservations and batches, in a SQLite file shared by processes."""

import os
import platform
import sqlite3
import time
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from dal.llm.clients.cache_file import CacheFile
from dal.llm.clients.client import Bill, Reply
from dal.store.atomic_files import is_alive

_VARIABLES = 500  # maximum number of variables per statement
_GONE = -1.0  # `until` of a batch with an id that the server did not have when asked for it


@dataclass(frozen=True)
class Reservation:
    """A reservation for a request, which may now be sent."""

    number: int


@dataclass(frozen=True)
class RequestedElsewhere:
    """Another call or process has sent the same request and waits for its answer.

    Attributes:
        batch: whether it is part of a batch. Its end must then be awaited, because that process may be dead.
    """

    batch: bool = False


@dataclass(frozen=True)
class BudgetExceeded:
    """The cap does not currently allow a request.

    Attributes:
        bill: spending of the ledger.
        awaited: whether another request of the ledger is in flight, after which the cap may allow this one.
    """

    bill: Bill
    awaited: bool = False


@dataclass(frozen=True)
class RemoteBatch:
    """A batch that was submitted, or was about to be.

    Attributes:
        name: local name.
        at: time of its creation, in seconds since 1970.
        id: id at the server; None if the server's response did not arrive.
        reserved: digest -> reserved dollars.
        may_handle: whether this process may handle it: it has an id, or the process that was to submit it is dead.
        ledger: ledger that is charged.
    """

    name: str
    at: float
    id: str | None
    reserved: Mapping[str, float]
    may_handle: bool = True
    ledger: str = ""

    @property
    def digests(self) -> frozenset[str]:
        """Digests of the requests."""
        return frozenset(self.reserved)


class ReplyCache(CacheFile):
    """Replies, ledgers, reservations and batches in a SQLite file. Not thread-safe.

    A reply and its cost are committed in one transaction before they are used. The price of a request is reserved
    before it is sent, and released or spent afterwards. Reservations of a dead process are kept, because its requests
    may have been billed.

    Args:
        path: path of the file, created with its folder if missing.
        ledger: ledger to charge.

    Raises:
        LLMError: the file is not a response cache, is empty or damaged, or was written by a newer version.
        ConfigError: the path is a folder or a device, or is not writable.
    """

    def __init__(self, path: Path, ledger: str) -> None:
        super().__init__(path)
        self.ledger = ledger
        with self._writing():
            self._run("INSERT OR IGNORE INTO ledgers VALUES (?, 0, 0, 0, 0, 0.0)", (ledger,))

    # -- replies ---------------------------------------------------------------------------------------------------

    def replies(self, digests: Sequence[str]) -> dict[str, Reply]:
        """Return the cached replies, by digest."""
        cached: dict[str, Reply] = {}
        with self._reporting("could not be read"):
            for start in range(0, len(digests), _VARIABLES):  # SQLite limits the variables of a statement
                some = digests[start : start + _VARIABLES]
                query = (
                    "SELECT digest, text, input_tokens, output_tokens, dollars, truncated, seconds FROM replies "
                    f"WHERE digest IN ({', '.join('?' * len(some))})"
                )
                for digest, text, tokens_in, tokens_out, dollars, truncated, seconds in self._run(query, some):
                    kinds = (str, int, int, float, int, float)
                    row = (text, tokens_in, tokens_out, dollars, truncated, seconds)
                    if not all(map(isinstance, row, kinds)):
                        raise sqlite3.DatabaseError(f"the reply {digest} is damaged")
                    cached[digest] = Reply(text, tokens_in, tokens_out, dollars, True, bool(truncated), seconds)
        return cached

    def count_cached(self, count: int) -> None:
        """Add a number of cached answers to the ledger."""
        with self._writing():
            self._run("UPDATE ledgers SET cached = cached + ? WHERE name = ?", (count, self.ledger))

    # -- money -----------------------------------------------------------------------------------------------------

    def bill(self) -> Bill:
        """Return the spending of the ledger."""
        with self._reporting("could not be read"):
            return self._bill()

    def reserve(
        self, digest: str, dollars: float, cap: float | None, until: float
    ) -> Reservation | RequestedElsewhere | BudgetExceeded | Reply:
        """Reserve the price of a request, unless it has been answered or sent already, or would exceed the cap.

        Args:
            digest: digest of the request.
            dollars: upper bound of its price.
            cap: cap of the ledger; None for no cap.
            until: time at which the answer is given up, in seconds since 1970.
        """
        with self._writing():
            cached = self.replies([digest])
            if cached:
                return cached[digest]
            if elsewhere := self._elsewhere(digest):
                return elsewhere
            if cap is not None and not self._bill().spent + dollars <= cap:  # refuses an unknown price, NaN, too
                return BudgetExceeded(self._bill(), self._awaits())
            return Reservation(self._reserve(digest, dollars, until, None))

    def settle(self, number: int, digest: str, provider: str, model: str, reply: Reply) -> None:
        """Replace a reservation by a reply and its cost."""
        with self._writing():
            self._settle(number, digest, provider, model, reply)

    def release(self, number: int) -> None:
        """Release the reservation of a request that was certainly not billed."""
        with self._writing():
            self._run("DELETE FROM reservations WHERE number = ?", (number,))

    def lose(self, number: int) -> None:
        """Give up an answer. The reservation is kept, because the request may have been billed."""
        with self._writing():
            self._run("DELETE FROM reservations WHERE number = ? AND dollars = 0", (number,))
            self._run("UPDATE reservations SET until = 0, batch = NULL WHERE number = ?", (number,))

    # -- batches ---------------------------------------------------------------------------------------------------

    def begin_batch(
        self, name: str, provider: str, prices: Sequence[tuple[str, float]], cap: float | None, until: float
    ) -> list[str] | BudgetExceeded:
        """Create a batch and reserve the prices of its requests, as many as the cap allows.

        Args:
            name: local name of the batch.
            provider: name of the provider.
            prices: digests of the requests and upper bounds of their prices.
            cap: cap of the ledger; None for no cap.
            until: time at which the submission is given up, in seconds since 1970.

        Returns:
            The digests in the batch. Empty, without creating a batch, if all have been answered or sent already.
        """
        with self._writing():
            left = float("inf") if cap is None else cap - self._bill().spent
            taken, short = list[str](), False
            cached = self.replies([digest for digest, _ in prices])
            for digest, dollars in prices:
                if digest in cached or self._elsewhere(digest):
                    continue
                short = not dollars <= left
                if short:
                    break
                left -= dollars
                taken.append(digest)
                self._reserve(digest, dollars, until, name)
            if not taken:
                return BudgetExceeded(self._bill(), self._awaits()) if short else []
            self._run(
                "INSERT INTO batches VALUES (?, ?, ?, ?, ?, ?, NULL)",
                (name, provider, self.ledger, _this_process(), until, time.time()),
            )
            return taken

    def name_batch(self, name: str, id: str) -> None:
        """Store the id of a batch at the server."""
        with self._writing():
            self._run("UPDATE batches SET id = ? WHERE name = ?", (id, name))

    def abandon_batch(self, name: str) -> None:
        """Give up waiting for the id of a batch. The next process that needs it will search for it at the server."""
        with self._writing():
            self._run("UPDATE batches SET until = 0 WHERE name = ?", (name,))

    def give_up_batch(self, name: str) -> bool:
        """Give up a batch that the server does not have, on the second call; the first call only marks it.

        Its requests may be sent again. The reservations are kept, because the batch may have been billed.

        Returns:
            Whether the batch is given up, by this call or by another process.
        """
        with self._writing():
            until = self._run("SELECT until FROM batches WHERE name = ?", (name,)).fetchone()
            if until is not None and until[0] != _GONE:
                self._run("UPDATE batches SET until = ? WHERE name = ?", (_GONE, name))
                return False
            self._run("DELETE FROM reservations WHERE batch = ? AND dollars = 0", (name,))
            self._run("UPDATE reservations SET until = 0, batch = NULL WHERE batch = ?", (name,))
            self._run("DELETE FROM batches WHERE name = ?", (name,))
        return True

    def batches(self, provider: str) -> list[RemoteBatch]:
        """Return the open batches of a provider, oldest first."""
        with self._reporting("could not be read"):
            rows = self._run(
                "SELECT name, at, id, process, until, ledger FROM batches WHERE provider = ? ORDER BY at", (provider,)
            ).fetchall()
            batches = []
            for name, at, id, process, until, ledger in rows:
                reserved = self._run("SELECT digest, dollars FROM reservations WHERE batch = ?", (name,)).fetchall()
                # Without an id, the process that creates the batch is waiting for one, unless it has ended.
                may_handle = id is not None or not _alive(process, until)
                batches.append(RemoteBatch(name, at, id, dict(reserved), may_handle, ledger))
            return batches

    def end_batch(self, name: str, replies: Iterable[tuple[str, str, Reply]], provider: str) -> None:
        """Store the replies of a batch (digest, model, reply) and release the reservations of unanswered requests."""
        with self._writing():
            numbers = dict(self._run("SELECT digest, number FROM reservations WHERE batch = ?", (name,)).fetchall())
            for digest, model, reply in replies:
                if digest in numbers:
                    self._settle(numbers[digest], digest, provider, model, reply)
            self._run("DELETE FROM reservations WHERE batch = ?", (name,))
            self._run("DELETE FROM batches WHERE name = ?", (name,))

    # -- inside a transaction --------------------------------------------------------------------------------------

    def _bill(self) -> Bill:
        query = "SELECT requests, cached, input_tokens, output_tokens, dollars FROM ledgers WHERE name = ?"
        line = self._run(query, (self.ledger,)).fetchone()
        reserved = self._run("SELECT total(dollars) FROM reservations WHERE ledger = ?", (self.ledger,)).fetchone()[0]
        bought = line or (0, 0, 0, 0, 0.0)
        if not all(isinstance(each, int | float) for each in (*bought, reserved)):
            raise sqlite3.DatabaseError(f"the ledger {self.ledger} is damaged")
        return replace(Bill(*bought), unsettled=reserved)

    def _elsewhere(self, digest: str) -> RequestedElsewhere | None:
        """Whether the request is in flight, in a batch or another call; None if not."""
        query = "SELECT process, until, batch FROM reservations WHERE digest = ? AND until > 0"
        for process, until, batch in self._run(query, (digest,)).fetchall():
            if batch is not None or _alive(process, until):
                return RequestedElsewhere(batch is not None)
        return None

    def _awaits(self) -> bool:
        """Whether a request of this ledger is in flight, other than in a batch."""
        query = "SELECT process, until FROM reservations WHERE ledger = ? AND until > ? AND batch IS NULL"
        return any(_alive(*each) for each in self._run(query, (self.ledger, time.time())).fetchall())

    def _reserve(self, digest: str, dollars: float, until: float, batch: str | None) -> int:
        number = self._run(
            "INSERT INTO reservations (ledger, digest, dollars, process, until, batch) VALUES (?, ?, ?, ?, ?, ?)",
            (self.ledger, digest, dollars, _this_process(), until, batch),
        ).lastrowid
        assert number is not None
        return number

    def _settle(self, number: int, digest: str, provider: str, model: str, reply: Reply) -> None:
        self._run(
            "INSERT OR IGNORE INTO replies VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                digest,
                provider,
                model,
                reply.text,
                reply.input_tokens,
                reply.output_tokens,
                reply.dollars,
                int(reply.truncated),
                reply.seconds,
                time.time(),
            ),
        )
        settled = self._run("DELETE FROM reservations WHERE number = ? RETURNING ledger", (number,)).fetchone()
        if settled is None:  # another process that waited for the same batch was faster
            return
        self._run(
            "UPDATE ledgers SET requests = requests + 1, input_tokens = input_tokens + ?, "
            "output_tokens = output_tokens + ?, dollars = dollars + ? WHERE name = ?",
            (reply.input_tokens, reply.output_tokens, reply.dollars, settled[0]),
        )


def _this_process() -> int:
    """Number of this process, other than that of any process on another computer: host name and process id."""
    return _host() << 32 | os.getpid()


def _host() -> int:
    """Digest of the host name, 31 bits."""
    return zlib.crc32(platform.node().encode()) >> 1


def _alive(process: int, until: float) -> bool:
    """Whether a process still waits for an answer, which it gives up at `until`.

    Whether one of another computer has ended cannot be seen here. Earlier versions stored no host.
    """
    host, pid = process >> 32, process & 0xFFFFFFFF
    return time.time() <= until and (host not in (0, _host()) or is_alive(pid))
