"""Masked-language models: the check that a checkpoint is one, and their predictions at some positions of a batch."""

import json
from collections.abc import Mapping
from inspect import signature
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import safe_open
from torch import Tensor, nn

from dal.errors import LearnerError, one_line, shortened
from dal.learners.text.embeddings import quiet
from dal.learners.text.tokenizers import load_tokenizer, locate

if TYPE_CHECKING:  # a learner that needs no model starts without Transformers, which take seconds to import
    from transformers import PreTrainedModel

#: Share of a text's tokens that are predicted.
SHARE = 0.15

#: Maximum number of logits per batch: 256 MiB of float32.
LARGEST_PREDICTIONS = 2**26

_WEIGHTS = ("model.safetensors", "model.safetensors.index.json", "pytorch_model.bin", "pytorch_model.bin.index.json")


class MaskedTokenPredictor(nn.Module):
    """A masked-language model that predicts the tokens at some positions of a batch.

    The head is applied to these positions only, which saves most of its cost, if this gives the same logits as the
    whole model. This is tested when the model is loaded.

    Args:
        model: hub name, folder, or `package:NAME/FOLDER`.
        refused: beginning of the message that refuses a model, such as "surprisal cannot be computed with".
        instead: advice at the end of that message.

    Attributes:
        model: the whole model, in evaluation mode.

    Raises:
        LearnerError: the checkpoint is not a masked-language model, or has no trained head.
    """

    def __init__(self, model: str, *, refused: str, instead: str) -> None:
        super().__init__()
        self.model: Any = _load(model, refused, instead).eval()
        self._special = torch.tensor(sorted(load_tokenizer(model).all_special_ids))
        self._accepted = frozenset(signature(self.model.forward).parameters)
        self._apart = self._splits()

    @property
    def device(self) -> torch.device:
        """Device of the model."""
        device: torch.device = self.model.device
        return device

    @property
    def most_tokens(self) -> int:
        """Maximum number of tokens per batch, such that it has at most `LARGEST_PREDICTIONS` logits."""
        predicted = SHARE if self._apart else 1.0
        return max(1, int(LARGEST_PREDICTIONS / (predicted * self.model.config.vocab_size)))

    def ordinary(self, batch: Mapping[str, Tensor]) -> Tensor:
        """Positions of a batch (B, T) that are neither padding nor special tokens."""
        return batch["attention_mask"].bool() & ~torch.isin(batch["input_ids"], self._special.to(batch["input_ids"]))

    def logits(self, batch: Mapping[str, Tensor], row: Tensor, column: Tensor) -> Tensor:
        """Float32 logits (P, V) over the vocabulary at P positions of a batch, given by row and column."""
        inputs = {name: value for name, value in batch.items() if name in self._accepted}
        if not self._apart:
            logits: Tensor = self.model(**inputs).logits
            return logits[row, column].float()
        hidden = self.model.base_model(**inputs)[0]  # (B, T, D)
        return self._head(hidden[row, column])

    def _head(self, hidden: Tensor) -> Tensor:
        """Logits (P, V) of hidden states (P, D).

        Heads have no common interface, so the whole model runs with a pretrained part that returns these states.
        """
        from transformers.modeling_outputs import BaseModelOutput

        base, ids = self.model.base_model, torch.zeros(1, len(hidden), dtype=torch.int64, device=hidden.device)
        base.__dict__["forward"] = lambda *args, **kwargs: BaseModelOutput(last_hidden_state=hidden[None].float())
        try:
            with torch.autocast(hidden.device.type, enabled=False):
                logits: Tensor = self.model(input_ids=ids).logits[0]
        finally:
            del base.__dict__["forward"]
        return logits

    def _splits(self) -> bool:
        """Whether the head gives the same logits for some positions alone as in the whole model."""
        base = self.model.base_model
        if base is self.model or "forward" in base.__dict__:
            return False
        inputs = {"input_ids": torch.arange(6)[None], "attention_mask": torch.ones(1, 6, dtype=torch.int64)}
        positions = torch.zeros(3, dtype=torch.int64), torch.tensor([1, 2, 4])
        with torch.no_grad():
            whole = self.model(**inputs).logits[positions]
            try:
                apart = self._head(base(**inputs)[0][positions])
            except (RuntimeError, TypeError, ValueError, AttributeError, IndexError):
                return False
        return apart.shape == whole.shape and torch.allclose(apart, whole, rtol=1e-3, atol=1e-4)


def require_masked_head(model: str, *, refused: str, instead: str) -> None:
    """Check by the config and the names of the weights that a checkpoint is a masked-language model with its head.

    No weight is read. Weights that are not on this computer yet are not downloaded: only the config is checked then.

    Args:
        model: hub name, folder, or `package:NAME/FOLDER`.
        refused: beginning of the message.
        instead: advice at its end.

    Raises:
        LearnerError: it is not, has no head, or its tokenizer has no mask token or more tokens than the model.
    """
    from transformers import AutoModelForMaskedLM

    where = locate(model)
    try:
        config = _masked_config(model, where, refused, instead)
        held = _weight_names(where)
        if held is not None:
            with torch.device("meta"), quiet():
                built: Any = AutoModelForMaskedLM.from_config(config)
            prefix = f"{built.base_model_prefix}."
            head = [name for name, _ in built.named_parameters() if not name.startswith(prefix)]
            if not any(name in held for name in head):
                raise LearnerError(
                    f"{refused} {model}: its files have no masked-language-model head, such as the weights "
                    f"{shortened(head[0], 60)}; {instead}"
                )
    except LearnerError:
        raise
    except Exception as error:  # reading a damaged checkpoint may raise any exception
        raise LearnerError(f"the masked-language model {model} could not be read: {one_line(error)}") from error
    tokenizer = load_tokenizer(model)
    if tokenizer.mask_token_id is None:
        raise LearnerError(f"{refused} {model}: its tokenizer has no mask token; {instead}")
    if len(tokenizer) > config.vocab_size:
        raise LearnerError(f"{refused} {model}: its tokenizer has more tokens than the model; {instead}")


def _weight_names(where: str) -> frozenset[str] | None:
    """Names of the weights in a folder, or in the local cache of a hub model; None where they are not on the disk."""
    from transformers.utils.hub import cached_file

    for name in _WEIGHTS:
        if Path(where).is_dir():
            path = str(Path(where) / name)
        else:
            path = cached_file(where, name, local_files_only=True, _raise_exceptions_for_missing_entries=False) or ""
        if not path or not Path(path).is_file():
            continue
        if name.endswith(".json"):
            return frozenset(json.loads(Path(path).read_text(encoding="utf-8"))["weight_map"])
        if name.endswith(".safetensors"):
            with safe_open(path, "pt") as file:
                return frozenset(file.keys())
        try:
            return frozenset(torch.load(path, map_location="meta", mmap=True, weights_only=True))
        except RuntimeError:  # a format of old versions of torch, which cannot be mapped: checked when it is loaded
            return None
    return None


def _masked_config(model: str, where: str, refused: str, instead: str) -> Any:
    """The config of a model, if it is one of a masked-language model."""
    from transformers import AutoConfig
    from transformers.models.auto.modeling_auto import MODEL_FOR_MASKED_LM_MAPPING

    config = AutoConfig.from_pretrained(where)
    causal = config.is_encoder_decoder or getattr(config, "is_decoder", False)
    if causal or type(config) not in MODEL_FOR_MASKED_LM_MAPPING:
        raise LearnerError(f"{refused} {model}: a {config.model_type} is not a masked-language model; {instead}")
    return config


def _load(model: str, refused: str, instead: str) -> "PreTrainedModel":
    """Load a masked-language model in float32. Refuses a checkpoint with missing weights."""
    from transformers import AutoModelForMaskedLM

    where = locate(model)
    try:
        _masked_config(model, where, refused, instead)
        with torch.random.fork_rng(devices=[]), quiet():  # missing weights are initialised at random
            loaded, info = AutoModelForMaskedLM.from_pretrained(
                where, dtype=torch.float32, ignore_mismatched_sizes=True, output_loading_info=True
            )
    except LearnerError:
        raise
    except Exception as error:  # reading a damaged checkpoint may raise any exception
        raise LearnerError(f"the masked-language model {model} could not be loaded: {one_line(error)}") from error
    missing = sorted({*info["missing_keys"], *(entry[0] for entry in info["mismatched_keys"])})
    if missing:
        raise LearnerError(
            f"{refused} {model}: the checkpoint has no trained masked-language-model head "
            f"({len(missing)} weights are missing or have the wrong shape, such as {missing[0]}); {instead}"
        )
    module: PreTrainedModel = loaded
    return module
