"""JSON files (lines, or one array of objects) as Arrow tables, read a few thousand objects at a time."""

import json
from collections.abc import Iterator
from itertools import chain, islice
from pathlib import Path
from typing import Any

import pyarrow as pa

from dal.data.classes import text_of
from dal.data.source import LISTS, TEXT, Source, Wanted, gathered, refuse_utf16, utf8_fault
from dal.errors import DataError, one_line

#: Objects that are turned into Arrow at a time.
BATCH = 1024


def read_json(file: Path, wanted: Wanted) -> Source:
    """The wanted columns of a .jsonl file, or of a .json file that holds lines or one array of objects."""
    refuse_utf16(file)
    objects = _json_array if _starts_array(file) else _json_lines
    records = _Records(file, objects(file), wanted)
    table = records.table()
    if len(table):
        wanted.among([*records.seen], str(file))
    return Source(str(file), table, line_of=lambda row: next(islice(objects(file), row, None))[0])


def _starts_array(file: Path) -> bool:
    with file.open("rb") as stream:
        head = stream.read(65536).removeprefix(b"\xef\xbb\xbf").lstrip()
    return head[:1] == b"["


def _json_lines(file: Path) -> Iterator[tuple[int, Any]]:
    with file.open("rb") as stream:
        for number, line in enumerate(stream, 1):
            if number == 1:
                line = line.removeprefix(b"\xef\xbb\xbf")
            if line.strip():
                try:
                    yield number, json.loads(line)
                except UnicodeDecodeError:
                    raise DataError(utf8_fault(file)) from None
                except ValueError as error:
                    raise DataError(f"{file}: line {number} is not JSON: {one_line(error)}") from None


def _json_array(file: Path) -> Iterator[tuple[int, Any]]:
    try:
        text = file.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError:
        raise DataError(utf8_fault(file)) from None
    decode = json.JSONDecoder().raw_decode
    line, counted, at = 1, 0, text.index("[") + 1
    separator = ","
    while True:
        at = _skip_space(text, at)
        if separator == "," and text[at : at + 1] == "]":
            return
        try:
            item, end = decode(text, at)
        except ValueError as error:
            raise DataError(f"{file}: line {1 + text.count(chr(10), 0, at)} is not JSON: {one_line(error)}") from None
        line, counted = line + text.count("\n", counted, at), at
        yield line, item
        at = _skip_space(text, end)
        separator = text[at : at + 1]
        if separator == "]":
            return
        if separator != ",":
            raise DataError(f"{file}: line {1 + text.count(chr(10), 0, at)} is not JSON: expected a comma or ]")
        at += 1


def _skip_space(text: str, at: int) -> int:
    while text[at : at + 1] in (" ", "\n", "\r", "\t") and at < len(text):
        at += 1
    return at


class _Records:
    """Objects on their way into Arrow: which columns they had, and whether their labels are lists."""

    def __init__(self, file: Path, objects: Iterator[tuple[int, Any]], wanted: Wanted) -> None:
        self.file = file
        self.objects = objects
        self.wanted = wanted
        self.label = wanted.label if wanted.label not in wanted.texts else None
        self.columns = wanted.columns
        self.seen: dict[str, None] = {}  # in the order of the file
        self.lists: bool | None = None  # unknown until a label is seen
        self.row = 0

    def table(self) -> Any:
        """All objects, with the wanted columns that any of them had."""
        batches = self._batches()
        held = []
        for batch in batches:
            held.append(batch)
            if self.label is None or self.lists is not None:
                break
        label_type = LISTS if self.lists else TEXT
        schema = pa.schema([(column, label_type if column == self.label else TEXT) for column in self.columns])
        table = gathered((batch.cast(schema) for batch in chain(held, batches)), schema)
        return table.select([column for column in self.columns if column in self.seen])

    def _batches(self) -> Iterator[Any]:
        while chunk := list(islice(self.objects, BATCH)):
            data: dict[str, list[Any]] = {column: [] for column in self.columns}
            for line, record in chunk:
                self._add(record, line, data)
            yield pa.record_batch([self._array(column, data[column]) for column in self.columns], names=self.columns)

    def _add(self, record: Any, line: int, data: dict[str, list[Any]]) -> None:
        self.row += 1
        at = f"{self.file}: row {self.row} (line {line})"
        if not isinstance(record, dict):
            raise DataError(f"{at} is a {type(record).__name__}, expected an object with columns")
        self.seen.update(dict.fromkeys(record))
        for column, values in data.items():
            try:
                values.append(self._value(column, record.get(column)))
            except (TypeError, UnicodeEncodeError) as error:
                raise DataError(f"{at}, column {column!r}: {one_line(error)}") from None

    def _value(self, column: str, item: Any) -> Any:
        if column in self.wanted.texts:
            if item is not None and not isinstance(item, str):
                raise TypeError(f"expected text, not {item!r}")
        else:
            item = text_of(item)
        for text in item if isinstance(item, list) else [item or ""]:
            text.encode()  # half of a surrogate pair cannot be written
        if item is not None and column == self.label:
            if self.lists is None:
                self.lists = isinstance(item, list)
            if isinstance(item, list) != self.lists:
                raise TypeError("single labels and lists of labels are mixed")
        elif isinstance(item, list):
            raise TypeError("expected one value, not a list")
        return item

    def _array(self, column: str, values: list[Any]) -> Any:
        if all(item is None for item in values):
            return pa.nulls(len(values))
        return pa.array(values, LISTS if self.lists and column == self.label else TEXT)
