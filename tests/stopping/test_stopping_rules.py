"""Stopping rules at work: in experiments, in sessions, in configs and at the command line."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import material
import pytest
from command import Command, asking, fill, probe

from dal.config import build as building
from dal.config import plugins
from dal.config import settings_tree as tree
from dal.config import without_imports as static
from dal.config.stored import describe, read_config
from dal.data import Rows, Splits
from dal.errors import ConfigError
from dal.experiments.console import Console, Quiet
from dal.experiments.experiment import Experiment
from dal.experiments.interrupts import Interrupted
from dal.learners.probe_learner import ProbeLearner
from dal.session import Session
from dal.stopping import (
    AllOf,
    ClassificationChange,
    Dollars,
    Hours,
    Labels,
    Observe,
    OverallUncertainty,
    Plateau,
    StabilizingPredictions,
    StoppingRule,
    TargetScore,
    backtest,
)
from dal.stopping import AnyOf as AnyRule
from dal.store.run_folder import append_metrics, read_metrics
from dal.strategies.random import Random
from dal.strategies.uncertainty import Margin

NAMES = list("abcd")
EVERYTHING = Observe(
    (Labels(1000), TargetScore(), Plateau(), StabilizingPredictions(), ClassificationChange(), OverallUncertainty())
)


def part(n: int, seed: int, labels: bool = True) -> Rows:
    inputs, truth = material.clusters(n, seed=seed, spread=2.0)
    return Rows.from_inputs(inputs, truth if labels else None, NAMES)


def splits(validation: bool = True) -> Splits:
    return Splits(part(600, 0), part(80, 1), part(70, 2) if validation else None)


def experiment(folder: Path | None, stop: StoppingRule | None, **changes: Any) -> Experiment:
    data: Any = splits()
    small = Experiment(
        data, ProbeLearner(model=None), Margin(), start=10, batch=10, rounds=5, report=False, quiet=True, baseline=None
    )
    small = replace(small, save_model=False)
    return replace(small, folder=None if folder is None else str(folder), stop=stop, **changes)


def lines(run: Experiment, **options: Any) -> list[dict[str, Any]]:
    [found] = run.run(**options).cells.values()
    return [dict(line) for line in found]


def figures(line: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in line.items() if not key.endswith("seconds")}


# -- experiments -----------------------------------------------------------------------------------------------------


def test_experiment_ends_where_the_rule_says_so(tmp_path: Path) -> None:
    found = lines(experiment(tmp_path, Labels(25)))
    assert [line["labels"] for line in found] == [10, 20, 30]
    assert [line["stopping"]["stop"] for line in found] == [False, False, True]
    assert found[-1]["stopping"]["text"] == "30 of 25 labels were bought"
    assert found[-1]["stopping"]["notes"] == {"labels_bought": 30}
    assert read_metrics(tmp_path / "Margin-seed0") == found


def test_every_strategy_and_seed_ends_by_itself() -> None:
    run = experiment(None, TargetScore(value=0.8), baseline=Random(), seeds=[0, 1], rounds=8)
    for found in run.run().cells.values():
        scores = [line["validation"]["accuracy"] for line in found]
        assert all(score < 0.8 for score in scores[:-1])
        assert scores[-1] >= 0.8 or len(found) == 9


def test_only_what_the_rule_reads_is_recorded() -> None:
    extra = {"stopping", "spent", "validation", "stop_set"}
    assert not extra & lines(experiment(None, None, rounds=1))[-1].keys()
    for rule, names in ((Labels(99), {"spent"}), (Plateau(), {"validation"}), (OverallUncertainty(), {"stop_set"})):
        assert extra & lines(experiment(None, rule, rounds=1))[-1].keys() == {"stopping", *names}


def test_recorded_figures_are_those_of_the_model() -> None:
    found = lines(experiment(None, EVERYTHING, rounds=2))
    for line in found:
        assert line["spent"]["answers"] == line["labels"]
        assert line["validation"]["rows"] == 70
        assert len(line["stop_set"]["predictions"]) == 600
        assert len(line["stop_set"]["labeled"]) == line["labels"]
        assert 0 < line["stop_set"]["uncertainty"] < 1
    shares = [found[-1]["stop_set"]["predictions"].count(c) / 600 for c in range(4)]
    assert shares == pytest.approx([float((part(600, 0).labels == c).double().mean()) for c in range(4)], abs=0.1)
    assert len({line["stop_set"]["of"] for line in found}) == 1


def test_rule_does_not_change_the_run_that_it_watches() -> None:
    plain, watched = lines(experiment(None, None)), lines(experiment(None, EVERYTHING))
    for one, other in zip(plain, watched, strict=True):  # a line that a rule read has more keys
        assert figures(one) == {key: other[key] for key in figures(one)}


def test_finished_experiment_is_only_read(tmp_path: Path) -> None:
    first = lines(experiment(tmp_path, Labels(25)))

    class Gone:
        def load(self) -> Splits:
            raise AssertionError("the data was loaded")

    again = experiment(tmp_path, Labels(25), data=Gone())
    assert lines(again, config=read_config(tmp_path)) == first


@dataclass
class Impatient(Quiet):
    """Presses Ctrl-C when so many rounds are done."""

    rounds: int

    def round(self, line: Mapping[str, Any]) -> None:
        self.rounds -= 1
        if not self.rounds:
            raise Interrupted("enough")


@pytest.mark.parametrize("rounds", [1, 5])
def test_resumed_experiment_stops_at_the_same_round(tmp_path: Path, rounds: int) -> None:
    rule = StabilizingPredictions(threshold=0.97, window=3) & TargetScore(patience=2)
    whole = lines(experiment(tmp_path / "whole", rule, rounds=20))
    assert whole[-1]["stopping"]["stop"]
    assert 6 < len(whole) < 21
    with pytest.raises(Interrupted):
        experiment(tmp_path / "halves", rule, rounds=20).run(reporter=Impatient(rounds))
    assert len(read_metrics(tmp_path / "halves" / "Margin-seed0")) == rounds
    resumed = lines(experiment(tmp_path / "halves", rule, rounds=20))
    assert [figures(line) for line in resumed] == [figures(line) for line in whole]


def test_verdict_follows_from_the_stored_numbers_alone(tmp_path: Path) -> None:
    rule = Plateau(min_gain=0.02) & StabilizingPredictions(threshold=0.9)
    found = lines(experiment(tmp_path, rule, rounds=15))
    stored = read_metrics(tmp_path / "Margin-seed0")
    assert backtest(stored, rule).labels == found[-1]["labels"]
    assert backtest(stored, rule).verdict.text == found[-1]["stopping"]["text"]


def test_back_test_of_an_observed_run_says_where_the_rule_stops_it() -> None:
    rule = StabilizingPredictions(threshold=0.9)
    observed, stopped = lines(experiment(None, Observe((rule,)), rounds=9)), lines(experiment(None, rule, rounds=9))
    found = backtest(observed, rule)
    assert (found.labels, len(observed)) == (stopped[-1]["labels"], 10)
    assert found.labels_saved == observed[-1]["labels"] - found.labels > 0
    assert found.loss == pytest.approx(observed[-1]["accuracy"] - stopped[-1]["accuracy"])


def test_folder_of_another_rule_is_refused(tmp_path: Path) -> None:
    lines(experiment(tmp_path, Labels(25)))
    with pytest.raises(ConfigError, match=r"holds another run: stop\.init_args\.max_labels is 25 there and 35 here"):
        experiment(tmp_path, Labels(35)).run()


def test_score_without_validation_rows_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    run = experiment(tmp_path / "new", Labels(9) | TargetScore(), data=splits(validation=False))
    with pytest.raises(ConfigError, match=r"AnyOf reads scores on validation rows, .* give data\.validation a share"):
        run.run()
    assert not (tmp_path / "new").exists()


def test_rule_that_reads_what_nobody_records_is_refused() -> None:
    @dataclass(frozen=True)
    class Odd(Labels):
        needs = frozenset({"mood", "spent"})

    with pytest.raises(ConfigError, match="Odd reads mood, which no round records; recorded are spent, validation"):
        experiment(None, Odd(1)).run()


def test_reporter_and_report_say_why_a_run_was_stopped(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    results = experiment(tmp_path, Labels(25), report=True, baseline=Random()).run(reporter=Console())
    assert capsys.readouterr().out.count("stopped: 30 of 25 labels were bought") == 2
    assert results.report is not None
    page = results.report.read_text(encoding="utf-8")
    assert "not finished" not in page
    assert "stopped by its rule: 30 of 25 labels were bought" in page


def test_reporter_says_how_far_a_rule_was_that_did_not_stop(capsys: pytest.CaptureFixture[str]) -> None:
    experiment(None, Labels(500), rounds=0).run(reporter=Console())
    assert "Margin-seed0 was not stopped: 10 of 500 labels were bought" in capsys.readouterr().out


# -- sessions --------------------------------------------------------------------------------------------------------


def session(folder: Path | None = None) -> Session:
    return Session(splits(), ProbeLearner(model=None), Random(), folder=folder, hide_labels=True)


def answer(asking: Session, n: int = 10, **facts: Any) -> None:
    rows = asking.ask(n)
    asking.tell(rows, splits().pool.labels[rows], **facts)


def test_loop_of_ones_own_ends_when_the_rule_says_so() -> None:
    with session() as asking:
        rule = StabilizingPredictions(threshold=0.9) | Labels(300)
        while not asking.should_stop(rule):
            answer(asking)
        assert asking.should_stop(rule).text.startswith("kappa was 0.9")
        assert [line["labels"] for line in asking.metrics] == [10 * (i + 1) for i in range(len(asking.metrics))]


def test_round_is_recorded_once_and_only_between_batches(tmp_path: Path) -> None:
    with session(tmp_path) as asking:
        rule = Labels(15)
        assert asking.should_stop(rule).text == "0 of 15 labels were bought"
        assert read_metrics(tmp_path) == []
        answer(asking)
        assert not asking.should_stop(rule)
        assert not asking.should_stop(rule)
        assert len(read_metrics(tmp_path)) == 1
        rows = asking.ask(10)
        asking.tell(rows[:7], [0] * 7)
        assert asking.should_stop(rule).text == "10 of 15 labels were bought"
        assert len(read_metrics(tmp_path)) == 1


def test_session_made_again_decides_the_same_and_records_nothing_anew(tmp_path: Path) -> None:
    rule = EVERYTHING.rules[3] & EVERYTHING.rules[1]
    with session(tmp_path) as asking:
        for _ in range(4):
            answer(asking)
            before = asking.should_stop(rule)
    with session(tmp_path) as asking:
        assert asking.should_stop(rule) == before
    assert len(read_metrics(tmp_path)) == 4


def test_corrected_round_is_recorded_again_and_counts_once() -> None:
    with session() as asking:
        answer(asking)
        asking.should_stop(Labels(15))
        row = asking.undo()
        asking.tell([row], [0])
        assert asking.should_stop(Labels(15)).notes == {"labels_bought": 10}
        assert len(asking.metrics) == 2
        for _ in range(2):
            answer(asking)
            asking.should_stop(OverallUncertainty() & Labels(15))
        found = asking.should_stop(Labels(15) & StabilizingPredictions(window=1))
        assert "kappa" in found.notes


@pytest.mark.filterwarnings("ignore::dal.stopping.recorded_figures.StoppingWarning")
def test_rule_that_reads_more_than_was_recorded_has_it_recorded() -> None:
    with session() as asking:
        answer(asking)
        asking.should_stop(StabilizingPredictions(size=200))
        asking.should_stop(StabilizingPredictions(size=100))
        assert len(asking.metrics) == 1
        asking.should_stop(StabilizingPredictions(size=300))
        asking.should_stop(Labels(10))
        assert [sorted(line) for line in asking.metrics] == [
            ["class_counts", "event", "labels", "round", "stop_set"],
            ["class_counts", "event", "labels", "round", "stop_set"],
            ["class_counts", "event", "labels", "round", "spent"],
        ]


def test_money_and_time_stored_with_the_answers_are_counted() -> None:
    with session() as asking:
        answer(asking, 10, cost=0.1, seconds=36)
        assert asking.should_stop(Dollars(1)).text == "1 of 1 dollars were spent"
        assert asking.should_stop(Hours(0.1)).notes == {"hours": pytest.approx(0.1)}
        assert asking.should_stop(Hours(0.1))


def test_budget_alone_fits_no_model(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ProbeLearner, "fit", lambda *_, **__: pytest.fail("a model was fitted"))
    with session() as asking:
        answer(asking)
        assert asking.should_stop(Labels(10) | Dollars(3) | Hours(2))


# -- configs and the command line ------------------------------------------------------------------------------------

BASE = "data: {path: tickets.csv}\nlearner: ProbeLearner\nstrategy: Margin\n"


def read(folder: Path, text: str, **options: str) -> Experiment:
    (folder / "run.yaml").write_text(text)
    pairs = [(key.replace("__", "."), value) for key, value in options.items()]
    settings, overrides = tree.read(folder / "run.yaml"), tree.options(pairs)
    static.check(settings, overrides)
    return building.build(Experiment, settings, overrides)[0]


@pytest.mark.parametrize(
    ("written", "rule"),
    [
        ("StabilizingPredictions", StabilizingPredictions()),
        ("{Labels: {max_labels: 500}}", Labels(500)),
        ("{TargetScore: {metric: macro_f1, value: 0.8, patience: 2}}", TargetScore("macro_f1", 0.8, 2)),
        ("{class_path: dal.stopping.Plateau, init_args: {min_gain: 1e-2}}", Plateau(0.01)),
        (
            "{AnyOf: {rules: [{Labels: {max_labels: 500}}, StabilizingPredictions]}}",
            AnyRule((Labels(500), StabilizingPredictions())),
        ),
        (
            "{AllOf: {rules: [{Labels: {max_labels: 9}}, {AnyOf: {rules: [{Plateau: {labels: 50}}]}}]}}",
            AllOf((Labels(9), AnyRule((Plateau(labels=50),)))),
        ),
        ("null", None),
    ],
)
def test_config_takes_a_rule(written: str, rule: StoppingRule | None, tmp_path: Path) -> None:
    assert read(tmp_path, BASE + f"stop: {written}\n").stop == rule
    assert read(tmp_path, BASE, stop=written).stop == rule


def test_options_of_a_rule_may_be_given_one_by_one(tmp_path: Path) -> None:
    assert read(tmp_path, BASE, stop="Labels", stop__max_labels="70").stop == Labels(70)
    assert read(tmp_path, BASE + "stop: {Labels: {max_labels: 5}}\n", stop__max_labels="70").stop == Labels(70)


def test_rule_of_a_run_reads_back_to_the_same(tmp_path: Path) -> None:
    import yaml

    first = read(tmp_path, BASE + "stop: {AnyOf: {rules: [{Labels: {max_labels: 500}}, Plateau]}}\n")
    again = read(tmp_path, yaml.safe_dump(describe(first)))
    assert again == first
    assert describe(again) == describe(first)


@pytest.mark.parametrize(
    ("written", "message"),
    [
        (
            "Labls",
            "run.yaml:4: stop: unknown stopping rule 'Labls', did you mean Labels?; installed are AllOf, AnyOf, ",
        ),
        (
            "Margin",
            "run.yaml:4: stop: Margin is a strategy, but a stopping rule is expected; installed are AllOf, AnyOf, ",
        ),
        ("Labels", "run.yaml:4: Labels needs stop.max_labels: a whole number"),
        ("{Labels: {max_labels: many}}", "run.yaml:4: stop.max_labels takes a whole number, not 'many'"),
        ("{Labels: {max_label: 3}}", "run.yaml:4: Labels has no option 'max_label', did you mean max_labels?"),
        ("{Labels: {max_labels: 0}}", "max_labels of Labels must be at least 1, not 0"),
        ("{StabilizingPredictions: {size: 20}}", "size of StabilizingPredictions must be at least 100, not 20"),
        ("{TargetScore: {metric: [accuracy]}}", "run.yaml:4: stop.metric takes text or null, not ['accuracy']"),
        ("{Plateau: {metric: log_loss}}", "Plateau takes a metric that is better when higher, and log_loss is better"),
        ("{AnyOf: {rules: [Labls]}}", "run.yaml:4: stop.rules.0: unknown stopping rule 'Labls', did you mean Labels?"),
        ("{AnyOf: {rules: []}}", "AnyOf takes a list of at least one stopping rule, got none"),
    ],
)
def test_bad_value_gives_one_line(written: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        read(tmp_path, BASE + f"stop: {written}\n")
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_every_built_in_rule_is_listed_with_its_advice() -> None:
    listing = plugins.describe(plugins.STOPPING)
    assert {each.name for each in listing if each.built_in} >= {"Labels", "Plateau", "AnyOf", "AllOf", "Observe"}
    for each in listing:
        kind = plugins.load(plugins.STOPPING, each.name)
        assert each.summary == (kind.__doc__ or "").splitlines()[0]
        assert (each.paper, each.advice, each.broken) == (kind.paper, kind.advice, "")
        assert each.advice


@pytest.fixture
def dal(with_tickets: Command, tiny_bert: Path) -> Command:
    return with_tickets.configured(pool=asking(probe(tiny_bert), "Margin"))


def test_asking_ends_when_the_rule_says_so_and_goes_on_anyway_when_told(dal: Command) -> None:
    first = dal("ask", "mine", "--config", "pool.yaml", "-n", 6, "--stop", "Labels", "--stop.max_labels", 10)
    assert first.code == 0
    assert "stopping rule" not in first.err
    for said in ("6 of 10 labels were bought", "12 of 10 labels were bought"):
        fill(Path("todo.csv"), ["billing", "access", "shipping"] * 2)
        assert dal("tell", "mine", "todo.csv").code == 0
        ended = dal("ask", "mine", "-n", 6, "--force")
        assert said in ended.err
    assert ended.code == 3
    assert ended.out == ""
    assert ended.messages == [
        "dal: the stopping rule says stop: 12 of 10 labels were bought; nothing was asked (--anyway asks nevertheless)"
    ]
    assert len(read_metrics(Path("mine"))) == 2
    further = dal("ask", "mine", "-n", 6, "--force", "--anyway")
    assert further.code == 0
    assert "says stop: 12 of 10" in further.err
    assert "6 of 60 texts were chosen by Margin" in further.err


def test_rows_that_are_pending_are_asked_whatever_the_rule_says(dal: Command) -> None:
    assert dal("ask", "mine", "--config", "pool.yaml", "-n", 6, "--stop", "{Labels: {max_labels: 3}}").code == 0
    fill(Path("todo.csv"), ["billing"] * 4)
    dal("tell", "mine", "todo.csv")
    again = dal("ask", "mine", "-n", 6, "--force")
    assert again.code == 0
    assert "2 of 60 texts are still to be answered" in again.err


def test_rule_that_the_data_cannot_serve_is_one_line(dal: Command) -> None:
    ended = dal("ask", "mine", "--config", "pool.yaml", "-n", 6, "--stop", "TargetScore")
    assert ended.code == 2
    assert len(ended.messages) == 1
    assert "TargetScore reads scores on validation rows, and the data has none" in ended.err


def test_report_of_a_folder_that_was_asked_from_does_not_stumble(dal: Command) -> None:
    dal("ask", "mine", "--config", "pool.yaml", "-n", 6, "--stop", "{Labels: {max_labels: 10}}")
    fill(Path("todo.csv"), ["billing", "access"] * 3)
    dal("tell", "mine", "todo.csv")
    dal("ask", "mine", "-n", 6, "--force")
    ended = dal("report", "mine")
    assert ended.code == 0, ended.err


def test_torn_line_of_a_recorded_round_is_recorded_again(tmp_path: Path) -> None:
    with session(tmp_path) as asking:
        answer(asking)
        asking.should_stop(StabilizingPredictions())
    path = tmp_path / "metrics.jsonl"
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with session(tmp_path) as asking:
        asking.should_stop(StabilizingPredictions())
    assert json.loads(path.read_text()) == json.loads(whole)
    append_metrics(tmp_path, {})


# -- documentation ---------------------------------------------------------------------------------------------------

PAGE = Path(__file__).parents[2] / "docs" / "stopping.md"
GUIDE = PAGE.with_name("write_a_stopping_rule.md")


def test_page_names_every_rule_that_is_built_in() -> None:
    page = PAGE.read_text(encoding="utf-8")
    entries = plugins.found(plugins.STOPPING)
    built_in = {name for name, entry in entries.items() if entry.value.startswith("dal.")}
    assert built_in == set(re.findall(r"^\| `(\w+)` \|", page, re.MULTILINE))


def test_config_of_the_page_is_a_rule(tmp_path: Path) -> None:
    configs = re.findall(r"```yaml\n(stop:.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    assert configs
    for config in configs:
        assert isinstance(read(tmp_path, BASE + config).stop, StoppingRule)


def test_python_of_the_page_runs(tmp_path: Path) -> None:
    loop, test = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    with session(tmp_path) as asking:
        exec(loop, {"session": asking, "answers_of": lambda rows: splits().pool.labels[rows], "print": lambda *_: None})
        assert asking.should_stop(StabilizingPredictions() | Labels(500))
    lines(experiment(tmp_path / "run", EVERYTHING))
    shown: list[Any] = []
    test = test.replace("runs/tickets", str(tmp_path / "run"))
    exec(test, {"print": lambda *values: shown.extend(values)})
    assert shown[:2] == [60, 0]
    (own,) = re.findall(r"```python\n(# enough.py\n.*?)```", GUIDE.read_text(encoding="utf-8"), re.DOTALL)
    names: dict[str, Any] = {"__name__": "enough"}
    exec(own, names)
    found = lines(experiment(None, names["Enough"](3)))
    assert min(found[-1]["class_counts"]) >= 3
    assert found[-1]["stopping"]["stop"]
