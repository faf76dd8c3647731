"""`dal add` and `dal init` with what `dal export` wrote: all answers come in, and the same bytes go out again."""

import csv
import shutil
from pathlib import Path

import pytest
from command import Command

from dal.formats.corpus_files import read_corpus
from dal.store.events import Answer, Skip
from dal.store.label_log import LabelLog

TEXTS = [f"text {number} of \u05e9\u05dc\u05d5\u05dd 'quoted', =1+1 and \U0001f600" for number in range(14)]
FORMS = ["x.csv", "x.jsonl", "x.parquet", "x"]


@pytest.fixture
def dal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    """The command in a folder with a project `first`, in which all states of a row occur, but asked and unanswered."""
    monkeypatch.chdir(tmp_path)
    with open("pool.csv", "w", newline="", encoding="utf-8") as file:
        rows = [[f"d{number}", text, str(1990 + number), "k"] for number, text in enumerate(TEXTS)]
        csv.writer(file).writerows([["doc", "body", "year", "label"], *rows])
    dal = Command(capsys)
    assert dal(*init("first"), "--classes", "a|b,none,c").code == 0
    with LabelLog(Path("first/labels.db")) as log:
        log.ask([f"d{number}" for number in range(9)], strategy="Margin", wanted={"d1": 2, "d2": 2, "d3": 2})
        answers = [Answer("d0", "a|b", "ana", "person", 3.5, seen={"why": True}), Answer("d1", "none", "ana")]
        answers += [Answer("d1", "c", "ben"), Answer("d2", "none", "ana"), Answer("d2", "c", "ben")]
        answers += [Answer("d3", "c", "ana"), Answer("d4", Skip.SKIP, "ben"), Answer("d5", "c", "")]
        answers += [Answer("d6", "none", "ana"), Answer("d6", "c", "ben"), Answer("d7", "c", "ana")]
        answers += [Answer("d8", "none", "gpt", "llm", confidence=0.75)]
        log.tell(answers)
        log.adjudicate("d2", "c", who="cem", key="decided1")
        log.note("d0", "look again", who="ben", key="note0001")
        log.note("d0", "done", who="ana", key="note0002")
        log.note("d9", "no answer yet", who="ana", key="note0003")
        log.retire(["d7", "d10"])
    return dal


def init(folder: str, data: str = "pool.csv") -> list[str]:
    return ["init", folder, "--data", data, "--learner", "TfidfLearner", "--id", "doc", "--text", "body"]


def exported(dal: Command, folder: str, name: str, *options: str) -> dict[str, bytes]:
    """The bytes of an export, by file."""
    shutil.rmtree(name, ignore_errors=True)
    more = [] if Path(name).suffix else ["--to", "huggingface"]
    ended = dal("export", folder, "-o", name, "--force", *more, *options)
    assert ended.code == 0, ended.err
    files = [Path(name)] if Path(name).is_file() else sorted(each for each in Path(name).rglob("*") if each.is_file())
    return {str(file.relative_to(name)): file.read_bytes() for file in files}


@pytest.mark.parametrize("options", [(), ("--all",)])
@pytest.mark.parametrize("name", FORMS)
def test_export_is_added_to_a_fresh_project_and_exported_byte_for_byte(
    dal: Command, name: str, options: tuple[str, ...]
) -> None:
    before = exported(dal, "first", name, *options)
    assert before == exported(dal, "first", name, *options)
    assert dal(*init("second")).code == 0
    ended = dal("add", "second", name)
    assert ended.code == 0, ended.err
    assert "5 known labels: c 3, a|b 1, none 1" in ended.out
    assert "5 people: ana " in ended.out
    assert "were in the project already" in ended.out
    if options:
        assert "1 text declined" in ended.out
        assert "1 text with contradicting answers" in ended.out
        assert "3 notes" in ended.out
    assert exported(dal, "second", "again" + Path(name).suffix, *options) == before


@pytest.mark.parametrize(("form", "name"), [("label-studio", "t.json"), ("prodigy", "t.jsonl")])
def test_tasks_have_the_same_bytes_as_long_as_nothing_changes(dal: Command, form: str, name: str) -> None:
    written = []
    for _ in range(2):
        ended = dal("export", "first", "--to", form, "-o", name, "--all", "--force")
        assert ended.code == 0, ended.err
        written.append(Path(name).read_bytes())
    assert written[0] == written[1]


@pytest.mark.parametrize("name", FORMS)
def test_export_makes_a_project_that_is_exported_byte_for_byte(dal: Command, name: str) -> None:
    before = exported(dal, "first", name, "--all")
    ended = dal("init", "second", "--data", name, "--learner", "TfidfLearner")
    assert ended.code == 0, ended.err
    assert exported(dal, "second", "again" + Path(name).suffix, "--all") == before


def test_export_of_some_texts_brings_its_texts_along(dal: Command) -> None:
    exported(dal, "first", "x.jsonl")
    Path("other.csv").write_text("doc,body,year,label\nz1,another text,2001,k\n")
    assert dal(*init("second", "other.csv")).code == 0
    ended = dal("add", "second", "x.jsonl")
    assert "5 texts added" in ended.out
    assert exported(dal, "second", "again.jsonl") == exported(dal, "first", "again.jsonl")


def test_adding_an_export_again_changes_nothing(dal: Command) -> None:
    exported(dal, "first", "x.csv", "--all")
    assert dal(*init("second")).code == 0
    assert dal("add", "second", "x.csv").code == 0
    with LabelLog(Path("second/labels.db")) as log:
        event = log.labels_event
    ended = dal("add", "second", "x.csv")
    assert ended.code == 0, ended.err
    assert "no known label to store" in ended.out
    assert "have the same answer already" in ended.out
    with LabelLog(Path("second/labels.db")) as log:
        assert log.labels_event == event
        assert len(log.notes("d0")) == 2


def test_answers_in_the_project_stay(dal: Command) -> None:
    exported(dal, "first", "x.csv", "--all")
    assert dal(*init("second"), "--classes", "a|b,none,c").code == 0
    with LabelLog(Path("second/labels.db")) as log:
        log.ask(["d0", "d6", "d1"], wanted={"d1": 2})
        log.tell([Answer("d0", "c", "eve"), Answer("d1", "c", "eve")])
        log.retire(["d8"])
    ended = dal("add", "second", "x.csv")
    assert ended.code == 0, ended.err
    assert "2 rows have another answer, which stays: d0, d1" in ended.out
    assert "1 row is retired" in ended.out
    with LabelLog(Path("second/labels.db")) as log:
        assert list(log.answers_by("d0")) == ["eve"]
        assert list(log.answers_by("d1")) == ["eve"]
        assert log.answers_by("d8") == {}
        assert set(log.answers_by("d6")) == {"ana", "ben"}  # it was asked, and nobody had answered


def test_dry_run_writes_nothing_and_edited_texts_are_decided_first(dal: Command) -> None:
    exported(dal, "first", "x.csv")
    text = Path("pool.csv").read_text("utf-8").replace("text 0 of", "an edited text 0 of")
    Path("edited.csv").write_text(text, "utf-8")
    assert dal(*init("second", "edited.csv")).code == 0
    ended = dal("add", "second", "x.csv")
    assert (ended.code, "texts were edited: --changed keep" in ended.err) == (2, True)
    ended = dal("add", "second", "x.csv", "--changed", "keep", "--dry-run")
    assert "4 known labels" in ended.out
    assert "nothing was written" in ended.out
    with LabelLog(Path("second/labels.db")) as log:
        assert log.counts() == {}
    assert dal("add", "second", "x.csv", "--changed", "keep").code == 0
    with LabelLog(Path("second/labels.db")) as log:
        assert log.answers_by("d0") == {}  # an answer to another text


@pytest.mark.parametrize("name", FORMS)
def test_what_does_not_fit_is_one_line(dal: Command, name: str) -> None:
    exported(dal, "first", name)
    assert dal(*init("second"), "--classes", "none,c").code == 0
    ended = dal("add", "second", name)
    assert (ended.code, len(ended.messages)) == (2, 1)
    assert "a|b is no class of the project: `dal classes second add` adds it" in ended.err
    assert dal("add", "second", name, "--label", "label").code == 2  # as a plain table, which says the same
    if name == "x.csv":
        Path(name).write_text(Path(name).read_text("utf-8-sig").replace(",none,answered", ",c,answered"), "utf-8")
        assert "label is 'c', and the answer that stands" in dal("add", "second", name).err


def test_several_classes_do_not_fit_into_a_project_of_one(dal: Command) -> None:
    assert dal(*init("many"), "--multilabel", "--classes", "a,b").code == 0
    with LabelLog(Path("many/labels.db")) as log:
        log.tell([Answer("d0", ("a", "b"), "ana"), Answer("d1", (), "ana"), Answer("d2", ("b",), "ana")])
    before = exported(dal, "many", "x.jsonl")
    assert read_corpus(Path("x.jsonl")).multilabel
    assert dal(*init("one"), "--classes", "a,b").code == 0
    assert "several classes or none of them" in dal("add", "one", "x.jsonl").err
    assert dal(*init("second"), "--multilabel").code == 0
    ended = dal("add", "second", "x.jsonl")
    assert ended.code == 0, ended.err
    assert exported(dal, "second", "again.jsonl") == before


@pytest.mark.parametrize(
    ("name", "given", "message"),
    [
        ("x.csv", "ANA", "row 'd0': the name 'ana' looks like 'ANA': each person needs a name of her own"),
        ("x.jsonl", "c\u202eim", "row 'd0': a name has 1 to 200 printable characters, not "),
        ("x.parquet", " ana", "row 'd0': the name ' ana' has spaces around it"),
        ("x", "ANA", "row 'd0': the name 'ana' looks like 'ANA'"),
    ],
)
def test_name_that_could_be_taken_for_another_is_refused_with_its_row(
    dal: Command, name: str, given: str, message: str
) -> None:
    with LabelLog(Path("first/labels.db")) as log:
        log.retract(log.answers_by("d0")["ana"].event)
        log.tell([Answer("d0", "a|b", given)])
    exported(dal, "first", name)
    assert dal(*init("second")).code == 0
    for arguments in (["add", "second", name], ["init", "third", "--data", name, "--learner", "TfidfLearner"]):
        ended = dal(*arguments)
        assert (ended.code, len(ended.messages)) == (2, 1), ended.err
        assert f"{name}, {message}" in ended.err
        assert "write another one in the columns answers and notes" in ended.err
    assert not Path("third").exists()


def test_names_that_the_project_knows_already_are_accepted(dal: Command) -> None:
    exported(dal, "first", "x.csv")
    assert dal(*init("second"), "--classes", "a|b,none,c").code == 0
    with LabelLog(Path("second/labels.db")) as log:
        log.tell([Answer("d11", "c", "Ana")])
    ended = dal("add", "second", "x.csv")
    assert (ended.code, "row 'd0': the name 'ana' looks like 'Ana'" in ended.err) == (2, True), ended.err
    with LabelLog(Path("second/labels.db")) as log:
        log.tell([Answer("d12", "c", "ana")])
    assert dal("add", "second", "x.csv").code == 0


@pytest.mark.parametrize("command", ["add", "tell", "init"])
def test_name_of_the_command_line_is_checked(dal: Command, command: str) -> None:
    Path("todo.csv").write_text("id,label\nd0,c\n")
    arguments = {"add": ["first", "pool.csv"], "tell": ["first", "todo.csv"], "init": [*init("new")[1:]]}[command]
    ended = dal(command, *arguments, "--who", "b\u202een")
    assert (ended.code, "a name has 1 to 200 printable characters" in ended.err) == (2, True)
    if command == "tell":
        assert "the name 'ANA' looks like 'ana', who is in this project" in dal(command, *arguments, "--who", "ANA").err
