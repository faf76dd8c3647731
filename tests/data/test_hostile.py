"""Files that are huge, nested, damaged or no files at all: one line each, in little time."""

import csv
import io
import json
import os
import random

import datasets
import pyarrow as pa
import pyarrow.parquet
import pytest

import dal.data.load_table
from dal.data import Rows, TextData
from dal.errors import DalError, DataError
from dal.session.answer_values import AnswerDecoder


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    return tmp_path


def refused(path, **options):
    with pytest.raises(DataError) as caught:
        TextData(path, **options).load()
    message = str(caught.value)
    assert message.isprintable()
    assert len(message) < 1500
    return message


# -- paths -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "problem"),
    [
        ("", "is empty: name a file"),
        (" ", "is empty: name a file"),
        (".", "is a folder, but not one that `datasets` wrote"),
        ("..", "is a folder"),
        ("/", "is a folder"),
        ("a\0b.csv", "no path"),
        ("~nobody_at_all/a.csv", "no such user"),
        ("x" * 300 + ".csv", "cannot be read: File name too long"),
        ("x" * 300, "cannot be read: File name too long|does not exist, and good.csv has no splits"),
        ("a/" * 3000 + "a.csv", "cannot be read: File name too long"),
        ("a\ud800.csv", "does not exist"),
        ("a\nb.csv", "does not exist"),
        ("file.txt/a.csv", "does not exist"),
        ("/dev/null", "is a device, a pipe or a socket"),
        ("pipe.csv", "is a device, a pipe or a socket"),
        ("loop.csv", "Too many levels of symbolic links|does not exist"),
    ],
)
@pytest.mark.parametrize("option", ["path", "test"])
def test_a_path_that_is_no_file_is_refused_in_one_line(folder, path, problem, option):
    (folder / "file.txt").write_text("x")
    (folder / "good.csv").write_text("text,label\na,x\nb,y\n")
    os.mkfifo(folder / "pipe.csv")
    (folder / "loop.csv").symlink_to("loop.csv")
    with pytest.raises(DataError, match=problem) as caught:
        (TextData(path) if option == "path" else TextData("good.csv", test=path)).load()
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 700


def test_a_file_that_may_not_be_read_is_no_truncated_file(folder, monkeypatch):
    pa.parquet.write_table(pa.table({"text": ["a", "b"], "label": ["x", "y"]}), "a.parquet")
    for name in ("a.csv", "a.tsv", "a.jsonl", "a.json"):
        (folder / name).write_text("x")

    def denied(*args, **options):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("pathlib.Path.open", denied)
    for name in ("a.csv", "a.tsv", "a.jsonl", "a.json", "a.parquet"):
        assert refused(name) == f"{name} cannot be read: Permission denied"


@pytest.mark.parametrize("error", [MemoryError(), RecursionError(), OverflowError("x"), pa.ArrowMemoryError("x")])
def test_whatever_reading_raises_is_one_line(folder, monkeypatch, error):
    (folder / "a.csv").write_text("text,label\na,x\n")

    def fails(*args):
        raise error

    monkeypatch.setattr(dal.data.load_table, "read_csv", fails)
    assert refused("a.csv").startswith("a.csv cannot be read: ")


@pytest.mark.parametrize("name", ["csv", "json", "parquet", "text", "imagefolder", "csv:x"])
def test_a_kind_of_file_is_no_data_set(folder, monkeypatch, name):
    (folder / "secret.csv").write_text("text,label\nsecret,x\nb,y\n")
    monkeypatch.setattr(datasets, "load_dataset", lambda *args: pytest.fail("a builder was asked"))
    assert "no data set but a kind of file: give the path of the file" in refused(name)


# -- nesting and size --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("deep", ["[" * 100_000, "[" * 300 + "]" * 300, '{"a":' * 300 + "1" + "}" * 300])
@pytest.mark.parametrize("column", ["text", "label", "other"])
def test_json_that_is_nested_deep_is_refused(folder, deep, column):
    (folder / "a.jsonl").write_text(
        f'{{"text": "a", "label": "x"}}\n{{"text": "b", "label": "y", "{column}": {deep}}}\n'
    )
    assert refused("a.jsonl").startswith("a.jsonl: line 2 is not JSON: ")
    (folder / "a.json").write_text(
        f'[{{"text": "a", "label": "x"}},\n{{"text": "b", "label": "y", "{column}": {deep}}}]'
    )
    assert refused("a.json").startswith("a.json: line 2 is not JSON: ")


@pytest.mark.parametrize("column", ["text", "label", "other"])
def test_numbers_of_many_digits_are_refused_or_read(folder, column):
    (folder / "a.jsonl").write_text(f'{{"text": "a", "label": "x"}}\n{{"text": "b", "{column}": {"9" * 5000}}}\n')
    assert "line 2 is not JSON: a number has more than 4,300 digits" in refused("a.jsonl")
    (folder / "a.json").write_text(f'[{{"text": "a", "{column}": {"9" * 5000}}}]')
    assert "more than 4,300 digits" in refused("a.json")


@pytest.mark.parametrize(
    "content",
    [
        "{n},label\na,x\n",
        "text,label\na,{n}\nb,{n}\n",
        "text,label\na,x\nb,{n}\nc,z\n",
        '"{n}\n",text,label\na,b,c\n',
    ],
)
def test_names_of_a_million_characters_are_not_printed_whole(folder, content):
    (folder / "a.csv").write_text(content.replace("{n}", "n" * 1_000_000))
    refused("a.csv", text="text" if "text" in content else "x", classes=["x", "y"] if "{n}\nc" in content else None)
    refused("a.csv", text="m" * 1_000_000)
    refused("a.csv", label="m" * 1_000_000)


def test_a_value_of_a_million_characters_is_not_printed_whole(folder):
    for value in ('["' + "n" * 1_000_000 + '"]', '{"' + "n" * 1_000_000 + '": 1}', "n" * 1_000_000):
        (folder / "a.jsonl").write_text(f'{{"text": "a", "label": "x"}}\n{{"text": {value}, "label": {{}}}}\n')
        refused("a.jsonl")
    long = "n" * 1_000_000
    for make in (lambda: Rows.from_inputs(["a", "b"], ["x", long], ["x", "y"]),
                 lambda: Rows.from_inputs(["a", "b"], ["x", "y"], ids=[long, long]),
                 lambda: Rows.from_inputs(["a"], ["x"], ["x", long]).codes_of(["y"]),
                 lambda: Rows.from_inputs(["a"]).rows_of([long])):  # fmt: skip
        with pytest.raises(DataError) as caught:
            make()
        assert len(str(caught.value)) < 600
    with pytest.raises(ValueError, match="is not a class") as caught:
        AnswerDecoder(["x", long], multilabel=False).read("y")
    assert len(str(caught.value)) < 600
    assert len(str(TextData.from_lists(["a", "b"], ["x", long]).summary)) < 600


def test_control_characters_of_names_stay_in_one_line(folder):
    (folder / "a.csv").write_bytes(b'"a\nb","c\x1b[31m",d\x00\n1,2,3\n')
    assert r"its columns are a\nb, c\x1b[31m, d\x00" in refused("a.csv")
    (folder / "a.jsonl").write_text('{"\\ud800": 1}\n')
    assert r"\ud800" in refused("a.jsonl")
    with pytest.raises(DataError) as caught:
        Rows.from_inputs(["a", "b"], ["x", "\ud800"])
    assert str(caught.value).isprintable()


def test_the_nearest_of_many_classes_is_looked_for_once_per_word(monkeypatch):
    classes = AnswerDecoder([f"class number {code:05}" for code in range(10_000)], multilabel=False)
    looked = []
    monkeypatch.setattr(
        "dal.session.answer_values.did_you_mean", lambda word, known: looked.append(word) or "; did you mean 'x'?"
    )
    for _ in range(3):
        for word in ("clas number 00001", "clas number 00002"):
            with pytest.raises(ValueError, match="did you mean 'x'"):
                classes.read(word)
    assert len(looked) == 2
    for word in range(5_000):
        with pytest.raises(ValueError, match="is not a class"):
            classes.read(f"word {word}")
    assert len(looked) <= 1_000


# -- metadata ----------------------------------------------------------------------------------------------------------

GOOD = {"info": {"features": {"label": {"names": ["x", "y"], "_type": "ClassLabel"}}}}


def with_metadata(content):
    table = pa.table({"text": ["a", "b", "c"], "label": [0, 1, 0]})
    pa.parquet.write_table(table.replace_schema_metadata({"huggingface": content}), "a.parquet")


def test_names_in_the_metadata_are_the_classes(folder):
    with_metadata(json.dumps(GOOD))
    assert TextData("a.parquet").load().pool.classes == ("x", "y")


@pytest.mark.parametrize(
    "content",
    [
        "{",
        b"\xff\xfe",
        "[" * 100_000,
        "[" * 500 + "]" * 500,
        "9" * 5000,
        json.dumps(GOOD).replace('["x", "y"]', '"xy"'),
        json.dumps(GOOD).replace('["x", "y"]', "[1, 2]"),
        json.dumps(GOOD).replace('["x", "y"]', '["x", "x"]'),
        json.dumps(GOOD).replace('["x", "y"]', '["x", ""]'),
        json.dumps(GOOD).replace('["x", "y"]', '{"x": 1}'),
    ],
)
def test_malformed_metadata_are_refused_in_one_line(folder, content):
    with_metadata(content)
    assert refused("a.parquet").startswith("a.parquet: ")


@pytest.mark.parametrize(
    "content",
    [
        "[]",
        "1",
        "null",
        '{"info": []}',
        '{"info": {"features": [1]}}',
        '{"info": {"features": {"label": [1, 2]}}}',
        '{"info": {"features": {"label": {"feature": 3}}}}',
    ],
)
def test_metadata_that_say_nothing_of_the_label_are_ignored(folder, content):
    with_metadata(content)
    assert TextData("a.parquet").load().pool.classes == ("0", "1")


def test_labels_that_are_not_utf8_are_placed(folder):
    bad = pa.StringArray.from_buffers(
        3, pa.py_buffer(bytes([0, 0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0, 3, 0, 0, 0])), pa.py_buffer(b"a\xffb")
    )
    pa.parquet.write_table(pa.table({"text": list("abc"), "label": bad}), "a.parquet")
    assert refused("a.parquet") == "a.parquet: row 2, column 'label' is not UTF-8"


@pytest.mark.parametrize("name", ["a.csv", "a.tsv", "a.jsonl", "a.json", "a.parquet"])
@pytest.mark.filterwarnings("ignore::dal.data.DataWarning")
def test_a_damaged_file_is_read_or_refused_in_one_line(folder, name):
    texts, labels = ["first text", 'with "quotes"', "näive é"] * 5, ["x", "y", "x;y"] * 5
    if name == "a.parquet":
        table = pa.table({"text": texts, "label": labels}).replace_schema_metadata({"huggingface": json.dumps(GOOD)})
        pa.parquet.write_table(table, name)
        content = (folder / name).read_bytes()
    else:
        rows = [{"text": text, "label": label} for text, label in zip(texts, labels, strict=True)]
        out = io.StringIO()
        csv.DictWriter(out, ["text", "label"], delimiter="\t" if name == "a.tsv" else ",").writerows(rows)
        written = {
            "a.jsonl": "\n".join(map(json.dumps, rows)),
            "a.json": json.dumps(rows, ensure_ascii=False),
            "a.csv": f"text,label\n{out.getvalue()}",
            "a.tsv": f"text\tlabel\n{out.getvalue()}",
        }
        content = written[name].encode()
    damage, messages = random.Random(0), []
    for _ in range(150):
        changed = bytearray(content)
        for _ in range(damage.randrange(1, 6)):
            at = damage.randrange(len(changed))
            kind = damage.randrange(4)
            if kind == 0:
                changed[at] = damage.randrange(256)
            elif kind == 1:
                del changed[at : at + damage.randrange(1, 40)]
            elif kind == 2:
                changed[at:at] = bytes(damage.choices(b'"\n\t,;\0\xff[]{}', k=damage.randrange(1, 5)))
            else:
                changed[at:at] = changed[: damage.randrange(1, 60)]
            if not changed:
                break
        (folder / name).write_bytes(bytes(changed))
        try:
            TextData(name, multilabel=bool(damage.randrange(2))).load()
        except DalError as error:
            messages.append(str(error))
    assert all(message.isprintable() and len(message) < 1500 for message in messages)
    assert messages
