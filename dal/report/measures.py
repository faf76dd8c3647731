"""Metrics of a record of `metrics.jsonl`: their keys, display names and axes."""

import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeGuard

from dal.evaluation.curves import OWN_METRICS

#: Quality metrics in display order: key in `metrics.jsonl` -> display name.
METRICS = {
    "accuracy": "accuracy",
    "macro_f1": "macro-F1",
    "micro_f1": "micro-F1",
    "balanced_accuracy": "balanced accuracy",
    "label_accuracy": "accuracy per label",
    "matthews": "Matthews correlation",
    "auroc": "AUROC",
    "average_precision": "mean average precision",
    "log_loss": "log loss",
    "ece": "calibration error",
    "ace": "adaptive calibration error",
    "brier": "Brier score",
}


def metric_name(key: str) -> str:
    """Display name of a metric, of those of the user too."""
    return METRICS.get(key, key.removeprefix(f"{OWN_METRICS}."))


#: Batch metrics: key -> (display name, meaning).
BATCH = {
    "batch.redundancy": (
        "redundancy",
        "share of the batch that is as close to an earlier selection as nearest neighbours are",
    ),
    "batch.novelty": ("novelty", "distance of the batch to the rows labeled before"),
    "batch.coverage_mean": ("mean distance to a label", "from a row of the pool to the nearest labeled one"),
    "batch.coverage_p95": ("95th percentile of that distance", "the rows that are worst covered"),
    "batch.balance": ("class balance", "1 when every class was asked for equally often"),
    "batch.uncertainty": ("uncertainty when selected", "mean uncertainty of the model about the batch"),
}

#: Timed parts of a round: key -> display name.
SECONDS = {
    "fit_seconds": "fit",
    "pass_seconds": "pass",
    "select_seconds": "selection",
    "evaluate_seconds": "evaluation",
    "measure_seconds": "measuring",
}


@dataclass(frozen=True)
class Axis:
    """The x axis of a learning curve.

    Attributes:
        key: "labels", "money" or "time".
        name: title of its tab.
        unit: name of the unit.
        divisor: divisor of stored values that gives the unit.
        places: decimals in tooltips.
    """

    key: str
    name: str
    unit: str
    divisor: float = 1.0
    places: int = 0


LABELS = Axis("labels", "By labels", "labels")
MONEY = Axis("money", "By money", "dollars", places=2)


def time_axis(longest: float) -> Axis:
    """Axis of computing time, in a unit that suits its longest time in seconds."""
    for unit, seconds in (("hours", 3600.0), ("minutes", 60.0)):
        if longest >= 2 * seconds:
            return Axis("time", "By time", f"{unit} of computing", seconds, 1)
    return Axis("time", "By time", "seconds of computing", 1.0, 1)


#: Larger magnitudes are not accepted as metrics of a run.
LARGEST = 1e15


def number(value: object) -> TypeGuard[float]:
    """Whether a value is a finite number within `LARGEST`, which NumPy can represent."""
    if not isinstance(value, int | float) or isinstance(value, bool):
        return False
    return abs(value) <= LARGEST  # false for NaN


def figure_of(record: Mapping[str, Any], key: str) -> float | None:
    """The finite number at a dotted key such as "accuracy" or "pool.accuracy"; None when there is none.

    The name of a metric of the user, after "own_metrics.", may itself contain dots.
    """
    value: Any = record
    place, own, name = key.partition(f"{OWN_METRICS}.")
    for part in [*filter(None, place.split(".")), OWN_METRICS, name] if own else key.split("."):
        value = value.get(part) if isinstance(value, Mapping) else None
    return float(value) if number(value) else None


def spent(records: Sequence[Mapping[str, Any]], over: str) -> list[float | None]:
    """Cumulative cost at each record; None where unknown.

    Args:
        records: records of one cell, in order.
        over: "labels", "money" (dollars) or "time" (seconds of training, prediction and selection).
    """
    if over == "labels":
        return [figure_of(record, "labels") for record in records]
    money = ("cost.labels", "cost.llm")
    keys = money if over == "money" else ("fit_seconds", "pass_seconds", "select_seconds")
    each = [[figure_of(record, key) for key in keys] for record in records]
    known = [any(part is not None for part in parts) for parts in each]
    sums: Iterable[float] = [sum(part or 0.0 for part in parts) for parts in each]
    if over != "money":  # seconds are those of a round, whereas recorded costs are totals already
        sums = itertools.accumulate(sums)
    return [total if some else None for total, some in zip(sums, known, strict=True)]
