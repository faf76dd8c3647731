"""Validation of strategies, learners and other arguments, before any work is done."""

from collections.abc import Sequence
from typing import Any

from dal.errors import ConfigError, NeedError
from dal.learner import Learner
from dal.outputs import closure, listing
from dal.strategy import Strategy, all_needs, name_of


def check_needs(strategy: Strategy, learner: Learner, *, multilabel: bool = False) -> None:
    """Check that the learner provides all outputs that the strategy reads, before any training.

    Raises:
        NeedError: outputs are missing, or the strategy does not support multi-label data.
    """
    name, model = name_of(strategy), type(learner).__name__
    if multilabel and not strategy.multilabel:
        raise NeedError(f"{name} is not defined for multi-label outputs; `dal list` shows which strategies are")
    provided = closure(learner.provides)
    missing = all_needs(strategy) - provided
    if missing:
        raise NeedError(
            f"{name} needs {listing(missing)}, which {model} does not provide; it provides {listing(provided)}"
        )


def require_classes(classes: Sequence[str]) -> None:
    """Raise `ConfigError` for data without classes: no labels to derive them from, and none given."""
    if not classes:
        raise ConfigError("the data names no classes: give `classes`, the names that answers may have")


def require_kind(value: Any, kind: Any, name: str, example: str) -> None:
    """Check the type of an argument.

    Args:
        value: the argument.
        kind: required class, or a union of classes.
        name: name of the argument, for the message.
        example: valid value, for the message.

    Raises:
        ConfigError: `value` is not an instance of `kind`.
    """
    if isinstance(value, kind):
        return
    got = type(value).__name__
    if isinstance(value, type):
        got = f"the class {value.__name__}" + (f": give {value.__name__}()" if issubclass(value, kind) else "")
    wanted = " or ".join(each.__name__ for each in getattr(kind, "__args__", (kind,)))
    raise ConfigError(f"{name} must be {wanted}, such as {example}, got {got}")


def is_whole(value: Any) -> bool:
    """Whether a value is an int, bool excluded."""
    return isinstance(value, int) and not isinstance(value, bool)


def reads_trained(strategy: Strategy, learner: Learner) -> bool:
    """Whether the strategy reads outputs that only a trained model provides."""
    return not all_needs(strategy) <= closure(learner.label_free)
