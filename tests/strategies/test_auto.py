"""Auto: which part acts, and that it says so."""

import logging
from dataclasses import replace

import material
import pytest
import torch

from dal.config.build import build_now
from dal.data import Rows, Splits
from dal.errors import ConfigError
from dal.experiments.experiment import Experiment
from dal.learners.probe_learner import ProbeLearner
from dal.oracles.simulated import Simulated
from dal.outputs import Outputs
from dal.session import Session
from dal.strategies import Auto, Entropy, Margin, MaxHerding, Random
from dal.strategy import Query, RoundState, choose

PARTS = Auto(few=MaxHerding(), many=Margin(), blind=Random(), per_class=3)


def asked(labels: torch.Tensor, *, follow: bool, classes: int = 4, seed: int = 0) -> Query:
    """A query whose labeled embeddings lie around their class's corner when they `follow` the labels, else anywhere."""
    generator = torch.Generator().manual_seed(seed)

    def noise(rows: int) -> torch.Tensor:
        return torch.randn(rows, 8, generator=generator)

    corners = 9 * torch.eye(8)[:classes]
    labeled = noise(len(labels)) + (corners[labels] if follow else 0)
    pool = {"logits": torch.randn(50, classes, generator=generator), "embeddings": noise(50)}
    return Query(
        pool=Outputs(pool),
        labeled=Outputs({"embeddings": labeled}, length=len(labels)),
        labels=labels,
        n=5,
        generator=torch.Generator().manual_seed(1),
    )


@pytest.mark.parametrize(
    ("labels", "per_class", "few"),
    [
        (0, (0, 0, 0, 0), True),
        (11, (5, 4, 1, 1), True),  # fewer than 3 for each of 4 classes
        (12, (5, 5, 1, 1), False),
        (12, (12, 0, 0, 0), True),  # one class trains no model
        (500, (500, 0, 0, 0), True),
        (6, (), False),  # classes unknown: as many as two
        (5, (), True),
    ],
)
def test_typical_rows_are_asked_while_labels_are_few(labels, per_class, few):
    state = RoundState(labels=labels, per_class=per_class)
    assert (PARTS.resolve(state) == MaxHerding()) == few
    assert bool(PARTS.why(state)) == few


def test_says_how_many_labels_are_missing():
    why = PARTS.why(RoundState(labels=7, per_class=(4, 1, 1, 1)))
    assert why == "MaxHerding: 7 labels, fewer than 3 for each of 4 classes"
    assert (
        PARTS.why(RoundState(labels=90, per_class=(90, 0))) == "MaxHerding: 90 labels in 1 class, which train no model"
    )


def test_doubt_decides_once_there_are_labels_enough():
    query = asked(torch.arange(40) % 4, follow=True)
    selection = choose(PARTS, query)
    assert torch.equal(selection.positions, choose(Margin(), asked(torch.arange(40) % 4, follow=True)).positions)
    assert selection.reason.startswith("Margin: 40 labels")
    assert selection.notes["neighbor_agreement"] == 1


def test_says_which_classes_nobody_has_given_yet():
    labels = torch.arange(40) % 4
    assert "no label yet" not in choose(PARTS, asked(labels, follow=True)).reason
    why = choose(PARTS, asked(labels, follow=True, classes=6)).reason
    enough = "Margin: 40 labels, enough to rely on the model's uncertainty"
    assert why == f"{enough}, though 2 of 6 classes have no label yet"


def test_chance_decides_where_the_embeddings_know_nothing_of_the_labels():
    labels = torch.arange(40) % 4
    blind = [seed for seed in range(20) if choose(PARTS, asked(labels, follow=False, seed=seed)).reason[:6] == "Random"]
    assert 3 <= len(blind) <= 17  # pure noise is above chance about as often as below
    chosen = choose(PARTS, asked(labels, follow=False, seed=blind[0]))
    assert torch.equal(chosen.positions, choose(Random(), asked(labels, follow=False, seed=blind[0])).positions)
    assert "no more than by chance" in chosen.reason


def test_too_few_labels_to_judge_are_not_judged():
    labels = torch.arange(20) % 4
    assert all(choose(PARTS, asked(labels, follow=False, seed=seed)).reason[:6] == "Margin" for seed in range(10))


def test_a_rare_class_that_the_embeddings_tell_apart_is_not_overlooked():
    labels = (torch.arange(40) < 4).long()
    reasons = [choose(PARTS, asked(labels, follow=True, classes=2, seed=seed)).reason for seed in range(10)]
    assert all(reason.startswith("Margin") for reason in reasons)


def test_one_label_of_the_second_class_is_not_enough_to_judge_the_embeddings():
    labels = (torch.arange(40) < 1).long()
    reasons = [choose(PARTS, asked(labels, follow=False, classes=2, seed=seed)).reason for seed in range(10)]
    assert all(reason.startswith("Margin") for reason in reasons)


def settled(labels: int, *, apart: float = 9.0, generator: int = 0, **options) -> str:
    """The reason of a batch whose pool has two classes around two corners, so far apart, and as many labels."""
    x = torch.randn(300 + labels, 8, generator=torch.Generator().manual_seed(generator))
    y = torch.arange(len(x)) % 2
    x[:, 0] += apart * y
    query = Query(
        pool=Outputs({"logits": x[:300, :2], "embeddings": x[:300]}),
        labeled=Outputs({"embeddings": x[300:]}),
        labels=y[300:],
        n=5,
        generator=torch.Generator().manual_seed(1),
    )
    return choose(replace(PARTS, **options), query).reason


def test_random_rows_are_asked_once_choosing_no_longer_pays():
    reason = settled(100)
    assert reason.startswith(
        "Random: without a fifth of the 100 labels a classifier predicts the pool almost as with all"
    )
    assert reason.endswith("(kappa 1.000): choosing no longer pays, and random rows measure the quality")
    assert settled(98).startswith("Margin")  # too few to judge
    assert settled(100, apart=1.0).startswith("Margin")  # the labels still matter
    assert settled(100, stable=None).startswith("Margin")


def test_choosing_goes_on_while_a_class_has_fewer_than_five_labels():
    labels = (torch.arange(120) < 4).long()
    assert choose(PARTS, asked(labels, follow=True, classes=2)).reason.startswith("Margin")
    labels = (torch.arange(120) < 30).long()  # and where the model knows of a class that has none
    assert choose(PARTS, asked(labels, follow=True, classes=3)).reason.startswith("Margin")


def test_auto_of_an_earlier_folder_chooses_to_the_end():
    assert build_now(Auto, {"per_class": 5.0}) == Auto(per_class=5.0, stable=None)  # as a stored config is read


@pytest.mark.parametrize("stable", [0, 1.1, "x"])
def test_kappa_out_of_range_is_refused(stable):
    with pytest.raises(ConfigError, match="stable of Auto must be"):
        Auto(stable=stable)


def test_a_class_that_the_labels_lack_counts_all_the_same():
    labels = torch.arange(10) % 2  # 10 labels, but the model knows of 4 classes
    assert choose(PARTS, asked(labels, follow=True)).reason.startswith("MaxHerding")


def test_negative_labels_per_class_are_refused():
    with pytest.raises(ConfigError, match="per_class of Auto must be 0 or more"):
        Auto(per_class=-1)


@pytest.fixture
def splits() -> Splits:
    x, y = material.clusters(300, d=8)
    names = ["a", "b", "c", "d"]
    return Splits(pool=Rows.from_inputs(x[:200], y[:200], names), test=Rows.from_inputs(x[200:], y[200:], names))


def test_the_session_starts_from_nothing_and_logs_each_change(splits, caplog):
    caplog.set_level(logging.INFO, logger="dal")
    with Session(splits, ProbeLearner(model=None), Auto(many=Entropy(), per_class=2), hide_labels=True) as session:
        acted = []
        for _ in range(4):
            rows = session.ask(6)
            acted.append(session.last_selection.strategy)
            session.tell(rows, splits.pool.labels[rows])
    assert acted == ["MaxHerding", "MaxHerding", "Auto", "Auto"]
    said = [record.message for record in caplog.records if "labels" in record.message]
    assert [line.split(":")[1].strip() for line in said] == ["MaxHerding", "Entropy"]


def test_a_stored_batch_keeps_its_reason(splits, tmp_path):
    with Session(splits, ProbeLearner(model=None), Auto(), folder=tmp_path / "run", hide_labels=True) as session:
        session.ask(6)
    with Session(splits, ProbeLearner(model=None), Auto(), folder=tmp_path / "run", hide_labels=True) as again:
        assert again.last_selection.reason == "MaxHerding: 0 labels in 0 classes, which train no model"


def test_is_what_an_experiment_runs_unless_told_otherwise(splits):
    experiment = Experiment(
        splits, ProbeLearner(model=None), oracle=Simulated(), start=12, batch=12, rounds=2, quiet=True
    )
    assert experiment.strategy == Auto()
    lines = experiment.run().cells["Auto-seed0"]
    assert [line["acting_strategy"] for line in lines] == ["MaxHerding", "Auto", "Auto"]
    assert lines[0]["reason"].startswith("MaxHerding: 0 labels")
    assert lines[1]["reason"].startswith("UHerding&DiversifiedMargin: 12 labels")
