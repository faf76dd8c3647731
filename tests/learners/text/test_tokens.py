"""Tokenized rows: cached on disk row by row, padded per batch."""

from pathlib import Path
from types import SimpleNamespace

import material
import pytest
import torch
from transformers import AutoTokenizer

from dal.data import Rows
from dal.data.columns import wide_digests
from dal.errors import DataError
from dal.learners.text import tokens
from dal.learners.text.tokens import characters_read, tokenize


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("DAL_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture(scope="module")
def tokenizer(tiny_bert: Path):
    return AutoTokenizer.from_pretrained(tiny_bert)


def rows_of(texts):
    return SimpleNamespace(inputs=texts, classes=("a", "b"), multilabel=False)


@pytest.fixture
def tokenized(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Numbers of texts that are tokenized, one for each call."""
    counts: list[int] = []
    call = tokens._Encoder.__call__
    monkeypatch.setattr(tokens._Encoder, "__call__", lambda self, texts: counts.append(len(texts)) or call(self, texts))
    return counts


def test_batches_equal_what_the_tokenizer_makes(cache: Path, tokenizer):
    texts, _ = material.tickets(60)
    data = tokenize(rows_of(texts), tokenizer, max_length=12)
    chosen = [5, 0, 33, 7]
    theirs = tokenizer([texts[i] for i in chosen], padding=True, truncation=True, max_length=12, return_tensors="pt")
    ours = data.batch(chosen)
    assert torch.equal(ours["input_ids"], theirs["input_ids"])
    assert torch.equal(ours["attention_mask"], theirs["attention_mask"])
    assert torch.equal(data.lengths[chosen], theirs["attention_mask"].sum(1))


def test_pairs_carry_token_types(cache: Path, tokenizer):
    pairs = [("my parcel is late", "courier"), ("refund", "the invoice is wrong again")]
    data = tokenize(rows_of(pairs), tokenizer, max_length=32)
    theirs = tokenizer([a for a, _ in pairs], [b for _, b in pairs], padding=True, return_tensors="pt")
    for name in ("input_ids", "attention_mask", "token_type_ids"):
        assert torch.equal(data.batch([0, 1])[name], theirs[name])


def test_padding_goes_to_the_left_where_asked(cache: Path, tokenizer):
    data = tokenize(rows_of(["refund", "my parcel is late"]), tokenizer, max_length=32, pad_left=True)
    batch = data.batch([0, 1])
    assert batch["attention_mask"][0].tolist() == [0, 0, 0, 1, 1, 1]
    assert batch["input_ids"][0, :3].tolist() == [tokenizer.pad_token_id] * 3


def test_special_tokens_in_a_text_are_text(cache: Path, tokenizer):
    data = tokenize(rows_of(["refund [SEP] late"]), tokenizer, max_length=32)
    assert data.batch([0])["input_ids"][0].tolist().count(tokenizer.sep_token_id) == 1


def test_second_reading_comes_from_the_cache(cache: Path, tokenizer, tokenized: list[int]):
    texts, _ = material.tickets(20)
    first = tokenize(rows_of(texts), tokenizer, max_length=12)
    again = tokenize(rows_of(texts), tokenizer, max_length=12)
    assert torch.equal(again.batch(range(20))["input_ids"], first.batch(range(20))["input_ids"])
    assert tokenized == [len(set(texts))]


def test_added_and_moved_rows_cost_only_the_new_ones(cache: Path, tokenizer, tokenized: list[int]):
    texts, _ = material.tickets(20)
    whole = tokenize(rows_of(texts), tokenizer, max_length=12).batch(range(20))["input_ids"]
    grown = tokenize(rows_of(["a new invoice", *texts[::-1], "a new invoice"]), tokenizer, max_length=12)
    assert tokenized == [len(set(texts)), 1]
    assert torch.equal(grown.batch(range(20, 0, -1))["input_ids"], whole)
    assert torch.equal(grown.batch([0])["input_ids"], grown.batch([21])["input_ids"])


def test_another_length_is_tokenized_again(cache: Path, tokenizer):
    texts, _ = material.tickets(20)
    tokenize(rows_of(texts), tokenizer, max_length=12)
    assert int(tokenize(rows_of(texts), tokenizer, max_length=5).lengths.max()) <= 5
    assert len(list((cache / "rows" / "tokens").glob("[!.]*"))) == 2


def test_a_text_and_a_pair_of_the_same_bytes_are_different_rows(cache: Path, tokenizer):
    pair = Rows.from_inputs([("refund", "late")])
    joined = Rows.from_inputs([(6).to_bytes(8, "little").decode() + "refundlate"])
    assert not (wide_digests(pair.inputs) == wide_digests(joined.inputs)).any()


def test_a_wrong_input_is_named_by_its_row(cache: Path, tokenizer):
    with pytest.raises(DataError, match="row 1 holds int"):
        tokenize(rows_of(["refund", 3]), tokenizer, max_length=12)
    tokenize(rows_of(["refund"]), tokenizer, max_length=12)


def test_a_text_without_tokens_still_makes_a_row(cache: Path):
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    plain = Tokenizer(models.WordLevel({"late": 0, "<end>": 1, "<unk>": 2}, unk_token="<unk>"))
    plain.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=plain, eos_token="<end>", unk_token="<unk>")
    data = tokenize(rows_of(["late late", " "]), tokenizer, max_length=12)
    assert data.batch([1, 0])["input_ids"].tolist() == [[1, 1], [0, 0]]
    assert data.batch([1, 0])["attention_mask"].tolist() == [[1, 0], [1, 1]]


def test_characters_read_are_those_of_the_first_tokens(tokenizer):
    texts = ["refund", "my parcel is late again", "", "my  parcel is late, again and again"]
    read = characters_read(texts, tokenizer, max_length=5)  # three words and two special tokens
    assert read == [None, len("my parcel is"), None, len("my  parcel is")]
    whole = tokenizer([texts[1][: read[1]]])["input_ids"]
    assert whole == tokenizer([texts[1]], truncation=True, max_length=5)["input_ids"]
    tokenizer.truncation_side = "left"
    try:
        assert characters_read(texts, tokenizer, max_length=5) == [None] * 4
    finally:
        tokenizer.truncation_side = "right"
