import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import material
import pytest
import reference.batches as slow
import torch
import yaml

from dal.data import Rows, Splits
from dal.errors import ConfigError, LearnerError
from dal.evaluation import Prices, evaluate
from dal.experiments.embedding_space import Space, shuffled
from dal.experiments.experiment import Experiment
from dal.experiments.round_measures import MAP_FILE, Measures
from dal.learners.committee_learner import CommitteeLearner
from dal.learners.probe_learner import ProbeLearner
from dal.learners.transformer_learner import TransformerLearner
from dal.oracle import Oracle
from dal.oracles.simulated import Simulated
from dal.session import Session
from dal.stopping import Labels
from dal.strategies.gradient import BADGE
from dal.strategies.random import Random
from dal.strategies.uncertainty import Margin

NAMES = list("abcd")
BATCH = {"redundancy", "novelty", "coverage_mean", "coverage_p95", "balance", "uncertainty", "space"}
FLAT = {"matthews", "auroc", "ace"}
ON_TEST = FLAT | {"per_class", "per_group", "reliability", "temperature_scaled"}
EVERY_ROUND = ON_TEST | {"pool", "batch", "cost", "measure_seconds"}


def part(n: int, seed: int, multilabel: bool = False) -> Rows:
    inputs, labels = material.clusters(n, seed=seed, spread=3.0)
    groups = [f"g{i % 3}" for i in range(n)]
    if multilabel:
        labels = torch.stack([labels == 0, labels >= 2, labels % 2 == 1, labels == 9], 1)
    return Rows.from_inputs(inputs, labels, NAMES, groups=groups, multilabel=multilabel)


def splits(multilabel: bool = False) -> Any:
    return Splits(*(part(n, seed, multilabel) for n, seed in ((150, 0), (60, 1), (40, 2))))


def experiment(folder: Path | None = None, **changes: Any) -> Experiment:
    place = None if folder is None else str(folder)
    small = Experiment(splits(), ProbeLearner(model=None), Margin(), baseline=None, start=10, batch=5, rounds=2)
    return replace(small, report=False, quiet=True, folder=place, **changes)


def lines(folder: Path | None = None, **changes: Any) -> list[Any]:
    [found] = experiment(folder, **changes).run().cells.values()
    return list(found)


def without_seconds(found: list[Any]) -> list[Any]:
    return [{key: value for key, value in line.items() if not key.endswith("seconds")} for line in found]


def labeled_session(answers: int = 30, **changes: Any) -> Session:
    session = Session(splits(), ProbeLearner(model=None), Random(), hide_labels=True, **changes)
    rows = session.ask(answers)
    session.tell(rows, session.pool.labels[rows])
    return session


@pytest.mark.parametrize("multilabel", [False, True])
def test_every_round_has_all_keys_and_the_last_the_label_issues_and_all_is_finite_json(
    tmp_path: Path, multilabel: bool
) -> None:
    found = lines(tmp_path, data=splits(multilabel))
    for line in found:
        assert line.keys() >= EVERY_ROUND
        assert line["batch"].keys() == BATCH
        assert line["batch"]["space"] == "embeddings"
        assert line["temperature_scaled"].keys() == {"temperature", "log_loss", "ece", "ace", "brier"}
        assert list(line["per_class"]) == NAMES
        assert set(line["per_group"]) == {"g0", "g1", "g2"}
        assert sum(line["reliability"]["count"]) == (240 if multilabel else 60)
        assert line["pool"]["count"] == line["pool"]["of"] == 150 - line["labels"]
        json.dumps(line, allow_nan=False)
    assert ["label_issues" in line for line in found] == [False, False, True]
    assert (tmp_path / "Margin-seed0" / MAP_FILE).is_file()


@pytest.mark.parametrize("strategy", [Margin(), BADGE(), Random()])
def test_measuring_changes_no_choice_and_no_score(strategy: Any) -> None:
    bare = lines(strategy=strategy, pool_sample=0, measure_distances=False)
    full = lines(strategy=strategy, price_per_label=1.0)
    for less, more in zip(bare, full, strict=True):
        assert (less["rows"], less["scores"], less["accuracy"]) == (more["rows"], more["scores"], more["accuracy"])
        assert "pool" not in less
        assert less["batch"].keys() == {"balance", "uncertainty"}
    assert [line["rows"] for line in full] != [line["rows"] for line in lines(strategy=strategy, seeds=[1])]


def test_batch_is_measured_as_two_loops_would() -> None:
    found = lines()
    pool = splits().pool
    points = dict(zip(pool.ids, pool.inputs.double().tolist(), strict=True))
    typical = slow.typical(list(points.values()), len(points))
    before: list[str] = []
    for line in found:
        batch, labeled = line["rows"], [points[row] for row in before]
        now = [points[row] for row in (*before, *batch)]
        distances = torch.tensor(slow.coverage(list(points.values()), now))
        measured = line["batch"]
        assert measured["redundancy"] == slow.redundancy([points[row] for row in batch], labeled, typical)
        if before:
            expected = slow.novelty([points[row] for row in batch], labeled, typical)
            assert measured["novelty"] == pytest.approx(expected, rel=1e-5)
        assert measured["coverage_mean"] == pytest.approx(distances.mean().item(), rel=1e-5)
        assert measured["coverage_p95"] == pytest.approx(distances.quantile(0.95).item(), rel=1e-5)
        before += batch
    assert [line["batch"]["novelty"] is None for line in found] == [True, False, False]


@pytest.mark.parametrize("strategy", [Margin(), BADGE()])
def test_nearest_labeled_row_of_each_chosen_one_is_that_of_two_loops_and_no_row_of_its_batch(strategy: Any) -> None:
    pool = splits().pool
    points = dict(zip(pool.ids, pool.inputs.double().tolist(), strict=True))
    before: list[str] = []
    for line in lines(strategy=strategy):
        expected = [slow.nearest(points[row], {other: points[other] for other in before}) for row in line["rows"]]
        assert line["nearest"] == expected
        before += line["rows"]
    assert len(before) == 20


def test_nearest_rows_are_left_out_where_no_distances_are_measured_and_may_be_rows_that_came_labeled() -> None:
    assert not any("nearest" in line for line in lines(measure_distances=False))
    data = splits()
    labels = data.pool.labels.clone()
    labels[30:] = -1
    partly: Any = Splits(Rows.from_inputs(data.pool.inputs, labels, NAMES, ids=list(data.pool.ids)), data.test)
    found = lines(data=partly, oracle=Told())
    assert found[0]["nearest"] == []
    assert set(found[1]["nearest"]) <= set(list(data.pool.ids)[:30])
    assert len(found[1]["nearest"]) == 5


def test_texts_of_the_nearest_rows_that_came_labeled_are_stored_where_texts_are(tiny_bert: Path) -> None:
    texts, topics = material.tickets(60)
    given = [topic if i < 8 else None for i, topic in enumerate(topics[:40])]
    names = sorted(set(topics))
    data = Splits(Rows.from_inputs(texts[:40], given, names), Rows.from_inputs(texts[40:], topics[40:], names))
    found = lines(data=data, learner=ProbeLearner(str(tiny_bert)), oracle=Sure(tuple(topics)), show_texts=True)
    wording = dict(zip(data.pool.ids, texts, strict=False))
    came = set(list(data.pool.ids)[:8])
    for line in found[1:]:
        near = {row for row in line["nearest"] if row in came}
        assert line.get("nearest_texts", {}) == {row: wording[row] for row in near}
    assert any("nearest_texts" in line for line in found)
    bare = lines(data=data, learner=ProbeLearner(str(tiny_bert)), oracle=Sure(tuple(topics)))
    assert not any("nearest_texts" in line for line in bare)


@dataclass(frozen=True)
class Sure(Oracle):
    """Knows the topic of every row by its place."""

    topics: tuple[str, ...]

    def answer(self, rows: Any, data: Rows) -> Any:
        return [self.topics[row] for row in rows.tolist()]


@pytest.mark.parametrize("strategy", [Margin(), Random()])
def test_uncertainty_is_that_of_the_model_before_the_answers_whoever_chose(strategy: Any) -> None:
    found = lines(strategy=strategy)
    assert found[0]["batch"]["uncertainty"] is None  # nothing was labeled
    assert all(0 < line["batch"]["uncertainty"] <= 1 for line in found[1:])
    if isinstance(strategy, Margin):
        by_chance = lines(strategy=Random())
        assert found[1]["batch"]["uncertainty"] > by_chance[1]["batch"]["uncertainty"]


def cut(folder: Path, monkeypatch: pytest.MonkeyPatch, kept: int) -> None:
    """Record so many more lines, and die in the place of recording the next."""
    record, left = Session.record, kept

    def dying(session: Session, line: Any) -> None:
        nonlocal left
        if not left:
            raise RuntimeError("killed")
        left -= 1
        record(session, line)

    with monkeypatch.context() as patch:
        patch.setattr(Session, "record", dying)
        with pytest.raises(RuntimeError, match="killed"):
            lines(folder)


def test_killed_between_the_answers_and_the_line_the_line_is_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = lines(tmp_path / "whole")
    for kept in (0, 1, 1):
        cut(tmp_path / "cut", monkeypatch, kept)
    assert without_seconds(lines(tmp_path / "cut")) == without_seconds(whole)
    drawn = [(tmp_path / folder / "Margin-seed0" / MAP_FILE).read_text() for folder in ("cut", "whole")]
    assert drawn[0] == drawn[1]


def test_folder_from_before_these_options_goes_on_and_takes_other_prices(tmp_path: Path) -> None:
    whole = lines(tmp_path / "new")
    lines(tmp_path / "old", rounds=1)
    for path in (tmp_path / "old" / "config.yaml", tmp_path / "old" / "Margin-seed0" / "config.yaml"):
        config = yaml.safe_load(path.read_text())
        names = ("pool_sample", "measure_distances", "price_per_label", "price_per_hour", "seconds_per_label")
        older = {key: value for key, value in config.items() if key not in names}
        assert len(older) == len(config) - 5
        path.write_text(yaml.safe_dump(older | {"rounds": 2}))
    resumed = lines(tmp_path / "old", price_per_label=2.0, pool_sample=7)
    assert [line["rows"] for line in resumed] == [line["rows"] for line in whole]
    assert resumed[-1]["cost"]["labels"] == 40.0
    assert resumed[-1]["pool"]["count"] == 7


def test_folder_that_is_finished_may_be_read_with_other_measures(tmp_path: Path) -> None:
    first = lines(tmp_path)
    assert lines(tmp_path, pool_sample=3, price_per_hour=9.0) == first


@pytest.mark.parametrize(
    ("field", "value"), [("pool_sample", -1), ("price_per_label", -0.1), ("seconds_per_label", float("inf"))]
)
def test_measures_that_make_no_sense_are_refused_by_name(field: str, value: float) -> None:
    with pytest.raises(ConfigError, match=field):
        experiment(**{field: value})


def test_pool_is_scored_on_rows_without_a_label_that_are_the_same_while_they_have_none() -> None:
    session = labeled_session()
    measures = Measures(session, pool_sample=20)
    order = shuffled(session.pool.ids, 0, 0x5A).tolist()
    labeled = set(session.labeled_rows.tolist())
    rows = torch.tensor([row for row in order if row not in labeled][:20])
    expected = evaluate(session.read(rows, {"logits"}), session.pool.labels[rows])
    found = measures.of_round(None)["pool"]
    assert found == {**expected, "count": 20, "of": 120}


@dataclass(frozen=True)
class Told(Oracle):
    """Knows the labels that the data does not show."""

    source = "llm"

    def answer(self, rows: Any, data: Rows) -> Any:
        return splits().pool.labels[rows].tolist()


def test_run_without_hidden_labels_and_without_a_test_is_measured_by_what_is_there() -> None:
    pool = Rows.from_inputs(splits().pool.inputs, classes=NAMES)
    found = lines(data=Splits(pool), oracle=Told(), price_per_label=3.0)
    for line in found:
        assert not line.keys() & (ON_TEST | {"pool", "accuracy"})
        assert line["batch"]["coverage_mean"] > 0
        assert line["cost"] == {"labels": 0.0, "llm": 0.0, "annotator_seconds": 0.0}
    assert "label_issues" in found[-1]


def test_labels_that_came_with_the_data_are_covered_but_no_batch(tmp_path: Path) -> None:
    data = splits()
    labels = data.pool.labels.clone()
    labels[30:] = -1
    partly: Any = Splits(Rows.from_inputs(data.pool.inputs, labels, NAMES, ids=list(data.pool.ids)), data.test)
    found = lines(tmp_path, data=partly, oracle=Told())
    first = found[0]["batch"]
    assert first["coverage_mean"] > 0
    assert [first[name] for name in ("redundancy", "novelty", "balance", "uncertainty")] == [None] * 4
    drawn = json.loads((tmp_path / "Margin-seed0" / MAP_FILE).read_text())
    numbers = dict(zip(drawn["ids"], drawn["round"], strict=True))
    assert all(numbers[data.pool.ids[row]] == 1 for row in range(30))
    assert [numbers[row] for row in found[1]["rows"]] == [2] * 5


def test_map_holds_every_labeled_row_at_the_number_of_its_line(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr("dal.experiments.embedding_space.MAP", 50)
    found = lines(tmp_path)
    drawn = json.loads((tmp_path / "Margin-seed0" / MAP_FILE).read_text())
    assert drawn["method"] == "PCA"
    assert [len(drawn[name]) for name in ("ids", "x", "y", "round")] == [50] * 4
    numbers = dict(zip(drawn["ids"], drawn["round"], strict=True))
    for number, line in enumerate(found, 1):
        assert [numbers[row] for row in line["rows"]] == [number] * len(line["rows"])
    assert sum(number == 0 for number in numbers.values()) == 30


def test_rule_that_ends_a_run_early_gets_the_label_issues_too() -> None:
    found = lines(stop=Labels(max_labels=15))
    assert len(found) == 2
    assert "label_issues" in found[-1]


def test_wrong_answers_of_the_oracle_are_among_the_label_issues() -> None:
    inputs, labels = material.clusters(400, spread=1.5)
    test, truth = material.clusters(60, seed=1, spread=1.5)
    data = Splits(Rows.from_inputs(inputs, labels, NAMES), Rows.from_inputs(test, truth, NAMES))
    oracle = Simulated(noise=0.1, seed=3)
    found = lines(data=data, oracle=oracle, strategy=Random(), start=150, batch=50, rounds=1)
    true = dict(zip(data.pool.ids, data.pool.names_of(data.pool.labels), strict=True))
    asked = [row for line in found for row in line["rows"]]
    rows = data.pool.rows_of(asked)
    given = [NAMES[code] for code in oracle.answer(rows, data.pool)]
    wrong = {row for row, name in zip(asked, given, strict=True) if name != true[row]}
    suspected = [entry["row"] for entry in found[-1]["label_issues"]]
    assert len(wrong) > 10
    assert len(wrong & set(suspected)) / len(wrong) > 0.6
    assert len(wrong & set(suspected[:10])) >= 8
    assert all(0 <= entry["confidence"] <= 1 for entry in found[-1]["label_issues"])
    assert all(
        entry["given"] == dict(zip(asked, given, strict=True))[entry["row"]] for entry in found[-1]["label_issues"]
    )


def test_retracted_answer_no_longer_covers_the_pool() -> None:
    session = labeled_session()
    space, nothing = Space.of(session), torch.zeros(0, dtype=torch.int64)
    assert space is not None
    before = space.of_batch(nothing)[0]
    rows = session.ask(5)
    session.tell(rows, session.pool.labels[rows])
    assert space.of_batch(rows)[0]["coverage_mean"] < before["coverage_mean"]
    for _ in range(5):
        session.undo()
    assert space.of_batch(nothing) == (before, [])


@dataclass(frozen=True)
class Trained(ProbeLearner):
    """Offers its embeddings of trained models only."""

    model: str | None = None

    @property
    def label_free(self) -> frozenset[str]:  # type: ignore[override]
        return frozenset()


def test_learner_without_label_free_embeddings_is_measured_in_its_features() -> None:
    found = lines(learner=Trained())
    assert {line["batch"]["space"] for line in found} == {"features"}
    assert all(line["batch"]["coverage_mean"] > 0 for line in found)


def test_points_that_are_not_numbers_are_refused_with_what_to_do() -> None:
    inputs, labels = material.clusters(30)
    session = Session(Splits(Rows.from_inputs(inputs, labels, NAMES)), ProbeLearner(model=None), Random())
    inputs[4, 2] = float("nan")  # as an encoder may compute it; rows with such inputs are refused before
    space = Space.of(session)
    assert space is not None
    with pytest.raises(LearnerError, match=r"embeddings of 1 of 30 rows .* NaN.*measure_distances: false"):
        space.points(torch.arange(30))


@pytest.mark.filterwarnings("ignore:.*GradScaler.*")
def test_fine_tuned_model_is_measured_in_the_embeddings_of_its_pretrained_encoder(tiny_bert: Path) -> None:
    texts, topics = material.tickets(70)
    data = Splits(*(Rows.from_inputs(texts[a:b], topics[a:b]) for a, b in ((0, 40), (40, 55), (55, 70))))
    learner = TransformerLearner(str(tiny_bert), min_steps=1, max_steps=2)
    found = lines(data=data, learner=learner, strategy=Random(), rounds=1)
    probed = lines(data=data, learner=ProbeLearner(str(tiny_bert)), strategy=Random(), rounds=1)
    for line, other in zip(found, probed, strict=True):
        assert line.keys() >= EVERY_ROUND - {"per_group"}
        distances = {name: line["batch"][name] for name in BATCH - {"uncertainty"}}
        assert distances == {name: other["batch"][name] for name in distances}


def test_committee_is_measured_in_the_embeddings_of_its_members() -> None:
    found = lines(learner=CommitteeLearner(ProbeLearner(model=None), members=2, bootstrap=True))
    assert {line["batch"]["space"] for line in found} == {"embeddings"}


def test_scores_are_computed_in_one_pass_and_again_when_labels_change() -> None:
    session = labeled_session()
    first = session.scored("test")
    assert session.scored("test") is first
    rows = session.ask(3)
    session.tell(rows, session.pool.labels[rows])
    assert session.scored("test") is not first


def test_price_of_an_hour_counts_by_the_time_of_an_answer() -> None:
    session = labeled_session()
    prices = Prices(per_hour=60.0, seconds_per_label=30.0)
    found = Measures(session, prices=prices).of_round(None)["cost"]
    assert found == {"labels": pytest.approx(15.0), "llm": 0.0, "annotator_seconds": 900.0}
