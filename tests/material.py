"""Small real things for tests: sentences of our own, a tiny BERT, separable vectors."""

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

TOPICS: dict[str, tuple[list[str], list[str]]] = {
    "billing": (["invoice", "refund", "charge", "payment", "receipt"], ["twice", "wrong", "missing", "late"]),
    "access": (["password", "login", "account", "token", "permission"], ["locked", "expired", "refused", "lost"]),
    "shipping": (["parcel", "courier", "delivery", "package", "driver"], ["delayed", "broken", "returned", "stuck"]),
    "feedback": (["design", "feature", "update", "colour", "menu"], ["lovely", "confusing", "useful", "slow"]),
}
OPENINGS = ["hello", "please help", "again", "this week", "since monday", "for my team", "", "once more", "dear all"]
CLOSINGS = ["thanks", "what now", "please answer", "", "i need it today", "it is urgent", "no hurry", "kind regards"]
FORMS = ["my {noun} is {state}", "the {noun} was {state}", "why is the {noun} {state}", "a {noun} seems {state} to me"]


def tickets(n: int, seed: int = 0) -> tuple[list[str], list[str]]:
    """n support tickets of four topics and their topic names. The topic can be learnt from the words."""
    random = np.random.default_rng(seed)
    names = sorted(TOPICS)
    texts, labels = [], []
    for _ in range(n):
        label = names[random.integers(len(names))]
        nouns, states = TOPICS[label]
        form = FORMS[random.integers(len(FORMS))]
        body = form.format(noun=nouns[random.integers(len(nouns))], state=states[random.integers(len(states))])
        parts = [OPENINGS[random.integers(len(OPENINGS))], body, CLOSINGS[random.integers(len(CLOSINGS))]]
        texts.append(" ".join([*(p for p in parts if p), str(random.integers(100))]))
        labels.append(label)
    return texts, labels


def clusters(n: int, d: int = 16, classes: int = 4, seed: int = 0, spread: float = 1.0) -> tuple[Tensor, Tensor]:
    """n vectors (n, d) float32 around one Gaussian centre per class, and their classes (n,) int64."""
    generator = torch.Generator().manual_seed(seed)
    centers = 2.0 * torch.randn(classes, d, generator=torch.Generator().manual_seed(1234))
    labels = torch.randint(classes, (n,), generator=generator)
    return centers[labels] + spread * torch.randn(n, d, generator=generator), labels


def write_tokenizer(folder: Path) -> int:
    """Write a WordPiece tokenizer for the tickets' words to `folder` and return its vocabulary size."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    words = sorted({word for text in tickets(400, seed=99)[0] for word in text.split() if not word.isdigit()})
    pieces = [*"abcdefghijklmnopqrstuvwxyz0123456789", *(f"##{c}" for c in "abcdefghijklmnopqrstuvwxyz0123456789")]
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    vocab = {token: i for i, token in enumerate(dict.fromkeys([*special, *words, *pieces]))}
    tokenizer = Tokenizer(models.WordPiece(vocab, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", vocab["[CLS]"]), ("[SEP]", vocab["[SEP]"])],
    )
    names = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        mask_token="[MASK]",
        model_max_length=64,
        model_input_names=["input_ids", "token_type_ids", "attention_mask"],
        **names,
    )
    fast.save_pretrained(folder)
    return len(vocab)


def write_tiny_bert(folder: Path, seed: int = 0, *, masked: bool = False) -> Path:
    """Write a randomly initialised two-layer BERT of width 32 and its tokenizer to `folder`.

    With `masked` it has the head of a masked-language model.
    """
    from transformers import BertConfig, BertForMaskedLM, BertModel

    size = write_tokenizer(folder)
    config = BertConfig(
        vocab_size=size,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=64,
        max_position_embeddings=64,
        pad_token_id=0,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        (BertForMaskedLM if masked else BertModel)(config).save_pretrained(folder)
    return folder


def silent_trainer() -> "partial[Any]":
    """A trainer factory for the CPU that writes and prints nothing."""
    import lightning

    return partial(
        lightning.Trainer, accelerator="cpu", devices=1, logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False,
    )  # fmt: skip
