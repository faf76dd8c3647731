"""From what people and programs give as answers to class names, with every mistake listed at once."""

import difflib
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dal.errors import AnswerError
from dal.events import Skip, Value

#: What a single answer may be given as.
Given = str | int | Skip | Sequence[str | int] | Tensor

_LISTED = 20  # mistakes or classes shown in one error
_UNSTORED = " (no answer of this call was stored)"


class Classes:
    """The class names of a data set, and what a given answer means among them.

    Example:
        >>> Classes(["cat", "dog"], multilabel=False).read(1)
        'dog'
        >>> Classes(["cat", "dog"], multilabel=True).read(["dog", 0])
        ('cat', 'dog')
    """

    def __init__(self, names: Sequence[str], multilabel: bool) -> None:
        self.names = tuple(names)
        self.multilabel = multilabel
        self._code = {name: code for code, name in enumerate(self.names)}

    @property
    def blank(self) -> Tensor:
        """The code of a row without a label: -1, or (C,) False when multi-label."""
        return torch.zeros(len(self.names), dtype=torch.bool) if self.multilabel else torch.tensor(-1)

    def unknown(self, names: Iterable[str]) -> list[str]:
        """Those of the names that are no class, sorted."""
        return sorted(set(names) - self._code.keys())

    def code(self, value: Value | Skip) -> Tensor:
        """The code of a stored answer: an index (), or (C,) bool when multi-label."""
        coded = self.blank
        if isinstance(value, str):
            return torch.tensor(self._code[value])
        if not isinstance(value, Skip):
            coded[[self._code[name] for name in value]] = True
        return coded

    def read(self, given: Any) -> Value | Skip:
        """The class name that was given by name or index; a tuple of names, in class order, when multi-label.

        Raises:
            ValueError: it means no class. The message says why, and names the nearest class.
        """
        if isinstance(given, Skip):
            return given
        if isinstance(given, Tensor | np.ndarray):
            given = self._from_array(given)
        if not self.multilabel:
            return self._name(given)
        if isinstance(given, str) or not isinstance(given, Iterable):
            raise ValueError(f"{given!r} is not a list of classes, which multi-label answers are")
        codes = {self._code[self._name(each)] for each in given}
        return tuple(self.names[code] for code in sorted(codes))

    def read_all(self, given: Sequence[Any], ids: Sequence[str]) -> tuple[list[Value], list[str]]:
        """The class names that were given for rows, and every mistake among them."""
        names: list[Value] = []
        mistakes = []
        for item, row in zip(given, ids, strict=True):
            try:
                value = self.read(item)
            except ValueError as error:
                mistakes.append(f"row {row!r}: {error}")
                continue
            if isinstance(value, Skip):
                mistakes.append(f"row {row!r}: a proposal names a class")
            else:
                names.append(value)
        return names, mistakes

    def _from_array(self, given: Any) -> Any:
        array = np.asarray(given)
        if array.dtype != np.dtype(bool):
            return array.tolist()
        if array.shape != (len(self.names),):
            raise ValueError(f"bools of shape {array.shape} for {len(self.names)} classes")
        return array.nonzero()[0].tolist()

    def _name(self, given: Any) -> str:
        if isinstance(given, Tensor | np.generic) and given.ndim == 0:
            given = given.item()
        if isinstance(given, str):
            if given in self._code:
                return given
            near = difflib.get_close_matches(given, self.names, n=1, cutoff=0.5)
            hint = f"did you mean {near[0]!r}?" if near else f"classes are {', '.join(self.names[:_LISTED])}"
            raise ValueError(f"{given!r} is not a class; {hint}")
        if isinstance(given, int) and not isinstance(given, bool):
            if 0 <= given < len(self.names):
                return self.names[given]
            raise ValueError(f"{given} is not a class index: there are {len(self.names)} classes")
        raise ValueError(f"{given!r} is not a class name or index")


def one_per_row(values: Any, rows: int) -> list[Given]:
    """The values as a list of one per row; a single value will do for a single row."""
    given = [values] if rows == 1 and isinstance(values, str | Skip | int) else list(values)
    if len(given) != rows:
        raise AnswerError(f"{rows} rows but {len(given)} values{_UNSTORED}")
    return given


def spread(value: float | Sequence[float | None] | None, rows: int, name: str) -> list[float | None]:
    """One number per row, from one for all or from as many as rows."""
    if value is None or isinstance(value, int | float):
        return [value] * rows
    if len(value) != rows:
        raise AnswerError(f"{rows} rows but {len(value)} {name}{_UNSTORED}")
    return list(value)


def shown(value: Value | Skip) -> str:
    """An answer as messages show it."""
    if isinstance(value, Skip):
        return "SKIP"
    return repr(value) if isinstance(value, str) else repr(list(value))


def refuse(mistakes: Sequence[str]) -> None:
    """Raise one `AnswerError` that lists the mistakes, when there are any."""
    if mistakes:
        more = f"; and {len(mistakes) - _LISTED} more" if len(mistakes) > _LISTED else ""
        raise AnswerError("; ".join(mistakes[:_LISTED]) + more + _UNSTORED)
