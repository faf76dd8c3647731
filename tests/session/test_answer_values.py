"""Mistakes in answers: the first are listed, and no more of them are put into words."""

import pytest
import torch

from dal.data import Rows, Splits
from dal.errors import AnswerError
from dal.learners.probe_learner import ProbeLearner
from dal.session import Session
from dal.session.answer_values import Mistakes
from dal.strategies.random import Random


class Spied(ValueError):
    """An error that counts how often it is put into words."""

    told = 0

    def __str__(self) -> str:
        Spied.told += 1
        return "wrong"


def test_mistakes_that_are_not_shown_are_counted_and_not_put_into_words() -> None:
    mistakes = Mistakes()
    Spied.told = 0
    for row in range(1_000):
        mistakes.add("row {}: {}", row, Spied())
    assert (mistakes.count, Spied.told) == (1_000, 20)
    with pytest.raises(AnswerError, match=r"^row 0: wrong; .*; row 19: wrong; and 980 more \(no answer"):
        mistakes.refuse()


def test_twenty_mistakes_are_all_shown_and_none_is_no_error() -> None:
    mistakes = Mistakes()
    mistakes.refuse()
    for row in range(20):
        mistakes.add("row {} is {}", row, "x" * 1_000)
    with pytest.raises(AnswerError) as caught:
        mistakes.refuse()
    assert "more" not in str(caught.value)
    assert len(str(caught.value)) < 20 * 250


@pytest.mark.parametrize("propose", [False, True])
def test_the_nearest_class_is_looked_for_only_where_it_is_shown(propose: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    looked: list[str] = []
    monkeypatch.setattr(
        "dal.session.answer_values.did_you_mean", lambda word, known: looked.append(word) or "; did you mean 'x'?"
    )
    pool = Rows.from_inputs(torch.zeros(300, 2), classes=["a", "b"])
    with Session(Splits(pool=pool), ProbeLearner(model=None), Random()) as session:
        rows, values = range(300), [f"word {row}" for row in range(300)]
        with pytest.raises(AnswerError, match=r"'word 19' is not a class; .*; and 280 more \(no answer"):
            session.propose(rows, values, weight=1) if propose else session.tell(rows, values, correct=True)
        assert looked == values[:20]
        assert not session.store.answered
