"""The log as people work on it: what stands is one line, and it equals a replay of all events."""

import json
import os
import random
import sqlite3
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from label_store_version_1 import write_version_1
from reference.log_replay import compare_with_replay

from dal.errors import AnswerError, SessionError
from dal.store.events import SKIP, Answer
from dal.store.label_database import BACKUP_OF_1
from dal.store.label_log import IMPORTED, ConflictError, LabelLog
from dal.store.label_store import LabelStore
from dal.store.log_figures import free_rows, work_of
from dal.store.row_state import RowState


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "labels.db"


def test_state_of_each_row_equals_a_replay_of_its_events_and_of_all_events(path: Path) -> None:
    """Random questions, answers, corrections, undos, deferrals, retirements and changes of classes by three people."""
    kinds = set()
    for seed in range(12):
        point, file = random.Random(seed), path.with_name(f"{seed}.db")
        with LabelLog(file) as log:
            for name in ("x", "y", "z"):
                log.change_classes({"do": "add", "name": name})
            for step in range(60):
                _random_step(log, point, step)
                compare_with_replay(log)
            kinds |= {event.kind for event in LabelStore(file, access="copy").events()}
    assert kinds == {
        "asked",
        "answered",
        "skipped",
        "retracted",
        "withdrawn",
        "deferred",
        "noted",
        "class",
        "retired",
    }


def test_rows_with_one_answer_are_restated_by_sql_as_by_a_replay(path: Path) -> None:
    """Classes that are retired, merged and restored while names move from class to class, on many rows."""
    for seed in range(4):
        point, file = random.Random(seed), path.with_name(f"{seed}.db")
        with LabelLog(file) as log:
            log.tell([Answer("r1", "x", "eve"), Answer("r2", ("x", "y"), "eve")])  # before there is a class
            for name in ("x", "y", "z"):
                log.change_classes({"do": "add", "name": name})
            for step in range(70):
                if step % 7 < 5:
                    for part in range(3):
                        _random_step(log, point, 10 * step + part, n=40, alone=0.8)
                else:
                    _random_change_of_classes(log, point)
                    compare_with_replay(log)


def _random_change_of_classes(log: LabelLog, point: random.Random) -> None:
    active = log.classes.active
    gone = [entry for entry in log.classes.entries.values() if not entry.is_active]
    change: dict[str, object] = {"do": "retire", "id": point.choice(active).id}
    choice = point.random()
    if len(active) < 2 or (gone and choice < 0.4):
        change = {"do": "restore", "id": point.choice(gone).id}
    elif choice < 0.55:
        change = dict(zip(("id", "into"), point.sample([entry.id for entry in active], 2), strict=True))
        change["do"] = "merge"
    elif choice < 0.7:  # the name of a class that is no longer in use
        change = {"do": "rename", "id": point.choice(active).id, "name": point.choice(["x", "y", "z", "w"])}
    elif choice < 0.75:
        change = {"do": "add", "name": point.choice(["x", "y", "z", "w"])}
    try:
        log.change_classes(change)
    except AnswerError as error:
        if not any(reason in str(error) for reason in ("already", "depends")):
            raise


def _random_step(log: LabelLog, point: random.Random, step: int, n: int = 9, alone: float = 1 / 3) -> None:
    rows = [f"r{i}" for i in range(n)]
    row, who, key = point.choice(rows), point.choice(["ada", "ben", "cai"]), f"k{step}"
    choice = point.random()
    active = log.classes.active
    try:
        if choice < 0.12:
            some = point.sample(rows, 4)
            people = {each: 1 if point.random() < alone else point.choice([2, 3]) for each in some}
            log.rank(some, strategy="S", wanted=people)
        elif choice < 0.55:
            stands = log.answers_by(row).get(who)
            value = SKIP if point.random() < 0.15 else point.choice(active).name
            if point.random() < 0.2:  # as answers of several people come from other programs
                log.tell([Answer(row, value, who, key=key, wanted=point.choice([None, 2, 3]))])
            else:
                log.answer(row, value, who=who, key=key, replaces=stands.event if stands else None)
        elif choice < 0.62:
            log.adjudicate(row, point.choice(active).name, who=who, key=key)
        elif choice < 0.72:
            log.undo_of(who, key=key)
        elif choice < 0.78:
            log.defer(row, who=who, key=key)
        elif choice < 0.81:
            log.note(row, "look", who=who, key=key)
        elif choice < 0.85:
            log.retire([row], who=who)
        elif choice < 0.89:
            log.restore([row], who=who)
        elif choice < 0.92 and len(active) > 2:
            one, other = point.sample(active, 2)
            log.change_classes({"do": "merge", "id": one.id, "into": other.id})
        elif choice < 0.94 and len(active) > 2:
            log.change_classes({"do": "retire", "id": point.choice(active).id})
        elif choice < 0.97:
            gone = [entry for entry in log.classes.entries.values() if not entry.is_active]
            if gone:
                log.change_classes({"do": "restore", "id": point.choice(gone).id})
        else:
            log.change_classes({"do": "rename", "id": point.choice(active).id, "name": f"n{step}"})
    except AnswerError as error:  # such as an answer to a retired row
        if not any(reason in str(error) for reason in ("taken out", "depends", "restore it first")):
            raise


# -- several people ------------------------------------------------------------------------------------------------


def test_no_row_is_leased_to_two_people_unless_two_are_wanted() -> None:
    log = LabelLog(None)
    log.ask(["a", "b", "c"], wanted={"b": 2})
    assert log.claim("ada", 2, at=0.0) == ["a", "b"]
    assert log.claim("ben", 3, at=1.0) == ["b", "c"]
    assert log.claim("cai", 3, at=2.0) == []
    assert log.readers(at=2.0) == {"a": ["ada"], "b": ["ada", "ben"], "c": ["ben"]}
    assert log.claim("cai", 3, at=1e6) == ["a", "b", "c"]  # the leases have expired


def test_a_row_is_never_given_again_to_a_person_who_answered_it() -> None:
    log = LabelLog(None)
    log.ask(["a"], wanted={"a": 2})
    log.answer("a", "x", who="ada", key="1", replaces=None)
    assert log.claim("ada", 1) == []
    assert log.claim("ben", 1) == ["a"]
    log.answer("a", "y", who="ben", key="2", replaces=None)
    assert log.row("a").state == "disputed"
    assert (log.disputes(), log.row("a").answer) == (["a"], None)
    log.adjudicate("a", "y", who="eve", key="3")
    assert log.row("a").state == "answered"
    assert {who: event.value for who, event in log.answers_by("a").items()} == {"ada": "x", "ben": "y", "eve": "y"}


def test_claims_are_those_of_a_search_through_all_pending_rows(path: Path) -> None:
    """A log remembers where the questions begin that a person has not answered; a second one has not seen them."""
    for seed in range(6):
        point, file = random.Random(seed), path.with_name(f"{seed}.db")
        with LabelLog(file) as log, LabelLog(file) as other:
            for name in ("x", "y", "z"):
                log.change_classes({"do": "add", "name": name})
            for step in range(120):
                _random_step(log if point.random() < 0.9 else other, point, step, n=25, alone=0.2)
                who, now = point.choice(["ada", "ben", "cai"]), 1e9 + step * point.choice([1.0, 400.0])
                with LabelLog(file) as fresh:
                    expected = free_rows(fresh, who, now, 5)
                assert free_rows(log, who, now, 5) == expected
                if step % 3 == 0:
                    with LabelLog(file, access="copy") as fresh:
                        rows = fresh.claim(who, 3, at=now)
                    assert log.claim(who, 3, at=now) == rows


def test_processes_and_threads_that_claim_at_once_get_each_row_once(path: Path) -> None:
    with LabelLog(path) as log:
        log.ask([f"r{i}" for i in range(120)])
    code = (
        "import sys; from dal.store.label_log import LabelLog\n"
        "log = LabelLog(sys.argv[1])\n"
        "for i in range(10): print(*log.claim(f'{sys.argv[2]}-{i}', 2))"
    )
    children = [
        subprocess.Popen([sys.executable, "-c", code, str(path), name], stdout=subprocess.PIPE, text=True)
        for name in ("p", "q")
    ]
    mine: list[list[str]] = []
    with LabelLog(path) as log:
        threads = [
            threading.Thread(target=lambda i=i: mine.extend(log.claim(f"t{i}-{n}", 2) for n in range(10)))
            for i in range(4)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    theirs = [line.split() for child in children for line in child.communicate()[0].splitlines()]
    rows = [row for each in (*mine, *theirs) for row in each]
    assert sorted(rows) == sorted(f"r{i}" for i in range(120))


def test_repeated_key_stores_one_answer_also_after_a_restart(path: Path) -> None:
    with LabelLog(path) as log:
        log.ask(["a"])
        first = log.answer("a", "x", who="ada", key="k", replaces=None, seconds=2.5, seen={"model": True})
    with LabelLog(path) as log:
        assert log.answer("a", "y", who="ada", key="k", replaces=None) == first
        assert log.last_event == 2
        assert json.loads(first.seen or "") == {"model": True}


def test_answer_that_replaces_another_one_than_the_person_knew_is_refused() -> None:
    """As by two tabs of one person."""
    log = LabelLog(None)
    log.ask(["a"])
    first = log.answer("a", "x", who="ada", key="1", replaces=None)
    with pytest.raises(ConflictError) as raised:
        log.answer("a", "y", who="ada", key="2", replaces=None)
    assert raised.value.stands == first
    assert log.answer("a", "y", who="ada", key="3", replaces=first.event).value == "y"


def test_undo_takes_back_any_number_of_steps_of_ones_own_and_puts_the_row_first(path: Path) -> None:
    with LabelLog(path) as log:
        log.ask(["a", "b", "c", "d"])
        log.answer("a", "x", who="ada", key="1", replaces=None)
        log.answer("d", "x", who="ben", key="2", replaces=None)
        log.answer("b", SKIP, who="ada", key="3", replaces=None)
        log.defer("c", who="ada", key="4")
    with LabelLog(path) as log:
        undone = [log.undo_of("ada", key=f"u{i}") for i in range(4)]
        assert [event and (event.kind, event.row) for event in undone] == [
            ("deferred", "c"),
            ("skipped", "b"),
            ("answered", "a"),
            None,
        ]
        assert log.claim("ada", 4) == ["a", "b", "c"]
        assert log.undo_of("ada", key="u0") == undone[0]  # the repeated request
        assert log.answers_by("d")["ben"].value == "x"


def test_imported_answers_are_not_undone_by_the_person_who_imported_them() -> None:
    log = LabelLog(None)
    log.tell([Answer("a", "x", "ada", IMPORTED)])
    assert log.undo_of("ada", key="u") is None
    assert log.row("a").state == "answered"


def test_ranking_replaces_what_nobody_claimed_answered_or_deferred() -> None:
    log = LabelLog(None)
    log.ask(["a", "b", "c", "d", "e"], wanted={"d": 2})
    log.claim("ada", 1)
    log.answer("d", "x", who="ben", key="1", replaces=None)
    log.defer("e", who="ben", key="2")
    assert log.rank(["f", "d", "a", "b"], scores=[4.0, 3.0, 2.0, 1.0], strategy="Margin", details={"reason": "r"}) == (
        2,
        2,
    )
    assert log.queue() == ["a", "d", "f", "b", "e"]
    assert (log.row("c"), log.round) == (RowState(), 2)
    assert log.batch_details(2) == ("Margin", {"reason": "r"})
    assert log.rank(["a"]) == (0, 2)  # nothing new: no batch
    assert log.round == 2


def test_deferred_row_comes_last_and_an_undone_one_first() -> None:
    log = LabelLog(None)
    log.ask(["a", "b", "c"])
    log.defer("a", who="ada", key="1")
    assert log.queue() == ["b", "c", "a"]
    log.rank(["d"])
    assert log.queue() == ["d", "a"]
    log.answer("d", "x", who="ada", key="2", replaces=None)
    log.undo_of("ada", key="3")
    assert log.queue() == ["d", "a"]


def test_figures_and_history_are_read_while_another_thread_writes(path: Path) -> None:
    log = LabelLog(path)
    log.ask(["a", "b"])
    log.answer("a", "x", who="ada", key="1", replaces=None)
    found: list[object] = []
    with log.changing():
        log.answer("b", "x", who="ada", key="2", replaces=None)
        thread = threading.Thread(target=lambda: found.append([each.rows for each in work_of(log)]))
        thread.start()
        thread.join(10)
        assert found == [[1]]  # what is committed
    assert [each.rows for each in work_of(log)] == [2]
    log.close()


# -- classes -------------------------------------------------------------------------------------------------------


def test_renamed_merged_and_retired_classes_rewrite_no_answer() -> None:
    log = LabelLog(None)
    for name in ("none", "mild", "severe"):
        log.change_classes({"do": "add", "name": name}, who="ada")
    log.tell([Answer("a", "none"), Answer("b", "mild"), Answer("c", "severe")])
    before = list(LabelStoreOf(log))
    log.change_classes({"do": "rename", "id": 1, "name": "light"})
    log.tell([Answer("d", "light")])
    assert log.class_counts() == {0: 1, 1: 2, 2: 1}
    assert log.answers_by("b")[""].value == "light"
    log.change_classes({"do": "merge", "id": 2, "into": 1})
    assert log.class_counts() == {0: 1, 1: 3}
    assert log.answers_by("c")[""].value == "light"
    log.change_classes({"do": "restore", "id": 2})
    assert log.class_counts() == {0: 1, 1: 2, 2: 1}
    log.change_classes({"do": "retire", "id": 0})
    assert (log.row("a").state, log.row("a").answer) == ("new", None)
    log.change_classes({"do": "restore", "id": 0})
    assert log.row("a").state == "answered"
    assert list(LabelStoreOf(log))[: len(before)] == before


def LabelStoreOf(log: LabelLog) -> list[tuple[object, ...]]:
    """The stored lines of the table of events."""
    with log.changing() as connection:
        return list(connection.execute("SELECT * FROM events ORDER BY event"))


def test_answers_of_two_people_agree_if_their_classes_are_one_today() -> None:
    log = LabelLog(None)
    for name in ("x", "y"):
        log.change_classes({"do": "add", "name": name})
    log.ask(["a"], wanted={"a": 2})
    log.answer("a", "x", who="ada", key="1", replaces=None)
    log.change_classes({"do": "rename", "id": 0, "name": "z"})
    log.answer("a", "y", who="ben", key="2", replaces=None)
    assert log.row("a").state == "disputed"
    log.change_classes({"do": "merge", "id": 1, "into": 0})
    assert log.row("a").state == "answered"


def test_an_answer_that_was_replaced_does_not_come_back_when_the_new_class_is_retired() -> None:
    log = LabelLog(None)
    for name in ("x", "y"):
        log.change_classes({"do": "add", "name": name})
    log.ask(["a"])
    first = log.answer("a", "x", who="ada", key="1", replaces=None)
    log.answer("a", "y", who="ada", key="2", replaces=first.event)
    log.change_classes({"do": "retire", "id": 1})
    assert (log.row("a").state, log.row("a").answer, log.answers_by("a")) == ("pending", None, {})
    assert log.answer("a", "x", who="ada", key="3", replaces=None).value == "x"  # as the page knows it
    log.change_classes({"do": "restore", "id": 1})
    assert log.row("a").answer == log.answers_by("a")["ada"]
    assert log.answers_by("a")["ada"].key == "3"


def test_retiring_the_class_of_an_adjudicated_answer_opens_the_dispute_again() -> None:
    log = LabelLog(None)
    for name in ("x", "y", "z"):
        log.change_classes({"do": "add", "name": name})
    log.ask(["a"], wanted={"a": 2})
    log.answer("a", "x", who="ada", key="1", replaces=None)
    log.answer("a", "y", who="ben", key="2", replaces=None)
    log.adjudicate("a", "z", who="ada", key="3")
    log.change_classes({"do": "retire", "id": 2})
    assert log.disputes() == ["a"]
    assert {who: event.value for who, event in log.answers_by("a").items()} == {"ada": "x", "ben": "y"}


def test_a_class_that_was_added_cannot_be_taken_back() -> None:
    """Its id would be given to another class, and its answers would name none."""
    log = LabelLog(None)
    added = log.change_classes({"do": "add", "name": "x"})
    log.tell([Answer("a", "x")])
    with pytest.raises(AnswerError, match="cannot be taken back: retire it"):
        log.retract(added.event)
    assert log.answers_by("a")[""].value == "x"


def test_leases_end_in_time_after_the_clock_was_set_back() -> None:
    log = LabelLog(None)
    log.ask(["a", "b"])
    assert log.claim("ada", 1, at=1e9) == ["a"]  # a wrong clock
    assert log.claim("ben", 2, at=1e6) == ["b"]
    assert log.claim("ben", 2, at=1e6 + 601) == ["a", "b"]


def test_clock_that_was_ahead_for_a_while_gives_no_row_to_two_people() -> None:
    log = LabelLog(None)
    log.ask(["a", "b"])
    assert log.claim("ada", 1, at=1e6) == ["a"]
    assert log.claim("ben", 1, at=1e6 + 3600) == ["a"]  # ada's lease has ended by that clock
    assert log.claim("ada", 1, at=1e6 + 1) == ["b"]  # set back
    assert log.readers(at=1e6 + 1) == {"a": ["ben"], "b": ["ada"]}
    assert not log.claim_row("a", "ada", at=1e6 + 2)


def test_row_that_was_taken_last_comes_first_after_the_clock_was_set_back() -> None:
    log = LabelLog(None)
    assert log.claim_row("a", "ada", at=1e6 + 3600)
    assert log.claim_row("b", "ada", at=1e6)
    assert log.claim("ada", 2, at=1e6 + 1) == ["b", "a"]


@pytest.mark.parametrize("first", ["asked", "answered"])
def test_answers_of_people_who_were_not_all_asked_count_and_a_retraction_ends_the_dispute(first: str) -> None:
    log = LabelLog(None)
    if first == "asked":
        log.ask(["a"])
    log.tell([Answer("a", "x", "ada")])
    log.tell([Answer("a", "y", "ben", wanted=2)])
    assert log.row("a").state == "disputed"
    (event,) = (event for event in log.answers_by("a").values() if event.who == "ben")
    log.retract(event.event)
    assert (log.row("a").state, log.row("a").wanted) == ("answered", 1)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"do": "add", "name": "x"}, "there is a class 'x' already"),
        ({"do": "add", "name": "  "}, "not blank"),
        ({"do": "add", "name": "\u200b"}, r"'\\u200b' cannot be seen"),
        ({"do": "rename", "id": 0, "name": "\u3164 \ufe0f"}, "cannot be seen"),
        ({"do": "add", "name": "\u200by"}, "characters that cannot be seen"),
        ({"do": "bind", "id": 0, "letter": "\u3164"}, r"'\\u3164' cannot be seen"),
        ({"do": "add", "name": 3}, "is text"),
        ({"do": "rename", "id": 0, "name": "y"}, "already"),
        ({"do": "rename", "id": 7, "name": "v"}, "no class with the number 7"),
        ({"do": "rename", "id": True, "name": "v"}, "named by its number"),
        ({"do": "merge", "id": 0, "into": 0}, "into itself"),
        ({"do": "merge", "id": 0}, "look at into"),
        ({"do": "bind", "id": 0, "letter": "s"}, "command of the page"),
        ({"do": "bind", "id": 0, "letter": "AB"}, "one small letter"),
        ({"do": "bind", "id": 1, "letter": "q"}, "bound to 'x'"),
        ({"do": "describe", "id": 0, "examples": "one"}, "list of texts"),
        ({"do": "restore", "id": 0}, "neither merged nor retired"),
        ({"do": "drop", "id": 0}, "a change of classes is one of"),
        ({"do": ["add"]}, "a change of classes is one of"),
        ({"do": "guide", "text": None}, "is text"),
    ],
)
def test_impossible_changes_of_classes_are_refused_and_store_nothing(change: dict[str, object], message: str) -> None:
    log = LabelLog(None)
    for name in ("x", "y"):
        log.change_classes({"do": "add", "name": name})
    log.change_classes({"do": "bind", "id": 0, "letter": "q"})
    with pytest.raises(AnswerError, match=message):
        log.change_classes(change)
    assert log.last_event == 3
    assert [entry.name for entry in log.classes.active] == ["x", "y"]


def test_a_change_that_was_rolled_back_is_not_in_the_table() -> None:
    log = LabelLog(None)

    def add_and_fail() -> None:
        with log.changing():
            log.change_classes({"do": "add", "name": "x"})
            raise RuntimeError

    with pytest.raises(RuntimeError):
        add_and_fail()
    assert (len(log.classes), log.last_event) == (0, 0)
    log.change_classes({"do": "add", "name": "y"})
    assert [entry.name for entry in log.classes.active] == ["y"]


def test_answers_name_classes_that_can_be_chosen() -> None:
    log = LabelLog(None)
    log.change_classes({"do": "add", "name": "x"})
    log.change_classes({"do": "add", "name": "y"})
    log.change_classes({"do": "retire", "id": 1})
    with pytest.raises(AnswerError, match="no class 'y' that can be chosen"):
        log.answer("a", "y", who="ada", key="1", replaces=None)
    with pytest.raises(AnswerError, match="no class 'w'"):
        log.adjudicate("a", "w", who="ada", key="1")
    assert log.counts() == {}


# -- formats -------------------------------------------------------------------------------------------------------


def _version_1(path: Path, n: int = 400) -> None:
    """A log of version 1 with answers, skips, corrections by two people and undos."""
    point = random.Random(0)
    lines: list[tuple[object, ...]] = []
    given: list[tuple[str, int]] = []
    for round in range(1, 6):
        lines += [("asked", 1.0, round, f"{round}-{i}", None, *[None] * 7) for i in range(n // 10)]
        for _ in range(n // 10):
            if given and point.random() < 0.15:
                row, number = given.pop()
                lines.append(("retracted", 2.0, round, row, *[None] * 7, number))
                continue
            row = f"{point.randint(1, round)}-{point.randrange(n // 10)}"
            kind = "skipped" if point.random() < 0.1 else "answered"
            value = json.dumps(point.choice(["x", "y"])) if kind == "answered" else None
            lines.append(
                (kind, 2.0, round, row, None, value, point.choice(["ada", "ben"]), "person", 1.5, None, None, None)
            )
            given.append((row, len(lines)))
    write_version_1(path, lines, [(round, "Margin", "{}") for round in range(1, 6)])


def _shape(store: LabelStore) -> tuple[object, ...]:
    return (
        store.answers,
        store.skipped,
        store.pending,
        store.round,
        store.labels_event,
        store.labels_round,
        list(store.events()),
        dict(store.work.done),
        [store.batch(round) for round in range(1, store.round + 1)],
    )


def test_log_of_version_1_is_migrated_once_with_a_copy_next_to_it(path: Path) -> None:
    _version_1(path)
    with LabelStore(path, access="read") as store:  # as `dal report` reads it
        before = _shape(store)
    assert sqlite3.connect(path).execute("PRAGMA user_version").fetchone() == (1,)
    assert not path.with_name(BACKUP_OF_1).exists()
    with LabelStore(path) as store:
        assert _shape(store) == before
        compare_with_replay(store)
    copy = path.with_name(BACKUP_OF_1)
    assert sqlite3.connect(copy).execute("PRAGMA user_version").fetchone() == (1,)
    assert os.stat(copy).st_mode & 0o777 == 0o600
    connection = sqlite3.connect(path)
    assert connection.execute("PRAGMA user_version").fetchone() == (2,)
    assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    assert connection.execute("PRAGMA foreign_key_check").fetchall() == []
    last = connection.execute("SELECT max(event) FROM events").fetchone()
    assert connection.execute("SELECT seq FROM sqlite_sequence WHERE name = 'events'").fetchone() == last
    connection.close()
    written = copy.stat().st_mtime_ns
    with LabelLog(path) as log:
        log.tell([Answer("1-0", "x")])
    assert copy.stat().st_mtime_ns == written


def test_migration_that_fails_leaves_the_file_as_it_was(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _version_1(path, 50)
    with LabelStore(path, access="read") as store:
        before = _shape(store)

    def fail(self: LabelLog, *_: object) -> None:
        raise sqlite3.OperationalError("database or disk is full")

    with monkeypatch.context() as patched:
        patched.setattr(LabelLog, "_derive", fail)
        with pytest.raises(SessionError, match="disk is full"):
            LabelLog(path)
    assert sqlite3.connect(path).execute("PRAGMA user_version").fetchone() == (1,)
    with LabelStore(path) as store:
        assert _shape(store) == before


def test_snapshot_is_the_log_up_to_an_event_and_leaves_the_file_alone(path: Path) -> None:
    with LabelStore(path) as store:
        store.change_classes({"do": "add", "name": "x"})
        store.ask(["a", "b", "c"])
        store.tell([Answer("a", "x")])
        event, then = store.written[0], _shape(store)
        store.tell([Answer("b", "x")])
        store.change_classes({"do": "rename", "id": 0, "name": "y"})
        store.ask(["d"])
        with LabelStore.snapshot(path, event) as copy:
            assert _shape(copy) == then
            _compare_in_memory(copy)
            copy.ask(["e"])
            copy.tell([Answer("e", "x")])
            assert copy.answers == {"a": "x", "e": "x"}
        with LabelStore.snapshot(path) as copy:
            assert _shape(copy) == _shape(store)
        assert store.answers == {"a": "y", "b": "y"}


def _compare_in_memory(store: LabelStore) -> None:
    assert {row: store.row(row).state for row in ("a", "b", "c", "d")} == {
        "a": "answered",
        "b": "pending",
        "c": "pending",
        "d": "new",
    }


def test_read_access_creates_and_changes_nothing(path: Path) -> None:
    with pytest.raises(SessionError, match="does not exist"):
        LabelLog(path, access="read")
    assert not path.exists()
    with LabelLog(path) as log:
        log.ask(["a"])
    with LabelLog(path, access="read") as log:
        assert log.queue() == ["a"]
        with pytest.raises(SessionError, match="readonly"):
            log.tell([Answer("a", "x")])


def test_damaged_change_of_a_class_is_reported_with_its_event(path: Path) -> None:
    with LabelLog(path) as log:
        log.change_classes({"do": "add", "name": "x"})
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("""UPDATE events SET value = '{"do": "add", "id": 5, "name": "x"}'""")
    connection.close()
    for kind in (LabelLog, LabelStore):
        with pytest.raises(SessionError, match="event 1: its change of a class is impossible: the next class"):
            kind(path)


def test_people_have_rights_until_their_access_ends() -> None:
    log = LabelLog(None)
    log.set_person("ada", token=b"1", rights=["classes"])
    log.set_person("ada", token=b"2", rights=["adjudicate", "classes"])
    log.set_person("ben", token=None)
    log.remove_person("ben")
    assert [(each.who, each.token, each.rights, each.until is None) for each in log.people()] == [
        ("ada", b"2", ("adjudicate", "classes"), True),
        ("ben", None, (), False),
    ]


def test_history_is_what_people_answered_last_newest_first() -> None:
    log = LabelLog(None)
    for name in ("x", "y"):
        log.change_classes({"do": "add", "name": name})
    first = log.answer("a", "x", who="ada", key="1", replaces=None)
    log.answer("b", "x", who="ben", key="2", replaces=None)
    log.answer("a", "y", who="ada", key="3", replaces=first.event)
    log.answer("c", SKIP, who="ada", key="4", replaces=None)
    shown = [(event.row, event.who, event.value) for event in log.history()]
    assert shown == [("c", "ada", None), ("a", "ada", "y"), ("b", "ben", "x")]
    assert [event.row for event in log.history(who="ada", limit=1)] == ["c"]
    assert [event.row for event in log.history(class_id=0)] == ["b"]
    assert [event.row for event in log.history(rows=["a", "b"])] == ["a", "b"]
    assert [event.row for event in log.history(before=first.event + 2)] == ["b"]
    assert log.history(until=first.at - 1) == []


def test_history_of_a_rare_class_reads_page_by_page_and_finds_all(tmp_path: Path) -> None:
    with LabelLog(tmp_path / "labels.db") as log:
        for name in ("often", "rare"):
            log.change_classes({"do": "add", "name": name})
        log.tell([Answer(f"r{i}", "rare" if i % 700 == 3 else "often", who="ana") for i in range(2_000)])
        assert [event.row for event in log.history(class_id=1)] == ["r1403", "r703", "r3"]
        first, second = log.history(class_id=1, limit=2)
        assert (first.row, second.row) == ("r1403", "r703")
        assert [event.row for event in log.history(class_id=1, before=second.event)] == ["r3"]
        assert len(log.history(limit=1_500)) == 1_500
        hidden = {event.row for event in log.history(limit=600)}
        shown = log.history(limit=20, visible=lambda event: event.row not in hidden)
        assert [event.row for event in shown] == [f"r{i}" for i in range(1399, 1379, -1)]


def test_rows_that_wait_for_a_second_person_are_passed_over_in_linear_time() -> None:
    def steps(n: int) -> int:
        log = LabelLog(None)
        rows = [f"r{i}" for i in range(n)]
        log.ask(rows, wanted=dict.fromkeys(rows, 2))
        log.tell([Answer(row, "x", who="ana") for row in rows])
        counted = [0]

        def count() -> int:
            counted[0] += 1
            return 0

        log._connection().set_progress_handler(count, 10)
        assert free_rows(log, "ana", 0.0, 5) == 0
        assert log.claim("ana", 2) == []
        return counted[0]

    assert steps(800) < 3 * steps(400)
