"""What a file reader returns, and what it is asked for."""

import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa

from dal.data.classes import listing, nearest
from dal.errors import DataError

#: Tables larger than this live in a memory-mapped temporary file instead of in memory.
SPILL_BYTES = 64 << 20

TEXT = pa.large_string()
LISTS = pa.large_list(TEXT)


@dataclass(frozen=True, eq=False)
class Source:
    """Columns that were read from somewhere.

    Attributes:
        name: how errors and reports call it.
        table: the wanted columns that it has.
        class_names: names of the codes of a column, where the file declares them.
        line_of: the line of the file where a row starts, for files of lines.
        splits: the names of the parts it came with.
    """

    name: str
    table: Any
    class_names: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    line_of: Callable[[int], int | None] = lambda row: None
    splits: tuple[str, ...] = ()

    def where(self, column: str | None = None) -> Callable[[int], str]:
        """A function that names a row (counted from 0 here, from 1 in the text), for errors."""

        def place(row: int) -> str:
            line = self.line_of(row)
            at = f"{self.name}: row {row + 1}" + (f" (line {line})" if line is not None else "")
            return at if column is None else f"{at}, column {column!r}"

        return place


@dataclass(frozen=True)
class Wanted:
    """The columns to read. All of them must be there but those in `optional`."""

    texts: tuple[str, ...]
    label: str | None = None
    others: tuple[str, ...] = ()
    optional: frozenset[str] = frozenset()

    @property
    def columns(self) -> list[str]:
        """All of them, each once."""
        return list(dict.fromkeys((*self.texts, *([] if self.label is None else [self.label]), *self.others)))

    def among(self, columns: Sequence[str], name: str) -> list[str]:
        """The wanted columns that `columns` has.

        Raises:
            DataError: one that must be there is missing, or stands there twice.
        """
        found = []
        for column in self.columns:
            count = list(columns).count(column)
            if count > 1:
                raise DataError(f"{name} has {count} columns named {column!r}")
            if count:
                found.append(column)
            elif column not in self.optional:
                hint = "; for a pool without labels set label to null" if column == self.label else ""
                has = f"; its columns are {listing(list(columns))}"
                raise DataError(f"{name} has no column {column!r}{nearest(column, columns)}{has}{hint}")
        return found


def missing(path: str | Path) -> str:
    """That a file does not exist, and which file beside it is named nearly so."""
    file = Path(path).expanduser()
    if not file.parent.is_dir():
        return f"{file} does not exist: there is no folder {file.parent}"
    names = [entry.name for entry in islice(file.parent.iterdir(), 10_000)]
    close = get_close_matches(file.name, names, n=1, cutoff=0.5)
    return f"{file} does not exist" + (f"; did you mean {str(file.with_name(close[0]))!r}?" if close else "")


def gathered(batches: Iterable[Any], schema: Any) -> Any:
    """A table of the record batches: in memory while small, else in a memory-mapped file that vanishes with it."""
    held: list[Any] = []
    size = 0
    stream = iter(batches)
    for batch in stream:
        held.append(batch)
        size += batch.nbytes
        if size > SPILL_BYTES:
            return _spilled(held, stream, schema)
    return pa.Table.from_batches(held, schema)


def _spilled(held: list[Any], rest: Iterator[Any], schema: Any) -> Any:
    with tempfile.TemporaryDirectory(prefix="dal-", ignore_cleanup_errors=True) as folder:
        file = Path(folder) / "rows.arrow"
        with pa.OSFile(str(file), "wb") as sink, pa.ipc.new_file(sink, schema) as writer:
            while held:
                writer.write_batch(held.pop(0))
            for batch in rest:
                writer.write_batch(batch)
        mapped = pa.memory_map(str(file))  # stays readable after the name is gone
        return pa.ipc.open_file(mapped).read_all()


# -- Encodings ---------------------------------------------------------------------------------------------------------


def refuse_utf16(file: Path) -> None:
    """Nothing, unless the file begins as UTF-16 does.

    Raises:
        DataError: it does.
    """
    with file.open("rb") as stream:
        if stream.read(2) in (b"\xff\xfe", b"\xfe\xff"):
            raise DataError(f"{file}: line 1, byte 1 is not UTF-8; the file looks like UTF-16: save it as UTF-8")


def utf8_fault(file: Path) -> str:
    """Where the file is not UTF-8, as a message; empty when all of it is."""
    with file.open("rb") as stream:
        for number, line in enumerate(stream, 1):
            try:
                line.decode()
            except UnicodeDecodeError as error:
                byte = line[error.start]
                return f"{file}: line {number}, byte {error.start + 1} (0x{byte:02x}) is not UTF-8: save it as UTF-8"
    return ""
