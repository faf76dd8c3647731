"""Encoding of label columns to the integer codes or indicator matrices that models train on."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from numpy.typing import NDArray
from torch import Tensor

from dal.data.label_names import normalize, whole
from dal.data.label_values import (
    NOT_ENCODABLE,
    SEPARATORS,
    ClassIndex,
    UnknownValueError,
    array_of,
    encodable,
    in_order,
    index_of,
    listing,
    looks_like_list,
    not_a_class_message,
    shown,
    text_of,
    two_readings,
    written_list,
)
from dal.errors import DataError, shortened
from dal.store.visible_names import is_visible

#: Maximum number of distinct labels; more suggest a wrong label column.
MOST_CLASSES = 10_000

Where = Callable[[int], str]


@dataclass(frozen=True, eq=False)
class Encoded:
    """Encoded labels.

    Attributes:
        labels: (N,) int64, -1 where unlabeled; (N, C) bool when multi-label.
        known: (N,) bool, whether the row has a label.
        classes: C class names.
    """

    labels: Tensor
    known: Tensor
    classes: tuple[str, ...]


class UnknownLabelError(DataError):
    """A label is not one of the classes."""


def checked_classes(names: Sequence[str]) -> tuple[str, ...]:
    """Check declared class names, and return them in Unicode form NFC.

    Raises:
        DataError: a name is not a string, is empty, has a space at an end, cannot be encoded as UTF-8, or is repeated.
    """
    if isinstance(names, str | dict | set | frozenset):
        raise DataError(f"classes: expected a list of names, not {shown(names)}")
    seen: dict[str, str] = {}
    for name in names:
        if not isinstance(name, str):
            raise DataError(f"classes: {shown(name)} is not text: class names are")
        if not name.strip() or name != name.strip():
            raise DataError("classes: a name is empty, or begins or ends with a space")
        if not encodable(name):
            raise DataError(f"classes: {shown(name)} {NOT_ENCODABLE}")
        if not is_visible(name):
            raise DataError(f"classes: the name {shortened(ascii(name))} cannot be seen: a class needs a visible name")
        if normalize(name) in seen:
            same = "" if seen[normalize(name)] == name else " (once with composed and once with decomposed accents)"
            raise DataError(f"classes: {shown(name)} is named twice{same}")
        seen[normalize(name)] = name
    return tuple(seen)


def codes_of_values(values: Sequence[Any], classes: tuple[str, ...], multilabel: bool) -> Tensor:
    """Convert class names or indices to codes, (n,) int64; lists of them to (n, C) bool when multi-label."""
    index = ClassIndex(classes)
    codes = []
    for number, value in enumerate(values, 1):
        try:
            codes.append(index.codes(value) if multilabel else index.code(value))
        except UnknownValueError as error:
            raise DataError(f"answer {number}: {not_a_class_message(error.args[0], classes)}") from None
        except ValueError as error:
            scalar = multilabel and (isinstance(value, str) or not hasattr(value, "__iter__"))
            problem = f"{shown(value)} must be a list of classes, for the data are multi-label" if scalar else error
            raise DataError(f"answer {number}: {problem}") from None
    if not multilabel:
        return torch.tensor(codes, dtype=torch.int64)
    out = torch.zeros(len(codes), len(classes), dtype=torch.bool)
    for row, chosen in enumerate(codes):
        out[row, chosen] = True
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
    """Encode the labels of a column.

    Args:
        values: None, an Arrow column, a tensor, an array, or a Python sequence of N labels.
        length: number of rows, N.
        classes: declared class names; None for `names`, or else the sorted names found.
        multilabel: whether a row may have several classes.
        where: function that names a row in messages.
        separator: separator of several labels in a string, when multi-label.
        names: names of the codes 0, 1, ... that the file declares for the column; -1 is unlabeled then.

    Raises:
        DataError: a label is not one of `classes`, is ambiguous, or cannot be read.
    """
    if values is None:
        declared, known = classes or (), torch.zeros(length, dtype=torch.bool)
        labels = known[:, None].repeat(1, len(declared)) if multilabel else torch.full((length,), -1)
        return Encoded(labels, known, declared)
    if isinstance(values, Tensor) and not multilabel:
        refuse_two_meanings(values, classes, where)
    array = isinstance(values, Tensor | np.ndarray)
    if not isinstance(values, pa.Array | pa.ChunkedArray):
        values, numbered = from_python(values, where)
        classes = classes if classes is not None else numbered
    column = values.combine_chunks() if isinstance(values, pa.ChunkedArray) else values
    if isinstance(column, pa.ChunkedArray):
        column = pa.concat_arrays(column.chunks)
    if pa.types.is_dictionary(column.type) and _is_list(column.type.value_type):
        column = column.dictionary_decode()
    if not multilabel:
        if _is_list(column.type):
            raise DataError(
                f"{where(0)}: the column holds lists; set multilabel to true if a row may have several classes"
            )
        codes, classes = _codes(column, classes, names, where, single=True, array=array)
        return Encoded(torch.from_numpy(codes), torch.from_numpy(codes >= 0), classes)
    if not _is_list(column.type):
        column = _as_lists(column, separator, {*(classes or ()), *(names or ())}, where)
    if pa.types.is_boolean(column.type.value_type):
        return _encode_vectors(column, classes if classes is not None else names, where)
    return _encode_lists(column, classes, names, where)


def refuse_two_meanings(codes: Tensor, classes: tuple[str, ...] | None, where: Where) -> None:
    """Refuse integers in a tensor that could be indices as well as class names.

    Raises:
        DataError: `classes` has numbers other than their indices, or is None and a code is -1.
    """
    if codes.dim() != 1 or codes.is_floating_point() or codes.dtype == torch.bool or not len(codes):
        return
    if classes is not None:
        if not ClassIndex(classes).aligned:
            raise DataError(
                f"{where(0)}: numbers in a tensor can be indices of the classes {listing(classes)} or their names: "
                "give the names, as text (`names_of` of the data turns indices into names)"
            )
        return
    unlabeled = (codes == -1).nonzero().flatten()
    if len(unlabeled):
        raise DataError(
            f"{where(int(unlabeled[0]))}: -1 in a tensor can be a class of that name or no label: declare `classes` "
            "for no label, or give a list (with None where there is no label)"
        )


# -- one label a row ---------------------------------------------------------------------------------------------------


def _codes(
    column: Any,
    classes: tuple[str, ...] | None,
    names: tuple[str, ...] | None,
    where: Where,
    *,
    single: bool = False,
    array: bool = False,
) -> tuple[NDArray[np.int64], tuple[str, ...]]:
    """The code of each value of a column, -1 where it is missing, and the classes."""
    places, distinct = _distinct(column, where)

    def first(place: int) -> str:
        return where(int(np.argmax(places == place)))

    for place, text in enumerate(distinct):
        if text is not None and not is_visible(text):
            raise DataError(
                f"{first(place)}: the label {shortened(ascii(text))} cannot be seen: write a visible one, or leave the "
                "cell empty for no label"
            )
    if single:
        known = {*(classes or ()), *(names or ())}
        for place, text in enumerate(distinct):
            if text is not None and looks_like_list(text) and text not in known:
                raise DataError(
                    f"{first(place)}: {shown(text)} looks like a list of labels; set multilabel to true if a row may "
                    "have several classes, or name it in `classes` if it is one"
                )
    if names is not None:
        names = tuple(map(normalize, names))
        distinct = _named(distinct, names, first, numbers=pa.types.is_integer(column.type))
    lookup, classes = _lookup(distinct, classes if classes is not None else names, first, array=array)
    return np.append(lookup, -1)[places], classes  # place -1 (null) reads the appended -1


def _distinct(column: Any, where: Where) -> tuple[NDArray[np.int64], list[str | None]]:
    """The index of each value among the distinct values, -1 for null, and their texts, None for a missing value."""
    kind = column.type
    if pa.types.is_dictionary(kind):
        column = column.cast(kind.value_type)
        kind = column.type
    plain = (pa.types.is_integer, pa.types.is_floating, pa.types.is_boolean, pa.types.is_decimal, pa.types.is_null)
    try:
        if not (_is_text(kind) or any(check(kind) for check in plain)):
            if not (pa.types.is_binary(kind) or pa.types.is_large_binary(kind)):  # such as dates
                raise pa.ArrowInvalid
            column = column.cast(pa.large_string())
        encoded = column.dictionary_encode()
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        raise DataError(f"{where(0)}: values of type {shown(str(kind))[1:-1]} are not labels") from None
    if len(encoded.dictionary) > MOST_CLASSES:
        raise DataError(f"{where(0)}: {len(encoded.dictionary):,} distinct labels: is this the label column?")
    places = pc.fill_null(encoded.indices, -1).to_numpy(zero_copy_only=False).astype(np.int64)
    floats = pa.types.is_floating(kind)
    texts: list[str | None] = []
    for place, value in enumerate(encoded.dictionary.to_numpy(False) if floats else encoded.dictionary.to_pylist()):
        try:
            text = text_of(value)
        except TypeError as error:
            raise DataError(f"{where(int(np.argmax(places == place)))}: {error}") from None
        texts.append(None if text is None else normalize(text).strip() or None)
    return places, texts


def _lookup(
    texts: list[str | None], classes: tuple[str, ...] | None, where: Where, *, array: bool
) -> tuple[NDArray[np.int64], tuple[str, ...]]:
    """The code of each distinct label, -1 for a missing one, and the classes."""
    present = {text for text in texts if text is not None}
    numbers = {text: number for text in present if (number := whole(text)) is not None}
    named = classes is not None and present <= {normalize(name) for name in classes}  # a class "1.0" is not a class "1"
    if len(numbers) == len(present) and not named:
        texts = [None if text is None else numbers[text] for text in texts]  # "1.0" is 1
    else:
        numbers = {}
    if classes is None:
        classes = in_order(numbers.values()) if numbers else tuple(sorted(present))
    index = ClassIndex(classes)
    codes = np.full(len(texts), -1, np.int64)
    for place, text in enumerate(texts):
        if text is None:
            continue
        code = index_of(text, len(classes)) if numbers and not index.numbered else index.by_name.get(text)
        if code is None:
            value = int(text) if array and numbers and len(text) < 19 else text
            raise UnknownLabelError(f"{where(place)}: {not_a_class_message(value, classes)}")
        codes[place] = code
    return codes, classes


def _named(texts: list[str | None], names: tuple[str, ...], where: Where, *, numbers: bool) -> list[str | None]:
    """Replace the codes among the distinct labels by the `names` that the file declares; -1 is unlabeled."""
    if not numbers and all(text is None or text in names for text in texts):
        return texts
    out: list[str | None] = []
    for place, text in enumerate(texts):
        number = None if text is None else whole(text)
        index = None if number is None else index_of(number, len(names))
        if text is not None and index is None:
            raise UnknownLabelError(f"{where(place)}: {not_a_class_message(text, names)}")
        out.append(None if index is None or index < 0 else names[index])
    return out


# -- several labels a row ----------------------------------------------------------------------------------------------


def _as_lists(column: Any, separator: str, known: set[str], where: Where) -> Any:
    """Convert a column to lists of strings. Null means unlabeled, an empty list means none of the classes.

    In a column of strings an empty cell becomes null, and a cell with only the separator (or "[]") an empty list.
    """
    kind = column.type.value_type if pa.types.is_dictionary(column.type) else column.type
    if not _is_text(kind):
        places, texts = _distinct(column, where)
        column = pa.array([*texts, None], pa.large_string()).take(pa.array(places % (len(texts) + 1)))  # -1: the None
    encoded = column if pa.types.is_dictionary(column.type) else column.dictionary_encode()
    separator = separator.strip() or separator  # cells and pieces are trimmed anyway
    lists: list[list[str] | None] = []
    for place, cell in enumerate(encoded.dictionary.to_pylist()):
        try:
            lists.append(None if cell is None else _cut(normalize(cell).strip(), separator, known))
        except ValueError as error:
            row = int(pc.index(encoded.indices, place).as_py())
            raise DataError(f"{where(row)}: {error}") from None
    return pa.array(lists, pa.large_list(pa.large_string())).take(encoded.indices)


def _cut(cell: str, separator: str, known: set[str]) -> list[str] | None:
    """Split a cell into labels; None if it is empty.

    Raises:
        ValueError: a label contains another usual separator, so it may be several labels.
    """
    if not cell or cell in known:
        return [cell] if cell else None
    try:
        labels = written_list(cell)
    except ValueError as error:
        raise ValueError(
            f"{error}: write the labels with {separator!r} between them, or name it in `classes` if it is one"
        ) from None
    if labels is not None:
        return labels
    pieces = [piece for each in cell.split(separator) if (piece := each.strip())]
    for piece in pieces:
        held = [mark for mark in SEPARATORS if mark in piece and mark not in separator]
        if held and piece not in known:
            raise ValueError(
                f"the label {shown(piece)} holds {held[0]!r} and may be several: set label_separator to {held[0]!r} "
                "(labels are cut at " + repr(separator) + "), or name it in `classes` if it is one"
            )
    return pieces


def _encode_lists(column: Any, classes: tuple[str, ...] | None, names: tuple[str, ...] | None, where: Where) -> Encoded:
    known = np.asarray(column.is_valid())
    counts = pc.fill_null(pc.list_value_length(column), 0).to_numpy(zero_copy_only=False).astype(np.int64)
    rows = np.repeat(np.arange(len(column)), counts)
    flat = column.flatten()
    nulls = np.flatnonzero(np.asarray(flat.is_null()))
    if len(nulls):
        raise DataError(f"{where(int(rows[nulls[0]]))}: an empty value within a list of labels")

    def of_item(item: int) -> str:
        return where(int(rows[item]) if len(rows) else 0)

    if names is None:  # with names in the file, numbers are class codes and cannot be indicator vectors
        _refuse_vectors(flat, column, counts, classes, where, of_item)
    codes, classes = _codes(flat, classes, names, of_item)
    labels = np.zeros((len(column), len(classes)), np.bool_)
    unlabeled = np.flatnonzero(codes < 0)
    if len(unlabeled):
        item = int(unlabeled[0])
        given = flat[item].as_py()
        blank = isinstance(given, str) and not given.strip()
        raise DataError(
            f"{of_item(item)}: an empty value within a list of labels"
            if blank
            else f"{of_item(item)}: {shown(given)} among labels can be no label or none of the classes: leave the row "
            "empty (null) for no label, write an empty list for none of them"
        )
    labels[rows, codes] = True
    return Encoded(torch.from_numpy(labels), torch.from_numpy(known), classes)


def _refuse_vectors(
    flat: Any, column: Any, counts: NDArray[np.int64], classes: tuple[str, ...] | None, where: Where, of_item: Where
) -> None:
    """Raise `DataError` if the items of a row may be an indicator vector as well as a list of class numbers."""
    places, texts = _distinct(flat, of_item)
    numbers = [None if text is None else whole(text) or text for text in texts]
    digit = np.array([{"0": 0, "1": 1}.get(number or "", 2) for number in numbers] + [2])[places]
    size = len(classes) if classes is not None else len(set(numbers) - {None})
    ends = np.cumsum(counts)
    zeros, ones = (np.diff(np.r_[0, np.cumsum(digit == value)][np.r_[0, ends]]) for value in (0, 1))  # (N,) counts
    repeated = (zeros > 1) | (ones > 1)
    wrong = np.flatnonzero((counts > 0) & (zeros + ones == counts) & (repeated | (counts == size)))
    if len(wrong):
        row = int(wrong[0])
        raise DataError(f"{where(row)}: {two_readings(column[row].as_py(), classes or ())}")


def _encode_vectors(column: Any, classes: tuple[str, ...] | None, where: Where) -> Encoded:
    """Encode lists of C bools; null for an unlabeled row."""
    known = np.asarray(column.is_valid())
    counts = pc.fill_null(pc.list_value_length(column), 0).to_numpy(zero_copy_only=False).astype(np.int64)
    flat = column.flatten()
    size = len(classes) if classes is not None else int(counts.max(initial=0))
    wrong = np.flatnonzero(known & (counts != size))
    if len(wrong):
        row = int(wrong[0])
        raise DataError(f"{where(row)}: {counts[row]} columns of labels for {size} classes")
    if flat.null_count:
        item = int(np.argmax(np.asarray(flat.is_null())))
        raise DataError(f"{where(int(np.repeat(np.arange(len(column)), counts)[item]))}: an empty value within labels")
    labels = np.zeros((len(column), size), np.bool_)
    labels[known] = flat.to_numpy(zero_copy_only=False).reshape(int(known.sum()), size)
    names = classes if classes is not None else _numbered(size, where)
    return Encoded(torch.from_numpy(labels), torch.from_numpy(known), names)


# -- Python ------------------------------------------------------------------------------------------------------------


def from_python(values: Any, where: Where) -> tuple[Any, tuple[str, ...] | None]:
    """Convert Python labels to an Arrow column; if all are indices, also return the names "0", "1", ... for them."""
    if isinstance(values, Tensor):
        try:
            values = array_of(values)
        except ValueError as error:
            raise DataError(f"{where(0)}: {error}") from None
    if isinstance(values, np.ndarray) and values.dtype.kind in "biuf":
        return _from_array(values, where)
    if isinstance(values, np.ndarray):
        values = values.tolist()
    out, largest, indices = [], -1, True
    for row, value in enumerate(values):
        if type(value) is str:
            out.append(value)
            indices = False
            continue
        try:
            text = text_of(value)
        except TypeError as error:
            raise DataError(f"{where(row)}: {error}") from None
        out.append(text)
        if indices and text is not None:
            for item in value if isinstance(text, list) else (value,):
                indices = not isinstance(item, str | bool | np.bool_ | float) and hasattr(item, "__index__")
                number = int(item) if indices else -1
                indices = number >= 0
                largest = max(largest, number)
                if not indices:
                    break
    array = _column(out, where)
    if pa.types.is_large_list(array.type) and pa.types.is_boolean(array.type.value_type):
        return array, None
    return array, _numbered(largest + 1, where) if indices and largest >= 0 else None


def _column(texts: list[Any], where: Where) -> Any:
    """Build an Arrow column of strings, of lists of strings, or of lists of bools."""
    kinds = {
        row: ("vector" if text and isinstance(text[0], bool) else "list" if text else "empty")
        if isinstance(text, list)
        else "single"
        for row, text in enumerate(texts)
        if text is not None
    }
    lists = {kind for kind in kinds.values() if kind != "single"}
    for kind, message in (("single", "a single label among lists of labels"),
                          ("vector", "true and false for all classes, among lists of labels")):  # fmt: skip
        others = set(kinds.values()) - {kind} - ({"empty"} if kind == "vector" else set())
        if kind in kinds.values() and others:
            row = next(row for row, other in kinds.items() if other == kind)
            raise DataError(f"{where(row)}: {message}")
    if "vector" in lists:
        return pa.array(texts, pa.large_list(pa.bool_()))
    try:
        return pa.array(texts, pa.large_list(pa.large_string()) if lists else pa.large_string())
    except UnicodeEncodeError:
        each = (text if isinstance(text, list) else [text or ""] for text in texts)
        row = next(row for row, items in enumerate(each) if not all(map(encodable, items)))
        raise DataError(f"{where(row)}: {shown(texts[row])} {NOT_ENCODABLE}") from None


def _from_array(array: NDArray[Any], where: Where) -> tuple[Any, tuple[str, ...] | None]:
    """Convert an array of numbers to a column: (N,) labels, or (N, C) zeros and ones."""
    if array.ndim == 2:
        wrong = np.argwhere((array != 0) & (array != 1))
        if len(wrong):
            row, column = (int(place) for place in wrong[0])
            raise DataError(
                f"{where(row)}: {array[row, column]} in an array of shape {array.shape}: expected zeros and ones, one "
                "per class, or a list of the classes of each row"
            )
        offsets = pa.array(np.arange(len(array) + 1) * array.shape[1], pa.int64())
        flat = pa.array(array.astype(np.bool_).reshape(-1))
        return pa.LargeListArray.from_arrays(offsets, flat), _numbered(array.shape[1], where)
    if array.ndim != 1:
        raise DataError(f"{where(0)}: labels have the shape (N,), or (N, C) when multi-label, not {array.shape}")
    if array.dtype.kind not in "iu" or not len(array) or int(array.min()) < 0:
        return pa.array(array), None
    return pa.array(array), _numbered(int(array.max()) + 1, where)


def _numbered(count: int, where: Where) -> tuple[str, ...]:
    if count > MOST_CLASSES:
        raise DataError(
            f"{where(0)}: whole numbers up to {shown(count - 1)} would be as many classes: is this the label column? "
            "Otherwise name the `classes`"
        )
    return tuple(str(code) for code in range(count))


def _is_list(kind: Any) -> bool:
    return bool(pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind))


def _is_text(kind: Any) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))
