import os
import signal
import sqlite3
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dal.errors import SessionError
from dal.events import SKIP, Answer
from dal.labels import LabelStore


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
from dal.events import Answer
from dal.labels import LabelStore
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
