"""Validation of strategies, learners and other arguments, before any work is done."""

from collections.abc import Sequence
from typing import Any

import torch

from dal.data.rows import Rows
from dal.errors import AnswerError, ConfigError, NeedError, SessionError, one_line
from dal.functional.checking import as_integer
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
        other = "Margin" if "probs" in provided else "Random"
        raise NeedError(
            f"{name} needs {listing(missing)}, which {model} does not provide; it provides {listing(provided)}: use "
            f"another strategy, such as {other} (--strategy {other}), or another learner"
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


def whole_number(value: Any, name: str) -> int:
    """Convert an option to int, or raise `ConfigError`."""
    number = as_integer(value)
    if number is None:
        raise ConfigError(f"{name} must be a whole number, got {value!r}")
    return number


def batch_size(n: Any) -> int:
    """Convert a batch size to int, or raise `SessionError`."""
    size = as_integer(n)
    if size is None:
        raise SessionError(f"ask for a whole number of rows, not {n!r}")
    if size < 1:
        raise SessionError(f"ask for at least 1 row, not {n}")
    return size


def pool_rows(rows: Any, size: int, *, inside: bool = True) -> list[int]:
    """Convert a tensor, array, list or integer to a list of row indices.

    Args:
        rows: rows of a pool.
        size: number of rows of the pool.
        inside: require rows of the pool.

    Raises:
        AnswerError: a value is not an integer, or (with `inside`) is outside the pool.
    """
    try:
        given = torch.as_tensor(rows).flatten()
    except (TypeError, ValueError, RuntimeError, OverflowError) as error:
        raise AnswerError(f"rows are whole numbers, one or several: {one_line(error)}") from error
    if not len(given):
        return []
    if given.dtype == torch.bool or given.is_floating_point() or given.is_complex():
        hint = ": give mask.nonzero().flatten()" if given.dtype == torch.bool else ""
        raise AnswerError(f"rows are whole numbers, the places of rows in the pool, not {given.dtype}{hint}")
    numbers: list[int] = given.tolist()
    outside = [row for row in numbers if not 0 <= row < size] if inside else []
    if outside:
        raise AnswerError(f"row {outside[0]} is outside the pool of {size}")
    return numbers


def loaded(data: Any) -> Any:
    """The parts of a data set: a `dal.data.Splits`, or the one returned by the `load()` of a `TextData`.

    Raises:
        ConfigError: `data` is neither, or a part of it is not `Rows`.
    """
    wanted = "data must be a TextData or a Splits, such as Splits(pool=Rows.from_inputs(texts, classes=names))"
    if isinstance(data, type):
        raise ConfigError(f"{wanted}, got the class {data.__name__}")
    splits = data.load() if hasattr(data, "load") else data
    if not isinstance(getattr(splits, "pool", None), Rows):
        what = "; wrap it: Splits(pool=rows)" if isinstance(splits, Rows) else ""
        raise ConfigError(f"{wanted}, got {type(data).__name__}{what}")
    for part in ("test", "validation"):
        if not isinstance(getattr(splits, part, None), Rows | None):
            raise ConfigError(f"the {part} part of the data must be Rows, got {type(getattr(splits, part)).__name__}")
    return splits
