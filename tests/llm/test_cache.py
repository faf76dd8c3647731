"""The cache of replies and its ledger: what is on disk, who may send what, and whose money it is."""

import multiprocessing
import os
import sqlite3
import time
from contextlib import closing
from pathlib import Path

import pytest

from dal.errors import LLMError
from dal.llm.cache import Elsewhere, Granted, ReplyCache, Short
from dal.llm.client import Reply

SOON = 60.0


def opened(folder: Path, ledger: str = "mine") -> ReplyCache:
    return ReplyCache(folder / "replies.db", ledger)


def reserve(cache: ReplyCache, digest: str, dollars: float = 0.25, cap: float | None = None) -> object:
    return cache.reserve(digest, dollars, cap, time.time() + SOON)


def granted(cache: ReplyCache, digest: str, dollars: float = 0.25, cap: float | None = None) -> int:
    leave = reserve(cache, digest, dollars, cap)
    assert isinstance(leave, Granted)
    return leave.number


def settle(cache: ReplyCache, number: int, digest: str, dollars: float = 0.125) -> None:
    cache.settle(number, digest, "provider", "model", Reply("yes", 10, 2, dollars, False, True, 0.5))


def test_a_reply_is_there_after_the_file_was_closed_and_is_marked_as_cached(tmp_path: Path) -> None:
    with opened(tmp_path) as cache:
        settle(cache, granted(cache, "a"), "a")
    with opened(tmp_path) as cache:
        assert cache.replies(["a", "b"]) == {"a": Reply("yes", 10, 2, 0.125, True, True, 0.5)}


def test_more_replies_than_a_statement_has_variables_are_read(tmp_path: Path) -> None:
    with opened(tmp_path) as cache:
        cache.begin_batch("x", "provider", [(str(i), 0.0) for i in range(1300)], None, time.time() + SOON)
        cache.end_batch("x", [(str(i), "model", Reply(str(i))) for i in range(1300)], "provider")
        found = cache.replies([str(i) for i in range(1300)])
    assert {digest: reply.text for digest, reply in found.items()} == {str(i): str(i) for i in range(1300)}


def test_the_cap_counts_what_is_set_aside_and_what_is_spent(tmp_path: Path) -> None:
    with opened(tmp_path) as cache:
        first = granted(cache, "a", 0.5, cap=1.0)
        granted(cache, "b", 0.5, cap=1.0)
        assert isinstance(reserve(cache, "c", 0.25, cap=1.0), Short)
        settle(cache, first, "a", 0.25)
        assert isinstance(reserve(cache, "c", 0.25, cap=1.0), Granted)
        assert cache.bill().spent == 1.0


def test_what_certainly_cost_nothing_is_given_back_and_what_may_have_cost_is_not(tmp_path: Path) -> None:
    with opened(tmp_path) as cache:
        cache.release(granted(cache, "a"))
        assert cache.bill().spent == 0
        cache.lose(granted(cache, "b"))
        assert (cache.bill().dollars, cache.bill().unsettled) == (0, 0.25)


def test_a_lost_request_may_be_sent_again_and_both_count(tmp_path: Path) -> None:
    with opened(tmp_path) as cache:
        cache.lose(granted(cache, "a"))
        settle(cache, granted(cache, "a"), "a")
        assert cache.bill().spent == 0.375


def test_a_request_that_is_on_its_way_is_not_sent_twice(tmp_path: Path) -> None:
    with opened(tmp_path) as one, opened(tmp_path) as other:
        number = granted(one, "a")
        assert isinstance(reserve(other, "a"), Elsewhere)
        settle(one, number, "a")
        assert reserve(other, "a") == Reply("yes", 10, 2, 0.125, True, True, 0.5)


def test_ledgers_share_replies_and_not_money(tmp_path: Path) -> None:
    with opened(tmp_path, "mine") as mine, opened(tmp_path, "yours") as yours:
        settle(mine, granted(mine, "a"), "a")
        assert "a" in yours.replies(["a"])
        assert yours.bill().spent == 0
        granted(mine, "b", 5.0)
        assert isinstance(reserve(yours, "c", 1.0, cap=1.0), Granted)


def die_after_reserving(path: Path) -> None:
    cache = ReplyCache(path, "mine")
    granted(cache, "a")
    os._exit(9)


@pytest.mark.skipif(os.name != "posix", reason="elsewhere a dead process is known by its timeout alone")
def test_what_a_dead_process_set_aside_counts_and_its_request_may_be_sent_again(tmp_path: Path) -> None:
    process = multiprocessing.get_context("spawn").Process(target=die_after_reserving, args=(tmp_path / "replies.db",))
    process.start()
    process.join()
    assert process.exitcode == 9
    with opened(tmp_path) as cache:
        assert cache.bill().unsettled == 0.25
        assert isinstance(reserve(cache, "a", 0.25, cap=0.25), Short)
        assert isinstance(reserve(cache, "a", 0.25, cap=0.5), Granted)


def test_a_batch_takes_as_much_as_the_cap_allows(tmp_path: Path) -> None:
    prices = [(name, 0.25) for name in "abcde"]
    with opened(tmp_path) as cache:
        assert cache.begin_batch("x", "provider", prices, 0.75, time.time() + SOON) == ["a", "b", "c"]
        assert isinstance(cache.begin_batch("y", "provider", prices[3:], 0.75, time.time() + SOON), Short)
        [batch] = cache.batches("provider")
        assert (batch.id, batch.digests, batch.ours) == (None, frozenset("abc"), False)
        cache.name_batch("x", "server-1")
        cache.end_batch("x", [("a", "model", Reply("yes", 10, 2, 0.125))], "provider")
        assert cache.batches("provider") == []
        assert cache.bill().spent == 0.125


def test_a_batch_that_two_have_waited_for_is_paid_once(tmp_path: Path) -> None:
    with opened(tmp_path) as one, opened(tmp_path, "yours") as other:
        one.begin_batch("x", "provider", [("a", 0.25)], None, time.time() + SOON)
        for cache in (other, one):
            cache.end_batch("x", [("a", "model", Reply("yes", 10, 2, 0.125))], "provider")
        assert (one.bill().requests, one.bill().spent) == (1, 0.125)
        assert other.bill().spent == 0


def test_an_abandoned_batch_belongs_to_whoever_comes_next(tmp_path: Path) -> None:
    with opened(tmp_path) as cache:
        cache.begin_batch("x", "provider", [("a", 0.25)], None, time.time() + SOON)
        cache.abandon_batch("x")
        assert cache.batches("provider")[0].ours


def test_another_program_s_file_is_left_alone(tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "replies.db")) as other:
        other.execute("CREATE TABLE mine (x)")
    with pytest.raises(LLMError, match="another program's file"):
        opened(tmp_path)
    (tmp_path / "text").write_text("no database at all, but long enough to be taken for one" * 100)
    with pytest.raises(LLMError, match="could not be opened: file is not a database"):
        ReplyCache(tmp_path / "text", "mine")


def test_a_newer_file_is_left_alone(tmp_path: Path) -> None:
    opened(tmp_path).close()
    with closing(sqlite3.connect(tmp_path / "replies.db")) as file:
        file.execute("PRAGMA user_version = 99")
    with pytest.raises(LLMError, match="newer version of dal"):
        opened(tmp_path)


def test_a_folder_that_cannot_be_made_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(LLMError, match="could not be opened"):
        ReplyCache(tmp_path / "file" / "replies.db", "mine")
