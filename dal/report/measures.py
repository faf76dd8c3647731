"""The figures that a record may hold: their names, and where in it they are found."""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeGuard

#: Quality by its names in `metrics.jsonl`, in the order in which it is shown.
METRICS = {
    "accuracy": "accuracy",
    "macro_f1": "macro-F1",
    "micro_f1": "micro-F1",
    "balanced_accuracy": "balanced accuracy",
    "label_accuracy": "accuracy per label",
    "matthews": "Matthews correlation",
    "auroc": "AUROC",
    "log_loss": "log loss",
    "ece": "calibration error",
    "ace": "adaptive calibration error",
    "brier": "Brier score",
}

#: What is known of a batch, and what it means.
BATCH = {
    "batch.redundancy": (
        "redundancy",
        "share of the batch that lies as near to an earlier choice as nearest neighbours do",
    ),
    "batch.novelty": ("novelty", "how far the batch lies from all that was labeled before"),
    "batch.coverage_mean": ("mean distance to a label", "from a row of the pool to the nearest labeled one"),
    "batch.coverage_p95": ("95th percentile of that distance", "the rows that are worst covered"),
    "batch.balance": ("class balance", "1 when every class was asked for equally often"),
    "batch.uncertainty": ("uncertainty when chosen", "how unsure the model was of the batch"),
}

#: The parts of the time that a round takes.
SECONDS = {
    "fit_seconds": "fit",
    "pass_seconds": "pass",
    "select_seconds": "selection",
    "evaluate_seconds": "evaluation",
    "measure_seconds": "measuring",
}


@dataclass(frozen=True)
class Axis:
    """What a learning curve is drawn over.

    Attributes:
        key: "labels", "money" or "time".
        name: the heading of its tab.
        unit: what its figures are, in words.
        divisor: from what is stored to the unit.
        places: decimals in what a point says.
    """

    key: str
    name: str
    unit: str
    divisor: float = 1.0
    places: int = 0


LABELS = Axis("labels", "By labels", "labels")
MONEY = Axis("money", "By money", "dollars", places=2)


def time_axis(longest: float) -> Axis:
    """The axis of computing time up to so many seconds, in a unit that a person would use."""
    for unit, seconds in (("hours", 3600.0), ("minutes", 60.0)):
        if longest >= 2 * seconds:
            return Axis("time", "By time", f"{unit} of computing", seconds, 1)
    return Axis("time", "By time", "seconds of computing", 1.0, 1)


#: Of any figure of a run.
LARGEST = 1e15


def number(value: object) -> TypeGuard[float]:
    """Whether it is a finite number, of a size that figures have and that NumPy reads as an integer or a float."""
    if not isinstance(value, int | float) or isinstance(value, bool):
        return False
    return abs(value) <= LARGEST  # false for NaN


def figure_of(record: Mapping[str, Any], key: str) -> float | None:
    """The finite number under a key such as "accuracy" or "pool.accuracy"; None when there is none."""
    value: Any = record
    for part in key.split("."):
        value = value.get(part) if isinstance(value, Mapping) else None
    return float(value) if number(value) else None


def spent(records: Sequence[Mapping[str, Any]], over: str) -> list[float | None]:
    """What each record had cost so far: labels, dollars, or seconds of fit, pass and selection; None where unknown."""
    if over == "labels":
        return [figure_of(record, "labels") for record in records]
    if over == "money":
        return [_dollars(record) for record in records]
    each = [[figure_of(record, key) for key in ("fit_seconds", "pass_seconds", "select_seconds")] for record in records]
    known = [any(seconds is not None for seconds in parts) for parts in each]
    sums = itertools.accumulate(sum(seconds or 0.0 for seconds in parts) for parts in each)
    return [total if some else None for total, some in zip(sums, known, strict=True)]


def _dollars(record: Mapping[str, Any]) -> float | None:
    parts = [figure_of(record, "cost.labels"), figure_of(record, "cost.llm")]
    return sum(part or 0.0 for part in parts) if any(part is not None for part in parts) else None
