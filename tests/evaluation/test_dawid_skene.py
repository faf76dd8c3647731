"""The consensus of several sources: equal to the slow version, and better than the majority where sources differ."""

import numpy as np
import pytest
from reference.dawid_skene import consensus, judged

from dal.errors import DataError
from dal.evaluation.dawid_skene import dawid_skene


def told(truth: np.ndarray, rights: list[float], classes: int, seed: int) -> np.ndarray:
    """Answers of sources that are right with these probabilities, else one of the other classes."""
    random = np.random.default_rng(seed)
    shift = random.integers(1, classes, size=(len(truth), len(rights)))
    wrong = random.random((len(truth), len(rights))) >= np.array(rights)
    return (truth[:, None] + np.where(wrong, shift, 0)) % classes


@pytest.mark.parametrize(("classes", "anchors"), [(2, 0), (3, 5), (5, 40)])
def test_equals_the_slow_version(classes, anchors):
    random = np.random.default_rng(classes)
    truth = random.integers(classes, size=40)
    votes = told(truth, [0.9, 0.6, 0.7], classes, seed=1)
    votes[random.random(votes.shape) < 0.2] = -1
    known = np.where(np.arange(40) < anchors, truth, -1)
    found = dawid_skene(votes, classes, known=known, tolerance=0.0, max_rounds=7)
    posterior, confusion = consensus(votes.tolist(), classes, known.tolist(), turns=7)
    np.testing.assert_allclose(found.posterior, posterior, atol=1e-12)
    np.testing.assert_allclose(found.confusion, confusion, atol=1e-12)


def test_beats_the_majority_where_one_source_is_better_than_the_rest():
    truth = np.random.default_rng(0).integers(3, size=600)
    votes = told(truth, [0.95, 0.5, 0.5], 3, seed=2)
    majority = (votes[:, :, None] == np.arange(3)).sum(1).argmax(1)
    found = dawid_skene(votes, 3)
    assert (found.posterior.argmax(1) == truth).mean() > (majority == truth).mean() + 0.05
    np.testing.assert_allclose(np.einsum("scc->s", found.confusion) / 3, [0.95, 0.5, 0.5], atol=0.06)


def test_known_rows_teach_the_error_rates_that_the_answers_alone_hide():
    truth = np.random.default_rng(3).integers(2, size=400)
    votes = told(truth, [0.9, 0.1], 2, seed=4)  # one of them always means the opposite
    known = np.where(np.arange(400) < 60, truth, -1)
    found = dawid_skene(votes, 2, known=known)
    assert (found.posterior.argmax(1) == truth).mean() > 0.85
    assert (found.posterior[:60].argmax(1) == truth[:60]).all()


def test_further_rows_are_judged_by_what_was_learnt_and_teach_nothing():
    random = np.random.default_rng(5)
    found = dawid_skene(told(random.integers(3, size=50), [0.9, 0.6], 3, seed=6), 3)
    further = random.integers(-1, 3, size=(20, 2))
    expected = [judged(row, found.prevalence, found.confusion, 3) for row in further.tolist()]
    np.testing.assert_allclose(found.predict(further), expected, atol=1e-12)
    np.testing.assert_allclose(found.predict(further[:3]), expected[:3], atol=1e-12)
    with pytest.raises(DataError, match="one for each source"):
        found.predict(further[:, :1])


def test_a_row_without_answers_has_the_prevalence_as_its_posterior():
    votes = np.array([[0, 0], [0, 0], [1, 1], [-1, -1]])
    found = dawid_skene(votes, 2, max_rounds=1)
    np.testing.assert_allclose(found.posterior[3].sum(), 1)
    assert found.posterior[3, 0] > found.posterior[3, 1]


def test_no_rows_are_no_trouble():
    assert dawid_skene(np.zeros((0, 2), dtype=np.int64), 3).posterior.shape == (0, 3)


@pytest.mark.parametrize("votes", [np.array([[3]]), np.array([[-2]]), np.array([1, 2])])
def test_what_is_no_vote_is_refused(votes):
    with pytest.raises(DataError):
        dawid_skene(votes, 3)
