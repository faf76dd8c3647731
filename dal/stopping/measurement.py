"""Measures that stopping rules record of the current model, besides the figures that every round can record."""

import functools
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from dal.errors import DalError, NeedError, PluginError, shown
from dal.outputs import Outputs
from dal.stopping.rule import MEASURES, Line, StoppingRule, failure, measures_key, measuring_parts
from dal.strategy import RoundState

#: Reads "stop_set" or "validation": the outputs of its rows on the CPU, and (n,) bool or the labels.
Read = Callable[[str], tuple[Outputs, Tensor]]


@dataclass(frozen=True, eq=False)
class Measurement:
    """What a rule can measure after a round: the state of the session and the current model.

    A model is trained and run only if the rule reads `stop_set` or `validation`; all rules of a round share one pass
    over each of them.

    Args:
        state: state of the round.
        read: function that computes a part; `{"stop_set": (outputs, labeled)}.__getitem__` in a test.

    Example:
        >>> import torch
        >>> outputs = Outputs({"logits": torch.tensor([[2.0, 0.0], [0.0, 1.0]])})
        >>> parts = {"stop_set": (outputs, torch.tensor([False, True]))}
        >>> Measurement(RoundState(labels=1), parts.__getitem__).stop_set.probs.shape
        torch.Size([2, 2])
    """

    state: RoundState
    read: Read

    @property
    def stop_set(self) -> Outputs:
        """Outputs of the rule's stop set in full precision: the names in `stop_set_needs`, on the CPU."""
        return self.read("stop_set")[0]

    @property
    def labeled(self) -> Tensor:
        """(n,) bool, whether a row of the stop set has a label by now."""
        return self.read("stop_set")[1]

    @property
    def validation(self) -> Outputs:
        """Outputs of the validation rows: the names in `validation_needs`, on the CPU."""
        return self.read("validation")[0]

    @property
    def validation_labels(self) -> Tensor:
        """Labels of the validation rows, (n,) int64; (n, C) bool when multi-label."""
        return self.read("validation")[1]


def recorded_measures(rule: StoppingRule, state: RoundState, read: Read) -> dict[str, dict[str, Any]]:
    """The measures of a rule and its parts by `measures_key`, as JSON values.

    Args:
        rule: stopping rule.
        state: state of the round.
        read: computes a part with the names that all parts of the rule read; called at most once for each.

    Raises:
        PluginError: a rule failed, or returned something that JSON cannot store.
    """
    read = functools.cache(read)
    return {measures_key(part): measured(part, state, read) for part in measuring_parts(rule)}


def measured(rule: StoppingRule, state: RoundState, read: Read) -> dict[str, Any]:
    """The measures of a single rule, which may read the names that it declares.

    Raises:
        PluginError: the rule failed, or returned something that JSON cannot store.
    """

    def own(part: str) -> tuple[Outputs, Tensor]:
        outputs, values = read(part)
        if part == "stop_set":  # a smaller stop set is a prefix of a larger one
            outputs, values = outputs.take(slice(0, rule.stop_set)), values[: rule.stop_set]
        return outputs.declare(getattr(rule, f"{part}_needs")), values

    name = type(rule).__name__
    try:
        values = rule.measure(Measurement(state, own))
    except NeedError as error:
        reason = str(error).partition(":")[0]
        raise PluginError(f"{name}.measure: {reason}: declare it in stop_set_needs or validation_needs") from error
    except DalError:
        raise
    except Exception as error:
        raise failure(rule, "measure", error) from error
    if not isinstance(values, Mapping):
        raise PluginError(f"{name}.measure returned {shown(values)}, expected a mapping such as {{'entropy': 0.3}}")
    return {str(key): _json_value(name, str(key), value) for key, value in values.items()}


def _json_value(rule: str, key: str, value: Any) -> Any:
    """The value as it will be read from the file, so that a rule sees the same before and after a resumption."""
    try:
        return json.loads(json.dumps(value, allow_nan=False))
    except ValueError as error:  # NaN, infinity
        reason: Exception = error
        advice = "return finite numbers, and None where one is undefined"
    except TypeError as error:  # a tensor, or another object
        reason = error
        advice = "return numbers, texts, lists and mappings: float(x) or x.tolist() of a tensor"
    raise PluginError(f"{rule}.measure: {shown(key)} is {shown(value)}, which JSON cannot store: {advice}") from reason


def has_measures(line: Line, rule: StoppingRule) -> bool:
    """Whether a line has the measures of a rule and its parts."""
    stored = line.get(MEASURES)
    return all(isinstance(stored, Mapping) and measures_key(part) in stored for part in measuring_parts(rule))
