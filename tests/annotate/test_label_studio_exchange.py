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
from dal.annotate.people_answers import StoredAnswers
from dal.errors import ConfigError
from dal.formats.corpus import Corpus, CorpusAnswer, CorpusRow
from dal.formats.label_studio import labeling_config, tasks
from dal.formats.label_studio_export import ReadTasks
from dal.store.events import SKIP, Answer
from dal.store.label_log import LabelLog
from dal.store.log_figures import all_answers
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
        self._token, self.imports = token, False
        with ProjectRows(folder / "rows.db") as rows:
            self.texts = {row.id: row.text for row in rows}
        self.open()

    def open(self) -> None:
        self.service: LabelStudioService = open_label_studio_service(self.folder, trainer=False)
        self.trainer = AlphabeticalTrainer(self.folder, list(self.texts))
        self.trainer.service = self.service
        self.service.start(self.trainer)
        client = LabelStudioClient(f"{self.api.address}/projects/3/data?tab=1", self._token)
        self.exchange = LabelStudioExchange(
            client, self.service, self.lines.append, imports=self.imports, pause=0.01, longest_pause=0.05
        )

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
    assert any("1 answer retracted: its annotation was deleted or changed back" in line for line in both.lines)


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


def test_name_that_looks_like_another_is_shown_and_left_out(both: Together) -> None:
    both.api.annotate(both.task("t1"), "mild", who={"email": "ana@x"})
    both.exchange.read()
    both.api.annotate(both.task("t2"), "mild", who={"email": "ANA@x"})
    both.api.annotate(both.task("t3"), "mild", who={"email": "ana@x"})
    both.exchange.read()
    assert set(both.answers()) == {"t1", "t3"}
    assert any("the name 'ANA@x' looks like 'ana@x'" in line for line in both.lines)


def test_text_that_was_taken_out_gets_no_answer(both: Together) -> None:
    both.service.close()
    with LabelLog(both.folder / "labels.db") as log:
        log.retire(["t1"])
    both.open()
    both.api.annotate(both.task("t1"), "mild")
    both.exchange.read()
    assert both.answers() == {}
    assert any("was taken out of the project" in line for line in both.lines)


def test_server_with_shorter_pages_is_read_to_its_end(both: Together) -> None:
    both.api.longest_page = 3
    for number in both.api.tasks:
        both.api.annotate(number, "mild")
    both.exchange.read()
    assert len(both.answers()) == len(both.api.tasks) > 2 * both.api.longest_page


def test_more_tasks_than_fit_on_a_page_are_read_and_later_only_what_changed(
    tmp_path: Path, api: LabelStudioApi
) -> None:
    both = Together(make_project(tmp_path / "p", n=250), api)
    api.import_tasks(both.texts)
    for number in range(1, 251):
        api.annotate(number, "mild")
    both.exchange.read()
    assert len(both.answers()) == 250
    assert sum("/api/tasks" in path for _, path, _ in api.requests) == 1 + 4  # that of the last change, and pages
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
    both.exchange.complete()
    both.exchange.complete()
    line = f"1 of {COUNT} texts are not in project 3 of Label Studio: --import imports them"
    assert [each for each in both.lines if "--import" in each] == [line]
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


def test_exported_answers_that_come_back_are_skipped_until_somebody_changes_them(both: Together) -> None:
    with LabelLog(both.folder / "labels.db") as log:  # the service has the lock of the folder, and not of the log
        log.tell([Answer("t1", "mild", "ana"), Answer("t2", SKIP, "ana")])
        (first, second) = (log.answers_by(row)["ana"] for row in ("t1", "t2"))
    rows = [
        CorpusRow("t1", both.texts["t1"], answers=(CorpusAnswer(("mild",), "ana", at=first.at),)),
        CorpusRow("t2", both.texts["t2"], answers=(CorpusAnswer(None, "ana", at=second.at),)),
    ]
    both.api.tasks.clear()
    one, _ = both.api.import_file(tasks(Corpus(rows, ("none", "mild", "severe"))))
    before = both.events()
    both.exchange.read()
    both.exchange.read()
    assert both.events() == before
    line = "2 annotations are answers that dal exported and nobody has changed: left out"
    assert [each for each in both.lines if "exported" in each] == [line]
    (made,) = both.api.tasks[one]["annotations"]
    both.api.change(one, made["id"], result=choice("severe"), updated_by=2)
    both.exchange.read()
    assert both.answers()["t1"] == {"ana": "mild", "label-studio:2": "severe"}
    assert both.state("t1") == "disputed"
    both.api.change(one, made["id"], result=choice("mild"), updated_by=2)
    both.exchange.read()
    assert both.answers()["t1"] == {"ana": "mild"}
    assert any("1 answer retracted: its annotation was deleted or changed back" in each for each in both.lines)


# -- pages -------------------------------------------------------------------------------------------------------------


def test_what_was_read_before_an_error_is_stored_and_the_next_reading_goes_on(
    tmp_path: Path, api: LabelStudioApi
) -> None:
    both = Together(make_project(tmp_path / "p", n=200), api)
    api.import_tasks(both.texts)
    for number in range(1, 201):
        api.annotate(number, "mild")
    api.fails_at_page = 3
    with pytest.raises(LabelStudioError, match="503"):
        both.exchange.read()
    assert len(both.answers()) == 128
    assert any("128 answers stored" in line for line in both.lines)
    both.restart()  # as after a kill
    api.fails_at_page = None
    both.exchange.read()
    assert len(both.answers()) == 200
    assert any("72 answers stored" in line for line in both.lines)
    with LabelLog(both.folder / "labels.db", access="read") as log:
        assert sum(len(all_answers(log, row)) for row in both.texts) == 200
    both.service.close()


def test_page_of_long_tasks_is_asked_for_in_halves(both: Together, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dal.annotate.label_studio_client._MOST_PAGE", 10_000)
    for number in range(1, COUNT + 1):
        both.api.annotate(number, "mild")
    client = LabelStudioClient(both.api.address, LEGACY)
    pages = list(client.tasks(3))
    assert sorted(task["id"] for page in pages for task in page) == list(range(1, COUNT + 1))
    assert 1 < max(map(len, pages)) < 16
    monkeypatch.setattr("dal.annotate.label_studio_client._MOST_PAGE", 10)
    monkeypatch.setattr("dal.annotate.label_studio_client._MOST", 900)
    with pytest.raises(LabelStudioError, match="answers with more than 900 bytes"):
        list(client.tasks(3))


def test_latest_annotation_of_a_person_counts_although_its_task_is_on_an_earlier_page(
    tmp_path: Path, api: LabelStudioApi
) -> None:
    both = Together(make_project(tmp_path / "p", n=100), api)
    api.import_tasks(both.texts)
    api.import_tasks({"t1": both.texts["t1"]})
    first, second = (n for n, task in api.tasks.items() if task["data"]["dal_id"] == "t1")
    old, new = api.annotate(first, "mild"), api.annotate(second, "severe")
    for number in range(1, 81):  # between them, so that the older annotation is on the second page
        if number != first:
            api._touch(number)
    api._touch(second)
    both.exchange.read()
    assert both.answers() == {"t1": {"label-studio:1": "severe"}}
    api.delete(second, new)
    both.exchange.read()
    both.exchange.read()  # all tasks are read again
    assert both.answers() == {"t1": {"label-studio:1": "mild"}}
    api.delete(first, old)
    both.exchange.read()
    assert both.answers() == {}
    both.service.close()


def test_change_during_the_reading_of_all_tasks_is_read_next(
    tmp_path: Path, api: LabelStudioApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    both = Together(make_project(tmp_path / "p", n=200), api)
    api.import_tasks(both.texts)
    store = both.service.store

    def store_and_change(read: ReadTasks) -> tuple[StoredAnswers, int]:
        stored = store(read)
        if len(read.tasks) == 8:  # the last page: a task of the first one is changed, and then many others
            api.annotate(200, "mild")
            for _ in range(60):
                api._touch(1)
        return stored

    monkeypatch.setattr(both.service, "store", store_and_change)
    both.exchange.read()
    assert both.answers() == {}
    monkeypatch.undo()
    both.exchange.read()
    assert set(both.answers()) == {api.tasks[200]["data"]["dal_id"]}
    both.service.close()


def test_reading_that_is_ended_in_the_middle_imports_nothing(importing: Together) -> None:
    importing.exchange.close()
    importing.exchange.read()
    assert not importing.exchange.complete()
    assert len(importing.api.tasks) == 3


# -- import ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def importing(tmp_path: Path, api: LabelStudioApi) -> Iterator[Together]:
    """A project of 250 texts, of which three are in Label Studio, one is retired and one answered."""
    both = Together(make_project(tmp_path / "p", n=250), api)
    both.service.close()
    with LabelLog(both.folder / "labels.db") as log:
        log.retire(["t9"])
        log.tell([Answer("t8", "mild", "ana")])
    api.import_tasks({row: both.texts[row] for row in ("t0", "t1", "t2")})
    api.label_config = labeling_config(("none", "mild", "severe"))
    both.imports = True
    both.open()
    yield both
    both.exchange.close()
    both.service.close()


def test_missing_texts_are_imported_once_with_their_answers(importing: Together) -> None:
    both = importing
    imported = []
    for _ in range(2):
        both.exchange.read()
        imported.append(both.exchange.complete())
    assert imported == [True, False]
    rows = [task["data"]["dal_id"] for task in both.api.tasks.values()]
    assert sorted(rows) == sorted(set(both.texts) - {"t9"})
    assert next(each for each in both.lines if "imported" in each).endswith(
        "246 of 249 texts imported into project 3 of Label Studio"
    )
    assert not any("--import" in each for each in both.lines)
    assert both.api.tasks[both.task("t7")]["data"]["visit"] == 7
    (annotation,) = both.api.tasks[both.task("t8")]["annotations"]
    assert annotation["result"] == choice("mild")
    before = both.events()
    both.restart()
    both.exchange.read()
    both.exchange.complete()
    assert len(both.api.tasks) == 249
    assert both.events() == before
    assert both.answers() == {"t8": {"ana": "mild"}}
    both.trainer.work()
    both.exchange.push()
    assert len(both.api.next_rows()) == 30


def test_import_that_was_interrupted_goes_on_with_the_rest(importing: Together) -> None:
    both = importing
    both.exchange.read()
    both.api.fails_after_imports = 1
    with pytest.raises(LabelStudioError, match="refuses POST /api/projects/3/import: 503"):
        both.exchange.complete()
    assert len(both.api.tasks) == 203
    both.api.fails_after_imports = None
    both.exchange.read()
    both.exchange.complete()
    rows = [task["data"]["dal_id"] for task in both.api.tasks.values()]
    assert len(rows) == len(set(rows)) == 249


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ("<View/>", "has no control 'label'"),
        (labeling_config(("none", "mild", "fatal")), "offers 'fatal', which is no class of the project"),
        (labeling_config(("none", "mild")), "nothing is imported .* lacks the class 'severe'"),
    ],
)
def test_nothing_is_imported_into_a_project_with_other_classes(importing: Together, config: str, message: str) -> None:
    both = importing
    right, both.api.label_config = both.api.label_config, config
    both.exchange.read()
    with pytest.raises(ConfigError, match=message):
        both.exchange.complete()
    assert len(both.api.tasks) == 3
    both.api.label_config = right
    both.exchange.read()
    both.exchange.complete()
    assert len(both.api.tasks) == 249


# -- the token ---------------------------------------------------------------------------------------------------------


def test_personal_access_token_is_exchanged_and_renewed(tmp_path: Path, api: LabelStudioApi) -> None:
    both = Together(make_project(tmp_path / "p", n=3), api, REFRESH)
    api.import_tasks(both.texts)
    both.exchange.read()
    api.accesses.append("access-2")  # the first has expired
    both.exchange.read()
    used = [authorization for _, path, authorization in api.requests if path.startswith("/api/tasks")]
    assert used == ["Bearer access-1", "Bearer access-1", "Bearer access-1", "Bearer access-2"]
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
