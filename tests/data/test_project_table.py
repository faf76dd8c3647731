import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet
import pytest

from dal.data import DataWarning
from dal.data.file_source import ColumnRequest
from dal.data.imported_rows import columns_of, read_imported
from dal.data.project_data import ProjectData
from dal.data.project_table import read_project
from dal.data.text_data import TextData
from dal.errors import DalError, DataError, SessionError
from dal.store.project_rows import ProjectRow, ProjectRows


def stored(path: Path, rows: list[ProjectRow]) -> Path:
    with ProjectRows.create(path / "rows.db") as created:
        created.add(rows, source="pool.csv")
    return path / "rows.db"


ROWS = [
    ProjectRow("a", "first text", None, {"patient": "p1", "age": 3}),
    ProjectRow("b", "second text", None, {"patient": "p2"}),
    ProjectRow("c", "third text", None, {"patient": "p1"}),
]


def test_text_data_reads_rows_of_a_project_with_their_stored_ids_and_a_foreign_column(tmp_path: Path) -> None:
    file = stored(tmp_path, ROWS)
    pool = TextData(str(file), text="body", label=None, group="patient", classes=["x", "y"]).load().pool
    assert list(pool.ids) == ["a", "b", "c"]
    assert list(pool.inputs) == ["first text", "second text", "third text"]
    assert pool.groups is not None
    assert list(pool.groups) == ["p1", "p2", "p1"]
    assert not pool.known.any()


def test_retired_rows_are_left_out(tmp_path: Path) -> None:
    file = stored(tmp_path, ROWS)
    data = ProjectData(str(file), label=None, classes=["x", "y"], retired=frozenset({"b", "unknown"}))
    assert list(data.load().pool.ids) == ["a", "c"]
    with pytest.raises(DataError, match=r"rows.db: all 3 rows are retired"):
        ProjectData(str(file), label=None, classes=["x", "y"], retired=frozenset("abc")).load()


def test_rows_are_read_in_pages_and_in_the_order_of_addition(tmp_path: Path) -> None:
    file = stored(tmp_path, [ProjectRow(f"id{n}", f"text {n}") for n in range(4_500)])
    pool = TextData(str(file), label=None, classes=["x", "y"]).load().pool
    assert list(pool.ids) == [f"id{n}" for n in range(4_500)]


def test_pairs_are_read_and_single_texts_are_refused_as_such(tmp_path: Path) -> None:
    file = stored(tmp_path, [ProjectRow("a", "one", "two"), ProjectRow("b", "three", "four")])
    pool = TextData(str(file), text_pair="hypothesis", label=None, classes=["x", "y"]).load().pool
    assert list(pool.inputs) == [("one", "two"), ("three", "four")]
    (tmp_path / "single").mkdir()
    file = stored(tmp_path / "single", ROWS)
    with pytest.raises(DataError, match=r"rows.db: row a has one text, and hypothesis is a second one"):
        TextData(str(file), text_pair="hypothesis", label=None, classes=["x", "y"]).load()


def test_text_column_may_be_called_id(tmp_path: Path) -> None:
    pool = TextData(str(stored(tmp_path, ROWS)), text="id", label=None, classes=["x", "y"]).load().pool
    assert list(pool.ids) == ["a", "b", "c"]
    assert pool.inputs[0] == "first text"


def test_missing_column_and_empty_project_are_one_line(tmp_path: Path) -> None:
    file = stored(tmp_path, ROWS)
    with pytest.raises(DataError, match=r"rows.db has no column 'ward'"):
        read_project(file, ColumnRequest(("text",), others=("ward",)))
    with pytest.raises(SessionError, match=r"gone.db is missing"):
        read_project(tmp_path / "gone.db", ColumnRequest(("text",)))
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=r"rows.db is empty"):
        TextData(str(stored(tmp_path / "empty", [])), label=None, classes=["x", "y"]).load()


# -- files to import ---------------------------------------------------------------------------------------------------

RECORDS = [
    {"n": "1", "body": "a first text", "label": "mild", "note": "=x"},
    {"n": "2", "body": " ", "label": "none", "note": "lost"},
    {"n": "3", "body": "a third text", "label": "", "note": ""},
    {"n": "4", "body": "a first text", "label": "none", "note": "again"},
]


def csv_file(path: Path, separator: str = ",") -> Path:
    lines = [RECORDS[0].keys(), *(record.values() for record in RECORDS)]
    path.write_text("\n".join(separator.join(line) for line in lines) + "\n")
    return path


def recipe(path: Path, **options: str | None) -> TextData:
    return TextData(str(path), **{"text": "body", **options})  # type: ignore[arg-type]


@pytest.mark.parametrize("separator", [",", ";", "\t"])
def test_all_other_columns_of_a_csv_file_are_kept(tmp_path: Path, separator: str) -> None:
    given = recipe(csv_file(tmp_path / "pool.csv", separator), id="n")
    assert columns_of(given) == ("n", "body", "label", "note")
    imported = read_imported(given)
    rows = list(imported.project_rows())
    assert rows == [
        ProjectRow("1", "a first text", None, {"note": "=x"}),
        ProjectRow("3", "a third text", None, {"note": ""}),
        ProjectRow("4", "a first text", None, {"note": "again"}),
    ]
    assert imported.labels == {"1": ("mild",), "4": ("none",)}
    assert (imported.empty, imported.repeated, len(imported.digest)) == (1, 1, 32)
    assert imported.notes == (f"{tmp_path}/pool.csv: 1 rows with an empty text were skipped",)


def test_ids_are_those_of_text_data_where_no_column_names_them(tmp_path: Path) -> None:
    given = recipe(csv_file(tmp_path / "pool.csv"))
    imported = read_imported(given)
    with pytest.warns(DataWarning, match="1 rows with an empty text"):
        pool = given.load().pool
    assert [row.id for row in imported.project_rows()] == list(pool.ids)
    assert imported.foreign == ("n", "note")


def test_foreign_values_of_json_and_parquet_keep_their_types(tmp_path: Path) -> None:
    records = [
        {"body": "one", "n": 1, "score": 0.5, "tags": ["x"], "more": {"deep": None}, "ok": True},
        {"body": "", "n": 2},
        {"body": "two", "n": 3, "score": float("nan")},
    ]
    lines, array, parquet = (tmp_path / name for name in ("pool.jsonl", "pool.json", "pool.parquet"))
    lines.write_text("\n".join(map(json.dumps, records)))
    array.write_text(json.dumps(records))
    pyarrow.parquet.write_table(
        pa.Table.from_pylist([{**dict.fromkeys(records[0]), **each} for each in records]), parquet
    )
    first = {"n": 1, "score": 0.5, "tags": ["x"], "more": {"deep": None}, "ok": True}
    for file in (lines, array):
        rows = list(read_imported(recipe(file, label=None)).project_rows())
        assert [row.fields for row in rows] == [first, {"n": 3, "score": None}]
    rows = list(read_imported(recipe(parquet, label=None)).project_rows())
    assert rows[0].fields == first
    assert rows[1].fields == {"n": 3, "score": None, "tags": None, "more": None, "ok": None}


def test_stored_rows_are_those_of_the_file(tmp_path: Path) -> None:
    imported = read_imported(recipe(csv_file(tmp_path / "pool.csv"), id="n"))
    with ProjectRows.create(tmp_path / "rows.db") as rows:
        assert rows.add(imported.project_rows(), source="pool.csv").added == 3
        assert list(rows) == list(imported.project_rows())


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("n,body\n1,a\n1,b\n", "the id '1' is already used by row 1"),
        ("n,text\n1,a\n", "has no column 'body'; its columns are n, text"),
        ("n,body\n,a\n", "the id is empty"),
        ("n,body,x,x\n1,a,2,3\n", "has 2 columns named 'x'"),
        ("", "is empty"),
        ("n,body\n1,a,b\n", "columns, expected"),
    ],
)
def test_file_that_cannot_be_imported_is_one_line(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "pool.csv").write_text(content)
    with pytest.raises(DalError, match=message) as raised:
        read_imported(recipe(tmp_path / "pool.csv", id="n", label=None))
    assert "\n" not in str(raised.value)
