"""Interface to a Hugging Face causal model: tokenized prompts, batched passes, and key-value caches."""

import copy
import io
import re
import uuid
from collections.abc import Sequence
from contextlib import redirect_stderr
from dataclasses import dataclass
from functools import lru_cache
from inspect import signature
from typing import Any

import torch
from torch import Tensor

from dal.errors import LLMError, one_line, shortened
from dal.llm.clients.client import Request

_SHORTEST = 8  # minimum number of common tokens for a shared prefix


@dataclass(frozen=True, eq=False)
class PromptState:
    """State after processing B prompts.

    Attributes:
        log_probs: (B, V) float32, log-probabilities of the next token in nats.
        cache: key-value cache of the B rows.
        mask: (B, T) int64, 1 for tokens and 0 for padding.
    """

    log_probs: Tensor
    cache: Any
    mask: Tensor

    def take(self, rows: Tensor) -> "PromptState":
        """Return the state of some rows, in any order and possibly repeated, without changing this one."""
        return PromptState(self.log_probs[rows], forked(self.cache, rows), self.mask[rows])


@dataclass(frozen=True, eq=False)
class Prefix:
    """Common prefix of several prompts, processed once.

    Attributes:
        tokens: number of tokens.
        cache: key-value cache with a single row; None without a prefix.
    """

    tokens: int = 0
    cache: Any = None


NOTHING_SHARED = Prefix()


class CausalModel:
    """A causal model and its tokenizer.

    Args:
        model: transformers model in evaluation mode, on its device.
        tokenizer: tokenizer of the model.
    """

    def __init__(self, model: Any, tokenizer: Any) -> None:
        self.model, self.tokenizer = model, tokenizer
        accepted = frozenset(signature(model.forward).parameters)
        self._keeps, self._places = "logits_to_keep" in accepted, "position_ids" in accepted
        self.chats = bool(getattr(tokenizer, "chat_template", None))
        ends = model.generation_config.eos_token_id if model.generation_config else None
        ends = tokenizer.eos_token_id if ends is None else ends
        self.ends: tuple[int, ...] = (
            tuple(ends) if isinstance(ends, list | tuple) else (ends,) if ends is not None else ()
        )

    @property
    def device(self) -> torch.device:
        """Device of the model."""
        device: torch.device = self.model.device
        return device

    @property
    def longest(self) -> int:
        """Context length of the model in tokens."""
        positions = getattr(self.model.config.get_text_config(), "max_position_embeddings", None)
        return positions if isinstance(positions, int) and positions > 0 else 1 << 30

    def tokens(self, request: Request) -> list[int]:
        """Tokenize a request, up to the beginning of the answer.

        Uses the tokenizer's chat template, or plain text if it has none. The spelling of a special token in the request
        is treated as plain text, so that a text cannot end the user turn.

        Raises:
            LLMError: the chat template fails, or omits the user turn.
        """
        system = [{"role": "system", "content": request.system}] if request.system else []
        if not self.chats:
            text = "\n\n".join([*(turn["content"] for turn in system), request.prompt]).rstrip() + "\nAnswer:"
            ids: list[int] = self.tokenizer(text, split_special_tokens=True, verbose=False).input_ids
            if ids and ids[-1] in self.ends:  # some tokenizers append an end token, after which nothing follows
                ids = ids[:-1]
            return ids or [self._filler]
        # Unpredictable placeholders, because a text or class name that contained one could move the user turn.
        user_mark, system_mark = (f"TURN-{uuid.uuid4().hex.upper()}" for _ in range(2))
        spells_special = bool(system) and self._special(request.system) != self._inner(request.system)
        if spells_special:
            system = [{"role": "system", "content": system_mark}]
        turns = [*system, {"role": "user", "content": user_mark}]
        try:
            shell = self.tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)
        except Exception as error:  # the template is code from the checkpoint, which may raise any exception
            raise LLMError(f"the model's chat template cannot be used: {one_line(error)}") from error
        if user_mark not in shell:
            raise LLMError("the model's chat template omits the user turn")
        inner = {user_mark: request.prompt, system_mark: request.system}
        parts = re.split(f"({user_mark}|{system_mark})", shell)
        tokenized = (self._inner(inner[part]) if part in inner else self._special(part) for part in parts)
        return [token for tokens in tokenized for token in tokens]

    def label_tokens(self, label: str) -> list[int]:
        """Tokenize a label as an answer; without a chat template it begins with a space."""
        return self._inner(label if self.chats else f" {label}")

    def text(self, tokens: Sequence[int]) -> str:
        """Decode tokens to text, without special tokens."""
        text: str = self.tokenizer.decode(list(tokens), skip_special_tokens=True, clean_up_tokenization_spaces=False)
        return text

    def _special(self, text: str) -> list[int]:
        """Tokens of a text in which special tokens are recognised."""
        ids: list[int] = self.tokenizer(text, add_special_tokens=False, verbose=False).input_ids
        return ids

    def _inner(self, text: str) -> list[int]:
        """Tokens of a text in which special tokens are plain text."""
        ids: list[int] = self.tokenizer(
            text, add_special_tokens=False, split_special_tokens=True, verbose=False
        ).input_ids
        return ids

    @property
    def _filler(self) -> int:
        known = (self.tokenizer.pad_token_id, *self.ends, 0)
        return int(next(token for token in known if token is not None))

    # -- reading

    def prefix(self, prompts: Sequence[Sequence[int]]) -> Prefix:
        """Process the common prefix of the prompts; empty if it is short, or there is a single prompt.

        Raises:
            LLMError: a prompt exceeds the context length.
        """
        self._refuse_long(prompts)
        if len(prompts) < 2:
            return Prefix()
        first, last = min(map(list, prompts)), max(map(list, prompts))  # in lexicographic order, all share their prefix
        most = min(map(len, prompts)) - 1  # without the last token of any, so that each has one left to process
        shared = next((i for i in range(most) if first[i] != last[i]), most)
        if shared < _SHORTEST:
            return Prefix()
        tokens = torch.tensor([list(prompts[0][:shared])], device=self.device)
        return Prefix(shared, self._forward(tokens, torch.ones_like(tokens), None)[1])

    def read(self, prompts: Sequence[Sequence[int]], prefix: Prefix = NOTHING_SHARED) -> PromptState:
        """Process B prompts in one pass, padded on the left, after their common prefix.

        Raises:
            LLMError: a prompt exceeds the context length.
        """
        self._refuse_long(prompts)
        rests = [list(prompt[prefix.tokens :]) for prompt in prompts]
        width = max(map(len, rests))
        tokens = torch.tensor([[self._filler] * (width - len(rest)) + rest for rest in rests], device=self.device)
        mask = torch.tensor([[0] * (width - len(rest)) + [1] * len(rest) for rest in rests], device=self.device)
        mask = torch.cat([mask.new_ones(len(mask), prefix.tokens), mask], 1)  # (B, T)
        rows = torch.zeros(len(rests), dtype=torch.int64, device=self.device)
        cache = None if prefix.cache is None else forked(prefix.cache, rows)
        logits, cache = self._forward(tokens, mask, cache, last=True)
        return PromptState(logits[:, -1].float().log_softmax(-1), cache, mask)

    def go_on(self, read: PromptState, tokens: Tensor, real: Tensor) -> tuple[Tensor, PromptState]:
        """Process S more tokens per row.

        Args:
            read: state so far, whose cache must not be used afterwards.
            tokens: (B, S) int64.
            real: (B, S) int64, 1 for tokens and 0 for padding.

        Returns:
            Log-probabilities (B, S, V) of the next token after each token, and the new state.
        """
        mask = torch.cat([read.mask, real], 1)
        logits, cache = self._forward(tokens, mask, read.cache)
        log_probs = logits.float().log_softmax(-1)
        return log_probs, PromptState(log_probs[:, -1], cache, mask)

    def _refuse_long(self, prompts: Sequence[Sequence[int]]) -> None:
        if (longest := max(map(len, prompts), default=0)) > self.longest:
            raise LLMError(
                f"a prompt has {longest} tokens, but the context length of the model is {self.longest}: use fewer "
                "examples, or a smaller max_characters"
            )

    def _forward(self, tokens: Tensor, mask: Tensor, cache: Any, last: bool = False) -> tuple[Tensor, Any]:
        more: dict[str, Any] = {}
        if self._places:
            more["position_ids"] = (mask.cumsum(1) - 1).clamp_min(0)[:, -tokens.shape[1] :]
        if self._keeps and last:
            more["logits_to_keep"] = 1
        with torch.inference_mode():
            out = self.model(input_ids=tokens, attention_mask=mask, past_key_values=cache, use_cache=True, **more)
        return out.logits, out.past_key_values


def forked(cache: Any, rows: Tensor) -> Any:
    """Return a new cache with some rows of another, which remains unchanged."""
    from transformers.cache_utils import DynamicLayer

    # Selecting rows of a DynamicLayer replaces its tensors, so that no deep copy is needed.
    if all(type(layer) is DynamicLayer for layer in cache.layers):
        own = copy.copy(cache)
        own.layers = [copy.copy(layer) for layer in cache.layers]
    else:
        own = copy.deepcopy(cache)
    own.batch_select_indices(rows)
    return own


@lru_cache(maxsize=2)
def load(model: str, gguf: str | None, device: str, precision: str) -> CausalModel:
    """Load a model and its tokenizer from a hub name, a folder or "package:NAME/FOLDER". The last two are cached.

    A name that ends in `/FILE.gguf` denotes a GGUF file in the folder before it.

    Raises:
        LLMError: the model cannot be loaded, or is not a causal model.
        MissingExtraError: the package of a "package:" name, or a package to read GGUF files, is not installed.
    """
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from dal.errors import require
    from dal.learners.text.embeddings import quiet
    from dal.learners.training.devices import device_of
    from dal.modules.loading import locate

    folder, slash, file = model.rpartition("/")
    if gguf is None and slash and file.endswith(".gguf"):
        model, gguf = folder, file
    where = locate(model, gguf or "config.json")
    more: dict[str, Any] = {} if gguf is None else {"gguf_file": gguf}
    if gguf is not None:
        require("gguf", "local")
        require("accelerate", "local")
    try:
        with quiet(), redirect_stderr(io.StringIO()), torch.random.fork_rng(devices=[]):  # hides an unconditional bar
            tokenizer = AutoTokenizer.from_pretrained(where, **more)
            loaded = AutoModelForCausalLM.from_pretrained(where, dtype=getattr(torch, precision), **more)
    except Exception as error:  # reading a damaged checkpoint may raise any exception
        plain = isinstance(error, OSError | ValueError)
        reason = one_line(error) if plain else f"{type(error).__name__}: {one_line(error)}"
        raise LLMError(f"the language model {shortened(model, 200)} could not be loaded: {reason}") from error
    return CausalModel(loaded.eval().to(device_of(device)), tokenizer)
