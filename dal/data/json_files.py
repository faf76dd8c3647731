"""Reader of JSON files (lines, or one array of objects) into Arrow tables, in batches of objects."""

import json
import re
from collections.abc import Callable, Iterator
from itertools import chain, islice
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from dal.data.file_source import (
    LISTS,
    TEXT,
    ColumnRequest,
    FileSource,
    collect_batches,
    refuse_other_encodings,
    utf8_fault,
)
from dal.data.label_values import reason, shown, text_of
from dal.errors import DataError, printable
from dal.store.bounded_json import MAX_DEPTH, parse_json

#: Objects converted to Arrow at a time.
BATCH = 1024

_SPACE = re.compile(r"[ \n\r\t]*")


def read_json(file: Path, wanted: ColumnRequest) -> FileSource:
    """Read columns of a .jsonl file, or of a .json file that holds lines or one array of objects."""
    refuse_other_encodings(file)
    objects = _iterator_of(file)
    records = _Records(file, objects(file), wanted)
    table = records.table()
    if len(table):
        wanted.select_from([*records.seen], printable(str(file), 200))
    return FileSource(
        printable(str(file), 200), table, line_of=lambda row: next(islice(objects(file), row, None), (None,))[0]
    )


def json_objects(file: Path) -> Iterator[dict[str, Any]]:
    """The objects of a .jsonl file, or of a .json file that holds lines or one array of objects.

    Raises:
        DataError: the file is not UTF-8 or not JSON, or holds something else than objects.
    """
    refuse_other_encodings(file)
    for number, record in _iterator_of(file)(file):
        if not isinstance(record, dict):
            what = f"line {number} is a {type(record).__name__}, expected an object with columns"
            raise DataError(f"{printable(str(file), 200)}: {what}")
        yield record


def _iterator_of(file: Path) -> Callable[[Path], Iterator[tuple[int, Any]]]:
    """The function that reads the objects of this file with their lines."""
    with file.open("rb") as stream:
        head = stream.read(65536).removeprefix(b"\xef\xbb\xbf").lstrip()
    return _json_array if head.startswith(b"[") else _json_lines


def _json_lines(file: Path) -> Iterator[tuple[int, Any]]:
    with file.open("rb") as stream:
        for number, line in enumerate(stream, 1):
            if number == 1:
                line = line.removeprefix(b"\xef\xbb\xbf")
            if line.strip():
                try:
                    yield number, parse_json(line.decode())
                except UnicodeDecodeError:
                    raise DataError(utf8_fault(file)) from None
                except ValueError as error:
                    raise _fault(file, number, error) from None


def _json_array(file: Path) -> Iterator[tuple[int, Any]]:
    try:
        text = file.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError:
        raise DataError(utf8_fault(file)) from None
    line, counted, at = 1, 0, text.index("[") + 1
    separator = ","
    while True:
        at = _skip_space(text, at)
        if separator == "," and text[at : at + 1] == "]":
            return
        try:
            item, end = _decoded(text, at)
        except ValueError as error:
            raise _fault(file, 1 + text.count("\n", 0, at), error) from None
        line, counted = line + text.count("\n", counted, at), at
        yield line, item
        at = _skip_space(text, end)
        separator = text[at : at + 1]
        if separator == "]":
            return
        if separator != ",":
            raise _fault(file, 1 + text.count("\n", 0, at), ValueError("expected a comma or ]"))
        at += 1


def _decoded(text: str, at: int) -> tuple[Any, int]:
    """Parse the JSON value at offset `at` of a text; return the value and its end.

    Raises:
        ValueError: the value is not JSON, or exceeds a limit of `parse_json`.
    """
    try:
        item, end = json.JSONDecoder().raw_decode(text, at)
    except RecursionError:
        raise ValueError(f"nested deeper than {MAX_DEPTH} levels") from None
    except json.JSONDecodeError:
        raise
    except ValueError:
        raise ValueError("a number has more than 4,300 digits") from None
    if text.count("[", at, end) + text.count("{", at, end) > MAX_DEPTH:
        item = parse_json(text[at:end])
    return item, end


def _skip_space(text: str, at: int) -> int:
    match = _SPACE.match(text, at)
    return at if match is None else match.end()


def _fault(file: Path, line: int, error: ValueError) -> DataError:
    return DataError(f"{printable(str(file), 200)}: line {line} is not JSON: {reason(error)}")


class _Records:
    """Converts JSON objects to Arrow, and tracks their columns and the kind of their labels."""

    def __init__(self, file: Path, objects: Iterator[tuple[int, Any]], wanted: ColumnRequest) -> None:
        self.file = printable(str(file), 200)
        self.objects = objects
        self.wanted = wanted
        self.label = wanted.label if wanted.label not in wanted.texts else None
        self.columns = wanted.columns
        self.seen: dict[str, None] = {}  # in the order of the file
        self.lists: bool | None = None  # whether labels are lists; None until the first label
        self.vectors: bool | None = None  # whether lists hold bools, one per class; None until a non-empty list
        self.row = 0

    def table(self) -> Any:
        """Convert all objects to a table with the wanted columns that occur in any of them."""
        batches = self._batches()
        held = []
        for batch in batches:  # up to the first label, which determines the type of the label column
            held.append(batch)
            if self.label is None or self.lists is not None:
                break
        label_type = LISTS if self.lists else TEXT
        schema = pa.schema([(column, label_type if column == self.label else TEXT) for column in self.columns])
        table = collect_batches((batch.cast(schema) for batch in chain(held, batches)), schema)
        table = table.select([column for column in self.columns if column in self.seen])
        if not self.vectors or self.label is None:
            return table
        bools = pa.chunked_array([_as_bools(chunk) for chunk in table[self.label].chunks], pa.large_list(pa.bool_()))
        return table.set_column(table.column_names.index(self.label), self.label, bools)

    def _batches(self) -> Iterator[Any]:
        while chunk := list(islice(self.objects, BATCH)):
            data: dict[str, list[Any]] = {column: [] for column in self.columns}
            for line, record in chunk:
                self._add(record, line, data)
            arrays = []
            for column in self.columns:
                values = data[column]
                # A column of nulls gets the null type, which casts to whatever type later batches have.
                if all(item is None for item in values):
                    arrays.append(pa.nulls(len(values)))
                else:
                    arrays.append(pa.array(values, LISTS if self.lists and column == self.label else TEXT))
            yield pa.record_batch(arrays, names=self.columns)

    def _add(self, record: Any, line: int, data: dict[str, list[Any]]) -> None:
        self.row += 1
        at = f"{self.file}: row {self.row} (line {line})"
        if not isinstance(record, dict):
            raise DataError(f"{at} is a {type(record).__name__}, expected an object with columns")
        few = len(self.seen) < _MOST_COLUMNS
        self.seen.update(dict.fromkeys(record if few else (column for column in self.columns if column in record)))
        for column, values in data.items():
            try:
                values.append(self._value(column, record.get(column)))
            except (TypeError, UnicodeEncodeError) as error:
                raise DataError(f"{at}, column {shown(column)}: {reason(error)}") from None

    def _value(self, column: str, item: Any) -> Any:
        if column in self.wanted.texts:
            if item is not None and not isinstance(item, str):
                raise TypeError(f"expected text, not {shown(item)}")
        else:
            item = text_of(item)
        if column == self.label and item is not None:
            item = self._labels(item)
        elif isinstance(item, list):
            raise TypeError("expected one value, not a list")
        for text in item if isinstance(item, list) else [item or ""]:
            text.encode()  # raises for a lone surrogate
        return item

    def _labels(self, item: Any) -> Any:
        """Check that a label has the same kind as the previous ones; bools become "true" and "false"."""
        if self.lists is None:
            self.lists = isinstance(item, list)
        if isinstance(item, list) != self.lists:
            raise TypeError("single labels and lists of labels are mixed")
        if not isinstance(item, list) or not item:
            return item
        vector = isinstance(item[0], bool)
        if self.vectors is None:
            self.vectors = vector
        if vector != self.vectors:
            raise TypeError("lists of true and false, one per class, and lists of labels are mixed")
        return [str(on).lower() for on in item] if vector else item


#: Maximum number of column names kept for error messages.
_MOST_COLUMNS = 10_000


def _as_bools(lists: Any) -> Any:
    """Convert lists of "true" and "false" to lists of bools; null lists stay null."""
    counts = pc.list_value_length(lists)
    offsets = pc.fill_null(pc.cumulative_sum(pc.fill_null(counts, 0)), 0)
    offsets = pa.concat_arrays([pa.array([0], offsets.type), offsets]).cast(pa.int64())
    return pa.LargeListArray.from_arrays(offsets, pc.equal(lists.flatten(), "true"), mask=lists.is_null())
