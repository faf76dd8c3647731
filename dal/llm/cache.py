"""Every answer of a language model, what it cost and what is on its way, in one SQLite file that processes share."""

import os
import sqlite3
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from dal.errors import LLMError
from dal.llm.client import Bill, Reply

_APPLICATION = 0x64616C32  # "dal2" in the file's header: this file is a response cache
_VERSION = 1
_BUSY_SECONDS = 30.0
_VARIABLES = 500  # in one statement

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
    until REAL NOT NULL,              -- when its answer is given up; 0: it was lost
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
class Granted:
    """The money for a request is set aside: it may be sent."""

    number: int


@dataclass(frozen=True)
class Elsewhere:
    """Another call or process has sent the same request and waits for its answer."""


@dataclass(frozen=True)
class Short:
    """The cap does not allow the request now."""

    bill: Bill


@dataclass(frozen=True)
class Batch:
    """A batch that was sent, or was about to be: `id` is None when the server's answer never came."""

    name: str
    at: float
    id: str | None
    digests: frozenset[str]
    ours: bool = True


class ReplyCache:
    """The replies, ledgers, reservations and batches in the file `path`, for one thread at a time.

    A reply and its price are on disk, in one transaction, before anyone sees them. Money is set aside before a request
    is sent and given back or spent afterwards; what was set aside by a process that died stays set aside, since its
    request may have been billed.

    Args:
        path: the file; its folder is made.
        ledger: whose money is spent.

    Raises:
        LLMError: the file is no response cache, is damaged, or was written by a newer version.
    """

    def __init__(self, path: Path, ledger: str) -> None:
        self.path, self.ledger = path, ledger
        self._db: sqlite3.Connection | None = None
        with self._reporting("could not be opened"):
            path.parent.mkdir(parents=True, exist_ok=True)
            self._db = sqlite3.connect(path, timeout=_BUSY_SECONDS, isolation_level=None, check_same_thread=False)
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
    ) -> Granted | Elsewhere | Short | Reply:
        """Leave to send a request, its money set aside; or why not: it is answered, on its way, or too dear now."""
        with self._writing():
            here = self.replies([digest])
            if here:
                return here[digest]
            if self._on_its_way(digest):
                return Elsewhere()
            if cap is not None and self._bill().spent + dollars > cap:
                return Short(self._bill())
            return Granted(self._set_aside(digest, dollars, until, None))

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
    ) -> list[str] | Short:
        """The digests that may be sent as the batch `name`, their money set aside: as many as the cap allows."""
        with self._writing():
            left = float("inf") if cap is None else cap - self._bill().spent
            taken: list[str] = []
            here = self.replies([digest for digest, _ in prices])
            for digest, dollars in prices:
                if digest in here or self._on_its_way(digest):
                    continue
                if dollars > left:
                    break
                left -= dollars
                taken.append(digest)
                self._set_aside(digest, dollars, until, name)
            if not taken and len(here) < len(prices):
                return Short(self._bill())
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
        """Give up waiting for the server's name of a batch; whoever wants it next looks for it at the server."""
        with self._writing():
            self._run("UPDATE batches SET until = 0 WHERE name = ?", (name,))

    def batches(self, provider: str) -> list[Batch]:
        """The provider's batches that are not settled, oldest first."""
        with self._reporting("could not be read"):
            found = self._run(
                "SELECT name, at, id, process, until FROM batches WHERE provider = ? ORDER BY at", (provider,)
            ).fetchall()
            return [
                Batch(name, at, id, self._batch_digests(name), id is not None or not _alive(process, until))
                for name, at, id, process, until in found
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
        return replace(Bill(*bought), unsettled=aside)

    def _on_its_way(self, digest: str) -> bool:
        waiting = self._run("SELECT process, until, batch FROM reservations WHERE digest = ? AND until > 0", (digest,))
        return any(batch is not None or _alive(process, until) for process, until, batch in waiting.fetchall())

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

    def _batch_digests(self, name: str) -> frozenset[str]:
        found = self._run("SELECT digest FROM reservations WHERE batch = ?", (name,))
        return frozenset(digest for (digest,) in found.fetchall())

    # -- the file --------------------------------------------------------------------------------------------------

    def _prepare(self) -> None:
        application = self._run("PRAGMA application_id").fetchone()[0]
        version = self._run("PRAGMA user_version").fetchone()[0]
        if application == 0 and not self._run("SELECT count(*) FROM sqlite_master").fetchone()[0]:
            self._run("PRAGMA journal_mode = WAL")
        elif application != _APPLICATION:
            raise LLMError(f"{self.path} is another program's file, not a response cache: name another with `cache`")
        elif version > _VERSION:
            raise LLMError(f"{self.path} was written by a newer version of dal: update dal, or name another `cache`")
        self._run("PRAGMA synchronous = FULL")
        with self._writing():
            if not self._run("SELECT count(*) FROM sqlite_master").fetchone()[0]:
                for statement in _SCHEMA.split(";\n")[:-1]:
                    self._run(statement)
                self._run(f"PRAGMA application_id = {_APPLICATION}")
                self._run(f"PRAGMA user_version = {_VERSION}")
            self._run("INSERT OR IGNORE INTO ledgers VALUES (?, 0, 0, 0, 0, 0.0)", (self.ledger,))

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
        except (sqlite3.Error, OSError) as error:
            raise LLMError(f"the response cache {self.path} {trouble}: {error}") from error


def _alive(process: int, until: float) -> bool:
    """Whether a process still waits for an answer that it gives up at `until`."""
    if time.time() > until:
        return False
    if os.name != "posix":  # signal 0 is Ctrl-C elsewhere
        return True
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True
