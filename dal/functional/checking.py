"""What every kernel and every constructor refuses: sizes and numbers out of their range, tensors without a meaning.

One rule for tensors: integers, bools and half precision become float32. A tensor that requires grad is read, and no
gradient is recorded. Complex numbers, another number of dimensions, no columns, and values that are NaN or infinite are
refused; the latter by the numbers of their rows.
"""

import math
import operator
import os
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from dal.errors import ConfigError, SelectionError
from dal.errors import shown as shown

#: The range of bandwidths, temperatures and the like by which float32 can be divided without overflow or zeros.
LEAST_SCALE, MOST_SCALE = 1e-16, 1e16

#: Rows that an error names at most.
_NAMED = 5


class NotFiniteError(SelectionError, ValueError):
    """Values that are NaN or infinite, of which nothing can be computed or chosen. Names the rows."""


def whole(
    value: Any,
    name: str,
    least: int | None = None,
    most: int | None = None,
    *,
    said: str = "",
    error: type[Exception] = ValueError,
) -> int:
    """The value as an int, once it is sure that it is a whole number within the bounds.

    Args:
        value: an int, or a whole number of another library; no bool and no float, whatever its value.
        name: of the parameter, as the error shows it.
        least: the lower bound; None for none.
        most: the upper bound; None for none.
        said: the bounds in other words.
        error: what is raised.

    >>> whole(3, "k", 1)
    3
    """
    given = as_whole(value)
    if given is None or (least is not None and given < least) or (most is not None and given > most):
        kind = "a whole number" if given is None else ""
        words = ", ".join(filter(None, (kind, said or _range(least, most)))) or "a whole number"
        raise error(f"{name} must be {words}, not {shown(value)}")
    return given


def as_whole(value: Any) -> int | None:
    """The value as an int; None where it is a bool or no whole number by its type."""
    try:
        return None if isinstance(value, bool) else operator.index(value)
    except TypeError:
        return None


def number(
    value: Any,
    name: str,
    least: int | float | None = None,
    most: int | float | None = None,
    *,
    above: int | float | None = None,
    below: int | float | None = None,
    infinite: bool = False,
    said: str = "",
    error: type[Exception] = ValueError,
) -> float:
    """The value as a float, once it is sure that it is a real number within the bounds.

    Args:
        value: an int, a float or a number of another library; neither a bool nor NaN.
        name: of the parameter, as the error shows it.
        least: the lower bound, itself allowed; None for none.
        most: the upper bound, itself allowed; None for none.
        above: the lower bound, itself excluded; None for none.
        below: the upper bound, itself excluded; None for none.
        infinite: whether infinity is allowed, within the bounds.
        said: the bounds in other words.
        error: what is raised.

    >>> number(1, "sigma", above=0)
    1.0
    """
    given = as_number(value)
    known = math.nan if given is None else given
    inside = (
        (least is None or known >= least)
        and (most is None or known <= most)
        and (above is None or known > above)
        and (below is None or known < below)
    )
    if given is None or math.isnan(known) or (math.isinf(known) and not infinite) or not inside:
        kind = "a number" if given is None else ""
        open_ = "" if infinite or most is not None or below is not None else "finite"
        words = said or " and ".join(filter(None, (_range(least, most, above, below), open_)))
        raise error(f"{name} must be {', '.join(filter(None, (kind, words)))}, not {shown(value)}")
    return known


def as_number(value: Any) -> float | None:
    """The value as a float, which may be NaN; None where it is a bool, a text or no number."""
    try:
        return None if isinstance(value, bool | str | bytes) else float(value)
    except (TypeError, ValueError, OverflowError, RuntimeError):
        return None


def chosen(n: Any, rows: int, what: str = "points", name: str = "n") -> int:
    """How many of so many rows are to be chosen, once it is sure that there are as many.

    >>> chosen(2, 3)
    2
    """
    given = whole(n, name)
    if not 1 <= given <= rows:
        possible = f"{name} must be from 1 to {rows}" if rows else f"there are no {what}"
        raise ValueError(f"{given} of {rows} {what} were asked for: {possible}")
    return given


def _range(
    least: int | float | None,
    most: int | float | None,
    above: int | float | None = None,
    below: int | float | None = None,
) -> str:
    """The words for a range, such as "from 1 to 5"; empty for none."""
    if least is not None and most is not None:
        return f"from {least} to {most}"
    if above is not None and below is not None:
        return f"between {above} and {below}, both excluded"
    low = f"{least} or more" if least is not None else f"above {above}" if above is not None else ""
    high = f"at most {most}" if most is not None else f"below {below}" if below is not None else ""
    return " and ".join(filter(None, (low, high)))


def model_name(model: Any, *, error: type[Exception] = ValueError) -> None:
    """Make sure that a model is named by some printable text or a path, before anything is looked for."""
    if not isinstance(model, str | os.PathLike) or not str(model).strip():
        raise error(f"model must be a hub name, a folder or package:NAME/FOLDER, not {shown(model)}")
    if not str(model).isprintable():
        raise error(f"model holds characters that no name has: {shown(str(model))}")


class Options:
    """Checks the options of an object when it is made, so that nothing is begun with one that has no meaning.

    Args:
        owner: whose attributes they are.
        named: what errors call it; its class where not given, and nothing where empty.

    Every method raises a `ConfigError`. `optional` allows None.
    """

    def __init__(self, owner: Any, named: str | None = None) -> None:
        self._owner = owner
        self._of = type(owner).__name__ if named is None else named

    def _given(self, names: Any, optional: bool) -> Any:  # unchecked: beartype draws an item from Python's generator
        for name in names:
            value = getattr(self._owner, name)
            if not (optional and value is None):
                yield self._named(name), value

    def _named(self, option: str) -> str:
        return f"{option} of {self._of}" if self._of else option

    def whole(
        self, *names: str, least: int | None = None, most: int | None = None, optional: bool = False, said: str = ""
    ) -> "Options":
        """They are whole numbers within the bounds."""
        for name, value in self._given(names, optional):
            whole(value, name, least, most, said=said or _or_null(_range(least, most), optional), error=ConfigError)
        return self

    def number(
        self,
        *names: str,
        least: int | float | None = None,
        most: int | float | None = None,
        above: int | float | None = None,
        below: int | float | None = None,
        infinite: bool = False,
        optional: bool = False,
        said: str = "",
    ) -> "Options":
        """They are numbers within the bounds."""
        for name, value in self._given(names, optional):
            number(
                value,
                name,
                least,
                most,
                above=above,
                below=below,
                infinite=infinite,
                said=said,
                error=ConfigError,
            )
        return self

    def one_of(self, name: str, allowed: Iterable[Any]) -> "Options":
        """It is one of some values."""
        for named, value in self._given((name,), False):
            possible = list(allowed)
            if not any(type(value) is type(each) and value == each for each in possible):
                words = " or ".join("null" if each is None else repr(each) for each in possible)
                raise ConfigError(f"{named} must be {words}, not {shown(value)}")
        return self

    def text(self, *names: str) -> "Options":
        """They are texts, and not empty."""
        for name, value in self._given(names, False):
            if not isinstance(value, str) or not value:
                raise ConfigError(f"{name} must be a name, not {shown(value)}")
        return self

    def vectors(self, *names: str) -> "Options":
        """They name outputs that are plain vectors, which the factors of gradients are not."""
        self.text(*names)
        for name, value in self._given(names, False):
            if value == "grads":
                raise ConfigError(f"{name} must be plain vectors, such as embeddings or features, not grads")
        return self

    def flag(self, *names: str) -> "Options":
        """They are true or false."""
        for name, value in self._given(names, False):
            if not isinstance(value, bool):
                raise ConfigError(f"{name} must be true or false, not {shown(value)}")
        return self


def _or_null(words: str, optional: bool) -> str:
    return f"{words} or null" if optional and words else words


# Tensors


def floats(x: Any, name: str, dimensions: int | None = None, *, columns: bool = True) -> Tensor:
    """The tensor in float32 or float64, without a history, once it is sure that it holds real numbers.

    Args:
        x: as it was given.
        name: of the parameter.
        dimensions: how many it must have; None: any.
        columns: whether all dimensions but the first must have a length.

    Raises:
        ValueError: it is no dense tensor of real numbers, or has another shape.

    >>> floats(torch.tensor([1, 2]), "scores", 1)
    tensor([1., 2.])
    """
    given = dense(x, name, dimensions)
    if columns and 0 in given.shape[1:]:
        raise ValueError(f"{name} must have columns, but its shape is {tuple(given.shape)}")
    return given if given.dtype in (torch.float32, torch.float64) else given.float()


def dense(x: Any, name: str, dimensions: int | None = None) -> Tensor:
    """The tensor as it is, without a history, once it is sure that it is dense and real (ValueError)."""
    if not isinstance(x, Tensor):
        raise ValueError(f"{name} must be a tensor, not {type(x).__name__}")
    if x.is_complex() or x.layout is not torch.strided or x.is_quantized:
        raise ValueError(f"{name} must be a dense tensor of real numbers, not {x.dtype} in layout {x.layout}")
    if dimensions is not None and x.dim() != dimensions:
        raise ValueError(f"{name} must have {dimensions} dimensions, but its shape is {tuple(x.shape)}")
    return x.detach() if x.requires_grad else x


def integers(x: Any, name: str, low: int = 0, high: int | None = None, dimensions: int = 1) -> Tensor:
    """The tensor as int64, once it is sure that all its numbers are whole and from `low` to below `high` (ValueError).

    >>> integers(torch.tensor([0, 2]), "labels", 0, 3)
    tensor([0, 2])
    """
    given = dense(x, name, dimensions)
    if given.is_floating_point() or given.dtype == torch.bool:
        raise ValueError(f"{name} must be whole numbers, not {given.dtype}")
    whole_numbers = given.long()
    if not given.numel():
        return whole_numbers
    lowest, highest = torch.stack(whole_numbers.aminmax()).tolist()
    if lowest < low or (high is not None and highest >= high):
        limit = f"at least {low}" if high is None else f"from {low} to {high - 1}"
        raise ValueError(f"{name} must be {limit}, but range from {lowest} to {highest}")
    return whole_numbers


def aligned(**tensors: Any) -> None:
    """Make sure that tensors have as many rows each (ValueError)."""
    rows = {name: len(tensor) for name, tensor in tensors.items()}
    if len(set(rows.values())) > 1:
        listed_rows = ", ".join(f"{name} {count}" for name, count in rows.items())
        raise ValueError(f"{' and '.join(rows)} must have as many rows as each other, but have: {listed_rows}")


def finite(x: Tensor, name: str) -> Tensor:
    """The tensor itself, once it is sure that all its values are finite (ValueError)."""
    if not bool(torch.isfinite(x.sum())):
        refuse_rows(x, name)
    return x


def not_negative(x: Any, name: str, dimensions: int = 1) -> Tensor:
    """The tensor as `floats`, once it is sure that all its values are finite and none is negative (ValueError)."""
    given = floats(x, name, dimensions)
    wrong = ~(torch.isfinite(given) & (given >= 0))
    if bool(wrong.any()):
        rows = (wrong.flatten(1).any(1) if wrong.dim() > 1 else wrong).nonzero().flatten().tolist()
        raise ValueError(f"{name} must be finite and not negative; {len(rows)} rows are not: {listed(rows)}")
    return given


def refuse_rows(x: Tensor, name: str) -> None:
    """Raise a `ValueError` that names the rows which hold NaN or infinite values, where there are any."""
    bad = ~torch.isfinite(x)
    rows = (bad.flatten(1).any(1) if bad.dim() > 1 else bad).nonzero().flatten().tolist()
    if rows:
        raise NotFiniteError(f"{name} must be finite; {len(rows)} rows are not: {listed(rows)}")


def listed(rows: list) -> str:
    """The first of some rows for a message.

    >>> listed([1, 2, 3, 4, 5, 6])
    '1, 2, 3, 4, 5, ...'
    """
    return ", ".join(map(str, rows[:_NAMED])) + (", ..." if len(rows) > _NAMED else "")
