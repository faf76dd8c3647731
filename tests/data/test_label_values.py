"""What a value means as a label: the same in files, lists, arrays, tensors, pandas and answers."""

import json
import warnings

import datasets
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet
import pytest
import torch

from dal.data import Rows, Splits, TextData
from dal.data.label_cells import parse
from dal.errors import AnswerError, DataError
from dal.learners.probe_learner import ProbeLearner
from dal.oracles.answering import answer_pending
from dal.oracles.simulated import Simulated
from dal.session import Session
from dal.session.answer_values import AnswerDecoder, by_index, one_per_row, spread
from dal.store.events import SKIP
from dal.strategies.random import Random

FORMS = ["csv", "jsonl", "parquet", "list", "array", "series", "inputs"]


def loaded(form, values, folder, **options):
    """The names that labels of one form get, the classes, or the error."""
    texts = [f"text {row}" for row in range(len(values))]
    path = folder / f"rows.{form}"
    try:
        if form == "csv":
            cells = ["" if value is None else ";".join(map(str, value)) if isinstance(value, list) else str(value)
                     for value in values]  # fmt: skip
            path.write_text("text,label\n" + "".join(f"{t},{c}\n" for t, c in zip(texts, cells, strict=True)))
            pool = TextData(str(path), **options).load().pool
        elif form == "jsonl":
            lines = [json.dumps({"text": t, "label": v}) for t, v in zip(texts, values, strict=True)]
            path.write_text("\n".join(lines))
            pool = TextData(str(path), **options).load().pool
        elif form == "parquet":
            pa.parquet.write_table(pa.table({"text": texts, "label": values}), path)
            pool = TextData(str(path), **options).load().pool
        elif form == "inputs":
            pool = Rows.from_inputs(texts, values, **options)
        else:
            kind = {"list": list, "array": np.array, "series": pd.Series}[form]
            pool = TextData.from_lists(texts, kind(values), **options).pool
    except DataError as error:
        return error
    return pool.names_of(pool.labels), pool.known.tolist()


# -- one label a row ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", FORMS)
def test_minus_one_is_a_class_where_no_classes_are_declared(form, tmp_path):
    assert loaded(form, [-1, 0, 1, -1], tmp_path) == (["-1", "0", "1", "-1"], [True] * 4)


@pytest.mark.parametrize("form", FORMS)
def test_minus_one_is_no_label_where_numbers_are_indices(form, tmp_path):
    found = loaded(form, [-1, 0, 1, -1], tmp_path, classes=["low", "high"])
    assert found == ([None, "low", "high", None], [False, True, True, False])


@pytest.mark.parametrize("form", FORMS)
def test_numbers_are_names_where_class_names_are_numbers(form, tmp_path):
    assert loaded(form, [5, 1, 3], tmp_path, classes=["1", "3", "5"])[0] == ["5", "1", "3"]


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(
    "values", [[1.5, 2.0, 1.5], [1.0, 2.0, 1.0], [1e20, 2.0, 1e20], [True, False, True], [7, 3, 7]]
)
def test_numbers_and_bools_have_one_name_in_every_form(form, values, tmp_path):
    expected = {1.5: ["1.5", "2.0", "1.5"], 1.0: ["1", "2", "1"], 1e20: ["1e+20", "2.0", "1e+20"], 7: ["7", "3", "7"]}
    if values[0] is True:
        values, wanted = (["true", "false", "true"] if form == "csv" else values), ["true", "false", "true"]
    else:
        wanted = expected[values[0]]
    assert loaded(form, values, tmp_path)[0] == wanted


@pytest.mark.parametrize("form", ["jsonl", "parquet", "list", "array", "series", "inputs"])
@pytest.mark.parametrize("value", [float("inf"), float("-inf")])
def test_a_number_that_is_not_finite_is_no_label(form, value, tmp_path):
    assert "not finite" in str(loaded(form, [1.0, value, 2.0], tmp_path))


def test_a_number_of_json_that_is_too_large_is_no_class(tmp_path):
    (tmp_path / "a.jsonl").write_text('{"text": "a", "label": 1}\n{"text": "b", "label": 1e999}\n')
    with pytest.raises(DataError, match=r"row 2 \(line 2\), column 'label': inf is not a label: it is not finite"):
        TextData(str(tmp_path / "a.jsonl")).load()


@pytest.mark.parametrize("classes", [None, ["1", "3", "5"]])
def test_numbers_in_a_tensor_that_can_mean_two_things_are_refused(classes):
    codes = torch.tensor([-1, 0, 1]) if classes is None else torch.tensor([1, 0, 2])
    for make in (Rows.from_inputs, lambda *a, **k: TextData.from_lists(*a, **k).pool):
        with pytest.raises(DataError, match="in a tensor can be"):
            make(["a", "b", "c"], codes, classes=classes)


def test_codes_of_rows_make_the_same_rows():
    rows = Rows.from_inputs(["a", "b", "c"], ["no", None, "yes"])
    again = Rows.from_inputs(["a", "b", "c"], rows.labels, rows.classes)
    assert again.labels.equal(rows.labels)
    assert again.known.equal(rows.known)


@pytest.mark.parametrize(
    "value", [b"ab", {"a": 1}, object(), [[1]], pytest.param(10**5000, id="digits"), 1j, np.zeros((2, 2)), [None]]
)
def test_what_is_no_label_is_refused_in_one_short_line(value):
    with pytest.raises(DataError, match="row 2") as caught:
        TextData.from_lists(["a", "b"], ["x", value])
    assert len(str(caught.value)) < 400


@pytest.mark.parametrize("labels", [{"a", "b"}, {"a": 1, "b": 2}, "ab", 3, pd.DataFrame({"x": [1, 0], "y": [0, 1]})])
def test_labels_without_an_order_of_their_own_are_refused(labels):
    for make in (TextData.from_lists, Rows.from_inputs):
        with pytest.raises(DataError, match="labels"):
            make(["a", "b"], labels)


def test_a_code_that_would_make_a_billion_classes_is_refused():
    for labels in ([0, 10**9], torch.tensor([0, 10**9]), [0, 10**4000]):
        with pytest.raises(DataError, match="is this the label column"):
            Rows.from_inputs(["a", "b"], labels)


def test_digits_of_other_scripts_are_names(tmp_path):
    assert loaded("list", ["１", "2"], tmp_path)[0] == ["１", "2"]


def test_numbers_of_any_length_are_ordered_as_numbers(tmp_path):
    long = "9" * 5000
    (tmp_path / "a.csv").write_text(f"text,label\na,{long}\nb,10\nc,-3\nd,2\n")
    assert TextData(str(tmp_path / "a.csv")).load().pool.classes == ("-3", "2", "10", long)


def test_codes_of_a_file_that_names_its_classes_are_indices_even_where_names_are_numbers(tmp_path):
    stars = datasets.Features({"text": datasets.Value("string"), "label": datasets.ClassLabel(names=["1", "2", "3"])})
    datasets.Dataset.from_dict({"text": list("ab"), "label": [1, 2]}, features=stars).to_parquet(tmp_path / "a.parquet")
    pool = TextData(str(tmp_path / "a.parquet")).load().pool
    assert pool.names_of(pool.labels) == ["2", "3"]


@pytest.mark.parametrize("cell", ["['x', 'y']", '["x"]', "[0, 1, 0]", "[]", "[1]"])
def test_a_list_in_a_cell_for_one_label_is_refused(cell, tmp_path):
    pa.parquet.write_table(pa.table({"text": ["a", "b"], "label": ["z", cell]}), tmp_path / "a.parquet")
    with pytest.raises(DataError, match=r"row 2.* looks like a list of labels; set multilabel to true"):
        TextData(str(tmp_path / "a.parquet")).load()


def test_a_name_in_brackets_is_a_name(tmp_path):
    assert loaded("list", ["[other]", "(x, y)"], tmp_path)[0] == ["[other]", "(x, y)"]


# -- several labels a row ----------------------------------------------------------------------------------------------

VECTORS = [[0, 1, 0], [1, 1, 0], [0, 0, 0], [0, 0, 1]]
ANSWERS = [["y"], ["x", "y"], [], ["z"]]


@pytest.mark.parametrize("form", ["csv", "jsonl", "parquet", "list", "inputs"])
@pytest.mark.parametrize("classes", [None, ["x", "y", "z"]])
def test_lists_of_zeros_and_ones_are_refused_with_both_readings_and_the_way_out(form, classes, tmp_path):
    message = str(loaded(form, VECTORS, tmp_path, multilabel=True, classes=classes))
    assert "row 1" in message
    for part in ("a vector of zeros and ones, one per class", "a list of the numbers of classes", "true and false"):
        assert part in message


@pytest.mark.parametrize("form", ["jsonl", "parquet", "list", "inputs"])
def test_a_list_of_two_zeros_and_ones_for_two_classes_is_refused(form, tmp_path):
    assert "can be a vector" in str(loaded(form, [[0, 1], [1]], tmp_path, multilabel=True, classes=["x", "y"]))


@pytest.mark.parametrize("form", ["jsonl", "parquet", "list", "inputs"])
@pytest.mark.parametrize("classes", [None, ["x", "y", "z"]])
def test_lists_of_bools_are_vectors(form, classes, tmp_path):
    vectors = [[bool(on) for on in row] for row in VECTORS]
    found = loaded(form, [*vectors, None], tmp_path, multilabel=True, classes=classes)
    names = classes or ["0", "1", "2"]
    assert found == ([[names["xyz".index(n)] for n in row] for row in ANSWERS] + [[]], [True] * 4 + [False])


@pytest.mark.parametrize(
    "make", [np.array, torch.tensor, lambda rows: np.array(rows, float), lambda rows: np.array(rows) > 0]
)
def test_arrays_with_one_column_per_class_are_vectors(make):
    texts = list("abcd")
    for pool in (
        TextData.from_lists(texts, make(VECTORS), classes=["x", "y", "z"], multilabel=True).pool,
        Rows.from_inputs(texts, make(VECTORS), ["x", "y", "z"], multilabel=True),
    ):
        assert pool.names_of(pool.labels) == ANSWERS


@pytest.mark.parametrize(
    "array", [np.array([[0, 2]]), np.array([[0.5, 1]]), np.array([[np.nan, 1]]), torch.zeros(1, 1, 1)]
)
def test_arrays_of_other_numbers_are_no_vectors(array):
    with pytest.raises(DataError, match="row 1"):
        Rows.from_inputs(["a"], array, multilabel=True)


def test_vectors_of_another_length_than_the_classes_are_refused(tmp_path):
    for rows in ([[True, False]], [[True, False, True], [True]]):
        found = loaded("list", rows, tmp_path, multilabel=True, classes=["x", "y", "z"])
        assert "columns of labels for 3 classes" in str(found)
    assert "for 3 classes" in str(loaded("list", [[True] * 3, [True]], tmp_path, multilabel=True))


@pytest.mark.parametrize("form", ["jsonl", "list"])
def test_vectors_and_lists_of_names_are_not_mixed(form, tmp_path):
    for rows in ([[True, False], ["x"]], [["x"], [True, False]], [[True, "x"], ["x"]]):
        assert isinstance(loaded(form, rows, tmp_path, multilabel=True), DataError)


def test_lists_of_indices_that_a_data_set_declares_are_no_vectors(tmp_path):
    features = datasets.Features({
        "text": datasets.Value("string"),
        "label": datasets.Sequence(datasets.ClassLabel(names=["x", "y"])),
    })  # fmt: skip
    made = datasets.Dataset.from_dict({"text": list("ab"), "label": [[0, 1], [1]]}, features=features)
    made.to_parquet(tmp_path / "a.parquet")
    pool = TextData(str(tmp_path / "a.parquet"), multilabel=True).load().pool
    assert pool.names_of(pool.labels) == [["x", "y"], ["y"]]


def multilabel(cells, tmp_path, **options):
    pa.parquet.write_table(
        pa.table({"text": [f"t{i}" for i in range(len(cells))], "label": cells}), tmp_path / "a.parquet"
    )
    pool = TextData(str(tmp_path / "a.parquet"), multilabel=True, **options).load().pool
    return pool.names_of(pool.labels)


@pytest.mark.parametrize(
    ("cell", "labels"),
    [
        ("['x', 'y']", ["x", "y"]),
        ('["x", "y"]', ["x", "y"]),
        ("('x', 'y')", ["x", "y"]),
        ("{'y', 'x'}", ["x", "y"]),
        ('["caf\\u00e9"]', ["café"]),
        ("['x',]", ["x"]),
        ("[]", []),
        ("set()", []),
        ("[ ]", []),
    ],
)
def test_a_written_list_is_read_as_the_list(cell, labels, tmp_path):
    assert multilabel([cell, "w"], tmp_path)[0] == labels


@pytest.mark.parametrize(
    "cell", ["[x, y]", "['x' 'y']", "['x', y]", "[['x'], ['y']]", "[0 1 0]", "[" * 500 + "]" * 500]
)
def test_a_written_list_that_cannot_be_read_is_no_class(cell, tmp_path):
    with pytest.raises(DataError, match=r"row 2.* looks like a list, and cannot be read as one"):
        multilabel(["w", cell], tmp_path)


@pytest.mark.parametrize("mark", [",", "|", "\t"])
def test_labels_cut_by_another_separator_are_no_class(mark, tmp_path):
    with pytest.raises(DataError, match=r"row 2.* may be several: set label_separator"):
        multilabel(["a;b", f"x{mark}y"], tmp_path)
    assert multilabel(["a;b", f"x{mark}y"], tmp_path, classes=["a", "b", f"x{mark}y"])[1] == [f"x{mark}y"]
    assert multilabel(["a", f"x{mark}y"], tmp_path, label_separator=mark)[1] == ["x", "y"]


# -- Unicode -----------------------------------------------------------------------------------------------------------

COMPOSED, DECOMPOSED = "caf\u00e9", "cafe\u0301"


@pytest.mark.parametrize("form", FORMS)
def test_composed_and_decomposed_accents_are_one_class(form, tmp_path):
    assert loaded(form, [COMPOSED, DECOMPOSED, "tea"], tmp_path)[0] == [COMPOSED, COMPOSED, "tea"]
    assert loaded(form, [COMPOSED, "tea"], tmp_path, classes=[DECOMPOSED, "tea"])[0] == [COMPOSED, "tea"]


def test_lists_of_labels_are_composed(tmp_path):
    assert multilabel([f"{COMPOSED};{DECOMPOSED}", "tea"], tmp_path)[0] == [COMPOSED]


def test_texts_keep_their_form():
    assert TextData.from_lists([COMPOSED, DECOMPOSED], ["x", "y"]).pool.texts() == [COMPOSED, DECOMPOSED]


def test_answers_are_composed():
    classes = AnswerDecoder([COMPOSED, "tea"], multilabel=False)
    assert classes.read(DECOMPOSED) == COMPOSED
    assert classes.codes([COMPOSED, SKIP, "tea"]).tolist() == [0, -1, 1]
    assert classes.unknown([COMPOSED, "x"]) == ["x"]
    assert AnswerDecoder([COMPOSED, "tea"], multilabel=True).read([DECOMPOSED]) == (COMPOSED,)
    assert Rows.from_inputs(["a", "b"], [COMPOSED, "x"]).codes_of([DECOMPOSED]).tolist() == [0]


def test_classes_that_differ_in_their_form_alone_are_refused():
    with pytest.raises(DataError, match=r"named twice .once with composed"):
        TextData("a.csv", classes=[COMPOSED, DECOMPOSED])
    with pytest.raises(DataError, match="is not text"):
        Rows.from_inputs(["a"], classes=[1, 2])


# -- pandas ------------------------------------------------------------------------------------------------------------


def test_a_series_is_read_in_its_order_whatever_its_index():
    frame = pd.DataFrame({"text": list("abcdef"), "label": list("xyxyxy"), "key": range(6)}).iloc[[5, 1, 2]]
    for pool in (
        TextData.from_lists(frame.text, frame.label, ids=frame.key, groups=frame.label).pool,
        Rows.from_inputs(frame.text, frame.label, ids=frame.key, groups=frame.label),
    ):
        assert pool.texts() == ["f", "b", "c"]
        assert pool.names_of(pool.labels) == ["y", "y", "x"]
        assert list(pool.ids) == ["5", "1", "2"]
        assert list(pool.groups) == ["y", "y", "x"]


@pytest.mark.parametrize(
    "labels",
    [
        pd.Series([1, None, 0], dtype="Int64"),
        pd.Series(["1", None, "0"], dtype="string"),
        pd.Series([1.0, float("nan"), 0.0]),
        pd.Series(["1", None, "0"], dtype="category"),
        pd.Series(["1", pd.NA, "0"], dtype=object),
        pd.Series(["1", pd.NaT, "0"], dtype=object),
        pd.array([1, pd.NA, 0]),
        [1, pd.NA, 0],
        np.array(["1", None, "0"], dtype=object),
    ],
)
def test_every_missing_value_of_pandas_is_no_label(labels):
    texts = pd.Series(["a", "b", "c"], index=[7, 8, 9], dtype="string")
    for pool in (TextData.from_lists(texts, labels).pool, Rows.from_inputs(texts, labels)):
        assert pool.names_of(pool.labels) == ["1", None, "0"]


def test_a_table_of_two_text_columns_is_pairs():
    frame = pd.DataFrame({"q": ["a", "b"], "a": ["c", "d"]}, index=[3, 4])
    assert TextData.from_lists(frame, ["x", "y"]).pool.texts() == [("a", "c"), ("b", "d")]


@pytest.mark.filterwarnings("ignore::dal.data.DataWarning")
def test_a_missing_text_is_skipped():
    assert TextData.from_lists(pd.Series(["a", pd.NA, "c"]), ["x", "x", "y"]).pool.texts() == ["a", "c"]


@pytest.mark.parametrize("ids", [["k", None], ["k", pd.NA], ["k", float("nan")], ["k", ""]])
def test_a_missing_id_is_refused(ids):
    for make in (TextData.from_lists, Rows.from_inputs):
        with pytest.raises(DataError, match="row 2 of ids: the id is empty"):
            make(["a", "b"], ["x", "y"], ids=ids)


def test_arrays_of_texts_are_texts():
    for dtype in ("U5", object):
        rows = Rows.from_inputs(np.array(["a", "b"], dtype=dtype))
        assert rows.texts() == ["a", "b"]
        assert rows.fingerprint == Rows.from_inputs(["a", "b"]).fingerprint


# -- answers -----------------------------------------------------------------------------------------------------------


def test_an_answer_that_is_a_number_means_what_it_means_in_a_file():
    classes = AnswerDecoder(["1", "2", "5"], multilabel=False)
    assert classes.read(5) == "5"
    assert classes.read("2") == "2"
    for value in (1, 2, np.int64(1), torch.tensor(2)):
        with pytest.raises(ValueError, match="give the name as text"):
            classes.read(value)
    with pytest.raises(ValueError, match="numbers are class names here"):
        classes.read(0)
    assert AnswerDecoder(["-1", "0", "1"], multilabel=False).read(-1) == "-1"
    assert AnswerDecoder(["no", "yes"], multilabel=False).read(1.0) == "yes"
    assert AnswerDecoder(["false", "true"], multilabel=False).read(True) == "true"


def test_an_answer_of_zeros_and_ones_is_refused_and_one_of_bools_is_taken():
    classes = AnswerDecoder(["x", "y", "z"], multilabel=True)
    for value in ([0, 1, 0], [1.0, 1.0, 0.0], np.array([0, 1, 0]), torch.tensor([0, 0, 0]), (0, 0)):
        with pytest.raises(ValueError, match="can be a vector"):
            classes.read(value)
    for value in ([False, True, False], np.array([False, True, False]), torch.tensor([False, True, False]), [1], {"y"}):
        assert classes.read(value) == ("y",)


def test_an_array_of_answers_with_one_column_per_class_is_vectors():
    classes = AnswerDecoder(["x", "y"], multilabel=True)
    for form in (np.array, torch.tensor, lambda rows: torch.tensor(rows, dtype=torch.float32)):
        assert [classes.read(value) for value in one_per_row(form([[0, 1], [0, 0]]), 2)] == [("y",), ()]


def test_a_series_of_answers_is_one_per_row():
    assert one_per_row(pd.Series(["a", "b"], index=[4, 9]), 2) == ["a", "b"]
    assert one_per_row(np.int64(3), 1) == [3]
    for values in ("ab", {"a", "b"}, {"a": 1, "b": 2}, 3):
        with pytest.raises(AnswerError, match="no answer of this call was stored"):
            one_per_row(values, 2)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), [1.0, float("nan")], ["a", "b"], object()])
def test_what_an_answer_cost_is_a_finite_number(value):
    with pytest.raises(AnswerError, match="cost"):
        spread(value, 2, "cost")
    assert spread(np.float32(2), 2, "cost") == [2.0, 2.0]
    assert spread(torch.tensor([1.0, 2.0]), 2, "cost") == [1.0, 2.0]


@pytest.mark.parametrize("many", [False, True])
def test_an_oracle_answers_with_indices_also_where_names_are_numbers(many):
    labels = [["5"], ["3", "5"], [], ["3"]] if many else ["5", "3", "5", "3"]
    pool = Rows.from_inputs(torch.randn(4, 2), labels, multilabel=many)
    with warnings.catch_warnings(), Session(_of(pool), ProbeLearner(model=None), Random(), hide_labels=True) as session:
        session.ask(4)
        answer_pending(Simulated(), session)
        assert session.labels.equal(pool.labels)
    assert by_index("3", pool.classes) == "3"


def _of(pool):
    from dal.data import Splits

    return Splits(pool)


# -- vectors as inputs -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("form", ["tensor", "half", "array", "list", "images"])
def test_inputs_that_are_not_finite_are_refused_with_their_row(form, value):
    x = torch.zeros(9000, 2)
    x[8500, 1] = value
    made = {"tensor": x, "half": x.half(), "array": x.numpy(), "list": list(x), "images": x.reshape(9000, 1, 2)}[form]
    with pytest.raises(DataError, match=r"row 8501 of inputs .index 8500. holds a number that is NaN or infinite"):
        Rows.from_inputs(made)
    Rows.from_inputs(torch.zeros(3, 2, dtype=torch.uint8))
    Rows.from_inputs(torch.zeros(0, 2))


def test_a_session_refuses_a_pool_that_is_not_finite_before_anything_is_asked():
    made = Rows.from_inputs(torch.zeros(5, 2), classes=["a", "b"])
    bad = torch.zeros(5, 2)
    bad[3, 0] = float("nan")
    pool = Rows(bad, made.ids, made.labels, made.known, made.classes)
    with pytest.raises(DataError, match="row 4 of inputs"):
        Session(_of(pool), ProbeLearner(model=None), Random())


@pytest.mark.parametrize("form", ["parquet", "list", "array", "series", "inputs"])
def test_single_numbers_for_several_labels_are_lists_of_one(form, tmp_path):
    assert loaded(form, [2, 0, 1], tmp_path, multilabel=True, classes=["x", "y", "z"])[0] == [["z"], ["x"], ["y"]]
    assert "not finite" in str(loaded(form, [2.0, float("inf")], tmp_path, multilabel=True, classes=["x", "y", "z"]))


# -- arrays, tensors and columns as single values ----------------------------------------------------------------------


ITEMS = {
    "arrays": np.array,
    "tensors": torch.tensor,
    "tuples": tuple,
    "columns": pa.array,
}


@pytest.mark.parametrize("kind", ITEMS.values(), ids=ITEMS)
def test_the_classes_of_a_row_may_be_an_array(kind):
    classes = ["x", "y", "z"]
    rows = Rows.from_inputs(["a", "b"], [kind([1]), kind([0, 2])], classes, multilabel=True)
    assert rows.names_of(rows.labels) == [["y"], ["x", "z"]]
    vectors = Rows.from_inputs(["a"], [kind([True, False, True])], classes, multilabel=True)
    assert vectors.names_of(vectors.labels) == [["x", "z"]]
    answers = AnswerDecoder(classes, multilabel=True)
    assert answers.read(kind([0, 2])) == ("x", "z")
    assert answers.read(kind([True, False, True])) == ("x", "z")
    with pytest.raises(DataError, match="zeros and ones"):
        Rows.from_inputs(["a"], [kind([0, 1, 0])], classes, multilabel=True)
    with pytest.raises(ValueError, match="zeros and ones"):
        answers.read(kind([0, 1, 0]))


@pytest.mark.parametrize(
    "values",
    [
        pa.array(["b", "a"]),
        pa.chunked_array([["b"], ["a"]]),
        pa.array(["b", "a"]).dictionary_encode(),
        pa.array([1, 0]),
        [pa.scalar("b"), pa.scalar(0)],
        pd.Series(["b", "a"], dtype="category"),
        torch.tensor([1, 0]).to_sparse(),
    ],
    ids=lambda values: f"{type(values).__name__} {getattr(values, 'dtype', '')}",
)
def test_answers_may_be_a_column(values):
    pool = Rows.from_inputs(torch.zeros(2, 3), classes=["a", "b"])
    with Session(Splits(pool=pool), ProbeLearner(model=None), Random()) as session:
        assert session.tell(session.ask(2).sort().values, values) == 2
        assert pool.names_of(session.labels) == ["b", "a"]
    assert pool.codes_of(values if isinstance(values, list) else list(values)).tolist() == [1, 0]


def test_numbers_of_single_precision_are_the_classes_that_they_print_as():
    rows = Rows.from_inputs(["a", "b"], classes=["0.1", "0.2"])
    for values in (torch.tensor([0.1, 0.2]), np.array([0.1, 0.2], np.float32), pa.array([0.1, 0.2], pa.float32())):
        assert rows.codes_of(list(values)).tolist() == [0, 1]


def test_a_table_of_answers_is_refused_since_its_columns_have_names():
    """Their order need not be that of the classes."""
    table = pd.DataFrame({"y": [True, False], "x": [False, True]})
    with pytest.raises(AnswerError, match=r"values are a table: .*no answer of this call was stored"):
        one_per_row(table, 2)
    with pytest.raises(DataError, match="labels are a table"):
        Rows.from_inputs(["a", "b"], table, ["x", "y"], multilabel=True)


@pytest.mark.parametrize("make", [lambda v: Rows.from_inputs(["a", "b"], v), lambda v: TextData.from_lists(["a"], v)])
@pytest.mark.parametrize("value", [np.array(1), torch.tensor(1), torch.zeros(2, device="meta")], ids=str)
def test_labels_without_values_are_refused(make, value):
    with pytest.raises(DataError, match=r"not a single value|on the device 'meta' holds no values|1 rows but 2"):
        make(value)


@pytest.mark.parametrize("kind", [pa.date32(), pa.timestamp("s"), pa.duration("s"), pa.time32("s")], ids=str)
def test_dates_are_no_labels_in_a_file_as_in_a_list(kind, tmp_path):
    column = pa.array([1, 2], kind)
    pa.parquet.write_table(pa.table({"text": ["a", "b"], "label": column}), tmp_path / "rows.parquet")
    with pytest.raises(DataError, match="are not labels"):
        TextData(str(tmp_path / "rows.parquet")).load()
    with pytest.raises(DataError, match="is not a label"):
        Rows.from_inputs(["a", "b"], column.to_pylist())


# -- names that are numbers, and -1 among several labels ---------------------------------------------------------------


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("values", [["1.0", "2.0", "1.0"], [1.0, 2.0, 1.0]], ids=["texts", "numbers"])
def test_a_label_that_is_a_class_to_the_letter_is_that_class(form, values, tmp_path):
    names = ["1.0", "2.0", "1.0"]
    assert loaded(form, values, tmp_path, classes=["1.0", "2.0"]) == (names, [True] * 3)
    assert loaded(form, values, tmp_path, classes=["1", "2"]) == (["1", "2", "1"], [True] * 3)


def test_a_number_that_is_a_name_to_the_letter_is_answered_so():
    assert AnswerDecoder(["0.0", "1.0"], multilabel=False).read(1.0) == "1.0"
    with pytest.raises(ValueError, match=r"1 can be the class '1.0' or the class of that index, '2.0'"):
        AnswerDecoder(["1.0", "2.0"], multilabel=False).read(1.0)


def test_a_cell_of_a_sheet_may_have_decimals_that_a_spreadsheet_added():
    assert parse("1.0", ["1", "2"]) == "1"
    assert parse("1.0 | 2", ["1", "2"], multilabel=True) == ["1", "2"]
    assert parse("1.0", ["1", "1.0"]) == "1.0"


@pytest.mark.parametrize("form", [form for form in FORMS if form != "array"])
@pytest.mark.parametrize("values", [[[-1], [0]], [[0, -1], [1]], [["-1"], ["1"]]], ids=str)
def test_minus_one_among_several_labels_is_refused(form, values, tmp_path):
    """It could be no label, or none of the classes: the row counted as answered with none of them before."""
    error = loaded(form, values, tmp_path, classes=["x", "y"], multilabel=True)
    assert isinstance(error, DataError)
    assert "can be no label or none of the classes: leave the row empty (null) for no label" in str(error)


@pytest.mark.parametrize("form", ["jsonl", "parquet", "list", "series", "inputs"])
@pytest.mark.parametrize("values", [[["x", " "], ["y"]], [[""], ["y"]]], ids=str)
def test_an_empty_text_within_a_list_is_refused_as_null_is(form, values, tmp_path):
    error = loaded(form, values, tmp_path, classes=["x", "y"], multilabel=True)
    assert isinstance(error, DataError)
    assert "an empty value within a list of labels" in str(error)


def test_a_code_that_no_class_has_is_refused():
    rows = Rows.from_inputs(["a", "b"], ["x", "y"])
    for code in (2, -2):
        with pytest.raises(DataError, match=f"has 2 classes: there is no code {code}"):
            rows.names_of([0, code])
