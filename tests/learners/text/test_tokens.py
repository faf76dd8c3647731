"""Tokenized rows: kept whole on disk, padded per batch."""

import json
import os
from pathlib import Path
from types import SimpleNamespace

import material
import pytest
import torch
from transformers import AutoTokenizer

from dal.errors import DataError
from dal.learners.text.tokens import tokenize


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("DAL_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture(scope="module")
def tokenizer(tiny_bert: Path):
    return AutoTokenizer.from_pretrained(tiny_bert)


def rows_of(texts, fingerprint="f"):
    return SimpleNamespace(inputs=texts, classes=("a", "b"), multilabel=False, fingerprint=fingerprint)


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


def test_second_reading_comes_from_the_cache(cache: Path, tokenizer):
    texts, _ = material.tickets(20)
    tokenize(rows_of(texts), tokenizer, max_length=12)
    again = tokenize(rows_of([""] * 20), tokenizer, max_length=12)  # same fingerprint: the texts are not read
    assert int(again.lengths.min()) > 2


@pytest.mark.parametrize("change", ["max_length", "fingerprint"])
def test_another_length_or_other_rows_are_tokenized_anew(cache: Path, tokenizer, change: str):
    texts, _ = material.tickets(20)
    tokenize(rows_of(texts), tokenizer, max_length=12)
    fingerprint, max_length = ("g", 12) if change == "fingerprint" else ("f", 5)
    data = tokenize(rows_of(texts, fingerprint), tokenizer, max_length=max_length)
    assert int(data.lengths.max()) <= max_length
    assert len(list((cache / "tokens").iterdir())) == 2


@pytest.mark.parametrize("name", ["tokens.int32", "offsets.npy", "facts.json"])
@pytest.mark.parametrize("damage", ["truncated", "missing", "flipped"])
def test_a_damaged_cache_is_rebuilt(cache: Path, tokenizer, name: str, damage: str):
    texts, _ = material.tickets(20)
    whole = tokenize(rows_of(texts), tokenizer, max_length=12).batch(range(20))
    (path,) = cache.glob(f"tokens/*/{name}")
    content = path.read_bytes()
    if damage == "missing":
        path.unlink()
    else:
        half = len(content) // 2
        path.write_bytes(content[:half] + (b"" if damage == "truncated" else b"\xff\xfe" + content[half + 2 :]))
    again = tokenize(rows_of(texts), tokenizer, max_length=12).batch(range(20))
    assert torch.equal(again["input_ids"], whole["input_ids"])


def test_a_failure_while_tokenizing_leaves_nothing_behind(cache: Path, tokenizer):
    with pytest.raises(DataError, match="row 1 holds int"):
        tokenize(rows_of(["refund", 3]), tokenizer, max_length=12)
    assert os.listdir(cache / "tokens") == []


def test_a_text_without_tokens_still_makes_a_row(cache: Path):
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    plain = Tokenizer(models.WordLevel({"late": 0, "<end>": 1, "<unk>": 2}, unk_token="<unk>"))
    plain.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=plain, eos_token="<end>", unk_token="<unk>")
    data = tokenize(rows_of(["late late", " "]), tokenizer, max_length=12)
    assert data.batch([1, 0])["input_ids"].tolist() == [[1, 1], [0, 0]]
    assert data.batch([1, 0])["attention_mask"].tolist() == [[1, 0], [1, 1]]


def test_a_cache_that_has_not_changed_is_not_read_whole_again(cache: Path, tokenizer, monkeypatch: pytest.MonkeyPatch):
    texts, _ = material.tickets(20)
    tokenize(rows_of(texts), tokenizer, max_length=12)
    summed = []
    monkeypatch.setattr("dal.learners.text.tokens.zlib.crc32", lambda *args: summed.append(args) or 0)
    tokenize(rows_of(texts), tokenizer, max_length=12)
    assert not summed


def test_a_cache_of_before_is_checked_once_and_kept(cache: Path, tokenizer):
    texts, _ = material.tickets(20)
    tokenize(rows_of(texts), tokenizer, max_length=12)
    (facts,) = cache.glob("tokens/*/facts.json")
    written = json.loads(facts.read_text())
    facts.write_text(json.dumps({name: written[name] for name in ("rows", "tokens", "typed", "checksum")}))
    (facts.parent / "verified.json").unlink()
    before = (facts.parent / "tokens.int32").stat().st_ino
    tokenize(rows_of(texts), tokenizer, max_length=12)
    assert (facts.parent / "tokens.int32").stat().st_ino == before
    assert (facts.parent / "verified.json").exists()


@pytest.mark.parametrize("content", ["{", "[]", "null", "[" * 100_000, '{"rows": {}}', "\xff"])
def test_facts_and_stamps_that_are_damaged_are_made_again(cache: Path, tokenizer, content: str):
    texts, _ = material.tickets(20)
    whole = tokenize(rows_of(texts), tokenizer, max_length=12).batch(range(20))
    for name in ("verified.json", "facts.json"):
        (path,) = cache.glob(f"tokens/*/{name}")
        path.write_text(content, encoding="latin-1")
        again = tokenize(rows_of(texts), tokenizer, max_length=12).batch(range(20))
        assert torch.equal(again["input_ids"], whole["input_ids"])


def test_damaged_token_types_and_offsets_are_made_again(cache: Path, tokenizer):
    pairs = [("my parcel is late", "courier"), ("refund", "the invoice is wrong again")]
    whole = tokenize(rows_of(pairs), tokenizer, max_length=32).batch([0, 1])
    (path,) = cache.glob("tokens/*/types.uint8")
    path.write_bytes(bytes(len(path.read_bytes())))
    assert torch.equal(tokenize(rows_of(pairs), tokenizer, max_length=32).batch([0, 1])["token_type_ids"],
                       whole["token_type_ids"])  # fmt: skip
