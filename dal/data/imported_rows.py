"""Rows of a user's file as a project stores them: ids, texts, labels and all other columns."""

import datetime
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet
from numpy.typing import NDArray

from dal.data.csv_files import csv_columns
from dal.data.data_paths import path_of
from dal.data.json_files import json_objects
from dal.data.load_table import read
from dal.data.rows import Rows
from dal.data.table_rows import rows_of
from dal.data.text_data import TextData
from dal.store.project_rows import ProjectRow

_PAGE = 2_000  # rows in Python's memory at a time


@dataclass(frozen=True, eq=False)
class ImportedRows:
    """Rows read from a user's file.

    Attributes:
        path: the file, as the user named it.
        rows: ids, texts and labels of the rows with a non-empty text.
        empty: number of rows that were left out because their text is empty.
        digest: BLAKE2b of the file's bytes, hexadecimal; empty for a folder, a hub data set or a demo.
        notes: messages for the user about how the file was read.
        foreign: names of the other columns.
        kept: (N,) int64, number of each row in the file.
        table: the columns of a .csv or .tsv file.
    """

    path: str
    rows: Rows
    empty: int
    digest: str
    notes: tuple[str, ...]
    foreign: tuple[str, ...]
    kept: NDArray[np.int64]
    table: Any

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def repeated(self) -> int:
        """Number of rows that repeat the text of an earlier row of the file."""
        inputs = self.rows.inputs
        return len(inputs) - len(np.unique(inputs.digests))

    @property
    def labels(self) -> dict[str, tuple[str, ...]]:
        """Class names of the labeled rows, by id; an empty tuple is "none of them", of multi-label data."""
        rows, found = self.rows, {}
        known = np.flatnonzero(rows.known.numpy())
        ids = rows.ids.take(known)
        for row_id, code in zip(ids, rows.labels[known].tolist(), strict=True):
            codes = np.flatnonzero(code).tolist() if rows.multilabel else [code]
            found[row_id] = tuple(rows.classes[each] for each in codes)
        return found

    def project_rows(self) -> Iterator[ProjectRow]:
        """The rows as a project stores them, in the order of the file."""
        fields = self._fields()
        number = -1
        for start in range(0, len(self.rows), _PAGE):
            page = self.rows.take(np.arange(start, min(start + _PAGE, len(self.rows))))
            for row_id, text, wanted in zip(page.ids, page.inputs, self.kept[start : start + _PAGE], strict=True):
                foreign: dict[str, Any] = {}
                while number < wanted:  # rows with an empty text are passed over
                    number += 1
                    foreign = next(fields)
                one, pair = (text, None) if isinstance(text, str) else text
                yield ProjectRow(row_id, one, pair, foreign)

    def _fields(self) -> Iterator[dict[str, Any]]:
        """Values of the other columns of each row of the file, by name."""
        file = path_of(self.path)
        if not self.foreign:
            while True:
                yield {}
        if file.suffix.lower() in (".jsonl", ".json"):
            for record in json_objects(file):
                yield {str(name): _plain(record[name]) for name in record if name in self.foreign}
            return
        if file.suffix.lower() == ".parquet":
            batches = pyarrow.parquet.ParquetFile(file).iter_batches(_PAGE, columns=list(self.foreign))
        else:
            batches = self.table.select(list(self.foreign)).to_batches(_PAGE)
        for batch in batches:
            for record in batch.to_pylist():
                yield {name: _plain(record[name]) for name in self.foreign}


def read_imported(recipe: TextData) -> ImportedRows:
    """Read the rows of a user's file, with its other columns.

    The other columns of a folder of `datasets`, a hub data set and a demo are not kept.

    Args:
        recipe: the file and its columns; splits and limits are ignored.

    Raises:
        DataError: the file or a label in it cannot be used; the message names the file, the row and the column.
    """
    file = path_of(recipe.path)
    wanted = recipe._wanted(frozenset())
    names = columns_of(recipe) if file.is_file() else ()
    own = {*wanted.texts, recipe.label, recipe.id}  # a column of groups is kept with the others
    foreign = tuple(name for name in names if name not in own)
    if file.suffix.lower() in (".csv", ".tsv") and names:
        wanted = replace(wanted, others=(*wanted.others, *foreign))
    source = read(recipe.path, wanted)
    rows, kept = rows_of(source, recipe)
    empty = len(source.table) - len(kept)
    notes = source.notes
    if empty:
        notes += (f"{source.name}: {empty:,} rows with an empty text were skipped",)
    digest = file_digest(file) if file.is_file() else ""
    return ImportedRows(recipe.path, rows, empty, digest, notes, foreign, kept, source.table)


def columns_of(recipe: TextData) -> tuple[str, ...]:
    """Names of all columns of a file.

    Raises:
        DataError: the file cannot be read, or lacks a column that the recipe names.
    """
    file = path_of(recipe.path)
    wanted = recipe._wanted(frozenset())
    suffix = file.suffix.lower()
    if suffix in (".csv", ".tsv"):
        return tuple(csv_columns(file, wanted))
    if suffix == ".parquet":
        read(recipe.path, wanted)  # for its messages
        return tuple(pyarrow.parquet.read_schema(file).names)
    if suffix in (".jsonl", ".json"):
        names: dict[str, None] = {}
        for record in json_objects(file):
            names.update(dict.fromkeys(map(str, record)))
        return tuple(names)
    return ()


def file_digest(file: Path) -> str:
    """BLAKE2b of the bytes of a file, hexadecimal."""
    digest = blake2b(digest_size=16)
    with file.open("rb") as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def _plain(value: Any) -> Any:
    """A value as JSON has it; NaN and infinity become None, dates and other types text."""
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): _plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    if isinstance(value, datetime.date | datetime.time):
        return value.isoformat()
    return value.hex() if isinstance(value, bytes) else str(value)
