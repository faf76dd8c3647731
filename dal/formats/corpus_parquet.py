"""Parquet files of the corpus, with the same bytes for the same rows."""

import io
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from dal.errors import DataError, one_line
from dal.formats.corpus import (
    COLUMNS,
    Corpus,
    CorpusRow,
    check_label,
    columns_of,
    foreign_name,
    json_text,
    record,
    row_of,
    seconds_of,
    time_text,
    written_name,
)
from dal.store.atomic_files import named
from dal.store.bounded_json import parse_json

TIME = pa.timestamp("us", "UTC")
_ANSWER = pa.struct(
    {"classes": pa.list_(pa.string()), "who": pa.string(), "source": pa.string(), "at": TIME, "seconds": pa.float64()}
    | {"confidence": pa.float64(), "round": pa.int64(), "strategy": pa.string(), "seen": pa.string()}
    | {"stands": pa.bool_()}
)
_NOTE = pa.struct({"text": pa.string(), "who": pa.string()})
#: Types of the columns that are not text; `label` is text, or a list of texts when multi-label.
TYPES = {"at": TIME, "seconds": pa.float64(), "confidence": pa.float64(), "round": pa.int64()}
TYPES |= {"answers": pa.list_(_ANSWER), "notes": pa.list_(_NOTE)}

_EXACT = 1 << 53  # integers up to here are exact as float64
_ROWS = 10_000  # rows per row group


def table_of(corpus: Corpus) -> Any:
    """An Arrow table of the corpus: `COLUMNS`, then the foreign columns, typed by their values."""
    records = [record(row, corpus.multilabel) for row in corpus.rows]
    foreign = {written_name(name): name for name in corpus.foreign}
    arrays, fields = [], []
    for column in columns_of(corpus):
        if column in foreign:
            array = foreign_column([row.fields.get(foreign[column]) for row in corpus.rows])
        else:
            type = pa.list_(pa.string()) if column == "label" and corpus.multilabel else TYPES.get(column, pa.string())
            array = pa.array([_as_arrow(column, values[column]) for values in records], type)
        arrays.append(array)
        fields.append(pa.field(column, array.type))
    return pa.Table.from_arrays(arrays, schema=pa.schema(fields))


def _as_arrow(column: str, value: Any) -> Any:
    if column == "at":
        return _moment(value)
    if column in ("answers", "notes"):
        return [_nested(each) for each in value]
    return value


def _nested(values: Mapping[str, Any]) -> dict[str, Any]:
    timed = dict(values) | ({"at": _moment(values["at"])} if "at" in values else {})
    return timed | ({"seen": json_text(values["seen"])} if "seen" in values else {})


def _moment(text: str | None) -> datetime | None:
    return None if text is None else datetime.fromtimestamp(seconds_of(text), UTC)


def foreign_column(values: Sequence[Any]) -> Any:
    """A column of foreign values: text, bool, int64 or float64 where all have this type, else their JSON as text."""
    kinds = {type(value) for value in values if value is not None}
    exact = all(abs(value) <= _EXACT for value in values if type(value) is int)
    if kinds <= {str}:
        return pa.array(values, pa.string())
    if kinds == {bool}:
        return pa.array(values, pa.bool_())
    if kinds == {int} and exact:
        return pa.array(values, pa.int64())
    if kinds <= {int, float} and exact:
        return pa.array(values, pa.float64())
    texts = [value if isinstance(value, str) or value is None else json_text(value) for value in values]
    return pa.array(texts, pa.string())


def parquet_bytes(corpus: Corpus) -> bytes:
    """Format a corpus as a Parquet file."""
    return bytes_of(table_of(corpus))


def bytes_of(table: Any) -> bytes:
    """Format a table as a Parquet file, with fixed settings of the writer."""
    sink = io.BytesIO()
    pq.write_table(table, sink, row_group_size=_ROWS, compression="zstd", version="2.6", use_dictionary=True)
    return sink.getvalue()


def read_parquet(path: Path, *, classes: Sequence[str] | None = None) -> Corpus:
    """Read a Parquet file of a corpus.

    Args:
        path: the file.
        classes: class names of labels that are codes; None for labels that are names.

    Raises:
        DataError: the file was not written as a corpus; the message names the row.
    """
    try:
        table = pq.ParquetFile(path).read()
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"{named(path)} is not a whole Parquet file: {one_line(error)}") from None
    missing = [name for name in COLUMNS if name not in table.column_names and name != "text_pair"]
    if missing:
        raise DataError(f"{named(path)} has no column {missing[0]}: it was not written by dal export")
    several = pa.types.is_list(table.schema.field("label").type)
    rows = []
    for number, values in enumerate(table.to_pylist(), 1):
        try:
            row = _row(values)
            label = values["label"]
            if classes is not None and label is not None:
                label = [classes[code] for code in label] if several else classes[label]
            check_label(row, label, record(row, several)["label"])
            rows.append(row)
        except (ValueError, IndexError) as error:
            raise DataError(f"{named(path)}, row {number}: {one_line(error)}") from None
        except (TypeError, AttributeError, KeyError):  # a column of another type than dal export writes
            raise DataError(f"{named(path)}, row {number}: it is not as dal export writes it") from None
    if classes is None:
        names = {name for row in rows for answer in row.answers for name in answer.classes or ()}
        classes = sorted(names)
    return Corpus(rows, tuple(classes), several)


def _row(values: dict[str, Any]) -> CorpusRow:
    for name in ("answers", "notes"):
        values[name] = [_from_nested(each) for each in values[name] or []]
    fields = {foreign_name(name): value for name, value in values.items() if name not in COLUMNS}
    return row_of(values, fields)


def _from_nested(values: dict[str, Any]) -> dict[str, Any]:
    """The JSON values of an answer or a note; an answer without classes was declined."""
    if "stands" not in values:
        return values
    at = values["at"]
    moment = None if at is None else time_text(at.timestamp())
    seen = None if values["seen"] is None else parse_json(values["seen"])
    return values | {"at": moment, "seen": seen, "declined": values["classes"] is None}
