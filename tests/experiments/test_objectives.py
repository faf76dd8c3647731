"""Objectives: what a run, a comparison and a folder to ask from look at, and objectives that the data does not have."""

import csv
import json
import sqlite3
from dataclasses import replace
from pathlib import Path
from typing import Any

import material
import pytest
import yaml
from command import Command, fill, read_rows

from dal.config.stored import read_config, write_config
from dal.data import Rows, Splits
from dal.errors import ConfigError
from dal.evaluation import metric
from dal.experiments.experiment import Experiment
from dal.experiments.folder_config import describe_given, may_change
from dal.learners.committee_learner import CommitteeLearner
from dal.learners.probe_learner import ProbeLearner
from dal.learners.sklearn_committee import SklearnCommittee
from dal.objective import RecallOf
from dal.report.run_reading import read
from dal.session import Session
from dal.stopping import History, Labels, Observe, Plateau, StoppingRule, TargetScore
from dal.store.run_folder import read_metrics
from dal.strategies.random import Random
from dal.strategies.uncertainty import Margin

NAME = "recall of billing at precision 0.9"
SIZES = "strategy: Margin\nstart: 8\nbatch: 4\nrounds: 1\nseeds: [0]\n"


@pytest.fixture
def dal(with_tickets: Command) -> Command:
    data = "data: {path: tickets.csv, id: id, test: 0.3, validation: 0.2}\n"
    asked = "data: {path: tickets.csv, id: id, label: null, classes: [access, billing, feedback, shipping]}\n"
    return with_tickets.configured(
        run=f"{data}learner: TfidfLearner\n{SIZES}objective: {{recall_of: billing, precision: .9}}\n",
        plain=f"{data}learner: TfidfLearner\n{SIZES}",
        ask=f"{asked}learner: TfidfLearner\nstrategy: Random\n",
    )


def text_of(ended: Any) -> str:
    return " ".join((ended.out + ended.err).split())


def named_classes(path: Path, *names: str, rows: int = 60) -> None:
    """A file of texts, whose classes have these names in turn."""
    with path.open("w", newline="", encoding="utf-8") as file:
        lines = [[f"r{i}", f"word{i % len(names)} number {i}", names[i % len(names)]] for i in range(rows)]
        csv.writer(file).writerows([["id", "text", "label"], *lines])


# -- recall of a class at a precision --------------------------------------------------------------------------------


def test_run_records_the_objective_and_its_verdict_report_and_tables_are_on_it(dal: Command) -> None:
    ended = dal("run", "run.yaml", "--folder", "run")
    assert ended.code == 0, ended.err
    assert f"{NAME} by number of labels" in text_of(ended)
    [line] = read_metrics(Path("run/Margin-seed0"))[-1:]
    assert 0 <= line["own_metrics"][NAME] <= 1
    assert 0 <= line["pool"]["own_metrics"][NAME] <= 1
    stored = yaml.safe_load(Path("run/config.yaml").read_text())
    assert stored["objective"] == {"recall_of": "billing", "precision": 0.9}
    run = read("run")
    assert run.metric == f"own_metrics.{NAME}"
    curve = run.curves("Margin", run.metric)[0]
    assert curve.scores[-1] == line["own_metrics"][NAME]
    page = Path("run/report.html").read_text(encoding="utf-8")
    assert NAME in page.split('class="said">')[1].split("</p>")[0]
    table = dal("compare", "run", "--table", "csv")
    assert NAME in table.out
    assert dal("report", "run", "--metric", NAME).code == 0
    again = dal("run", "--resume", "run")
    assert again.code == 0, again.err


def test_another_run_takes_the_objective_from_the_command_line(dal: Command) -> None:
    ended = dal(
        "run", "plain.yaml", "--folder", "run", "--objective.recall_of", "billing", "--objective.precision", 0.5
    )
    assert ended.code == 0, ended.err
    assert read("run").metric == "own_metrics.recall of billing at precision 0.5"
    ended = dal("run", "plain.yaml", "--folder", "other", "--objective", "{recall_of: access}", "--report", "false")
    assert ended.code == 0, ended.err
    assert yaml.safe_load(Path("other/config.yaml").read_text())["objective"]["recall_of"] == "access"


def test_comparison_takes_the_objective_as_its_metric(dal: Command) -> None:
    ended = dal(
        "compare", "run.yaml", "--strategies", "Random,Margin", "--seeds", 1, "--folder", "grid", "--report", "false"
    )
    assert ended.code == 0, ended.err
    assert f"{NAME} by number of labels" in text_of(ended)
    assert f'"{NAME}"' in json.dumps(dict(read_metrics(Path("grid/Random-seed0"))[-1]))
    shown = dal("compare", "grid", "--table", "markdown", "--metric", NAME)
    assert (shown.code, "| Margin |" in shown.out) == (0, True)


def test_validation_scores_for_stopping_rules_have_the_objective(dal: Command) -> None:
    ended = dal("run", "run.yaml", "--folder", "run", "--stop", "{TargetScore: {value: 1.0}}", "--report", "false")
    assert ended.code == 0, ended.err
    [line] = read_metrics(Path("run/Margin-seed0"))[-1:]
    assert line["validation"]["objective"] == NAME
    assert f"validation {NAME} was" in line["stopping"]["text"]
    assert line["stopping"]["notes"] == {f"validation_{NAME}": line["validation"]["own_metrics"][NAME]}


@pytest.mark.parametrize("name", ["très sévère", "sehr schlimm", "3", "0.5", "007", "no", "a: b", "x/y", "重大"])
def test_any_name_of_a_class_is_an_objective(dal: Command, name: str) -> None:
    named_classes(Path("named.csv"), name, "other one", "third")
    config = {"data": {"path": "named.csv", "id": "id", "test": 0.3}, "learner": "TfidfLearner", "strategy": "Random"}
    config |= {"start": 9, "batch": 3, "rounds": 0, "seeds": [0], "baseline": None, "objective": {"recall_of": name}}
    Path("named.yaml").write_text(yaml.safe_dump(config, allow_unicode=True), encoding="utf-8")
    ended = dal("run", "named.yaml", "--folder", "run")
    assert ended.code == 0, ended.err
    wanted = f"recall of {name} at precision 0.9"
    assert read("run").metric == f"own_metrics.{wanted}"
    assert dal("run", "--resume", "run").code == 0
    shown = dal("compare", "run", "--table", "csv", "--metric", wanted)
    assert (shown.code, wanted in shown.out) == (0, True), shown.err


def test_number_as_the_name_of_a_class_need_not_be_quoted(dal: Command) -> None:
    named_classes(Path("named.csv"), "007", "1", "2")
    data = "data: {path: named.csv, id: id, test: 0.3}\nlearner: TfidfLearner\n"
    Path("named.yaml").write_text(f"{data}{SIZES}objective: {{recall_of: 007}}\n")
    ended = dal("run", "named.yaml", "--folder", "run", "--report", "false")
    assert ended.code == 0, ended.err
    assert dal("run", "named.yaml", "--folder", "other", "--objective.recall_of", 1, "--report", "false").code == 0


@pytest.mark.parametrize(
    ("objective", "said"),
    [
        (
            "{recall_of: biling}",
            "objective: recall_of: there is no class 'biling'; did you mean 'billing'?; classes are",
        ),
        ("{recall_of: nobody}", "there is no class 'nobody'; classes are access, billing, feedback, shipping"),
        ("{recall_of: billing, precision: 0}", "objective: precision must be above 0 and at most 1, got 0"),
        ("{recall_of: billing, precision: 90}", "objective: precision must be above 0 and at most 1, got 90"),
        ("{recall_of: billing, precission: .9}", "RecallOf has no option 'precission', did you mean precision?"),
        ("{precision: .9}", "RecallOf needs objective.recall_of: text"),
        ("{recall_of: ''}", "objective: recall_of takes the name of a class, got ''"),
        (
            "f1",
            "objective takes one of accuracy, macro_f1, micro_f1, balanced_accuracy, log_loss or the keys of RecallOf",
        ),
        ("[accuracy]", "objective takes"),
        (
            "micro_f1",
            "objective: micro_f1 is for rows with several classes; with one class a row it equals the accuracy",
        ),
    ],
)
def test_objective_that_cannot_be_is_refused_in_one_line(dal: Command, objective: str, said: str) -> None:
    for command in ("run", "compare"):
        more = ("--strategies", "Random", "--seeds", 1) if command == "compare" else ()
        ended = dal(command, "plain.yaml", *more, "--folder", "new", "--objective", objective)
        assert (ended.code, len(ended.messages)) == (2, 1), ended.err
        assert said in ended.err
    assert not list(Path().glob("new*"))


def test_ask_refuses_a_class_that_the_data_does_not_have_before_it_stores_anything(dal: Command) -> None:
    ended = dal("ask", "mine", "--config", "ask.yaml", "-n", 2, "--objective.recall_of", "biling")
    assert (ended.code, "there is no class 'biling'; did you mean 'billing'?" in ended.err) == (2, True)
    assert not Path("mine/config.yaml").exists()
    assert dal("ask", "mine", "--config", "ask.yaml", "-n", 2, "--objective.recall_of", "billing").code == 0


def test_dry_run_and_print_config_know_the_objective(dal: Command) -> None:
    ended = dal("run", "plain.yaml", "--dry-run", "--objective.recall_of", "nobody")
    assert (ended.code, "there is no class 'nobody'" in ended.err) == (2, True)
    printed = yaml.safe_load(dal("run", "run.yaml", "--print-config").out)
    assert (printed["objective"], printed["metric"]) == ({"recall_of": "billing", "precision": 0.9}, None)
    assert "or {recall_of: CLASS, precision: 0.9}" in dal("list", "metrics").out


def test_run_says_that_no_test_row_has_the_class(dal: Command) -> None:
    rows = read_rows("tickets.csv")
    for name, kept in (("pool.csv", rows), ("exam.csv", [row for row in rows if row["label"] != "billing"])):
        with open(name, "w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            writer.writerows({**row, "id": f"{name}-{row['id']}", "text": f"{row['text']} {name}"} for row in kept)
    ended = dal("run", "run.yaml", "--folder", "run", "--data.path", "pool.csv", "--data.test", "exam.csv")
    assert ended.code == 0, ended.err
    assert text_of(ended).count("no test row has the class billing, so the recall of billing at precision 0.9 is") == 1
    assert read_metrics(Path("run/Margin-seed0"))[-1]["own_metrics"] == {NAME: None}
    assert Path("run/report.html").is_file()


# -- another objective -----------------------------------------------------------------------------------------------


def events(folder: str) -> list[Any]:
    with sqlite3.connect(f"{folder}/labels.db") as store:
        found = store.execute("SELECT * FROM events ORDER BY 1").fetchall()
    store.close()
    return found


@pytest.mark.parametrize("members", [None, 2], ids=["probe", "committee"])
def test_another_objective_makes_a_new_model_of_a_folder_to_ask_from_and_touches_no_answer(
    dal: Command, tiny_bert: Path, members: int | None
) -> None:
    given = f"{{ProbeLearner: {{model: {tiny_bert}, max_length: 16}}}}"
    if members:
        given = f"{{CommitteeLearner: {{learner: {given}, members: {members}, bootstrap: true}}}}"
    learner = ("--learner", given, "--strategy", "Margin")
    start = ("ask", "mine", "--config", "ask.yaml", *learner)
    assert dal(*start, "-n", 8, "-o", "first.csv", "--objective", "balanced_accuracy").code == 0
    fill(Path("first.csv"), ["access", "billing", "billing", "billing", "feedback", "shipping", "billing", "billing"])
    assert dal("tell", "mine", "first.csv").code == 0
    texts = Path("texts.csv")
    texts.write_text("id,text\n1,the invoice is wrong\n2,my login is locked\n")
    before, stored = dal("predict", "mine", texts).out, events("mine")
    assert dal("predict", "mine", texts).out == before
    ended = dal(*start, "-n", 2, "-o", "second.csv", "--objective", "{recall_of: billing}")
    assert ended.code == 0, ended.err
    assert "objective changed: all answers are kept, and the model is trained again" in ended.err
    assert events("mine")[: len(stored)] == stored
    assert dal("predict", "mine", texts).out != before
    config = Path("mine/config.yaml")  # by hand, too
    kept = yaml.safe_load(config.read_text())
    options = kept["learner"]["init_args"]
    options = options["learner"]["init_args"] if members else options
    assert (options["objective"], kept["metric"]) == (None, None)
    config.write_text(yaml.safe_dump({**kept, "objective": "balanced_accuracy"}))
    assert dal("predict", "mine", texts).out == before


def test_a_run_is_not_resumed_with_another_objective(dal: Command) -> None:
    assert dal("run", "run.yaml", "--folder", "run", "--report", "false").code == 0
    refused = dal("run", "run.yaml", "--folder", "run", "--objective", "macro_f1")
    assert (refused.code, len(refused.messages)) == (2, 1)
    assert 'objective is {"recall_of": "billing", "precision": 0.9} there and "macro_f1" here' in refused.err


# -- Python ----------------------------------------------------------------------------------------------------------


def part(n: int, seed: int, **options: Any) -> Rows:
    inputs, labels = material.clusters(n, seed=seed, spread=3.0)
    return Rows.from_inputs(inputs, labels, list("abcd"), **options)


def small(**changes: Any) -> Experiment:
    data: Any = Splits(part(150, 0), part(60, 1), part(40, 2))
    rounds = {"start": 10, "batch": 10, "rounds": 2, "quiet": True, "report": False, "baseline": None}
    return Experiment(data, **({"learner": ProbeLearner(model=None), "strategy": Margin()} | rounds | changes))


def test_python_takes_a_mapping() -> None:
    run = small(objective={"recall_of": "b", "precision": 0.5})
    assert (run.objective, run.metric) == (RecallOf("b", 0.5), "recall of b at precision 0.5")
    assert run.learner == ProbeLearner(model=None, objective=RecallOf("b", 0.5))
    assert ProbeLearner(objective={"recall_of": "b", "precision": 0.5}).objective == RecallOf("b", 0.5)  # type: ignore[arg-type]
    lines = run.run().cells["Margin-seed0"]
    assert all(0 <= line["own_metrics"]["recall of b at precision 0.5"] <= 1 for line in lines)


def test_members_of_a_committee_have_the_objective_unless_they_have_their_own() -> None:
    def committee(objective: Any = None, **options: Any) -> CommitteeLearner:
        return CommitteeLearner(ProbeLearner(model=None, objective=objective), members=2, bootstrap=True, **options)

    run = small(learner=committee(), objective="macro_f1")
    assert run.learner == committee("macro_f1")
    assert describe_given(run)["learner"] == describe_given(small(learner=committee()))["learner"]
    assert small(learner=committee("log_loss"), objective="macro_f1").learner == committee("log_loss")
    assert small(learner=committee()).learner == committee()
    alone = SklearnCommittee(model=None)  # its members take none
    assert small(learner=alone, objective="macro_f1").learner == alone
    within = CommitteeLearner(committee(), members=3)
    assert small(learner=within, objective="macro_f1").learner == CommitteeLearner(committee("macro_f1"), members=3)


def test_successor_has_the_objective_unless_it_has_its_own() -> None:
    run = small(successor=ProbeLearner(model=None), objective="macro_f1")
    assert run.successor == ProbeLearner(model=None, objective="macro_f1")
    assert describe_given(run)["successor"] == describe_given(small(successor=ProbeLearner(model=None)))["successor"]
    own = ProbeLearner(model=None, objective="log_loss")
    assert small(successor=own, objective="macro_f1").successor == own
    with pytest.raises(ConfigError, match="there is no class 'e'"):
        small(successor=ProbeLearner(model=None, objective=RecallOf("e"))).run()


def test_successor_on_texts_decides_as_the_learner_with_the_same_objective(tiny_bert: Path) -> None:
    (texts, labels), probe = material.tickets(90), ProbeLearner(str(tiny_bert))
    data: Any = Splits(Rows.from_inputs(texts[:60], labels[:60]), test=Rows.from_inputs(texts[60:], labels[60:]))
    options = {"data": data, "learner": probe, "successor": probe, "start": 21, "rounds": 0}
    run = replace(small(), **options, objective="balanced_accuracy")
    [line] = run.run().cells["Margin-seed0"]
    assert len(set(line["class_counts"])) > 1  # equal shares would need no adjustment
    assert line["successor"]["log_loss"] == pytest.approx(line["log_loss"], abs=1e-6)
    [line] = replace(run, successor=ProbeLearner(str(tiny_bert), objective="accuracy")).run().cells["Margin-seed0"]
    assert line["successor"]["log_loss"] != pytest.approx(line["log_loss"], abs=1e-3)


@pytest.mark.parametrize(
    ("objective", "said"),
    [
        ("acuracy", "objective must be one of accuracy, .*, got 'acuracy'; did you mean 'accuracy'"),
        (3, "objective must be one of accuracy, .*, got 3"),
        ({"precision": 0.5}, "the key recall_of is missing: write {recall_of: CLASS, precision: 0.9}"),
        ({"recall_of": "b", "recall": 1}, "there is no key 'recall'"),
        ({"recall_of": None}, "recall_of takes the name of a class, got None"),
    ],
)
def test_wrong_objective_in_python_is_refused(objective: Any, said: str) -> None:
    for make in (small, ProbeLearner):
        with pytest.raises(ConfigError, match=said):
            make(objective=objective)


def test_class_is_checked_for_the_learner_and_in_a_session_too() -> None:
    with pytest.raises(ConfigError, match="there is no class 'e'"):
        small(learner=ProbeLearner(model=None, objective=RecallOf("e"))).run()
    for options in ({"objective": {"recall_of": "e"}}, {}):
        learner = ProbeLearner(model=None, objective=None if options else RecallOf("e"))
        with pytest.raises(ConfigError, match="there is no class 'e'"):
            Session(Splits(part(20, 0)), learner, Random(), **options)


def test_objective_changes_no_selection_of_vectors() -> None:
    """Vectors have no adjusted head: what is measured differs, and nothing else."""
    plain, aimed = (small(objective=each).run().cells["Margin-seed0"] for each in (None, RecallOf("b")))
    assert [line["rows"] for line in plain] == [line["rows"] for line in aimed]
    assert [line["accuracy"] for line in plain] == [line["accuracy"] for line in aimed]


# -- stopping rules ---------------------------------------------------------------------------------------------------


@metric(maximize=False)
def misses(outputs: Any, labels: Any) -> float:
    """Number of rows of class a that are missed."""
    return float(((labels == 0) & (outputs.probs.argmax(1) != 0)).sum())


def stopped(rule: Any, **changes: Any) -> list[dict[str, Any]]:
    return [dict(line) for line in small(stop=rule, metrics=[misses], **changes).run().cells["Margin-seed0"]]


def test_target_of_a_metric_of_ones_own_is_reached_from_its_side() -> None:
    lines = stopped(TargetScore("misses", 1000))
    assert (len(lines), lines[0]["stopping"]["text"].partition(" was ")[0]) == (1, "validation misses")
    assert lines[0]["stopping"]["text"].endswith("(at most 1000 wanted)")
    assert len(stopped(TargetScore("misses", -1))) == 3


@pytest.mark.parametrize(
    ("objective", "name"),
    [(None, "accuracy"), ("macro_f1", "macro_f1"), ("log_loss", "log_loss"), (RecallOf("b"), RecallOf("b").name)],
)
def test_rules_look_at_the_objective_unless_they_name_a_metric(objective: Any, name: str) -> None:
    [line, *_] = stopped(Observe((TargetScore(), TargetScore("balanced_accuracy"))), objective=objective)
    assert set(line["stopping"]["notes"]) == {f"validation_{name}", "validation_balanced_accuracy"}
    figures = line["validation"]
    assert line["stopping"]["notes"][f"validation_{name}"] == {**figures, **figures["own_metrics"]}[name]


def test_rules_take_an_objective_by_its_name() -> None:
    name = RecallOf("b", 0.5).name
    [line, *_] = stopped(TargetScore(name, 1.0), objective=RecallOf("b", 0.5), metric="accuracy")
    assert line["stopping"]["notes"] == {f"validation_{name}": line["validation"]["own_metrics"][name]}
    assert Plateau(metric=name).judge(History((line,))).text.startswith("1 score on validation rows so far")


def test_plateau_of_a_metric_that_falls_is_refused() -> None:
    with pytest.raises(ConfigError, match="misses is better when lower"):
        stopped(Plateau(metric="misses"))
    with pytest.raises(ConfigError, match="log_loss is better when lower"):
        stopped(Plateau(), objective="log_loss")


@pytest.mark.parametrize(
    "rule", [TargetScore("acuracy"), Plateau(metric="acuracy"), Labels(9) | TargetScore("acuracy")]
)
def test_score_that_no_round_records_is_refused_before_anything_is_asked(rule: Any, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="reads the score 'acuracy', which no round records; did you mean 'accuracy'"):
        stopped(rule, folder=str(tmp_path / "run"))
    assert not (tmp_path / "run").exists()
    with pytest.raises(ConfigError, match="reads the score 'label_accuracy', which no round records"):
        stopped(TargetScore("label_accuracy"))


def test_stored_rule_has_the_accuracy_where_there_is_no_objective(tmp_path: Path) -> None:
    for number, objective in enumerate((None, "macro_f1")):
        stopped(Labels(15) | TargetScore(), objective=objective, folder=str(tmp_path / str(number)))
        [_, rule] = read_config(tmp_path / str(number))["stop"]["init_args"]["rules"]
        assert rule["init_args"]["metric"] == ("accuracy" if objective is None else None)


def test_stored_rule_may_change_with_the_objective_that_it_follows(tmp_path: Path) -> None:
    def config(rule: StoppingRule, objective: Any = None) -> dict[str, Any]:
        return describe_given(small(stop=Labels(99) | rule, objective=objective))

    write_config(tmp_path, config(TargetScore()), kind="ask")
    aimed = config(TargetScore(), "macro_f1")
    assert write_config(tmp_path, aimed, kind="ask", replaced=may_change(tmp_path, aimed)) == ["objective", "stop"]
    assert write_config(tmp_path, aimed, kind="ask", replaced=may_change(tmp_path, aimed)) == []
    for other in (TargetScore("ece", 0.1), TargetScore(value=0.8), Plateau()):
        assert "stop" not in may_change(tmp_path, config(other, "macro_f1"))


def test_folder_to_ask_from_is_scored_again_for_another_objective(tmp_path: Path) -> None:
    data = Splits(part(150, 0), part(60, 1), part(40, 2))
    notes = []
    for objective in ("macro_f1", RecallOf("b", 0.5), RecallOf("b", 0.5)):
        with Session(
            data, ProbeLearner(model=None), Random(), folder=tmp_path, hide_labels=True, objective=objective
        ) as session:
            if not len(session.labels):
                rows = session.ask(20)
                session.tell(rows, data.pool.labels[rows])
            notes.append(set(session.should_stop(TargetScore()).notes))
            lines = len(session.metrics)
    name = f"validation_{RecallOf('b', 0.5).name}"
    assert notes == [{"validation_macro_f1"}, {name}, {name}]
    assert lines == 2
