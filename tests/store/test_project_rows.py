import os
import random
import sqlite3
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dal.errors import SessionError
from dal.store import sqlite_files
from dal.store.label_store import LabelStore
from dal.store.project_rows import ProjectRow, ProjectRows


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "rows.db"


@pytest.fixture
def rows(path: Path) -> Iterator[ProjectRows]:
    with ProjectRows.create(path) as created:
        yield created


def numbered(count: int, first: int = 0) -> list[ProjectRow]:
    return [ProjectRow(f"id{number}", f"text number {number}") for number in range(first, first + count)]


def test_rows_survive_reopening_with_their_foreign_columns_in_order(path: Path) -> None:
    given = [
        ProjectRow("a", "first", None, {"title": "One", "age": 3, "tags": ["x", None]}),
        ProjectRow("b", "second", "a pair", {"title": "Zwei", "age": None, "tags": []}),
    ]
    with ProjectRows.create(path) as rows:
        rows.add(given, source="pool.csv", digest="00ff", at=5.0)
    with ProjectRows(path) as rows:
        assert list(rows) == given
        assert [list(row.fields) for row in rows] == [["title", "age", "tags"]] * 2
        assert len(rows) == 2
        assert rows.get(["b", "unknown", "a", "b"]) == [given[1], None, given[0], given[1]]
        (source,) = rows.sources
    assert (source.name, source.at, source.digest, source.rows) == ("pool.csv", 5.0, "00ff", 2)


def test_pages_hold_all_rows_in_the_order_of_addition(rows: ProjectRows) -> None:
    rows.add(numbered(5), source="one.csv")
    rows.add(numbered(5, 5), source="two.csv")
    pages = list(rows.pages(4))
    assert [len(page) for page in pages] == [4, 4, 2]
    assert [row.id for page in pages for row in page] == [f"id{number}" for number in range(10)]


def test_more_ids_are_read_than_one_query_takes(rows: ProjectRows) -> None:
    given = numbered(1_201)
    rows.add(given, source="pool.csv")
    assert rows.get([row.id for row in reversed(given)]) == given[::-1]


# -- random order ------------------------------------------------------------------------------------------------------


def test_random_order_has_each_row_once_and_does_not_follow_the_file(rows: ProjectRows) -> None:
    rows.add(numbered(100), source="pool.csv")
    order, place = [], 0
    while some := rows.shuffled(place, 7):
        order += some
        place = some[-1][0]
    assert sorted(row for _, row in order) == sorted(f"id{number}" for number in range(100))
    assert [place for place, _ in order] == sorted({place for place, _ in order})
    assert order[0][0] >= 1
    followed = sum(f"id{number}" == row for number, (_, row) in enumerate(order))
    assert followed < 10


def test_random_order_of_old_rows_is_the_same_after_an_addition(rows: ProjectRows) -> None:
    rows.add(numbered(50), source="pool.csv")
    before = rows.shuffled(0, 1000)
    rows.add(numbered(50, 50), source="more.csv")
    after = rows.shuffled(0, 1000)
    assert [each for each in after if int(each[1][2:]) < 50] == before
    assert len(after) == 100


def test_next_rows_of_the_random_order_are_read_from_an_index(rows: ProjectRows) -> None:
    rows.add(numbered(10), source="pool.csv")
    plan = rows._query("EXPLAIN QUERY PLAN SELECT place, id FROM rows WHERE place > 5 ORDER BY place LIMIT 3")
    steps = [line[-1] for line in plan]
    assert len(steps) == 1
    assert "SEARCH" in steps[0]
    assert "INDEX" in steps[0]


def test_rows_with_one_hash_get_two_places(rows: ProjectRows, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dal.store.project_rows._place", lambda row_id: (1 << 63) - 1)
    rows.add(numbered(3), source="pool.csv")
    assert [place for place, _ in rows.shuffled(0, 9)] == [1, 2, (1 << 63) - 1]


# -- search ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def drugs(rows: ProjectRows) -> ProjectRows:
    texts = {
        "a": "Warfarin and aspirin interact, and badly so",
        "b": "Aspirin alone is mild",
        "c": "A café visit; naïve patients",
        "d": "服用阿司匹林后出血",
        "e": "dose: 5 mg/kg (max.)",
    }
    rows.add([ProjectRow(each, text) for each, text in texts.items()], source="pool.csv")
    rows.add([ProjectRow("p", "first half", "interacts with digoxin")], source="pairs.csv")
    return rows


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("ASPIRIN warfarin", ["a"]),
        ("cafe NAIVE", ["c"]),
        ("digox", ["p"]),  # the last word may be a beginning
        ('"is mild"', ["b"]),
        ('"mild is"', []),
        ("阿司匹林", ["d"]),  # a part of a run of letters
        ("mg/kg (max", ["e"]),
        ("(max.)", ["e"]),
        ("warfarin nonsense", ["a"]),  # some of the words
        ("", []),
        ("   ", []),
        ('"', []),
        ("nothing", []),
    ],
)
def test_search_finds_texts_by_words(drugs: ProjectRows, query: str, found: list[str]) -> None:
    assert drugs.search(query, 10) == found


def test_best_match_comes_first_and_the_limit_holds(drugs: ProjectRows) -> None:
    assert drugs.search("aspirin", 10) == ["b", "a"]  # the shorter text
    assert drugs.search("aspirin", 1) == ["b"]


@given(st.text())
def test_no_query_is_a_syntax_error(query: str) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as folder, ProjectRows.create(Path(folder) / "rows.db") as rows:
        rows.add(numbered(2), source="pool.csv")
        assert set(rows.search(query, 5)) <= {"id0", "id1"}


@pytest.mark.parametrize(
    "query", ['a"b" OR c', "NEAR(a b)", "text: number", "-a", "a*b", "^text", "a AND", "(", "{pair}: x"]
)
def test_operators_of_the_index_are_plain_words(drugs: ProjectRows, query: str) -> None:
    assert isinstance(drugs.search(query, 5), list)


# -- adding ------------------------------------------------------------------------------------------------------------


def test_rows_that_are_there_already_are_counted_and_left(rows: ProjectRows) -> None:
    rows.add([ProjectRow("a", "one", None, {"n": 1}), ProjectRow("b", "two")], source="pool.csv")
    more = [ProjectRow("a", "one", None, {"n": 2}), ProjectRow("b", "TWO"), ProjectRow("c", "three")]
    foreseen = rows.compare(more)
    changes = rows.add(more, source="more.csv")
    assert foreseen == changes
    assert (changes.added, changes.known, changes.edited, changes.other_fields) == (1, 1, ("b",), 1)
    assert [(row.text, row.fields) for row in rows] == [("one", {"n": 1}), ("two", {}), ("three", {})]
    assert [source.rows for source in rows.sources] == [2, 1]


def test_replaced_text_is_kept_as_an_earlier_one_and_found_by_its_new_words(rows: ProjectRows) -> None:
    rows.add([ProjectRow("a", "asprin"), ProjectRow("b", "other")], source="pool.csv")
    places = rows.shuffled(0, 9)
    rows.add([ProjectRow("a", "aspirin", "with food", {"n": 2})], source="fixed.csv", replace=True)
    assert rows.get(["a"]) == [ProjectRow("a", "aspirin", "with food", {"n": 2})]
    assert rows.earlier_texts("a") == ["asprin"]
    assert rows.search("aspirin", 5) == rows.search("food", 5) == ["a"]
    assert rows.search("asprin", 5) == []
    assert rows.shuffled(0, 9) == places
    assert len(rows) == 2
    rows.check()


@pytest.mark.parametrize("count", [2, 4_001])
def test_an_id_that_occurs_twice_adds_nothing(rows: ProjectRows, count: int) -> None:
    twice = [*numbered(count), ProjectRow("id1", "another text")]
    with pytest.raises(SessionError, match="the id id1 occurs twice"):
        rows.add(twice, source="pool.csv")
    assert (len(rows), rows.sources, list(rows)) == (0, [], [])


def test_an_error_while_rows_are_made_adds_nothing(rows: ProjectRows) -> None:
    def failing() -> Iterator[ProjectRow]:
        yield from numbered(5_000)
        raise ValueError("the file ends")

    with pytest.raises(ValueError, match="the file ends"):
        rows.add(failing(), source="pool.csv")
    assert (len(rows), rows.search("number", 5)) == (0, [])


def test_full_disk_leaves_the_file_as_it_was(rows: ProjectRows, path: Path) -> None:
    rows.add(numbered(20), source="pool.csv")
    pages = rows._query("PRAGMA page_count")[0][0]
    rows._query(f"PRAGMA max_page_count = {pages + 5}")
    with pytest.raises(
        SessionError, match=r"rows.db could not be written; nothing was stored: database or disk is full"
    ):
        rows.add([ProjectRow(f"new{number}", "word " * 500) for number in range(100)], source="more.csv")
    assert list(rows) == numbered(20)
    rows.close()
    with ProjectRows(path) as again:
        assert list(again) == numbered(20)
        again.check()


def test_additions_within_a_change_are_stored_together_or_not_at_all(rows: ProjectRows) -> None:
    def add_and_fail() -> None:
        with rows.changing():
            rows.add(numbered(3), source="one.csv")
            raise KeyError("the labels cannot be stored")

    with pytest.raises(KeyError):
        add_and_fail()
    assert len(rows) == 0
    with rows.changing():
        rows.add(numbered(3), source="one.csv")
        rows.add(numbered(3, 3), source="two.csv")
    assert len(rows) == 6


def test_text_that_cannot_be_stored_is_told_and_nothing_is(rows: ProjectRows) -> None:
    with pytest.raises(SessionError, match="is not text that can be stored"):
        rows.add([ProjectRow("a", "fine"), ProjectRow("b", "broken \ud800")], source="pool.csv")
    assert len(rows) == 0


def test_threads_read_while_one_writes(rows: ProjectRows) -> None:
    rows.add(numbered(50), source="pool.csv")
    faults: list[BaseException] = []

    def read() -> None:
        try:
            for _ in range(50):
                assert len(rows.get(["id1", "id2"])) == 2
                assert rows.search("number", 3)
        except BaseException as error:
            faults.append(error)

    threads = [threading.Thread(target=read) for _ in range(3)]
    for thread in threads:
        thread.start()
    for start in range(50, 150, 10):
        rows.add(numbered(10, start), source="more.csv")
    for thread in threads:
        thread.join()
    assert faults == []
    assert len(rows) == 150


# -- the file ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("journal", "mode"), [("wal", "wal"), ("rollback", "truncate")])
def test_file_is_for_its_owner_alone_and_synchronised_fully(
    path: Path, monkeypatch: pytest.MonkeyPatch, journal: str, mode: str
) -> None:
    monkeypatch.setenv("DAL_JOURNAL", journal)
    rows = ProjectRows.create(path)
    rows.add(numbered(1), source="pool.csv")
    for file in path.parent.iterdir():
        assert stat.S_IMODE(file.stat().st_mode) == 0o600, file
    assert rows._query("PRAGMA journal_mode")[0][0] == mode
    assert rows._query("PRAGMA synchronous")[0][0] == 2
    rows.close()


def test_creation_never_replaces_a_file(path: Path) -> None:
    path.write_text("mine")
    with pytest.raises(SessionError, match=r"rows.db already exists"):
        ProjectRows.create(path)
    assert path.read_text() == "mine"


def test_creation_in_a_missing_folder_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(SessionError, match=r"rows.db could not be created: No such file or directory"):
        ProjectRows.create(tmp_path / "none" / "rows.db")


def test_missing_file_says_so(path: Path) -> None:
    with pytest.raises(SessionError, match=r"rows.db is missing"):
        ProjectRows(path)


def test_other_files_are_refused_and_stay_as_they_are(tmp_path: Path) -> None:
    text, labels, newer, empty = (tmp_path / name for name in ("text.db", "labels.db", "newer.db", "empty.db"))
    text.write_text("id,text\n1,a\n" * 20)
    LabelStore(labels).close()
    sqlite_files.create(newer, "CREATE TABLE rows (a);", application=0x64616C32, version=2)
    empty.write_bytes(b"")
    wanted = {
        text: "file is not a database",
        labels: "is another program's database, not the rows of a project",
        newer: "was written by a newer version of dal",
        empty: "is damaged .it is empty",
        tmp_path: "it is not a regular file",
    }
    for file, message in wanted.items():
        before = file.read_bytes() if file.is_file() else b""
        with pytest.raises(SessionError, match=message):
            ProjectRows(file)
        assert before == (file.read_bytes() if file.is_file() else b"")


@pytest.mark.parametrize(
    ("statement", "where"),
    [
        ("UPDATE rows SET fields = '{' WHERE number = 2", "row 2: its fields cannot be read"),
        ("UPDATE rows SET fields = '[1]' WHERE number = 2", "row 2: its fields cannot be read: no JSON object"),
        ("UPDATE rows SET text = CAST(x'ff41' AS TEXT) WHERE number = 3", "row 3 holds text that is not UTF-8"),
        ("DELETE FROM rows WHERE number = 2", "row 2 is missing, the next is 3"),
        ("DELETE FROM rows WHERE number = 5", "it holds 4 rows, and its sources added 5"),
    ],
)
def test_damage_is_told_in_one_line_that_names_the_row(path: Path, statement: str, where: str) -> None:
    with ProjectRows.create(path) as rows:
        rows.add(numbered(5), source="pool.csv")
    connection = sqlite3.connect(path)
    connection.execute(statement)
    connection.commit()
    connection.close()
    with ProjectRows(path) as rows, pytest.raises(SessionError, match=rf"rows.db is damaged \({where}") as raised:
        rows.check()
    assert "\n" not in str(raised.value)


def test_any_bytes_that_are_changed_or_cut_off_are_a_one_line_error_or_change_nothing(path: Path) -> None:
    with ProjectRows.create(path) as rows:
        rows.add([ProjectRow(f"id{n}", f"text {n} " * 40, None, {"n": n}) for n in range(60)], source="pool.csv")
        whole = list(rows)
    content, generator = path.read_bytes(), random.Random(0)
    for trial in range(120):
        changed = bytearray(content)
        if trial % 3:
            start = generator.randrange(len(content))
            size = generator.choice([1, 16, 600])
            changed[start : start + size] = bytes(generator.randrange(256) for _ in changed[start : start + size])
        else:
            del changed[generator.randrange(len(content)) :]
        for side in ("-wal", "-shm"):
            path.with_name(path.name + side).unlink(missing_ok=True)
        path.write_bytes(changed)
        message = ""
        try:
            with ProjectRows(path) as rows:
                rows.search("text", 5)
                rows.check()
                assert len(list(rows)) == len(whole)
        except SessionError as error:
            message = str(error)
        assert "\n" not in message
        assert not message or "rows.db" in message


def test_kill_while_rows_are_added_leaves_all_of_them_or_none(path: Path) -> None:
    ProjectRows.create(path).close()
    script = (
        "import sys, itertools; from dal.store.project_rows import ProjectRow, ProjectRows\n"
        "rows = ProjectRows(sys.argv[1]); print('ready', flush=True)\n"
        "for turn in itertools.count():\n"
        "    rows.add([ProjectRow(f'{turn}-{n}', 'some text') for n in range(200)], source=str(turn))\n"
        "    print(turn, flush=True)\n"
    )
    generator = random.Random(1)
    command = [sys.executable, "-c", script, str(path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for _ in range(generator.randrange(4, 12)):
            acknowledged = process.stdout.readline()
        process.kill()
        rest = process.stdout.read().split()
    done = int(rest[-1] if rest else acknowledged) + 1
    with ProjectRows(path) as rows:
        assert len(rows) in (200 * done, 200 * (done + 1))
        rows.check()


@pytest.mark.usefixtures("write_ahead_log")
def test_file_in_a_folder_that_cannot_be_written_to_is_read(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with ProjectRows.create(path) as rows:
        rows.add(numbered(3), source="pool.csv")
    access = os.access
    monkeypatch.setattr(os, "access", lambda file, mode, **more: mode != os.W_OK and access(file, mode, **more))
    with ProjectRows(path) as rows:
        assert list(rows) == numbered(3)
        assert sorted(each.name for each in path.parent.iterdir()) == ["rows.db"]
        with pytest.raises(SessionError, match="could not be written"):
            rows.add(numbered(1, 9), source="more.csv")


def test_closed_file_says_so(rows: ProjectRows) -> None:
    rows.close()
    rows.close()
    with pytest.raises(SessionError, match=r"rows.db is closed"):
        len(rows)


def test_reading_rows_loads_no_numerical_library() -> None:
    script = "import sys, dal.store.project_rows; print([m for m in ('torch', 'numpy', 'pyarrow') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_search_of_one_person_keeps_nobody_else_from_the_next_text(rows: ProjectRows) -> None:
    rows.add(numbered(3), source="pool.csv")
    begun, go_on, found = threading.Event(), threading.Event(), list[object]()

    def search() -> None:
        def waiting() -> int:
            begun.set()
            go_on.wait(30)
            return 1

        rows._connection().create_function("waiting", 0, waiting)
        found.extend(rows._query("SELECT waiting()"))

    thread = threading.Thread(target=search)
    thread.start()
    assert begun.wait(30)
    other = threading.Thread(target=lambda: found.append(rows.get(["id1"])))
    other.start()
    other.join(30)
    assert found == [numbered(3)[1:2]]
    closing = threading.Thread(target=rows.close)
    closing.start()
    closing.join(0.2)
    assert closing.is_alive()  # it waits for the search, whose connection it would close
    go_on.set()
    for each in (thread, closing):
        each.join(30)
    assert found[1:] == [(1,)]


def test_rows_with_all_words_are_found_up_to_a_length(rows: ProjectRows) -> None:
    texts = ["no effect", "No effect, 7 mg!", "no effect of the drug was seen in any patient", "an effect", "noeffect"]
    rows.add((ProjectRow(f"r{i}", text) for i, text in enumerate(texts)), source="a.csv")
    assert rows.containing(["effect", "no"], 10, longest=100) == ["r0", "r1", "r2"]
    assert rows.containing(["effect", "no"], 10, longest=20) == ["r0", "r1"]
    assert rows.containing(["effect"], 2, longest=100) == ["r0", "r1"]
    assert rows.containing([], 10, longest=100) == rows.containing(['ef"fect'], 10, longest=100) == []
