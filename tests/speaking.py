"""Small language models that are real: a random Llama with a tokenizer of its own, and a client that reads keywords."""

import json
import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from dal.llm.clients.client import Client, Reply, Request
from dal.monitor import SILENT, Monitor

TEMPLATE = (
    "{% for turn in messages %}<s>{{ turn['role'] }}\n{{ turn['content'] | trim }}</s>\n{% endfor %}"
    "{% if add_generation_prompt %}<s>assistant\n{% endif %}"
)


def write_tiny_llama(folder: Path, *, chats: bool = True, seed: int = 0) -> Path:
    """Write a randomly initialised two-layer Llama that reads bytes, with or without a chat template, to `folder`."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocab = {token: number for number, token in enumerate(["<pad>", "<s>", "</s>", *letters])}
    tokenizer = Tokenizer(models.BPE(vocab, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", bos_token="<s>", eos_token="</s>", model_max_length=4096
    )
    fast.chat_template = TEMPLATE if chats else None
    fast.save_pretrained(folder)
    config = LlamaConfig(
        vocab_size=len(vocab),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=4096,
        initializer_range=0.3,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        LlamaForCausalLM(config).save_pretrained(folder)
    return folder


@dataclass(frozen=True)
class KeywordClient(Client):
    """Answers in JSON with the label of the first keyword in the text, and errs at a temperature, sample by sample.

    Args:
        keywords: (word, label) pairs; a text without any gets the last label.
        broken: share of the answers at a temperature that are no answers.
        each: price of an answer, in dollars.
        unsaid: a text with this word gets no answer, whatever the temperature.
    """

    keywords: tuple[tuple[str, str], ...]
    broken: float = 0.0
    model: str = "keywords"
    each: float = 0.0
    unsaid: str = "\0"

    def complete(self, requests: Sequence[Request], *, monitor: Monitor = SILENT) -> list[Reply]:
        return [Reply(self._answer(request), dollars=self.each) for request in requests]

    def _answer(self, request: Request) -> str:
        text = request.prompt.rsplit("<text>", 1)[1]
        found = next((label for word, label in self.keywords if word in text), self.keywords[-1][1])
        drawn = random.Random(f"{request.prompt}|{request.sample}")
        if self.unsaid in text or (request.temperature and drawn.random() < self.broken):
            return "I would rather not say."
        if request.temperature and drawn.random() < 0.3:
            found = drawn.choice(self.keywords)[1]
        return json.dumps({"label": found, "confidence": drawn.choice([60, 80, 95])})
