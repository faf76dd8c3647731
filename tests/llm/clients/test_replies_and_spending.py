"""The cache of replies and its ledger: what is on disk, who may send what, and whose money it is."""

import multiprocessing
import os
import random
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

import pytest

from dal.errors import ConfigError, DalError, LLMError
from dal.llm import OpenAIClient, Request
from dal.llm.clients.client import Reply
from dal.llm.clients.replies_and_spending import BudgetExceeded, ReplyCache, RequestedElsewhere, Reservation

SOON = 60.0


def opened(folder: Path, ledger: str = "mine") -> ReplyCache:
    return ReplyCache(folder / "replies.db", ledger)


def reserve(cache: ReplyCache, digest: str, dollars: float = 0.25, cap: float | None = None) -> object:
    return cache.reserve(digest, dollars, cap, time.time() + SOON)


def granted(cache: ReplyCache, digest: str, dollars: float = 0.25, cap: float | None = None) -> int:
    leave = reserve(cache, digest, dollars, cap)
    assert isinstance(leave, Reservation)
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
        assert isinstance(reserve(cache, "c", 0.25, cap=1.0), BudgetExceeded)
        settle(cache, first, "a", 0.25)
        assert isinstance(reserve(cache, "c", 0.25, cap=1.0), Reservation)
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
        assert isinstance(reserve(other, "a"), RequestedElsewhere)
        settle(one, number, "a")
        assert reserve(other, "a") == Reply("yes", 10, 2, 0.125, True, True, 0.5)


def test_ledgers_share_replies_and_not_money(tmp_path: Path) -> None:
    with opened(tmp_path, "mine") as mine, opened(tmp_path, "yours") as yours:
        settle(mine, granted(mine, "a"), "a")
        assert "a" in yours.replies(["a"])
        assert yours.bill().spent == 0
        granted(mine, "b", 5.0)
        assert isinstance(reserve(yours, "c", 1.0, cap=1.0), Reservation)


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
        assert isinstance(reserve(cache, "a", 0.25, cap=0.25), BudgetExceeded)
        assert isinstance(reserve(cache, "a", 0.25, cap=0.5), Reservation)


def test_a_batch_takes_as_much_as_the_cap_allows(tmp_path: Path) -> None:
    prices = [(name, 0.25) for name in "abcde"]
    with opened(tmp_path) as cache:
        assert cache.begin_batch("x", "provider", prices, 0.75, time.time() + SOON) == ["a", "b", "c"]
        assert isinstance(cache.begin_batch("y", "provider", prices[3:], 0.75, time.time() + SOON), BudgetExceeded)
        [batch] = cache.batches("provider")
        assert (batch.id, batch.digests, batch.may_handle) == (None, frozenset("abc"), False)
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
        assert cache.batches("provider")[0].may_handle


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


def test_a_new_file_is_private_and_whole(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        with opened(tmp_path / "new" / "folder") as cache:
            settle(cache, granted(cache, "a"), "a")
            found = {path.name: path.stat().st_mode & 0o777 for path in (tmp_path / "new" / "folder").iterdir()}
    finally:
        os.umask(before)
    assert found == {"replies.db": 0o600, "replies.db-wal": 0o600, "replies.db-shm": 0o600}


def test_a_file_keeps_its_mode(tmp_path: Path) -> None:
    opened(tmp_path).close()
    (tmp_path / "replies.db").chmod(0o640)
    opened(tmp_path).close()
    assert (tmp_path / "replies.db").stat().st_mode & 0o777 == 0o640


@pytest.mark.parametrize("moment", ["sqlite3.connect", "synchronise", "os.link"])
def test_a_file_whose_making_is_interrupted_is_not_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    def interrupt(*arguments: object, **options: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(f"dal.store.sqlite_files.{moment}", interrupt)
        with pytest.raises(KeyboardInterrupt):
            opened(tmp_path)
    assert list(tmp_path.iterdir()) == []
    opened(tmp_path).close()


def test_a_file_system_without_hard_links_will_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*paths: object) -> None:
        raise PermissionError

    monkeypatch.setattr("dal.store.sqlite_files.os.link", refuse)
    with opened(tmp_path) as cache:
        granted(cache, "a")
    assert [path.name for path in tmp_path.iterdir()] == ["replies.db"]


def test_a_file_that_another_process_made_first_is_kept(tmp_path: Path) -> None:
    from dal.store.sqlite_files import create

    with opened(tmp_path) as cache:
        settle(cache, granted(cache, "a"), "a")
        create(tmp_path / "replies.db", "CREATE TABLE other (x);", application=1, version=1)
        assert "a" in cache.replies(["a"])
    with opened(tmp_path) as cache:
        assert "a" in cache.replies(["a"])
    assert [path.name for path in tmp_path.iterdir()] == ["replies.db"]


def test_a_link_leads_to_the_file(tmp_path: Path) -> None:
    (tmp_path / "far").mkdir()
    (tmp_path / "replies.db").symlink_to(tmp_path / "far" / "own.db")
    with opened(tmp_path) as cache:
        settle(cache, granted(cache, "a"), "a")
    assert (tmp_path / "replies.db").is_symlink()
    with ReplyCache(tmp_path / "far" / "own.db", "mine") as cache:
        assert "a" in cache.replies(["a"])


@pytest.mark.parametrize("mode", ["delete", "wal"])
def test_another_program_s_file_stays_what_it_was_to_the_byte(tmp_path: Path, mode: str) -> None:
    path = tmp_path / "replies.db"
    with closing(sqlite3.connect(path)) as other:
        other.execute(f"PRAGMA journal_mode = {mode}")
        other.execute("CREATE TABLE replies (x)")
        other.commit()
    before, files = path.read_bytes(), set(tmp_path.iterdir())
    with pytest.raises(LLMError, match="another program's file"):
        opened(tmp_path)
    assert (path.read_bytes(), set(tmp_path.iterdir())) == (before, files)


@pytest.mark.parametrize("content", [b"", b"\0", b"SQLite format 3\0", b"SQLite format 3\0" + b"\0" * 200, b"x" * 5000])
def test_an_empty_or_broken_file_is_refused_in_one_line_and_left_alone(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "replies.db").write_bytes(content)
    with pytest.raises(LLMError) as caught:
        opened(tmp_path)
    assert "\n" not in str(caught.value)
    assert (tmp_path / "replies.db").read_bytes() == content
    assert [path.name for path in tmp_path.iterdir()] == ["replies.db"]


def test_a_file_that_is_damaged_anywhere_is_one_line_or_gives_what_was_stored(tmp_path: Path) -> None:
    with opened(tmp_path) as cache:
        for n in range(40):
            settle(cache, granted(cache, f"{n:064}"), f"{n:064}")
    path, names = tmp_path / "replies.db", [f"{n:064}" for n in range(40)]
    whole = path.read_bytes()
    drawn = random.Random(0)
    damaged = [whole[: len(whole) * part // 12] for part in range(12)]
    for _ in range(300):
        copy = bytearray(whole)
        for _ in range(drawn.randint(1, 20)):
            copy[drawn.randrange(len(copy))] = drawn.randrange(256)
        damaged.append(bytes(copy))
    said = []
    for content in damaged:
        for other in tmp_path.iterdir():
            other.unlink()
        path.write_bytes(content)
        with suppress(LLMError), noting(said), opened(tmp_path) as cache:
            cache.replies(names)
            cache.bill()
            cache.batches("provider")
            reserve(cache, "new", cap=1.0)
    assert len(said) > 20
    assert all("replies.db" in line and "\n" not in line for line in said)


@contextmanager
def noting(said: list[str]) -> Iterator[None]:
    """Note what an error says on its way."""
    try:
        yield
    except Exception as error:
        said.append(str(error))
        raise


@pytest.mark.parametrize("name", ["", ".", "folder", "file/replies.db", "no\0where", "x" * 300, "\ud800" * 300, "pipe"])
def test_a_path_that_can_be_no_file_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_text("")
    os.mkfifo(tmp_path / "pipe")
    before = sorted(path.name for path in tmp_path.iterdir())
    client = OpenAIClient("small", base_url="http://127.0.0.1:9/v1", cache=name)
    for ask in (client.bill, lambda: client.price([Request("a")]), lambda: client.complete([Request("a")])):
        said: list[str] = []
        with suppress(DalError), noting(said):
            ask()
        assert all("\n" not in line and len(line) < 400 for line in said)
    with pytest.raises(DalError):
        client.complete([Request("a")])
    assert sorted(path.name for path in tmp_path.iterdir()) == before


def test_the_home_of_nobody_is_one_line_and_that_of_the_user_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert OpenAIClient("small", cache="~/own.db").file() == tmp_path / "own.db"
    with pytest.raises(ConfigError, match="the home directory is unknown"):
        OpenAIClient("small", cache="~nobody-by-that-name/own.db").file()


def test_a_name_that_means_memory_to_sqlite_is_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with ReplyCache(Path(":memory:"), "mine") as cache:
        settle(cache, granted(cache, "a"), "a")
    with ReplyCache(Path(":memory:"), "mine") as cache:
        assert "a" in cache.replies(["a"])


def test_a_reply_is_looked_up_and_never_read_with_all_others(tmp_path: Path) -> None:
    """The work of a request does not grow with what the file holds."""
    with opened(tmp_path) as cache:
        seen: list[str] = []
        cache._db.set_trace_callback(seen.append)  # type: ignore[union-attr]
        settle(cache, granted(cache, "a"), "a")
        for statement in [each for each in seen if each.startswith(("SELECT", "UPDATE", "DELETE"))]:
            plan = " ".join(row[3] for row in cache._run("EXPLAIN QUERY PLAN " + statement).fetchall())
            assert "SCAN" not in plan.replace("SCAN CONSTANT ROW", "")


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="where a process that has ended cannot be told apart")
def test_a_request_of_a_process_that_has_ended_is_not_awaited_before_its_parent_has_asked(tmp_path):
    ended = subprocess.Popen([sys.executable, "-c", "pass"])
    while b") Z " not in Path(f"/proc/{ended.pid}/stat").read_bytes():
        time.sleep(0.01)
    with ReplyCache(tmp_path / "replies.db", "default") as cache:
        granted = cache.reserve("a digest", 0.5, None, time.time() + 600)
        assert isinstance(cache.reserve("a digest", 0.5, None, time.time() + 600), RequestedElsewhere)
        with closing(sqlite3.connect(tmp_path / "replies.db")) as other, other:
            other.execute("UPDATE reservations SET process = ? WHERE number = ?", (ended.pid, granted.number))
        assert isinstance(cache.reserve("a digest", 0.5, None, time.time() + 600), Reservation)
    ended.wait()


@pytest.mark.parametrize(("kept", "words"), [(0, "it is empty"), (50, "ends after 50 bytes"), (104, "ends after 104")])
def test_a_file_that_was_cut_is_left_as_it_is(tmp_path, kept, words):
    path = tmp_path / "replies.db"
    ReplyCache(path, "default").close()
    content = path.read_bytes()[:kept]
    path.write_bytes(content)
    with pytest.raises(
        LLMError, match=f"could not be opened: .*{words}.*; move it away, or name another with"
    ) as caught:
        ReplyCache(path, "default")
    assert "\n" not in str(caught.value)
    assert path.read_bytes() == content
    assert [each.name for each in tmp_path.iterdir()] == ["replies.db"]
