"""Every check of stopping rules passes a right one and fails on one that is wrong in that way."""

import os
from dataclasses import dataclass, field
from typing import Any

import pytest

from dal.stopping import (
    AllOf,
    ClassificationChange,
    Dollars,
    History,
    Hours,
    Labels,
    Observe,
    OverallUncertainty,
    Plateau,
    StabilizingPredictions,
    StoppingRule,
    TargetScore,
    Verdict,
)
from dal.testing import STOPPING_CHECKS, ConformanceError, Report, check_stopping_rule, stopping_report


@dataclass(frozen=True)
class Enough(StoppingRule):
    """A right rule: stops when every class has so many labels."""

    fewest: int = 4

    def judge(self, history: History) -> Verdict:
        least = min(history.lines[-1]["class_counts"]) if history.lines else 0
        return Verdict(least >= self.fewest, f"the rarest class has {least} labels", {"least": least})


@dataclass(frozen=True)
class AnnotatedNeeds(Enough):
    needs: frozenset[str] = frozenset({"spent"})


@dataclass(frozen=True)
class NeedsTheMoon(Enough):
    needs = frozenset({"moon"})


@dataclass(frozen=True)
class ForgetsItsSize(Enough):
    needs = frozenset({"stop_set"})


@dataclass(frozen=True)
class Crashes(Enough):
    def judge(self, history: History) -> Verdict:
        if len(history.lines) == 2:
            raise IndexError("third from last")
        return super().judge(history)


@dataclass(frozen=True)
class CountsItsCalls(Enough):
    """Stops at the third call, whatever was recorded."""

    calls: list[int] = field(default_factory=list)

    def judge(self, history: History) -> Verdict:
        self.calls.append(len(history.lines))
        return Verdict(len(self.calls) > 2, f"call {len(self.calls)}")


@dataclass(frozen=True)
class NeedsARound(Enough):
    def judge(self, history: History) -> Verdict:
        least = min(history.lines[-1]["class_counts"])
        return Verdict(least >= self.fewest, f"{least} labels")


@dataclass(frozen=True)
class NeedsEveryFigure(Enough):
    needs = frozenset({"spent"})

    def judge(self, history: History) -> Verdict:
        dollars = sum(line["spent"]["dollars"] for line in history.lines)
        return Verdict(dollars > 5, f"{dollars} dollars")


@dataclass(frozen=True)
class WritesToLines(Enough):
    def judge(self, history: History) -> Verdict:
        for line in history.lines:
            if isinstance(line, dict):
                line["seen"] = True
        return super().judge(history)


@dataclass(frozen=True)
class FlipsACoin(Enough):
    def judge(self, history: History) -> Verdict:
        return Verdict(False, f"coin {int.from_bytes(os.urandom(8))}")


@dataclass(frozen=True)
class CountsFullRuns(Enough):
    """Counts how often it is asked about three rounds."""

    def judge(self, history: History) -> Verdict:
        if len(history.lines) == 3:
            object.__setattr__(self, "asked", getattr(self, "asked", 0) + 1)
        return Verdict(False, f"{max(0, getattr(self, 'asked', 0) - 2)} requests")


@dataclass(frozen=True)
class TwoLines(Enough):
    def judge(self, history: History) -> Verdict:
        return Verdict(False, "one\ntwo")


@dataclass(frozen=True)
class NotesNaN(Enough):
    def judge(self, history: History) -> Verdict:
        return Verdict(False, "a note", {"rate": float("nan")})


@dataclass(frozen=True)
class NumberAsDecision(Enough):
    def judge(self, history: History) -> Verdict:
        return Verdict(len(history.lines), "so many rounds")  # type: ignore[arg-type]


class OpenVerdict(Verdict):
    """A verdict that is neither true nor false for long."""

    count = 0

    def __bool__(self) -> bool:
        type(self).count += 1
        return type(self).count % 2 == 1


@dataclass(frozen=True)
class Undecided(Enough):
    def judge(self, history: History) -> Verdict:
        return OpenVerdict(False, "perhaps")


class NoDataclass(Enough):
    def __init__(self, limit: int = 3) -> None:
        super().__init__()


WRONG: list[tuple[str, type[StoppingRule]]] = [
    ("declaration", AnnotatedNeeds),
    ("declaration", NeedsTheMoon),
    ("declaration", ForgetsItsSize),
    ("real loop", Crashes),
    ("real loop", CountsItsCalls),
    ("few rounds", NeedsARound),
    ("few rounds", NeedsEveryFigure),
    ("real loop", WritesToLines),
    ("real loop", FlipsACoin),
    ("pure", CountsFullRuns),
    ("verdict", TwoLines),
    ("verdict", NotesNaN),
    ("verdict", NumberAsDecision),
    ("composition", Undecided),
    ("value", NoDataclass),
]


def failures(report: Report) -> set[str]:
    return {result.name for result in report.failed}


@pytest.mark.parametrize(("check", "wrong"), WRONG, ids=lambda value: getattr(value, "__name__", value))
@pytest.mark.filterwarnings("ignore:the stop set holds only")
def test_each_check_fails_on_a_rule_wrong_in_its_way(check: str, wrong: type[StoppingRule]) -> None:
    report = stopping_report(wrong())
    assert check in failures(report), str(report)
    assert report[check].message


def test_every_check_has_a_rule_that_it_fails_on() -> None:
    assert {check for check, _ in WRONG} == STOPPING_CHECKS.keys()


RIGHT: list[Any] = [
    Enough(),
    Enough,
    Labels(30),
    Dollars(3),
    Hours(1),
    TargetScore(value=0.9),
    Plateau(),
    StabilizingPredictions(),
    ClassificationChange(),
    OverallUncertainty(),
    AllOf((Labels(30), Plateau())),
    Labels(20) | Enough(),
    Observe((Plateau(),)),
]


@pytest.mark.parametrize("rule", RIGHT, ids=lambda rule: getattr(rule, "__name__", type(rule).__name__))
@pytest.mark.filterwarnings("ignore:the stop set holds only")
def test_a_right_rule_passes(rule: Any) -> None:
    assert check_stopping_rule(rule).ok


def test_failed_check_raises_with_the_report() -> None:
    with pytest.raises(
        ConformanceError, match=r"needs has moon; a round records spent, validation, stop_set"
    ) as caught:
        check_stopping_rule(NeedsTheMoon())
    assert caught.value.report["pure"].verdict == "skipped"
