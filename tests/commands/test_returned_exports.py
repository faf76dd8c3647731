"""Answers that `dal export` writes for Label Studio and Prodigy, when they come back to the project."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from command import Command, Finished
from label_studio_api import LabelStudioApi, choice

from dal.store.events import Answer, Skip
from dal.store.label_log import LabelLog

LEFT_OUT = "left out: written by `dal export`, and not changed since"


@pytest.fixture
def dal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    """The command in a folder with a project in which four texts are answered, one of them by two people."""
    monkeypatch.chdir(tmp_path)
    Path("pool.csv").write_text("id,text\n" + "".join(f"d{n},text {n}\n" for n in range(6)))
    dal = Command(capsys)
    ended = dal("init", "first", "--data", "pool.csv", "--id", "id", "--classes", "a,b", "--learner", "TfidfLearner")
    assert ended.code == 0, ended.err
    with LabelLog(Path("first/labels.db")) as log:
        log.ask(["d0", "d1", "d2", "d3"], wanted={"d1": 2})
        log.tell([Answer("d0", "a", "ana"), Answer("d1", "a", "ana"), Answer("d1", "b", "ben")])
        log.tell([Answer("d2", Skip.SKIP, "ana"), Answer("d3", "b", "gpt", "llm")])
    return dal


@pytest.fixture
def api() -> Iterator[LabelStudioApi]:
    api = LabelStudioApi()
    yield api
    api.close()


def exported(dal: Command, folder: str = "first") -> list[dict[str, Any]]:
    assert dal("export", folder, "--to", "label-studio", "--all", "--force").code == 0
    return json.loads(Path("tasks.json").read_bytes())  # type: ignore[no-any-return]


def told(dal: Command, tasks: list[dict[str, Any]], folder: str = "first", *options: str) -> Finished:
    Path("export.json").write_text(json.dumps(tasks), "utf-8")
    ended = dal("tell", folder, "export.json", *options)
    assert ended.code == 0, ended.err
    return ended


def answers(folder: str = "first") -> dict[str, dict[str, Any]]:
    with LabelLog(Path(folder, "labels.db"), access="read") as log:
        given = {f"d{n}": log.answers_by(f"d{n}") for n in range(6)}
        return {row: {who: event.value for who, event in each.items()} for row, each in given.items() if each}


def test_own_answers_that_come_back_unchanged_are_no_further_person(dal: Command, api: LabelStudioApi) -> None:
    before, tasks = answers(), exported(dal)
    api.import_file(tasks)
    for each in (tasks, api.export()):  # the file itself, and what Label Studio made of it
        ended = told(dal, each)
        assert f"5 answers {LEFT_OUT}" in ended.err
        assert ended.out.startswith("0 new answers stored, 0 were already stored")
    assert answers() == before


def test_changed_annotation_is_an_answer_of_the_user_who_changed_it(dal: Command, api: LabelStudioApi) -> None:
    tasks = exported(dal)
    api.import_file(tasks)
    numbers = {task["data"]["dal_id"]: number for number, task in api.tasks.items()}
    for row, result in (("d0", choice("b")), ("d2", choice("a"))):
        (annotation,) = api.tasks[numbers[row]]["annotations"]
        api.change(numbers[row], annotation["id"], result=result, updated_by=4, was_cancelled=False)
    api.annotate(numbers["d3"], "b", who=5)  # another annotation, which says the same
    ended = told(dal, api.export())
    assert f"3 answers {LEFT_OUT}" in ended.err
    assert answers()["d0"] == {"ana": "a", "label-studio:4": "b"}
    assert answers()["d2"] == {"ana": None, "label-studio:4": "a"}
    assert answers()["d3"] == {"gpt": "b", "label-studio:5": "b"}
    assert f"3 answers {LEFT_OUT}" in told(dal, api.export()).err


def test_comment_on_an_exported_answer_makes_it_one_of_the_commentator(dal: Command, api: LabelStudioApi) -> None:
    api.import_file(exported(dal))
    (number,) = (number for number, task in api.tasks.items() if task["data"]["dal_id"] == "d0")
    comment = {"from_name": "why", "to_name": "text", "type": "textarea", "value": {"text": ["sure?"]}}
    (annotation,) = api.tasks[number]["annotations"]
    api.change(number, annotation["id"], result=[*choice("a"), comment], updated_by=4)
    told(dal, api.export())
    assert answers()["d0"] == {"ana": "a", "label-studio:4": "a"}


def test_own_answers_are_known_after_they_were_replaced_and_their_class_renamed(
    dal: Command, api: LabelStudioApi
) -> None:
    api.import_file(exported(dal))
    with LabelLog(Path("first/labels.db")) as log:
        log.tell([Answer("d0", "b", "ana")])
    assert dal("classes", "first", "rename", "a", "alpha").code == 0
    before = answers()
    assert f"5 answers {LEFT_OUT}" in told(dal, api.export()).err
    assert answers() == before


def test_imported_answers_are_known_by_their_first_time(dal: Command, api: LabelStudioApi) -> None:
    assert dal("export", "first", "-o", "x.jsonl", "--all").code == 0
    assert dal("init", "second", "--data", "x.jsonl", "--learner", "TfidfLearner").code == 0
    api.import_file(exported(dal, "second"))
    before = answers("second")
    for folder in ("second", "first"):  # the same answers of the same people
        assert f"5 answers {LEFT_OUT}" in told(dal, api.export(), folder).err
    assert answers("second") == before


def test_answers_of_another_project_are_new(dal: Command, api: LabelStudioApi) -> None:
    api.import_file(exported(dal))
    more = ("--id", "id", "--classes", "a,b", "--learner", "TfidfLearner")
    assert dal("init", "other", "--data", "pool.csv", *more).code == 0
    ended = told(dal, api.export(), "other", "--correct")
    assert LEFT_OUT not in ended.err
    assert set(answers("other")) == {"d0", "d1", "d2", "d3"}


def test_labels_of_the_data_are_no_answers(dal: Command, api: LabelStudioApi) -> None:
    Path("some.csv").write_text("id,text,label\nd0,text 0,a\nd1,text 1,\nd2,text 2,b\nd3,text 3,\n")
    data = "data: {path: some.csv, id: id, classes: [a, b]}\n"
    Path("some.yaml").write_text(f"{data}learner: TfidfLearner\nstrategy: Random\n")
    assert dal("ask", "asked", "--config", "some.yaml", "-n", 2, "-o", "todo.csv").code == 0
    api.import_file(exported(dal, "asked"))
    ended = told(dal, api.export(), "asked")
    assert f"2 answers {LEFT_OUT}" in ended.err
    assert ended.out.startswith("0 new answers stored")


def test_prodigy_tasks_that_come_back_are_no_answers(dal: Command) -> None:
    before = answers()
    assert dal("export", "first", "--to", "prodigy", "--all").code == 0
    ended = dal("tell", "first", "tasks.jsonl")
    assert ended.code == 0, ended.err
    assert f"3 answers {LEFT_OUT}" in ended.err  # those that stand
    assert answers() == before


def test_name_of_label_studio_that_looks_like_another_is_refused(dal: Command, api: LabelStudioApi) -> None:
    api.import_tasks({"d4": "text 4", "d5": "text 5"})
    api.annotate(1, "a", who={"email": "Ana"})
    Path("export.json").write_text(json.dumps(api.export()), "utf-8")
    ended = dal("tell", "first", "export.json", "--correct")
    assert ended.code == 2
    assert "task 1: the name 'Ana' looks like 'ana': each person needs a name of her own" in ended.err
    assert told(dal, api.export(), "first", "--correct", "--who", "ana").out.startswith("1 new answer stored")


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("more.csv", "id,text\nn1,a new text\nd1,text 1\nn2,another new text\n"),
        ("more.csv", "id,text,label\nn1,a new text,a\nn2,another new text,b\n"),
        ("more.jsonl", '{"text": "a new text"}\n{"text": "another new text"}\n'),
        ("more.json", '[{"text": "a new text"}, {"text": "another new text"}]'),
    ],
)
def test_file_with_further_texts_is_for_dal_add(dal: Command, name: str, content: str) -> None:
    Path(name).write_text(content)
    ended = dal("tell", "first", name)
    assert ended.code == 2
    assert f"it has 2 texts that the project lacks: `dal add first {name}` adds them" in ended.err


def test_file_of_dal_export_that_cannot_be_told_is_for_dal_add(dal: Command) -> None:
    Path("other.csv").write_text("id,text\nx1,some text\n")
    more = ("--id", "id", "--classes", "a,b", "--learner", "TfidfLearner")
    assert dal("init", "other", "--data", "other.csv", *more).code == 0
    for name in ("labels.csv", "labels.jsonl", "labels.parquet"):
        assert dal("export", "first", "-o", name, "--all").code == 0
        ended = dal("tell", "other", name)
        assert ended.code == 2
        assert (
            f"`dal add other {name}` takes a file of `dal export` with its texts and everybody's answers" in ended.err
        )


def test_wrong_label_of_a_sheet_says_nothing_of_adding(dal: Command) -> None:
    Path("todo.csv").write_text("id,text,label\nd4,a text that somebody changed,c\n")
    ended = dal("tell", "first", "todo.csv")
    assert ended.code == 2
    assert "dal add" not in ended.err
