"""Descriptions of classes in the commands: the line about codes, changed descriptions, and their help."""

import csv
from pathlib import Path

import pytest
import yaml
from command import Command, fill

LLM = "{LLMLearner: {client: {speaking.KeywordClient: {keywords: [[invoice, B2], [login, '3']]}}}}"
CODES = "classes: ['3', B2, other]"
LINE = "the names of 2 classes (3, B2) say nothing: describe them (data.descriptions), and the model starts from the"


@pytest.fixture
def dal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    monkeypatch.chdir(tmp_path)
    with open("tickets.csv", "w", newline="") as file:
        rows = [[f"t{i}", f"{'invoice' if i % 2 else 'login'} {i}", "B2" if i % 2 else "3"] for i in range(40)]
        csv.writer(file).writerows([["id", "text", "label"], *rows])
    data = f"data: {{path: tickets.csv, id: id, label: label, {CODES}, test: 0.3}}\n"
    sizes = "start: 4\nbatch: 2\nrounds: 1\nseeds: [0]\nreport: false\nstrategy: Random\n"
    asked = data.replace("label: label", "label: null").replace(", test: 0.3", "")
    return Command(capsys).configured(
        llm=f"{data}learner: {LLM}\n{sizes}",
        oracle=f"{data}learner: TfidfLearner\n{sizes}oracle: {{LLMOracle: {{labeler: {LLM}, hide_labels: true}}}}\n",
        tfidf=f"{data}learner: TfidfLearner\n{sizes}",
        ask=f"{asked}learner: {LLM}\nstrategy: Random\n",
        words=f"{asked}learner: TfidfLearner\nstrategy: Margin\n",
    )


def text_of(ended: object) -> str:
    return " ".join((ended.out + ended.err).split())  # type: ignore[attr-defined]


# -- the line about codes --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("config", ["llm.yaml", "oracle.yaml"])
def test_run_says_once_that_names_are_codes(dal: Command, config: str) -> None:
    ended = dal("run", config)
    assert ended.code == 0, ended.err
    assert text_of(ended).count(LINE) == 1
    assert "see docs/descriptions.md" in text_of(ended)


def test_run_with_a_probe_says_that_names_are_codes_and_which_strength_was_chosen(
    dal: Command, tiny_bert: Path
) -> None:
    probe = f"{{ProbeLearner: {{model: {tiny_bert}, max_length: 16}}}}"
    ended = dal("run", "tfidf.yaml", "--learner", probe)
    assert ended.code == 0, ended.err
    assert text_of(ended).count(LINE) == 1
    described = ("--data.descriptions", "{B2: invoice, 3: login}", "--folder", "described")
    ended = dal("run", "tfidf.yaml", "--learner", probe, *described)
    assert ended.code == 0, ended.err
    assert "held-out log-likelihood of a label:" in text_of(ended)


def test_comparison_says_once_that_names_are_codes(dal: Command) -> None:
    ended = dal("compare", "llm.yaml", "--strategies", "Random,Margin", "--seeds", 2, "--rounds", 0)
    assert ended.code == 0, ended.err
    assert text_of(ended).count(LINE) == 1


def test_ask_says_that_names_are_codes(dal: Command) -> None:
    ended = dal("ask", "mine", "--config", "ask.yaml", "-n", 2, "-o", "todo.csv")
    assert ended.code == 0, ended.err
    assert ended.err.count(LINE) == 1


def test_one_class_that_is_left_is_named_alone(dal: Command) -> None:
    ended = dal("ask", "mine", "--config", "ask.yaml", "-n", 2, "-o", "todo.csv", "--data.descriptions.B2", "invoices")
    assert "dal: the name of 1 class (3) says nothing: describe it (data.descriptions)" in ended.err


@pytest.mark.parametrize(
    "arguments",
    [
        ("tfidf.yaml",),
        ("llm.yaml", "--data.descriptions", "{B2: invoices, 3: logins}"),
        ("llm.yaml", "--learner.descriptions", "{B2: invoices, 3: logins}"),
    ],
    ids=["another learner", "described", "described by the learner"],
)
def test_nothing_is_said_where_it_would_not_help(dal: Command, arguments: tuple[str, ...]) -> None:
    ended = dal("run", *arguments)
    assert ended.code == 0, ended.err
    assert "say nothing" not in text_of(ended)
    assert "says nothing" not in text_of(ended)


# -- folders ---------------------------------------------------------------------------------------------------------

ASK = ("ask", "mine", "--config", "words.yaml", "-n", 4)
CHANGED = "data.descriptions changed: all answers are kept, and the model is trained again"


def answered(dal: Command) -> None:
    assert dal(*ASK, "-o", "todo.csv").code == 0
    fill(Path("todo.csv"), ["3", "B2", "3", "B2"])
    assert dal("tell", "mine", "todo.csv").code == 0


def test_descriptions_of_a_folder_that_is_asked_from_may_change(dal: Command) -> None:
    answered(dal)
    given = ("--data.descriptions", "{B2: invoices}")
    ended = dal(*ASK, "-o", "second.csv", *given)
    assert ended.code == 0, ended.err
    assert CHANGED in ended.err
    assert "4 have a label" in ended.err
    assert yaml.safe_load(Path("mine/config.yaml").read_text())["data"]["descriptions"] == {"B2": "invoices"}
    assert "changed" not in dal(*ASK, "-o", "third.csv", *given).err
    assert "changed" not in dal("ask", "mine", "-o", "fourth.csv").err  # the stored ones are the new ones
    back = dal(*ASK, "-o", "fifth.csv", "--data.description_template", "About {}.")
    assert "data.descriptions and data.description_template changed" in back.err
    other = dal(*ASK, "-o", "sixth.csv", "--data.seed", 3)
    assert (other.code, "data.seed is 0 there and 3 here" in other.err) == (2, True)


def test_a_folder_that_knows_no_descriptions_is_asked_from_without_a_line(dal: Command) -> None:
    answered(dal)
    config = yaml.safe_load(Path("mine/config.yaml").read_text())
    for key in ("descriptions", "description_template"):
        del config["data"][key]
    written = yaml.safe_dump(config, sort_keys=False)
    Path("mine/config.yaml").write_text(written)
    ended = dal(*ASK, "-o", "second.csv")
    assert ended.code == 0, ended.err
    assert "changed" not in ended.err
    assert Path("mine/config.yaml").read_text() == written


def test_wrong_description_of_a_folder_changes_nothing(dal: Command) -> None:
    answered(dal)
    before = Path("mine/config.yaml").read_bytes()
    refused = dal(*ASK, "-o", "second.csv", "--data.descriptions.othr", "invoices")
    assert refused.code == 2
    assert "descriptions: 'othr' is not one of the classes 3, B2, other; did you mean 'other'?" in refused.err
    assert Path("mine/config.yaml").read_bytes() == before


def test_a_run_keeps_the_descriptions_it_began_with(dal: Command) -> None:
    Path("classes.csv").write_text("class,description\nB2,invoices\n3,logins\n3,passwords\n")
    run = ("run", "tfidf.yaml", "--folder", "made", "--data.descriptions")
    assert dal(*run, "classes.csv").code == 0
    stored = yaml.safe_load(Path("made/config.yaml").read_text())["data"]["descriptions"]
    assert stored == {"B2": "invoices", "3": ["logins", "passwords"]}
    assert dal(*run, "classes.csv").code == 0
    assert dal(*run, "{B2: invoices, 3: [logins, passwords]}").code == 0
    Path("classes.csv").write_text("class,description\nB2,invoices\n3,logins\n")
    refused = dal(*run, "classes.csv")
    assert refused.code == 2
    assert (
        'data.descriptions.3 is ["logins", "passwords"] there and "logins" here; choose another folder' in refused.err
    )
    Path("classes.csv").unlink()
    assert dal("run", "--resume", "made").code == 0


def test_file_of_descriptions_is_not_overwritten_by_a_sheet(dal: Command) -> None:
    Path("classes.csv").write_text("class,description\nB2,invoices\n")
    refused = dal(*ASK, "-o", "classes.csv", "--force", "--data.descriptions", "classes.csv")
    assert refused.code == 2
    assert Path("classes.csv").read_text() == "class,description\nB2,invoices\n"


# -- help ------------------------------------------------------------------------------------------------------------


def test_help_and_printed_config_show_the_options(dal: Command) -> None:
    shown = " ".join(dal("run", "--help").out.split())
    assert "--data.descriptions class name -> text or texts that describe the class, or a file" in shown
    assert "--data.description_template template of the texts of other classes" in shown
    printed = dal("run", "tfidf.yaml", "--print-config", "--data.descriptions", '{B2: "invoices, refunds"}').out
    data = yaml.safe_load(printed)["data"]
    assert (data["descriptions"], data["description_template"]) == ({"B2": "invoices, refunds"}, "{}")


def test_preview_shows_the_descriptions(dal: Command) -> None:
    shown = dal("llm", "preview", "llm.yaml", "--data.descriptions", "{B2: [invoices, refunds]}").out
    assert "- B2: invoices; refunds\n- other\n" in shown
