"""Reader of CSV and TSV files into Arrow tables of strings, with the location of errors."""

import csv
import io
import re
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa
import pyarrow.csv

from dal.data.file_source import TEXT, ColumnRequest, FileSource, collect_batches, refuse_other_encodings, utf8_fault
from dal.data.label_values import SEPARATORS, reason, shown
from dal.data.quotes import Contradiction, contradiction, is_quoted, stray_return
from dal.errors import DataError, printable
from dal.store.spreadsheet import is_inert, may_be_own, original

#: Bytes parsed at a time; a file with a longer row is parsed in one block.
CSV_BLOCK = 8 << 20

_MOST_BLOCK = (1 << 31) - 1
_HEAD = 1 << 20  # bytes searched for the column names
_NAMES = {",": "comma", ";": "semicolon", "\t": "tab", "|": "bar"}
_WRITTEN = {"\\t": "\t", "tab": "\t", "comma": ",", "semicolon": ";", "bar": "|"}


def delimiter_of(text: str | None) -> str | None:
    """Convert the option `delimiter`, a character or its name, to a character.

    Raises:
        DataError: the option is not a valid separator.
    """
    if text is None:
        return None
    mark = _WRITTEN.get(text, text)
    if len(mark) != 1 or not mark.isascii() or mark in '"\r\n\0':
        raise DataError(f"delimiter: {shown(text)} separates no cells: expected one character, such as ; or tab")
    return mark


@dataclass(frozen=True)
class _Form:
    """Dialect of a file.

    Attributes:
        delimiter: cell separator.
        quoted: whether cells may be enclosed in quotes.
        skipped: number of lines before the column names.
        own: whether the columns are those of a file written by a command of `dal`.
    """

    delimiter: str
    quoted: bool = True
    skipped: int = 0
    own: bool = False

    @property
    def name(self) -> str:
        """Name of the delimiter."""
        return _NAMES.get(self.delimiter, shown(self.delimiter))

    @property
    def cut(self) -> str:
        """Description of the delimiter for messages."""
        return f" (each {self.name} ends a cell; data.delimiter sets another separator)"

    def parsing(self, **options: Any) -> Any:
        """Arrow's parse options."""
        quote = '"' if self.quoted else False
        return pa.csv.ParseOptions(
            delimiter=self.delimiter, quote_char=quote, newlines_in_values=self.quoted, **options
        )

    def reading(self, block: int, **options: Any) -> Any:
        """Arrow's read options."""
        return pa.csv.ReadOptions(block_size=min(block, _MOST_BLOCK), skip_rows=self.skipped, **options)


def read_csv(file: Path, wanted: ColumnRequest) -> FileSource:
    """Read columns of a .csv or .tsv file as strings; "NA" and "null" are ordinary texts.

    Without a delimiter in `wanted`, the separator is the one with which the file has the wanted columns: a comma (in a
    .tsv file a tab), semicolon, tab or bar. For files written by a command of `dal`, the apostrophes before formulas
    are removed.

    Raises:
        DataError: the file cannot be read, or lacks a required column.
    """
    size = file.stat().st_size
    refuse_other_encodings(file)
    form = _form(file, wanted)
    stray = stray_return(file, form.delimiter, quoted=form.quoted)
    if stray is not None:
        raise DataError(
            f"{_name(file)}: line {stray} holds a carriage return outside of quotes, where it would end the row: put "
            "the cell in quotes, or leave the character out"
        )
    try:
        table = _read_csv(file, wanted, form, min(size + 1, CSV_BLOCK))
    except UnicodeDecodeError as error:
        raise DataError(utf8_fault(file) or f"{_name(file)} is not UTF-8: save it as UTF-8") from error
    except pa.ArrowInvalid as error:
        if size < CSV_BLOCK or "straddling" not in str(error):
            raise DataError(_csv_fault(file, form, error)) from error
        try:
            table = _read_csv(file, wanted, form, size + 1)
        except pa.ArrowInvalid as whole:
            raise DataError(_csv_fault(file, form, whole)) from whole
    table, notes = _without_apostrophes(table, _name(file), form)
    return FileSource(_name(file), table, line_of=lambda row: line_of_row(file, form, row), notes=notes)


def _name(file: Path) -> str:
    return printable(str(file), 200)


# -- dialect ---------------------------------------------------------------------------------------------------------


def _form(file: Path, wanted: ColumnRequest) -> _Form:
    """Detect the dialect of a file.

    Raises:
        DataError: the quotes are inconsistent, or a required column is missing.
    """
    head, declared = _head(file)
    delimiter = wanted.delimiter or declared or _delimiter(head, file.suffix.lower(), wanted)
    skipped = int(declared is not None)
    names = _first_record(head, delimiter)
    if names and not set(wanted.required) <= set(names):  # report missing columns before errors in the rows
        if fault := utf8_fault(file):
            raise DataError(fault)
        wanted.select_from(names, _name(file), cut=_Form(delimiter).cut)
    with file.open("rb") as stream:
        marked = stream.read(3) == b"\xef\xbb\xbf"  # the byte-order mark, which spreadsheets write
    own = may_be_own([name.strip() for name in names], marked=marked)
    if delimiter == "\t":
        quoted = is_quoted(file, delimiter)
        if isinstance(quoted, Contradiction):
            raise DataError(
                f"{_name(file)}: line {quoted.line}: {quoted.problem}: cells cut by tabs are not quoted, or all are "
                "that hold a quote or a line break; correct the line, or save the file as CSV"
            )
        return _Form(delimiter, quoted, skipped, own)
    wrong = contradiction(file, delimiter)
    form = _Form(delimiter, True, skipped, own)
    if wrong is not None:
        if fault := utf8_fault(file):
            raise DataError(fault)
        raise DataError(
            f"{_name(file)}: line {wrong.line}: {wrong.problem}: is a quote or a {form.name} out of place? A text that "
            "begins with a quote must be enclosed in quotes, and the quotes within it doubled"
        )
    return form


def _head(file: Path) -> tuple[str, str | None]:
    """The first lines of a file, and the separator declared by a line such as `sep=;` before them."""
    with file.open("rb") as stream:
        head = stream.read(_HEAD).decode("utf-8-sig", "replace").lstrip("\r\n")
    first, _, rest = head.partition("\n")
    first = first.rstrip("\r")
    if first.lower().startswith("sep=") and len(first) == 5 and first[4].isascii() and first[4] != '"':
        return rest, first[4]
    return head, None


def _delimiter(head: str, suffix: str, wanted: ColumnRequest) -> str:
    """The separator with which the first line has the wanted columns; otherwise the usual one of the file type."""
    usual = "\t" if suffix == ".tsv" else ","
    columns = {mark: _first_record(head, mark) for mark in (usual, *SEPARATORS)}
    fitting = [mark for mark, names in columns.items() if set(wanted.required) <= set(names)]
    if usual in fitting:
        return usual
    if not fitting and len(columns[usual]) > 1:
        return usual
    return max(fitting or columns, key=lambda mark: len(columns[mark]))


def _first_record(head: str, delimiter: str) -> list[str]:
    if delimiter == "\t":
        first = re.split(r"[\r\n]", head, maxsplit=1)[0]
        return [cell.strip('"') for cell in first.split("\t")] if first else []
    limit = csv.field_size_limit(sys.maxsize)
    try:
        return next(csv.reader(io.StringIO(head, newline=""), delimiter=delimiter), [])
    except csv.Error:
        return []
    finally:
        csv.field_size_limit(limit)


# -- reading ---------------------------------------------------------------------------------------------------------


def csv_columns(file: Path, wanted: ColumnRequest) -> list[str]:
    """Names of all columns of a .csv or .tsv file, with the separator with which it has the wanted columns.

    Raises:
        DataError: the file cannot be read, or lacks a required column.
    """
    refuse_other_encodings(file)
    head, declared = _head(file)
    return _first_record(head, wanted.delimiter or declared or _delimiter(head, file.suffix.lower(), wanted))


def _read_csv(file: Path, wanted: ColumnRequest, form: _Form, block: int) -> Any:
    names = pa.csv.open_csv(
        file,
        read_options=form.reading(block),
        parse_options=form.parsing(),
        convert_options=pa.csv.ConvertOptions(check_utf8=False),
    ).schema.names
    columns = wanted.select_from(names, _name(file), cut=form.cut)
    convert = pa.csv.ConvertOptions(
        include_columns=columns, column_types=dict.fromkeys(columns, TEXT), strings_can_be_null=False
    )
    with pa.csv.open_csv(
        file, read_options=form.reading(block), parse_options=form.parsing(), convert_options=convert
    ) as reader:
        return collect_batches(reader, reader.schema)


def _without_apostrophes(table: Any, name: str, form: _Form) -> tuple[Any, tuple[str, ...]]:
    """The table without the apostrophes that `dal` writes before formulas, and a note if there were any.

    A file with an unprotected formula was not written by `dal` and is returned unchanged.
    """
    changed: dict[int, Any] = {}
    count = 0
    for index in range(table.num_columns if form.own else 0):
        chunks, before = [], count
        for chunk in table.column(index).chunks:
            cells = chunk.to_pylist()
            if not all(map(is_inert, cells)):
                return table, ()
            chunks.append([original(cell) for cell in cells])
            count += sum(old != new for old, new in zip(cells, chunks[-1], strict=True))
        if count > before:
            changed[index] = pa.chunked_array(chunks, TEXT)
    if not count:
        return table, ()
    for index, column in changed.items():
        table = table.set_column(index, table.field(index), column)
    cells = "1 cell has" if count == 1 else f"{count:,} cells have"
    return table, (
        f"{name} was written by dal: {cells} been read without the apostrophe that keeps spreadsheets from running a "
        "formula (to keep it in a file of your own, rename or add a column)",
    )


def _csv_fault(file: Path, form: _Form, error: Exception) -> str:
    if fault := utf8_fault(file):
        return fault
    broken: list[Any] = []

    def keep(row: Any) -> str:
        broken.append(row)
        return "error"

    reading = form.reading(max(file.stat().st_size + 1, 1 << 20), use_threads=False)
    try:
        pa.csv.read_csv(file, read_options=reading, parse_options=form.parsing(invalid_row_handler=keep))
    except pa.ArrowInvalid:
        if broken:
            row = broken[0]
            line = line_of_row(file, form, row.number - 2 - form.skipped) if row.number else None
            at = f"row {row.number - 1 - form.skipped} (line {line})" if row.number else "a row"
            quote = "quote or a " if form.quoted else ""
            return (
                f"{_name(file)}: {at} has {row.actual_columns} columns, expected {row.expected_columns}: "
                f"is a {quote}{form.name} out of place?{form.cut}"
            )
    return f"{_name(file)} cannot be read as {file.suffix[1:].upper()}: {reason(error)}"


def line_of_row(file: Path, form: _Form, row: int) -> int | None:
    """The first line of data row `row`, counted from 1. Rows may hold line breaks, and empty lines are not rows."""
    limit = csv.field_size_limit(sys.maxsize)
    quoting: Literal[0, 3] = csv.QUOTE_MINIMAL if form.quoted else csv.QUOTE_NONE
    try:
        with file.open(encoding="utf-8-sig", errors="replace", newline="") as lines:
            reader = csv.reader(lines, delimiter=form.delimiter, quoting=quoting)
            before, count = 0, -2 - form.skipped
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
