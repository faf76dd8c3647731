"""Rules that measure the current model: in sessions, runs, comparisons and commands, and after a resumption."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import material
import pytest
import torch
from command import Command, asking, fill, read_rows, running

from dal.data import Rows, Splits
from dal.errors import ConfigError, DataError, NeedError, PluginError
from dal.experiments.comparison import Comparison
from dal.experiments.console import Quiet
from dal.experiments.experiment import Experiment
from dal.experiments.interrupts import Interrupted
from dal.learners.probe_learner import ProbeLearner
from dal.learners.probe_predictor import ProbePredictor
from dal.outputs import Outputs
from dal.session import Session
from dal.stopping import (
    AllOf,
    History,
    Labels,
    Measurement,
    Observe,
    StabilizingPredictions,
    StoppingRule,
    TargetScore,
    Verdict,
    backtest,
)
from dal.stopping.rule import MEASURES, measures_key
from dal.store.run_folder import read_metrics
from dal.strategies.random import Random
from dal.strategies.uncertainty import Margin
from dal.strategy import RoundState

pytestmark = pytest.mark.filterwarnings("ignore::dal.stopping.recorded_figures.StoppingWarning")


@dataclass(frozen=True)
class Near(StoppingRule):
    """Stops when few unlabeled rows of the stop set have a small margin."""

    max_share: float = 0.2
    size: int = 200

    stop_set_needs = frozenset({"probs"})
    judge_options = frozenset({"max_share"})

    @property
    def stop_set(self) -> int:  # type: ignore[override]
        return self.size

    def measure(self, measurement: Measurement) -> Mapping[str, Any]:
        first, second = measurement.stop_set.probs[~measurement.labeled].topk(2).values.T
        return {"share": float((first - second < 0.3).double().mean()), "rows": len(first)}

    def judge(self, history: History) -> Verdict:
        shares = [each["share"] for each in history.measures(self)]
        return Verdict(bool(shares) and shares[-1] <= self.max_share, f"shares {shares}")


@dataclass(frozen=True)
class Loss(Near):
    """Measures the loss on the validation rows."""

    max_share: float = 0.9

    stop_set_needs = frozenset()
    stop_set = 0  # type: ignore[assignment]
    validation_needs = frozenset({"log_probs", "features"})

    def measure(self, measurement: Measurement) -> Mapping[str, Any]:
        log_probs, labels = measurement.validation.log_probs, measurement.validation_labels
        return {"share": -float(log_probs.gather(1, labels[:, None]).mean()), "of": len(measurement.validation)}


@dataclass(frozen=True)
class CountsLabels(Near):
    """Reads no model."""

    stop_set_needs = frozenset()
    stop_set = 0  # type: ignore[assignment]

    def measure(self, measurement: Measurement) -> Mapping[str, Any]:
        return {"share": measurement.state.labels}


def part(n: int, seed: int) -> Rows:
    inputs, truth = material.clusters(n, seed=seed, spread=2.0)
    return Rows.from_inputs(inputs, truth, list("abcd"))


def splits(validation: bool = True) -> Splits:
    return Splits(part(300, 0), part(80, 1), part(70, 2) if validation else None)


def experiment(folder: Path | None, stop: StoppingRule, **changes: Any) -> Experiment:
    data: Any = splits()
    small = Experiment(
        data, ProbeLearner(model=None), Margin(), start=10, batch=10, rounds=6, report=False, quiet=True, baseline=None
    )
    return replace(small, save_model=False, folder=None if folder is None else str(folder), stop=stop, **changes)


def lines(run: Experiment, **options: Any) -> list[dict[str, Any]]:
    [found] = run.run(**options).cells.values()
    return [dict(line) for line in found]


def session(folder: Path | None = None) -> Session:
    return Session(splits(), ProbeLearner(model=None), Random(), folder=folder, hide_labels=True)


def answer(asking: Session, n: int = 10) -> None:
    rows = asking.ask(n)
    asking.tell(rows, splits().pool.labels[rows])


def test_run_stops_by_what_the_rule_measured_and_stores_it(tmp_path: Path) -> None:
    rule = Near(max_share=0.15)
    found = lines(experiment(tmp_path, rule, rounds=20))
    shares = [line[MEASURES][measures_key(rule)]["share"] for line in found]
    assert all(share > 0.15 for share in shares[:-1])
    assert shares[-1] <= 0.15
    assert 1 < len(found) < 21
    assert [line[MEASURES][measures_key(rule)]["rows"] for line in found] != [200] * len(found)
    assert read_metrics(tmp_path / "Margin-seed0") == found


def test_measures_are_those_of_the_current_model() -> None:
    with session() as asking:
        answer(asking)
        rule = Loss()
        asking.should_stop(rule)
        [line] = asking.metrics
        value = line[MEASURES][measures_key(rule)]
        assert value == {"share": pytest.approx(asking._model.evaluate("validation")["log_loss"]), "of": 70}


class Impatient(Quiet):
    """Interrupts the run after some rounds."""

    def __init__(self, rounds: int) -> None:
        self.rounds = rounds

    def round(self, line: Mapping[str, Any]) -> None:
        self.rounds -= 1
        if not self.rounds:
            raise Interrupted("enough")


@pytest.mark.parametrize("rounds", [1, 3])
def test_resumed_run_measures_and_decides_the_same(tmp_path: Path, rounds: int) -> None:
    rule = Near(max_share=0.15) & Loss()
    whole = lines(experiment(tmp_path / "whole", rule, rounds=20))
    with pytest.raises(Interrupted):
        experiment(tmp_path / "halves", rule, rounds=20).run(reporter=Impatient(rounds))
    resumed = lines(experiment(tmp_path / "halves", rule, rounds=20))
    assert [line[MEASURES] for line in resumed] == [line[MEASURES] for line in whole]
    assert resumed[-1]["stopping"] == whole[-1]["stopping"]


def test_every_cell_of_a_comparison_measures(tmp_path: Path) -> None:
    shared = experiment(tmp_path, Near(max_share=0.0), seeds=[0, 1], rounds=2)
    cells = Comparison(shared, (Margin(), Random())).run().cells
    assert len(cells) == 4
    for found in cells.values():
        assert [len(line[MEASURES]) for line in found] == [1, 1, 1]


def test_parts_of_a_composed_rule_measure_by_themselves_and_one_pass_serves_all(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    passes: list[tuple[int, frozenset[str]]] = []
    original = ProbePredictor.outputs

    def counted(self: Any, data: Any, rows: Any, names: Any, **options: Any) -> Outputs:
        passes.append((len(rows), frozenset(names)))
        return original(self, data, rows, names, **options)

    monkeypatch.setattr(ProbePredictor, "outputs", counted)
    rule = AllOf((Near(size=50), Observe((Near(size=250), Loss())), StabilizingPredictions(size=120), Near(0.7, 50)))
    with session() as asking:
        answer(asking)
        asking.should_stop(rule)
        measures = asking.metrics[0][MEASURES]
        assert sorted(measures) == sorted({measures_key(each) for each in (Near(size=50), Near(size=250), Loss())})
        assert measures[measures_key(Near(size=50))]["rows"] <= 50
        assert [(count, "probs" in names) for count, names in passes] == [(250, True), (70, False)]
        alone = session()
        rows = asking.labeled_rows
        alone.tell(rows, splits().pool.labels[rows], correct=True)
        alone.should_stop(Near(size=50))
        key = measures_key(Near(size=50))
        assert alone.metrics[0][MEASURES][key]["rows"] == measures[key]["rows"]
        alone.close()


def test_rule_shares_the_pass_over_the_validation_rows_with_the_measures(monkeypatch: pytest.MonkeyPatch) -> None:
    passes: list[int] = []
    original = ProbePredictor.outputs

    def counted(self: Any, data: Any, rows: Any, names: Any, **options: Any) -> Outputs:
        passes.append(len(rows))
        return original(self, data, rows, names, **options)

    monkeypatch.setattr(ProbePredictor, "outputs", counted)
    lines(experiment(None, Loss(0.0) | TargetScore(value=1.0), rounds=1, pool_sample=0, measure_distances=False))
    assert passes.count(70) == 2  # once in each of two rounds


def test_rule_that_reads_no_model_fits_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ProbeLearner, "fit", lambda *_, **__: pytest.fail("a model was fitted"))
    with session() as asking:
        answer(asking)
        assert asking.should_stop(CountsLabels(max_share=10))


def test_another_rule_has_its_measures_recorded_and_keeps_those_of_the_first(tmp_path: Path) -> None:
    with session(tmp_path) as asking:
        answer(asking)
        asking.should_stop(Near())
        asking.should_stop(Near(max_share=0.9))
        assert len(asking.metrics) == 1
        asking.should_stop(Loss())
        asking.should_stop(Near())
        assert len(asking.metrics) == 2
        history = History(tuple(asking.metrics))
        assert len(history.measures(Near())) == len(history.measures(Loss())) == 1
    with session(tmp_path) as asking:
        asking.should_stop(Near() & Labels(50))
        assert len(asking.metrics) == 3


def test_round_measured_again_after_an_undo_counts_once() -> None:
    with session() as asking:
        answer(asking)
        asking.should_stop(CountsLabels())
        row = asking.undo()
        asking.tell([row], [0])
        asking.should_stop(CountsLabels())
        assert len(asking.metrics) == 2
        assert History(tuple(asking.metrics)).measures(CountsLabels()) == [{"share": 10}]


def test_back_test_judges_the_measures_of_an_observed_run_by_other_options() -> None:
    observed = lines(experiment(None, Observe((Near(),)), rounds=20))
    stopped = lines(experiment(None, Near(max_share=0.15), rounds=20))
    assert backtest(observed, Near(max_share=0.15)).labels == stopped[-1]["labels"]
    with pytest.raises(DataError, match="Near reads measures of Near, which this run did not record"):
        backtest(observed, Near(size=100))


def test_needs_that_cannot_be_met_are_refused_before_anything_is_written(tmp_path: Path) -> None:
    @dataclass(frozen=True)
    class Odd(Near):
        stop_set_needs = frozenset({"mood"})

    @dataclass(frozen=True)
    class NoRows(Near):
        stop_set = 0  # type: ignore[assignment]

    with pytest.raises(NeedError, match="Odd needs mood, which ProbeLearner does not provide; it provides"):
        experiment(tmp_path / "new", Odd()).run()
    with pytest.raises(ConfigError, match="NoRows reads probs of 0 rows: set its stop_set"):
        experiment(tmp_path / "new", NoRows()).run()
    with pytest.raises(ConfigError, match="Loss reads scores on validation rows, and the data has none"):
        experiment(tmp_path / "new", Loss(), data=splits(validation=False)).run()
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ({"x": float("inf")}, "Wrong.measure: 'x' is inf, which JSON cannot store: return finite numbers, and None"),
        ({"x": [1, {"y": float("nan")}]}, "'x' is .*nan.*: return finite numbers"),
        ({"x": torch.tensor(1.0)}, r"'x' is tensor\(1.\), which JSON cannot store: return numbers, .* float\(x\)"),
        ({"x": {1, 2}}, "'x' is {1, 2}, which JSON cannot store"),
        (0.3, "Wrong.measure returned 0.3, expected a mapping such as"),
        (KeyError("gone"), "the stopping rule Wrong failed in measure: KeyError: 'gone'"),
    ],
    ids=str,
)
def test_value_that_cannot_be_stored_names_the_rule_and_stores_nothing(value: Any, said: str) -> None:
    @dataclass(frozen=True)
    class Wrong(Near):
        def measure(self, measurement: Measurement) -> Mapping[str, Any]:
            if isinstance(value, Exception):
                raise value
            return value  # type: ignore[no-any-return]

    with session() as asking:
        answer(asking)
        with pytest.raises(PluginError, match=said):
            asking.should_stop(Labels(5) | Wrong())
        assert asking.metrics == []


def test_values_are_the_same_before_and_after_they_were_stored(tmp_path: Path) -> None:
    @dataclass(frozen=True)
    class Tuples(Near):
        def measure(self, measurement: Measurement) -> Mapping[str, Any]:
            return {"share": None, "pair": (1, 2), "text": "é", "table": {3: True}}

        def judge(self, history: History) -> Verdict:
            return Verdict(False, json.dumps(history.measures(self)))

    with session(tmp_path) as asking:
        answer(asking)
        before = asking.should_stop(Tuples()).text
    with session(tmp_path) as asking:
        assert asking.should_stop(Tuples()).text == before
        assert len(asking.metrics) == 1


def test_measurement_is_made_of_plain_tensors_in_a_test_of_ones_own() -> None:
    outputs = Outputs({"logits": torch.tensor([[3.0, 0.0], [0.1, 0.0], [0.0, 0.1]])})
    parts = {"stop_set": (outputs, torch.tensor([False, False, True]))}
    assert Near().measure(Measurement(RoundState(), parts.__getitem__)) == {"share": 0.5, "rows": 2}


# -- the command line -------------------------------------------------------------------------------------------------

CODE = """
from dataclasses import dataclass
from dal.stopping import StoppingRule, Verdict

@dataclass(frozen=True)
class Entropy(StoppingRule):
    threshold: float = 0.9
    stop_set_needs = {"log_probs"}
    judge_options = {"threshold"}
    stop_set = 30

    def measure(self, measurement):
        logs = measurement.stop_set.log_probs
        return {"entropy": float(-(logs.exp() * logs).sum(1).mean())}

    def judge(self, history):
        values = [each["entropy"] for each in history.measures(self)]
        return Verdict(bool(values) and values[-1] < self.threshold, f"{len(values)} rounds measured")

@dataclass(frozen=True)
class Fails(Entropy):
    def measure(self, measurement):
        return {"entropy": 1 / 0}
"""


@pytest.fixture
def dal(with_tickets: Command) -> Command:
    Path("mine.py").write_text(CODE)
    return with_tickets.configured(pool=asking(), run=running(start=10, batch=5, rounds=3, report=False))


def test_rule_of_ones_own_measures_in_a_run_of_the_command(dal: Command) -> None:
    assert dal("run", "run.yaml", "--folder", "out", "--stop", "mine.Entropy", "--stop.threshold", 0.1).code == 0
    found = read_metrics(Path("out/Margin-seed0"))
    assert [line["stopping"]["text"] for line in found] == [f"{rounds} rounds measured" for rounds in range(1, 5)]
    path = Path("out/Margin-seed0/metrics.jsonl")
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:-1]))  # as after a kill before the record
    assert dal("run", "--resume", "out", "--allow-code", ".").code == 0
    assert [line[MEASURES] for line in read_metrics(Path("out/Margin-seed0"))] == [line[MEASURES] for line in found]


def test_failure_of_measure_is_one_line_that_names_the_rule(dal: Command) -> None:
    ended = dal("run", "run.yaml", "--folder", "out", "--quiet", "true", "--stop", "mine.Fails")
    assert ended.code == 2
    assert ended.err == "dal: error: the stopping rule Fails failed in measure: ZeroDivisionError: division by zero\n"


def test_rule_of_ones_own_measures_between_batches_of_a_person(dal: Command) -> None:
    assert dal("ask", "mine", "--config", "pool.yaml", "-n", 6, "--stop", "mine.Entropy").code == 0
    fill(Path("todo.csv"), ["billing", "access", "shipping"] * 2)
    assert dal("tell", "mine", "todo.csv", "--allow-code", ".").code == 0
    ended = dal("ask", "mine", "-n", 6, "--force", "--allow-code", ".")
    assert "1 rounds measured" in ended.err
    assert read_rows("todo.csv")
    [line] = read_metrics(Path("mine"))
    assert list(line[MEASURES]) == ["mine.Entropy()"]
