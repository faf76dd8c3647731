"""Arguments and results of file readers, and checks of text encodings."""

import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa

from dal.data.label_values import listing, shown
from dal.errors import DataError, did_you_mean, printable

#: Size in bytes above which a table is kept in a memory-mapped temporary file.
SPILL_BYTES = 64 << 20

TEXT = pa.large_string()
LISTS = pa.large_list(TEXT)


@dataclass(frozen=True, eq=False)
class FileSource:
    """Table read from a file or another source.

    Attributes:
        name: name of the source in messages and reports.
        table: wanted columns that the source has.
        class_names: column -> names of its codes, where the source declares them.
        line_of: function from a row to its first line, for files of lines.
        splits: names of the source's splits.
        notes: messages for the user about how the source was read.
        id_column: column of the stored ids of the rows, which are not those of a user's column.
    """

    name: str
    table: Any
    class_names: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    line_of: Callable[[int], int | None] = lambda row: None
    splits: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    id_column: str | None = None

    def where(self, column: str | None = None) -> Callable[[int], str]:
        """A function that names a row in messages. Its argument is counted from 0, the row in the text from 1."""

        def name_row(row: int) -> str:
            line = self.line_of(row)
            at = f"{self.name}: row {row + 1}" + (f" (line {line})" if line is not None else "")
            return at if column is None else f"{at}, column {shown(column)}"

        return name_row


@dataclass(frozen=True)
class ColumnRequest:
    """Columns to read. All are required, except those in `optional`.

    Attributes:
        texts: one text column, or two for pairs.
        label: label column.
        others: further columns.
        optional: columns that may be missing.
        options: column -> option that names it, for messages.
        delimiter: cell separator of a text file; None to detect it.
        id: the one of `others` with the ids; None for none.
    """

    texts: tuple[str, ...]
    label: str | None = None
    others: tuple[str, ...] = ()
    optional: frozenset[str] = frozenset()
    options: Mapping[str, str] = field(default_factory=dict)
    delimiter: str | None = None
    id: str | None = None

    @property
    def columns(self) -> list[str]:
        """All columns, without repetitions."""
        return list(dict.fromkeys((*self.texts, *([] if self.label is None else [self.label]), *self.others)))

    @property
    def required(self) -> list[str]:
        """Columns that must exist."""
        return [column for column in self.columns if column not in self.optional]

    def select_from(self, columns: Sequence[str], name: str, *, cut: str = "") -> list[str]:
        """The wanted columns that occur in `columns`.

        Args:
            columns: existing columns.
            name: name of the source, for messages.
            cut: description of the separator, for messages.

        Raises:
            DataError: a required column is missing, or a wanted column occurs twice.
        """
        present = []
        for column in self.columns:
            count = list(columns).count(column)
            if count > 1:
                raise DataError(f"{name} has {count} columns named {shown(column)}")
            if count:
                present.append(column)
            elif column not in self.optional:
                has = f"; its columns are {listing(list(columns))}{cut}"
                raise DataError(
                    f"{name} has no column {shown(column)}{did_you_mean(column, columns)}{has}{self._hint(column)}"
                )
        return present

    def _hint(self, column: str) -> str:
        """Advice for a missing column: the option that names it."""
        if column not in self.options:
            return ""
        hint = "; for a pool without labels set label to null" if column == self.label else ""
        return f"; {self.options[column]} says which column to read{hint}"


def collect_batches(batches: Iterable[Any], schema: Any) -> Any:
    """Collect record batches into a table, in memory if small, else in a temporary memory-mapped file."""
    held: list[Any] = []
    size = 0
    stream = iter(batches)
    for batch in stream:
        held.append(batch)
        size += batch.nbytes
        if size > SPILL_BYTES:
            return _collect_in_file(held, stream, schema)
    return pa.Table.from_batches(held, schema)


def _collect_in_file(held: list[Any], rest: Iterator[Any], schema: Any) -> Any:
    with tempfile.TemporaryDirectory(prefix="dal-", ignore_cleanup_errors=True) as folder:
        file = Path(folder) / "rows.arrow"
        with pa.OSFile(str(file), "wb") as sink, pa.ipc.new_file(sink, schema) as writer:
            while held:
                writer.write_batch(held.pop(0))
            for batch in rest:
                writer.write_batch(batch)
        mapped = pa.memory_map(str(file))  # stays readable after the file is unlinked
        return pa.ipc.open_file(mapped).read_all()


# -- Encodings ---------------------------------------------------------------------------------------------------------


def refuse_other_encodings(file: Path) -> None:
    """Refuse files in UTF-16 or UTF-32, with or without a byte-order mark, workbooks and archives.

    Raises:
        DataError: the file is one of these.
    """
    with file.open("rb") as stream:
        head = stream.read(512)
    name = _wide_encoding(head)
    if name:
        raise DataError(
            f"{printable(str(file), 200)}: line 1, byte 1 is not UTF-8; the file looks like {name}: save it as UTF-8"
        )
    for start, kind in _OTHER_FILES.items():
        if head.startswith(start):
            raise DataError(f"{printable(str(file), 200)} is {kind}, not a text file: expected UTF-8 text")


_OTHER_FILES = {
    b"PK\x03\x04": "a workbook or a zip archive",
    b"\x1f\x8b": "a gzip archive",
    b"\xd0\xcf\x11\xe0": "a workbook",
    b"PAR1": "a Parquet file",
    b"%PDF": "a PDF",
    b"SQLite format 3\0": "a database",
}


def _wide_encoding(head: bytes) -> str:
    """ "UTF-16" or "UTF-32" if the first bytes have its byte-order mark or its pattern of zero bytes, else ""."""
    if head.startswith((b"\xff\xfe\0\0", b"\0\0\xfe\xff")):
        return "UTF-32"
    if head.startswith((b"\xff\xfe", b"\xfe\xff")):
        return "UTF-16"
    for piece in (head[:8], head):  # an ASCII column name is enough; otherwise the whole head in a Western language
        zeros = [piece[start::4].count(0) / max(1, len(piece[start::4])) for start in range(4)]
        if len(piece) >= 8 and (min(zeros[1:]) > 0.9 > 0.1 > zeros[0] or min(zeros[:3]) > 0.9 > 0.1 > zeros[3]):
            return "UTF-32"
        pairs = [piece[start::2].count(0) / max(1, len(piece[start::2])) for start in range(2)]
        if len(piece) >= 8 and max(pairs) > 0.4 and min(pairs) < 0.05:
            return "UTF-16"
    return ""


def utf8_fault(file: Path) -> str:
    """The message for the first byte that is not UTF-8; empty if the whole file is UTF-8."""
    with file.open("rb") as stream:
        for number, line in enumerate(stream, 1):
            try:
                line.decode()
            except UnicodeDecodeError as error:
                byte = line[error.start]
                return (
                    f"{printable(str(file), 200)}: line {number}, byte {error.start + 1} (0x{byte:02x}) is not UTF-8: "
                    "save it as UTF-8"
                )
    return ""
