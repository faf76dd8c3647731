"""Corpus files: what is written is read back, and written again with the same bytes."""

import csv
import json
import math
import string
from dataclasses import replace
from pathlib import Path

import pytest
from datasets import load_dataset
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dal.data import TextData
from dal.errors import ConfigError, DataError
from dal.formats import hugging_face
from dal.formats.corpus import Corpus, CorpusAnswer, CorpusNote, CorpusRow, time_text
from dal.formats.corpus_files import read_corpus, write_corpus

SUFFIXES = [".csv", ".jsonl", ".parquet", ""]  # the last one is a Hugging Face folder

FIRST = CorpusAnswer(
    ("severe",),
    "ana",
    at=1764444302.123456,
    seconds=12.5,
    confidence=0.75,
    round=2,
    strategy="Margin",
    seen={"model": True, "near": False},
    stands=True,
)
ROWS = [
    CorpusRow("=r1", '=1+1 and\n"quotes"; a,b\ttab \'x', None, "answered", (FIRST,), (), {"year": "1999", "ID": "-5"}),
    CorpusRow("r2", " צהריים 😀 \u202e", None, "declined", (CorpusAnswer(None, "ben", at=0.0, stands=True),)),
    CorpusRow(
        "r3",
        "<b>x</b>",
        None,
        "disputed",
        (CorpusAnswer(("none",), "ana"), CorpusAnswer(("severe",), "ben", "llm")),
        (CorpusNote("which one?", "ana"),),
        {"source": "a journal", "fields.x": "1", "year": ""},
    ),
    CorpusRow("r4", "new", None, "new"),
]
CORPUS = Corpus(ROWS, ("none", "severe"))


def written(folder: Path, suffix: str, corpus: Corpus) -> tuple[Path, bytes]:
    """The path of the corpus in the folder, and the bytes of its file or of all files of its folder."""
    path = folder / f"corpus{suffix}"
    if suffix:
        write_corpus(path, corpus)
        return path, path.read_bytes()
    hugging_face.write_folder(path, corpus)
    return path, b"".join(each.read_bytes() for each in sorted(path.rglob("*")) if each.is_file())


def complete(corpus: Corpus) -> Corpus:
    """The corpus with every foreign column in every row, as tables hold it."""
    rows = [replace(row, fields=dict.fromkeys(corpus.foreign) | dict(row.fields)) for row in corpus.rows]
    return replace(corpus, rows=rows)


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("multilabel", [False, True])
def test_corpus_is_read_back_and_written_with_the_same_bytes(tmp_path: Path, suffix: str, multilabel: bool) -> None:
    several = replace(FIRST, classes=("none", "severe"))
    rows = [replace(ROWS[0], answers=(several,)), *ROWS[1:], CorpusRow("r5", "t", None, "answered", (FIRST,))]
    corpus = Corpus(rows, CORPUS.classes, True) if multilabel else CORPUS
    path, content = written(tmp_path, suffix, corpus)
    again = read_corpus(path)
    assert (again.classes, again.multilabel) == (corpus.classes, multilabel)
    expected = complete(corpus) if suffix != ".jsonl" else corpus
    if suffix == ".csv":  # empty cells
        expected = Corpus(
            [replace(row, fields={n: v or "" for n, v in row.fields.items()}) for row in expected.rows],
            corpus.classes,
            multilabel,
        )
    assert list(again.rows) == list(expected.rows)
    (tmp_path / "again").mkdir()
    assert written(tmp_path / "again", suffix, again)[1] == content


NAME = st.text(min_size=1, max_size=6) | st.text(st.sampled_from("=+-@'\";,|[] \t\n\rnoneA:."), min_size=1, max_size=6)
CELL = (
    NAME.filter(lambda name: "\0" not in name)
    | st.none()
    | st.booleans()
    | st.integers(-(10**20), 10**20)
    | st.floats()
)
TIMES = st.none() | st.floats(0, 4e9)


@st.composite
def corpora(draw: st.DrawFn) -> Corpus:
    """A small corpus with hostile texts, classes and foreign columns."""
    text = NAME.filter(lambda name: "\0" not in name)
    classes = draw(st.lists(text, min_size=2, max_size=4, unique=True))
    multilabel = draw(st.booleans())
    pairs = draw(st.booleans())
    columns = draw(st.lists(text | st.sampled_from(["label", "Text", "fields.", "who "]), max_size=3, unique=True))
    rows = []
    for number in range(draw(st.integers(1, 3))):
        answers = []
        for who in draw(st.lists(text, max_size=2, unique=True)):
            names = draw(st.lists(st.sampled_from(classes), max_size=3 if multilabel else 1, unique=True))
            declined = not (names or multilabel)
            limits = {"seconds": 1e6, "confidence": 1.0}
            figures = {name: draw(st.none() | st.floats(0, most)) for name, most in limits.items()}
            answers.append(CorpusAnswer(None if declined else tuple(names), who, at=draw(TIMES), **figures))
        state = "new" if not answers else draw(st.sampled_from(["disputed", "answered"]))
        if state == "answered":
            answers[-1] = replace(answers[-1], stands=True)
            state = "declined" if answers[-1].classes is None else state
        fields = {name: draw(CELL) for name in columns}
        pair = draw(text) if pairs else None
        rows.append(CorpusRow(f"{draw(text)}{number}", draw(text), pair, state, tuple(answers), (), fields))
    return Corpus(rows, tuple(classes), multilabel)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(corpus=corpora(), suffix=st.sampled_from(SUFFIXES))
def test_any_corpus_is_written_again_with_the_same_bytes(tmp_path: Path, corpus: Corpus, suffix: str) -> None:
    path, content = written(tmp_path, suffix, corpus)
    again = read_corpus(path)
    (tmp_path / "again").mkdir(exist_ok=True)
    declared = replace(again, classes=corpus.classes, multilabel=corpus.multilabel)
    assert written(tmp_path / "again", suffix, declared)[1] == content
    for row, before in zip(again.rows, corpus.rows, strict=True):
        assert (row.id, row.text, row.pair, row.state) == (before.id, before.text, before.pair, before.state)
        assert [a.classes for a in row.answers] == [a.classes for a in before.answers]
        assert [(a.who, time_text(a.at), a.seconds) for a in row.answers] == [
            (a.who, time_text(a.at), a.seconds) for a in before.answers
        ]


def test_cells_that_a_spreadsheet_would_run_are_inert(tmp_path: Path) -> None:
    path, _ = written(tmp_path, ".csv", CORPUS)
    with path.open(newline="", encoding="utf-8-sig") as file:
        head, *lines = list(csv.reader(file))
    assert head[:4] == ["id", "text", "label", "state"]
    assert lines[0][:2] == ["'=r1", "'" + ROWS[0].text]
    cells = dict(zip(head, lines[0], strict=True))
    assert (cells["label"], cells["who"], cells["at"]) == ("severe", "ana", "2025-11-29T19:25:02.123456Z")
    assert cells["fields.ID"] == "'-5"
    assert not any(cell.startswith(tuple("=+-@")) for line in lines for cell in line)


def test_foreign_columns_with_the_name_of_an_own_one_are_kept_apart(tmp_path: Path) -> None:
    path, _ = written(tmp_path, ".jsonl", CORPUS)
    lines = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
    assert (lines[2]["source"], lines[2]["fields.source"], lines[2]["fields.fields.x"]) == (None, "a journal", "1")
    assert lines[0]["source"] == "person"


def test_hugging_face_folder_is_loaded_by_datasets(tmp_path: Path) -> None:
    path, _ = written(tmp_path, "", CORPUS)
    loaded = load_dataset(str(path), cache_dir=str(tmp_path / "cache"))["train"]
    assert loaded.features["label"].names == ["none", "severe"]
    assert loaded["label"] == [1, None, None, None]
    assert loaded["id"][:2] == ["=r1", "r2"]
    assert loaded[0]["answers"][0]["who"] == "ana"
    card = (path / "README.md").read_text("utf-8")
    assert "| severe | 1 |" in card
    assert "| person | Margin | 1 |" in card


def test_hugging_face_folder_of_several_labels_is_loaded_by_datasets(tmp_path: Path) -> None:
    answer = replace(FIRST, classes=("none", "severe"))
    corpus = Corpus([CorpusRow("a", "t", "u", "answered", (answer,))], CORPUS.classes, True)
    path, _ = written(tmp_path, "", corpus)
    loaded = load_dataset(str(path), cache_dir=str(tmp_path / "cache"))["train"]
    assert loaded["label"] == [[0, 1]]
    assert loaded["text_pair"] == ["u"]


@pytest.mark.filterwarnings("ignore:.*was written by dal:dal.data.DataWarning")  # of the CSV file
@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet"])
def test_exported_corpus_is_data_to_train_on(tmp_path: Path, suffix: str) -> None:
    rows = [
        CorpusRow(f"r{i}", f"text {i}", None, "answered", (replace(FIRST, classes=(c,)),)) for i, c in enumerate("ab")
    ]
    path, _ = written(tmp_path, suffix, Corpus([*rows, CorpusRow("=x", "=new")], ("a", "b")))
    pool = TextData(str(path), id="id").load().pool
    assert pool.classes == ("a", "b")
    assert pool.labels.tolist() == [0, 1, -1]
    assert (pool.ids[2], pool.texts()) == ("=x", ["text 0", "text 1", "=new"])


def test_changed_label_is_refused_with_its_line(tmp_path: Path) -> None:
    path, _ = written(tmp_path, ".csv", CORPUS)
    path.write_text(path.read_text("utf-8").replace(",severe,answered", ",none,answered"), "utf-8")
    with pytest.raises(DataError, match=r"corpus.csv, line 2: label is 'none', and the answer .* is 'severe'"):
        read_corpus(path)


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        ("state", "done", "state is 'done'"),
        ("answers", [{"classes": "x"}], "the classes of an answer are 'x'"),
        ("answers", "x", "answers is 'x', not a list"),
        ("answers", [], "does not agree"),
        ("id", 5, "id is 5, not text"),
        ("answers", [{"classes": ["severe"], "stands": True, "at": "yesterday"}], "at is 'yesterday', not a time"),
        ("answers", [{"classes": ["severe"], "stands": True, "round": -1}], "round is -1"),
        ("answers", [{"classes": ["severe"], "stands": True, "seconds": "x"}], "seconds is 'x', not a number"),
        (
            "answers",
            [{"classes": ["severe"], "stands": True, "seconds": math.nan}],
            "seconds is nan, not a number from 0",
        ),
        (
            "answers",
            [{"classes": ["severe"], "stands": True, "confidence": 7}],
            "confidence is 7, not a number from 0 to 1",
        ),
        ("answers", [{"classes": ["severe"], "stands": True, "round": 10**30}], "round is 1000"),
        ("answers", [{"classes": ["severe"], "stands": True, "at": "9999-12-31T23:59:59-23:59"}], "at is '9999"),
        ("answers", [{"classes": ["severe"], "stands": True, "at": "0001-01-01T00:00:00+23:59"}], "at is '0001"),
    ],
)
def test_damaged_line_is_named(tmp_path: Path, column: str, value: object, message: str) -> None:
    path, _ = written(tmp_path, ".jsonl", CORPUS)
    first, *rest = path.read_text("utf-8").splitlines(keepends=True)
    path.write_text(json.dumps(json.loads(first) | {column: value}) + "\n" + "".join(rest), "utf-8")
    with pytest.raises(DataError, match=rf"corpus.jsonl, line 1: .*{message}"):
        read_corpus(path)


def test_repeated_id_is_refused(tmp_path: Path) -> None:
    path, _ = written(tmp_path, ".jsonl", Corpus([ROWS[3], ROWS[3]], ()))
    with pytest.raises(DataError, match="line 2: the id 'r4' is already used by line 1"):
        read_corpus(path)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_file_of_another_origin_is_refused(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"other{suffix}"
    contents = {".csv": "id,text\n1,x\n", ".jsonl": '{"id": "1", "text": "x"}\n', ".parquet": "PAR1"}
    path.mkdir() if not suffix else path.write_text(contents[suffix])
    with pytest.raises(DataError, match=r"no column|has no label|not a whole Parquet|without data"):
        read_corpus(path)


def test_unknown_suffix_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"must be one of \.csv, \.jsonl, \.parquet"):
        write_corpus(tmp_path / "x.xlsx", CORPUS)


def test_folder_with_other_files_is_never_replaced(tmp_path: Path) -> None:
    (tmp_path / "thesis.doc").write_text(string.printable)
    with pytest.raises(ConfigError, match="holds other files"):
        hugging_face.check_folder(tmp_path, force=True)


def test_dataset_folder_is_replaced_with_force_only(tmp_path: Path) -> None:
    path, _ = written(tmp_path, "", CORPUS)
    with pytest.raises(ConfigError, match="--force"):
        hugging_face.check_folder(path, force=False)
    hugging_face.check_folder(path, force=True)
