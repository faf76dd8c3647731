"""Between what people write as labels and the codes that models train on."""

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from numpy.typing import NDArray
from torch import Tensor

from dal.errors import DataError

#: More distinct labels than this are a mistake in the name of the column.
MOST_CLASSES = 10_000

_INTEGER = re.compile(r"(-?(?:0|[1-9]\d*))(?:\.0+)?")

Where = Callable[[int], str]


@dataclass(frozen=True, eq=False)
class Encoded:
    """Labels as codes: (N,) int64 with -1 where unlabeled, or (N, C) bool; known (N,) bool; the class names."""

    labels: Tensor
    known: Tensor
    classes: tuple[str, ...]


class UnknownLabelError(DataError):
    """A label outside the classes."""


def nearest(word: str, known: Iterable[str]) -> str:
    """ "; did you mean 'x'?" for the nearest known word, or nothing."""
    known = list(known)
    lowered = {name.lower(): name for name in reversed(known)}
    close = get_close_matches(word.lower(), lowered, n=1, cutoff=0.5)
    return f"; did you mean {lowered[close[0]]!r}?" if close else ""


def listing(names: Sequence[str], most: int = 20) -> str:
    """Names for an error message, the first `most` of them."""
    return ", ".join(names[:most]) + (f", and {len(names) - most} more" if len(names) > most else "") or "nothing"


def _outside(value: object, classes: Sequence[str]) -> str:
    return f"the label {value!r} is not one of the classes {listing(classes)}{nearest(str(value), classes)}"


def codes_of_values(values: Sequence[Any], classes: tuple[str, ...], multilabel: bool) -> Tensor:
    """Codes (n,) int64 of class names or indices; (n, C) bool of lists of those when multi-label."""
    index = {name: code for code, name in enumerate(classes)}

    def code(value: Any, place: int) -> int:
        if isinstance(value, str) and value in index:
            return index[value]
        if isinstance(value, bool) or not hasattr(value, "__index__") or not 0 <= value.__index__() < len(classes):
            raise DataError(f"answer {place + 1}: {_outside(value, classes)}")
        return int(value.__index__())

    if not multilabel:
        return torch.tensor([code(value, place) for place, value in enumerate(values)], dtype=torch.int64)
    out = torch.zeros(len(values), len(classes), dtype=torch.bool)
    for place, value in enumerate(values):
        if isinstance(value, str) or not hasattr(value, "__iter__"):
            raise DataError(f"answer {place + 1}: {value!r} must be a list of classes, for the data are multi-label")
        items = value.tolist() if isinstance(value, Tensor | np.ndarray) else list(value)
        if items and len(items) == len(classes) and all(isinstance(item, bool) for item in items):
            out[place] = torch.tensor(items)
        else:
            out[place, [code(item, place) for item in items]] = True
    return out


def encode(
    values: Any,
    length: int,
    classes: tuple[str, ...] | None,
    *,
    multilabel: bool,
    where: Where,
    separator: str = ";",
    names: tuple[str, ...] | None = None,
) -> Encoded:
    """Labels of `length` rows as codes.

    Args:
        values: None, an Arrow column, a tensor or array of codes, or a Python sequence.
        length: N.
        classes: the declared names; None: `names`, or else the sorted names found.
        multilabel: whether a row may have several classes.
        where: names a row, for errors.
        separator: cuts a string into several labels when multi-label.
        names: what the codes 0, 1, ... of the column are called in its file; -1 is unlabeled there.

    Raises:
        DataError: a label outside `classes`, or one that cannot be read.
    """
    if values is None:
        return _unlabeled(length, classes or (), multilabel)
    if isinstance(values, Tensor | np.ndarray) and not (isinstance(values, np.ndarray) and values.dtype.kind in "OUS"):
        return _from_codes(torch.as_tensor(values).cpu(), classes, multilabel, where)
    if not isinstance(values, pa.Array | pa.ChunkedArray):
        values, found = from_python(values, where)
        classes = classes if classes is not None else found
    column = values.combine_chunks() if isinstance(values, pa.ChunkedArray) else values
    if isinstance(column, pa.ChunkedArray):
        column = pa.concat_arrays(column.chunks)
    if multilabel:
        return _encode_lists(_as_lists(column, separator, where), classes, names, where)
    if _is_list(column.type):
        raise DataError(f"{where(0)}: the column holds lists; set multilabel to true if a row may have several classes")
    codes, classes = _codes(_as_strings(column, where), classes, names, where)
    return Encoded(torch.from_numpy(codes), torch.from_numpy(codes >= 0), classes)


def _codes(
    column: Any, classes: tuple[str, ...] | None, names: tuple[str, ...] | None, where: Where
) -> tuple[NDArray[np.int64], tuple[str, ...]]:
    """The code of each string of a column, -1 for null, and the classes."""
    places, found = _distinct(column, where)

    def first(place: int) -> str:
        return where(int(np.argmax(places == place)))

    found = _named(found, names, first)
    lookup, classes = _lookup(found, classes if classes is not None else names, first)
    return np.append(lookup, -1)[places], classes


def _unlabeled(length: int, classes: tuple[str, ...], multilabel: bool) -> Encoded:
    shape = (length, len(classes)) if multilabel else (length,)
    labels = torch.zeros(shape, dtype=torch.bool) if multilabel else torch.full(shape, -1)
    return Encoded(labels, torch.zeros(length, dtype=torch.bool), classes)


def _from_codes(codes: Tensor, classes: tuple[str, ...] | None, multilabel: bool, where: Where) -> Encoded:
    if multilabel:
        if codes.dim() != 2:
            raise DataError(f"{where(0)}: multi-label codes have the shape (N, C), not {tuple(codes.shape)}")
        names = classes if classes is not None else tuple(str(code) for code in range(codes.shape[1]))
        if codes.shape[1] != len(names):
            raise DataError(f"{where(0)}: {codes.shape[1]} columns of labels for {len(names)} classes")
        return Encoded(codes.bool(), torch.ones(len(codes), dtype=torch.bool), names)
    if codes.dim() != 1 or codes.is_floating_point() or codes.dtype == torch.bool:
        raise DataError(f"{where(0)}: codes are whole numbers of shape (N,), not {codes.dtype} {tuple(codes.shape)}")
    codes = codes.long()
    names = classes if classes is not None else _numbered(int(codes.max()) + 1 if len(codes) else 0)
    wrong = ((codes < -1) | (codes >= len(names))).nonzero().flatten()
    if len(wrong):
        raise UnknownLabelError(f"{where(int(wrong[0]))}: {_outside(int(codes[wrong[0]]), names)}")
    return Encoded(codes, codes >= 0, names)


def _numbered(count: int) -> tuple[str, ...]:
    return tuple(str(code) for code in range(count))


def text_of(value: Any) -> Any:
    """A label as JSON or Python gives it, as strings: None, a string, or a list of strings.

    Raises:
        TypeError: something that is no label.
    """
    if value is None or (isinstance(value, float) and value != value):
        return None
    if isinstance(value, str):
        return value
    if isinstance(value, bool | np.bool_):
        return str(bool(value)).lower()
    if hasattr(value, "__index__"):
        return str(value.__index__())
    if isinstance(value, float):
        return repr(value)
    if isinstance(value, Iterable) and not isinstance(value, dict):
        items = [text_of(item) for item in value]
        if all(isinstance(item, str) for item in items):
            return items
    raise TypeError(f"{value!r} is not a label: expected a class name, a whole number, or a list of those")


def from_python(values: Sequence[Any], where: Where) -> tuple[Any, tuple[str, ...] | None]:
    """Python labels as Arrow strings; and when all are codes, the names "0", "1", ... up to the largest."""
    out, largest, numbers = [], -1, True
    for row, value in enumerate(values):
        try:
            text = text_of(value)
        except TypeError as error:
            raise DataError(f"{where(row)}: {error}") from None
        out.append(None if text == "-1" and not isinstance(value, str) else text)
        for item in (value if isinstance(text, list) else [value]) if text is not None else []:
            numbers = numbers and not isinstance(item, str | bool) and hasattr(item, "__index__")
            largest = max(largest, int(item)) if numbers else largest
    lists = any(isinstance(item, list) for item in out)
    if lists and not all(item is None or isinstance(item, list) for item in out):
        row = next(row for row, item in enumerate(out) if isinstance(item, str))
        raise DataError(f"{where(row)}: a single label among lists of labels")
    array = pa.array(out, pa.large_list(pa.large_string()) if lists else pa.large_string())
    return array, _numbered(largest + 1) if numbers and largest >= 0 else None


def _is_list(kind: Any) -> bool:
    return bool(pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind))


def _as_strings(column: Any, where: Where) -> Any:
    """Any scalar column as trimmed strings, null where empty; whole numbers written as such."""
    kind = column.type
    if pa.types.is_dictionary(kind):
        column = column.cast(kind.value_type)
        kind = column.type
    if pa.types.is_floating(kind):
        column = pc.if_else(pc.is_nan(column), None, column)
        odd = np.flatnonzero(np.asarray(pc.fill_null(pc.not_equal(column, pc.floor(column)), False)))
        if len(odd):
            raise DataError(
                f"{where(int(odd[0]))}: {column[int(odd[0])].as_py()} is not a label: expected a whole number"
            )
        column = column.cast(pa.int64())
    try:
        column = pc.utf8_trim_whitespace(column.cast(pa.large_string()))
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        raise DataError(f"{where(0)}: values of type {kind} are no labels") from None
    return pc.if_else(pc.equal(column, ""), pa.scalar(None, pa.large_string()), column)


def _distinct(column: Any, where: Where) -> tuple[NDArray[np.int64], list[str]]:
    """The place of each string among the distinct ones, -1 for null; and those."""
    encoded = column.dictionary_encode()
    if len(encoded.dictionary) > MOST_CLASSES:
        raise DataError(f"{where(0)}: {len(encoded.dictionary):,} distinct labels: is this the label column?")
    names: list[str] = encoded.dictionary.to_pylist()
    return pc.fill_null(encoded.indices, -1).to_numpy(zero_copy_only=False).astype(np.int64), names


def _lookup(
    names: list[str], classes: tuple[str, ...] | None, where: Where
) -> tuple[NDArray[np.int64], tuple[str, ...]]:
    """The code of each distinct label (-1 for an empty one), and the classes."""
    present = [name for name in names if name]
    numbers = [match.group(1) for name in present if (match := _INTEGER.fullmatch(name))]
    whole = len(numbers) == len(present)
    if whole:
        written = dict(zip(present, numbers, strict=True))  # "1.0" is 1
        names = [written.get(name, "") for name in names]
        present = numbers
    if classes is None:
        classes = tuple(sorted(set(present), key=int)) if whole else tuple(sorted(set(present)))
    index = {name: code for code, name in enumerate(classes)}
    if whole and not any(_INTEGER.fullmatch(name) for name in classes):
        index = {str(code): code for code in range(len(classes))}
    for place, name in enumerate(names):
        if name and name not in index:
            raise UnknownLabelError(f"{where(place)}: {_outside(name, classes)}")
    return np.array([index[name] if name else -1 for name in names], np.int64), classes


def _named(found: list[str], names: tuple[str, ...] | None, where: Where) -> list[str]:
    """The distinct labels of a column whose file calls its codes `names`; an empty one is unlabeled."""
    if names is None or all(name in names for name in found):
        return found
    out = []
    for place, code in enumerate(found):
        if not (_INTEGER.fullmatch(code) and -1 <= int(float(code)) < len(names)):
            raise UnknownLabelError(f"{where(place)}: {_outside(code, names)}")
        out.append(names[int(float(code))] if int(float(code)) >= 0 else "")
    return out


def _as_lists(column: Any, separator: str, where: Where) -> Any:
    """Any column as lists of strings: null stays null (unlabeled), an empty list stays (none of the classes).

    In a column of strings an empty cell is null, and a cell with nothing but the separator (or "[]") an empty list.
    """
    if _is_list(column.type):
        return column.cast(pa.large_list(column.type.value_type))
    strings = _as_strings(column, where)
    separator = separator.strip() or separator  # cells and pieces are trimmed anyway
    strings = pc.if_else(pc.equal(strings, "[]"), separator, strings)
    return pc.split_pattern(strings, separator).cast(pa.large_list(pa.large_string()))


def _encode_lists(column: Any, classes: tuple[str, ...] | None, names: tuple[str, ...] | None, where: Where) -> Encoded:
    known = np.asarray(column.is_valid())
    counts = pc.fill_null(pc.list_value_length(column), 0).to_numpy(zero_copy_only=False)
    rows = np.repeat(np.arange(len(column)), counts)
    flat = column.flatten()
    nulls = np.flatnonzero(np.asarray(flat.is_null()))
    if len(nulls):
        raise DataError(f"{where(int(rows[nulls[0]]))}: an empty value within a list of labels")
    codes, classes = _codes(_as_strings(flat, lambda item: where(int(rows[item]) if len(rows) else 0)), classes, names,
                            lambda item: where(int(rows[item])))  # fmt: skip
    labels = np.zeros((len(column), len(classes)), np.bool_)
    held = codes >= 0
    labels[rows[held], codes[held]] = True
    return Encoded(torch.from_numpy(labels), torch.from_numpy(known), classes)
