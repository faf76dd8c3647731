"""Metrics of users: declared, loaded, recorded in every round, and the metric of the verdict."""

import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import material
import pytest
import torch
from command import Command, running
from torch import Tensor

from dal.data import Rows, Splits
from dal.errors import ConfigError, PluginError
from dal.evaluation import Curve, compare, label_efficiency, metric
from dal.evaluation.metrics import evaluate
from dal.evaluation.own_metrics import BUILT_IN, load_metric, load_metrics
from dal.experiments.comparison import Comparison
from dal.experiments.experiment import Experiment
from dal.learners.probe_learner import ProbeLearner
from dal.outputs import Outputs
from dal.report.run_reading import read
from dal.report.verdict import comparisons, verdicts
from dal.store.run_folder import read_metrics
from dal.strategies.uncertainty import Margin


@metric(maximize=False)
def errors(outputs: Outputs, labels: Tensor) -> float:
    """Number of wrong rows."""
    return float((outputs.probs.argmax(1) != labels).sum())


def share(outputs: Outputs, labels: Tensor) -> float:
    return float((outputs.probs.argmax(1) == labels).double().mean())


@metric
def undefined(outputs: Outputs, labels: Tensor) -> None:
    return None


def part(n: int, seed: int) -> Rows:
    inputs, truth = material.clusters(n, seed=seed, spread=2.0)
    return Rows.from_inputs(inputs, truth, list("abcd"))


def experiment(folder: Path | None, **changes: Any) -> Experiment:
    data: Any = Splits(part(300, 0), part(80, 1))
    small = Experiment(data, ProbeLearner(model=None), Margin(), start=10, batch=10, rounds=2, quiet=True)
    return replace(small, save_model=False, folder=None if folder is None else str(folder), **changes)


# -- declaring and loading --------------------------------------------------------------------------------------------


def test_metric_knows_its_name_and_direction() -> None:
    assert (errors.name, errors.maximize, errors.__doc__) == ("errors", False, "Number of wrong rows.")
    assert load_metric(share).maximize
    assert load_metric(errors) is errors


def test_metric_works_on_copies() -> None:
    @metric
    def overwrites(outputs: Outputs, labels: Tensor) -> float:
        outputs.logits.zero_()
        labels.zero_()
        return 1.0

    logits, labels = torch.ones(3, 2), torch.ones(3, dtype=torch.int64)
    assert overwrites(Outputs({"logits": logits}), labels) == 1.0
    assert logits.sum() == 6
    assert labels.sum() == 3


@pytest.mark.parametrize(
    ("result", "said"),
    [
        (float("nan"), "the metric bad returned nan, expected a finite number, or None where undefined"),
        (float("inf"), "returned inf"),
        (torch.ones(3), r"returned tensor\(\[1"),
        ("high", "returned 'high'"),
        (ZeroDivisionError("division by zero"), "the metric bad failed: ZeroDivisionError: division by zero"),
    ],
    ids=str,
)
def test_value_that_is_no_number_names_the_metric(result: Any, said: str) -> None:
    def bad(outputs: Outputs, labels: Tensor) -> Any:
        if isinstance(result, Exception):
            raise result
        return result

    with pytest.raises(PluginError, match=said):
        metric(bad)(Outputs({"logits": torch.ones(3, 2)}), torch.zeros(3, dtype=torch.int64))


def test_tensor_of_one_number_is_a_number() -> None:
    mean: Callable[..., Any] = lambda outputs, labels: outputs.probs.mean()  # noqa: E731
    assert metric(mean)(Outputs({"logits": torch.zeros(3, 2)}), torch.zeros(3)) == 0.5


@pytest.mark.parametrize(
    ("reference", "said"),
    [
        ("recall_at_9", "unknown metric 'recall_at_9'; installed: none; an import path"),
        ("accuracy", r"unknown metric 'accuracy' \(it is recorded anyway\)"),
        ("torch:add", "torch:add is not a metric|does not say that it is a metric"),
        ("dal.evaluation.nothing:cost", "cannot be imported|there is no"),
        ("dal.strategies:Margin", "dal.strategies:Margin is not a metric: it is <class"),
        (lambda outputs: 1.0, "is not a metric: it must take two arguments, outputs and labels"),
        (3, "3 is not a metric: it is 3"),
    ],
    ids=["unknown", "built-in", "untyped", "missing module", "class", "one argument", "number"],
)
def test_what_is_no_metric_is_refused(reference: Any, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        load_metric(reference)


def test_names_are_distinct_and_not_those_of_built_in_metrics() -> None:
    def accuracy(outputs: Outputs, labels: Tensor) -> float:
        return 0.0

    with pytest.raises(ConfigError, match="the name 'accuracy' is that of a built-in one: give the function another"):
        load_metrics([accuracy])
    with pytest.raises(ConfigError, match="two functions are called share"):
        load_metrics([share, share])
    with pytest.raises(ConfigError, match=r"metrics must be a list such as \[my_package:cost\], got 'costs:cost'"):
        load_metrics("costs:cost")


def test_built_in_names_are_those_that_evaluate_returns() -> None:
    logits, labels = torch.randn(20, 3), torch.arange(20) % 3
    several = evaluate(Outputs({"logits": logits}, multilabel=True), torch.rand(20, 3) < 0.5)
    assert set(evaluate(Outputs({"logits": logits}), labels)) | set(several) == set(BUILT_IN)


# -- in runs and comparisons ------------------------------------------------------------------------------------------


def test_every_round_records_the_metrics_on_test_and_pool(tmp_path: Path) -> None:
    cells = experiment(tmp_path, metrics=[errors, share, undefined]).run().cells
    for lines in cells.values():
        for line in lines:
            own = line["own_metrics"]
            assert own["share"] == pytest.approx(line["accuracy"])
            assert own["errors"] == pytest.approx(80 * (1 - line["accuracy"]))
            assert own["undefined"] is None
            assert line["lower_is_better"] == ["errors"]
            assert line["pool"]["own_metrics"]["share"] == pytest.approx(line["pool"]["accuracy"])
    assert read_metrics(tmp_path / "Margin-seed0") == list(cells["Margin-seed0"])


def test_multilabel_metric_gets_decisions_per_class() -> None:
    def decided(outputs: Outputs, labels: Tensor) -> float:
        assert labels.shape == outputs.probs.shape
        assert labels.dtype == torch.bool
        return float(((outputs.probs > 0.5) == labels).double().mean())

    inputs, truth = material.clusters(200, seed=0, spread=2.0)
    labels = [["a"] if c == 0 else ["a", "b"] if c == 1 else [] for c in truth]
    rows = Rows.from_inputs(inputs, labels, ["a", "b"], multilabel=True)
    data: Any = Splits(rows.take(torch.arange(150)), rows.take(torch.arange(150, 200)))
    for lines in experiment(None, data=data, metrics=[decided]).run().cells.values():
        assert [line["own_metrics"]["decided"] for line in lines] == [
            pytest.approx(line["label_accuracy"]) for line in lines
        ]


def test_lower_is_better_turns_the_comparison_around() -> None:
    low, high = Curve((10, 20), (5.0, 1.0)), Curve((10, 20), (6.0, 3.0))
    curves = dict.fromkeys(range(6), low), dict.fromkeys(range(6), high)
    found = compare(*curves, "own_metrics.errors", lower_is_better=True)
    assert found is not None
    assert found.area_difference > 0
    assert found.needed == pytest.approx(15)
    efficiency = label_efficiency(*curves, "own_metrics.errors", lower_is_better=True)
    assert efficiency is not None
    assert efficiency.value == pytest.approx(20 / 15)
    turned = compare(*curves, "own_metrics.errors")
    assert turned is not None
    assert turned.area_difference < 0


def test_report_judges_by_the_metric_of_the_config_with_its_direction(tmp_path: Path) -> None:
    shared = experiment(tmp_path, metrics=[errors], metric="errors", seeds=list(range(6)), rounds=3)
    Comparison(shared, (Margin(),)).run()
    run = read(tmp_path)
    assert run.metric == "own_metrics.errors"
    assert run.lower_is_better("own_metrics.errors")
    by_errors, by_accuracy = (comparisons(run, key)["Margin"] for key in ("own_metrics.errors", "accuracy"))
    assert by_errors.area_difference == pytest.approx(80 * by_accuracy.area_difference)
    [verdict] = verdicts(run, "own_metrics.errors")
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert f"final errors ({by_errors.target:.3f}" in verdict.text
    assert verdict.text.split(".")[0] in page
    assert "errors (lower is better)" in page
    assert "So is errors." in page
    names = {path.name for path in (tmp_path / "report").iterdir()}
    assert any("errors-by-labels" in name for name in names)
    rows = json.loads((tmp_path / "report" / "rounds.json").read_text())
    assert "own_metrics.errors" in json.dumps(rows)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"metric": "errors"}, "metric: 'errors' is not recorded; recorded are accuracy"),
        ({"metric": "acuracy"}, "metric: 'acuracy' is not recorded; did you mean 'accuracy'"),
        ({"metrics": ["nowhere"]}, "unknown metric 'nowhere'"),
    ],
)
def test_metric_that_is_not_there_is_refused_before_anything_is_written(
    tmp_path: Path, changes: dict[str, Any], said: str
) -> None:
    with pytest.raises(ConfigError, match=said):
        experiment(tmp_path / "new", **changes).run()
    assert not (tmp_path / "new").exists()


# -- the command line -------------------------------------------------------------------------------------------------

CODE = """
from dal.evaluation import metric

@metric(maximize=False)
def missed(outputs, labels):
    '''Number of wrong rows.'''
    return float((outputs.probs.argmax(1) != labels).sum())

def fails(outputs, labels):
    raise ValueError("no such row")
"""


@pytest.fixture
def dal(with_tickets: Command) -> Command:
    Path("mine.py").write_text(CODE)
    return with_tickets.configured(run=running(start=10, batch=5, rounds=1))


def test_metric_of_ones_own_in_a_run_and_after_a_resumption(dal: Command) -> None:
    ended = dal("run", "run.yaml", "--folder", "out", "--metrics", "[mine:missed]", "--metric", "missed")
    assert ended.code == 0, ended.err
    found = read_metrics(Path("out/Margin-seed0"))
    assert [set(line["own_metrics"]) for line in found] == [{"missed"}] * 2
    path = Path("out/Margin-seed0/metrics.jsonl")
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:-1]))  # as after a kill
    refused = dal("run", "--resume", "out")
    assert refused.code == 2
    assert "--allow-code" in refused.err
    assert dal("run", "--resume", "out", "--allow-code", ".").code == 0
    assert read_metrics(Path("out/Margin-seed0"))[1]["own_metrics"] == found[1]["own_metrics"]
    assert dal("report", "out").code == 0  # reads no code
    assert "missed" in Path("out/report.html").read_text()


def test_metric_of_ones_own_in_worker_processes(dal: Command) -> None:
    arguments = ("--strategies", "Margin", "--folder", "grid", "--jobs", 2, "--metrics", "[mine.missed]")
    ended = dal("compare", "run.yaml", *arguments)
    assert ended.code == 0, ended.err
    assert read_metrics(Path("grid/Random-seed0"))[-1]["own_metrics"].keys() == {"missed"}


def test_metric_that_fails_is_one_line(dal: Command) -> None:
    ended = dal("run", "run.yaml", "--folder", "out", "--quiet", "true", "--metrics", "[mine:fails]")
    assert ended.code == 2
    assert ended.err == "dal: error: the metric fails failed: ValueError: no such row\n"


def test_listing_names_built_in_metrics(dal: Command) -> None:
    listed = dal("list", "metrics").out
    assert re.findall(r"\w+", listed.partition(": ")[2].partition("\n")[0]) == list(BUILT_IN)
