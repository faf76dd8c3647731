"""Texts of another kind are told, and a random split of one set is not."""

import random
from pathlib import Path

import pytest

from dal.experiments.pool_distances import NEW_SAMPLE, POOL_SAMPLE, shift_note, shift_of_texts
from dal.learner import Learner
from dal.learners.probe_learner import ProbeLearner
from dal.learners.tfidf_learner import TfidfLearner

SUBJECTS = ("The patient", "One man", "A woman of 60", "The control group", "Every child", "Nobody in the study")
VERBS = ("took", "refused", "was given", "reported", "stopped", "tolerated")
OBJECTS = ("aspirin", "warfarin", "a placebo", "heparin", "two doses of digoxin", "a statin", "no drug")
ENDS = ("for a week", "without harm", "and bled", "on day three", "after surgery", "at night", "as planned")
NEWS = ("The parliament voted on", "A minister spoke of", "Voters rejected", "The court allowed", "Unions welcomed")
ISSUES = ("a new tax", "the budget for schools", "higher rents", "the trade agreement", "free trains", "a merger")
PLACES = ("in the capital", "yesterday", "in spring", "by a large majority", "against all forecasts", "in the north")


def medical(count: int, seed: int) -> list[str]:
    generator = random.Random(seed)
    return [" ".join(map(generator.choice, (SUBJECTS, VERBS, OBJECTS, ENDS))) + "." for _ in range(count)]


def news(count: int, seed: int) -> list[str]:
    generator = random.Random(seed)
    return [" ".join(map(generator.choice, (NEWS, ISSUES, PLACES))) + "." for _ in range(count)]


@pytest.fixture(params=["tfidf", "probe"])
def learner(request: pytest.FixtureRequest, tiny_bert: Path) -> Learner:
    return TfidfLearner() if request.param == "tfidf" else ProbeLearner(model=str(tiny_bert), max_length=16)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_random_split_of_one_set_says_nothing(learner: Learner, seed: int) -> None:
    texts = list(dict.fromkeys(medical(600, seed)))
    random.Random(seed).shuffle(texts)
    assert shift_note(shift_of_texts(texts[:300], texts[300:], learner)) == ""


def test_texts_of_another_kind_are_told() -> None:
    note = shift_note(shift_of_texts(medical(300, 0), news(60, 1), TfidfLearner()))
    assert note.startswith("the new texts lie farther from the pool than its own: 100% of 49 beyond 95% of it; ")
    assert len(note) < 130  # one line; 49 different texts


def test_many_equal_texts_in_the_pool_are_no_sign(learner: Learner) -> None:
    texts = list(dict.fromkeys(medical(400, 3)))
    pool = texts[:200] + texts[:100] * 5  # as a data set with repetitions has them
    assert shift_note(shift_of_texts(pool, texts[200:], learner)) == ""


def test_texts_that_are_in_the_pool_and_few_texts_say_nothing() -> None:
    pool = medical(200, 0)
    assert shift_of_texts(pool, pool[:50], TfidfLearner()) is None
    assert shift_of_texts(pool, news(10, 0), TfidfLearner()) is None


def test_texts_without_words_are_no_shift() -> None:
    marks = ["!" * n for n in range(1, 80)]
    shift = shift_of_texts(marks[:40], marks[40:], TfidfLearner())
    assert shift is not None
    assert not shift.is_shifted


def test_pairs_are_compared_and_samples_are_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    pairs = list(zip(medical(300, 0), medical(300, 1), strict=True))
    shift = shift_of_texts(pairs[:200], pairs[200:], TfidfLearner())
    assert shift is not None
    assert not shift.is_shifted
    monkeypatch.setattr("dal.experiments.pool_distances.NEW_SAMPLE", 30)
    limited = shift_of_texts(pairs[:200], pairs[200:], TfidfLearner())
    assert limited is not None
    assert limited.rows == 30
    assert (POOL_SAMPLE, NEW_SAMPLE) == (1_000, 500)
