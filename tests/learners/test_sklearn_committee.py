"""A committee of scikit-learn models: aligned on classes, finite, and saved without a pickle."""

import dataclasses
import json
import logging
from pathlib import Path

import material
import numpy as np
import pytest
import torch

from dal.config import build as building
from dal.config import settings_tree as tree
from dal.data import Rows
from dal.errors import ConfigError, LearnerError, NeedError
from dal.experiments.experiment import Experiment
from dal.learners.heads.head_posteriors import FLOOR
from dal.learners.sklearn_committee import SklearnCommittee, aligned, fit_members
from dal.outputs import log_probs
from dal.testing import check_learner

NEIGHBORS, BAYES = "sklearn.neighbors.KNeighborsClassifier", "sklearn.naive_bayes:GaussianNB"
LEARNER = SklearnCommittee(model=None, device="cpu")
QUICK = SklearnCommittee(model=None, estimators=("logistic", BAYES), device="cpu")
CLASSES = ("a", "b", "c", "d")


def vectors(multilabel=False, spread=3.0):
    x, y = material.clusters(120, spread=spread)
    labels = torch.stack([y == code for code in range(4)], 1) if multilabel else y
    return Rows.from_inputs(x, labels, CLASSES, multilabel=multilabel)


def fitted(learner, multilabel=False, seed=0, labels=60, **options):
    rows = vectors(multilabel)
    data = learner.prepare(rows)
    return data, learner.fit(data, torch.arange(labels), rows.labels[:labels], seed=seed, **options)


@pytest.fixture(scope="module")
def trained():
    return fitted(LEARNER)


def test_probabilities_of_seen_classes_are_put_in_their_places():
    found = aligned(np.array([[0.7, 0.3], [1.0, 0.0]]), np.array([1, 3]), 4)
    expected = np.array([[FLOOR, 0.7, FLOOR, 0.3], [FLOOR, 1.0, FLOOR, FLOOR]])
    np.testing.assert_allclose(found, expected / expected.sum(1, keepdims=True), rtol=1e-12)


def test_each_kind_learns_and_the_consensus_is_their_mean(trained):
    data, predictor = trained
    rows = torch.arange(60, 120)
    outputs = predictor.outputs(data, rows, {"probs", "mc_logits", "joint_mc_logits", "embeddings"})
    assert outputs.mc_logits.shape == (60, 3, 4)
    hits = (outputs.mc_logits.argmax(-1) == vectors().labels[rows][:, None]).float().mean(0)
    assert bool((hits > 0.5).all()), hits  # a quarter by chance
    torch.testing.assert_close(outputs.probs, outputs.mc_logits.softmax(-1).mean(1))
    assert torch.equal(outputs.joint_mc_logits, outputs.mc_logits)
    assert torch.equal(outputs.embeddings, data.inputs[rows])


def test_members_disagree_and_follow_the_seed_of_the_fit(trained):
    data, predictor = trained
    votes = predictor.outputs(data, names={"mc_logits"}).mc_logits
    data, same = fitted(LEARNER)
    assert torch.equal(same.outputs(data, names={"mc_logits"}, seed=9).mc_logits, votes)
    _, other = fitted(LEARNER, seed=1)
    assert all(
        not torch.equal(other.outputs(data, names={"mc_logits"}).mc_logits[:, number], votes[:, number])
        for number in range(3)
    )


def test_repeats_of_a_kind_are_trained_on_resamples_of_their_own():
    learner = dataclasses.replace(QUICK, estimators=("logistic",), repeats=3)
    data, predictor = fitted(learner)
    votes = predictor.outputs(data, names={"mc_logits"}).mc_logits
    assert votes.shape[1] == 3
    assert not torch.allclose(votes[:, 0], votes[:, 1])


def test_without_a_bootstrap_logistic_regression_sees_every_row():
    rows, data = vectors(), QUICK.prepare(vectors())
    learner = dataclasses.replace(QUICK, bootstrap=False)
    first, second = (learner.fit(data, torch.arange(60), rows.labels[:60], seed=seed) for seed in (0, 1))
    names = {"mc_logits"}
    assert torch.equal(first.outputs(data, names=names).mc_logits, second.outputs(data, names=names).mc_logits)


def test_a_class_that_only_some_members_have_seen_is_aligned():
    """One row of class 2 of 0 to 3: 37 % of the resamples lack it, and all lack 3."""
    x, y = material.clusters(40, classes=2)
    y[7] = 2
    targets = torch.nn.functional.one_hot(y, 4).float()
    x[7] += 20.0
    members = fit_members(["logistic"] * 12, x, targets, torch.ones(40), seed=0, bootstrap=True, multilabel=False)
    found = np.stack([np.exp(member.logits(x.numpy())) for member in members], 1)  # (40, 12, 4)
    np.testing.assert_allclose(found.sum(-1), 1.0, rtol=1e-6)
    knows = np.array([2 in member.seen[0] for member in members])
    assert 0 < knows.sum() < 12
    assert (found[7, knows, 2] > 0.5).all()
    assert (found[:, ~knows, 2] < 2 * FLOOR).all()
    assert (found[:, :, 3] < 2 * FLOOR).all()
    others = np.delete(np.arange(40), 7)
    right = found[others].argmax(-1) == y.numpy()[others][:, None]
    assert right.mean() > 0.9


def test_multilabel_members_are_one_model_per_class_and_sure_of_the_only_answer_they_saw():
    x, y = material.clusters(60)
    labels = torch.stack([y == 0, y > 1, torch.zeros(60, dtype=torch.bool), torch.ones(60, dtype=torch.bool)], 1)
    rows = Rows.from_inputs(x, labels, CLASSES, multilabel=True)
    data = LEARNER.prepare(rows)
    predictor = LEARNER.fit(data, torch.arange(40), labels[:40], seed=0)
    outputs = predictor.outputs(data, names={"mc_logits", "probs"})
    assert torch.isfinite(outputs.mc_logits).all()
    probs = outputs.mc_logits.sigmoid()
    assert float(((probs > 0.5) == labels[:, None]).float().mean()) > 0.9
    torch.testing.assert_close(probs[..., 2], torch.full_like(probs[..., 2], FLOOR / (1 + FLOOR)))
    torch.testing.assert_close(probs[..., 3], torch.full_like(probs[..., 3], 1 / (1 + FLOOR)))
    torch.testing.assert_close(outputs.probs, probs.mean(1))


def test_what_was_saved_is_trained_again_to_the_same_votes(trained, tmp_path: Path):
    data, predictor = trained
    predictor.save(tmp_path / "model")
    assert sorted(path.name for path in (tmp_path / "model").iterdir()) == ["sklearn.json", "training.safetensors"]
    names = {"logits", "mc_logits"}
    again = LEARNER.load(tmp_path / "model", data)
    for name in names:
        assert torch.equal(again.outputs(data, names=names)[name], predictor.outputs(data, names=names)[name])
    assert again.provides == LEARNER.provides


def test_a_saved_committee_keeps_its_scale_when_the_pool_grows(tmp_path: Path):
    data, predictor = fitted(QUICK)
    predictor.save(tmp_path / "model")
    more = Rows.from_inputs(torch.cat([data.inputs, data.inputs + 50.0]), [0, 1, 2, 3] * 60, CLASSES)
    grown = QUICK.prepare(more)
    again = QUICK.load(tmp_path / "model", grown).outputs(grown, torch.arange(120)).logits
    assert torch.equal(again, predictor.outputs(data).logits)


def test_a_folder_of_other_members_or_classes_is_refused(tmp_path: Path):
    data, predictor = fitted(QUICK)
    predictor.save(tmp_path / "model")
    with pytest.raises(LearnerError, match="not this learner's"):
        LEARNER.load(tmp_path / "model", data)
    data.classes = ("a", "b", "c", "x")
    with pytest.raises(LearnerError, match="was trained for the classes"):
        QUICK.load(tmp_path / "model", data)


def test_another_version_of_scikit_learn_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    data, predictor = fitted(QUICK)
    predictor.save(tmp_path / "model")
    path = tmp_path / "model" / "sklearn.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"scikit-learn": "0.1"}))
    with caplog.at_level(logging.WARNING, "dal"):
        QUICK.load(tmp_path / "model", data)
    assert "trained by scikit-learn 0.1" in caplog.text


@pytest.mark.parametrize("estimators", [("logistic", BAYES), (NEIGHBORS, BAYES)], ids=["weighs", "draws"])
def test_sample_weights_count_for_whoever_takes_them_and_for_others_as_draws(estimators):
    weights = (vectors().labels[:60] != 1).float()
    learner = dataclasses.replace(QUICK, estimators=estimators)
    data, predictor = fitted(learner, weights=weights)
    votes = predictor.outputs(data, names={"mc_logits"}).mc_logits
    assert bool((votes.argmax(-1) != 1).all())


def test_balanced_classes_raise_the_rare_one():
    rows, found = vectors(spread=5.0), []
    rare = torch.cat([(rows.labels == 0).nonzero().flatten()[:3], (rows.labels == 1).nonzero().flatten()[:25]])
    for rule in (None, "balanced"):
        learner = dataclasses.replace(QUICK, estimators=("logistic",), repeats=4, class_weights=rule)
        data = learner.prepare(rows)
        predictor = learner.fit(data, rare, rows.labels[rare], seed=0)
        found.append(float(log_probs(predictor.outputs(data).logits).exp()[:, 0].mean()))
    assert found[1] > found[0]


def test_nothing_but_embeddings_can_be_read_before_a_fit():
    data = LEARNER.prepare(vectors())
    untrained = LEARNER.untrained(data)
    assert torch.equal(untrained.outputs(data, names={"embeddings"}).embeddings, data.inputs)
    with pytest.raises(NeedError, match="before anything is fitted"):
        untrained.outputs(data)


def test_texts_are_read_through_the_cached_embeddings_of_an_encoder(tiny_bert: Path):
    rows = Rows.from_inputs(*material.tickets(60))
    learner = dataclasses.replace(QUICK, model=str(tiny_bert), precision="float32")
    data = learner.prepare(rows)
    predictor = learner.fit(data, torch.arange(40), rows.labels[:40], seed=0)
    assert predictor.outputs(data, torch.arange(5), {"mc_logits", "embeddings"}).embeddings.shape == (5, 32)


def test_the_committee_conforms_on_multi_label_rows():
    assert check_learner(QUICK, vectors(multilabel=True)).ok


def test_the_default_members_conform():
    assert check_learner(SklearnCommittee(model=None)).ok


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"estimators": ("logistic",)}, "at least 2 members"),
        ({"repeats": 0}, "repeats"),
        ({"repeats": 2, "bootstrap": False}, "would be identical"),
        ({"estimators": ("logistic", "forest")}, "there are logistic, random_forest, gradient_boosting"),
        ({"estimators": ("logistic", "sklearn.nothing.Here")}, "cannot be created"),
        ({"estimators": ("logistic", "sklearn.svm.LinearSVC")}, "no predict_proba"),
    ],
)
def test_senseless_options_are_refused_when_the_learner_is_made(fields, message):
    with pytest.raises(ConfigError, match=message):
        SklearnCommittee(**fields)


def test_a_config_names_the_members(tmp_path: Path):
    path = tmp_path / "run.yaml"
    path.write_text(
        "data: {path: a.csv}\nstrategy: BALD\nlearner: {SklearnCommittee: {estimators: [logistic, random_forest]}}\n"
    )
    made, _ = building.build(Experiment, tree.read(path), tree.options([("learner.repeats", "2")]))
    assert made.learner == SklearnCommittee(estimators=("logistic", "random_forest"), repeats=2)
