"""A Hugging Face causal model as it is read: prompts as tokens, and one pass over many that keeps their keys."""

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

_SHORTEST = 8  # tokens that prompts must share for their keys to be computed once for all


@dataclass(frozen=True, eq=False)
class PromptState:
    """Prompts that were read: what comes next, and the keys and values that a continuation attends to.

    Attributes:
        log_probs: (B, V) float32, nats, of the next token.
        cache: the keys and values of B rows, of which those under the mask are real.
        mask: (B, T) int64, 1 for real tokens.
    """

    log_probs: Tensor
    cache: Any
    mask: Tensor

    def take(self, rows: Tensor) -> "PromptState":
        """The same for some rows, in any order and repeated. The first is left as it is."""
        return PromptState(self.log_probs[rows], forked(self.cache, rows), self.mask[rows])


@dataclass(frozen=True, eq=False)
class Prefix:
    """The tokens that all prompts begin with, read once.

    Attributes:
        tokens: how many there are.
        cache: their keys and values (one row); None without any.
    """

    tokens: int = 0
    cache: Any = None


NOTHING_SHARED = Prefix()


class CausalModel:
    """A loaded model and its tokenizer.

    Args:
        model: in evaluation mode, on its device.
        tokenizer: its own.
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
        """Where the model is."""
        device: torch.device = self.model.device
        return device

    @property
    def longest(self) -> int:
        """Tokens that the model can read."""
        positions = getattr(self.model.config.get_text_config(), "max_position_embeddings", None)
        return positions if isinstance(positions, int) and positions > 0 else 1 << 30

    def tokens(self, request: Request) -> list[int]:
        """The request as the model's tokens, up to where its answer begins.

        By the tokenizer's chat template, or as plain text where it has none. Special tokens that are written out in
        the request are plain text, so that a text cannot end the user's turn.

        Raises:
            LLMError: the chat template cannot be used.
        """
        system = [{"role": "system", "content": request.system}] if request.system else []
        if not self.chats:
            return self._plain("\n\n".join([*(turn["content"] for turn in system), request.prompt, ""]))
        # Marks that nobody can foresee: a class name that wrote one out would move the user's turn.
        asked, ruled = (f"TURN-{uuid.uuid4().hex.upper()}" for _ in range(2))
        written_out = bool(system) and self._special(request.system) != self._inner(request.system)
        if written_out:
            system = [{"role": "system", "content": ruled}]
        turns = [*system, {"role": "user", "content": asked}]
        try:
            shell = self.tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)
        except Exception as error:  # the template is a program that came with the model
            raise LLMError(f"the model's chat template cannot be used: {one_line(error)}") from error
        if asked not in shell:
            raise LLMError("the model's chat template leaves out the user's turn")
        inner = {asked: request.prompt, ruled: request.system}
        parts = re.split(f"({asked}|{ruled})", shell)
        found = (self._inner(inner[part]) if part in inner else self._special(part) for part in parts)
        return [token for tokens in found for token in tokens]

    def label_tokens(self, label: str) -> list[int]:
        """The tokens of a label as the answer; after plain text it begins with a space."""
        return self._inner(label if self.chats else f" {label}")

    def text(self, tokens: Sequence[int]) -> str:
        """The tokens as text, without special ones."""
        text: str = self.tokenizer.decode(list(tokens), skip_special_tokens=True, clean_up_tokenization_spaces=False)
        return text

    def _special(self, text: str) -> list[int]:
        found: list[int] = self.tokenizer(text, add_special_tokens=False, verbose=False).input_ids
        return found

    def _inner(self, text: str) -> list[int]:
        found: list[int] = self.tokenizer(
            text, add_special_tokens=False, split_special_tokens=True, verbose=False
        ).input_ids
        return found

    def _plain(self, text: str) -> list[int]:
        found: list[int] = self.tokenizer(
            text.rstrip() + "\nAnswer:", split_special_tokens=True, verbose=False
        ).input_ids
        if found and found[-1] in self.ends:
            found = found[:-1]
        return found or [self._filler]

    @property
    def _filler(self) -> int:
        known = (self.tokenizer.pad_token_id, *self.ends, 0)
        return int(next(token for token in known if token is not None))

    # -- reading

    def prefix(self, prompts: Sequence[Sequence[int]]) -> Prefix:
        """The beginning that all prompts share, read once; nothing where it is short or there is one prompt.

        Raises:
            LLMError: a prompt is longer than what the model can read.
        """
        self._refuse_long(prompts)
        shared = _shared(prompts) if len(prompts) > 1 else 0
        if shared < _SHORTEST:
            return Prefix()
        tokens = torch.tensor([list(prompts[0][:shared])], device=self.device)
        return Prefix(shared, self._forward(tokens, torch.ones_like(tokens), None)[1])

    def read(self, prompts: Sequence[Sequence[int]], prefix: Prefix = NOTHING_SHARED) -> PromptState:
        """B prompts in one pass, padded on the left, after the prefix that they share.

        Raises:
            LLMError: a prompt is longer than what the model can read.
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
        """Log-probabilities (B, S, V) after each of S further tokens (B, S), and what was read then.

        The cache of `read` is used up. `real` (B, S) says which tokens are none of a row's padding.
        """
        mask = torch.cat([read.mask, real], 1)
        logits, cache = self._forward(tokens, mask, read.cache)
        log_probs = logits.float().log_softmax(-1)
        return log_probs, PromptState(log_probs[:, -1], cache, mask)

    def _refuse_long(self, prompts: Sequence[Sequence[int]]) -> None:
        if (longest := max(map(len, prompts), default=0)) > self.longest:
            raise LLMError(
                f"a prompt has {longest} tokens, and the model reads {self.longest}: use fewer examples, or a smaller "
                "max_characters"
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
    """A cache of its own with some rows of another. Layers that only grow are not copied before rows are taken."""
    from transformers.cache_utils import DynamicLayer

    if all(type(layer) is DynamicLayer for layer in cache.layers):
        own = copy.copy(cache)
        own.layers = [copy.copy(layer) for layer in cache.layers]
    else:
        own = copy.deepcopy(cache)
    own.batch_select_indices(rows)
    return own


def _shared(prompts: Sequence[Sequence[int]]) -> int:
    """How many tokens all prompts begin with; the last of each is left out, so that every row has one to read."""
    first, last = min(map(list, prompts)), max(map(list, prompts))
    most = min(map(len, prompts)) - 1
    return next((i for i in range(most) if first[i] != last[i]), most)


@lru_cache(maxsize=2)
def load(model: str, gguf: str | None, device: str, precision: str) -> CausalModel:
    """The model and its tokenizer from a hub name, a folder or "package:NAME/FOLDER"; kept while it is used.

    A model that ends in `/FILE.gguf` is that file of what comes before it.

    Raises:
        LLMError: it cannot be loaded, or is no causal model.
        MissingExtraError: the package of a "package:" name, or what reads GGUF files, is not installed.
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
        with quiet(), redirect_stderr(io.StringIO()), torch.random.fork_rng(devices=[]):  # a bar that none can turn off
            tokenizer = AutoTokenizer.from_pretrained(where, **more)
            loaded = AutoModelForCausalLM.from_pretrained(where, dtype=getattr(torch, precision), **more)
    except Exception as error:  # transformers lets out whatever a broken file makes it stumble over
        said = (
            one_line(error) if isinstance(error, OSError | ValueError) else f"{type(error).__name__}: {one_line(error)}"
        )
        raise LLMError(f"the language model {shortened(model, 200)} could not be loaded: {said}") from error
    return CausalModel(loaded.eval().to(device_of(device)), tokenizer)
