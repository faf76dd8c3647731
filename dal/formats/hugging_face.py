"""Hugging Face dataset folders: a Parquet file and a dataset card, which `datasets.load_dataset(folder)` reads.

`Dataset.save_to_disk` was not used: only `load_from_disk` reads its folders, and two of the same rows differ in bytes.
"""

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from dal.errors import ConfigError, DataError, one_line
from dal.formats.corpus import Corpus
from dal.formats.corpus_parquet import bytes_of, read_parquet, table_of
from dal.store.atomic_files import named, replacing

CARD = "README.md"
TABLE = Path("data") / "train.parquet"


def check_folder(folder: Path, *, force: bool) -> None:
    """Check that a dataset folder can be written.

    Raises:
        ConfigError: the folder exists and `force` is false, or it holds other files than a dataset.
    """
    if not folder.exists():
        return
    if not folder.is_dir():
        raise ConfigError(f"{named(folder)} is a file: a Hugging Face data set is a folder; choose another name")
    inside = {str(each.relative_to(folder)) for each in folder.rglob("*")}
    if inside - {CARD, str(TABLE), str(TABLE.parent)}:
        raise ConfigError(f"{named(folder)} holds other files than a data set: choose another name")
    if inside and not force:
        raise ConfigError(f"{named(folder)} already exists: choose another name, or replace it with --force")


def write_folder(folder: Path, corpus: Corpus) -> None:
    """Write a dataset folder atomically: `data/train.parquet` with class codes, and a card. Replaces the folder.

    Raises:
        ConfigError: the folder is a file.
        OSError: the disk is full or fails.
    """
    content, card = bytes_of(_coded(corpus)), "".join(f"{line}\n" for line in _card(corpus))
    with replacing(folder) as new:
        (new / TABLE.parent).mkdir()
        (new / TABLE).write_bytes(content)
        (new / CARD).write_text(card, encoding="utf-8")


def _coded(corpus: Corpus) -> Any:
    """The table of the corpus with labels as codes, and the class names in the metadata that `datasets` reads."""
    from datasets import ClassLabel, Features, List

    table = table_of(corpus)
    code = {name: index for index, name in enumerate(corpus.classes)}
    labels = [
        None if label is None else [code[name] for name in label] if corpus.multilabel else code[label]
        for label in table["label"].to_pylist()
    ]
    at = table.column_names.index("label")
    column = pa.array(labels, pa.list_(pa.int64()) if corpus.multilabel else pa.int64())
    table = table.set_column(at, "label", column)
    features = Features.from_arrow_schema(table.schema)
    kind = ClassLabel(names=list(corpus.classes))
    features["label"] = List(kind) if corpus.multilabel else kind
    return table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features.to_dict()}})})


def read_folder(folder: Path) -> Corpus:
    """Read a folder of `write_folder`.

    Raises:
        DataError: the folder was not written by it.
    """
    path = folder / TABLE
    if not path.is_file():
        raise DataError(f"{named(folder)} is a folder without {TABLE}: it was not written by dal export")
    try:
        written = pq.read_schema(path).metadata or {}
        feature = json.loads(written[b"huggingface"])["info"]["features"]["label"]
        names = feature.get("names") or feature["feature"]["names"]
    except (pa.ArrowException, OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{named(path)} does not declare its classes: {one_line(error)}") from None
    return read_parquet(path, classes=names)


# -- the card --------------------------------------------------------------------------------------------------------

_SIZES = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M"))


def _card(corpus: Corpus) -> Iterator[str]:
    """The lines of the dataset card."""
    size = next((name for most, name in _SIZES if len(corpus.rows) < most), "n>1M")
    yield from ("---", "configs:", "- config_name: default", "  data_files:", "  - split: train")
    yield from (f"    path: {TABLE.as_posix()}", "task_categories:", "- text-classification")
    yield from ("size_categories:", f"- {size}", "---", "", "# Labeled texts", "")
    several = "any number of" if corpus.multilabel else "one of"
    yield f"{len(corpus.rows)} texts, each with {several} {len(corpus.classes)} classes. Written by `dal export`."
    yield from ("", "| class | texts |", "|---|---|")
    standing = [answer for row in corpus.rows if (answer := row.answer) is not None]
    counts = Counter(name for answer in standing for name in answer.classes or ())
    yield from (f"| {_in_table(name)} | {counts[name]} |" for name in corpus.classes)
    yield from ("", "| state | texts |", "|---|---|")
    yield from (f"| {state} | {count} |" for state, count in sorted(corpus.counts.items()))
    yield from ("", "| source of the label | strategy that selected the text | texts |", "|---|---|---|")
    origins = Counter((answer.source, answer.strategy) for answer in standing)
    yield from (f"| {_in_table(source)} | {_in_table(name)} | {n} |" for (source, name), n in sorted(origins.items()))
    yield ""
    yield "Texts that a strategy selected are not a random sample: shares of classes differ from those of all texts."
    yield "`answers` holds the answer of every person, with the name that was given. Read it before you publish this."


def _in_table(text: str) -> str:
    """A text in a cell of a Markdown table."""
    return " ".join(text.replace("\\", "\\\\").replace("|", "\\|").replace("<", "&lt;").replace("`", "\\`").split())
