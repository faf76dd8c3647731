"""Every answer of a language model, what it cost and what is on its way, in one SQLite file that processes share."""

import os
import sqlite3
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from dal.errors import LLMError, one_line, shortened
from dal.llm.clients.client import Bill, Reply
from dal.store.atomic_files import check_output, is_alive, named
from dal.store.database import NoDatabaseError, create, read_header

_APPLICATION = 0x64616C32  # "dal2" in the file's header: this file is a response cache
_VERSION = 1
_BUSY_SECONDS = 30.0
_VARIABLES = 500  # in one statement
_GONE = -1.0  # the `until` of a batch that has the server's name, and that the server did not have when it was asked

_SCHEMA = """
CREATE TABLE replies (
    digest TEXT PRIMARY KEY,          -- of provider, model, prompts, schema and parameters
    provider TEXT NOT NULL, model TEXT NOT NULL,
    text TEXT NOT NULL, input_tokens INTEGER NOT NULL, output_tokens INTEGER NOT NULL,
    dollars REAL NOT NULL, truncated INTEGER NOT NULL, seconds REAL NOT NULL,
    at REAL NOT NULL                  -- seconds since 1970, UTC
) STRICT, WITHOUT ROWID;
CREATE TABLE ledgers (
    name TEXT PRIMARY KEY,
    requests INTEGER NOT NULL, cached INTEGER NOT NULL,
    input_tokens INTEGER NOT NULL, output_tokens INTEGER NOT NULL, dollars REAL NOT NULL
) STRICT;
CREATE TABLE reservations (           -- money set aside for a request that was sent and is not settled
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    ledger TEXT NOT NULL, digest TEXT NOT NULL, dollars REAL NOT NULL,
    process INTEGER NOT NULL,         -- whose request it is
    until REAL NOT NULL,              -- when its answer is given up, or 0: it was lost
    batch TEXT                        -- the batch that it is part of
) STRICT;
CREATE INDEX reservations_by_ledger ON reservations (ledger, dollars);
CREATE INDEX reservations_by_digest ON reservations (digest, until);
CREATE TABLE batches (
    name TEXT PRIMARY KEY,            -- ours
    provider TEXT NOT NULL, ledger TEXT NOT NULL, process INTEGER NOT NULL, until REAL NOT NULL, at REAL NOT NULL,
    id TEXT                           -- the server's, NULL until it has answered
) STRICT;
"""


@dataclass(frozen=True)
class Reservation:
    """The money for a request is set aside: it may be sent."""

    number: int


@dataclass(frozen=True)
class RequestedElsewhere:
    """Another call or process has sent the same request and waits for its answer.

    Attributes:
        batch: whether it is part of a batch, whose end others that want the answer must wait for: it may be dead.
    """

    batch: bool = False


@dataclass(frozen=True)
class BudgetExceeded:
    """The cap does not allow the request now.

    Attributes:
        bill: what the ledger says.
        awaited: whether the answer to some other request is awaited, after which the cap may allow this one.
    """

    bill: Bill
    awaited: bool = False


@dataclass(frozen=True)
class RemoteBatch:
    """A batch that was sent, or was about to be.

    Attributes:
        name: ours.
        at: when it was noted, in seconds since 1970.
        id: the server's name; None when its answer never came.
        aside: digest -> dollars that are set aside for it.
        ours: whether this process may look after it: it has a name, or the process that was about to send it is dead.
        ledger: whose money it is.
    """

    name: str
    at: float
    id: str | None
    aside: Mapping[str, float]
    ours: bool = True
    ledger: str = ""

    @property
    def digests(self) -> frozenset[str]:
        """The requests in it."""
        return frozenset(self.aside)


class ReplyCache:
    """The replies, ledgers, reservations and batches in the file `path`, for one thread at a time.

    A reply and its price are on disk, in one transaction, before anyone sees them. Money is set aside before a request
    is sent and given back or spent afterwards; what was set aside by a process that died stays set aside, since its
    request may have been billed.

    Args:
        path: the file; its folder is made.
        ledger: whose money is spent.

    Raises:
        LLMError: the file is no response cache, is empty or damaged, or was written by a newer version.
        ConfigError: it is a folder or a device, or cannot be written.
    """

    def __init__(self, path: Path, ledger: str) -> None:
        self.path, self.ledger = path, ledger
        self._db: sqlite3.Connection | None = None
        with self._reporting("could not be opened"):
            _parents(path)
            final = check_output(path)
            if not final.exists():
                create(final, _SCHEMA, application=_APPLICATION, version=_VERSION)
            _refuse_strangers(final)
            self._db = sqlite3.connect(final, timeout=_BUSY_SECONDS, isolation_level=None, check_same_thread=False)
            self._prepare()

    def __enter__(self) -> "ReplyCache":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file."""
        if self._db is not None:
            self._db.close()
            self._db = None

    # -- replies ---------------------------------------------------------------------------------------------------

    def replies(self, digests: Sequence[str]) -> dict[str, Reply]:
        """The replies that are there, by digest."""
        found: dict[str, Reply] = {}
        with self._reporting("could not be read"):
            for start in range(0, len(digests), _VARIABLES):
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
                    found[digest] = Reply(text, tokens_in, tokens_out, dollars, True, bool(truncated), seconds)
        return found

    def count_cached(self, count: int) -> None:
        """Note in the ledger that so many answers were here already."""
        with self._writing():
            self._run("UPDATE ledgers SET cached = cached + ? WHERE name = ?", (count, self.ledger))

    # -- money -----------------------------------------------------------------------------------------------------

    def bill(self) -> Bill:
        """What the ledger says."""
        with self._reporting("could not be read"):
            return self._bill()

    def reserve(
        self, digest: str, dollars: float, cap: float | None, until: float
    ) -> Reservation | RequestedElsewhere | BudgetExceeded | Reply:
        """Leave to send a request, its money set aside; or why not: it is answered, on its way, or too dear now."""
        with self._writing():
            here = self.replies([digest])
            if here:
                return here[digest]
            if found := self._elsewhere(digest):
                return found
            if cap is not None and not self._bill().spent + dollars <= cap:
                return BudgetExceeded(self._bill(), self._awaits())
            return Reservation(self._set_aside(digest, dollars, until, None))

    def settle(self, number: int, digest: str, provider: str, model: str, reply: Reply) -> None:
        """Store a reply and what it cost in the place of what was set aside for it."""
        with self._writing():
            self._settle(number, digest, provider, model, reply)

    def release(self, number: int) -> None:
        """Give back what was set aside for a request that was certainly not billed."""
        with self._writing():
            self._run("DELETE FROM reservations WHERE number = ?", (number,))

    def lose(self, number: int) -> None:
        """Give up an answer. What was set aside stays so, because it may have been billed."""
        with self._writing():
            self._run("DELETE FROM reservations WHERE number = ? AND dollars = 0", (number,))
            self._run("UPDATE reservations SET until = 0, batch = NULL WHERE number = ?", (number,))

    # -- batches ---------------------------------------------------------------------------------------------------

    def begin_batch(
        self, name: str, provider: str, prices: Sequence[tuple[str, float]], cap: float | None, until: float
    ) -> list[str] | BudgetExceeded:
        """The digests that may be sent as the batch `name`, their money set aside: as many as the cap allows.

        None where all of them are answered or on their way already: then there is no batch of that name.
        """
        with self._writing():
            left = float("inf") if cap is None else cap - self._bill().spent
            taken, short = list[str](), False
            here = self.replies([digest for digest, _ in prices])
            for digest, dollars in prices:
                if digest in here or self._elsewhere(digest):
                    continue
                short = not dollars <= left
                if short:
                    break
                left -= dollars
                taken.append(digest)
                self._set_aside(digest, dollars, until, name)
            if not taken:
                return BudgetExceeded(self._bill(), self._awaits()) if short else []
            self._run(
                "INSERT INTO batches VALUES (?, ?, ?, ?, ?, ?, NULL)",
                (name, provider, self.ledger, os.getpid(), until, time.time()),
            )
            return taken

    def name_batch(self, name: str, id: str) -> None:
        """Note the server's name of a batch."""
        with self._writing():
            self._run("UPDATE batches SET id = ? WHERE name = ?", (id, name))

    def abandon_batch(self, name: str) -> None:
        """Give up waiting for the server's name of a batch; the next that wants it looks for it at the server."""
        with self._writing():
            self._run("UPDATE batches SET until = 0 WHERE name = ?", (name,))

    def give_up_batch(self, name: str) -> bool:
        """Give up a batch that the server does not have, at the second call: the first one only notes that it is gone.

        Its requests may be sent again, and its money stays set aside, because it may have been billed.

        Returns:
            Whether it is given up, by this call or by another process.
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
        """The provider's batches that are not settled, oldest first."""
        with self._reporting("could not be read"):
            found = self._run(
                "SELECT name, at, id, process, until, ledger FROM batches WHERE provider = ? ORDER BY at", (provider,)
            ).fetchall()
            return [
                RemoteBatch(
                    name, at, id, self._set_aside_for(name), id is not None or not _alive(process, until), ledger
                )
                for name, at, id, process, until, ledger in found
            ]

    def end_batch(self, name: str, replies: Iterable[tuple[str, str, Reply]], provider: str) -> None:
        """Store what a batch has answered (digest, model, reply); give back what it has not."""
        with self._writing():
            open_ = dict(self._run("SELECT digest, number FROM reservations WHERE batch = ?", (name,)).fetchall())
            for digest, model, reply in replies:
                if digest in open_:
                    self._settle(open_[digest], digest, provider, model, reply)
            self._run("DELETE FROM reservations WHERE batch = ?", (name,))
            self._run("DELETE FROM batches WHERE name = ?", (name,))

    # -- inside a transaction --------------------------------------------------------------------------------------

    def _bill(self) -> Bill:
        query = "SELECT requests, cached, input_tokens, output_tokens, dollars FROM ledgers WHERE name = ?"
        line = self._run(query, (self.ledger,)).fetchone()
        aside = self._run("SELECT total(dollars) FROM reservations WHERE ledger = ?", (self.ledger,)).fetchone()[0]
        bought = line or (0, 0, 0, 0, 0.0)
        if not all(isinstance(each, int | float) for each in (*bought, aside)):
            raise sqlite3.DatabaseError(f"the ledger {self.ledger} is damaged")
        return replace(Bill(*bought), unsettled=aside)

    def _elsewhere(self, digest: str) -> RequestedElsewhere | None:
        """Where the request is on its way; None when it is not."""
        query = "SELECT process, until, batch FROM reservations WHERE digest = ? AND until > 0"
        for process, until, batch in self._run(query, (digest,)).fetchall():
            if batch is not None or _alive(process, until):
                return RequestedElsewhere(batch is not None)
        return None

    def _awaits(self) -> bool:
        """Whether a request of this ledger outside of batches is on its way."""
        query = "SELECT process, until FROM reservations WHERE ledger = ? AND until > ? AND batch IS NULL"
        return any(_alive(*each) for each in self._run(query, (self.ledger, time.time())).fetchall())

    def _set_aside(self, digest: str, dollars: float, until: float, batch: str | None) -> int:
        number = self._run(
            "INSERT INTO reservations (ledger, digest, dollars, process, until, batch) VALUES (?, ?, ?, ?, ?, ?)",
            (self.ledger, digest, dollars, os.getpid(), until, batch),
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
        gone = self._run("DELETE FROM reservations WHERE number = ? RETURNING ledger", (number,)).fetchone()
        if gone is None:  # settled by another process that waited for the same batch
            return
        self._run(
            "UPDATE ledgers SET requests = requests + 1, input_tokens = input_tokens + ?, "
            "output_tokens = output_tokens + ?, dollars = dollars + ? WHERE name = ?",
            (reply.input_tokens, reply.output_tokens, reply.dollars, gone[0]),
        )

    def _set_aside_for(self, name: str) -> dict[str, float]:
        """Digest -> dollars of the requests in a batch."""
        return dict(self._run("SELECT digest, dollars FROM reservations WHERE batch = ?", (name,)).fetchall())

    # -- the file --------------------------------------------------------------------------------------------------

    def _prepare(self) -> None:
        self._run("PRAGMA synchronous = FULL")
        tables = {name for (name,) in self._run("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()}
        if missing := {"replies", "ledgers", "reservations", "batches"} - tables:
            raise sqlite3.DatabaseError(f"it has no table {min(missing)}")
        self._use_wal()
        with self._writing():
            self._run("INSERT OR IGNORE INTO ledgers VALUES (?, 0, 0, 0, 0, 0.0)", (self.ledger,))

    def _use_wal(self) -> None:
        """Have the file in WAL mode. SQLite does not wait for others here, however long its timeout."""
        deadline = time.monotonic() + _BUSY_SECONDS
        while self._run("PRAGMA journal_mode").fetchone()[0] != "wal":
            try:
                self._run("PRAGMA journal_mode = WAL")
                return  # a file system without shared memory keeps the old mode, which is as safe
            except sqlite3.OperationalError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.02)

    def _run(self, statement: str, values: Sequence[Any] = ()) -> sqlite3.Cursor:
        assert self._db is not None
        return self._db.execute(statement, values)

    @contextmanager
    def _writing(self) -> Iterator[None]:
        """One transaction that has the file for itself, on disk when the block ends."""
        with self._reporting("could not be written"):
            self._run("BEGIN IMMEDIATE")
            try:
                yield
                self._run("COMMIT")
            except BaseException:
                if self._db is not None and self._db.in_transaction:
                    self._run("ROLLBACK")
                raise

    @contextmanager
    def _reporting(self, trouble: str) -> Iterator[None]:
        try:
            yield
        except (sqlite3.Error, OSError, OverflowError, UnicodeError) as error:
            shown = shortened(str(self.path), 200)
            said = error.strerror if isinstance(error, OSError) and error.strerror else one_line(error)
            raise LLMError(f"the response cache {shown} {trouble}: {said}") from error


def _parents(path: Path) -> None:
    """Make the folders of the file.

    Raises:
        ConfigError: one of them is a file, may not be made, or has a name that the file system does not take.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else one_line(error)
        raise LLMError(f"the response cache {named(path)} could not be opened: {reason}") from error


def _refuse_strangers(path: Path) -> None:
    """Read the header of the file, before SQLite may change anything in it.

    Raises:
        LLMError: it is empty, damaged, no database, another program's, or written by a newer version.
    """
    shown = shortened(str(path), 200)
    try:
        header = read_header(path)
    except NoDatabaseError as error:
        raise LLMError(f"the response cache {shown} could not be opened: {error}; name another with `cache`") from error
    except ValueError as error:
        raise LLMError(
            f"the response cache {shown} could not be opened: {error}; move it away, or name another with `cache`"
        ) from error
    if header.application != _APPLICATION:
        raise LLMError(f"{shown} is another program's file, not a response cache: name another with `cache`")
    if header.version > _VERSION:
        raise LLMError(f"{shown} was written by a newer version of dal: update dal, or name another `cache`")


def _alive(process: int, until: float) -> bool:
    """Whether a process still waits for an answer that it gives up at `until`."""
    return time.time() <= until and is_alive(process)
