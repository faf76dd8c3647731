"""`dal export`, and `dal tell` with the files of other programs."""

import csv
import json
from pathlib import Path
from typing import Any

import pytest
from command import Command, asking, fill, read_rows, running, write_tickets

from dal.formats.corpus_files import read_corpus
from dal.store.folder_lock import Lock
from dal.store.label_log import LabelLog


@pytest.fixture
def dal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    """The command in a folder with a pool, of which six texts were asked."""
    monkeypatch.chdir(tmp_path)
    write_tickets(Path("tickets.csv"), 12, labels=False)
    dal = Command(capsys).configured(config=asking())
    assert dal("ask", "folder", "--config", "config.yaml", "-n", 6, "-o", "todo.csv").code == 0
    return dal


def answered(dal: Command, *answers: str) -> None:
    fill(Path("todo.csv"), answers)
    ended = dal("tell", "folder", "todo.csv", "--who", "ana")
    assert ended.code == 0, ended.err


def asked_ids() -> list[str]:
    return [row["id"] for row in read_rows("todo.csv")]


def label_studio_export(tasks: list[dict[str, Any]], *answers: str | None, who: object = 3) -> list[dict[str, Any]]:
    """An export in which the first tasks were answered: a class, or None for a skipped text."""
    exported = []
    for number, task in enumerate(tasks):
        made = {"id": 40 + number, "data": task["data"], "annotations": []}
        if number < len(answers):
            value = {"choices": [answers[number]]}
            result = [{"from_name": "label", "to_name": "text", "type": "choices", "value": value}]
            cancelled = answers[number] is None
            annotation = {"id": 7, "completed_by": who, "was_cancelled": cancelled, "lead_time": 3.5}
            made["annotations"] = [annotation | {"result": [] if cancelled else result}]
        exported.append(made)
    return exported


def test_labels_are_exported_with_their_provenance(dal: Command) -> None:
    answered(dal, "billing", "access", "skip")
    ended = dal("export", "folder")
    assert ended.code == 0, ended.err
    assert (
        "written: labels.csv, 2 texts; left out: 1 declined, 3 waiting for an answer, 6 never asked (--all)"
        in ended.err
    )
    rows = {row["id"]: row for row in read_rows("labels.csv")}
    first = rows[asked_ids()[0]]
    assert (first["label"], first["who"], first["source"]) == ("billing", "ana", "person")
    assert (first["round"], first["strategy"], first["state"]) == ("1", "Random", "answered")
    assert first["at"].startswith("20")
    assert json.loads(first["answers"])[0]["classes"] == ["billing"]


@pytest.mark.parametrize("name", ["x.csv", "x.jsonl", "x.parquet"])
def test_every_text_is_exported_in_the_order_of_the_data(dal: Command, name: str) -> None:
    answered(dal, "billing", "skip")
    assert dal("export", "folder", "-o", name, "--all").code == 0
    corpus = read_corpus(Path(name))
    assert [row.id for row in corpus.rows] == [f"t{i}" for i in range(12)]
    assert corpus.counts == {"answered": 1, "declined": 1, "pending": 4, "new": 6}
    before = Path(name).read_bytes()
    assert dal("export", "folder", "-o", name, "--all", "--force").code == 0
    assert Path(name).read_bytes() == before


def test_correction_replaces_the_answer_and_another_person_is_kept(dal: Command) -> None:
    answered(dal, "billing")
    fill(Path("todo.csv"), ["access"])
    assert dal("tell", "folder", "todo.csv", "--who", "ana", "--correct").code == 0
    fill(Path("todo.csv"), ["shipping"])
    assert dal("tell", "folder", "todo.csv", "--who", "ben", "--correct").code == 0
    assert dal("export", "folder", "-o", "x.jsonl").code == 0
    (row,) = read_corpus(Path("x.jsonl")).rows
    assert [(a.who, a.classes, a.stands) for a in row.answers] == [
        ("ana", ("access",), False),
        ("ben", ("shipping",), True),
    ]


def test_terminal_gets_csv(dal: Command) -> None:
    answered(dal, "billing")
    ended = dal("export", "folder", "-o", "-")
    (line,) = csv.DictReader(ended.out.splitlines())
    assert (line["id"], line["label"]) == (asked_ids()[0], "billing")


def test_labels_of_a_run_are_its_answers_and_hidden_ones_stay_hidden(dal: Command) -> None:
    write_tickets(Path("tickets.csv"), 40)
    dal.configured(run=running(rounds=1, batch=4, start=4))
    assert dal("run", "run.yaml", "--folder", "run").code == 0
    assert dal("export", "run", "-o", "x.jsonl", "--all").code == 0
    corpus = read_corpus(Path("x.jsonl"))
    assert corpus.counts["answered"] == 8
    assert {row.answer.source for row in corpus.only("answered").rows if row.answer} == {"simulated"}
    assert not any(row.answers for row in corpus.only("new").rows)


def test_labels_that_came_with_the_data_are_exported(dal: Command) -> None:
    lines = ["id,text,label", "a,one,x", "b,two,y", "c,three,", "d,four,"]
    Path("some.csv").write_text("\n".join(lines) + "\n")
    dal.configured(some="data: {path: some.csv, id: id}\nlearner: TfidfLearner\nstrategy: Random\n")
    assert dal("ask", "half", "--config", "some.yaml", "-n", 1, "-o", "-").code == 0
    assert dal("export", "half", "-o", "x.jsonl").code == 0
    rows = read_corpus(Path("x.jsonl")).rows
    assert [(row.id, row.answer.source, row.answer.classes) for row in rows if row.answer] == [
        ("a", "data", ("x",)),
        ("b", "data", ("y",)),
    ]


def test_nothing_to_export_is_said(dal: Command) -> None:
    ended = dal("export", "folder")
    assert (ended.code, "no labeled texts yet (--all" in ended.err) == (2, True)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["-o", "labels.xlsx"], "the suffix decides the format"),
        (["-o", "todo.csv"], "already exists"),
        (["-o", "tickets.csv", "--force"], "is read by this command"),
        (["-o", "folder/labels.db", "--force"], "labels.db"),
        (["--to", "label-studio", "-o", "tasks.csv"], "writes a file that ends in .json"),
        (["--to", "prodigy", "-o", "tasks.json"], "writes a file that ends in .jsonl"),
        (["--to", "label-studio", "-o", "-"], "writes more than one file"),
        (["--to", "excel"], "invalid choice: 'excel'"),
        (["--to", "huggingface", "-o", "todo.csv"], "is a file: a Hugging Face data set is a folder"),
        (["--cell", "x"], "is itself one cell"),
    ],
)
def test_wrong_option_is_refused_in_one_line(dal: Command, arguments: list[str], message: str) -> None:
    answered(dal, "billing")
    ended = dal("export", "folder", *arguments)
    assert ended.code == 2
    assert message in ended.messages[-1]
    assert not Path("tasks.xml").exists()


def test_hugging_face_folder(dal: Command) -> None:
    answered(dal, "billing", "access")
    assert dal("export", "folder", "--to", "huggingface").code == 0
    assert {row.answer.classes for row in read_corpus(Path("labels")).rows if row.answer} == {("billing",), ("access",)}
    assert "--force" in dal("export", "folder", "--to", "huggingface").err
    assert dal("export", "folder", "--to", "huggingface", "--force").code == 0


def test_label_studio_tasks_come_in_the_order_that_was_asked(dal: Command) -> None:
    ended = dal("export", "folder", "--to", "label-studio")
    assert ended.code == 0, ended.err
    tasks = json.loads(Path("tasks.json").read_bytes())
    assert [task["data"]["dal_id"] for task in tasks] == asked_ids()
    assert [task["predictions"][0]["score"] for task in tasks] == sorted(n / 6 for n in range(1, 7)) or tasks
    assert {task["predictions"][0]["model_version"] for task in tasks} == {"dal 1 Random"}
    assert '<Choice value="billing"/>' in Path("tasks.xml").read_text("utf-8")


def test_label_studio_answers_are_told(dal: Command) -> None:
    dal("export", "folder", "--to", "label-studio")
    tasks = json.loads(Path("tasks.json").read_bytes())
    Path("export.json").write_text(json.dumps(label_studio_export(tasks, "billing", "shipping", None)))
    ended = dal("tell", "folder", "export.json")
    assert ended.code == 0, ended.err
    assert ended.out.startswith("3 new answers stored, 0 were already stored; 3 texts are still to be answered, 2 have")
    assert dal("tell", "folder", "export.json").out.startswith("0 new answers stored, 3 were already stored")
    dal("export", "folder", "-o", "x.jsonl", "--all")
    corpus = read_corpus(Path("x.jsonl"))
    found = {row.id: row.answer for row in corpus.rows if row.answer}
    first, second, third = asked_ids()[:3]
    assert [found[id].classes for id in (first, second, third)] == [("billing",), ("shipping",), None]
    assert (found[first].who, found[first].seconds) == ("label-studio:3", 3.5)


def test_comment_of_label_studio_is_a_note(dal: Command) -> None:
    dal("export", "folder", "--to", "label-studio")
    export = label_studio_export(json.loads(Path("tasks.json").read_bytes()), "billing")
    comment = {"from_name": "why", "to_name": "text", "type": "textarea", "value": {"text": ["unsure"]}}
    export[0]["annotations"][0]["result"].append(comment)
    Path("export.json").write_text(json.dumps(export))
    for _ in range(2):
        assert dal("tell", "folder", "export.json").code == 0
    dal("export", "folder", "-o", "x.jsonl")
    (row,) = read_corpus(Path("x.jsonl")).rows
    assert [(note.text, note.who) for note in row.notes] == [("unsure", "label-studio:3")]


def test_wrong_label_studio_task_stores_nothing(dal: Command) -> None:
    dal("export", "folder", "--to", "label-studio")
    tasks = json.loads(Path("tasks.json").read_bytes())
    Path("export.json").write_text(json.dumps(label_studio_export(tasks, "billing", "shippings")))
    ended = dal("tell", "folder", "export.json")
    assert ended.code == 2
    assert "one mistake; nothing was stored" in ended.err
    assert "task 41: 'shippings' is not a class; did you mean 'shipping'?" in ended.err
    assert "no labeled texts yet" in dal("export", "folder").err


def test_people_who_contradict_each_other_are_named(dal: Command) -> None:
    dal("export", "folder", "--to", "label-studio")
    tasks = json.loads(Path("tasks.json").read_bytes())
    both = [*label_studio_export(tasks[:1], "billing"), *label_studio_export(tasks[:1], "shipping", who=4)]
    Path("export.json").write_text(json.dumps(both))
    ended = dal("tell", "folder", "export.json")
    assert ended.code == 2
    assert "task 40: 'shipping' contradicts 'billing' on task 40" in ended.err
    same = [*label_studio_export(tasks[:1], "shipping"), *label_studio_export(tasks[:1], "shipping", who=4)]
    Path("export.json").write_text(json.dumps(same))
    ended = dal("tell", "folder", "export.json", "--who", "ana")
    assert "has answers of 2 people (label-studio:3, label-studio:4)" in ended.err
    assert dal("tell", "folder", "export.json").code == 0


def test_text_that_was_not_asked_needs_correct(dal: Command) -> None:
    dal("export", "folder", "--to", "label-studio", "--all")
    tasks = [each for each in json.loads(Path("tasks.json").read_bytes()) if "predictions" not in each]
    assert len(tasks) == 6
    Path("export.json").write_text(json.dumps(label_studio_export(tasks, "shipping")))
    assert "was not asked (--correct accepts it anyway)" in dal("tell", "folder", "export.json").err
    assert dal("tell", "folder", "export.json", "--correct").out.startswith("1 new answer stored")


def test_label_studio_csv_is_refused(dal: Command) -> None:
    Path("export.csv").write_text("annotation_id,annotator,dal_id,id,label,lead_time,text\n1,1,t0,t3,bug,2,some\n")
    ended = dal("tell", "folder", "export.csv")
    assert ended.code == 2
    assert "is Label Studio's CSV export" in ended.err


def test_prodigy_answers_are_told(dal: Command) -> None:
    assert dal("export", "folder", "--to", "prodigy").code == 0
    lines = [json.loads(line) for line in Path("tasks.jsonl").read_text("utf-8").splitlines()]
    assert [line["dal_id"] for line in lines] == asked_ids()
    lines[0] |= {"accept": ["shipping"], "answer": "accept"}
    lines[1] |= {"accept": [], "answer": "ignore"}
    Path("out.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    ended = dal("tell", "folder", "out.jsonl", "--who", "ana")
    assert ended.out.startswith("2 new answers stored, 0 were already stored; 4 texts are still to be answered, 1 has")


@pytest.mark.parametrize("name", ["x.csv", "x.jsonl", "x.parquet"])
def test_exported_labels_are_told_to_another_folder_and_exported_again(dal: Command, name: str) -> None:
    answered(dal, "billing", "access", "shipping")
    assert dal("export", "folder", "-o", name).code == 0
    dal("ask", "other", "--config", "config.yaml", "-n", 12, "-o", "rest.csv")
    ended = dal("tell", "other", name, "--correct")
    assert ended.code == 0, ended.err
    assert ended.out.startswith("3 new answers stored")
    assert dal("export", "other", "-o", "again.jsonl").code == 0
    told, again = (
        {row.id: (row.text, row.answer.classes) for row in read_corpus(Path(file)).rows if row.answer}
        for file in (name, "again.jsonl")
    )
    assert told == again


def test_folder_in_use_is_exported(dal: Command) -> None:
    answered(dal, "billing")
    lock = Lock(Path("folder"))
    try:
        assert dal("export", "folder").code == 0
    finally:
        lock.release()


# -- other columns, and projects -------------------------------------------------------------------------------------


def test_other_columns_of_the_data_are_exported(dal: Command) -> None:
    lines = [{"id": "a", "text": "one", "year": 1990, "source": "x"}, {"id": "b", "text": "two", "tags": ["p", "q"]}]
    Path("tickets.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    dal.configured(other=asking().replace("tickets.csv", "tickets.jsonl"))
    assert dal("ask", "other", "--config", "other.yaml", "-n", 2, "-o", "-").code == 0
    assert dal("export", "other", "--all", "-o", "x.jsonl").code == 0
    assert [dict(row.fields) for row in read_corpus(Path("x.jsonl")).rows] == [
        {"year": 1990, "source": "x"},
        {"tags": ["p", "q"]},
    ]
    assert dal("export", "other", "--to", "label-studio").code == 0
    data = {task["data"]["dal_id"]: task["data"] for task in json.loads(Path("tasks.json").read_bytes())}
    assert data["a"] == {"dal_id": "a", "text": "one", "year": 1990, "source": "x"}


def test_labels_in_the_data_are_no_other_column(dal: Command) -> None:
    write_tickets(Path("tickets.csv"), 40)
    dal.configured(run=running(rounds=1, batch=4, start=4))
    assert dal("run", "run.yaml", "--folder", "run").code == 0
    assert dal("export", "run", "-o", "x.jsonl", "--all").code == 0
    assert read_corpus(Path("x.jsonl")).foreign == []


@pytest.fixture
def project(dal: Command) -> Command:
    """The command in a folder with a project, of which three texts were asked and two answered."""
    write_tickets(Path("tickets.csv"), 12, labels=False)
    lines = Path("tickets.csv").read_text("utf-8").splitlines()
    Path("pool.csv").write_text("\n".join([lines[0] + ",year", *(line + ",1990" for line in lines[1:])]) + "\n")
    ended = dal("init", "project", "--data", "pool.csv", "--id", "id", "--text", "text", "--classes", "billing,access")
    assert ended.code == 0, ended.err
    ended = dal("ask", "project", "-n", 3, "-o", "todo2.csv")
    assert ended.code == 0, ended.err
    fill(Path("todo2.csv"), ["billing", "skip"])
    assert dal("tell", "project", "todo2.csv", "--who", "ana").code == 0
    Path("pool.csv").unlink()
    return dal


def test_project_is_exported_with_renamed_classes_and_other_columns(project: Command) -> None:
    assert project("classes", "project", "rename", "billing", "invoices").code == 0
    ended = project("export", "project", "-o", "x.jsonl", "--all")
    assert ended.code == 0, ended.err
    corpus = read_corpus(Path("x.jsonl"))
    assert corpus.counts == {"answered": 1, "declined": 1, "pending": 1, "new": 9}
    (row,) = corpus.only("answered").rows
    assert row.answer is not None
    assert (row.answer.classes, row.answer.who, row.answer.round) == (("invoices",), "ana", 1)
    assert row.fields == {"year": "1990"}
    assert "which has no cells" in project("export", "project", "--cell", "x", "--force", "-o", "y.csv").err


def test_tasks_of_a_project(project: Command) -> None:
    assert project("export", "project", "--to", "label-studio").code == 0
    tasks = json.loads(Path("tasks.json").read_bytes())
    assert [task["data"]["dal_id"] for task in tasks] == [row["id"] for row in read_rows("todo2.csv")][2:]
    Path("export.json").write_text(json.dumps(label_studio_export(tasks, "access")))
    assert project("tell", "project", "export.json").out.startswith("1 new answer stored")


def test_people_who_contradict_each_other_in_a_project_are_in_dispute(project: Command) -> None:
    assert project("export", "project", "--to", "label-studio").code == 0
    tasks = json.loads(Path("tasks.json").read_bytes())
    comment = {"from_name": "why", "to_name": "text", "type": "textarea", "value": {"text": ["see page 2"]}}
    ben, cid = label_studio_export(tasks, "access"), label_studio_export(tasks, "billing", who=4)
    cid[0]["annotations"][0]["result"].append(comment)
    Path("export.json").write_text(json.dumps(ben + cid))
    ended = project("tell", "project", "export.json")
    assert ended.code == 0, ended.err
    assert ended.out.startswith("2 new answers stored, 0 were already stored; 0 texts are still to be answered, 1 has")
    assert f"people disagree on 1 text ({tasks[0]['data']['dal_id']!r}): decide in dal annotate project" in ended.err
    assert project("tell", "project", "export.json").out.startswith("0 new answers stored, 2 were already stored")
    with LabelLog(Path("project/labels.db"), access="read") as log:
        assert log.disputes() == [tasks[0]["data"]["dal_id"]]
        assert [(note.value, note.who) for note in log.notes(log.disputes()[0])] == [("see page 2", "label-studio:4")]
    own = [*label_studio_export(tasks, "access", who=4)]
    Path("export.json").write_text(json.dumps(own))
    ended = project("tell", "project", "export.json")
    assert "is answered 'billing' already, not 'access' (--correct changes it)" in ended.err
    ended = project("tell", "project", "export.json", "--correct")
    assert ended.out.startswith("1 new answer stored")
    with LabelLog(Path("project/labels.db"), access="read") as log:
        assert log.disputes() == []


def test_second_person_with_a_sheet_agrees_or_disputes(project: Command) -> None:
    first, second = (row["id"] for row in read_rows("todo2.csv")[:2])
    with LabelLog(Path("project/labels.db"), access="read") as log:
        ana = log.answers_by(first)["ana"].value
    other = "access" if ana != "access" else "billing"
    Path("ben.csv").write_text(f"id,label\n{first},{ana}\n")
    assert project("tell", "project", "ben.csv", "--who", "ben").out.startswith("1 new answer stored, 0 were")
    Path("nobody.csv").write_text(f"id,label\n{first},{other}\n")
    assert "--correct changes it" in project("tell", "project", "nobody.csv").err
    Path("cid.csv").write_text(f"id,label\n{first},{other}\n{second},{other}\n")
    ended = project("tell", "project", "cid.csv", "--who", "cid")
    assert ended.out.startswith("2 new answers stored"), ended.err
    with LabelLog(Path("project/labels.db"), access="read") as log:
        assert (log.row(first).state, log.row(first).people) == ("answered", 3)  # two against one
        assert log.disputes() == [second]  # which ana had declined
    Path("ana.csv").write_text(f"id,label\n{first},{other}\n")
    assert "--correct changes it" in project("tell", "project", "ana.csv", "--who", "ana").err


@pytest.mark.parametrize("name", ["x.csv", "x.jsonl", "x.parquet"])
def test_exported_labels_make_a_project_and_are_exported_byte_for_byte(project: Command, name: str) -> None:
    left = [row["id"] for row in read_rows("todo2.csv")][2]
    Path("ben.csv").write_text(f"id,label\n{left},access\n")
    assert project("tell", "project", "ben.csv", "--who", "ben").code == 0
    Path("cid.csv").write_text(f"id,label\n{left},billing\n")
    assert project("tell", "project", "cid.csv", "--who", "cid", "--correct").code == 0
    assert project("export", "project", "-o", name).code == 0
    ended = project("init", "second", "--data", name)
    assert ended.code == 0, ended.err
    assert "2 known labels" in ended.out
    assert project("export", "second", "-o", f"again{Path(name).suffix}").code == 0
    assert Path(f"again{Path(name).suffix}").read_bytes() == Path(name).read_bytes()
    corpus = read_corpus(Path(name))
    assert sorted(each.who for row in corpus.rows for each in row.answers) == ["ana", "ben", "cid"]
    assert corpus.foreign == ["year"]
