"""Rows: what a table of inputs, ids and labels does."""

from hashlib import blake2b

import numpy as np
import pyarrow as pa
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dal.data import Rows, TextColumn, TextPairs
from dal.data.columns import digests
from dal.errors import DataError

TEXTS = ["the parcel is late", "wrong invoice", "the parcel is late", "naïve 😀 \x00 text"]
NASTY = [
    "<script>alert('x')</script>",
    "a\r\nb",
    "\x00",
    "ｆｕｌｌ　ｗｉｄｔｈ",
    "e\u0301",
    "😀" * 1000,
    "x" * 200_000,
    "\ufeffx",
]


def test_texts_come_back_exactly():
    rows = Rows.from_inputs(NASTY)
    assert rows.texts() == NASTY
    assert [rows[row] for row in range(len(rows))] == NASTY


def test_labels_and_classes_follow_from_names():
    rows = Rows.from_inputs(TEXTS, ["ship", "bill", None, "ship"])
    assert rows.classes == ("bill", "ship")
    assert rows.labels.tolist() == [1, 0, -1, 1]
    assert rows.labels.dtype == torch.int64
    assert rows.known.tolist() == [True, True, False, True]


def test_declared_classes_give_the_codes_their_order():
    assert Rows.from_inputs(TEXTS, ["b", "a", "a", "b"], ["b", "a", "c"]).labels.tolist() == [0, 1, 1, 0]


@pytest.mark.parametrize("form", [list, np.array, torch.tensor])
def test_codes_in_a_list_an_array_or_a_tensor_keep_their_values(form):
    rows = Rows.from_inputs(torch.zeros(4, 2), form([3, 0, -1, 1]), ["a", "b", "c", "d"])
    assert rows.labels.tolist() == [3, 0, -1, 1]
    assert rows.known.tolist() == [True, True, False, True]
    rows = Rows.from_inputs(torch.zeros(3, 2), form([3, 0, 1]))
    assert rows.classes == ("0", "1", "2", "3")
    assert rows.labels.tolist() == [3, 0, 1]


def test_a_code_beyond_the_classes_is_refused():
    with pytest.raises(DataError, match=r"row 2 of labels: the label 2 is not one of the classes a, b"):
        Rows.from_inputs(["x", "y"], torch.tensor([0, 2]), ["a", "b"])


def test_multilabel_tells_an_empty_answer_from_no_answer():
    rows = Rows.from_inputs(TEXTS, [["x"], ["y", "x"], [], None], multilabel=True)
    assert rows.labels.tolist() == [[True, False], [True, True], [False, False], [False, False]]
    assert rows.known.tolist() == [True, True, True, False]


def test_multilabel_codes_may_be_a_tensor_of_zeros_and_ones():
    rows = Rows.from_inputs(TEXTS[:2], torch.tensor([[1, 0, 1], [0, 0, 0]]), multilabel=True)
    assert rows.labels.dtype == torch.bool
    assert rows.names_of(rows.labels) == [["0", "2"], []]
    assert rows.known.all()


def test_names_and_codes_are_inverse():
    rows = Rows.from_inputs(["a", "b", "c"], ["no", "yes", "maybe"])
    assert rows.names_of(rows.codes_of(["yes", "no"])) == ["yes", "no"]
    assert rows.codes_of([2, "no", np.int64(0)]).tolist() == [2, 1, 0]
    assert rows.names_of(torch.tensor([-1])) == [None]


def test_multilabel_names_and_codes_are_inverse():
    rows = Rows.from_inputs(["a", "b"], [["x"], ["y", "z"]], multilabel=True)
    codes = rows.codes_of([["z", "x"], [], [1], [False, True, True]])
    assert rows.names_of(codes) == [["x", "z"], [], ["y"], ["y", "z"]]


@pytest.mark.parametrize("value", ["yess", 3, -1, True, 1.5, None])
def test_an_answer_outside_the_classes_is_refused_with_its_place(value):
    rows = Rows.from_inputs(["a", "b", "c"], ["no", "yes", "maybe"])
    with pytest.raises(DataError, match=r"answer 2: the label .* is not one of the classes maybe, no, yes"):
        rows.codes_of(["yes", value])


def test_the_nearest_class_is_suggested():
    with pytest.raises(DataError, match="did you mean 'Shipping'"):
        Rows.from_inputs(["a", "b"], ["Shipping", "Billing"]).codes_of(["shiping"])


def test_a_single_answer_for_multilabel_data_is_refused():
    with pytest.raises(DataError, match="must be a list of classes"):
        Rows.from_inputs(["a"], [["x"]], multilabel=True).codes_of(["x"])


def test_ids_are_hashes_with_an_occurrence_number():
    rows = Rows.from_inputs(TEXTS)
    assert len(set(rows.ids)) == 4
    assert rows.ids[2] == rows.ids[0] + "-2"


def test_ids_do_not_change_when_the_data_are_reordered_or_grow():
    before = Rows.from_inputs(TEXTS)
    after = Rows.from_inputs(["new", *TEXTS[::-1]])
    assert set(before.ids) < set(after.ids)
    assert {i: before[before.rows_of([i]).item()] for i in before.ids} == {
        i: after[after.rows_of([i]).item()] for i in before.ids
    }


def test_a_pair_is_hashed_with_both_texts_and_where_they_part():
    rows = Rows.from_inputs([("ab", "c"), ("a", "bc"), ("ab", "d")])
    assert len({i[:16] for i in rows.ids}) == 3
    assert isinstance(rows.inputs, TextPairs)
    assert rows[1] == ("a", "bc")
    assert rows.texts([2, 0]) == [("ab", "d"), ("ab", "c")]


def test_rows_of_finds_ids_in_their_order():
    rows = Rows.from_inputs(TEXTS, ids=["a", "b", "c", "d"])
    assert rows.rows_of(["d", "a", "d"]).tolist() == [3, 0, 3]
    assert rows.rows_of(rows.ids).tolist() == [0, 1, 2, 3]
    assert rows.rows_of([]).dtype == torch.int64


def test_an_unknown_id_is_named():
    with pytest.raises(DataError, match="no row with the id 'z', 'y'"):
        Rows.from_inputs(TEXTS).rows_of(["z", "y"])


def test_an_id_used_twice_is_refused_with_both_rows():
    with pytest.raises(DataError, match="row 3 of ids: the id 'a' is already used by row 1"):
        Rows.from_inputs(TEXTS, ids=["a", "b", "a", "c"])


def test_columns_of_different_length_are_refused():
    with pytest.raises(DataError, match="4 inputs but 1 labels"):
        Rows.from_inputs(TEXTS, ["a"])


@pytest.mark.parametrize("index", [[2, 0, 0], torch.tensor([2, 0, 0]), np.array([2, 0, 0]), [-2, 0, -4]])
def test_take_keeps_rows_aligned(index):
    rows = Rows.from_inputs(TEXTS, ["ship", "bill", None, "ship"], ids=list("abcd"), groups=["g", "h", "g", "i"])
    part = rows.take(index).take([0, 1])
    assert part.texts() == [TEXTS[2], TEXTS[0]]
    assert list(part.ids) == ["c", "a"]
    assert part.labels.tolist() == [-1, 1]
    assert part.known.tolist() == [False, True]
    assert list(part.groups) == ["g", "g"]
    assert part.classes == rows.classes


def test_take_accepts_a_mask_and_a_slice():
    rows = Rows.from_inputs(TEXTS)
    assert rows.take(torch.tensor([True, False, False, True])).texts() == [TEXTS[0], TEXTS[3]]
    assert rows.take(slice(1, 3)).texts() == TEXTS[1:3]


def test_a_row_outside_the_table_is_an_index_error():
    rows = Rows.from_inputs(TEXTS)
    for call in (lambda: rows[4], lambda: rows.take([4]), lambda: rows.texts([-5])):
        with pytest.raises(IndexError):
            call()


def test_tensors_are_inputs_like_any_other():
    images = torch.rand(5, 3, 3)
    rows = Rows.from_inputs(images, torch.arange(5))
    assert torch.equal(rows.take([4, 1]).inputs, images[[4, 1]])
    assert torch.equal(rows[2], images[2])
    assert rows.fingerprint == Rows.from_inputs(images.clone()).fingerprint
    assert rows.fingerprint != Rows.from_inputs(images.flip(0)).fingerprint
    with pytest.raises(DataError, match="has no texts"):
        rows.texts()


def test_equal_tensor_rows_are_told_apart_by_an_occurrence_number():
    assert Rows.from_inputs(torch.zeros(2, 3)).ids[1].endswith("-2")


def test_objects_that_cannot_be_hashed_are_refused():
    with pytest.raises(DataError, match="use texts, tensors or arrays"):
        Rows.from_inputs([object(), object()])


def test_no_rows_are_fine():
    rows = Rows.from_inputs([])
    assert len(rows) == 0
    assert rows.labels.shape == (0,)
    assert len(Rows.from_inputs(TEXTS).take([])) == 0
    assert Rows.from_inputs(TEXTS).take([]).texts() == []


def test_require_names_both_numbers():
    rows = Rows.from_inputs(TEXTS, ["a", "b", None, None], source="tickets.csv")
    rows.require(4)
    rows.require(2, labeled=True)
    with pytest.raises(DataError, match=r"tickets.csv has 4 rows, fewer than the 120 labels asked for"):
        rows.require(120)
    with pytest.raises(DataError, match="2 labeled rows, fewer than the 3 labels"):
        rows.require(3, labeled=True)


def test_a_fingerprint_does_not_depend_on_chunks_or_the_way_of_loading():
    one = Rows.from_inputs(TEXTS).fingerprint
    chunked = pa.chunked_array([TEXTS[:1], [], TEXTS[1:]], pa.string())
    assert Rows.from_inputs(chunked).fingerprint == one
    assert Rows.from_inputs(["x", *TEXTS]).take([1, 2, 3, 4]).fingerprint == one
    assert Rows.from_inputs(TextColumn(pa.array(["x", *TEXTS]).slice(1))).fingerprint == one


def test_a_fingerprint_sees_order_and_where_texts_part():
    prints = {Rows.from_inputs(texts).fingerprint for texts in (["ab", "c"], ["a", "bc"], ["c", "ab"], ["abc"])}
    assert len(prints) == 4


@settings(max_examples=50, deadline=None)
@given(st.lists(st.text(st.characters(exclude_categories=["Cs"])), max_size=20), st.data())
def test_any_text_survives_any_take_from_any_chunks(texts, data):
    cut = data.draw(st.integers(0, len(texts)))
    column = TextColumn(pa.chunked_array([texts[:cut], texts[cut:]], pa.large_string()))
    rows = data.draw(st.lists(st.integers(0, len(texts) - 1), max_size=30)) if texts else []
    assert list(column) == texts
    assert list(column.take(rows)) == [texts[row] for row in rows]
    assert column.arrow(rows).to_pylist() == [texts[row] for row in rows]
    assert list(Rows.from_inputs(column).ids) == list(Rows.from_inputs(texts).ids)


def test_ids_and_fingerprints_keep_their_values():
    texts = ["one", "two", "one"]
    hashes = [blake2b(text.encode(), digest_size=8).hexdigest() for text in texts]
    assert list(Rows.from_inputs(texts).ids) == [hashes[0], hashes[1], hashes[0] + "-2"]
    lengths = blake2b(b"".join(len(text).to_bytes(8, "little") for text in texts), digest_size=16).digest()
    whole = blake2b("".join(texts).encode(), digest_size=16).digest()
    assert Rows.from_inputs(texts).fingerprint == blake2b(lengths + whole, digest_size=16).hexdigest()


def test_hashes_are_computed_once_and_follow_the_rows(monkeypatch):
    rows = Rows.from_inputs(["a", "b", "c", "a"], ids=list("wxyz"))
    expected = digests(rows.inputs).tolist(), digests(rows.ids).tolist()
    monkeypatch.setattr("dal.data.columns.blake2b", None)
    for index in ([3, 1], [0, 0, 2], slice(1, 3), torch.tensor([False, True, True, False])):
        part = rows.take(index)
        kept = np.arange(4)[index.numpy() if isinstance(index, torch.Tensor) else index]
        assert digests(part.inputs).tolist() == [expected[0][row] for row in kept]
        assert digests(part.take([0]).ids).tolist() == [expected[1][kept[0]]]
