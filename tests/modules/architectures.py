"""Tiny random sequence-classification models of many architectures, built from their configs alone."""

from typing import Any

import torch
import transformers as hf
from torch import Tensor

PAD, END, VOCABULARY = 0, 2, 100

_SMALL = {"vocab_size": VOCABULARY, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}
_ENCODER = {**_SMALL, "intermediate_size": 48, "max_position_embeddings": 64, "pad_token_id": PAD}
_DECODER = {**_ENCODER, "num_key_value_heads": 2, "bos_token_id": 1, "eos_token_id": END}
_DEBERTA = {"relative_attention": True, "position_buckets": 8, "pos_att_type": ["p2c", "c2p"], "pooler_hidden_size": 32}
_BART = {
    "vocab_size": VOCABULARY,
    "d_model": 32,
    "encoder_layers": 2,
    "decoder_layers": 2,
    "encoder_attention_heads": 4,
    "decoder_attention_heads": 4,
    "encoder_ffn_dim": 48,
    "decoder_ffn_dim": 48,
    "max_position_embeddings": 64,
    "pad_token_id": PAD,
    "bos_token_id": 1,
    "eos_token_id": END,
    "decoder_start_token_id": END,
}
_T5 = {"vocab_size": VOCABULARY, "d_model": 32, "d_kv": 8, "d_ff": 48, "num_layers": 2, "num_heads": 4}
_T5 |= {"pad_token_id": PAD, "eos_token_id": END, "decoder_start_token_id": PAD}
_GPT2 = {"vocab_size": VOCABULARY, "n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 64, "pad_token_id": PAD}
_XLNET = {"vocab_size": VOCABULARY, "d_model": 32, "n_layer": 2, "n_head": 4, "d_inner": 48, "pad_token_id": PAD}
_MODERN = {"cls_token_id": 3, "sep_token_id": END, "bos_token_id": 3, "eos_token_id": END}
_DISTIL = {"vocab_size": VOCABULARY, "dim": 32, "n_layers": 2, "n_heads": 4, "hidden_dim": 48, "pad_token_id": PAD}

CONFIGS: dict[str, tuple[str, dict[str, Any]]] = {
    "bert": ("Bert", _ENCODER),
    "distilbert": ("DistilBert", _DISTIL),
    "roberta": ("Roberta", _ENCODER),
    "deberta-v2": ("DebertaV2", {**_ENCODER, **_DEBERTA}),
    "electra": ("Electra", {**_ENCODER, "embedding_size": 16}),
    "albert": ("Albert", {**_ENCODER, "embedding_size": 16}),
    "mpnet": ("MPNet", _ENCODER),
    "modernbert": ("ModernBert", {**_ENCODER, **_MODERN}),
    "xlnet": ("XLNet", _XLNET),
    "bart": ("Bart", _BART),
    "t5": ("T5", _T5),
    "gpt2": ("GPT2", {**_GPT2, "eos_token_id": END, "bos_token_id": 1}),
    "qwen2": ("Qwen2", _DECODER),
    "llama": ("Llama", _DECODER),
}
ALL = sorted(CONFIGS)
CONFIGS["eurobert"] = ("EuroBert", _DECODER)

#: Dropout acts after the pretrained part / anywhere but on attention weights, with the config's own probabilities.
IN_HEAD = {"bert", "distilbert", "roberta", "electra", "albert", "mpnet", "xlnet", "deberta-v2"}
ANYWHERE = IN_HEAD | {"bart", "t5", "gpt2"}


def build(name: str, classes: int = 3, **changes: Any) -> Any:
    """A tiny model in evaluation mode, the same one each time."""
    kind, options = CONFIGS[name]
    config = getattr(hf, f"{kind}Config")(**{**options, "num_labels": classes, **changes})
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = getattr(hf, f"{kind}ForSequenceClassification")(config)
        with torch.no_grad():  # far from symmetric, so that rows, positions and classes are easily told apart
            for parameter in model.parameters():
                parameter.add_(0.05 * torch.randn_like(parameter))
    return model.eval()


def rows(lengths: list[int], seed: int = 0, width: int | None = None, left: bool = False) -> dict[str, Tensor]:
    """A padded batch of ordinary tokens, each row with its end token last. Row i depends on its length and seed."""
    width = width or max(lengths)
    ids, mask = torch.full((len(lengths), width), PAD), torch.zeros(len(lengths), width, dtype=torch.int64)
    for row, length in enumerate(lengths):
        generator = torch.Generator().manual_seed(1000 * seed + length)
        tokens = torch.cat([torch.randint(5, VOCABULARY, (length - 1,), generator=generator), torch.tensor([END])])
        place = slice(width - length, width) if left else slice(0, length)
        ids[row, place], mask[row, place] = tokens, 1
    return {"input_ids": ids, "attention_mask": mask}
