"""Every check of stopping rules passes a right one and fails on one that is wrong in that way."""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch

from dal.stopping import (
    AllOf,
    ClassificationChange,
    Dollars,
    History,
    Hours,
    Labels,
    Measurement,
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


@dataclass(frozen=True)
class NearBoundary(StoppingRule):
    """A right rule with a number of its own: stops when few unlabeled rows have a small margin."""

    max_share: float = 0.01
    margin: float = 0.2
    size: int = 30

    stop_set_needs = frozenset({"probs"})
    judge_options = frozenset({"max_share"})

    @property
    def stop_set(self) -> int:  # type: ignore[override]
        return self.size

    def measure(self, measurement: Measurement) -> Mapping[str, Any]:
        probs = measurement.stop_set.probs[~measurement.labeled]
        if not len(probs):
            return {"share": None}
        first, second = probs.topk(2).values.T
        return {"share": float((first - second < self.margin).double().mean())}

    def judge(self, history: History) -> Verdict:
        shares = [each["share"] for each in history.measures(self) if each["share"] is not None]
        if not shares:
            return Verdict(False, "nothing measured yet")
        return Verdict(shares[-1] <= self.max_share, f"{shares[-1]:.3f} are near", {"share": shares[-1]})


@dataclass(frozen=True)
class OnValidation(NearBoundary):
    """A right rule that measures the validation rows, and records more than numbers."""

    stop_set_needs = frozenset()
    stop_set = 0  # type: ignore[assignment]
    validation_needs = frozenset({"features", "log_probs"})

    def measure(self, measurement: Measurement) -> Mapping[str, Any]:
        losses = -measurement.validation.log_probs.gather(1, measurement.validation_labels[:, None])
        largest = measurement.validation.features.norm(dim=1).topk(2).indices
        return {"share": float(losses.mean()), "rows": largest.tolist(), "labels": measurement.state.labels}


@dataclass(frozen=True)
class WithoutMeasure(Enough):
    validation_needs = frozenset({"probs"})


@dataclass(frozen=True)
class NoSuchOption(NearBoundary):
    judge_options = frozenset({"max_part"})


@dataclass(frozen=True)
class MeasuresNaN(NearBoundary):
    def measure(self, measurement: Measurement) -> Mapping[str, Any]:
        return {"share": float("nan")}


@dataclass(frozen=True)
class MeasuresATensor(NearBoundary):
    def measure(self, measurement: Measurement) -> Mapping[str, Any]:
        return {"share": measurement.stop_set.probs.max()}


@dataclass(frozen=True)
class MeanOfNothing(NearBoundary):
    """NaN at the end of the pool, where no row of the stop set is left without a label."""

    def measure(self, measurement: Measurement) -> Mapping[str, Any]:
        return {"share": float(measurement.stop_set.probs[~measurement.labeled].mean())}


@dataclass(frozen=True)
class MeasuresACoin(NearBoundary):
    def measure(self, measurement: Measurement) -> Mapping[str, Any]:
        return {"share": int.from_bytes(os.urandom(4)) / 2**32}

    def judge(self, history: History) -> Verdict:
        return Verdict(False, "never")


@dataclass(frozen=True)
class DrawsGlobally(NearBoundary):
    def measure(self, measurement: Measurement) -> Mapping[str, Any]:
        torch.rand(3)
        return super().measure(measurement)


@dataclass(frozen=True)
class WritesToOutputs(NearBoundary):
    def measure(self, measurement: Measurement) -> Mapping[str, Any]:
        measurement.stop_set.probs.clamp_(0.1, 0.9)
        return {"share": 0.5}


@dataclass(frozen=True)
class KeepsInTheRule(NearBoundary):
    def measure(self, measurement: Measurement) -> Mapping[str, Any]:
        object.__setattr__(self, "last", super().measure(measurement)["share"])
        return {"share": 0.5}


_LAST = [0.0]


@dataclass(frozen=True)
class KeepsInTheModule(NearBoundary):
    """Judges by what the last call of measure left in its module."""

    def measure(self, measurement: Measurement) -> Mapping[str, Any]:
        _LAST[0] = float(measurement.state.labels)
        return {"share": 0.5}

    def judge(self, history: History) -> Verdict:
        return Verdict(False, f"{_LAST[0]} labels")


@dataclass(frozen=True)
class ReadsUndeclared(NearBoundary):
    def measure(self, measurement: Measurement) -> Mapping[str, Any]:
        return {"share": float(measurement.stop_set.features.mean())}


@dataclass(frozen=True)
class MeasuresByThreshold(NearBoundary):
    """Measures with an option that it declares to be one of judge alone."""

    judge_options = frozenset({"max_share", "margin"})


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
    ("declaration", WithoutMeasure),
    ("declaration", NoSuchOption),
    ("real loop", MeasuresNaN),
    ("real loop", MeasuresATensor),
    ("real loop", ReadsUndeclared),
    ("pure", KeepsInTheModule),
    ("measure", MeanOfNothing),
    ("measure", MeasuresACoin),
    ("measure", DrawsGlobally),
    ("measure", WritesToOutputs),
    ("measure", KeepsInTheRule),
    ("measure", MeasuresByThreshold),
    ("composition", Undecided),
    ("value", NoDataclass),
]


def failures(report: Report) -> set[str]:
    return {result.name for result in report.failed}


@pytest.mark.parametrize(("check", "wrong"), WRONG, ids=lambda value: getattr(value, "__name__", value))
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
    NearBoundary(),
    OnValidation(),
    AllOf((NearBoundary(size=10), OnValidation(), NearBoundary(size=50), Plateau())),
]


@pytest.mark.parametrize("rule", RIGHT, ids=lambda rule: getattr(rule, "__name__", type(rule).__name__))
def test_a_right_rule_passes(rule: Any) -> None:
    assert check_stopping_rule(rule).ok


def test_failed_check_raises_with_the_report() -> None:
    with pytest.raises(
        ConformanceError, match=r"needs has moon; a round records spent, validation, stop_set"
    ) as caught:
        check_stopping_rule(NeedsTheMoon())
    assert caught.value.report["pure"].verdict == "skipped"


@dataclass(frozen=True)
class ReadsSurprisal(NearBoundary):
    stop_set_needs = frozenset({"surprisal"})


def test_checks_say_what_was_measured_and_what_they_could_not_provide() -> None:
    assert "share" in stopping_report(NearBoundary())["measure"].message
    assert stopping_report(Enough())["measure"].verdict == "skipped"
    report = stopping_report(ReadsSurprisal())
    assert {report[name].verdict for name in ("real loop", "measure")} == {"skipped"}
    assert "surprisal" in report["real loop"].message


@pytest.mark.parametrize(
    ("wrong", "check", "message"),
    [
        (MeasuresNaN, "real loop", "MeasuresNaN.measure: 'share' is nan, .*return finite numbers, and None"),
        (MeasuresATensor, "real loop", r"'share' is tensor\(.*which JSON cannot store: return numbers"),
        (ReadsUndeclared, "real loop", "'features' was read but not declared: declare it in stop_set_needs"),
        (MeanOfNothing, "measure", r"is nan, .*\(every row of the stop set has a label\)"),
        (MeasuresByThreshold, "measure", "measure reads margin, which judge_options says only judge reads"),
        (KeepsInTheModule, "pure", "no state that measure left behind"),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_failures_of_measure_say_what_to_do(wrong: type[StoppingRule], check: str, message: str) -> None:
    assert re.search(message, stopping_report(wrong())[check].message)
