"""The `dal` command: what it answers, and what a person does with ask and tell."""

import json
import signal
import subprocess
import sys
import time
import warnings
from pathlib import Path

import pytest
import yaml
from command import Command, asking, fill, probe, read_rows, running

import dal as package
from dal.cli import _one_line_warnings
from dal.stopping.recorded_figures import StoppingWarning


@pytest.fixture
def dal(with_tickets: Command, tiny_bert: Path) -> Command:
    run = running(probe(tiny_bert), start=6, batch=4, rounds=1, report=False)
    return with_tickets.configured(pool=asking(probe(tiny_bert), "Margin"), run=run)


@pytest.fixture
def asked(dal: Command) -> Command:
    """A folder `mine` with six questions in todo.csv."""
    assert dal("ask", "mine", "--config", "pool.yaml", "-n", 6, "-o", "todo.csv").code == 0
    return dal


def test_a_warning_is_printed_once_per_command(capsys: pytest.CaptureFixture[str]) -> None:
    with _one_line_warnings():
        for text in ("the stop set is small", "another", "the stop set is small"):
            with warnings.catch_warnings(record=False):
                warnings.simplefilter("always")
                warnings.warn(text, StoppingWarning, stacklevel=1)
    assert capsys.readouterr().err == "dal: warning: the stop set is small\ndal: warning: another\n"


# -- what needs no model library -------------------------------------------------------------------------------------

LIGHT = [
    ["--help"],
    ["--version"],
    ["run", "--help"],
    ["ask", "--help"],
    ["autolabel", "--help"],
    ["estimate", "--help"],
    ["predict", "--help"],
    ["predict", "mine", "missing.csv"],
    ["encoders", "--help"],
    ["encoders", "mine", "--top", "3"],
    ["autolabel", "runs", "--max-error", "5"],
    ["list"],
    ["list", "learners"],
    ["cache"],
    ["cache", "--trim", "much"],
    ["rnu"],
    *(["init", "new", "--data", "tickets.csv", *given] for given in (["--learner", "Tfidf"], ["--txt", "a"])),
    *(["init", "new", *given] for given in ([], ["--data", "missing.csv"], ["--config", "missing.yaml"])),
    ["add", "mine", "tickets.csv"],
    *(["ask", "mine", *given] for given in ([], ["--check", "50"], ["--chek", "50"])),
    ["tell", "mine", "tickets.csv"],
    *(["predict", "mine", *given] for given in ([], ["tickets.csv"])),
    *(["export", "mine", *given] for given in ([], ["--model", "model"], ["-o", "labels.txt"])),
    *(["report", given] for given in ("mine", "tickets.csv")),
    ["run", "--resume", "mine"],
    ["compare", "--resume", "mine"],
    ["compare", "mine", "--table", "csv"],
    *([name, "mine"] for name in ("encoders", "estimate", "audit", "annotate", "classes", "people")),
    ["autolabel", "mine", "--max-error", "5%"],
    ["run", "missing.yaml"],
    ["run", "run.yaml", "--strategy", "Margn"],
    ["run", "run.yaml", "--bach", "3"],
]


@pytest.mark.parametrize("arguments", LIGHT, ids=[" ".join(each) for each in LIGHT])
def test_help_lists_and_simple_errors_import_no_model_library(
    arguments: list[str], dal: Command, tmp_path: Path
) -> None:
    code = (
        "import sys; from dal.cli import main; code = main(sys.argv[1:]); "
        "heavy = {'torch', 'lightning', 'transformers', 'datasets', 'numpy'} & sys.modules.keys(); "
        "sys.exit(f'imported {heavy}' if heavy else code if code != 2 else 0)"
    )
    ended = subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, cwd=tmp_path, timeout=120
    )
    assert ended.returncode == 0, ended.stderr


@pytest.mark.parametrize("arguments", [[], ["--help"], ["-h"], ["help"]], ids=["nothing", "--help", "-h", "help"])
def test_help_names_every_command(arguments: list[str], dal: Command) -> None:
    ended = dal(*arguments)
    assert ended.code == 0
    assert all(
        f"dal {name}" in ended.out for name in ("run", "ask", "tell", "predict", "encoders", "report", "list", "cache")
    )


def test_help_of_run_explains_every_key(dal: Command) -> None:
    shown = dal("run", "--help").out
    assert all(f"--{key} " in shown for key in ("data.path", "data.classes", "learner", "strategy", "seeds", "folder"))


@pytest.mark.parametrize(
    "command", ["tell", "autolabel", "estimate", "predict", "encoders", "report", "list", "check", "cache"]
)
def test_every_command_has_help(command: str, dal: Command) -> None:
    ended = dal(command, "--help")
    assert ended.code == 0
    assert f"usage: dal {command}" in ended.out


def test_report_makes_those_of_several_folders_and_names_what_is_none(dal: Command, tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "metrics.jsonl").write_text('{"round": 0, "labels": 20, "accuracy": 0.5}\n')
    ended = dal("report", "a", "nowhere", "b")
    assert ended.code != 0
    assert "there is no folder nowhere" in ended.err
    assert "Traceback" not in ended.err
    assert [(tmp_path / name / "report.html").is_file() for name in ("a", "b")] == [True, True]


def test_version_is_that_of_the_package(dal: Command) -> None:
    assert dal("--version").out == f"dal {package.__version__}\n"


def test_list_shows_what_each_reads_and_when_it_wins(dal: Command) -> None:
    shown = dal("list", "strategies").out
    assert "Margin" in shown
    assert "reads: probs" in shown
    assert "paper: " in shown
    assert "advice: " in shown
    assert "ProbeLearner" not in shown


def test_list_shows_all_kinds(dal: Command) -> None:
    shown = dal("list").out
    assert all(name in shown for name in ("BADGE", "TransformerLearner", "Simulated"))


def test_a_closed_pipe_is_silent(tmp_path: Path) -> None:
    listing = subprocess.Popen(
        [sys.executable, "-m", "dal", "list"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=tmp_path
    )
    assert listing.stdout is not None
    assert listing.stderr is not None
    listing.stdout.close()
    assert listing.stderr.read() == b""
    assert listing.wait(60) == 141
    listing.stderr.close()


def test_public_names_are_found_when_first_read() -> None:
    assert package.Margin().needs == {"probs"}
    assert set(package.__all__) <= set(dir(package))
    assert all(getattr(package, name) is not None for name in package.__all__)
    with pytest.raises(AttributeError, match="has no attribute 'Margn'"):
        package.Margn  # noqa: B018


def test_importing_the_package_imports_no_model_library() -> None:
    code = "import sys, dal; dal.__version__; sys.exit(bool({'torch', 'lightning'} & sys.modules.keys()))"
    assert subprocess.run([sys.executable, "-c", code], timeout=60).returncode == 0


def test_contracts_that_authors_derive_from_are_public_names() -> None:
    names = {"ActiveModule", "Annotation", "History", "LATER", "Oracle", "SKIP", "StoppingRule", "Verdict"}
    assert names <= set(package.__all__)
    from dal.modules import ActiveModule
    from dal.oracle import Oracle
    from dal.stopping import Verdict

    assert (package.ActiveModule, package.Oracle, package.Verdict) == (ActiveModule, Oracle, Verdict)


# -- run and check ---------------------------------------------------------------------------------------------------


def test_a_run_is_kept_in_a_folder_named_after_its_config_and_resumes(dal: Command, tmp_path: Path) -> None:
    first = dal("run", "run.yaml")
    assert (first.code, first.err) == (0, "")
    metrics = tmp_path / "runs" / "run" / "Margin-seed0" / "metrics.jsonl"
    before = metrics.read_bytes()
    again = dal("run", "--resume", "runs/run")
    assert (again.code, again.err) == (0, "")
    assert metrics.read_bytes() == before


def test_another_config_in_the_same_folder_is_refused(dal: Command) -> None:
    assert dal("run", "run.yaml", "--baseline", "null", "--quiet", "true").code == 0
    ended = dal("run", "run.yaml", "--baseline", "null", "--batch", "5")
    assert ended.code == 2
    assert "batch is 4 there and 5 here" in ended.err


def test_options_that_no_longer_apply_are_told(dal: Command, tmp_path: Path) -> None:
    (tmp_path / "run.yaml").write_text(
        (tmp_path / "run.yaml").read_text().replace("Margin", "{BADGE: {seeding: k-center}}")
    )
    ended = dal("run", "run.yaml", "--strategy", "Margin", "--print-config")
    assert "--strategy Margin replaces BADGE; its options in the config no longer apply: seeding" in ended.err


def test_the_config_can_be_printed_with_its_defaults(dal: Command, tmp_path: Path) -> None:
    shown = dal("run", "run.yaml", "--print-config").out
    assert "class_path: Margin" in shown
    assert "rounds: 1" in shown
    assert not (tmp_path / "runs").exists()


def test_a_strategy_beside_the_config_can_be_named_and_checked(dal: Command, tmp_path: Path) -> None:
    (tmp_path / "beside_plugin.py").write_text(
        "from dataclasses import dataclass\n"
        "from dal import Query, ScoreStrategy\n"
        "@dataclass(frozen=True)\n"
        "class Loudest(ScoreStrategy):\n"
        '    """Rows with the highest top probability."""\n'
        "    power: float = 1.0\n"
        "    needs = frozenset({'probs'})\n"
        "    multilabel = True\n"
        "    rowwise = True\n"
        "    def score(self, query: Query):\n"
        "        return query.pool.probs.amax(-1) ** self.power\n"
    )
    assert (
        "power: 2.0"
        in dal("run", "run.yaml", "--strategy", "{beside_plugin.Loudest: {power: 2}}", "--print-config").out
    )
    checked = dal("check", "beside_plugin:Loudest", "--power", "2")
    assert checked.code == 0, checked.out
    assert "0 failed" not in checked.out
    assert "passed" in checked.out


PLUGIN = """
from dataclasses import dataclass
from dal import Query, ScoreStrategy
@dataclass(frozen=True)
class Confident(ScoreStrategy):
    power: float = 1.0
    needs = {"probs"}
    def score(self, query: Query):
        return query.pool.probs.amax(-1) ** self.power
@dataclass(frozen=True)
class Undeclared(ScoreStrategy):
    needs = {"probs"}
    def score(self, query: Query):
        return query.pool.probs.amax(-1) + query.pool.logits.amax(-1)
"""


@pytest.mark.parametrize("path", ["spelled.Confident", "spelled:Confident"])
def test_both_spellings_of_an_import_path_work_everywhere(dal: Command, tmp_path: Path, path: str) -> None:
    (tmp_path / "spelled.py").write_text(PLUGIN)
    configured = {
        "alone": path,
        "mapping": {path: {"power": 2.0}},
        "class_path": {"class_path": path, "init_args": {"power": 2.0}},
    }
    for name, strategy in configured.items():
        (tmp_path / f"{name}.yaml").write_text(running("TfidfLearner", json.dumps(strategy)))
    run = ["run", "run.yaml", "--strategy"]
    commands = [
        ["run", "alone.yaml", "--strategy.power", "2"],
        ["run", "mapping.yaml"],
        ["run", "class_path.yaml"],
        [*run, path, "--strategy.power", "2"],
        [*run, f"{{{path}: {{power: 2}}}}"],
        [*run, f"{{class_path: {path}, init_args: {{power: 2}}}}"],
    ]
    for command in commands:
        shown = yaml.safe_load(dal(*command, "--print-config").out)
        assert shown["strategy"] == {"class_path": "spelled.Confident", "init_args": {"power": 2.0}}, command
    assert "Confident(power=2.0): " in dal("check", path, "--power", "2").out
    compared = dal("compare", "alone.yaml", "--strategies", path, "--seeds", "1", "--rounds", "1", "--batch", "2")
    assert compared.code == 0, compared.err
    assert Path("runs/alone-compare/Confident-seed0/metrics.jsonl").is_file()


def test_an_undeclared_read_is_one_line_with_what_to_write_in_a_check_and_a_run(dal: Command, tmp_path: Path) -> None:
    (tmp_path / "spelled.py").write_text(PLUGIN)
    line = """'logits' was read but not declared: write needs = {"probs", "logits"} in Undeclared\n"""
    checked = dal("check", "spelled:Undeclared")
    assert (checked.code, checked.out.count("failed  "), checked.out.count(line)) == (1, 1, 1)
    ended = dal("run", "run.yaml", "--strategy", "spelled:Undeclared")
    assert (ended.code, ended.err) == (2, f"dal: error: {line}")


def test_a_strategy_that_breaks_the_contract_fails_the_check(dal: Command, tmp_path: Path) -> None:
    (tmp_path / "broken_plugin.py").write_text(
        "import torch\n"
        "from dataclasses import dataclass\n"
        "from dal import Query, Strategy\n"
        "@dataclass(frozen=True)\n"
        "class First(Strategy):\n"
        '    """The same row again and again."""\n'
        "    def select(self, query: Query):\n"
        "        return torch.zeros(query.n, dtype=torch.int64)\n"
    )
    ended = dal("check", "broken_plugin:First")
    assert ended.code == 1
    assert "failed" in ended.out


def test_ctrl_c_says_how_to_go_on(dal: Command, tmp_path: Path) -> None:
    options = ["--rounds", "8", "--batch", "2", "--seeds", "[0,1,2,3,4,5,6,7,8,9]"]
    process = subprocess.Popen(
        [sys.executable, "-m", "dal", "run", "run.yaml", *options],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        cwd=tmp_path,
    )
    while process.poll() is None and not list((tmp_path / "runs").glob("*/*/metrics.jsonl")):
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    _, shown = process.communicate(timeout=120)
    assert process.returncode == 130, shown
    assert shown == "dal: stopped; go on with: dal run --resume runs/run\n"


def test_debug_shows_where(dal: Command) -> None:
    with pytest.raises(package.DalError):
        dal("--debug", "run", "missing.yaml")


# -- ask and tell ----------------------------------------------------------------------------------------------------


def test_questions_come_as_a_csv_with_an_empty_label(asked: Command) -> None:
    found = read_rows("todo.csv")
    assert list(found[0]) == ["id", "text", "label"]
    assert len(found) == 6
    assert all(row["text"] and not row["label"] for row in found)
    assert Path("todo.csv").read_bytes().startswith(b"\xef\xbb\xbf")  # spreadsheets read UTF-8 by its mark


def test_answers_are_stored_and_the_next_questions_are_chosen_by_the_model(asked: Command) -> None:
    fill(Path("todo.csv"), ["billing", "access", "shipping", "feedback", "billing", "access"])
    told = asked("tell", "mine", "todo.csv")
    assert told.out.startswith("6 new answers stored")
    ended = asked("ask", "mine", "-n", 3, "-o", "next.csv")
    assert "chosen by Margin" in ended.err
    assert list(read_rows("next.csv")[0]) == ["id", "text", "score", "label"]
    assert not {row["id"] for row in read_rows("next.csv")} & {row["id"] for row in read_rows("todo.csv")}


def test_unanswered_rows_stay_pending_and_are_asked_again(asked: Command) -> None:
    fill(Path("todo.csv"), ["billing", "access", "", "", "", ""])
    assert "4 texts are still to be answered" in asked("tell", "mine", "todo.csv").out
    asked("ask", "mine", "-o", "again.csv")
    assert [row["id"] for row in read_rows("again.csv")] == [row["id"] for row in read_rows("todo.csv")[2:]]


def test_skip_declines_a_row(asked: Command) -> None:
    fill(Path("todo.csv"), ["skip", "Skip", "[skip]", "billing", "access", "billing"])
    told = asked("tell", "mine", "todo.csv").out
    assert "0 texts are still to be answered, 3 have a label" in told


def test_telling_into_a_folder_whose_store_is_gone_creates_none(asked: Command) -> None:
    Path("mine/labels.db").unlink()
    ended = asked("tell", "mine", "todo.csv")
    assert ended.code == 2
    assert "mine has no labels.db: nothing was asked there yet, or the file must be restored" in ended.err
    assert not Path("mine/labels.db").exists()


def test_telling_the_same_file_twice_stores_nothing_twice(asked: Command) -> None:
    fill(Path("todo.csv"), ["billing"] * 6)
    asked("tell", "mine", "todo.csv")
    assert asked("tell", "mine", "todo.csv").out.startswith("0 new answers stored, 6 were already stored")


def test_every_mistake_is_listed_by_line_and_nothing_is_stored(asked: Command) -> None:
    found = read_rows("todo.csv")
    lines = [
        "id,label",
        f"{found[0]['id']},bilings",
        "nobody,billing",
        f"{found[1]['id']},access",
        f"{found[1]['id']},billing",
        "t59,billing" if "t59" not in {row["id"] for row in found} else "t58,billing",
    ]
    Path("bad.csv").write_text("\n".join(lines))
    ended = asked("tell", "mine", "bad.csv")
    assert ended.code == 2
    assert "4 mistakes; nothing was stored" in ended.err
    assert "line 2: 'bilings' is not a class, did you mean 'billing'?" in ended.err
    assert "line 3: no row has the id 'nobody'" in ended.err
    assert "line 5: 'billing' contradicts 'access' on line 4" in ended.err
    assert "line 6: the row" in ended.err
    fill(Path("todo.csv"), ["billing"] * 6)
    assert asked("tell", "mine", "todo.csv").out.startswith("6 new answers stored")


def test_another_answer_to_an_answered_row_needs_correct(asked: Command) -> None:
    fill(Path("todo.csv"), ["billing"] * 6)
    asked("tell", "mine", "todo.csv")
    fill(Path("todo.csv"), ["access", *["billing"] * 5])
    ended = asked("tell", "mine", "todo.csv")
    assert ended.code == 2
    assert "is answered 'billing' already, not 'access'" in ended.err
    assert asked("tell", "mine", "todo.csv", "--correct").out.startswith("1 new answer stored, 5 were already stored")


@pytest.mark.parametrize(
    ("encoding", "separator", "end"),
    [("utf-8-sig", ";", "\r\n"), ("utf-16", "\t", "\r\n"), ("cp1252", ";", "\r\n"), ("utf-8", ",", "\n")],
)
def test_files_of_spreadsheets_are_read(encoding: str, separator: str, end: str, asked: Command) -> None:
    lines = ["id;Text;Label", *(f'{row["id"]};"caf\xe9; two\nlines";BILLING' for row in read_rows("todo.csv"))]
    text = end.join(lines).replace(";", separator)
    Path("sheet.csv").write_bytes(text.encode(encoding))
    ended = asked("tell", "mine", "sheet.csv")
    assert ended.out.startswith("6 new answers stored"), ended.err
    assert ("Windows-1252" in ended.err) == (encoding == "cp1252")


def test_an_id_that_a_spreadsheet_changed_is_found_by_its_text(asked: Command) -> None:
    first = read_rows("todo.csv")[0]
    Path("sheet.csv").write_text(f'id,text,label\n1.2E+15,"{first["text"]}",billing\n')
    ended = asked("tell", "mine", "sheet.csv")
    assert ended.out.startswith("1 new answer stored")
    assert "found by their texts" in ended.err


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (b"id,answer\nt1,billing\n", "line 1: no column 'label' among id, answer"),
        (b"id,label,label\nt1,a,b\n", "more than one column 'label'"),
        (b"PK\x03\x04", "is a workbook"),
    ],
)
def test_a_file_that_is_no_answer_file_is_refused(content: bytes, message: str, asked: Command) -> None:
    Path("bad.csv").write_bytes(content)
    ended = asked("tell", "mine", "bad.csv")
    assert ended.code == 2
    assert message in ended.err


def test_a_file_that_may_hold_answers_is_not_overwritten(asked: Command) -> None:
    fill(Path("todo.csv"), ["billing"] * 6)
    before = Path("todo.csv").read_bytes()
    ended = asked("ask", "mine", "-o", "todo.csv")
    assert ended.code == 2
    assert Path("todo.csv").read_bytes() == before
    assert asked("ask", "mine", "-o", "todo.csv", "--force").code == 0


def test_texts_that_a_spreadsheet_would_run_are_made_harmless(dal: Command, tmp_path: Path) -> None:
    texts = ["=HYPERLINK(1)", "+1 for this", "-2 stars", "@home we wait", "plain words", "more words"]
    Path("tickets.csv").write_text("\n".join(["id,text", *(f"={i},{text}" for i, text in enumerate(texts))]))
    assert dal("ask", "mine", "--config", "pool.yaml", "-n", 6, "-o", "todo.csv").code == 0
    cells = [cell for row in read_rows("todo.csv") for cell in row.values() if cell]
    assert not [cell for cell in cells if cell.startswith(("=", "+", "-", "@"))]
    fill(Path("todo.csv"), ["billing"] * 6)
    assert dal("tell", "mine", "todo.csv").out.startswith("6 new answers stored")


def test_several_classes_are_separated_by_a_bar(dal: Command, tmp_path: Path) -> None:
    dal("ask", "mine", "--config", "pool.yaml", "--data.multilabel", "true", "-n", 4, "-o", "todo.csv")
    fill(Path("todo.csv"), ["billing|access", "none", "feedback | Billing", "skip"])
    assert "0 texts are still to be answered, 3 have a label" in dal("tell", "mine", "todo.csv").out


def test_questions_can_be_written_to_the_terminal(dal: Command) -> None:
    ended = dal("ask", "mine", "--config", "pool.yaml", "-n", 2, "-o", "-")
    assert ended.out.startswith("id,text,label\n")
    assert ended.out.count("\n") == 3


def test_the_config_of_a_folder_that_is_given_again_must_be_the_same(asked: Command) -> None:
    ended = asked("ask", "mine", "--config", "pool.yaml", "--batch", 7, "-o", "again.csv")
    assert ended.code == 2
    assert "mine already has a different config" in ended.err
