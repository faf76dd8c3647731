"""CSV and TSV files as Arrow tables of strings, and where in the file a fault is."""

import csv
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv

from dal.data.source import TEXT, Source, Wanted, gathered, refuse_utf16, utf8_fault
from dal.errors import DataError, one_line

#: Bytes that are parsed at a time; a file with a longer row is parsed in one piece.
CSV_BLOCK = 8 << 20


def read_csv(file: Path, wanted: Wanted) -> Source:
    """The wanted columns of a .csv or .tsv file, as strings: "NA" and "null" are texts like any other."""
    size = file.stat().st_size
    delimiter = "\t" if file.suffix.lower() == ".tsv" else ","
    refuse_utf16(file)
    try:
        table = _read_csv(file, wanted, delimiter, min(size + 1, CSV_BLOCK))
    except pa.ArrowInvalid as error:
        if size < CSV_BLOCK or "straddling" not in str(error):
            raise DataError(_csv_fault(file, delimiter, error)) from error
        try:
            table = _read_csv(file, wanted, delimiter, min(size + 1, (1 << 31) - 1))
        except pa.ArrowInvalid as whole:
            raise DataError(_csv_fault(file, delimiter, whole)) from whole
    return Source(str(file), table, line_of=lambda row: line_of_row(file, delimiter, row))


def _read_csv(file: Path, wanted: Wanted, delimiter: str, block: int) -> Any:
    parse = pa.csv.ParseOptions(delimiter=delimiter, newlines_in_values=True)
    names = pa.csv.open_csv(
        file,
        read_options=pa.csv.ReadOptions(block_size=block),
        parse_options=parse,
        convert_options=pa.csv.ConvertOptions(check_utf8=False),
    ).schema.names
    columns = wanted.among(names, str(file))
    convert = pa.csv.ConvertOptions(
        include_columns=columns, column_types=dict.fromkeys(columns, TEXT), strings_can_be_null=False
    )
    reading = pa.csv.ReadOptions(block_size=block)
    with pa.csv.open_csv(file, read_options=reading, parse_options=parse, convert_options=convert) as reader:
        return gathered(reader, reader.schema)


def _csv_fault(file: Path, delimiter: str, error: Exception) -> str:
    if fault := utf8_fault(file):
        return fault
    broken: list[Any] = []

    def keep(row: Any) -> str:
        broken.append(row)
        return "error"

    size = max(file.stat().st_size + 1, 1 << 20)
    parse = pa.csv.ParseOptions(delimiter=delimiter, newlines_in_values=True, invalid_row_handler=keep)
    reading = pa.csv.ReadOptions(block_size=min(size, (1 << 31) - 1), use_threads=False)
    try:
        pa.csv.read_csv(file, read_options=reading, parse_options=parse)
    except pa.ArrowInvalid:
        if broken:
            row = broken[0]
            at = (
                f"row {row.number - 1} (line {line_of_row(file, delimiter, row.number - 2)})" if row.number else "a row"
            )
            return (
                f"{file}: {at} has {row.actual_columns} columns, expected {row.expected_columns}: "
                f"is a quote or a {'tab' if delimiter != ',' else 'comma'} out of place?"
            )
    return f"{file} cannot be read as {file.suffix[1:].upper()}: {one_line(error)}"


def line_of_row(file: Path, delimiter: str, row: int) -> int | None:
    """The line where data row `row` starts: rows may hold line breaks, and empty lines are no rows."""
    limit = csv.field_size_limit(sys.maxsize)
    try:
        with file.open(encoding="utf-8-sig", errors="replace", newline="") as lines:
            reader = csv.reader(lines, delimiter=delimiter)
            before, count = 0, -2
            for record in reader:
                count += bool(record)
                if record and count == row:
                    return before + 1
                before = reader.line_num
    except csv.Error:
        return None
    finally:
        csv.field_size_limit(limit)
    return None
