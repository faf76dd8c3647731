"""`dal ask` given again, what it says to do next, and folders whose files are something else."""

import os
import re
import shlex
import shutil
import sys
from pathlib import Path

import pytest
from command import Command, write_tickets

POOL = "data: {path: tickets.csv, id: id, label: null, classes: [billing, access]}\nlearner: TfidfLearner\n"
RUN = (
    "data: {path: hidden.csv, id: id, test: 0.3}\nlearner: TfidfLearner\nstart: 4\nbatch: 2\nrounds: 0\nreport: false\n"
)
PLUGIN = """\
from dataclasses import dataclass
from dal.strategies import Random

@dataclass(frozen=True)
class Mine(Random):
    '''Random, by another name.'''
"""


@pytest.fixture
def dal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    monkeypatch.chdir(tmp_path)
    write_tickets(tmp_path / "tickets.csv", 30, labels=False)
    write_tickets(tmp_path / "hidden.csv", 30)
    (tmp_path / "pool.yaml").write_text(POOL + "strategy: Random\n")
    (tmp_path / "run.yaml").write_text(RUN + "strategy: Random\n")
    return Command(capsys)


ASK = ("ask", "mine", "--config", "pool.yaml", "-n", 3, "-o", "todo.csv")


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def refused(ended, *words: str) -> None:
    assert ended.code == 2
    assert len(ended.messages) == 1, ended.err
    assert all(word in ended.err for word in words), ended.err


def test_learner_that_cannot_read_the_rows_is_refused_before_anything_is_written(dal: Command) -> None:
    ended = dal(*ASK, "--learner", "ProbeLearner", "--learner.model", "null")
    refused(ended, "this learner reads numeric rows")
    assert not Path("mine/config.yaml").exists()
    assert not Path("todo.csv").exists()
    assert dal(*ASK).code == 0


def test_the_same_command_after_a_kill_asks_the_same_questions(dal: Command) -> None:
    assert dal(*ASK).code == 0
    first = Path("todo.csv").read_text()
    Path("todo.csv").unlink()  # as though the command had ended before it was written
    assert dal(*ASK).code == 0
    assert Path("todo.csv").read_text() == first


def test_recall_of_the_candidates_is_said_once_where_it_was_measured(dal: Command) -> None:
    phases = "{Phases: {first: Random, then: Margin, until: 3}}"
    Path("pool.yaml").write_text(POOL + f"strategy: {phases}\ncandidates: 9\nrecall_every: 1\n")
    first = dal(*ASK)
    assert "candidates:" not in first.err  # no model scored any
    lines = Path("todo.csv").read_text(encoding="utf-8-sig").splitlines()
    labels = ["billing", "access", "billing"]
    answers = [f"{line}{label}" for line, label in zip(lines[1:], labels, strict=True)]
    Path("todo.csv").write_text("\n".join([lines[0], *answers]))
    assert dal("tell", "mine", "todo.csv").code == 0
    second = dal("ask", "mine", "-n", 3, "-o", "todo.csv", "--force")
    assert second.code == 0, second.err
    said = [line for line in second.messages if "recall" in line]
    assert len(said) == 1
    assert re.search(r"candidates: 9 of 27 rows contain \d of the 3 that the whole pool would have given", said[0])
    assert "candidates:" not in dal("ask", "mine", "-n", 3, "-o", "todo.csv", "--force").err  # the same texts again


@pytest.mark.parametrize("size", [9, 27])
def test_rows_that_were_scored_are_said(dal: Command, size: int) -> None:
    Path("pool.yaml").write_text(POOL + f"strategy: Margin\ncandidates: {size}\n")
    assert dal(*ASK).code == 0
    lines = Path("todo.csv").read_text(encoding="utf-8-sig").splitlines()
    answers = [f"{line}{label}" for line, label in zip(lines[1:], ("billing", "access", "billing"), strict=True)]
    Path("todo.csv").write_text("\n".join([lines[0], *answers]))
    assert dal("tell", "mine", "todo.csv").code == 0
    said = dal("ask", "mine", "-n", 3, "-o", "todo.csv", "--force").err
    assert ("candidates: 9 of 27 rows were scored" in said) == (size == 9)
    assert ("candidates: all rows were scored (27)" in said) == (size == 27)
    note = "candidates: size 27 is not below the 27 rows that are left to ask, so none is left out"
    assert (note in said) == (size == 27)


def test_a_config_that_says_the_same_in_other_words_is_accepted(dal: Command) -> None:
    assert dal(*ASK).code == 0
    path = "data.path: tickets.csv\ndata.id: id\ndata.label: null\ndata.classes: [billing, access]\n"
    Path("pool.yaml").write_text(path + "strategy: {class_path: dal.Random}\nlearner: {TfidfLearner: }\nbatch: 25\n")
    assert dal(*ASK, "--force").code == 0


def test_folder_in_which_nothing_was_asked_may_be_deleted_for_another_config(dal: Command) -> None:
    """The first config has no text left to ask; the correct one must not be stuck behind it."""
    labeled = ("--data.path", "hidden.csv", "--data.label", "label", "--data.classes", "null")
    refused(dal(*ASK, *labeled), "nothing is left to ask")
    refused(dal(*ASK), "mine already has a different config", "or delete the folder, in which nothing was asked yet")
    shutil.rmtree("mine")
    assert dal(*ASK).code == 0
    assert "or delete" not in dal(*ASK, "--force", "--batch", "7").err


def test_another_config_is_refused_with_the_first_key_that_differs(dal: Command) -> None:
    assert dal(*ASK).code == 0
    before = contents(Path())
    refused(
        dal(*ASK, "--force", "--learner.C", "3"), "mine already has a different config", "learner.init_args.C is", "3"
    )
    refused(dal(*ASK, "--force", "--batch", "7"), "batch is 25 there and 7 here", "omit --config")
    refused(dal("ask", "mine", "--batch", "7", "-o", "new.csv"), "omit --batch")
    assert contents(Path()) == before


def test_what_to_do_next_names_the_folder_whose_code_is_needed(dal: Command, tmp_path: Path) -> None:
    Path("mine_plugin.py").write_text(PLUGIN)
    Path("pool.yaml").write_text(POOL + "strategy: mine_plugin.Mine\n")
    said = dal(*ASK).err
    then = shlex.split(said.strip().rpartition("then: ")[2])
    assert then == ["dal", "tell", "mine", "todo.csv", "--allow-code", str(tmp_path)]
    assert dal(*then[1:]).code == 0  # nothing is filled in yet; without the folder it would be refused
    refused(dal(*then[1:4]), "--allow-code")


def test_without_code_of_a_folder_no_option_is_named(dal: Command) -> None:
    assert dal(*ASK).err.endswith("then: dal tell mine todo.csv\n")


@pytest.mark.parametrize("name", ["metrics.jsonl", "labels.db", "config.yaml", "labels.db-wal", "environment.json"])
@pytest.mark.parametrize("inside", ["", "Random-seed0"])
@pytest.mark.parametrize("kind", ["link", "pipe", "folder"])
def test_a_file_of_a_grid_that_is_none_is_found_before_any_work(
    name: str, inside: str, kind: str, dal: Command
) -> None:
    place = Path("grid") / inside
    place.mkdir(parents=True)
    if kind == "link":
        (place / name).symlink_to("nowhere")
    elif kind == "pipe":
        os.mkfifo(place / name)
    else:
        (place / name).mkdir()
    before = sorted(Path().rglob("*"))
    given = ("compare", "run.yaml", "--strategies", "Random,Margin", "--folder", "grid")
    refused(dal(*given), name)
    refused(dal("run", "run.yaml", "--folder", "grid"), name)
    if not inside:
        refused(dal("ask", "grid", "--config", "pool.yaml", "-o", "todo.csv"), name)
    assert sorted(Path().rglob("*")) == before


def test_a_grid_that_is_gone_on_with_looks_at_all_cells_first(dal: Command) -> None:
    given = ("compare", "run.yaml", "--strategies", "Random,Margin", "--folder", "grid")
    assert dal(*given).code == 0
    for name in ("Random-seed0", "Margin-seed0"):
        for file in Path("grid", name).glob("[ml]*"):
            if file.is_file():
                file.unlink()
    Path("grid/Margin-seed0/metrics.jsonl").symlink_to("nowhere")
    before = contents(Path())
    refused(dal("compare", "--resume", "grid"), "metrics.jsonl is not a regular file")
    assert contents(Path()) == before


def test_a_run_does_not_go_on_with_a_folder_to_ask_from(dal: Command) -> None:
    assert dal(*ASK).code == 0
    before = contents(Path())
    refused(dal("run", "--resume", "mine"), "belongs to `dal ask`")
    refused(dal("compare", "--resume", "mine"), "holds no comparison")
    assert contents(Path()) == before


def test_a_report_of_many_missing_folders_names_some(dal: Command) -> None:
    ended = dal("report", *[f"m{i}" for i in range(2000)])
    refused(ended, "there is no folder m0", "and 1995 more of 2000")
    assert len(ended.err) < 500


def test_data_without_classes_are_refused_before_anything_is_written(dal: Command) -> None:
    client = "{OpenAIClient: {model: gpt-4o-mini}}"
    Path("llm.yaml").write_text(
        "data: {path: tickets.csv, id: id, label: null}\nbatch: 2\nstart: 3\nrounds: 1\nstrategy: Random\n"
        f"learner: TfidfLearner\noracle: {{LLMOracle: {{labeler: {{LLMLearner: {{client: {client}}}}}}}}}\n"
    )
    before = contents(Path())
    for given in (
        ("run", "llm.yaml", "--dry-run"),
        ("run", "llm.yaml"),
        ("compare", "llm.yaml", "--strategies", "Random", "--dry-run"),
        ("ask", "mine", "--config", "llm.yaml", "-o", "todo.csv"),
    ):
        refused(dal(*given), "the data names no classes")
    ended = dal("llm", "preview", "llm.yaml")
    assert (ended.code, "the data names no classes" in ended.err) == (2, True)
    assert contents(Path()) == before


@pytest.mark.parametrize("option", ["--strategy", "--learner", "--loggers"])
def test_an_import_path_of_a_thousand_packages_is_refused(option: str, dal: Command) -> None:
    value = "a." * 20_000 + "b"
    ended = dal("run", "run.yaml", option, f"[{value}]" if option == "--loggers" else value)
    refused(ended, "too long for an import path")
    assert not Path("runs").exists()


@pytest.mark.parametrize("path", ["this.that", "antigravity.x"])
def test_modules_of_python_itself_are_not_imported(path: str, dal: Command) -> None:
    for name in ("this", "antigravity"):
        sys.modules.pop(name, None)
    for option, value in (("--strategy", path), ("--learner", path), ("--loggers", f"[{path}]")):
        refused(dal("run", "run.yaml", option, value), "standard library")
    assert not {"this", "antigravity"} & sys.modules.keys()


def test_control_characters_of_texts_are_escaped_on_a_terminal_alone(
    dal: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("tickets.csv").write_text("id,text\n1,clears \x1b[2J\n2,other\n")
    ask = ("ask", "mine", "--config", "pool.yaml", "-n", 2, "-o", "-")
    assert "1,clears \x1b[2J," in dal(*ask).out
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    shown = dal(*ask).out
    assert "1,clears \\x1b[2J," in shown
    assert "\x1b" not in shown
    assert len(shown.splitlines()) == 3


@pytest.mark.parametrize("learner", ["{ProbeLearner: {model: null}}", "{SklearnCommittee: {model: null}}"])
def test_a_run_that_cannot_read_texts_writes_nothing(dal: Command, learner: str) -> None:
    config = "data: {path: hidden.csv, id: id, test: 0.3}\nstrategy: Random\nstart: 4\nbatch: 2\nrounds: 0\n"
    Path("vectors.yaml").write_text(f"{config}learner: {learner}\nfolder: new\n")
    refused(dal("run", "vectors.yaml"), "this learner reads numeric rows")
    assert not Path("new").exists()
    refused(dal("compare", "vectors.yaml", "--strategies", "[Random,Margin]"), "reads numeric rows")
    assert not Path("new").exists()
