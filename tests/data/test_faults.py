"""Data that cannot be used: one line each, naming the file, the row and the column."""

import datasets
import pyarrow as pa
import pyarrow.parquet
import pytest

from dal.data import TextData
from dal.errors import DataError

GOOD = "text,label\nfirst,a\nsecond,b\nthird,a\n"


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    return tmp_path


def refused(content, name="rows.csv", **options):
    """The message of the DataError that loading `content` raises, which must be one line and leave nothing behind."""
    from pathlib import Path

    if content is not None:
        Path(name).write_bytes(content if isinstance(content, bytes) else content.encode())
    before = sorted(Path().rglob("*"))
    with pytest.raises(DataError) as caught:
        TextData(name, **options).load()
    assert sorted(Path().rglob("*")) == before
    message = str(caught.value)
    assert "\n" not in message
    assert len(message) < 600
    return message


def parquet(name="rows.parquet", **columns):
    pa.parquet.write_table(pa.table(columns), name)
    return name


# -- files -------------------------------------------------------------------------------------------------------------


def test_a_missing_file_suggests_the_nearest(folder):
    (folder / "tickets.csv").write_text(GOOD)
    message = refused(None, "ticket.csv")
    assert message.startswith("ticket.csv does not exist")
    assert message.endswith("did you mean 'tickets.csv'?")


@pytest.mark.parametrize("name", ["rows.xlsx", "data/rows", "../rows", "rows.csv:x", "a/b/c"])
def test_what_looks_like_a_file_is_not_sought_on_the_hub(folder, name):
    (folder / "data").mkdir()
    assert "does not exist" in refused(None, name)


def test_a_missing_folder_is_named(folder):
    assert "there is no folder nowhere" in refused(None, "nowhere/rows.csv")


@pytest.mark.parametrize("content", [b"", b"\n\n", b"text,label\n", b"text,label"])
def test_an_empty_csv_file_is_refused(folder, content):
    message = refused(content)
    assert message.startswith("rows.csv")
    assert "empty" in message.lower()


@pytest.mark.parametrize(
    ("name", "content"), [("a.jsonl", b"\n\n"), ("a.json", b"[]"), ("a.json", b" [ ] "), ("a.jsonl", b"")]
)
def test_an_empty_json_file_is_refused(folder, name, content):
    assert "is empty" in refused(content, name)


def test_an_empty_parquet_file_is_refused(folder):
    assert "is empty: it has no rows" in refused(
        None, parquet(text=pa.array([], pa.string()), label=pa.array([], pa.string()))
    )


def test_a_truncated_parquet_file_is_refused(folder):
    whole = (folder / parquet(text=["a", "b"] * 500, label=["x", "y"] * 500)).read_bytes()
    for size in (10, len(whole) // 2, len(whole) - 1):
        assert "was it truncated?" in refused(whole[:size], "cut.parquet")


def test_a_parquet_file_with_a_broken_page_is_refused(folder):
    whole = bytearray((folder / parquet(text=[f"{i}" * 50 for i in range(500)], label=["x", "y"] * 250)).read_bytes())
    whole[4:400] = bytes(396)
    assert refused(bytes(whole), "broken.parquet").startswith("broken.parquet")


def test_an_unknown_file_type_lists_the_known_ones(folder):
    assert "unknown file type '.xlsx': expected .csv, .tsv, .jsonl, .json, .parquet" in refused(b"x", "rows.xlsx")


def test_a_folder_that_datasets_did_not_write_is_refused(folder):
    (folder / "things").mkdir()
    assert "save_to_disk" in refused(None, "things")


def test_a_name_that_is_neither_file_nor_hub_says_so(folder, monkeypatch):
    def load_dataset(*args):
        raise ConnectionError("no\nway")

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    assert refused(None, "ticketz") == (
        "'ticketz' is no file or folder here, and the Hugging Face hub does not give it: no way"
    )


def test_a_split_that_is_not_there_suggests_the_nearest(folder):
    part = datasets.Dataset.from_dict({"text": ["a", "b"], "label": ["x", "y"]})
    datasets.DatasetDict({"train": part, "validation": part}).save_to_disk("parts")
    message = refused(None, "parts", test="validatoin")
    assert "no split 'validatoin'; did you mean 'validation'?" in message


def test_parts_without_a_train_split_are_listed(folder):
    part = datasets.Dataset.from_dict({"text": ["a", "b"], "label": ["x", "y"]})
    datasets.DatasetDict({"one": part, "two": part}).save_to_disk("parts")
    assert "its splits are one, two" in refused(None, "parts")


# -- rows and columns --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["rows.csv", "rows.jsonl", "rows.parquet"])
@pytest.mark.parametrize(
    ("option", "column"), [("text", "txet"), ("label", "lable"), ("id", "txet"), ("group", "lable")]
)
def test_an_unknown_column_suggests_the_nearest(folder, name, option, column):
    content = {
        "rows.csv": GOOD,
        "rows.jsonl": '{"text": "a", "label": "x"}\n{"text": "b", "label": "y"}\n',
        "rows.parquet": None,
    }[name]
    parquet(text=["a", "b"], label=["x", "y"])
    message = refused(content, name, **{option: column})
    near = "text" if column == "txet" else "label"
    assert message.startswith(f"{name} has no column {column!r}; did you mean {near!r}?; its columns are text, label")


def test_a_file_without_labels_says_how_to_do_without(folder):
    assert "for a pool without labels set label to null" in refused("text\na\nb\n")


def test_a_column_that_stands_twice_is_refused(folder):
    assert "2 columns named 'text'" in refused("text,text,label\na,b,x\n")


def test_all_texts_empty_is_refused(folder):
    assert refused('text,label\n"",a\n"  ",b\n') == "rows.csv: every text is empty (2 rows), column 'text'"


@pytest.mark.parametrize(
    ("name", "content", "at"),
    [
        ("rows.csv", 'text,label\n"two\nlines",a\n\nx,b\ny,spam\n', "row 3 (line 6)"),
        ("rows.tsv", "text\tlabel\nu\ta\nx\tb\ny\tspam\n", "row 3 (line 4)"),
        (
            "rows.jsonl",
            '{"text":"u","label":"a"}\n\n{"text":"x","label":"b"}\n{"text":"y","label":"spam"}',
            "row 3 (line 4)",
        ),
        ("rows.json", '[{"text":"u"},\n{"text":"x"},\n\n{"text":"y","label":"spam"}]', "row 3 (line 4)"),
    ],
)
def test_a_label_outside_the_declared_names_is_placed(folder, name, content, at):
    message = refused(content, name, classes=["a", "b", "spar"])
    assert message == (
        f"{name}: {at}, column 'label': the label 'spam' is not one of the classes a, b, spar; did you mean 'spar'?"
    )


@pytest.mark.filterwarnings("ignore::dal.data.DataWarning")
def test_rows_are_counted_as_in_the_file_when_empty_ones_are_skipped(folder):
    assert "row 4 (line 5), column 'label'" in refused('text,label\n"",a\nx,a\ny,b\nz,c\n', classes=["a", "b"])


def test_a_label_outside_the_declared_names_of_a_parquet_file_is_placed(folder):
    parquet(text=list("abc"), label=[0, 1, 2])
    assert "rows.parquet: row 3, column 'label': the label '2'" in refused(None, "rows.parquet", classes=["x", "y"])


def test_a_label_within_a_list_is_placed(folder):
    parquet(text=list("abc"), label=[["x"], [], ["x", "z"]])
    message = refused(None, "rows.parquet", multilabel=True, classes=["x", "y"])
    assert "row 3, column 'label': the label 'z'" in message


def test_a_label_that_is_not_finite_is_placed(folder):
    parquet(text=list("abc"), label=[0.0, 1.0, float("inf")])
    assert "row 3, column 'label': inf is not a label" in refused(None, "rows.parquet")


def test_lists_of_labels_without_multilabel_are_explained(folder):
    parquet(text=list("ab"), label=[["x"], ["y"]])
    assert "set multilabel to true" in refused(None, "rows.parquet")


def test_an_empty_value_within_a_list_is_placed(folder):
    parquet(text=list("ab"), label=[["x"], ["y", None]])
    assert "row 2, column 'label': an empty value" in refused(None, "rows.parquet", multilabel=True)


def test_a_column_with_too_many_labels_is_taken_for_a_mistake(folder):
    content = "text,label\n" + "".join(f"t{i},l{i}\n" for i in range(10_001))
    assert "10,001 distinct labels: is this the label column?" in refused(content)


@pytest.mark.parametrize("options", [{}, {"classes": ["a", "b"]}, {"test": 0.5}])
def test_one_class_only_is_refused(folder, options):
    message = refused("text,label\nx,a\ny,a\nz,a\n", **options)
    assert message.startswith("rows.csv: column 'label' has one class only ('a')")


def test_one_class_among_unlabeled_rows_needs_the_others_declared(folder):
    content = "text,label\nx,a\ny,\nz,a\n"
    assert "name all classes with `classes`" in refused(content)
    assert TextData("rows.csv", classes=["a", "b"]).load().pool.known.sum() == 2


def test_ids_used_twice_are_placed(folder):
    message = refused("key,text,label\nk1,x,a\nk2,y,b\nk1,z,a\n", id="key")
    assert message == "rows.csv: row 3 (line 4), column 'key': the id 'k1' is already used by row 1; ids must be unique"


def test_an_empty_id_is_placed(folder):
    assert "row 2 (line 3), column 'key': the id is empty" in refused("key,text,label\nk1,x,a\n,y,b\n", id="key")


# -- encodings and syntax ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["rows.csv", "rows.tsv", "rows.jsonl", "rows.json"])
def test_invalid_utf8_is_placed(folder, name):
    content = {
        "rows.csv": b"text,label\nfine,a\nbr\xf6ken,b\n",
        "rows.tsv": b"text\tlabel\nfine\ta\nbr\xf6ken\tb\n",
        "rows.jsonl": b'{"text":"fine"}\n\nbr\xf6ken\n',
        "rows.json": b'[{"text":"fine"},\n\nbr\xf6ken]',
    }[name]
    line = next(i for i, text in enumerate(content.split(b"\n"), 1) if b"\xf6" in text)
    assert refused(content, name) == f"{name}: line {line}, byte 3 (0xf6) is not UTF-8: save it as UTF-8"


def test_a_file_in_utf16_is_recognised(folder):
    assert "looks like UTF-16" in refused(GOOD.encode("utf-16"))


def test_invalid_utf8_in_parquet_is_placed(folder):
    bad = pa.StringArray.from_buffers(
        3, pa.py_buffer(bytes([0, 0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0, 3, 0, 0, 0])), pa.py_buffer(b"a\xffb")
    )
    parquet(text=bad, label=["x", "y", "x"])
    assert refused(None, "rows.parquet") == "rows.parquet: row 2, column 'text' is not UTF-8"


def test_a_csv_row_with_too_many_columns_is_placed(folder):
    message = refused('text,label\n"two\nlines",a\nx, with a comma,b\n')
    assert message.startswith("rows.csv: row 2 (line 4) has 3 columns, expected 2")


def test_an_open_quote_is_explained(folder):
    assert "is a quote or a comma out of place?" in refused('text,label\nx,a\n"open,b\ny,a\n')


@pytest.mark.parametrize(
    ("name", "content", "line"),
    [
        ("a.jsonl", '{"text":"u"}\n{"text":\n', 2),
        ("a.json", '[{"text":"u"},\n{"text" "v"}]', 2),
        ("a.json", '[{"text":"u"}\n\n{"text":"v"}]', 3),
        ("a.json", '[{"text":"u"},\n', 2),
    ],
)
def test_broken_json_is_placed(folder, name, content, line):
    assert refused(content, name).startswith(f"{name}: line {line} is not JSON")


@pytest.mark.parametrize(
    ("record", "problem"),
    [
        ('{"text": 3}', "column 'text': expected text, not 3"),
        ('{"text": "x", "label": {"a": 1}}', "column 'label': {'a': 1} is not a label"),
        ('{"text": "x", "label": ["a"]}', "column 'label': single labels and lists of labels are mixed"),
        ('{"text": "\\ud83d", "label": "a"}', "column 'text': 'utf-8' codec can't encode"),
        ('["x"]', " is a list, expected an object"),
    ],
)
def test_a_json_value_of_the_wrong_kind_is_placed(folder, record, problem):
    message = refused('{"text": "u", "label": "b"}\n' + record, "a.jsonl")
    assert message.startswith("a.jsonl: row 2 (line 2)")
    assert problem in message


def test_a_text_column_of_numbers_is_refused(folder):
    parquet(text=[1, 2], label=["x", "y"])
    assert "column 'text': expected text, the column holds int64" in refused(None, "rows.parquet")


# -- tests, shares and limits ------------------------------------------------------------------------------------------


def test_a_test_that_shares_ids_with_the_pool_is_refused(folder):
    (folder / "test.csv").write_text("key,text,label\nk9,u,a\nk2,v,b\n")
    message = refused("key,text,label\nk1,x,a\nk2,y,b\n", id="key", test="test.csv")
    assert message == (
        "test.csv: row 2 (line 3), column 'key': the id 'k2' also occurs in the pool, rows.csv row 2; "
        "a test must not share rows with the pool"
    )


def test_a_label_of_the_test_that_the_pool_lacks_is_refused(folder):
    (folder / "test.csv").write_text("text,label\nu,a\nv,c\n")
    message = refused(GOOD, test="test.csv")
    assert message.startswith("test.csv: row 2 (line 3), column 'label': the label 'c' is not one of the classes a, b")
    assert message.endswith("which were found in rows.csv: name them all with `classes`")


def test_a_missing_test_file_suggests_the_nearest(folder):
    (folder / "tests.csv").write_text(GOOD)
    assert "did you mean 'tests.csv'?" in refused(GOOD, test="test.csv")
    assert "rows.csv has no splits" in refused(GOOD, test="test")


def test_a_test_without_labels_is_refused(folder):
    (folder / "test.csv").write_text("text,label\nu,\nv,\n")
    assert "test.csv: no row has a label" in refused(GOOD, test="test.csv")
    assert "name the label column" in refused(GOOD, test="test.csv", label=None)


def test_a_pool_that_is_the_test_leaves_nothing(folder):
    assert "every text of the pool also occurs in rows.csv: nothing is left" in refused(GOOD, test="rows.csv")


@pytest.mark.parametrize("option", ["test", "validation"])
def test_a_share_of_rows_without_labels_is_refused(folder, option):
    message = refused("text\na\nb\n", label=None, **{option: 0.5})
    assert f"{option} is a share of the labeled rows, but 0 of 2 rows have a label" in message


@pytest.mark.parametrize("test", [0.0, 1.0, 1.5, -0.2, 100, "1.5", float("nan")])
def test_a_test_share_outside_0_and_1_is_refused(test):
    with pytest.raises(DataError, match=r"^test: .* is not a share"):
        TextData("rows.csv", test=test)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"validation": 1.0}, "validation: 1.0 is not a share"),
        ({"validation": -0.1}, "validation: -0.1 is not a share"),
        ({"limit": 0}, "limit: 0 is not a number of rows"),
        ({"test_limit": -3}, "test_limit: -3 is not a number of rows"),
        ({"seed": -1}, "seed: -1 is negative"),
        ({"classes": ["a"]}, "classes: a is too few"),
        ({"classes": []}, "classes: nothing is too few"),
        ({"classes": ["a", "b", "a"]}, "classes: 'a' is named twice"),
        ({"classes": ["a", " "]}, "classes: a name is empty"),
        ({"multilabel": True, "label_separator": ""}, "label_separator is empty"),
    ],
)
def test_options_that_make_no_sense_are_refused_before_reading(options, message):
    with pytest.raises(DataError, match=message):
        TextData("rows.csv", **options)


# -- lists -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("texts", "labels", "options", "message"),
    [
        ([], None, {}, "texts are empty"),
        (["", " "], None, {}, "texts: every text is empty"),
        (["a", 3], None, {}, "texts: texts expected"),
        (["a", "b"], ["x"], {}, "texts: 2 rows but 1 in 'label'"),
        (["a", "b"], ["x", "z"], {"classes": ["x", "y"]}, "texts: row 2, column 'label': the label 'z'"),
        (["a", "b"], ["x", {}], {}, "texts: row 2, column 'label': {} is not a label"),
        (["a", "b"], ["x", "y"], {"ids": ["k", "k"]}, "texts: row 2, column 'id': the id 'k' is already used by row 1"),
        (["a", "b"], ["x", "y"], {"test": (["c"], ["z"])}, "the test: row 1, column 'label': the label 'z'"),
        (["a", "b"], None, {"test": (["c"], None)}, "a test needs its labels"),
        (["a", "\ud83d"], None, {}, "texts: row 2: '\\ud83d' holds half of a surrogate pair"),
    ],
)
def test_lists_that_cannot_be_used_are_refused(texts, labels, options, message):
    with pytest.raises(DataError) as caught:
        TextData.from_lists(texts, labels, **options)
    assert message in str(caught.value)
