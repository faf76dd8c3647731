"""Corpus files as CSV, JSON lines and Parquet: the suffix of the name decides. Equal corpora have equal bytes."""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from dal.data.csv_files import csv_columns
from dal.data.file_source import ColumnRequest
from dal.data.label_cells import NONE_WORD
from dal.errors import DataError, one_line
from dal.formats import corpus_parquet, hugging_face
from dal.formats.corpus import (
    COLUMNS,
    SUFFIXES,
    Corpus,
    CorpusRow,
    check_label,
    check_suffix,
    columns_of,
    foreign_name,
    json_text,
    label_cell,
    record,
    row_of,
    written_name,
)
from dal.store.atomic_files import named, write_whole
from dal.store.bounded_json import parse_json
from dal.store.spreadsheet import as_csv, original, read_sheet

_REQUIRED = ("id", "text", "label", "state", "answers", "notes")


def write_corpus(path: Path, corpus: Corpus) -> None:
    """Write a corpus atomically, in the format of the suffix.

    Raises:
        ConfigError: the suffix is not one of `SUFFIXES`, or the file cannot be written.
    """
    check_suffix(path)
    writers: Mapping[str, Callable[[Corpus], str | bytes]] = {
        ".csv": lambda corpus: "\ufeff" + csv_text(corpus),
        ".jsonl": jsonl_text,
        ".parquet": corpus_parquet.parquet_bytes,
    }
    write_whole(path, writers[path.suffix.lower()](corpus))


def read_corpus(path: Path) -> Corpus:
    """Read a file of `write_corpus`, or a folder of `hugging_face.write_folder`.

    The classes are those of the folder, otherwise the names found, sorted.

    Raises:
        ConfigError: the suffix is not one of `SUFFIXES`.
        DataError: the file was not written as a corpus; the message names the line.
    """
    if path.is_dir():
        return hugging_face.read_folder(path)
    check_suffix(path)
    if path.suffix.lower() == ".parquet":
        return corpus_parquet.read_parquet(path)
    lists = False
    rows: list[CorpusRow] = []
    numbers: dict[str, int] = {}
    for number, values in (_csv_records if path.suffix.lower() == ".csv" else _jsonl_records)(path):
        try:
            fields = {foreign_name(name): value for name, value in values.items() if name not in COLUMNS}
            row = row_of(values, fields)
            lists = lists or isinstance(values["label"], list)
            _check_label(row, values["label"])
        except ValueError as error:
            raise DataError(f"{named(path)}, line {number}: {one_line(error)}") from None
        if row.id in numbers:
            raise DataError(
                f"{named(path)}, line {number}: the id {row.id!r} is already used by line {numbers[row.id]}"
            )
        numbers[row.id] = number
        rows.append(row)
    return corpus_of(rows, multilabel=lists)


def table_path(path: Path) -> Path:
    """The file with the rows of a corpus: the Parquet file of a folder of `hugging_face.write_folder`, else itself."""
    return path / hugging_face.TABLE if path.is_dir() else path


def is_corpus(path: Path) -> bool:
    """Whether a file has the columns of a corpus that `write_corpus` wrote, or a folder such a file."""
    path = table_path(path)
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES or not path.is_file():
        return False
    names: Iterable[str] = ()
    try:
        if suffix == ".csv":
            names = csv_columns(path, ColumnRequest(()))
        elif suffix == ".jsonl":
            names = next(json_lines(path), (0, {}))[1]
        else:
            names = pq.read_schema(path).names
    except (DataError, pa.ArrowException, OSError):  # the reader of the data says what is wrong
        return False
    return set(_REQUIRED) <= set(names)


def corpus_of(rows: list[CorpusRow], *, multilabel: bool = False) -> Corpus:
    """A corpus of rows whose classes are not declared: multi-label if an answer has no class or several."""
    answers = [answer for row in rows for answer in row.answers if answer.classes is not None]
    several = multilabel or any(len(answer.classes or ()) != 1 for answer in answers)
    names = sorted({name for answer in answers for name in answer.classes or ()})
    return Corpus(rows, tuple(names), several)


def _check_label(row: CorpusRow, label: Any) -> None:
    """Check that a label agrees with the answer that stands: a cell, a name or a list of names."""
    classes = None if row.answer is None else row.answer.classes
    names = list(classes or ())
    if classes is not None and not names and isinstance(label, str):  # the word for no class is bracketed if necessary
        check_label(row, label.strip("[]"), NONE_WORD)
    elif isinstance(label, list):
        check_label(row, label, names)
    elif isinstance(label, str) and label:
        check_label(row, label, label_cell(row, Corpus([row], (), len(names) != 1)))
    else:
        check_label(row, label or None, "|".join(names) or None)


# -- CSV -------------------------------------------------------------------------------------------------------------


def csv_text(corpus: Corpus) -> str:
    """Format a corpus as CSV without a byte-order mark, with everything that a spreadsheet would run made inert."""
    columns = columns_of(corpus)
    lines: list[list[object]] = [[*columns]]
    for row in corpus.rows:
        values = record(row, corpus.multilabel) | {"label": label_cell(row, corpus)}
        values |= {name: json_text(values[name]) for name in ("answers", "notes")}
        values |= {written_name(name): cell_text(value) for name, value in row.fields.items()}
        lines.append([values.get(name) for name in columns])
    return as_csv(lines, digits=None)


def cell_text(value: Any) -> str:
    """A foreign value as a cell: texts unchanged, other values as JSON, nothing for None."""
    return value if isinstance(value, str) else "" if value is None else json_text(value)


def _csv_records(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    sheet = read_sheet(path, _REQUIRED)
    names = [own if own in COLUMNS else original(name) for own, name in zip(sheet.head, sheet.columns, strict=True)]
    for number, cells in sheet.lines:
        values: dict[str, Any] = {name: original(cell) for name, cell in zip(names, cells, strict=True)}
        if "text_pair" in values and not values["text_pair"]:
            values["text_pair"] = None
        for name in ("answers", "notes"):
            try:
                values[name] = parse_json(values[name])
            except ValueError as error:
                raise DataError(f"{named(path)}, line {number}: {name} is not JSON: {one_line(error)}") from None
        yield number, values


# -- JSON lines ------------------------------------------------------------------------------------------------------


def jsonl_text(corpus: Corpus) -> str:
    """Format a corpus as JSON lines: one object per row, all of `COLUMNS`, then the foreign columns that it has."""
    lines = []
    for row in corpus.rows:
        values = record(row, corpus.multilabel)
        values |= {written_name(name): value for name, value in row.fields.items()}
        lines.append("{" + ",".join(f"{json.dumps(name)}:{json_text(value)}" for name, value in values.items()) + "}\n")
    return "".join(lines)


def _jsonl_records(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    for number, values in json_lines(path):
        missing = [name for name in _REQUIRED if name not in values]
        if missing:
            raise DataError(f"{named(path)}, line {number} has no {missing[0]}: it was not written by dal export")
        yield number, values


def json_lines(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """The objects of a file of JSON lines with their line numbers, from 1. Empty lines are skipped.

    Raises:
        DataError: the file cannot be read, or a line is not a JSON object.
    """
    try:
        with path.open("rb") as file:
            for number, line in enumerate(file, 1):
                line = line.removeprefix(b"\xef\xbb\xbf") if number == 1 else line
                if not line.strip():
                    continue
                try:
                    values = parse_json(line.decode())
                except ValueError as error:
                    raise DataError(f"{named(path)}, line {number} is not JSON: {one_line(error)}") from None
                if not isinstance(values, dict):
                    raise DataError(f"{named(path)}, line {number} is not a JSON object")
                yield number, values
    except OSError as error:
        raise DataError(f"{named(path)} cannot be read: {error.strerror}") from error
