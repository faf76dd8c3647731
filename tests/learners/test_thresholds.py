"""Thresholds of classes where a row may have several: decisions follow them, probabilities do not."""

import shutil
from pathlib import Path
from typing import Any

import material
import numpy as np
import pytest
import torch
from command import Command, read_rows
from reference import ranked as reference
from safetensors.torch import load_file, save_file
from sklearn import metrics as sk

import dal as package
from dal.data import Rows, Splits
from dal.evaluation import Temperature, average_precision, calibration_error, evaluate, metric, per_class
from dal.evaluation.confidence import answers, confidence
from dal.learners.committee_learner import CommitteeLearner
from dal.learners.probe_learner import ProbeLearner, shifted
from dal.objective import RecallOf
from dal.outputs import Outputs
from dal.report.run_reading import read
from dal.session import Session
from dal.store.run_folder import read_metrics
from dal.strategies import Margin

THRESHOLDS = torch.tensor([-1.5, 0.0, 0.7, -3.0])
RANKED = ("auroc", "average_precision", "log_loss", "ece", "ace", "brier")


def outputs(rows: int = 200, **options: Any) -> tuple[Outputs, torch.Tensor]:
    logits = torch.randn(rows, 4, generator=torch.Generator().manual_seed(0)) - 1
    labels = torch.rand(rows, 4, generator=torch.Generator().manual_seed(1)) < logits.sigmoid()
    return Outputs({"logits": logits}, multilabel=True, **options), labels


# -- outputs and metrics ---------------------------------------------------------------------------------------------


def test_decisions_are_above_the_thresholds_and_probabilities_do_not_depend_on_them() -> None:
    (plain, _), (with_thresholds, _) = outputs(), outputs(thresholds=THRESHOLDS)
    assert torch.equal(with_thresholds.decisions, plain.logits > THRESHOLDS)
    assert torch.equal(plain.decisions, plain.logits > 0)
    assert torch.equal(with_thresholds.probs, plain.probs)
    part = with_thresholds.take([3, 1]).declare({"probs"}).to("cpu")
    assert torch.equal(part.decisions, (plain.logits > THRESHOLDS)[[3, 1]])
    single = Outputs({"logits": plain.logits})
    assert torch.equal(single.decisions, plain.logits.argmax(1))


def test_metrics_of_decisions_follow_the_thresholds_and_those_of_the_ranking_do_not() -> None:
    (plain, labels), (moved, _) = outputs(), outputs(thresholds=THRESHOLDS)
    before, after = evaluate(plain, labels), evaluate(moved, labels)
    assert {name: before[name] for name in RANKED} == {name: after[name] for name in RANKED}
    decided, true = (plain.logits > THRESHOLDS).numpy(), labels.numpy()
    assert after["micro_f1"] == pytest.approx(sk.f1_score(true, decided, average="micro"))
    assert after["macro_f1"] == pytest.approx(sk.f1_score(true, decided, average="macro"))
    assert after["accuracy"] == pytest.approx(sk.accuracy_score(true, decided))
    assert after["label_accuracy"] == pytest.approx((true == decided).mean())
    assert before["micro_f1"] != after["micro_f1"]
    found = per_class(moved, labels, list("abcd"))
    assert found["a"]["recall"] == pytest.approx(sk.recall_score(true[:, 0], decided[:, 0]))
    assert [found[name]["threshold"] for name in "abcd"] == pytest.approx(THRESHOLDS.sigmoid().tolist())
    assert "threshold" not in per_class(plain, labels, list("abcd"))["a"]
    assert calibration_error(moved.probs, labels) == pytest.approx(after["ece"])


def test_average_precision_equals_its_definition() -> None:
    found, labels = outputs(60)
    probs = found.probs.mul(10).round().div(10)  # ties
    labels[:, 3] = False  # a class that no row has is left out
    each = [reference.average_precision(probs[:, c].tolist(), labels[:, c].tolist()) for c in range(3)]
    assert average_precision(probs, labels) == pytest.approx(np.mean(each))
    assert average_precision(probs, torch.zeros_like(labels)) is None
    assert "average_precision" not in evaluate(found, torch.zeros_like(labels))


def test_own_metric_reads_the_decisions() -> None:
    @metric
    def assigned(outputs: Outputs, labels: torch.Tensor) -> float:
        return float(outputs.decisions.sum())

    found, labels = outputs(thresholds=THRESHOLDS)
    assert assigned(found, labels) == float((found.logits > THRESHOLDS).sum())


def test_confidence_is_the_probability_of_the_decisions() -> None:
    found, _ = outputs(20)
    p = (found.logits.double() / 2).sigmoid()
    decided = answers(found.logits, multilabel=True, thresholds=THRESHOLDS)
    expected = torch.where(decided, p, 1 - p).prod(1)
    torch.testing.assert_close(confidence(found.logits, 2.0, multilabel=True, thresholds=THRESHOLDS), expected)
    torch.testing.assert_close(confidence(found.logits, 2.0, multilabel=True), torch.maximum(p, 1 - p).prod(1))


# -- the probe -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def rows() -> Rows:
    texts, labels = material.tickets(120, seed=1)
    several = [[label, "feedback"] if place % 3 == 0 else [label] for place, label in enumerate(labels)]
    return Rows.from_inputs(texts, several, classes=sorted(material.TOPICS), multilabel=True)


def fitted(learner: Any, rows: Rows, labeled: int = 40) -> tuple[Any, Any]:
    prepared, chosen = learner.prepare(rows), torch.arange(labeled)
    return learner.fit(prepared, chosen, rows.labels[chosen], seed=0), prepared


@pytest.mark.parametrize("objective", [None, "micro_f1", "macro_f1", "balanced_accuracy", RecallOf("billing")])
def test_thresholds_leave_the_probabilities_of_the_fit(tiny_bert: Path, rows: Rows, objective: Any) -> None:
    plain, prepared = fitted(ProbeLearner(str(tiny_bert), objective="log_loss"), rows)
    moved, _ = fitted(ProbeLearner(str(tiny_bert), objective=objective), rows)
    names = {"logits", "mc_logits"}
    before, after = (each.outputs(prepared, names=names, seed=3) for each in (plain, moved))
    assert torch.equal(before.logits, after.logits)
    assert torch.equal(before.mc_logits, after.mc_logits)
    assert before.thresholds is None
    shares = (rows.labels[:40].sum(0) + 0.5) / 41
    torch.testing.assert_close(after.decisions.float().mean(0), shares, atol=0.6 / 120, rtol=0)


def test_thresholds_are_saved_and_loaded(tiny_bert: Path, rows: Rows, tmp_path: Path) -> None:
    learner = ProbeLearner(str(tiny_bert))
    predictor, prepared = fitted(learner, rows)
    predictor.save(tmp_path / "model")
    loaded = learner.load(tmp_path / "model", prepared)
    assert torch.equal(loaded.thresholds, predictor.thresholds)
    assert torch.equal(loaded.outputs(prepared).decisions, predictor.outputs(prepared).decisions)


def test_head_whose_thresholds_are_in_its_bias_decides_as_before(tiny_bert: Path, rows: Rows, tmp_path: Path) -> None:
    """Earlier folders folded the thresholds into the bias of the head, and have none."""
    learner = ProbeLearner(str(tiny_bert))
    predictor, prepared = fitted(learner, rows)
    predictor.save(tmp_path / "model")
    file = tmp_path / "model" / "head.safetensors"
    folded = shifted(predictor.head, -predictor.thresholds).tensors()
    del folded["thresholds"]
    save_file({name: value.contiguous() for name, value in folded.items()}, file)
    assert "thresholds" not in load_file(file)
    earlier = learner.load(tmp_path / "model", prepared)
    assert earlier.thresholds is None
    assert torch.equal(earlier.outputs(prepared).decisions, predictor.outputs(prepared).decisions)


def test_committee_decides_by_the_mean_of_its_members_thresholds(tiny_bert: Path, rows: Rows) -> None:
    learner = CommitteeLearner(ProbeLearner(str(tiny_bert)), members=2, bootstrap=True)
    predictor, prepared = fitted(learner, rows)
    expected = torch.stack([member.thresholds for member in predictor.members]).sigmoid().mean(0)
    torch.testing.assert_close(predictor.thresholds.sigmoid(), expected)
    found = predictor.outputs(prepared)
    assert torch.equal(found.decisions, found.logits > predictor.thresholds)
    plain, _ = fitted(CommitteeLearner(ProbeLearner(str(tiny_bert), head=None), members=2, bootstrap=True), rows)
    assert plain.thresholds is None


@pytest.mark.parametrize("posterior", ["laplace", "bootstrap"])
def test_strategies_read_logits_that_are_0_at_the_thresholds(tiny_bert: Path, rows: Rows, posterior: Any) -> None:
    predictor, prepared = fitted(ProbeLearner(str(tiny_bert), posterior=posterior), rows)
    around, names = predictor.around_thresholds(), {"logits", "mc_logits"}
    before, after = (each.outputs(prepared, names=names, seed=3) for each in (predictor, around))
    assert after.thresholds is None
    torch.testing.assert_close(after.logits, before.logits - predictor.thresholds)
    torch.testing.assert_close(after.mc_logits, before.mc_logits - predictor.thresholds)
    assert torch.equal(after.decisions, before.decisions)
    assert predictor.thresholds is not None
    assert around.around_thresholds() is around


def test_committee_is_read_around_the_thresholds_of_each_member(tiny_bert: Path, rows: Rows) -> None:
    predictor, prepared = fitted(CommitteeLearner(ProbeLearner(str(tiny_bert)), members=2, bootstrap=True), rows)
    read = predictor.around_thresholds().outputs(prepared, names={"mc_logits"})
    each = [member.outputs(prepared).logits - member.thresholds for member in predictor.members]
    torch.testing.assert_close(read.mc_logits, torch.stack(each, 1))
    assert read.thresholds is None


def test_margin_of_a_session_is_that_of_the_decision(tiny_bert: Path, rows: Rows) -> None:
    learner, first = ProbeLearner(str(tiny_bert)), torch.arange(40)
    with Session(Splits(rows), learner, Margin(), hide_labels=True) as session:
        session.tell(first, rows.labels[first], correct=True)
        asked = session.ask(5)
        predictor = session.predictor
        logits = predictor.outputs(learner.prepare(rows), torch.arange(40, 120)).logits - predictor.thresholds
    near = (2 * logits.sigmoid() - 1).abs().mean(1).topk(5, largest=False).indices + 40
    assert sorted(asked.tolist()) == sorted(near.tolist())


# -- commands --------------------------------------------------------------------------------------------------------


@pytest.fixture
def several(with_tickets: Command, tiny_bert: Path) -> Command:
    """A run on tickets of which every third is feedback, too."""
    lines = ["id,text,label"]
    for place, row in enumerate(read_rows("tickets.csv") * 4):
        label = f"{row['label']};feedback" if place % 3 == 0 and row["label"] != "feedback" else row["label"]
        lines.append(f"m{place},{row['text']} {place},{label}")
    Path("several.csv").write_text("\n".join(lines) + "\n")
    data = "data: {path: several.csv, id: id, test: 0.2, validation: 0.4, multilabel: true}\n"
    learner = f"learner: {{ProbeLearner: {{model: {tiny_bert}, max_length: 16}}}}\n"
    sizes = "strategy: Random\nbaseline: null\nstart: 16\nbatch: 4\nrounds: 1\nseeds: [0]\n"
    dal = with_tickets.configured(several=data + learner + sizes)
    ended = dal("run", "several.yaml", "--folder", "run")
    assert ended.code == 0, ended.err
    return dal


def test_run_predict_and_autolabel_use_the_thresholds(several: Command) -> None:
    line = read_metrics(Path("run/Random-seed0"))[-1]
    assert 0 < line["average_precision"] <= 1
    head = load_file("run/Random-seed0/model/head.safetensors")
    thresholds = head["thresholds"].double()
    kept = [each["threshold"] for each in line["per_class"].values()]
    assert kept == pytest.approx(thresholds.sigmoid().tolist())
    page = Path("run/report.html").read_text(encoding="utf-8")
    assert "mean average precision" in page
    assert "Assigned above the probability" in page
    texts = [row["text"] for row in read_rows("several.csv")]
    with package.load("run") as model:
        found = model.predict(texts)
        limits = (thresholds / model.temperature).sigmoid()
        raw = model.predictor.outputs(model.session.learner.prepare(Rows.from_inputs(texts))).logits.cpu().double()
        torch.testing.assert_close(
            found.probs, Temperature(model.temperature).apply(raw).sigmoid(), atol=1e-4, rtol=1e-4
        )
        assert found.classes == model.session.pool.names_of(found.probs > limits)
        decided = torch.where(found.probs > limits, found.probs, 1 - found.probs)
        torch.testing.assert_close(found.confidence, decided.amin(1))
        assert bool((found.confidence < 0.5).any())
        hits = int(model.held_out.right.sum())  # type: ignore[union-attr]
        assert hits == round(line_accuracy(model) * len(model.held_out.labels))  # type: ignore[union-attr]
    ended = several("autolabel", "run", "-o", "auto.csv", "--max-error", 0.4)
    assert ended.code == 0, ended.err
    guesses = {row["id"]: row["guess"] for row in read_rows("auto.csv")}
    Path("new.csv").write_text(
        "\n".join(["id,text", *(f"{r['id']},{r['text']}" for r in read_rows("auto.csv"))]) + "\n"
    )
    assert several("predict", "run", "new.csv", "-o", "found.csv").code == 0
    assert {row["id"]: row["class"] for row in read_rows("found.csv")} == guesses
    assert any("|" in guess for guess in guesses.values())


@pytest.mark.parametrize(
    ("objective", "metric_key"),
    [
        ("micro_f1", "micro_f1"),
        ("macro_f1", "macro_f1"),
        ("{recall_of: feedback, precision: 0.5}", "own_metrics.recall of feedback at precision 0.5"),
    ],
)
def test_objectives_of_rows_with_several_classes(several: Command, objective: str, metric_key: str) -> None:
    ended = several("run", "several.yaml", "--folder", "aimed", "--objective", objective, "--stop", "TargetScore")
    assert ended.code == 0, ended.err
    run = read("aimed")
    name = metric_key.removeprefix("own_metrics.")
    assert run.metric == metric_key
    assert len(run.curves("Random", metric_key)) == 1
    assert [*read_metrics(Path("aimed/Random-seed0"))[-1]["stopping"]["notes"]] == [f"validation_{name}"]


def line_accuracy(model: Any) -> float:
    """Accuracy of the model on the validation rows, by the metrics of a session."""
    found, labels = model.session.scored("validation")
    return evaluate(found, labels)["accuracy"]


def test_saved_thresholds_are_those_of_the_model_that_is_trained_again(several: Command) -> None:
    texts = [row["text"] for row in read_rows("several.csv")]
    with package.load("run") as model:
        before = model.predict(texts).classes
    shutil.rmtree("run/Random-seed0/model")
    with package.load("run") as model:
        assert model.predict(texts).classes == before
