"""Properties of files: what is written is read back exactly or refused; what a sheet says is what is stored."""

import csv
import json
import tempfile
import unicodedata
import warnings
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet
import pytest
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st

from dal.annotate.sheet import read_answers, write_questions
from dal.data import Rows, Splits, TextData
from dal.data.label_cells import cell_of, marker
from dal.errors import ConfigError, DataError
from dal.learners.probe_learner import ProbeLearner
from dal.session import Session
from dal.store.events import SKIP
from dal.store.spreadsheet import inert
from dal.store.visible_names import is_visible
from dal.strategies.random import Random

# Characters that formats treat in a way of their own, next to any others; no halves of surrogate pairs.
AWKWARD = list("\"',;|\t\n\r\0\v\f\x1c\x1d\x1e\x85\u2028\u2029\ufeff\x1a =+-@[]{}()\\/#<>&01.aAé\u0301ß\U0001f600")
CHARACTERS = st.one_of(st.sampled_from(AWKWARD), st.characters(blacklist_categories=["Cs"]))
TEXTS = st.one_of(
    st.text(CHARACTERS, max_size=12),
    st.sampled_from(
        ["nan", "NaN", "null", "None", "NA", "N/A", "true", "False", "-1", "1.0", "1e5", "007", "#N/A", "[]"]
    ),
)
ROWS = st.lists(st.tuples(TEXTS.filter(bool), TEXTS, TEXTS), min_size=1, max_size=6, unique_by=lambda row: row[0])
HEAD = ["id", "text", "label"]


def csv_module(path, rows, **options):
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file, **options).writerows([HEAD, *rows])


def of_pandas(path, rows, **options):
    pd.DataFrame(rows, columns=HEAD).to_csv(path, index=False, **options)


def json_lines(path, rows, ascii=True):
    lines = [json.dumps(dict(zip(HEAD, row, strict=True)), ensure_ascii=ascii) for row in rows]
    path.write_bytes("\n".join(lines).encode())


def parquet(path, rows):
    columns = zip(*rows, strict=True)
    pa.parquet.write_table(pa.table([pa.array(each, pa.string()) for each in columns], HEAD), path)


WRITERS = {
    "csv": ("rows.csv", csv_module, {}),
    "csv, all in quotes": ("rows.csv", csv_module, {"quoting": csv.QUOTE_ALL}),
    "csv with semicolons": ("rows.csv", csv_module, {"delimiter": ";"}),
    "csv of pandas": ("rows.csv", of_pandas, {}),
    "tsv": ("rows.tsv", csv_module, {"delimiter": "\t"}),
    "tsv, all in quotes": ("rows.tsv", csv_module, {"delimiter": "\t", "quoting": csv.QUOTE_ALL}),
    "tsv of pandas": ("rows.tsv", of_pandas, {"sep": "\t"}),
    "jsonl": ("rows.jsonl", json_lines, {}),
    "jsonl in UTF-8": ("rows.jsonl", json_lines, {"ascii": False}),
    "parquet": ("rows.parquet", parquet, {}),
}


def expected(rows):
    """The ids, texts and labels of the rows with a text; a label is trimmed and composed, None where it is empty."""
    kept = [row for row in rows if row[1].strip()]
    names = [unicodedata.normalize("NFC", label).strip() or None for _, _, label in kept]
    return [id for id, _, _ in kept], [text for _, text, _ in kept], names


@pytest.mark.parametrize("writer", WRITERS)
@given(rows=ROWS)
@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_file_is_read_back_exactly_or_refused(writer, rows):
    name, write, options = WRITERS[writer]
    ids, texts, names = expected(rows)
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        write(Path(folder) / name, rows, **options)
        try:
            pool = TextData(str(Path(folder) / name), id="id").load().pool
        except DataError as error:
            refusal = str(error)
            event(refusal.replace(folder, "")[:60])
        else:
            refusal = ""
    assert refusal.count("\n") == 0
    if refusal:
        return
    event("read")
    assert pool.texts() == texts
    assert list(pool.ids) == ids
    found = pool.names_of(pool.labels)
    assert [name and float(name) if _number(name) else name for name in found] == [
        name and float(name) if _number(name) else name for name in names
    ]


def _number(name):
    """Whether a label is a number, of which 1.0 and 1 are the same."""
    return name is not None and name.removeprefix("-").replace(".", "", 1).isdecimal() and name.isascii()


# -- sheets ------------------------------------------------------------------------------------------------------------

NAMES = TEXTS.map(str.strip).filter(is_visible)
ANSWERS = st.lists(st.one_of(st.none(), st.just(SKIP), st.sets(st.integers(0, 3))), min_size=6, max_size=6)
SAVED = {
    "as it was": (",", "utf-8-sig"),
    "semicolons": (";", "utf-8"),
    "tabs": ("\t", "utf-16"),
    "bars": ("|", "utf-8"),
}


def answered(path, cells, delimiter, encoding):
    """Fill in the last column of a sheet, and save it as another program does."""
    with path.open(newline="", encoding="utf-8-sig") as file:
        head, *lines = csv.reader(file)
    with path.open("w", newline="", encoding=encoding) as file:
        lines = [[*line[:-1], cell] for line, cell in zip(lines, cells, strict=True)]
        csv.writer(file, delimiter=delimiter, lineterminator="\r\n").writerows([head, *lines])


@pytest.mark.parametrize("saved", SAVED)
@pytest.mark.parametrize("multilabel", [False, True])
@given(
    texts=st.lists(TEXTS.filter(str.strip), min_size=6, max_size=6),
    ids=st.lists(TEXTS.filter(bool), min_size=6, max_size=6, unique=True),
    classes=st.lists(NAMES, min_size=4, max_size=4, unique_by=lambda name: unicodedata.normalize("NFC", name)),
    answers=ANSWERS,
)
@settings(max_examples=60)
def test_what_a_sheet_says_is_what_is_told(multilabel, saved, texts, ids, classes, answers):
    pool = Rows.from_inputs(texts, classes=classes, ids=ids, multilabel=multilabel)
    wanted = {}
    with (
        tempfile.TemporaryDirectory() as folder,
        Session(Splits(pool=pool), ProbeLearner(model=None), Random()) as session,
    ):
        path, rows = Path(folder) / "todo.csv", session.ask(6)
        cells = []
        for row, answer in zip(rows.tolist(), answers, strict=True):
            if answer is None or (not multilabel and answer == set()):
                cells.append("")
                continue
            names = [] if answer is SKIP else [pool.classes[code] for code in sorted(answer)]
            wanted[row] = SKIP if answer is SKIP else names if multilabel else names[0]
            told = marker("skip", pool.classes) if answer is SKIP else cell_of(wanted[row], pool.classes)
            cells.append(inert(told))
        try:
            write_questions(path, session, rows)
        except ConfigError as error:
            assert "|" in str(error)  # noqa: PT017
            event("refused")
            return
        answered(path, cells, *SAVED[saved])
        found = read_answers(path, session)
        assert dict(zip(found.rows, found.values, strict=True)) == wanted
        assert session.tell(found.rows, found.values) == len(wanted)
        stored = {row: session.store.answer_to(pool.ids[row]) for row in wanted}
        assert stored == {row: tuple(value) if isinstance(value, list) else value for row, value in wanted.items()}
