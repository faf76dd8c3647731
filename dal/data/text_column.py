"""Which column of a file holds its texts."""

from collections.abc import Iterable
from itertools import islice
from typing import Any

import pyarrow.parquet

from dal.data.csv_files import csv_columns, delimiter_of, read_csv
from dal.data.data_paths import path_of
from dal.data.file_source import ColumnRequest
from dal.data.json_files import json_objects
from dal.data.label_values import SEPARATORS, listing
from dal.errors import DataError, printable

_ROWS = 500  # rows looked at
_LENGTH = 20  # characters that a text has on average, at least; names and categories have fewer
_DISTINCT = 0.5  # share of different values, at least; categories repeat


def text_column(path: str, *, delimiter: str | None = None, others: Iterable[str | None] = ()) -> str:
    """Name of the only column of a file that looks like texts; "text" if there are several and one has that name.

    A text has words, and most texts of a file differ.

    Args:
        path: a .csv, .tsv, .jsonl, .json or .parquet file; of anything else "text" is returned.
        delimiter: cell separator of a .csv or .tsv file; None to detect it.
        others: columns that are something else, such as the label.

    Raises:
        DataError: no column looks like texts, or several do and none is called "text"; the message lists them.
    """
    file = path_of(path)
    suffix = file.suffix.lower()
    if not file.is_file() or suffix not in (".csv", ".tsv", ".jsonl", ".json", ".parquet"):
        return "text"
    columns: dict[str, list[Any]] = {}
    if suffix in (".csv", ".tsv"):
        marks = (delimiter_of(delimiter),) if delimiter is not None else (None, *SEPARATORS)
        headers = {mark: csv_columns(file, ColumnRequest((), delimiter=mark)) for mark in marks}
        mark = max(headers, key=lambda each: len(headers[each]))
        table = read_csv(file, ColumnRequest((), others=tuple(headers[mark]), delimiter=mark)).table.slice(0, _ROWS)
        columns = table.to_pydict()
    elif suffix == ".parquet":
        for batch in islice(pyarrow.parquet.ParquetFile(file).iter_batches(_ROWS), 1):
            columns = batch.to_pydict()
    else:
        for record in islice(json_objects(file), _ROWS):
            for name, value in record.items():
                columns.setdefault(name, []).append(value)
    left_out = set(others)
    found = [name for name, values in columns.items() if name not in left_out and _looks_like_texts(values)]
    name = printable(str(file), 200)
    if len(found) == 1:
        return found[0]
    if "text" in (found or columns):
        return "text"
    if found:
        raise DataError(f"{name}: several columns look like texts ({listing(found)}): name one with --text")
    raise DataError(
        f"{name}: no column looks like texts; its columns are {listing(list(columns))}: name one with --text"
    )


def _looks_like_texts(values: list[Any]) -> bool:
    texts = [value.strip() for value in values if isinstance(value, str) and value.strip()]
    if not texts or len(texts) < len(values) / 2 or len(set(texts)) < _DISTINCT * len(texts):
        return False
    words = sum(len(text.split()) > 1 or not text.isascii() for text in texts)  # not all languages have spaces
    return sum(map(len, texts)) >= _LENGTH * len(texts) and words >= len(texts) / 2
