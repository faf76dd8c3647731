"""Halves of surrogate pairs, which no file and no store can hold: refused where data comes in, in one line."""

import json
import re

import datasets
import numpy as np
import pyarrow.parquet
import pytest
import torch

from dal.data import Rows, TextData
from dal.errors import DataError

HALF = "a\ud800"
TEXTS = ["one", "two"]


def from_inputs(**columns):
    return Rows.from_inputs(columns.pop("texts", TEXTS), **columns)


def from_lists(**columns):
    return TextData.from_lists(columns.pop("texts", TEXTS), **columns)


COLUMNS = {
    "text": ({"texts": ["one", HALF]}, "row 2"),
    "first text of a pair": ({"texts": [("x", "y"), (HALF, "y")]}, "row 2"),
    "second text of a pair": ({"texts": [("x", "y"), ("x", HALF)]}, "row 2"),
    "id": ({"ids": ["k", HALF]}, "row 2"),
    "group": ({"groups": ["k", HALF]}, "row 2"),
    "id in an array": ({"ids": np.array(["k", HALF], object)}, "row 2"),
    "label": ({"labels": ["b", HALF]}, "row 2"),
    "label in a list": ({"labels": [["b"], ["b", HALF]], "multilabel": True}, "row 2"),
    "class": ({"classes": ["b", HALF]}, "classes"),
    "class that no row has": ({"labels": ["b", "b"], "classes": ["b", "c", HALF]}, "classes"),
}


@pytest.mark.parametrize("make", [from_inputs, from_lists])
@pytest.mark.parametrize(("columns", "where"), COLUMNS.values(), ids=COLUMNS)
def test_half_a_surrogate_pair_is_refused_with_its_row(make, columns, where):
    with pytest.raises(DataError, match="holds half of a surrogate pair") as caught:
        make(**columns)
    message = str(caught.value)
    assert message.isprintable()
    assert re.search(rf"{where}\b.*\\ud800", message)


def test_a_recipe_refuses_such_a_class_before_anything_is_read():
    with pytest.raises(DataError, match=r"classes: 'a\\ud800' holds half of a surrogate pair"):
        TextData("missing.csv", classes=["b", HALF])


def test_rows_made_without_a_reader_refuse_such_a_class():
    rows = Rows.from_inputs(TEXTS, ["a", "b"])
    with pytest.raises(DataError, match=r"the class 'a\\ud800' holds half of a surrogate pair"):
        Rows(rows.inputs, rows.ids, rows.labels, rows.known, classes=("b", HALF))


def test_no_row_has_such_an_id():
    with pytest.raises(DataError, match=r"has no row with the id 'a\\ud800'"):
        Rows.from_inputs(torch.zeros(2, 3), ids=["a", "b"]).rows_of(["a", HALF])


def test_a_file_that_declares_such_a_class_is_refused(tmp_path):
    path = tmp_path / "rows.parquet"
    features = datasets.Features(text=datasets.Value("string"), label=datasets.ClassLabel(names=["XX", "b"]))
    datasets.Dataset.from_dict({"text": TEXTS, "label": [0, 1]}, features=features).to_parquet(path)
    table = pyarrow.parquet.read_table(path)
    declared = table.schema.metadata[b"huggingface"].decode()
    damaged = declared.replace('"XX"', json.dumps(HALF))
    assert damaged != declared
    pyarrow.parquet.write_table(table.replace_schema_metadata({"huggingface": damaged}), path)
    with pytest.raises(DataError, match="a class name declared for column 'label' holds half of a surrogate pair"):
        TextData(str(path)).load()


@pytest.mark.parametrize("column", ["text", "id", "label", "group"])
def test_a_file_of_json_is_refused_with_its_row(tmp_path, column):
    record = {"text": "x", "id": "2", "label": "b", "group": "g"}
    lines = [{**record, "id": "1", "label": "c"}, {**record, column: HALF}]
    path = tmp_path / "rows.jsonl"
    path.write_text("\n".join(map(json.dumps, lines)))
    with pytest.raises(DataError, match=rf"row 2 \(line 2\), column '{column}'") as caught:
        TextData(str(path), id="id", group="group").load()
    assert str(caught.value).isprintable()
