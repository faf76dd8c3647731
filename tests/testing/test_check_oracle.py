"""Every check of oracles passes a right one and fails on one that is wrong in that way."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor

from dal.config import plugins
from dal.oracle import LATER, Annotation, Oracle
from dal.store.events import SKIP
from dal.testing import ORACLE_CHECKS, ConformanceError, Report, check_oracle, default_rows, oracle_report


@dataclass(frozen=True)
class Fruits(Oracle):
    """A right oracle of the generated texts."""

    word: str = "apple|pear|plum|grape"
    source = "rules"

    def answer(self, rows: Tensor, data: Any) -> Sequence[Any]:
        return [self.one(text) for text in data.texts(rows)]

    def one(self, text: str) -> Any:
        return "fruit" if any(word in text for word in self.word.split("|")) else "vehicles"


@dataclass(frozen=True)
class Careful(Fruits):
    def one(self, text: str) -> Any:
        value = super().one(text)
        return LATER if "again" in text else SKIP if "boat" in text else Annotation(value, confidence=0.9, cost=0.01)


@dataclass(frozen=True)
class Agrees(Oracle):
    """Says what the model predicts."""

    needs = frozenset({"predictions"})

    def answer(self, rows: Tensor, data: Any) -> Sequence[Any]:
        return [0] * len(rows)

    def answer_with_context(self, rows: Tensor, data: Any, predicted: Tensor | None, record: Any = None) -> Any:
        return self.answer(rows, data) if predicted is None else predicted.tolist()


@dataclass(frozen=True)
class AnnotatedSource(Fruits):
    source: str = "rules"


@dataclass(frozen=True)
class NeedsTheWeather(Fruits):
    needs = frozenset({"weather"})


@dataclass(frozen=True)
class NeedsWithoutContext(Fruits):
    needs = frozenset({"predictions"})


@dataclass(frozen=True)
class OneTooFew(Fruits):
    def answer(self, rows: Tensor, data: Any) -> Sequence[Any]:
        return super().answer(rows, data)[1:]


@dataclass(frozen=True)
class UnknownClass(Fruits):
    def one(self, text: str) -> Any:
        return "vegetable"


@dataclass(frozen=True)
class TooConfident(Fruits):
    def one(self, text: str) -> Any:
        return Annotation(super().one(text), confidence=90)


@dataclass(frozen=True)
class NeverSilent(Fruits):
    def answer(self, rows: Tensor, data: Any) -> Sequence[Any]:
        return super().answer(rows, data) or ["fruit"]


@dataclass(frozen=True)
class Guesses(Fruits):
    def one(self, text: str) -> Any:
        return int.from_bytes(os.urandom(4)) % 2


@dataclass(frozen=True)
class SortsItsRows(Fruits):
    def answer(self, rows: Tensor, data: Any) -> Sequence[Any]:
        return super().answer(rows.sort().values, data)


@dataclass(frozen=True)
class WritesLabels(Fruits):
    def answer(self, rows: Tensor, data: Any) -> Sequence[Any]:
        data.labels[rows] = 0
        return super().answer(rows, data)


@dataclass(frozen=True)
class DrawsGlobally(Fruits):
    def answer(self, rows: Tensor, data: Any) -> Sequence[Any]:
        torch.rand(1)
        return super().answer(rows, data)


@dataclass(frozen=True)
class FailsOnLaterRows(Fruits):
    def answer(self, rows: Tensor, data: Any) -> Sequence[Any]:
        if len(rows) and rows.max() >= 8:
            raise OSError("the service is closed")
        return super().answer(rows, data)


class NoDataclass(Fruits):
    def __init__(self, limit: int = 3) -> None:
        super().__init__()


@dataclass(frozen=True)
class Counts(Fruits):
    def answer(self, rows: Tensor, data: Any) -> Sequence[Any]:
        object.__setattr__(self, "asked", getattr(self, "asked", 0) + len(rows))
        return super().answer(rows, data)


WRONG: list[tuple[str, type[Oracle]]] = [
    ("declaration", AnnotatedSource),
    ("declaration", NeedsTheWeather),
    ("declaration", NeedsWithoutContext),
    ("answers", OneTooFew),
    ("answers", UnknownClass),
    ("answers", TooConfident),
    ("answers", NeverSilent),
    ("same row, same answer", Guesses),
    ("same row, same answer", SortsItsRows),
    ("data and randomness", WritesLabels),
    ("data and randomness", DrawsGlobally),
    ("real loop", FailsOnLaterRows),
    ("value", NoDataclass),
    ("value", Counts),
]


def failures(report: Report) -> set[str]:
    return {result.name for result in report.failed}


@pytest.mark.parametrize(("check", "wrong"), WRONG, ids=lambda value: getattr(value, "__name__", value))
def test_each_check_fails_on_an_oracle_wrong_in_its_way(check: str, wrong: type[Oracle]) -> None:
    report = oracle_report(wrong())
    assert check in failures(report), str(report)
    assert report[check].message


def test_every_check_has_an_oracle_that_it_fails_on() -> None:
    assert {check for check, _ in WRONG} == ORACLE_CHECKS.keys()


@pytest.mark.parametrize("oracle", [Fruits(), Careful(), Agrees(), Fruits], ids=repr)
def test_a_right_oracle_passes(oracle: Any) -> None:
    assert check_oracle(oracle).ok


def test_the_report_counts_what_was_declined_and_left() -> None:
    message = oracle_report(Careful())["answers"].message
    assert message == "2 answered, 6 later" or ("answered" in message and "later" in message)


@dataclass(frozen=True)
class FewRows(Fruits):
    """Answers every twelfth row, and leaves the others to somebody else."""

    def answer(self, rows: Tensor, data: Any) -> Sequence[Any]:
        return [
            given if row % 12 == 11 else LATER
            for row, given in zip(rows.tolist(), super().answer(rows, data), strict=True)
        ]


def test_rows_are_asked_until_one_is_answered() -> None:
    result = oracle_report(FewRows(), default_rows())["real loop"]
    assert result.verdict == "passed"
    assert not result.message.startswith("0 ")


def test_simulated_oracle_passes() -> None:
    assert check_oracle(plugins.load(plugins.ORACLES, "Simulated")).ok


def test_failed_check_raises_with_the_report() -> None:
    with pytest.raises(ConformanceError, match="the answer 'vegetable' is no class of the data") as caught:
        check_oracle(UnknownClass())
    assert failures(caught.value.report) == {"answers"}
    assert caught.value.report["real loop"].verdict == "skipped"
