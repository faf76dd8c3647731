"""An oracle or a labeler of somebody else that answers too little, too much or nonsense ends in one line, and nothing
is stored."""

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import material
import pytest
import torch
from labelers import WordLabeler, WordPredictor

from dal.data import Rows, Splits
from dal.errors import AnswerError, LearnerError
from dal.learners.tfidf_learner import TfidfLearner
from dal.oracle import Annotation, Oracle
from dal.oracles.answering import answer_pending
from dal.oracles.labeler import label_rows
from dal.oracles.llm_oracle import LLMOracle
from dal.oracles.router import Router
from dal.oracles.simulated import Simulated
from dal.oracles.weak_labels import LLMWeakLabels
from dal.outputs import Outputs
from dal.session import Session
from dal.store.events import SKIP
from dal.strategies import Random


@dataclass(frozen=True)
class Foreign(Oracle):
    """Says what a function makes of the rows."""

    says: Callable[[list[int]], Any]

    def answer(self, rows, data):
        return self.says(rows.tolist())


@dataclass(frozen=True)
class Odd(WordLabeler):
    """A labeler one of whose outputs is replaced by a number, in its last row."""

    which: str = "confidence"
    number: float = math.nan

    def untrained(self, data):
        return OddPredictor(self)


class OddPredictor(WordPredictor):
    def outputs(self, data, rows=None, names=frozenset({"logits"}), **options):
        whole = super().outputs(data, rows, names, **options)
        made = {name: whole[name] for name in set(names) | {"logits"}}
        made[self.labeler.which] = made[self.labeler.which].clone()
        made[self.labeler.which][-1] = self.labeler.number
        return Outputs(made)


def tickets() -> Rows:
    return Rows.from_inputs(*material.tickets(60))


def session() -> Session:
    return Session(Splits(tickets()), learner=TfidfLearner(), strategy=Random(), hide_labels=True)


ANSWERS = {
    "too few": (lambda rows: [0] * (len(rows) - 1), "Foreign gave 4 answers to 5 rows"),
    "too many": (lambda rows: [0] * (len(rows) + 1), "Foreign gave 6 answers to 5 rows"),
    "none": (lambda rows: None, "Foreign must give a list of answers, one per row, not None"),
    "a text": (lambda rows: "abcde", "Foreign must give a list of answers"),
    "without end": (lambda rows: itertools.repeat(0), "Foreign gave 6 or more answers to 5 rows"),
    "a confidence of NaN": (lambda rows: said(rows, confidence=math.nan), "with a confidence of nan"),
    "a confidence above 1": (lambda rows: said(rows, confidence=1.5), "with a confidence of 1.5"),
    "a confidence that is a text": (lambda rows: said(rows, confidence="high"), "with a confidence of 'high'"),
    "a negative price": (lambda rows: said(rows, cost=-1.0), "with a cost of -1.0"),
    "an infinite time": (lambda rows: said(rows, seconds=math.inf), "with a seconds of inf"),
    "a word proposals": (
        lambda rows: said(rows, proposals=(Annotation(1, "b", confidence=math.nan),)),
        "a confidence of nan",
    ),
}


def said(rows: list[int], **figures: Any) -> list[Any]:
    return [*([0] * (len(rows) - 1)), Annotation(1, "a", **figures)]


@pytest.mark.parametrize("wrapped", [False, True], ids=["alone", "routed"])
@pytest.mark.parametrize("what", ANSWERS)
def test_answers_that_do_not_fit_the_rows_are_refused_and_nothing_is_stored(what, wrapped):
    says, words = ANSWERS[what]
    oracle = Router([Foreign(says)], Simulated(), audit=0.0) if wrapped else Foreign(says)
    with session() as asked:
        asked.ask(5)
        with pytest.raises(AnswerError) as caught:
            answer_pending(oracle, asked)
        assert words in str(caught.value)
        assert "\n" not in str(caught.value)
        assert len(asked.pending) == 5
        assert not asked.store.proposals


def test_answers_of_any_kind_of_list_are_stored():
    for says in (lambda rows: torch.zeros(len(rows), dtype=torch.int64), lambda rows: (SKIP for _ in rows)):
        with session() as asked:
            asked.ask(5)
            answer_pending(Foreign(says), asked)
            assert not len(asked.pending)


@pytest.mark.parametrize(
    ("which", "number", "words"),
    [
        ("confidence", math.nan, "a confidence of nan"),
        ("confidence", 1.5, "a confidence of 1.5"),
        ("confidence", -0.5, "a confidence of -0.5"),
        ("logits", math.nan, "a probability of nan"),
        ("dollars", math.nan, "a price of nan"),
        ("dollars", -1.0, "a price of -1"),
    ],
)
def test_a_labeler_that_gives_no_numbers_is_named_with_the_row(which, number, words):
    labeler, data = Odd(which=which, number=number), tickets()
    with pytest.raises(LearnerError) as caught:
        label_rows(labeler, data, torch.arange(5))
    assert words in str(caught.value)
    assert str(caught.value).startswith(f"Odd gave row {data.ids[4]!r}")
    assert "(1 of 5 rows)" in str(caught.value)
    with session() as asked:
        asked.ask(5)
        with pytest.raises(LearnerError, match="Odd gave row"):
            answer_pending(LLMOracle(labeler), asked)
        assert len(asked.pending) == 5
    with session() as asked, pytest.raises(LearnerError, match="Odd gave row"):
        LLMWeakLabels(labeler, rows=10).begin(asked, 5)


def test_a_sound_labeler_is_taken_as_it_is():
    found = label_rows(replace(Odd(), which="confidence", number=0.25), tickets(), torch.arange(5))
    assert float(found.confidence[-1]) == 0.25
