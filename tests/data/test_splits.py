"""Tests, validation shares, samples and what is said of them."""

import os
import tracemalloc
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet
import pytest
import torch
from material import tickets

import dal.data.file_source
from dal.data import TextData
from dal.data.columns import hash_ids
from dal.data.seeded_samples import keys, share, strata


def unique_tickets(n):
    texts, labels = tickets(n)
    return [f"{text} ({row})" for row, text in enumerate(texts)], labels


def test_a_held_out_test_is_stratified_and_complete():
    texts, labels = unique_tickets(1000)
    splits = TextData.from_lists(texts, labels, test=0.3)
    assert len(splits.test) == 300
    assert sorted(splits.pool.texts() + splits.test.texts()) == sorted(texts)
    for code in range(4):
        there, all_of = (splits.test.labels == code).sum(), labels.count(splits.test.classes[code])
        assert abs(there - 0.3 * all_of) <= 1


def test_a_multilabel_share_is_stratified_by_label_sets():
    labels = [["x"], ["x", "y"], [], ["y"]] * 25
    splits = TextData.from_lists([f"t{i}" for i in range(100)], labels, multilabel=True, test=0.2)
    assert splits.test.labels.sum(0).tolist() == [10, 10]
    assert len(splits.test) == 20


def test_shares_are_taken_from_labeled_rows_only():
    texts, labels = unique_tickets(100)
    splits = TextData.from_lists(texts, [*labels[:40], *[None] * 60], test=0.25, validation=0.2)
    assert len(splits.test) == 10
    assert splits.test.known.all()
    assert len(splits.validation) == 6
    assert splits.validation.known.all()
    assert len(splits.pool) == 84


def test_the_same_seed_gives_the_same_splits_and_another_seed_others():
    texts, labels = unique_tickets(200)
    one, two, other = (TextData.from_lists(texts, labels, test=0.2, limit=50, seed=seed) for seed in (0, 0, 1))
    assert list(one.test.ids) == list(two.test.ids)
    assert list(one.pool.ids) == list(two.pool.ids)
    assert set(one.test.ids) != set(other.test.ids)
    assert set(one.pool.ids) != set(other.pool.ids)


def test_splits_do_not_depend_on_the_order_of_the_file():
    texts, labels = unique_tickets(200)
    options = {"test": 0.2, "limit": 80, "test_limit": 30, "validation": 0.1}
    one = TextData.from_lists(texts, labels, **options)
    two = TextData.from_lists(texts[::-1], labels[::-1], **options)
    for part in ("pool", "test", "validation"):
        assert set(getattr(one, part).ids) == set(getattr(two, part).ids)


def test_a_growing_file_moves_few_rows_between_pool_and_test():
    texts, labels = unique_tickets(1100)
    before = set(TextData.from_lists(texts[:1000], labels[:1000], test=0.2).test.ids)
    after = set(TextData.from_lists(texts, labels, test=0.2).test.ids)
    assert len(before - after) <= 20


def test_rows_keep_the_order_of_the_file():
    texts, labels = unique_tickets(100)
    splits = TextData.from_lists(texts, labels, test=0.2, limit=40)
    for part in (splits.pool, splits.test):
        places = [texts.index(text) for text in part.texts()]
        assert places == sorted(places)


def test_pool_rows_whose_text_stands_in_the_test_are_dropped_and_counted():
    texts = ["same", "other", "same", "more", "last"]
    splits = TextData.from_lists(texts, ["x", "y", "x", "y", "x"], test=(["same", "new"], ["x", "y"]))
    assert splits.pool.texts() == ["other", "more", "last"]
    assert splits.summary.overlap == 2
    assert splits.test.texts() == ["same", "new"]


def test_pairs_overlap_only_when_both_texts_do():
    splits = TextData.from_lists([("a", "b"), ("a", "c"), ("ab", "x")], ["x", "y", "x"], test=([("a", "b")], ["x"]))
    assert splits.pool.texts() == [("a", "c"), ("ab", "x")]


def test_copies_of_held_out_and_validation_texts_leave_the_pool():
    texts = [f"text {i % 25}" for i in range(100)]
    splits = TextData.from_lists(texts, ["x", "y"] * 50, test=0.1, validation=0.1)
    parts = [set(part.texts()) for part in (splits.pool, splits.test, splits.validation)]
    assert not parts[0] & (parts[1] | parts[2])
    assert splits.summary.overlap == 100 - sum(len(p) for p in (splits.pool, splits.test, splits.validation))


def test_copies_within_the_pool_are_kept_and_counted():
    splits = TextData.from_lists(["a", "b", "a", "a"], ["x", "y", "x", "y"])
    assert len(splits.pool) == 4
    assert splits.summary.duplicates == 2


def test_limits_are_upper_bounds():
    texts, labels = unique_tickets(50)
    splits = TextData.from_lists(texts, labels, test=0.2, limit=10_000, test_limit=4)
    assert len(splits.pool) == 40
    assert len(splits.test) == 4
    assert splits.summary.sampled_out == 6


def test_an_unlabeled_pool_takes_its_classes_from_the_test(tmp_path):
    (tmp_path / "pool.csv").write_text("text\na\nb\n")
    (tmp_path / "test.csv").write_text("text,label\nc,yes\nd,no\ne,\n")
    data = TextData(str(tmp_path / "pool.csv"), test=str(tmp_path / "test.csv"))
    splits = data.load()
    assert splits.pool.classes == ("no", "yes")
    assert not splits.pool.known.any()
    assert splits.test.texts() == ["c", "d"]
    assert data.summary.test_unlabeled == 1


def test_a_test_without_the_id_column_gets_hashed_ids(tmp_path):
    (tmp_path / "pool.csv").write_text("key,text,label\nk1,a,x\nk2,b,y\n")
    (tmp_path / "test.csv").write_text("text,label\nc,x\n")
    splits = TextData(str(tmp_path / "pool.csv"), id="key", test=str(tmp_path / "test.csv")).load()
    assert list(splits.pool.ids) == ["k1", "k2"]
    assert len(splits.test.ids[0]) == 16


def test_a_share_given_as_text_is_a_share():
    assert TextData("rows.csv", test="0.25").test == 0.25


def test_the_summary_reads_well():
    texts, labels = unique_tickets(100)
    splits = TextData.from_lists([*texts, texts[0]], [*labels, labels[0]], test=0.2, limit=60)
    text = str(splits.summary)
    assert text.startswith("texts: pool of 60 rows, 60 labeled; test of 20 held out")
    assert "4 classes: access" in text
    assert sum(splits.summary.classes.values()) == 60


def test_a_share_is_the_rounded_part_of_all_rows_within_one_row_per_stratum():
    random = np.random.default_rng(0)
    for size in (2, 7, 100, 999):
        stratum = random.integers(0, 5, size)
        key = keys(random.integers(0, 2**63, size).astype(np.uint64), 0, 0)
        for fraction in (0.01, 0.1, 0.5, 0.9):
            chosen = share(key, stratum, fraction)
            assert len(chosen) == max(1, round(size * fraction))
            assert len(set(chosen.tolist())) == len(chosen)
            counts = np.bincount(stratum[chosen], minlength=5) - fraction * np.bincount(stratum, minlength=5)
            assert np.abs(counts).max() <= 1 + 1e-9


def test_the_global_random_state_is_left_alone():
    texts, labels = unique_tickets(50)
    before = torch.get_rng_state(), np.random.get_state()[1].tolist()
    TextData.from_lists(texts, labels, test=0.2, limit=10)
    assert torch.equal(before[0], torch.get_rng_state())
    assert before[1] == np.random.get_state()[1].tolist()


@pytest.mark.parametrize("name", ["rows.csv", "rows.parquet", "rows.jsonl"])
def test_many_rows_never_become_a_python_list(tmp_path, name, monkeypatch):
    rows, filler = 40_000, "late parcel " * 50
    monkeypatch.setattr(dal.data.file_source, "SPILL_BYTES", 1 << 20)
    texts = pc.binary_join_element_wise(pa.array(np.arange(rows)).cast(pa.string()), filler, " ")
    table = pa.table({"text": texts, "label": pa.array(np.arange(rows) % 4)})
    path = tmp_path / name
    if name == "rows.csv":
        pa.csv.write_csv(table, path)
    elif name == "rows.parquet":
        pa.parquet.write_table(table, path)
    else:
        with path.open("w") as file:
            file.writelines(f'{{"text": "{i} {filler}", "label": {i % 4}}}\n' for i in range(rows))
    tracemalloc.start()
    try:
        splits = TextData(str(path), test=0.1).load()
        splits.pool.rows_of([splits.pool.ids[5]])
        assert len(splits.pool.fingerprint) == 32
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert len(splits.pool) + len(splits.test) == rows
    assert peak < 200 * rows  # the texts alone would take 650 bytes per row as Python strings


@pytest.mark.parametrize(("name", "classes"), [("trec6", 6), ("agnews", 4), ("banking77", 77), ("sms_spam", 2)])
def test_standard_sets_load_with_their_overlap_counted(name, classes):
    data = TextData(_standard(name, "train"), label="label_name", test=_standard(name, "test"))
    splits = data.load()
    assert len(splits.pool.classes) == classes
    assert not set(splits.pool.texts()) & set(splits.test.texts())
    assert data.summary.rows == len(splits.pool) + data.summary.overlap


def test_a_standard_multilabel_set_loads():
    test = _standard("psytar", "test")
    splits = TextData(_standard("psytar", "train"), label="label_names", multilabel=True, test=test).load()
    assert len(splits.pool.classes) == 6
    assert splits.pool.labels.shape == (len(splits.pool), 6)


def _standard(name, part):
    folder = os.environ.get("DAL_TEST_DATA")
    if not folder or not Path(folder, name).is_dir():
        pytest.skip("DAL_TEST_DATA does not name a folder with the standard data sets")
    return str(Path(folder, name, f"{part}.parquet"))


@pytest.mark.parametrize("seed", range(40))
def test_a_share_has_the_smallest_keys_of_each_stratum(seed):
    """Whatever the keys are: also few different ones, or only large or small ones."""
    point = np.random.default_rng(seed)
    n, fraction = int(point.integers(1, 400)), float(point.choice([0.001, 0.01, 0.1, 0.5, 0.95]))
    key = point.integers(0, 2**64, n, dtype=np.uint64) >> np.uint64(point.choice([0, 3, 30, 62]))
    key = key if seed % 3 else np.uint64(2**64 - 1) - key
    stratum = strata(torch.from_numpy(np.minimum(point.geometric(0.3, n) - 1, 20)))
    chosen = share(key, stratum, fraction)
    assert len(chosen) == max(1, round(n * fraction))
    expected = []
    for each in np.unique(stratum):
        rows = np.flatnonzero(stratum == each)
        quota = np.isin(rows, chosen).sum()
        assert abs(quota - len(rows) * fraction) < 2
        expected += rows[np.argsort(key[rows], kind="stable")][:quota].tolist()
    assert sorted(expected) == chosen.tolist()


def test_strata_number_the_classes_that_occur_in_order():
    assert strata(torch.tensor([7, 2, 2, 5, 7])).tolist() == [2, 0, 0, 1, 2]
    assert strata(torch.zeros(0, dtype=torch.int64)).tolist() == []


@pytest.mark.parametrize("seed", range(5))
def test_repeated_texts_are_numbered_in_the_order_of_the_file(seed):
    point = np.random.default_rng(seed)
    hashes = point.integers(0, 2**64, 1 + 20 * seed, dtype=np.uint64)
    digest = point.choice(hashes, 60)
    counts: dict[int, int] = {}
    expected = []
    for value in digest.tolist():
        counts[value] = counts.get(value, 0) + 1
        text = value.to_bytes(8, "little").hex()
        expected.append(text if counts[value] == 1 else f"{text}-{counts[value]}")
    assert list(hash_ids(digest)) == expected
    assert list(hash_ids(digest[:0])) == []
