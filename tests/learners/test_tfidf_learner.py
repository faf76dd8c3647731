"""Logistic regression on TF-IDF: what scikit-learn alone computes, saved without a pickle."""

from pathlib import Path

import material
import pytest
import torch
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression

from dal.data import Rows
from dal.errors import ConfigError, DataError, LearnerError, NeedError
from dal.learners.tfidf_learner import TfidfLearner
from dal.testing import check_learner
from dal.testing.learners import default_rows


def tickets(multilabel: bool = False) -> Rows:
    texts, labels = material.tickets(80)
    if not multilabel:
        return Rows.from_inputs(texts, labels)
    both = [[label, *(["urgent"] if "urgent" in text else [])] for text, label in zip(texts, labels, strict=True)]
    return Rows.from_inputs(texts, both, [*sorted(set(labels)), "urgent", "never"], multilabel=True)


def test_it_passes_the_conformance_kit() -> None:
    check_learner(TfidfLearner(), default_rows("texts"))
    check_learner(TfidfLearner(ngrams=1, class_weights="balanced"), tickets(multilabel=True))


def test_probabilities_are_those_of_scikit_learn() -> None:
    rows, learner = tickets(), TfidfLearner(C=3.0)
    data, trained = learner.prepare(rows), torch.arange(50)
    probs = learner.fit(data, trained, rows.labels[trained], seed=0).outputs(data, None, {"probs"}).probs
    texts = list(rows.inputs)
    vectors = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True).fit_transform(texts)
    expected = LogisticRegression(C=3.0, max_iter=1000).fit(vectors[:50], rows.labels[:50].numpy())
    torch.testing.assert_close(probs.double(), torch.from_numpy(expected.predict_proba(vectors)), rtol=1e-5, atol=1e-6)


def test_a_class_without_a_label_is_next_to_impossible_and_not_impossible() -> None:
    rows = tickets()
    chosen = (rows.labels < 3).nonzero().flatten()[:30]
    data = TfidfLearner().prepare(rows)
    outputs = TfidfLearner().fit(data, chosen, rows.labels[chosen], seed=0).outputs(data, None, {"log_probs"})
    assert torch.isfinite(outputs.log_probs).all()
    assert outputs.log_probs[:, 3].max() < -9


def test_both_texts_of_a_pair_are_read() -> None:
    rows = Rows.from_inputs([("it rains", "yes"), ("it rains", "no")] * 3, ["a", "b"] * 3)
    data = TfidfLearner().prepare(rows)
    predictor = TfidfLearner().fit(data, torch.arange(6), rows.labels, seed=0)
    assert torch.equal(predictor.outputs(data).logits.argmax(1), rows.labels)


def test_a_saved_model_reads_texts_that_the_pool_has_not(tmp_path: Path) -> None:
    rows, learner = tickets(), TfidfLearner()
    data = learner.prepare(rows)
    predictor = learner.fit(data, torch.arange(40), rows.labels[:40], seed=0)
    predictor.save(tmp_path / "model")
    other = learner.prepare(Rows.from_inputs(["my parcel is lost", "zzz"], [0, 1], rows.classes))
    loaded = learner.load(tmp_path / "model", other)
    assert torch.equal(loaded.outputs(other).logits, predictor.outputs(other).logits)


def test_what_it_cannot_do_is_said() -> None:
    with pytest.raises(DataError, match="TfidfLearner reads texts, not"):
        TfidfLearner().prepare(Rows.from_inputs(torch.randn(4, 2), [0, 1, 0, 1], ["a", "b"]))
    with pytest.raises(ConfigError, match="C must be positive"):
        TfidfLearner(C=0)
    rows = Rows.from_inputs(["?", "!"], ["a", "b"])
    data = TfidfLearner().prepare(rows)
    with pytest.raises(LearnerError, match="no words for TF-IDF"):
        TfidfLearner().fit(data, torch.arange(2), rows.labels, seed=0)
    with pytest.raises(NeedError, match="before anything is fitted"):
        TfidfLearner().untrained(data).outputs(data)
