"""Interpretation of a single value as a label, the same for files, lists, arrays and annotations."""

import math
import re
from collections.abc import Iterable, Sequence
from decimal import Decimal
from reprlib import Repr
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray
from torch import Tensor

from dal.data.label_names import normalize, whole
from dal.errors import did_you_mean, one_line, printable
from dal.store.bounded_json import parse_json

_ITEM = re.compile(r"\s*(?:'([^'\\]*)'|\"([^\"\\]*)\"|(-?[0-9]+(?:\.[0-9]*)?))\s*(,|\Z)")
_SURROGATE = re.compile("[\ud800-\udfff]")
_BRACKETS = {"[": "]", "(": ")", "{": "}"}
#: Usual separators of several labels in a cell.
SEPARATORS = (",", ";", "|", "\t")


class UnknownValueError(ValueError):
    """The value is not a class; raised with the value as its only argument."""


# -- for messages ------------------------------------------------------------------------------------------------------

_repr = Repr()
_repr.maxstring = _repr.maxother = _repr.maxlong = 80
_repr.maxlevel = 3


def shown(value: Any) -> str:
    """Format a value for a message: its `repr`, limited in length and depth."""
    try:
        return " ".join(_repr.repr(value).split())
    except ValueError:  # a number of more digits than Python prints
        return f"a {type(value).__name__} of too many digits"


def reason(error: BaseException) -> str:
    """The message of an exception as one printable line."""
    return printable(one_line(error), 300)


def listing(names: Sequence[str], most: int = 20) -> str:
    """Format the first `most` names for a message."""
    more = f", and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(printable(name) for name in names[:most]) + more or "nothing"


def not_a_class_message(value: Any, classes: Sequence[str]) -> str:
    """The message for a value that is not a class, with the nearest class."""
    near = did_you_mean(value, classes) if isinstance(value, str) else ""
    return f"the label {shown(value)} is not one of the classes {listing(classes)}{near}"


# -- texts -------------------------------------------------------------------------------------------------------------


def encodable(text: str) -> bool:
    """Whether a text can be encoded as UTF-8: it has no lone surrogates."""
    return text.isascii() or not _SURROGATE.search(text)


def first_not_encodable(texts: Iterable[Any]) -> int | None:
    """Index of the first string that cannot be encoded as UTF-8; None if there is none. Other types are ignored."""
    return next((index for index, text in enumerate(texts) if isinstance(text, str) and not encodable(text)), None)


#: Message about a text that is not `encodable`.
NOT_ENCODABLE = "holds half of a surrogate pair, which cannot be written as UTF-8: mend what read or wrote it"


def index_of(number: str, count: int) -> int | None:
    """Convert an integer given as text to an index from -1 to `count` - 1; None if it is out of range."""
    index = int(number) if len(number) < 19 else count
    return index if -1 <= index < count else None


def in_order(numbers: Iterable[str]) -> tuple[str, ...]:
    """Distinct integers given as texts of any length, in ascending order."""
    return tuple(sorted(set(numbers), key=Decimal))


def is_missing(value: Any) -> bool:
    """Whether a value is missing: None, NaN, or a missing-value marker of pandas."""
    if value is None or (isinstance(value, float) and value != value):
        return True
    return type(value).__name__ in ("NAType", "NaTType") and type(value).__module__.startswith("pandas")


def text_of(value: Any) -> Any:
    """Convert a label to text.

    Returns:
        None for a missing value; a string for a name, number or bool; for several labels a list of strings, or a list
        of bools, one per class.

    Raises:
        TypeError: the value is not a label.
    """
    value = _plain(value)
    text = _scalar(value)
    if text is not None or is_missing(value):
        return text
    if isinstance(value, Iterable) and not isinstance(value, dict | bytes | bytearray | memoryview):
        items = [_plain(item) for item in value]
        if items and all(isinstance(item, bool) for item in items):
            return items
        if any(isinstance(item, bool) for item in items):
            raise TypeError(f"{shown(value)} mixes true and false with other labels")
        texts = [_scalar(item) for item in items]
        if all(isinstance(text, str) for text in texts):
            return texts
    raise TypeError(f"{shown(value)} is not a label: expected a class name, a whole number, or a list of those")


def array_of(tensor: Tensor) -> NDArray[Any]:
    """Convert a dense or sparse tensor to an array; bfloat16, which NumPy lacks, becomes float32.

    Raises:
        ValueError: the tensor is on the device "meta", which holds no values.
    """
    if tensor.is_meta:
        raise ValueError("a tensor on the device 'meta' holds no values")
    dense = (tensor if tensor.layout == torch.strided else tensor.to_dense()).detach().cpu()
    array: NDArray[Any] = (dense.float() if dense.dtype == torch.bfloat16 else dense).numpy()
    return array


def _plain(value: Any) -> Any:
    """Convert a scalar of an array library to a Python scalar; float32 by its shortest decimal form."""
    if isinstance(value, pa.Scalar):
        single = value.is_valid and pa.types.is_float32(value.type)
        value = np.float32(value.as_py()) if single else value.as_py()
    if isinstance(value, Tensor):
        value = array_of(value)
    if isinstance(value, np.ndarray) and value.ndim == 0:
        value = value[()]
    if isinstance(value, np.floating):
        return float(str(value))
    return value.item() if isinstance(value, np.generic) else value


def _scalar(value: Any) -> str | None:
    """The text of a single label; None if the value is missing or not a scalar."""
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float | Decimal) and not is_missing(value):
        if not math.isfinite(value):
            raise TypeError(f"{value!r} is not a label: it is not finite")
        return repr(value) if isinstance(value, float) else format(value, "f")
    if hasattr(value, "__index__") and not isinstance(value, np.ndarray):  # arrays of any shape have __index__
        try:
            return str(value.__index__())
        except ValueError:
            raise TypeError(f"{shown(value)} is not a label") from None
    return None


def written_list(cell: str) -> list[str] | None:
    """Parse a cell that holds a list in Python or JSON syntax; None if it holds none.

    Example:
        >>> written_list("['x', 'y']"), written_list("x")
        (['x', 'y'], None)

    Raises:
        ValueError: the cell begins and ends like a list but cannot be parsed.
    """
    if cell == "set()":
        return []
    if _BRACKETS.get(cell[:1]) != cell[-1:] or len(cell) < 2:
        return None
    inside = cell[1:-1]
    if cell[0] == "[":
        try:
            items = parse_json(cell, max_depth=1)
        except ValueError:
            pass
        else:
            if all(isinstance(item, str | int | float) and not isinstance(item, bool) for item in items):
                return [str(text_of(item)) for item in items]
    labels, at = [], 0
    while at < len(inside) and (match := _ITEM.match(inside, at)):
        labels.append(next(part for part in match.groups()[:3] if part is not None))
        at = match.end()
    if at == len(inside) or not inside.strip():
        return labels
    if cell[0] != "[":
        return None
    raise ValueError(f"{shown(cell)} looks like a list, and cannot be read as one")


def looks_like_list(cell: str) -> bool:
    """Whether a cell for a single label holds a list in Python or JSON syntax."""
    if not (cell.startswith("[") and cell.endswith("]")):
        return False
    return "," in cell or not cell[1:-1].strip() or bool(_ITEM.fullmatch(cell[1:-1]))


# -- answers -----------------------------------------------------------------------------------------------------------


class ClassIndex:
    """Converts class names, indices and other forms of a label to codes.

    As in data files, a number is an index, or a class name if the class names are numbers.

    Example:
        >>> ClassIndex(["cat", "dog"]).code(1), ClassIndex(["1", "2", "5"]).code(5)
        (1, 2)
    """

    def __init__(self, names: Sequence[str]) -> None:
        self.names = tuple(names)
        self.by_name = {normalize(name): code for code, name in enumerate(self.names)}
        self.numbered = any(whole(name) is not None for name in self.names)

    @property
    def aligned(self) -> bool:
        """Whether a number means the same class as an index and as a name."""
        return not self.numbered or all(name == str(code) for code, name in enumerate(self.names))

    def code(self, value: Any) -> int:
        """The code of a name, an index, or a bool if "true" and "false" are classes.

        Raises:
            ValueError: the value is not a class, or is ambiguous.
        """
        value = _plain(value)
        if isinstance(value, str):
            code = self.by_name.get(value)
            code = self.by_name.get(normalize(value).strip()) if code is None else code
            if code is None:
                raise UnknownValueError(value)
            return code
        try:
            text = None if isinstance(value, list | tuple | set | dict) else text_of(value)
        except TypeError:
            text = None
        number = whole(text) if isinstance(text, str) else None
        if number is None or isinstance(value, bool):
            if not isinstance(text, str) or text not in self.by_name:
                raise UnknownValueError(value)
            return self.by_name[text]
        exact = self.by_name.get(str(text))  # a class "1.0" is not a class "1"
        named, index = self.by_name.get(number) if exact is None else exact, index_of(number, len(self.names))
        index = None if index == -1 else index
        if not self.numbered:
            named = index
        elif named is not None and index is not None and named != index:
            raise ValueError(
                f"{number} can be the class {shown(self.names[named])} or the class of that index, "
                f"{shown(self.names[index])}: give "
                "the name as text (`names_of` of the data turns indices into names)"
            )
        if named is None:
            raise UnknownValueError(value)
        return named

    def codes(self, value: Any) -> list[int]:
        """The codes of a list of names or indices, or of C bools, in ascending order.

        Raises:
            ValueError: the value is not a list, an item is not a class, or a list of zeros and ones is ambiguous.
        """
        value = _plain(value)
        if isinstance(value, str | bytes | dict) or not isinstance(value, Iterable):
            raise ValueError(f"{shown(value)} is not a list of classes, which multi-label answers are")
        items = [_plain(item) for item in value]
        if items and all(isinstance(item, bool) for item in items):
            if len(items) != len(self.names):
                raise ValueError(f"bools of shape ({len(items)},) for {len(self.names)} classes")
            return [code for code, on in enumerate(items) if on]
        if _may_be_vector(items, len(self.names)):
            raise ValueError(two_readings(items, self.names))
        return sorted({self.code(item) for item in items})


def _may_be_vector(items: Sequence[Any], classes: int) -> bool:
    """Whether numbers may be an indicator vector of zeros and ones, one per class."""
    if not items or not all(isinstance(item, int | float) and item in (0, 1) for item in items):
        return False
    return len(items) == classes or len(set(items)) < len(items)


def two_readings(items: Sequence[Any], classes: Sequence[str]) -> str:
    """The message for a list of zeros and ones that is ambiguous, with the unambiguous forms."""
    return (
        f"{shown(list(items))} can be a vector of zeros and ones, one per class, or a list of the numbers of classes: "
        f"write true and false (or an array with one column per class) for a vector, class names for a list"
    )
