"""Metrics of users and plugins: functions of a model's outputs and the labels, recorded next to the built-in ones."""

import functools
import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, overload

from torch import Tensor

from dal.config import allowed_code as importing
from dal.config import plugins
from dal.config.class_names import import_path
from dal.errors import ConfigError, DalError, PluginError, did_you_mean, one_line, shortened, shown
from dal.evaluation.checked_inputs import checked, distributions
from dal.evaluation.curves import OWN_METRICS
from dal.evaluation.ranked_metrics import recall_at_precision
from dal.functional.checking import as_number
from dal.objective import Objective, RecallOf
from dal.outputs import Outputs

#: Names of the metrics that are recorded anyway, see `dal.evaluation.evaluate`.
BUILT_IN = (
    "accuracy",
    "macro_f1",
    "micro_f1",
    "balanced_accuracy",
    "label_accuracy",
    "matthews",
    "auroc",
    "average_precision",
    "log_loss",
    "ece",
    "ace",
    "brier",
)

#: Those of rows with several classes.
MULTILABEL_ONLY = ("label_accuracy", "average_precision")

#: A function of outputs of N rows and their labels; None where it is undefined on them.
Score = Callable[[Outputs, Tensor], float | None]


class Metric:
    """A metric: a function of the outputs and the labels of N rows, and whether larger values are better.

    Args:
        function: gets `Outputs` with `logits`, `probs` and `log_probs`, (N, C), and `decisions`, and the labels, (N,)
            int64; (N, C) bool when `outputs.multilabel`. Returns a finite number, or None where it is undefined.
        maximize: whether larger is better.
    """

    def __init__(self, function: Score, *, maximize: bool = True) -> None:
        functools.update_wrapper(self, function)
        self.function, self.maximize = function, maximize
        self.name: str = function.__name__

    def __call__(self, outputs: Outputs, labels: Tensor) -> float | None:
        """The metric on copies of the outputs and labels, checked.

        Raises:
            PluginError: the function failed, or returned something other than a finite number or None.
        """
        copies = Outputs(
            {"logits": outputs.logits.clone()}, multilabel=outputs.multilabel, thresholds=outputs.thresholds
        )
        try:
            value = self.function(copies, labels.clone())
        except DalError:
            raise
        except Exception as error:
            raise PluginError(f"the metric {self.name} failed: {type(error).__name__}: {one_line(error)}") from error
        if value is None:
            return None
        number = as_number(value.item() if isinstance(value, Tensor) and value.numel() == 1 else value)
        if number is None or not math.isfinite(number):
            raise PluginError(
                f"the metric {self.name} returned {shown(value)}, expected a finite number, or None where undefined"
            )
        return float(number)


@overload
def metric(function: Score) -> Metric: ...


@overload
def metric(*, maximize: bool = True) -> Callable[[Score], Metric]: ...


def metric(function: Score | None = None, *, maximize: bool = True) -> Metric | Callable[[Score], Metric]:
    """Declare a function as a metric: `@metric`, or `@metric(maximize=False)` if lower is better.

    Example:
        >>> import torch
        >>> @metric(maximize=False)
        ... def errors(outputs, labels):
        ...     return float((outputs.probs.argmax(1) != labels).sum())
        >>> errors(Outputs({"logits": torch.tensor([[2.0, 0.0], [0.0, 1.0]])}), torch.tensor([0, 0]))
        1.0
    """
    if function is None:
        return functools.partial(Metric, maximize=maximize)
    return Metric(function, maximize=maximize)


def load_metric(reference: Any) -> Metric:
    """The metric of a short name, an import path such as `my_package:cost`, a function or a `Metric`.

    A function without `metric` counts as better when larger.

    Raises:
        ConfigError: it does not exist, may not be imported, or is no function of two arguments.
    """
    found, what = reference, getattr(reference, "__name__", shown(reference))
    if isinstance(reference, str):
        what = shortened(reference)
        entries = plugins.found(plugins.METRICS)
        if reference in entries:
            found = import_path(entries[reference].value, functions=True)
        elif "." in reference or ":" in reference:
            found = import_path(reference, functions=True)
            # Otherwise a config of somebody else could call any function of any installed package.
            returned = getattr(found, "__annotations__", {}).get("return")
            trusted = isinstance(found, Metric) or importing.is_own(reference) or returned in (float, "float")
            if inspect.isroutine(found) and not trusted:
                raise ConfigError(
                    f"{what} does not say that it is a metric: put @metric of dal.evaluation above it, or `-> float`"
                )
        else:
            installed = ", ".join(sorted(entries)) or "none"
            hint = did_you_mean(reference, entries).removeprefix("; ")
            built_in = " (it is recorded anyway)" if reference in BUILT_IN else f" ({hint})" * bool(hint)
            raise ConfigError(
                f"unknown metric {what!r}{built_in}; installed: {installed}; an import path (my_package:cost) is "
                "accepted, too"
            )
    if isinstance(found, Metric):
        return found
    if not inspect.isroutine(found):
        raise ConfigError(f"{what} is not a metric: it is {shown(found)}, expected a function of outputs and labels")
    try:
        inspect.signature(found).bind(None, None)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"{what} is not a metric: it must take two arguments, outputs and labels") from error
    return Metric(found)


def load_metrics(references: Sequence[Any]) -> tuple[Metric, ...]:
    """The metrics of an experiment, whose names must be distinct.

    Raises:
        ConfigError: one cannot be loaded, two have the same name, or one has that of a built-in metric.
    """
    if isinstance(references, str) or not isinstance(references, Sequence):
        raise ConfigError(f"metrics must be a list such as [my_package:cost], got {shown(references)}")
    metrics = tuple(load_metric(each) for each in references)
    names = [each.name for each in metrics]
    for name in names:
        if not name.isidentifier() or name in BUILT_IN:
            reason = "is that of a built-in one" if name in BUILT_IN else "cannot be a key of metrics.jsonl"
            raise ConfigError(f"metrics: the name {shortened(name)!r} {reason}: give the function another name")
        if names.count(name) > 1:
            raise ConfigError(f"metrics: two functions are called {name}: give one of them another name")
    return metrics


def objective_metrics(objective: Objective | None, classes: Sequence[str]) -> tuple[Metric, ...]:
    """The metric of an objective that is not recorded anyway: none for a word.

    Args:
        objective: the objective, which `dal.objective.check_objective` has accepted for these classes.
        classes: names of the C classes.

    Example:
        >>> import torch
        >>> [severe] = objective_metrics(RecallOf("severe", 0.5), ["mild", "severe"])
        >>> outputs = Outputs({"logits": torch.tensor([[0.0, 2.0], [0.0, 1.0], [0.0, -1.0]])})
        >>> severe.name, severe(outputs, torch.tensor([1, 0, 1]))
        ('recall of severe at precision 0.5', 1.0)
    """
    if not isinstance(objective, RecallOf):
        return ()
    column, precision = list(classes).index(objective.recall_of), objective.precision

    def recall(outputs: Outputs, labels: Tensor) -> float | None:
        probs = distributions(outputs)[1]
        known = checked(labels, probs, outputs.multilabel)
        positive = known[:, column] if outputs.multilabel else known == column
        return recall_at_precision(probs[:, column], positive, precision)

    recall.__name__ = objective.name
    return (Metric(recall),)


def check_verdict_metric(name: str | None, metrics: Sequence[Metric]) -> None:
    """Raise ConfigError unless `name`, the metric of the verdict, is recorded in every round."""
    known = [*BUILT_IN, *(each.name for each in metrics)]
    if name is not None and name not in known:
        hint = did_you_mean(str(name), known)
        raise ConfigError(
            f"metric: {shown(name)} is not recorded{hint}; recorded are {', '.join(known)}, and what `metrics` names"
        )


def own_scores(metrics: Sequence[Metric], outputs: Outputs, labels: Tensor) -> Mapping[str, Any]:
    """The metrics on these rows, as keys of a line: `own_metrics` by name, and the names of those to minimize.

    Raises:
        PluginError: a metric failed, or returned something other than a finite number or None.
    """
    if not metrics:
        return {}
    lower = [each.name for each in metrics if not each.maximize]
    return {OWN_METRICS: {each.name: each(outputs, labels) for each in metrics}, "lower_is_better": lower}
