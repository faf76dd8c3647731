"""Objectives: the score that the decisions of a model, the verdict of a report and stopping rules aim at."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

from dal.errors import ConfigError, did_you_mean, printable, shown

#: Objectives that are a word: metrics of `dal.evaluation.evaluate`.
ObjectiveWord = Literal["accuracy", "macro_f1", "micro_f1", "balanced_accuracy", "log_loss"]
WORDS: tuple[ObjectiveWord, ...] = get_args(ObjectiveWord)

#: Objective of an experiment that names none.
DEFAULT: ObjectiveWord = "accuracy"

_NAME = 60  # characters of a class in the name of an objective


@dataclass(frozen=True)
class RecallOf:
    """The highest recall of one class among the thresholds on its probability with at least a stated precision.

    `dal.evaluation.recall_at_precision` computes it.

    Args:
        recall_of: name of the class.
        precision: smallest precision, above 0 and at most 1.

    Raises:
        ConfigError: the name is empty, or the precision is out of range.

    Example:
        >>> RecallOf("severe").name
        'recall of severe at precision 0.9'
    """

    recall_of: str
    precision: float = 0.9

    def __post_init__(self) -> None:
        given: Any = self.recall_of
        if isinstance(given, bool) or not isinstance(given, str | int | float) or not str(given).strip():
            raise ConfigError(f"objective: recall_of takes the name of a class, got {shown(given)}")
        object.__setattr__(self, "recall_of", str(given))  # a number may be the name of a class
        share: Any = self.precision
        if isinstance(share, bool) or not isinstance(share, int | float) or not 0 < share <= 1:
            raise ConfigError(f"objective: precision must be above 0 and at most 1, got {shown(share)}")
        object.__setattr__(self, "precision", float(share))

    @property
    def name(self) -> str:
        """Name of the metric in figures, reports and tables, on one line."""
        return f"recall of {printable(self.recall_of, _NAME)} at precision {self.precision:.9g}"


Objective = ObjectiveWord | RecallOf


def as_objective(given: Any) -> Objective | None:
    """An objective as it may be written: a word, a `RecallOf`, its keys as a mapping, or None.

    Raises:
        ConfigError: it is none of these. The message names the way out.
    """
    if given is None or isinstance(given, RecallOf):
        return given
    if isinstance(given, Mapping):
        unknown = [str(key) for key in given if key not in ("recall_of", "precision")]
        if unknown or "recall_of" not in given:
            problem = f"there is no key {shown(unknown[0])}" if unknown else "the key recall_of is missing"
            raise ConfigError(f"objective: {problem}: write {{recall_of: CLASS, precision: 0.9}}")
        return RecallOf(**given)
    if isinstance(given, str) and given in WORDS:
        return given  # type: ignore[return-value]
    hint = did_you_mean(given, WORDS) if isinstance(given, str) else ""
    raise ConfigError(
        f"objective must be one of {', '.join(WORDS)} or {{recall_of: CLASS, precision: 0.9}}, got {shown(given)}{hint}"
    )


def objective_name(objective: Objective | None) -> str:
    """Name of the metric of an objective, as figures and reports have it; the accuracy for None."""
    return objective.name if isinstance(objective, RecallOf) else objective or DEFAULT


def name_in_config(config: Mapping[str, Any]) -> str | None:
    """Name of the metric of the objective in a stored config, which may come from others; None without a valid one."""
    try:
        objective = as_objective(config.get("objective"))
    except (ConfigError, TypeError):
        return None
    return None if objective is None else objective_name(objective)


def check_objective(objective: Objective | None, classes: Sequence[str], *, multilabel: bool) -> None:
    """Check that an objective is defined for the data.

    Args:
        objective: the objective; None is always defined.
        classes: names of the classes.
        multilabel: whether a row may have several classes.

    Raises:
        ConfigError: the data has no such class, or the objective is one of rows with several classes.
    """
    if objective == "micro_f1" and not multilabel:
        raise ConfigError(
            "objective: micro_f1 is for rows with several classes; with one class a row it equals the accuracy: write "
            "accuracy, or macro_f1 if rare classes count as much"
        )
    if isinstance(objective, RecallOf) and objective.recall_of not in classes:
        hint = did_you_mean(objective.recall_of, classes)
        some = ", ".join(printable(name, 40) for name in classes[:12]) + (", ..." if len(classes) > 12 else "")
        raise ConfigError(
            f"objective: recall_of: there is no class {printable(objective.recall_of)!r}{hint}; classes are {some}"
        )
