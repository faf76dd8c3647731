"""Annotations of Label Studio become answers, and rankings its order of tasks."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from annotation_project import AlphabeticalTrainer, make_project
from label_studio_api import LEGACY, REFRESH, LabelStudioApi, choice, recorded

from dal.annotate.label_studio_client import LabelStudioClient, LabelStudioError
from dal.annotate.label_studio_exchange import LabelStudioExchange
from dal.annotate.label_studio_service import LabelStudioService, open_label_studio_service
from dal.errors import ConfigError
from dal.store.label_log import LabelLog
from dal.store.project_rows import ProjectRow, ProjectRows

COUNT = 40


@pytest.fixture
def api() -> Iterator[LabelStudioApi]:
    api = LabelStudioApi()
    yield api
    api.close()


class Together:
    """A project, its service and an exchange whose thread does not run: the test reads and pushes."""

    def __init__(self, folder: Path, api: LabelStudioApi, token: str = LEGACY) -> None:
        self.folder, self.api, self.lines = folder, api, list[str]()
        self._token = token
        with ProjectRows(folder / "rows.db") as rows:
            self.texts = {row.id: row.text for row in rows}
        self.open()

    def open(self) -> None:
        self.service: LabelStudioService = open_label_studio_service(self.folder, trainer=False)
        self.trainer = AlphabeticalTrainer(self.folder, list(self.texts))
        self.trainer.service = self.service
        self.service.start(self.trainer)
        client = LabelStudioClient(f"{self.api.address}/projects/3/data?tab=1", self._token)
        self.exchange = LabelStudioExchange(client, self.service, self.lines.append, pause=0.01, longest_pause=0.05)

    def restart(self) -> None:
        self.service.close()
        self.open()

    def task(self, row: str) -> int:
        return next(number for number, task in self.api.tasks.items() if task["data"]["dal_id"] == row)

    def answers(self) -> dict[str, dict[str, Any]]:
        with LabelLog(self.folder / "labels.db", access="read") as log:
            given = {row: log.answers_by(row) for row in self.texts}
            return {row: {who: event.value for who, event in each.items()} for row, each in given.items() if each}

    def events(self) -> int:
        with LabelLog(self.folder / "labels.db", access="read") as log:
            return log.last_event

    def state(self, row: str) -> str:
        with LabelLog(self.folder / "labels.db", access="read") as log:
            return log.row(row).state


@pytest.fixture
def both(tmp_path: Path, api: LabelStudioApi) -> Iterator[Together]:
    both = Together(make_project(tmp_path / "p", n=COUNT), api)
    api.import_tasks(both.texts)
    yield both
    both.exchange.close()
    both.service.close()


def until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_annotations_of_two_people_become_answers_once(both: Together) -> None:
    both.api.annotate(both.task("t1"), "mild", who=1, lead_time=2.5)
    both.api.annotate(both.task("t2"), "severe", who=2)
    both.exchange.read()
    assert both.answers() == {"t1": {"label-studio:1": "mild"}, "t2": {"label-studio:2": "severe"}}
    before = both.events()
    both.exchange.read()
    both.restart()
    both.exchange.read()
    assert both.events() == before
    with LabelLog(both.folder / "labels.db", access="read") as log:
        (event,) = log.answers_by("t1").values()
        assert (event.seconds, event.source) == (2.5, "person")


def test_second_annotator_agrees_or_disputes_and_a_deleted_annotation_ends_it(both: Together) -> None:
    task = both.task("t1")
    both.api.annotate(task, "mild", who=1)
    both.exchange.read()
    wrong = both.api.annotate(task, "severe", who=2)
    both.exchange.read()
    assert both.state("t1") == "disputed"
    assert any("people disagree on 1 text" in line for line in both.lines)
    both.api.delete(task, wrong)
    both.exchange.read()
    assert both.state("t1") == "answered"
    assert both.answers() == {"t1": {"label-studio:1": "mild"}}
    assert any("1 answer retracted" in line for line in both.lines)


def test_changed_annotation_replaces_and_deleting_it_leaves_no_earlier_one(both: Together) -> None:
    task = both.task("t1")
    made = both.api.annotate(task, "mild")
    both.exchange.read()
    both.api.change(task, made, result=choice("severe"))
    both.exchange.read()
    assert both.answers() == {"t1": {"label-studio:1": "severe"}}
    both.api.delete(task, made)
    both.exchange.read()
    assert both.answers() == {}


def test_all_tasks_are_read_again_after_a_while(both: Together, monkeypatch: pytest.MonkeyPatch) -> None:
    task = both.task("t1")
    both.api.annotate(task, "mild")
    both.api.annotate(both.task("t2"), "mild")
    both.exchange.read()
    for each in both.api.tasks.values():  # as a change whose time is hours behind
        each["updated_at"] = "2025-01-01T00:00:00.000001Z"
    both.api.tasks[task]["annotations"] = []
    both.exchange.read()
    assert set(both.answers()) == {"t1", "t2"}
    monkeypatch.setattr("dal.annotate.label_studio_exchange._ALL", 0.0)
    both.exchange.read()
    assert set(both.answers()) == {"t2"}


def test_hostile_annotation_does_not_stop_the_reading(both: Together) -> None:
    note = {"from_name": "why", "to_name": "text", "type": "textarea", "value": {"text": ["half \ud83d"]}}
    both.api.annotate(both.task("t1"), result=[*choice("mild"), note], completed_by={"email": "\udfff@x"})
    both.api.annotate(both.task("t2"), result="[[[")
    both.api.annotate(both.task("t3"), result=choice("\ud800"))
    both.api.tasks[both.task("t4")] |= {"data": {"dal_id": "\ud800", "text": 5}, "id": []}
    both.api.annotate(both.task("t5"), "mild", updated_at=7, id={"a": 1})
    both.api.tasks[both.task("t6")] |= {"predictions": [{"id": [], "result": [1]}]}
    both.api.annotate(both.task("t6"), "mild", parent_prediction=[])
    both.exchange.read()
    assert both.answers()["t1"] == {"?@x": "mild"}
    assert set(both.answers()) == {"t1", "t5", "t6"}
    with LabelLog(both.folder / "labels.db", access="read") as log:
        assert [note.value for note in log.notes("t1")] == ["half ?"]


def test_skipped_task_is_declined(both: Together) -> None:
    both.api.annotate(both.task("t1"), "mild", was_cancelled=True)
    both.exchange.read()
    assert both.state("t1") == "declined"


def test_two_annotations_of_one_person_are_one_answer_and_the_latest_counts(both: Together) -> None:
    task = both.task("t1")
    both.api.annotate(task, "mild")
    last = both.api.annotate(task, "mild")
    both.exchange.read()
    both.api.delete(task, last)
    both.exchange.read()
    assert both.answers() == {"t1": {"label-studio:1": "mild"}}


def test_two_tasks_of_one_text_keep_their_answers_apart(both: Together) -> None:
    both.api.import_tasks({"t1": both.texts["t1"]})
    first, second = (n for n, task in both.api.tasks.items() if task["data"]["dal_id"] == "t1")
    made = both.api.annotate(first, "mild", who=1)
    both.api.annotate(second, "mild", who=2)
    both.exchange.read()
    both.api.delete(first, made)
    both.exchange.read()
    assert both.answers() == {"t1": {"label-studio:2": "mild"}}


def test_wrong_annotations_are_shown_once_and_the_others_are_stored(both: Together) -> None:
    both.api.annotate(both.task("t1"), "fatal")
    both.api.annotate(both.task("t2"), "mild")
    both.api.tasks[both.task("t3")]["data"] = {"dal_id": "t3", "text": "another text"}
    both.api.annotate(3 + 1, "mild")
    both.api.import_tasks({"t99": "unknown"})
    for _ in range(2):
        both.exchange.read()
    assert both.answers() == {"t2": {"label-studio:1": "mild"}}
    shown = "\n".join(both.lines)
    assert shown.count("'fatal' is not a class") == 1
    assert shown.count("its text is not that of the row 't3'") == 1
    assert shown.count("there is no row 't99'") == 1


def test_text_that_was_taken_out_gets_no_answer(both: Together) -> None:
    both.service.close()
    with LabelLog(both.folder / "labels.db") as log:
        log.retire(["t1"])
    both.open()
    both.api.annotate(both.task("t1"), "mild")
    both.exchange.read()
    assert both.answers() == {}
    assert any("was taken out of the project" in line for line in both.lines)


def test_more_tasks_than_fit_on_a_page_are_read_and_later_only_what_changed(
    tmp_path: Path, api: LabelStudioApi
) -> None:
    both = Together(make_project(tmp_path / "p", n=250), api)
    api.import_tasks(both.texts)
    for number in range(1, 251):
        api.annotate(number, "mild")
    both.exchange.read()
    assert len(both.answers()) == 250
    assert sum("/api/tasks" in path for _, path, _ in api.requests) == 3
    api.requests.clear()
    api.annotate(5, "severe", who=2)
    both.exchange.read()
    assert both.state(api.tasks[5]["data"]["dal_id"]) == "disputed"
    assert sum("/api/tasks" in path for _, path, _ in api.requests) == 1
    both.service.close()


def test_ranking_becomes_the_order_of_the_tasks_and_a_new_one_replaces_it(both: Together) -> None:
    both.trainer.work()
    both.exchange.read()
    both.exchange.push()
    first = both.api.model_version
    assert first == both.service.version == "dal 1 Alphabetical"
    expected = sorted(both.texts)[:30]
    assert both.api.next_rows() == expected
    for row in expected[:10]:
        both.api.annotate(both.task(row), "mild")
    both.exchange.read()
    assert both.trainer.work() == 1
    both.exchange.push()
    assert both.api.model_version == "dal 2 Alphabetical"
    assert both.api.next_rows() == sorted(both.texts)[10:]
    requests = len(both.api.requests)
    both.exchange.push()  # it is there
    assert len(both.api.requests) == requests
    both.restart()
    both.exchange.read()
    both.exchange.push()
    assert sum(method != "GET" for method, _, _ in both.api.requests[requests:]) == 0


def test_tasks_that_are_imported_later_are_ranked_too_and_deleted_ones_do_not_stop_it(both: Together) -> None:
    gone = both.task("t0")
    kept = both.api.tasks.pop(both.task("t1"))
    both.trainer.work()
    both.exchange.read()
    both.exchange.push()
    assert any("1 of the 30 texts to label next are no tasks there" in line for line in both.lines)
    assert "t1" not in both.api.next_rows()
    both.api.tasks[77] = kept | {"id": 77}
    both.api._touch(77)
    both.exchange.read()
    both.exchange.push()
    assert both.api.next_rows()[:3] == ["t0", "t1", "t10"]
    del both.api.tasks[gone]
    for row in both.api.next_rows()[:10]:
        both.api.annotate(both.task(row), "mild")
    both.exchange.read()
    both.trainer.work()
    with pytest.raises(LabelStudioError, match="refuses POST /api/projects/3/import/predictions: 400"):
        both.exchange.push()
    both.exchange.read()
    both.exchange.push()
    assert both.api.model_version == "dal 2 Alphabetical"


def test_the_thread_reads_on_hints_and_without_them_and_goes_on_after_errors(both: Together) -> None:
    both.api.fails = 503
    both.exchange.start()
    until(lambda: any("503; trying again" in line for line in both.lines))
    both.api.fails = None
    both.api.annotate(both.task("t1"), "mild")
    until(lambda: "t1" in both.answers())
    both.api.annotate(both.task("t2"), "mild")  # no hint: it was lost
    until(lambda: "t2" in both.answers())
    assert sum("trying again" in line for line in both.lines) == 1


def test_recorded_tasks_are_read(tmp_path: Path) -> None:
    tasks = recorded("api.tasks.json")["tasks"]
    folder = make_project(tmp_path / "p", n=0, classes=("delivery", "payment", "login"))
    with ProjectRows(folder / "rows.db") as rows:
        rows.add([ProjectRow(t["data"]["dal_id"], t["data"]["text"]) for t in tasks], source="pool.csv")
    service = open_label_studio_service(folder, trainer=False)
    read = service.read(tasks, "host/3")
    assert read.mistakes == []
    found = {answer.row: (answer.value, answer.who, answer.seconds) for answer in read.answers}
    assert found["r13"] == ("payment", "label-studio:1", 3.5)
    assert sorted(found) == ["r0", "r13", "r29"]
    assert {answer.key.rpartition(":")[0] for answer in read.answers if answer.row == "r13"} == {
        f"label-studio:host/3:{next(t['id'] for t in tasks if t['data']['dal_id'] == 'r13')}:25"
    }
    stored, retracted = service.store(read)
    assert (stored.new, retracted) == (3, 0)
    service.close()


def test_suggestion_that_was_shown_is_stored_with_the_answer(both: Together) -> None:
    task = both.task("t1")
    both.api.tasks[task]["predictions"] = [{"id": 5, "model_version": "dal 1", "result": choice("mild"), "score": 0.1}]
    both.api.annotate(task, "mild", parent_prediction=5)
    both.api.annotate(both.task("t2"), "mild")
    both.exchange.read()
    with LabelLog(both.folder / "labels.db", access="read") as log:
        assert [log.answers_by(row)["label-studio:1"].seen for row in ("t1", "t2")] == [
            '{"model": true}',
            '{"model": false}',
        ]


# -- the token ---------------------------------------------------------------------------------------------------------


def test_personal_access_token_is_exchanged_and_renewed(tmp_path: Path, api: LabelStudioApi) -> None:
    both = Together(make_project(tmp_path / "p", n=3), api, REFRESH)
    api.import_tasks(both.texts)
    both.exchange.read()
    api.accesses.append("access-2")  # the first has expired
    both.exchange.read()
    used = [authorization for _, path, authorization in api.requests if path.startswith("/api/tasks")]
    assert used == ["Bearer access-1", "Bearer access-1", "Bearer access-2"]
    both.service.close()


@pytest.mark.parametrize("token", [LEGACY.replace("0", "f"), REFRESH + "x"])
def test_token_that_is_refused_is_not_in_the_message(api: LabelStudioApi, token: str) -> None:
    client = LabelStudioClient(api.address, token)
    with pytest.raises(LabelStudioError) as raised:
        list(client.tasks(3))
    assert "token is not accepted" in str(raised.value) or "does not accept the token" in str(raised.value)
    assert token not in str(raised.value)


def test_redirect_does_not_take_the_token_elsewhere(api: LabelStudioApi) -> None:
    other = LabelStudioApi()
    api.redirect = f"{other.address}/api/tasks"
    with pytest.raises(LabelStudioError, match="302, a redirect"):
        list(LabelStudioClient(api.address, LEGACY).tasks(3))
    assert other.requests == []
    other.close()


@pytest.mark.parametrize(
    "address",
    [
        "",
        "127.0.0.1:8080",
        "ftp://host",
        "http://",
        "http://user:secret@host",
        "http://host:99999",
        "file:///etc/passwd",
    ],
)
def test_wrong_address_is_refused(address: str) -> None:
    with pytest.raises(ConfigError, match="is no address of a Label Studio"):
        LabelStudioClient(address, LEGACY)


@pytest.mark.parametrize("token", ["", "two words", "a\r\nHost: evil.example", "h\u00e9"])
def test_token_that_would_change_the_request_is_refused(token: str) -> None:
    with pytest.raises(ConfigError, match="one line without spaces"):
        LabelStudioClient("http://127.0.0.1:1", token)


@pytest.mark.parametrize(
    ("address", "server", "project"),
    [
        ("http://127.0.0.1:8080/", "127.0.0.1:8080", None),
        ("https://LS.example/label/projects/12/data?tab=3&task=4", "ls.example/label", 12),
        ("https://ls.example/projects/12", "ls.example", 12),
        ("https://ls.example/label", "ls.example/label", None),
    ],
)
def test_address_of_the_browser_names_server_and_project(address: str, server: str, project: int | None) -> None:
    client = LabelStudioClient(address, LEGACY)
    assert (client.server, client.project) == (server, project)


def test_server_that_is_away_is_one_line() -> None:
    with pytest.raises(LabelStudioError, match=r"^http://127\.0\.0\.1:1 cannot be reached: .*refused"):
        list(LabelStudioClient("http://127.0.0.1:1", LEGACY).tasks(3))
