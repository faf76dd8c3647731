import os
import random
import signal
import sqlite3
import stat
import subprocess
import sys
import threading
import tracemalloc
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from dying import processes, run_until
from hypothesis import given, settings
from hypothesis import strategies as st
from label_store_version_1 import SCHEMA_1

from dal.errors import ConfigError, SessionError
from dal.store import atomic_files as durable
from dal.store import events, log_state, sqlite_files
from dal.store.events import SKIP, Answer
from dal.store.label_store import LabelStore
from dal.store.proposals import Proposal
from dal.store.unread_answers import Unread


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "labels.db"


def test_answers_and_questions_survive_reopening(path: Path) -> None:
    with LabelStore(path) as store:
        store.ask(["a", "b", "c"], scores=[3.0, 2.0, 1.0], strategy="Margin", details={"radius": 0.5})
        store.tell([Answer("b", "spam", who="ada", seconds=2.5), Answer("c", SKIP)])
    with LabelStore(path) as store:
        assert store.answers == {"b": "spam"}
        assert store.pending == ["a"]
        assert store.skipped == {"c"}
        assert store.round == 1
        batch = store.batch(1)
    assert (batch.rows, batch.scores, batch.strategy) == (("a", "b", "c"), (3.0, 2.0, 1.0), "Margin")
    assert batch.details == {"radius": 0.5}


def test_each_answer_carries_where_it_came_from(path: Path) -> None:
    with LabelStore(path) as store:
        store.ask(["a"])
        store.tell([Answer("a", ("x", "y"), who="ada", source="llm", seconds=1.0, cost=0.02, confidence=0.9)])
        *_, event = store.events()
    assert (event.kind, event.round, event.row, event.value) == ("answered", 1, "a", ("x", "y"))
    assert (event.who, event.source, event.seconds, event.cost, event.confidence) == ("ada", "llm", 1.0, 0.02, 0.9)
    assert event.at > 1.7e9


def test_no_label_at_all_is_an_answer_that_survives(path: Path) -> None:
    with LabelStore(path) as store:
        store.ask(["a"])
        store.tell([Answer("a", ())])
    with LabelStore(path) as store:
        assert store.answers == {"a": ()}


def test_undone_row_is_asked_first_again() -> None:
    store = LabelStore()
    store.ask(["a", "b", "c"])
    store.tell([Answer("a", "x"), Answer("b", "y")])
    assert store.undo() == "b"
    assert store.pending == ["b", "c"]
    assert store.undo() == "a"
    assert store.pending == ["a", "b", "c"]
    with pytest.raises(SessionError, match="no answer to undo"):
        store.undo()


def test_undoing_a_correction_restores_the_earlier_answer() -> None:
    store = LabelStore()
    store.ask(["a"])
    store.tell([Answer("a", "x")])
    store.tell([Answer("a", "y")])
    assert store.answers == {"a": "y"}
    store.undo()
    assert store.answers == {"a": "x"}
    assert store.pending == []


def test_row_asked_before_is_refused_and_nothing_is_stored() -> None:
    store = LabelStore()
    store.ask(["a"])
    with pytest.raises(SessionError, match="asked already"):
        store.ask(["b", "a"])
    assert (store.pending, store.round) == (["a"], 1)


def test_token_budget_survives_reopening(path: Path) -> None:
    with LabelStore(path) as store:
        assert store.token_budget is None
        store.record_budget(4096)
        store.record_budget(2048)
    with LabelStore(path) as store:
        assert store.token_budget == 2048


def test_backup_is_a_store_of_its_own(path: Path, tmp_path: Path) -> None:
    with LabelStore(path) as store:
        store.ask(["a", "b"])
        store.tell([Answer("a", "x")])
        store.backup(tmp_path / "copy.db")
        store.tell([Answer("b", "x")])
    with LabelStore(tmp_path / "copy.db") as copy:
        assert (copy.answers, copy.pending) == ({"a": "x"}, ["b"])


def test_file_that_is_no_database_is_refused_by_name(path: Path) -> None:
    path.write_text("these are not the labels you are looking for" * 50)
    with pytest.raises(SessionError, match=r"labels\.db could not be read: file is not a database"):
        LabelStore(path)


def test_database_of_another_program_is_refused(path: Path) -> None:
    other = sqlite3.connect(path)
    other.execute("CREATE TABLE songs (name TEXT)")
    other.commit()
    other.close()
    with pytest.raises(SessionError, match="another program's database"):
        LabelStore(path)


def test_store_of_a_newer_version_is_refused(path: Path) -> None:
    LabelStore(path).close()
    later = sqlite3.connect(path)
    later.execute("PRAGMA user_version = 99")
    later.close()
    with pytest.raises(SessionError, match="newer version"):
        LabelStore(path)


def test_damaged_page_is_reported(path: Path) -> None:
    with LabelStore(path) as store:
        store.ask([f"row {i}" for i in range(5000)])
    content = bytearray(path.read_bytes())
    content[8192:20480] = b"\xff" * 12288
    path.write_bytes(content)
    with pytest.raises(SessionError, match=r"labels\.db"):
        LabelStore(path)


@pytest.mark.usefixtures("write_ahead_log")
def test_file_is_written_ahead_and_synchronised_fully(path: Path) -> None:
    with LabelStore(path) as store:
        connection = store._connection()
        assert connection.execute("PRAGMA journal_mode").fetchone()[0] == "wal"
        assert connection.execute("PRAGMA synchronous").fetchone()[0] == 2


@pytest.mark.parametrize("in_memory", [True, False])
def test_threads_share_one_store(path: Path, in_memory: bool) -> None:
    with LabelStore(None if in_memory else path) as store:
        rows = [f"r{i}" for i in range(64)]
        store.ask(rows)
        threads = [
            threading.Thread(target=lambda part=rows[k::4]: [store.tell([Answer(row, "x")]) for row in part])
            for k in range(4)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert store.answers == dict.fromkeys(rows, "x")
        assert sum(1 for event in store.events() if event.kind == "answered") == 64


def test_closed_store_says_so(path: Path) -> None:
    store = LabelStore(path)
    store.close()
    with pytest.raises(SessionError, match="is closed"):
        store.ask(["a"])


def test_acknowledged_answer_survives_a_kill(path: Path) -> None:
    program = f"""
import sys
from dal.store.events import Answer
from dal.store.label_store import LabelStore
store = LabelStore({str(path)!r})
store.ask([str(i) for i in range(100000)])
for i in range(100000):
    store.tell([Answer(str(i), "x")])
    print(i, flush=True)
"""
    process = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    for line in process.stdout:
        if int(line) == 40:
            os.kill(process.pid, signal.SIGKILL)
            break
    acknowledged = [int(line) for line in process.stdout.read().splitlines() if line.isdigit()]
    process.stdout.close()
    process.wait()
    with LabelStore(path) as store:
        assert len(store.answers) >= max([40, *acknowledged]) + 1
        assert len(store.answers) + len(store.pending) == 100000


class Model:
    """What the store should do, written the obvious way: a list of rounds and a list of standing answers."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.standing: list[tuple[str, object]] = []
        self.retracted: list[str] = []
        self.round = 0

    def current(self) -> dict[str, object]:
        return dict(self.standing)

    def pending(self) -> list[str]:
        first = [row for i, row in enumerate(self.retracted) if row not in self.retracted[i + 1 :]][::-1]
        order = first + [row for row in self.asked if row not in first]
        return [row for row in order if row in self.asked and row not in self.current()]


steps = st.lists(
    st.one_of(
        st.tuples(st.just("ask"), st.integers(1, 4)),
        st.tuples(st.just("tell"), st.integers(0, 3), st.sampled_from(["x", "y", (), ("x", "y")])),
        st.tuples(st.just("skip"), st.integers(0, 3)),
        st.tuples(st.just("correct"), st.integers(0, 9), st.sampled_from(["x", "z"])),
        st.tuples(st.just("undo")),
        st.tuples(st.just("reopen")),
    ),
    max_size=25,
)


@settings(max_examples=80, deadline=None)
@given(steps)
def test_any_sequence_of_calls_leaves_the_state_of_a_simple_model(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple]
) -> None:
    path = tmp_path_factory.mktemp("store") / "labels.db"
    store, model, fresh = LabelStore(path), Model(), 0
    for kind, *values in steps:
        pending = model.pending()
        if kind == "ask":
            rows = [f"r{fresh + i}" for i in range(values[0])]
            fresh += values[0]
            model.round = store.ask(rows)
            model.asked += rows
        elif kind in ("tell", "skip") and pending:
            row, value = pending[values[0] % len(pending)], values[1] if kind == "tell" else SKIP
            store.tell([Answer(row, value)])
            model.standing.append((row, value))
        elif kind == "correct" and fresh:
            row = f"r{values[0] % fresh}"
            store.tell([Answer(row, values[1])])
            model.standing.append((row, values[1]))
        elif kind == "undo" and model.standing:
            row, _ = model.standing.pop()
            assert store.undo() == row
            if row not in model.current():
                model.retracted.append(row)
        elif kind == "reopen":
            store.close()
            store = LabelStore(path)
        assert store.pending == model.pending()
        assert store.answers == {row: value for row, value in model.current().items() if value is not SKIP}
        assert store.skipped == {row for row, value in model.current().items() if value is SKIP}
        assert store.round == model.round
    store.close()


# -- creation ------------------------------------------------------------------------------------------------------


def created_until(path: Path, die_at: int | None, before: bool, count: Any) -> None:
    run_until(lambda: LabelStore(path).close(), die_at, count, before=before)


def in_a_process(*arguments: Any) -> int | None:
    process = processes.Process(target=created_until, args=arguments)
    process.start()
    process.join(60)
    code: int | None = process.exitcode
    process.close()
    return code


@pytest.mark.usefixtures("write_ahead_log")
def test_kill_between_any_two_calls_of_the_creation_leaves_a_whole_store_or_none(tmp_path: Path) -> None:
    count = processes.Value("i", 0)
    assert in_a_process(tmp_path / "labels.db", None, True, count) == 0
    assert count.value > 15
    for die_at in range(1, count.value + 1):
        for before in (True, False):
            folder = tmp_path / f"{die_at}-{before}"
            folder.mkdir()
            in_a_process(folder / "labels.db", die_at, before, None)
            if (folder / "labels.db").exists():
                assert not sqlite_files.read_header(folder / "labels.db").is_empty
            with LabelStore(folder / "labels.db") as store:
                store.ask(["a"])
                store.tell([Answer("a", "x")])
            with LabelStore(folder / "labels.db") as store:
                assert store.answers == {"a": "x"}
            assert os.listdir(folder) == ["labels.db"]


def test_store_is_created_whole_where_the_file_system_has_no_links(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: Any, **options: Any) -> None:
        raise OSError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    LabelStore(path).close()
    assert os.listdir(path.parent) == ["labels.db"]


def test_stores_that_are_created_at_once_are_one(path: Path) -> None:
    stores: list[LabelStore] = []
    threads = [threading.Thread(target=lambda: stores.append(LabelStore(path))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for i, store in enumerate(stores):
        store.ask([f"row {i}"])
    assert len(stores) == 8
    assert max(store.round for store in stores) == 8
    for store in stores:
        store.close()


def test_an_empty_file_is_damage_and_stays(path: Path) -> None:
    path.touch()
    with pytest.raises(SessionError, match=r"labels\.db is damaged \(it is empty.*put a backup in its place"):
        LabelStore(path)
    assert os.listdir(path.parent) == ["labels.db"]
    assert path.stat().st_size == 0


def test_a_database_without_tables_is_damage(path: Path) -> None:
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.close()
    before = path.read_bytes()
    with pytest.raises(SessionError, match="is damaged"):
        LabelStore(path)
    assert path.read_bytes() == before


def test_a_log_without_its_store_is_not_written_over(path: Path) -> None:
    path.with_name("labels.db-wal").write_bytes(b"answers")
    with pytest.raises(SessionError, match=r"labels\.db is missing, and labels\.db-wal next to it holds answers"):
        LabelStore(path)
    assert path.with_name("labels.db-wal").read_bytes() == b"answers"


def test_store_that_never_reached_its_file_is_known_by_its_log(path: Path, tmp_path: Path) -> None:
    """As an earlier version left it, killed in its first second: all in the write-ahead log."""
    copy = tmp_path / "killed"
    copy.mkdir()
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("PRAGMA journal_mode = WAL")
    for statement in ("BEGIN", *SCHEMA_1, "COMMIT"):
        connection.execute(statement)
    connection.execute("INSERT INTO batches VALUES (1, 'Random', '{}')")
    connection.execute("INSERT INTO events (kind, at, round, row) VALUES ('asked', 1.0, 1, 'a')")
    for name in ("labels.db", "labels.db-wal"):
        (copy / name).write_bytes((path.parent / name).read_bytes())
    connection.close()
    assert sqlite_files.read_header(copy / "labels.db").application == 0x64616C31
    with LabelStore(copy / "labels.db") as store:
        assert store.pending == ["a"]


# -- files of others -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["DELETE", "WAL"])
@pytest.mark.parametrize("application", [0, 77])
def test_database_of_another_program_is_byte_identical_after_its_refusal(
    path: Path, mode: str, application: int
) -> None:
    other = sqlite3.connect(path, isolation_level=None)
    other.execute(f"PRAGMA journal_mode = {mode}")
    other.execute(f"PRAGMA application_id = {application}")
    other.execute("CREATE TABLE songs (name TEXT)")
    if mode == "DELETE":
        other.close()
    before = {each.name: each.read_bytes() for each in path.parent.iterdir()}
    with pytest.raises(SessionError, match="another program's database"):
        LabelStore(path)
    assert {each.name: each.read_bytes() for each in path.parent.iterdir()} == before
    other.close()


def test_store_of_a_newer_version_is_byte_identical_after_its_refusal(path: Path) -> None:
    LabelStore(path).close()
    later = sqlite3.connect(path)
    later.execute("PRAGMA user_version = 99")
    later.close()
    before = path.read_bytes()
    with pytest.raises(SessionError, match="newer version"):
        LabelStore(path)
    assert path.read_bytes() == before
    assert os.listdir(path.parent) == ["labels.db"]


@pytest.mark.usefixtures("write_ahead_log")
def test_store_and_its_side_files_are_for_their_owner_alone(path: Path) -> None:
    before = os.umask(0o022)
    try:
        with LabelStore(path) as store:
            store.ask(["a"])
            store.backup(path.with_name("copy.db"))
            names = sorted(os.listdir(path.parent))
            assert names == ["copy.db", "labels.db", "labels.db-shm", "labels.db-wal"]
            assert {stat.S_IMODE((path.parent / name).stat().st_mode) for name in names} == {0o600}
    finally:
        os.umask(before)


def test_store_keeps_the_mode_that_its_group_was_given(path: Path) -> None:
    LabelStore(path).close()
    path.chmod(0o660)
    with LabelStore(path) as store:
        store.ask(["a"])
        assert {stat.S_IMODE(each.stat().st_mode) for each in path.parent.iterdir()} == {0o660}


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("", "not a regular file"),
        ("a\0b", "has no NUL"),
        ("x" * 300, "too long"),
        ("file/labels.db", "Not a directory"),
    ],
)
def test_path_that_is_no_file_is_refused_in_one_line(tmp_path: Path, name: str, reason: str) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(SessionError, match=reason) as error:
        LabelStore(tmp_path / name if name else "")
    assert "\n" not in str(error.value)
    assert os.listdir(tmp_path) == ["file"]


def test_a_pipe_is_refused_without_waiting(path: Path) -> None:
    os.mkfifo(path)
    with pytest.raises(SessionError, match="not a regular file"):
        LabelStore(path)


@pytest.mark.usefixtures("write_ahead_log")
def test_backup_goes_whole_to_another_file_or_nowhere(path: Path) -> None:
    with LabelStore(path) as store:
        store.ask(["a"])
        with pytest.raises(SessionError, match="must go to another file"):
            store.backup(path)
        with pytest.raises(ConfigError, match="is a folder"):
            store.backup(path.parent)
        assert store.pending == ["a"]
        path.with_name("copy.db").write_text("an older backup")
        store.backup(path.with_name("copy.db"))
    with LabelStore(path.with_name("copy.db")) as copy:
        assert copy.pending == ["a"]
    assert sorted(os.listdir(path.parent)) == ["copy.db", "labels.db"]


# -- damage --------------------------------------------------------------------------------------------------------


def filled(path: Path) -> None:
    """A store with the events 1 to 6, a proposal, an answer that could not be read, and a budget."""
    with LabelStore(path) as store:
        store.ask(["a", "b"], details={"why": "to begin"})
        store.tell([Answer("a", "x"), Answer("b", ("x", "y"))])
        store.ask(["c"])
        store.tell([Answer("c", SKIP)])
        store.propose([Proposal("a", "x")])
        store.keep_unread([Unread("a", "hm")])
        store.record_budget(512)


def damage(path: Path, statement: str) -> None:
    """Change what a label store would not: without any of its checks."""
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("PRAGMA writable_schema = ON")
    for part in ("NOT NULL", ") STRICT"):
        to = ")" if part == ") STRICT" else ""
        connection.execute("UPDATE sqlite_master SET sql = replace(sql, ?, ?) WHERE type = 'table'", (part, to))
    connection.close()
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute(statement)
    connection.close()


@pytest.mark.parametrize(
    ("statement", "where"),
    [
        ("UPDATE events SET value = '{bad' WHERE event = 3", "event 3: its value '{bad' cannot be read"),
        ("UPDATE events SET value = '7' WHERE event = 3", "event 3: its value '7' is neither a class nor a list"),
        ("UPDATE events SET value = '[\"x\", 1]' WHERE event = 4", "event 4: its value"),
        ("UPDATE events SET value = NULL WHERE event = 3", "event 3: its value is None"),
        ("UPDATE events SET value = x'ff00' WHERE event = 3", "event 3: its value is b"),
        (f"UPDATE events SET value = '{'[' * 200_000}' WHERE event = 3", "event 3: .* nested deeper"),
        ("UPDATE events SET value = CAST(x'22ff22' AS TEXT) WHERE event = 3", "line 3 of events .* not UTF-8"),
        ("UPDATE events SET kind = 'sung' WHERE event = 2", "event 2: its kind is 'sung'"),
        ("UPDATE events SET kind = NULL WHERE event = 2", "event 2: its kind is None"),
        ("UPDATE events SET row = NULL WHERE event = 1", "event 1: its row is None"),
        ("UPDATE events SET row = x'05' WHERE event = 1", "event 1: its row is"),
        ("UPDATE events SET at = 'noon' WHERE event = 1", "event 1: its time is 'noon'"),
        ("UPDATE events SET round = -1 WHERE event = 3", "event 3: its round is -1"),
        ("UPDATE events SET round = 0 WHERE event = 1", "event 1: its round is 0"),
        ("UPDATE events SET round = 9 WHERE event = 5", "event 5: its round is 9, and 1 were asked before"),
        ("UPDATE events SET round = 9 WHERE event = 6", "event 6: its round is 9"),
        ("UPDATE events SET round = NULL WHERE event = 6", "event 6: its round is None"),
        ("UPDATE events SET round = 'one' WHERE event = 6", "event 6: its round is 'one'"),
        ("UPDATE events SET cost = 'much' WHERE event = 3", "event 3: its cost is 'much'"),
        ("UPDATE events SET confidence = x'00' WHERE event = 3", "event 3: its confidence is"),
        ("UPDATE events SET who = x'05' WHERE event = 3", "event 3: its who is"),
        ("UPDATE events SET kind = 'retracted', retracts = 1 WHERE event = 6", "event 6: it retracts"),
        ("UPDATE events SET kind = 'retracted' WHERE event = 6", "event 6: its retracts is None"),
        (
            "UPDATE events SET kind = 'retracted', retracts = 3 WHERE event = 2",
            "event 2: it retracts event 3",
        ),
        ("DELETE FROM events WHERE event = 4", "event 4 is missing, the next is 5"),
        ("UPDATE events SET event = -1 WHERE event = 1", "events begin with number -1"),
        ("UPDATE proposals SET value = '{'", "line of proposals 1: its value"),
        ("UPDATE proposals SET weight = 7", "line of proposals 1: its weight is 7"),
        ("UPDATE proposals SET weight = NULL", "line of proposals 1: its weight is None"),
        ("UPDATE proposals SET who = NULL", "line of proposals 1: its who is None"),
        ("UPDATE unread SET text = NULL", "line of unread 1: its text is None"),
        ("UPDATE unread SET cost = 'x'", "line of unread 1: its cost is 'x'"),
        ("UPDATE budgets SET tokens = -1", "budget 1 is -1"),
        ("UPDATE budgets SET tokens = NULL", "budget 1 is None"),
        ("DROP TABLE events", "no such table"),
        ("ALTER TABLE events RENAME COLUMN who TO whom", "no such column"),
    ],
)
def test_damage_is_told_in_one_line_that_names_the_event(path: Path, statement: str, where: str) -> None:
    filled(path)
    damage(path, statement)
    with pytest.raises(SessionError, match=where) as error:
        LabelStore(path)
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 500


@pytest.mark.parametrize(
    ("statement", "where"),
    [
        ("UPDATE batches SET details = '{' WHERE round = 1", "details of round 1"),
        ("UPDATE batches SET details = '[]' WHERE round = 1", "details of round 1"),
        ("UPDATE batches SET details = NULL WHERE round = 1", "details of round 1"),
        ("UPDATE batches SET strategy = x'05' WHERE round = 1", "details of round 1"),
        ("DELETE FROM batches WHERE round = 1", "no round 1"),
    ],
)
def test_damage_of_a_batch_is_told_by_its_round(path: Path, statement: str, where: str) -> None:
    filled(path)
    damage(path, statement)
    with LabelStore(path) as store, pytest.raises(SessionError, match=where):
        store.batch(1)


def test_any_bytes_that_are_changed_or_cut_off_are_a_one_line_error_or_change_nothing(path: Path) -> None:
    filled(path)
    whole, point, said = path.read_bytes(), random.Random(0), list[str]()
    for trial in range(150):
        content = bytearray(whole)
        if trial % 3 == 0:
            del content[point.randrange(len(content)) :]
        else:
            at = point.randrange(len(content))
            content[at : at + point.choice([1, 8, 4096])] = point.randbytes(point.choice([1, 8, 4096]))
        for name in ("labels.db", "labels.db-wal", "labels.db-shm"):
            path.with_name(name).unlink(missing_ok=True)
        path.write_bytes(content)
        try:
            with LabelStore(path) as store:
                list(store.events())
                store.batch(1)
        except SessionError as error:
            said.append(str(error))
    assert len(said) > 30
    assert not any("\n" in each for each in said)


# -- several stores on one file ------------------------------------------------------------------------------------


def test_two_stores_on_a_file_ask_no_row_twice_and_undo_what_stands(path: Path) -> None:
    with LabelStore(path) as one, LabelStore(path) as other:
        one.ask(["a", "b"])
        with pytest.raises(SessionError, match="asked already: \\['a'\\]"):
            other.ask(["a"])
        assert other.ask(["c"]) == 2
        one.tell([Answer("a", "x")])
        other.tell([Answer("b", "y")])
        assert one.undo() == "b"
        assert other.undo() == "a"
        with pytest.raises(SessionError, match="no answer to undo"):
            one.undo()
        assert one.pending == ["a", "b", "c"]


def test_calls_within_a_change_are_stored_together_or_not_at_all(path: Path) -> None:
    with LabelStore(path) as store:
        store.ask(["a", "b"])
        with store.changing():
            store.tell([Answer("a", "x")])
            store.tell([Answer("b", "y")])
            assert store.written == (2, 0)  # what a session follows is what was committed
        assert store.answers == {"a": "x", "b": "y"}
        with suppress(RuntimeError), store.changing():
            store.undo()
            raise RuntimeError
        assert store.answers == {"a": "x", "b": "y"}
    with LabelStore(path) as store:
        assert len(list(store.events())) == 4


def test_text_that_cannot_be_stored_is_told_and_nothing_is(path: Path) -> None:
    with LabelStore(path) as store:
        store.ask(["a"])
        with pytest.raises(SessionError, match=r"nothing of this call was stored: '\\udcff' is not text"):
            store.tell([Answer("a", "x", who="\udcff")])
        assert store.pending == ["a"]


# -- how much is read ----------------------------------------------------------------------------------------------


def test_each_event_is_read_once_and_its_work_is_counted(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []
    read = events.read
    monkeypatch.setattr(events, "read", lambda line: (seen.append(line[0]), read(line))[1])
    with LabelStore(path) as store:
        for batch in range(5):
            store.ask([f"{batch}-{i}" for i in range(20)])
            store.tell([Answer(f"{batch}-{i}", "x", cost=0.5, seconds=2.0, source="llm") for i in range(20)])
            assert store.answered == 20 * (batch + 1)
            assert store.work.done == {("llm", 0.5, 2.0): 20 * (batch + 1)}
        # For the states in the table, where the row has a new event.
        assert Counter(seen) == {number: 2 if (number - 1) % 40 < 20 else 1 for number in range(1, 201)}
        assert [event.event for event in store.events(after=198)] == [199, 200]


def test_opening_makes_no_object_for_an_answer(path: Path) -> None:
    rows = [f"row {i}" for i in range(20_000)]
    with LabelStore(path) as store:
        store.ask(rows)
        store.tell([Answer(row, ("x", "y")[i % 2], "ada", seconds=i / 8) for i, row in enumerate(rows)])
        store.propose([Proposal(row, "x") for row in rows[:2_000]])
    LabelStore(path).close()  # what is kept once for all stores
    tracemalloc.start()
    try:
        with LabelStore(path) as store:
            kept, peak = tracemalloc.get_traced_memory()
            assert (store.round, store.answered, store.written) == (1, 20_000, (40_000, 2_000))
            assert sum(len(page) for _, page in store.rows_by_answer()) == 20_000
            assert store.last_given == ("row 19999", None)
            read = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    assert kept < 50_000
    assert read < 200_000  # 10 bytes an answer: an object has five times as much
    assert peak < 400_000


def test_lines_that_no_store_wrote_are_found_in_a_strict_table_too(path: Path) -> None:
    filled(path)
    statements = (
        "UPDATE events SET round = 3 WHERE event = 6",
        "UPDATE events SET kind = 'sung' WHERE event = 6",
        "UPDATE events SET wanted = 0 WHERE event = 5",
        "UPDATE events SET value = NULL WHERE event = 3",
        "INSERT INTO events (kind, at, round, row, retracts) VALUES ('retracted', 1.0, 2, 'b', 3)",
        "INSERT INTO events (kind, at, round, row, retracts) VALUES ('retracted', 1.0, 2, 'a', 1)",
        "INSERT INTO events (event, kind, at, round, row) VALUES (9, 'skipped', 1.0, 2, 'a')",
        "UPDATE proposals SET value = '7'",
    )
    whole = path.read_bytes()
    for statement in statements:
        path.write_bytes(whole)
        with sqlite3.connect(path) as connection:
            connection.execute(statement)
        connection.close()
        with pytest.raises(SessionError, match=r"is damaged \((event|line)"):
            LabelStore(path)


@pytest.mark.usefixtures("write_ahead_log")
def test_readings_at_once_are_of_one_moment(path: Path) -> None:
    with LabelStore(path) as one, LabelStore(path) as other:
        one.ask(["a", "b"])
        with one.at_once():
            other.tell([Answer("a", "x")])
            assert (one.pending, one.answers, one.answered, one.written) == (["a", "b"], {}, 0, (2, 0))
        assert (one.pending, one.answers, one.answered) == (["b"], {"a": "x"}, 1)
        with one.at_once():
            assert one.written == (3, 0)


def test_work_is_that_of_all_events_whatever_was_retracted(path: Path) -> None:
    point = random.Random(1)
    with LabelStore(path) as store:
        for _ in range(30):
            row = f"r{point.randrange(8)}"
            if point.random() < 0.3 and store.last_given:
                store.undo()
            else:
                value = SKIP if point.random() < 0.2 else "x"
                store.tell([Answer(row, value, "ada", point.choice(["llm", "person"]), 1.0, point.choice([None, 0.5]))])
            again, log = log_state.work(store.events()), list(store.events())
            assert (again.done, again.paid, +again.current) == (store.work.done, store.work.paid, +store.work.current)
            stand = log_state.current_answers(log).values()
            assert store.answered == sum(event.kind == "answered" for event in stand)


def test_what_stood_before_the_batch_is_what_the_earlier_events_say(path: Path) -> None:
    point = random.Random(2)
    with LabelStore(path) as store:
        for step in range(60):
            if step % 12 == 0:
                store.ask([f"new {step}", f"more {step}"])
            elif point.random() < 0.3 and store.last_given:
                store.undo()
            else:
                store.tell([Answer(f"r{point.randrange(6)}", point.choice(["x", "y"]))])
            before = log_state.current_answers(event for event in store.events() if event.round < store.round)
            assert list(store.answers_before_batch.items()) == list(before.items())


def test_names_of_an_earlier_version_are_read_in_the_form_of_today(path: Path) -> None:
    with LabelStore(path) as store:
        store.tell([Answer("a", "cafe\u0301"), Answer("b", ("cafe\u0301", "x"))])
    with LabelStore(path) as store:
        assert store.answers == {"a": "caf\u00e9", "b": ("caf\u00e9", "x")}


def test_process_that_is_gone_is_known_as_such() -> None:
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    assert not durable.is_alive(gone.pid)
    assert durable.is_alive(os.getpid())


def test_a_folder_named_like_an_address_is_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    folder = Path("file:elsewhere")
    folder.mkdir()
    with LabelStore(folder / "labels.db") as store:
        store.ask(["a"])
    with LabelStore(folder / "labels.db") as store:
        assert store.pending == ["a"]
    assert (tmp_path / folder / "labels.db").is_file()
