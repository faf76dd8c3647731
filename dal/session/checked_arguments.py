"""Whether strategies, learners and other arguments fit each other, checked before any work."""

from collections.abc import Sequence
from typing import Any

from dal.errors import ConfigError, NeedError
from dal.learner import Learner
from dal.outputs import closure, listing
from dal.strategy import Strategy, all_needs, name_of


def check_needs(strategy: Strategy, learner: Learner, *, multilabel: bool = False) -> None:
    """Make sure that the learner provides what the strategy reads, before an hour of training is spent.

    Raises:
        NeedError: it does not, or the strategy is not right for multi-label outputs.
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
    """Raises `ConfigError` for data without classes: no label is there to take them from, and none are given."""
    if not classes:
        raise ConfigError("the data names no classes: give `classes`, the names that answers may have")


def require_kind(value: Any, kind: Any, name: str, example: str) -> None:
    """Make sure that an argument is of its kind.

    Args:
        value: what was given.
        kind: the class that it must be an instance of, or a union of some.
        name: of the argument.
        example: of what would do.

    Raises:
        ConfigError: it is something else.
    """
    if isinstance(value, kind):
        return
    got = type(value).__name__
    if isinstance(value, type):
        got = f"the class {value.__name__}" + (f": give {value.__name__}()" if issubclass(value, kind) else "")
    wanted = " or ".join(each.__name__ for each in getattr(kind, "__args__", (kind,)))
    raise ConfigError(f"{name} must be {wanted}, such as {example}, got {got}")


def is_whole(value: Any) -> bool:
    """Whether a value is a whole number, which True is not."""
    return isinstance(value, int) and not isinstance(value, bool)


def reads_trained(strategy: Strategy, learner: Learner) -> bool:
    """Whether the strategy reads something that only a trained model offers."""
    return not all_needs(strategy) <= closure(learner.label_free)
