"""Decoding of annotations to class names; all invalid ones are reported in a single error."""

import math
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dal.data.columns import labels_in_rows
from dal.data.label_values import ClassIndex, UnknownValueError, array_of, listing
from dal.data.label_values import shown as written
from dal.errors import AnswerError, DataError, did_you_mean, shortened
from dal.store.events import Skip, Value

#: Accepted forms of a single annotation.
Given = str | int | Skip | Sequence[str | int] | Tensor

_LISTED = 20  # mistakes or classes shown in one error
_HINTS = 1_000  # unknown names for which the nearest class is searched
_UNSTORED = " (no answer of this call was stored)"


class AnswerDecoder:
    """Decodes annotations to the class names of a data set.

    Example:
        >>> AnswerDecoder(["cat", "dog"], multilabel=False).read(1)
        'dog'
        >>> AnswerDecoder(["cat", "dog"], multilabel=True).read(["dog", 0])
        ('cat', 'dog')
    """

    def __init__(self, names: Sequence[str], multilabel: bool) -> None:
        self.names = tuple(names)
        self.multilabel = multilabel
        self._index = ClassIndex(self.names)
        self._code = self._index.by_name
        self._hints: dict[str, str] = {}  # unknown name -> hint, cached: the search over many classes is slow

    @property
    def blank(self) -> Tensor:
        """Code of an unlabeled row: -1, or (C,) False when multi-label."""
        return torch.zeros(len(self.names), dtype=torch.bool) if self.multilabel else torch.tensor(-1)

    def unknown(self, names: Iterable[str]) -> list[str]:
        """The names that are not classes, sorted."""
        return sorted(name for name in set(names) if name not in self._code)

    def codes(self, values: Sequence[Value | Skip]) -> Tensor:
        """Codes of stored answers: (n,) int64, -1 for `SKIP`; (n, C) bool when multi-label, all False for `SKIP`."""
        if not self.multilabel:
            # Each distinct value is looked up once: stores hold many answers of few classes.
            code = {value: -1 if isinstance(value, Skip) else self._code[str(value)] for value in set(values)}
            return torch.tensor([code[value] for value in values], dtype=torch.int64)
        coded = torch.zeros(len(values), len(self.names), dtype=torch.bool)
        held = [(i, name) for i, value in enumerate(values) if not isinstance(value, Skip) for name in value]
        if held:
            coded[tuple(torch.tensor([(i, self._code[name]) for i, name in held]).T)] = True
        return coded

    def read(self, given: Any, *, hint: bool = True) -> Value | Skip:
        """Decode one annotation to a class name; to a tuple of names, in class order, when multi-label.

        As in data files, a number is an index, or a class name if the class names are numbers.

        Args:
            given: class name, index or `SKIP`; a collection of names or indices when multi-label.
            hint: name the nearest class, or all classes, in the error.

        Raises:
            ValueError: the annotation is not a class, or is ambiguous; the message gives the reason.
        """
        if isinstance(given, Skip):
            return given
        try:
            if self.multilabel:
                return tuple(self.names[code] for code in self._index.codes(given))
            return self.names[self._index.code(given)]
        except UnknownValueError as error:
            raise ValueError(self._unknown(error.args[0]) if hint else "no class") from None

    def _unknown(self, value: Any) -> str:
        """The error message for a value that is not a class."""
        if isinstance(value, str):
            if value not in self._hints and len(self._hints) < _HINTS:
                near = did_you_mean(value, self.names).removeprefix("; ")
                self._hints[value] = near or f"classes are {listing(self.names, _LISTED)}"
            return f"{written(value)} is not a class" + (f"; {self._hints[value]}" if value in self._hints else "")
        if isinstance(value, int) and not isinstance(value, bool):
            if self._index.numbered:
                return f"{written(value)} is not a class; numbers are class names here: {listing(self.names, _LISTED)}"
            return f"{written(value)} is not a class index: there are {len(self.names)} classes"
        return f"{written(value)} is not a class name or index"

    def read_all(self, given: Sequence[Any], ids: Sequence[str]) -> list[Value]:
        """Decode the annotations of rows to class names.

        Raises:
            AnswerError: lists the values that are not classes.
        """
        names: list[Value] = []
        mistakes = Mistakes()
        for item, row in zip(given, ids, strict=True):
            try:
                value = self.read(item, hint=mistakes.listed)
            except ValueError as error:
                mistakes.add("row {}: {}", row, error)
                continue
            if isinstance(value, Skip):
                mistakes.add("row {}: a proposal names a class", row)
            else:
                names.append(value)
        mistakes.refuse()
        return names


def by_index(value: Any, names: Sequence[str]) -> Any:
    """Replace a class index by its name, and a list of indices by a list of names; return anything else unchanged.

    For annotations that are indices by contract, even where class names are numbers.

    Example:
        >>> by_index(0, ["5", "7"]), by_index([1], ["5", "7"]), by_index("5", ["5", "7"])
        ('5', ['7'], '5')
    """
    if isinstance(value, list | tuple):
        return [by_index(item, names) for item in value]
    if isinstance(value, Tensor | np.generic) and value.ndim == 0:
        value = value.item()
    within = isinstance(value, int) and not isinstance(value, bool) and 0 <= value < len(names)
    return names[value] if within else value


def one_per_row(values: Any, rows: int) -> list[Given]:
    """Convert the values to a list with one item per row; a scalar is accepted for a single row.

    Raises:
        AnswerError: the number of values is not `rows`, or they are unordered.
    """
    single = isinstance(values, str | bytes | Skip | int | float) or getattr(values, "ndim", 1) == 0
    if single:
        given = [values]
    else:
        try:
            given = _each(labels_in_rows(values, "values"))
        except (DataError, ValueError) as error:
            raise AnswerError(f"{error}{_UNSTORED}") from None
    if len(given) != rows:
        raise AnswerError(f"{rows} rows but {len(given)} values{_UNSTORED}")
    return given


def _each(values: Any) -> list[Any]:
    """The items as a list; an (n, C) array of zeros and ones becomes rows of bools, as in data files."""
    if isinstance(values, Tensor):
        values = array_of(values)
    vectors = isinstance(values, np.ndarray) and values.ndim == 2 and values.dtype.kind in "iuf"
    if vectors and bool(((values == 0) | (values == 1)).all()):
        values = values.astype(np.bool_)
    return list(values)


def spread(value: Any, rows: int, name: str) -> list[float | None]:
    """Broadcast a number, or one number per row, to a list of `rows` finite floats or None.

    Raises:
        AnswerError: the number of values is not `rows`, or a value is not a finite number.
    """
    if not isinstance(value, Iterable) or getattr(value, "ndim", 1) == 0:
        each = [value] * rows
    else:
        each = value.tolist() if isinstance(value, Tensor | np.ndarray) else list(value)
    if len(each) != rows:
        raise AnswerError(f"{rows} rows but {len(each)} {name}{_UNSTORED}")
    try:
        numbers = [None if number is None else float(number) for number in each]
    except (TypeError, ValueError, OverflowError) as error:
        raise AnswerError(f"{name} are numbers: {error}{_UNSTORED}") from None
    wrong = [number for number in numbers if number is not None and not math.isfinite(number)]
    if wrong:
        raise AnswerError(f"{name} are finite numbers, not {wrong[0]}{_UNSTORED}")
    return numbers


def shown(value: Value | Skip) -> str:
    """An annotation as shown in messages."""
    if isinstance(value, Skip):
        return "SKIP"
    return shortened(repr(value if isinstance(value, str) else list(value)), 200)


class Mistakes:
    """Collects mistakes in annotations: the text of the first 20 and the total number.

    Attributes:
        count: total number of mistakes.
    """

    def __init__(self) -> None:
        self.count = 0
        self._shown: list[str] = []

    @property
    def listed(self) -> bool:
        """Whether the text of the next mistake will be kept."""
        return self.count < _LISTED

    def add(self, text: str, *parts: str | int | Value | Skip | Exception) -> None:
        """Count a mistake; format and keep its text while fewer than 20 are listed."""
        if self.listed:
            self._shown.append(
                text.format(*(each if isinstance(each, int | Exception) else shown(each) for each in parts))
            )
        self.count += 1

    def refuse(self) -> None:
        """Raise one `AnswerError` that lists the mistakes, if there are any."""
        if self.count:
            more = f"; and {self.count - len(self._shown)} more" if self.count > len(self._shown) else ""
            raise AnswerError("; ".join(self._shown) + more + _UNSTORED)
