"""Projects that somebody made to do harm, or that are damaged: refused in one line, or opened without harm."""

import json
import sqlite3
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from annotation_project import answer_all, make_project
from page_server import PageServer
from test_request_guard import ANSWER, KEY, Client

from dal.annotate.project_settings import ProjectSettings
from dal.annotate.service import AnnotationService, open_service
from dal.errors import AnswerError, ConfigError, DalError, SessionError
from dal.store.label_log import LabelLog
from dal.store.label_store import LabelStore
from dal.store.project_rows import ProjectRows


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return make_project(tmp_path / "p", n=20)


@pytest.fixture
def opened(folder: Path) -> Iterator[AnnotationService]:
    service = open_service(folder, trainer=False)
    yield service
    service.close()


def change(path: Path, *statements: str) -> None:
    connection = sqlite3.connect(path, isolation_level=None)
    for statement in statements:
        connection.execute(statement)
    connection.close()


# -- what a file can do behind the back of a statement -----------------------------------------------------------------

_TRIGGER = (
    "CREATE TRIGGER t AFTER INSERT ON events BEGIN UPDATE events SET value = '\"none\"' WHERE kind = 'answered'; END"
)


@pytest.mark.parametrize(
    "statements",
    [
        (_TRIGGER,),
        ("ALTER TABLE leases RENAME TO kept", "CREATE VIEW leases AS SELECT * FROM kept"),
        ("DROP TABLE leases", "CREATE TABLE leases (row, who, since, until, UNIQUE (who) ON CONFLICT REPLACE)"),
        ("CREATE VIRTUAL TABLE words USING fts5(x)",),
    ],
)
def test_log_that_would_change_answers_by_itself_is_refused(folder: Path, statements: tuple[str, ...]) -> None:
    change(folder / "labels.db", *statements)
    with pytest.raises(SessionError, match=r"damaged .it has a .* that dal does not make"):
        open_service(folder, trainer=False)
    for open_log in (
        lambda: LabelLog(folder / "labels.db", access="read"),
        lambda: LabelStore.snapshot(folder / "labels.db", upto=3),
    ):
        with pytest.raises(SessionError, match="that dal does not make"):
            open_log()


def test_rows_with_a_trigger_or_a_view_are_refused(folder: Path) -> None:
    change(folder / "rows.db", "CREATE TRIGGER t AFTER INSERT ON rows BEGIN DELETE FROM rows; END")
    with pytest.raises(SessionError, match="trigger 't' that dal does not make"):
        ProjectRows(folder / "rows.db")
    change(folder / "rows.db", "DROP TRIGGER t", "CREATE VIEW v AS SELECT 1")
    with pytest.raises(SessionError, match="view 'v' that dal does not make"):
        open_service(folder, trainer=False)


def test_config_that_names_code_runs_nothing(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "evil.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\n")
    (folder / "evil.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\n")
    config = "kind: project\nlearner: {class_path: evil.Learner}\nstrategy: os.system\ndata: {path: rows.db}\n"
    (folder / "config.yaml").write_text(config)
    service = open_service(folder)
    failed = threading.Event()
    for _ in range(600):
        if service.state("ana")["header"]["trainer"]["state"] == "failed":
            break
        failed.wait(0.2)
    header = service.state("ana")["header"]
    assert header["trainer"]["state"] == "failed"
    assert "\n" not in header["trainer"]["error"]
    assert answer_all(service, "ana", 2) != []  # people go on
    service.close()
    assert not (tmp_path / "ran").exists()


# -- values that no program of ours has written ------------------------------------------------------------------------


@pytest.mark.parametrize("price", [".nan", ".inf"])
def test_price_that_is_no_number_is_one_line(folder: Path, price: str) -> None:
    with (folder / "config.yaml").open("a") as file:
        file.write(f"price_per_hour: {price}\n")
    with pytest.raises(ConfigError, match="price_per_hour must be dollars"):
        ProjectSettings.of(folder)


def test_numbers_that_json_does_not_have_become_null_on_the_page(folder: Path) -> None:
    change(folder / "rows.db", """UPDATE rows SET fields = '{"dose": NaN, "list": [Infinity, 1]}'""")
    service = open_service(folder, trainer=False)
    server = PageServer(service)
    try:
        client = Client(server)
        client.enter("ana")
        reply = client.get("/api/state")
        assert reply.status == 200
        assert reply.json["rows"][0]["fields"] == {"dose": None, "list": [None, 1]}
    finally:
        server.stop()
        service.close()


def _loosened(folder: Path, statement: str) -> None:
    """Change `rows` as a file without STRICT could hold it."""
    change(
        folder / "rows.db",
        "PRAGMA writable_schema = ON",
        "UPDATE sqlite_schema SET sql = replace(sql, ') STRICT', ')') WHERE name = 'rows'",
        "PRAGMA writable_schema = RESET",
    )
    change(folder / "rows.db", statement)


@pytest.mark.parametrize("statement", ["UPDATE rows SET text = x'00ff'", "UPDATE rows SET pair = x'00'"])
def test_texts_that_are_no_texts_are_told_in_one_line(folder: Path, statement: str) -> None:
    _loosened(folder, statement)
    with ProjectRows(folder / "rows.db") as rows, pytest.raises(SessionError, match="not all text"):
        rows.get(["t0"])


@pytest.mark.parametrize(
    "details",
    [
        '{"event": "x", "received": "y"}',
        '{"event": 1, "received": [], "rows": 7}',
        '{"top_up": true, "place": "far"}',
        '{"top_up": true, "place": 99999999999999999999}',
        '{"top_up": true, "place": -5}',
    ],
)
def test_batch_with_impossible_details_does_not_keep_people_from_answering(folder: Path, details: str) -> None:
    change(folder / "labels.db", f"INSERT INTO batches VALUES (1, 'Random', '{details}')")
    service = open_service(folder, trainer=False)
    assert len(answer_all(service, "ana", 20)) == 20
    service.close()


def test_details_nested_without_end_are_one_line(folder: Path) -> None:
    deep = '{"event": ' + "[" * 60_000 + "]" * 60_000 + "}"
    connection = sqlite3.connect(folder / "labels.db", isolation_level=None)
    connection.execute("INSERT INTO batches VALUES (1, 'Random', ?)", (deep,))
    connection.close()
    with pytest.raises(SessionError):
        open_service(folder, trainer=False)


@pytest.mark.parametrize("rights", ["nonsense", "{}", "[1]", "[" * 60_000 + "]" * 60_000])
def test_rights_that_cannot_be_read_are_one_line(folder: Path, opened: AnnotationService, rights: str) -> None:
    connection = sqlite3.connect(folder / "labels.db", isolation_level=None)
    connection.execute("INSERT INTO people VALUES ('eve', NULL, ?, 0, NULL)", (rights,))
    connection.close()
    with pytest.raises(SessionError, match="the rights of 'eve' are not a list of words"):
        opened.state("ana")


def test_rows_that_the_project_does_not_have_hide_no_others(folder: Path) -> None:
    with LabelLog(folder / "labels.db") as log:
        log.ask(["ghost1", "ghost2", "t3"])
        assert log.claim("ana", 2) == ["ghost1", "ghost2"]
    service = open_service(folder, trainer=False)
    assert [row["id"] for row in service.state("ana")["rows"]][:1] == ["t3"]
    assert sorted(answer_all(service, "ana", 30)) == sorted(f"t{i}" for i in range(20))
    service.close()


def test_retired_row_is_not_held_for_the_person_who_read_it(folder: Path) -> None:
    with LabelLog(folder / "labels.db") as log:
        log.ask(["t1", "t2", "t3"])
        log.claim("ana", 1)
        log.retire(["t1"])
        assert log.readers() == {}
        assert log.claim("ana", 2) == ["t2", "t3"]


def test_undone_answer_of_a_retired_row_is_not_asked_again(folder: Path) -> None:
    service = open_service(folder, trainer=False)
    (row,) = answer_all(service, "ana", 1)
    service._log.retire([row])
    reply = service.undo("ana", key="u")
    assert reply["undone"]["row"] == row
    assert row not in service._log.readers()
    assert row not in [each["id"] for each in service.state("ana")["rows"]]
    service.close()


# -- requests ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/api/flag", {"row": "t1", "key": KEY, "text": "cut within an emoji \ud83d"}),
        ("/api/answer", ANSWER | {"row": "t1\ud83d", "key": KEY}),
        ("/api/classes", {"do": "add", "name": "\udc00", "key": KEY}),
    ],
)
def test_half_of_a_character_is_refused_instead_of_repeated_for_ever(
    opened: AnnotationService, path: str, body: dict[str, Any]
) -> None:
    server = PageServer(opened)
    try:
        client = Client(server)
        client.enter("ana")
        reply = client.post(path, body)
        assert reply.status == 400
        assert "half of a character" in reply.json["error"]
    finally:
        server.stop()


@pytest.mark.parametrize(
    "words", ['"', "a " * 4_000, '"' * 9_999, "NEAR(a b) OR NOT *", "\0", "x" * 10_000, "(" * 5_000]
)
def test_any_words_can_be_searched(opened: AnnotationService, words: str) -> None:
    assert len(opened.search("ana", q=words)["rows"]) == (20 if words.startswith("a ") else 0)
    assert opened.history("ana", q=words) == {"rows": [], "more": False}


def test_key_of_another_text_stores_nothing(opened: AnnotationService) -> None:
    first, second = (row["id"] for row in opened.state("ana")["rows"])
    opened.answer("ana", row=first, classes=[0], key="k")
    with pytest.raises(AnswerError, match="used for another text"):
        opened.answer("ana", row=second, classes=[1], key="k")
    assert opened.labels() == {first: "none"}


def test_rows_that_a_full_disk_did_not_store_are_asked_again(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    service = open_service(make_project(folder.parent / "few", n=4), trainer=False)
    ask = LabelLog.ask

    def full(*_: Any, **__: Any) -> int:
        raise SessionError("the disk is full")

    monkeypatch.setattr(LabelLog, "ask", full)
    with pytest.raises(DalError):
        service.state("ana")
    monkeypatch.setattr(LabelLog, "ask", ask)
    assert len(answer_all(service, "ana", 9)) == 4
    service.close()


# -- second answers ----------------------------------------------------------------------------------------------------


def test_first_answer_is_told_by_no_hint_no_count_and_no_list(tmp_path: Path) -> None:
    folder = make_project(tmp_path / "q", n=4)
    with LabelLog(folder / "labels.db") as log:
        near = {"rows": {"t1": {"why": "", "guesses": [], "near": ["t0"]}}, "event": 3}
        log.ask(["t0"], strategy="X", wanted={"t0": 2}, details={})
        log.ask(["t1"], strategy="X", details=near)
        log.answer("t0", "severe", who="ana", key="k", replaces=None)
    service = open_service(folder, trainer=False)
    assert service.hints("ben", row="t1")["near"] == []
    assert [each["id"] for each in service.hints("ana", row="t1")["near"]] == ["t0"]  # her own
    assert service.progress("ben")["per_class"] == [[0, 0], [1, 0], [2, 0]]
    service.answer("ben", row="t1", classes=[2], key="b")
    for number in range(3):
        found = service.history("ben", class_id=number, limit=1)
        assert (len(found["rows"]), found["more"]) == (int(number == 2), False)
    service.answer("ben", row="t0", classes=[2], key="c")
    assert service.progress("ben")["per_class"][2] == [2, 2]
    service.close()


def test_everything_that_people_see_is_json(opened: AnnotationService) -> None:
    answer_all(opened, "ana", 3)
    for reply in (opened.state("ana"), opened.progress("ana"), opened.history("ana"), opened.disputes("ana")):
        assert json.loads(json.dumps(reply, allow_nan=False)) == reply
