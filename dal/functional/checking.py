"""Argument validation for kernels and constructors: sizes, numbers in range, and options. Imports no torch."""

import math
import operator
import os
from collections.abc import Iterable
from typing import Any

from dal.errors import ConfigError
from dal.errors import shown as shown

#: Range of divisors such as bandwidths and temperatures that cause neither overflow nor underflow in float32.
MIN_SCALE, MAX_SCALE = 1e-16, 1e16


def whole(
    value: Any,
    name: str,
    least: int | None = None,
    most: int | None = None,
    *,
    description: str = "",
    error: type[Exception] = ValueError,
) -> int:
    """Validate an integer within bounds and return it as an int.

    Args:
        value: int or integer of another library; bools and floats are refused, even integral ones.
        name: name of the parameter in the error message.
        least: inclusive lower bound; `None` for none.
        most: inclusive upper bound; `None` for none.
        description: description of the bounds that replaces the default one.
        error: exception type to raise.

    >>> whole(3, "k", 1)
    3
    """
    given = as_integer(value)
    if given is None or (least is not None and given < least) or (most is not None and given > most):
        kind = "a whole number" if given is None else ""
        words = ", ".join(filter(None, (kind, description or _range(least, most)))) or "a whole number"
        raise error(f"{name} must be {words}, not {shown(value)}")
    return given


def as_integer(value: Any) -> int | None:
    """Convert an integer type to int; `None` for bools and other types."""
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
    description: str = "",
    error: type[Exception] = ValueError,
) -> float:
    """Validate a real number within bounds and return it as a float.

    Args:
        value: int, float or number of another library; bools and NaN are refused.
        name: name of the parameter in the error message.
        least: inclusive lower bound; `None` for none.
        most: inclusive upper bound; `None` for none.
        above: exclusive lower bound; `None` for none.
        below: exclusive upper bound; `None` for none.
        infinite: whether infinity is allowed, within the bounds.
        description: description of the bounds that replaces the default one.
        error: exception type to raise.

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
        words = description or " and ".join(filter(None, (_range(least, most, above, below), open_)))
        raise error(f"{name} must be {', '.join(filter(None, (kind, words)))}, not {shown(value)}")
    return known


def as_number(value: Any) -> float | None:
    """Convert a number to float, possibly NaN; `None` for bools, strings and other types."""
    try:
        return None if isinstance(value, bool | str | bytes) else float(value)
    except (TypeError, ValueError, OverflowError, RuntimeError):
        return None


def chosen(n: Any, rows: int, what: str = "points", name: str = "n") -> int:
    """Validate the number of rows to select from `rows` rows, from 1 to `rows`, and return it.

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
    """Description of a range, such as "from 1 to 5"; empty without bounds."""
    if least is not None and most is not None:
        return f"from {least} to {most}"
    if above is not None and below is not None:
        return f"between {above} and {below}, both excluded"
    low = f"{least} or more" if least is not None else f"above {above}" if above is not None else ""
    high = f"at most {most}" if most is not None else f"below {below}" if below is not None else ""
    return " and ".join(filter(None, (low, high)))


def model_name(model: Any, *, error: type[Exception] = ValueError) -> None:
    """Check that a model name is a non-empty printable string or a path, before it is looked up."""
    if not isinstance(model, str | os.PathLike) or not str(model).strip():
        raise error(f"model must be a hub name, a folder or package:NAME/FOLDER, not {shown(model)}")
    if not str(model).isprintable():
        raise error(f"model holds characters that no name has: {shown(str(model))}")


class Options:
    """Validator for the options of an object, for use in `__post_init__`. Methods raise `ConfigError`.

    With `optional`, a method accepts `None`. Methods return the validator, so that calls can be chained.

    Args:
        owner: object whose attributes are checked.
        named: name of the object in errors; its class name by default, and no name if empty.
    """

    def __init__(self, owner: Any, named: str | None = None) -> None:
        self._owner = owner
        self._of = type(owner).__name__ if named is None else named

    def _given(self, names: Any, optional: bool) -> Any:  # `Any`: beartype would draw from Python's random generator
        for name in names:
            value = getattr(self._owner, name)
            if not (optional and value is None):
                yield f"{name} of {self._of}" if self._of else name, value

    def whole(
        self,
        *names: str,
        least: int | None = None,
        most: int | None = None,
        optional: bool = False,
        description: str = "",
    ) -> "Options":
        """Require whole numbers within the bounds."""
        bounds = _range(least, most)
        words = description or (f"{bounds} or null" if optional and bounds else bounds)
        for name, value in self._given(names, optional):
            whole(value, name, least, most, description=words, error=ConfigError)
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
        description: str = "",
    ) -> "Options":
        """Require numbers within the bounds."""
        for name, value in self._given(names, optional):
            number(
                value,
                name,
                least,
                most,
                above=above,
                below=below,
                infinite=infinite,
                description=description,
                error=ConfigError,
            )
        return self

    def one_of(self, name: str, allowed: Iterable[Any]) -> "Options":
        """Require one of the allowed values, with the same type."""
        for named, value in self._given((name,), False):
            possible = list(allowed)
            if not any(type(value) is type(each) and value == each for each in possible):
                words = " or ".join("null" if each is None else repr(each) for each in possible)
                raise ConfigError(f"{named} must be {words}, not {shown(value)}")
        return self

    def text(self, *names: str) -> "Options":
        """Require non-empty strings."""
        for name, value in self._given(names, False):
            if not isinstance(value, str) or not value:
                raise ConfigError(f"{name} must be a name, not {shown(value)}")
        return self

    def vectors(self, *names: str) -> "Options":
        """Require names of outputs that are plain vectors, which excludes `grads`, stored as factors."""
        self.text(*names)
        for name, value in self._given(names, False):
            if value == "grads":
                raise ConfigError(f"{name} must be plain vectors, such as embeddings or features, not grads")
        return self

    def flag(self, *names: str) -> "Options":
        """Require bools."""
        for name, value in self._given(names, False):
            if not isinstance(value, bool):
                raise ConfigError(f"{name} must be true or false, not {shown(value)}")
        return self
