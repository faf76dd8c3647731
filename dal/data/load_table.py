"""Readers of tables: files, `datasets` folders, the Hugging Face hub and the packaged demo."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet

from dal.data.csv_files import read_csv
from dal.data.data_paths import FILE_TYPES, existing, missing
from dal.data.demos import DEMOS, read_demo
from dal.data.file_source import TEXT, ColumnRequest, FileSource, collect_batches
from dal.data.json_files import read_json
from dal.data.label_values import NOT_ENCODABLE, encodable, listing, reason, shown
from dal.data.project_table import read_project
from dal.errors import DalError, DataError, did_you_mean, printable
from dal.store.bounded_json import parse_json

PROJECT_TYPE = ".db"


def read(path: str, wanted: ColumnRequest, *, split: str | None = None) -> FileSource:
    """Read columns of a file, a `datasets` folder, a hub data set ("name" or "name:config"), or a demo.

    Args:
        path: path or name of the data.
        wanted: columns to read.
        split: split of a folder or hub data set; None for "train", or for the only one.

    Raises:
        DataError: the data cannot be read; the message is one line.
    """
    if path in DEMOS:
        return read_demo(path, wanted)
    name = printable(path, 200)
    try:
        return _read(path, wanted, split)
    except DalError:
        raise
    except OSError as error:
        raise DataError(f"{name} cannot be read: {error.strerror or reason(error)}") from error
    except MemoryError as error:
        raise DataError(f"{name} cannot be read: it needs more memory than there is") from error
    except RecursionError as error:
        raise DataError(f"{name} cannot be read: something in it is nested too deep") from error
    except (ValueError, TypeError, KeyError, AttributeError, OverflowError, RuntimeError, pa.ArrowException) as error:
        raise DataError(f"{name} cannot be read: {reason(error)}") from error  # not the format of its suffix


def _read(path: str, wanted: ColumnRequest, split: str | None) -> FileSource:
    file = existing(path)
    if file.is_dir():
        return _folder(file, wanted, split)
    if not file.is_file():
        if file.exists():
            raise DataError(f"{printable(str(file), 200)} is a device, a pipe or a socket, not a file")
        return _hub(path, wanted, split)
    name = printable(str(file), 200)
    if file.suffix.lower() == PROJECT_TYPE:
        return read_project(file, wanted)
    if file.suffix.lower() not in FILE_TYPES:
        raise DataError(f"{name}: unknown file type {shown(file.suffix)}: expected {', '.join(FILE_TYPES)}")
    if file.stat().st_size == 0:
        raise DataError(f"{name} is empty")
    readers = {".csv": read_csv, ".tsv": read_csv, ".jsonl": read_json, ".json": read_json, ".parquet": _parquet}
    source = readers[file.suffix.lower()](file, wanted)
    if not len(source.table):
        raise DataError(f"{name} is empty: it has no rows")
    return source


def _parquet(file: Path, wanted: ColumnRequest) -> FileSource:
    name = printable(str(file), 200)
    with file.open("rb"):
        pass  # raises OSError without read permission, which must not be reported as damage
    try:
        reader = pa.parquet.ParquetFile(file, memory_map=True)
        schema = reader.schema_arrow
        names = schema.names
    except UnicodeDecodeError as error:
        raise DataError(f"{name}: the name of a column is not UTF-8") from error
    except (pa.ArrowException, OSError, ValueError, KeyError) as error:  # Arrow's own messages do not help a user
        raise DataError(f"{name} is not a whole Parquet file (was it truncated?)") from error
    columns = wanted.select_from(names, name)
    classes = _declared_classes(name, schema, wanted.label)
    try:
        wanted_schema = pa.schema([schema.field(column) for column in columns])
        table = collect_batches(
            (batch.select(columns) for batch in reader.iter_batches(columns=columns)), wanted_schema.remove_metadata()
        )
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"{name} is not a whole Parquet file (was it truncated?)") from error
    return _typed(name, table, wanted, classes)


def _declared_classes(name: str, schema: Any, label: str | None) -> dict[str, tuple[str, ...]]:
    """Class names of the label column in the metadata written by the `datasets` library.

    Raises:
        DataError: the metadata cannot be read.
    """
    written = (schema.metadata or {}).get(b"huggingface")
    if label is None or written is None:
        return {}
    try:
        entry = parse_json(written)
    except ValueError as error:
        raise DataError(f"{name}: its metadata of `datasets` cannot be read: {reason(error)}") from None
    for key in ("info", "features", label):
        entry = entry.get(key) if isinstance(entry, dict) else None
    if isinstance(entry, list) and len(entry) == 1:  # a list feature, as older versions write it
        entry = entry[0]
    feature = entry.get("feature", entry) if isinstance(entry, dict) else None
    if not isinstance(feature, dict) or feature.get("_type") != "ClassLabel" or not feature.get("names"):
        return {}
    return {label: _checked_names(name, label, feature["names"])}


def _checked_names(name: str, label: str, names: Any) -> tuple[str, ...]:
    """Check the class names that a file declares for a column, and return them as a tuple.

    Raises:
        DataError: `names` is not a list of distinct strings.
    """
    if not isinstance(names, list | tuple) or not all(isinstance(each, str) and each.strip() for each in names):
        raise DataError(f"{name}: the class names declared for column {shown(label)} are no list of texts")
    if not all(map(encodable, names)):
        raise DataError(f"{name}: a class name declared for column {shown(label)} {NOT_ENCODABLE}")
    if len(set(names)) < len(names):
        raise DataError(f"{name}: a class name declared for column {shown(label)} is repeated")
    return tuple(names)


def _typed(name: str, table: Any, wanted: ColumnRequest, class_names: Mapping[str, tuple[str, ...]]) -> FileSource:
    """Build a source, with texts, ids and groups converted to valid strings."""
    source = FileSource(name, table, class_names)
    for column in table.column_names:
        values = table[column]
        kind = values.type.value_type if pa.types.is_dictionary(values.type) else values.type
        textual = pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)
        if column in wanted.texts and not textual and not pa.types.is_null(kind):
            raise DataError(f"{source.where(column)(0)}: expected text, the column holds {shown(str(kind))[1:-1]}")
        try:
            if column == wanted.label and column not in wanted.texts:
                values.validate(full=True)
                continue
            if pa.types.is_dictionary(values.type):
                values = values.cast(kind)
            values = values.cast(TEXT)
            values.validate(full=True)
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
            row = _first_invalid(values)
            problem = "is not UTF-8" if "UTF8" in str(error).upper() else f"cannot be read as text: {reason(error)}"
            raise DataError(f"{source.where(column)(row)} {problem}") from error
        table = table.set_column(table.column_names.index(column), column, values)
    return FileSource(name, table, class_names)


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


def _folder(folder: Path, wanted: ColumnRequest, split: str | None) -> FileSource:
    name = printable(str(folder), 200)
    if not ((folder / "state.json").is_file() or (folder / "dataset_dict.json").is_file()):
        raise DataError(f"{name} is a folder, but not one that `datasets` wrote with save_to_disk: name a file in it")
    from datasets import load_from_disk

    try:
        loaded = load_from_disk(str(folder))
    except Exception as error:
        raise DataError(f"{name} cannot be read as a `datasets` folder: {reason(error)}") from error
    return _from_datasets(name, loaded, wanted, split)


def _hub(path: str, wanted: ColumnRequest, split: str | None) -> FileSource:
    from datasets import load_dataset

    name, _, config = path.partition(":")
    if name in _builders():
        raise DataError(
            f"{name!r} is no file or folder here, and no data set but a kind of file: give the path of the file"
        )
    try:
        loaded = load_dataset(name, config or None)
    except Exception as error:
        near = missing(Path(path)).partition(";")[2]
        raise DataError(
            f"{path!r} is no file or folder here{';' + near if near else ''}, "
            f"and the Hugging Face hub does not give it: {reason(error)}"
        ) from error
    return _from_datasets(path, loaded, wanted, split)


def _builders() -> frozenset[str]:
    """Names that `datasets` treats as a file format: it would read all such files of the current folder."""
    known = {"csv", "json", "parquet", "arrow", "text", "pandas", "xml", "imagefolder", "audiofolder", "webdataset"}
    try:
        from datasets.packaged_modules import _PACKAGED_DATASETS_MODULES as packaged
    except ImportError:  # not part of the public API
        return frozenset(known)
    return frozenset(known | set(packaged))


def _from_datasets(name: str, loaded: Any, wanted: ColumnRequest, split: str | None) -> FileSource:
    splits: tuple[str, ...] = ()
    if isinstance(loaded, dict):
        splits = tuple(str(key) for key in loaded)
        chosen = split or ("train" if "train" in splits else splits[0] if len(splits) == 1 else None)
        if chosen not in splits:
            raise DataError(f"{name} has no split {shown(chosen or 'train')}{did_you_mean(chosen or 'train', splits)}; "
                            f"its splits are {listing(splits)}")  # fmt: skip
        loaded = loaded[chosen]
        name = f"{name}[{chosen}]"
    elif split is not None:
        raise DataError(f"{name} has no split {shown(split)}: it was saved as one part")
    columns = wanted.select_from(loaded.column_names, name)
    if not len(loaded):
        raise DataError(f"{name} is empty: it has no rows")
    table = loaded.select_columns(columns).with_format("arrow")[:]
    class_names = {}
    for column in columns:
        feature = loaded.features[column]
        names = getattr(getattr(feature, "feature", feature), "names", None)
        if names and column == wanted.label:
            class_names[column] = _checked_names(name, column, names)
    source = _typed(name, table, wanted, class_names)
    return FileSource(source.name, source.table, source.class_names, splits=splits)
