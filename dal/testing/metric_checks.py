"""Conformance checks for metrics: one function per requirement."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from dal.errors import ConfigError, PluginError
from dal.evaluation.own_metrics import Metric, load_metric, load_metrics
from dal.outputs import Outputs
from dal.testing.conformance_report import Check, CheckFailure, CheckSkipped, Report, Result, run_checks
from dal.testing.values import check_untouched, drawn_from, global_randomness

ROWS, CLASSES = 60, 3


@dataclass(frozen=True, eq=False)
class Scored:
    """Logits (N, C) of a model and the labels of its rows."""

    logits: Tensor
    labels: Tensor
    multilabel: bool = False

    @property
    def outputs(self) -> Outputs:
        """The logits as outputs."""
        return Outputs({"logits": self.logits}, multilabel=self.multilabel)

    def take(self, rows: Tensor) -> "Scored":
        """The rows at these positions."""
        return Scored(self.logits[rows], self.labels[rows], self.multilabel)


def usual() -> Scored:
    """A model that is right in most rows."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(ROWS) % CLASSES
    logits = torch.randn(ROWS, CLASSES, generator=generator) + 1.5 * F.one_hot(labels, CLASSES)
    return Scored(logits, labels)


def value(metric: Metric, scored: Scored, where: str) -> float | None:
    """The metric, or a `CheckFailure` that names the case."""
    try:
        return metric(scored.outputs, scored.labels)
    except PluginError as error:
        raise CheckFailure(f"{error} ({where})") from error


def check_metric_values(metric: Metric) -> str:
    """A finite number, or None where undefined, for every kind of rows; a number for ordinary ones."""
    rows = usual()
    # Metrics often treat a single class differently, so each class is left out, and each is alone, in turn.
    cases = {}
    for each in range(CLASSES):
        cases[f"labels of class {each} alone"] = rows.take((rows.labels == each).nonzero().flatten())
        cases[f"a class that no row has, class {each}"] = rows.take((rows.labels != each).nonzero().flatten())
        cases[f"one row, of class {each}"] = rows.take((rows.labels == each).nonzero().flatten()[:1])
    cases |= {
        "every prediction right and certain": Scored(50.0 * F.one_hot(rows.labels, CLASSES), rows.labels),
        "every prediction wrong and certain": Scored(-50.0 * F.one_hot(rows.labels, CLASSES), rows.labels),
        "equal predictions": Scored(torch.zeros(ROWS, CLASSES), rows.labels),
        "two classes": Scored(rows.logits[:, :2], rows.labels % 2),
    }
    for name, case in cases.items():
        value(metric, case, name)
    found = value(metric, rows, "ordinary rows")
    if found is None:
        raise CheckFailure("the metric is None for ordinary rows of three classes")
    return f"{found:.4g} on ordinary rows"


def check_row_order(metric: Metric) -> None:
    """The order of the rows does not matter."""
    rows = usual()
    first = value(metric, rows, "ordinary rows")
    right = (rows.logits.argmax(1) == rows.labels).int()
    for order in (right.argsort(stable=True), right.argsort(descending=True, stable=True), rows.labels.argsort()):
        again = value(metric, rows.take(order), "the same rows in another order")
        if first is None or again is None or abs(first - again) > 1e-5 * max(1.0, abs(first)):
            raise CheckFailure(f"{again} for the same rows in another order, {first} before: no row may count by place")


def check_metric_pure(metric: Metric) -> None:
    """The same rows give the same value; inputs are not modified and the global generators are not used."""
    rows = usual()
    first = value(metric, rows, "ordinary rows")
    value(metric, usual().take(torch.arange(10)), "other rows in between")
    with global_randomness(5):
        before = drawn_from()
        if value(metric, rows, "the same rows again") != first:
            raise CheckFailure(
                "the same rows gave another value the second time: keep no state, draw no random numbers"
            )
        check_untouched(before, "the metric")
    outputs, labels = rows.outputs, rows.labels.clone()
    read = {name: outputs[name] for name in ("logits", "probs", "log_probs")}
    copies = {name: tensor.clone() for name, tensor in read.items()}
    metric.function(outputs, labels)
    if not torch.equal(labels, rows.labels) or not all(torch.equal(read[name], copies[name]) for name in read):
        raise CheckFailure("the metric wrote to the outputs or the labels that it was given: work on a copy")


def check_direction(metric: Metric) -> str:
    """Right predictions are not worse than wrong ones, by the declared direction."""
    labels = usual().labels
    right, wrong = (value(metric, Scored(s * 5.0 * F.one_hot(labels, CLASSES), labels), "") for s in (1, -1))
    if right is None or wrong is None:
        raise CheckSkipped("the metric is None for right or wrong predictions alone")
    better = right >= wrong if metric.maximize else right <= wrong
    if not better:
        advice = "@metric(maximize=False)" if metric.maximize else "@metric"
        raise CheckFailure(f"{right:.4g} if all is right and {wrong:.4g} if all is wrong: declare it with {advice}")
    return "larger is better" if metric.maximize else "lower is better"


def check_multilabel_rows(metric: Metric) -> str:
    """Multi-label rows give a finite number, too, or the metric says that it is not for them."""
    generator = torch.Generator().manual_seed(2)
    labels = torch.rand(ROWS, CLASSES, generator=generator) < 0.4
    rows = Scored(torch.randn(ROWS, CLASSES, generator=generator) + 2.0 * labels, labels, multilabel=True)
    try:
        found = metric(rows.outputs, labels)
    except PluginError as error:
        raise CheckSkipped(f"not for multi-label data: {error}") from error
    for each in range(CLASSES):
        without = labels & (torch.arange(CLASSES) != each)
        value(metric, Scored(rows.logits, without, multilabel=True), f"a class that no row has, class {each}")
    return "None" if found is None else f"{found:.4g}"


#: Name -> check, in order of execution.
METRIC_CHECKS: Mapping[str, Check] = {
    "values": check_metric_values,
    "row order": check_row_order,
    "pure": check_metric_pure,
    "direction": check_direction,
    "multi-label": check_multilabel_rows,
}


def metric_report(metric: Any) -> Report:
    """Run all checks on a metric and return the report. Failed checks do not raise.

    Args:
        metric: function of outputs and labels, declared with `dal.evaluation.metric` or plain.
    """
    subject = getattr(metric, "__name__", repr(metric))
    try:
        load_metrics([metric])
    except ConfigError as error:
        return Report(subject, (Result("values", "failed", str(error)),))
    return run_checks(subject, METRIC_CHECKS, load_metric(metric), first=("values",))


def check_metric(metric: Any) -> Report:
    """Run `metric_report` and raise if a check failed.

    Raises:
        ConformanceError: a check failed; the message lists the failures, `error.report` holds all results.
    """
    return metric_report(metric).require()
