"""Masked-language-model training: masks, batches, checkpoints and the held-out loss."""

from collections.abc import Iterator
from dataclasses import replace
from itertools import islice
from pathlib import Path

import material
import numpy as np
import pytest
import torch
import transformers as hf
from learners.text.test_surprisal import write
from torch.nn import functional as F

from dal.data import Rows
from dal.errors import ConfigError, LearnerError
from dal.learner import Monitor
from dal.learners.text import masked_training
from dal.learners.text.masked_models import SHARE, MaskedTokenPredictor
from dal.learners.text.masked_training import (
    Adaptation,
    Checkpoint,
    held_out_loss,
    masked_loss,
    token_batches,
    train_on_masks,
)
from dal.learners.text.tokenizers import load_tokenizer, prepare_texts
from dal.learners.text.tokens import TextPrepared

SHORT = Adaptation(steps=8, learning_rate=3e-3, batch_tokens=200)


@pytest.fixture(scope="module")
def masked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("masked") / "bert")


@pytest.fixture(scope="module")
def rows() -> Rows:
    return Rows.from_inputs(*material.tickets(120))


@pytest.fixture(scope="module")
def texts(masked: Path, rows: Rows) -> TextPrepared:
    return prepare_texts(rows, str(masked), 24)


def predictor_of(model: Path) -> MaskedTokenPredictor:
    return MaskedTokenPredictor(str(model), refused="adapt cannot be used with", instead="leave adapt out")


def trained(model: Path, texts: TextPrepared, recipe: Adaptation = SHORT, **options) -> tuple[dict, object]:
    predictor = predictor_of(model)
    record = train_on_masks(predictor, load_tokenizer(str(model)), texts, recipe, model=str(model), **options)
    return {name: value.clone() for name, value in predictor.model.named_parameters()}, record


def equal(one: dict, other: dict) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


class Stops(Monitor):
    """Raises after some steps, as Ctrl-C does in a run."""

    def __init__(self, after: int) -> None:
        self.left = after

    def advanced(self, count: int) -> None:
        self.left -= count
        if self.left <= 0:
            raise InterruptedError


# -- masks -----------------------------------------------------------------------------------------------------------


def test_loss_of_a_masking_by_hand(masked: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tokenizer, predictor = load_tokenizer(str(masked)), predictor_of(masked)
    ids = tokenizer("my invoice is late thanks", return_tensors="pt")["input_ids"]  # [CLS] and [SEP] around 5 words
    assert ids.shape == (1, 7)
    other = tokenizer.convert_tokens_to_ids("parcel")
    draws: Iterator[torch.Tensor] = iter(
        [
            torch.tensor([[0, 1, 1, 1, 0, 0, 0]]),  # my, invoice and is are predicted
            torch.tensor([[1, 1, 0, 0, 1, 0, 0]]),  # of these, my is masked
            torch.tensor([[1, 1, 1, 0, 0, 1, 0]]),  # of the others, invoice is replaced, and is is left
        ]
    )
    asked: list[float] = []

    def scripted(shares: torch.Tensor, **options: object) -> torch.Tensor:
        asked.append(float(shares.max()))
        return next(draws).float()

    monkeypatch.setattr(torch, "bernoulli", scripted)
    monkeypatch.setattr(torch, "randint", lambda high, shape, **options: torch.full(tuple(shape), other))
    collator = hf.DataCollatorForLanguageModeling(tokenizer, mlm_probability=SHARE)
    loss = masked_loss(predictor, collator, {"input_ids": ids, "attention_mask": torch.ones_like(ids)})
    monkeypatch.undo()
    assert asked == pytest.approx([0.15, 0.8, 0.5])
    read = ids.clone()
    read[0, 1], read[0, 2] = tokenizer.mask_token_id, other
    with torch.no_grad():
        logits = hf.BertForMaskedLM.from_pretrained(masked).eval()(input_ids=read).logits[0]
    by_hand = -sum(F.log_softmax(logits[place], 0)[ids[0, place]] for place in (1, 2, 3)) / 3
    assert loss is not None
    torch.testing.assert_close(loss.detach(), by_hand, rtol=1e-4, atol=1e-4)


def test_shares_of_masked_replaced_and_kept_tokens(masked: Path) -> None:
    tokenizer, predictor = load_tokenizer(str(masked)), predictor_of(masked)
    size, special = len(tokenizer), max(tokenizer.all_special_ids)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        ids = torch.randint(special + 1, size, (400, 100))
        ids[:, 0], ids[:, 80:] = tokenizer.cls_token_id, tokenizer.pad_token_id
        mask = (ids != tokenizer.pad_token_id).long()
        seen: dict[str, torch.Tensor] = {}
        collator = hf.DataCollatorForLanguageModeling(tokenizer, mlm_probability=SHARE)

        def kept(batch, row, column):
            seen.update(read=batch["input_ids"], row=row, column=column)
            return torch.zeros(len(row), size)

        predictor.logits = kept  # type: ignore[method-assign]
        assert masked_loss(predictor, collator, {"input_ids": ids, "attention_mask": mask}) is not None
    row, column = seen["row"], seen["column"]
    assert column.min() == 1
    assert column.max() == 79
    read, was = seen["read"][row, column], ids[row, column]
    is_mask = read == tokenizer.mask_token_id
    shares = {"drawn": len(row) / (400 * 79), "masked": is_mask.double().mean(), "left": (read == was).double().mean()}
    left = 0.1 + 0.1 / size  # a random token may be the same
    for name, expected in (("drawn", 0.15), ("masked", 0.8), ("left", left)):
        assert abs(float(shares[name]) - expected) < 5 * (expected * (1 - expected) / len(row)) ** 0.5, name
    untouched = torch.ones_like(ids, dtype=torch.bool)
    untouched[row, column] = False
    assert torch.equal(seen["read"][untouched], ids[untouched])


# -- batches ---------------------------------------------------------------------------------------------------------


def test_every_epoch_has_every_row_once_within_the_budget(texts: TextPrepared) -> None:
    rows, lengths = np.arange(7, 107), texts.lengths.numpy()
    epochs, seen = [], []
    for batch in islice(token_batches(texts, rows, 96, 3), 60):
        assert len(batch) == 1 or len(batch) * lengths[batch].max() <= 96
        seen += batch.tolist()
        if len(seen) == len(rows):
            epochs.append(seen)
            seen = []
    assert len(epochs) >= 2
    assert all(sorted(epoch) == rows.tolist() for epoch in epochs)
    assert epochs[0] != epochs[1]
    again = [batch.tolist() for batch in islice(token_batches(texts, rows, 96, 3), 20)]
    assert again == [batch.tolist() for batch in islice(token_batches(texts, rows, 96, 3), 20)]
    assert again != [batch.tolist() for batch in islice(token_batches(texts, rows, 96, 4), 20)]


def test_a_row_longer_than_the_budget_is_a_batch_of_its_own(texts: TextPrepared) -> None:
    batches = list(islice(token_batches(texts, np.arange(10), 1, 0), 10))
    assert sorted(int(row) for batch in batches for row in batch) == list(range(10))
    assert all(len(batch) == 1 for batch in batches)


# -- training --------------------------------------------------------------------------------------------------------


def test_held_out_loss_falls_on_a_small_corpus(masked: Path, texts: TextPrepared) -> None:
    _, record = trained(masked, texts, replace(SHORT, steps=120))
    distinct = len(np.unique(texts.digests, axis=0))
    assert record.texts + record.held_out == distinct
    assert record.held_out == distinct // 10
    assert record.loss_after < record.loss_before - 0.5


def test_held_out_loss_is_that_of_the_masked_text_in_any_batch(masked: Path, texts: TextPrepared) -> None:
    predictor, mask = predictor_of(masked), load_tokenizer(str(masked)).mask_token_id
    rows = np.arange(12)
    whole, single = (held_out_loss(predictor, texts, rows, mask=mask, seed=5, budget=size) for size in (1000, 1))
    assert single == pytest.approx(whole, rel=1e-4)
    assert held_out_loss(predictor, texts, rows, mask=mask, seed=6, budget=1000) != whole


def test_the_same_seed_gives_the_same_weights_whatever_the_order_of_the_pool(
    masked: Path, rows: Rows, texts: TextPrepared
) -> None:
    first, _ = trained(masked, texts)
    torch.manual_seed(7)
    state = torch.get_rng_state()
    again, _ = trained(masked, prepare_texts(Rows.from_inputs(rows.texts()[::-1]), str(masked), 24))
    assert torch.equal(torch.get_rng_state(), state)
    assert equal(first, again)
    other, _ = trained(masked, texts, replace(SHORT, seed=1))
    assert not equal(first, other)


@pytest.mark.parametrize("after", [1, 5, 8])
def test_an_interrupted_training_ends_at_the_same_weights(masked: Path, texts: TextPrepared, after: int) -> None:
    whole, record = trained(masked, texts)
    kept: list[Checkpoint] = []
    with pytest.raises(InterruptedError):
        trained(masked, texts, keep=kept.append, monitor=Stops(after))
    assert [each.steps for each in kept] == [after]
    resumed, again = trained(masked, texts, start=kept[0])
    assert equal(whole, resumed)
    assert again == record


def test_checkpoints_are_kept_now_and_then(masked: Path, texts: TextPrepared, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(masked_training, "CHECKPOINT_SECONDS", 0.0)
    kept: list[int] = []
    trained(masked, texts, keep=lambda checkpoint: kept.append(checkpoint.steps))
    assert kept == list(range(1, SHORT.steps))


def test_a_training_that_diverges_is_reported_in_one_line(masked: Path, texts: TextPrepared) -> None:
    with pytest.raises(LearnerError, match=r"diverged .*: lower adapt.learning_rate") as caught:
        trained(masked, texts, replace(SHORT, steps=3, learning_rate=1e38))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("inputs", "message"),
    [(["one text", "one text"], "at least two different texts"), (["", " "], "no tokens to predict|two different")],
)
def test_a_pool_without_texts_to_learn_from_is_refused(masked: Path, inputs: list[str], message: str) -> None:
    with pytest.raises(LearnerError, match=message):
        trained(masked, prepare_texts(Rows.from_inputs(inputs), str(masked), 24))


@pytest.mark.parametrize(
    "options", [{"steps": 0}, {"steps": 2.5}, {"learning_rate": 0}, {"batch_tokens": 0}, {"seed": -1}]
)
def test_an_option_without_a_meaning_is_refused(options: dict) -> None:
    with pytest.raises(ConfigError, match=f"{next(iter(options))} of Adaptation"):
        Adaptation(**options)
