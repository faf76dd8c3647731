"""Surprisal of texts under a masked-language model, which requires no labels."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from inspect import signature
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from transformers import AutoConfig, AutoModelForMaskedLM
from transformers.modeling_outputs import BaseModelOutput
from transformers.models.auto.modeling_auto import MODEL_FOR_MASKED_LM_MAPPING

from dal.errors import LearnerError, one_line
from dal.learner import SILENT, Monitor, Predictor, Prepared
from dal.learners.inference import Precision, on_one_device, placed, run_pass
from dal.learners.text.embeddings import quiet
from dal.learners.text.tokenizers import load_tokenizer, locate
from dal.learners.text.tokens import TextPrepared
from dal.outputs import Outputs, sources

SURPRISAL = frozenset({"surprisal"})

#: Share of a text's tokens whose surprisal is computed; all others count as 0.
SHARE = 0.15

#: Maximum number of logits per batch: 256 MiB of float32.
LARGEST_PREDICTIONS = 2**26


@dataclass(frozen=True)
class Surprisal:
    """Computes `surprisal` (N, T), in nats per token, with the masked-language-model head of a checkpoint.

    The input is not masked. Entry t is `-log p(token t | text)` for a random 15% of the text's tokens, but at least
    one, excluding special tokens; it is 0 for all others. The selection of tokens depends only on the seed and the
    tokens of the text, not on the batch or other rows, so that copies of a text have equal surprisal.

    Yuan, Lin and Boyd-Graber 2020, "Cold-start Active Learning through Self-supervised Language Modeling".

    Args:
        model: hub name, folder, or `package:NAME/FOLDER`.
        max_length: number T of columns.
        precision: precision of the pretrained part; the head runs in float32.
        token_budget: tokens per batch, padding included; reduced for large vocabularies.
        device: device of the model.
    """

    model: str
    max_length: int
    precision: Precision
    token_budget: int
    device: torch.device

    def outputs(
        self,
        predictor: Predictor,
        data: Prepared,
        rows: Tensor | None,
        names: frozenset[str],
        *,
        seed: int,
        exact: bool,
        monitor: Monitor,
    ) -> Outputs:
        """Compute the named outputs: `surprisal`, and all others with the predictor."""
        others, tensors, device = names - SURPRISAL, {}, self.device
        if others:
            read = predictor.outputs(data, rows, others, seed=seed, exact=exact, monitor=monitor)
            tensors, device = {name: read[name] for name in sources(others)}, read.device
        surprisal = placed(self.read(data, rows, seed=seed, exact=exact, monitor=monitor), device)
        tensors = on_one_device({**tensors, "surprisal": surprisal})
        return Outputs(tensors, multilabel=data.multilabel, thresholds=predictor.thresholds)

    def read(
        self,
        data: Prepared,
        rows: Tensor | None = None,
        *,
        seed: int = 0,
        exact: bool = False,
        monitor: Monitor = SILENT,
    ) -> Tensor:
        """Compute the surprisal of `rows` (all if None), (N, T) float32.

        Raises:
            LearnerError: the checkpoint is not a masked-language model, or has no trained head.
        """
        if not isinstance(data, TextPrepared):
            raise LearnerError("these rows were prepared by another learner: use this learner's prepare")
        reader = MaskedLanguageModel(self.model, self.max_length, seed).to(self.device)
        passed = run_pass(
            reader,  # type: ignore[arg-type]
            data,
            rows,
            SURPRISAL,
            provides=SURPRISAL,
            token_budget=min(self.token_budget, reader.most_tokens),
            precision="float32" if exact else self.precision,
            monitor=monitor,
        )
        surprisal: Tensor = passed["surprisal"]
        return surprisal


class MaskedLanguageModel(nn.Module):
    """A masked-language model with the interface that `run_pass` requires.

    The head is applied to the selected tokens only, which saves most of its cost, if this gives the same logits as the
    whole model. This is tested when the model is loaded.

    Args:
        model: hub name, folder, or `package:NAME/FOLDER`.
        width: number T of columns.
        seed: seed of the token selection.

    Raises:
        LearnerError: the checkpoint is not a masked-language model, or has no trained head.
    """

    def __init__(self, model: str, width: int, seed: int) -> None:
        super().__init__()
        self.model: Any = _load(model).eval()
        self._width, self._seed = width, seed
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

    def compute(
        self, batch: Mapping[str, Tensor], names: Iterable[str], *, samples: int, generator: torch.Generator
    ) -> dict[str, Tensor]:
        """Compute the surprisal of a batch, (B, T)."""
        ids, real = batch["input_ids"], batch["attention_mask"].bool()
        ordinary = real & ~torch.isin(ids, self._special.to(ids.device))
        drawn = draw_tokens(ids, real, ordinary, share=SHARE, seed=self._seed)
        surprisal = torch.zeros(len(ids), self._width, device=ids.device)
        row, column = drawn.nonzero(as_tuple=True)
        if len(row):
            inputs = {name: value for name, value in batch.items() if name in self._accepted}
            logits = self._predict(inputs, row, column)  # (P, V)
            token = ids[row, column]
            surprisal[row, column] = torch.nn.functional.cross_entropy(logits, token, reduction="none")
        return {"surprisal": surprisal}

    def _predict(self, inputs: Mapping[str, Tensor], row: Tensor, column: Tensor) -> Tensor:
        """Logits (P, V) over the vocabulary at P positions of a batch."""
        if not self._apart:
            logits: Tensor = self.model(**inputs).logits
            return logits[row, column].float()
        hidden = self.model.base_model(**inputs)[0]  # (B, T, D)
        return self._head(hidden[row, column])

    def _head(self, hidden: Tensor) -> Tensor:
        """Logits (P, V) of hidden states (P, D).

        Heads have no common interface, so the whole model runs with a pretrained part that returns these states.
        """
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


def _load(model: str) -> nn.Module:
    """Load a masked-language model in float32. Refuses a checkpoint with missing weights."""
    where = locate(model)
    instead = "use a masked-language model, or ClusterCenters for the cold start"
    try:
        config = AutoConfig.from_pretrained(where)
        causal = config.is_encoder_decoder or getattr(config, "is_decoder", False)
        if causal or type(config) not in MODEL_FOR_MASKED_LM_MAPPING:
            raise LearnerError(
                f"surprisal cannot be computed with {model}: a {config.model_type} is not a masked-language model; "
                f"{instead}"
            )
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
            f"surprisal cannot be computed with {model}: the checkpoint has no trained masked-language-model head "
            f"({len(missing)} weights are missing or have the wrong shape, such as {missing[0]}); {instead}"
        )
    module: nn.Module = loaded
    return module


def draw_tokens(ids: Tensor, real: Tensor, ordinary: Tensor, *, share: float, seed: int) -> Tensor:
    """Select a random share of each row's ordinary tokens, at least one if there are any.

    A hash of the row's tokens and the seed gives each token a key, and the tokens with the smallest keys are selected,
    so that the selection does not depend on the batch or its padding.

    Args:
        ids: (B, T) int64 tokens.
        real: (B, T) bool, False for padding.
        ordinary: (B, T) bool, True for tokens that may be selected.
        share: share of the ordinary tokens to select, 0 to 1.
        seed: seed of the hash.

    Returns:
        (B, T) bool, True for selected tokens.
    """
    position = real.long().cumsum(1)  # without padding
    start = int(np.random.SeedSequence(seed).generate_state(1, np.uint64).view(np.int64)[0])
    row = _hashed(_hashed(ids + start) + position).mul(real).sum(1, keepdim=True)  # (B, 1)
    keys = _hashed(row + position).masked_fill(~ordinary, torch.iinfo(torch.int64).max)
    count = (ordinary.sum(1, keepdim=True) * share).round().clamp_min(1)  # (B, 1)
    return ordinary & (keys.argsort(dim=1, stable=True).argsort(dim=1) < count)


def _hashed(x: Tensor) -> Tensor:
    """Hash int64 elementwise with the finalizer of splitmix64 (Steele, Lea and Flood 2014)."""
    for shift, factor in ((30, -0x40A7B892E31B1A47), (27, -0x6B2FB644ECCEEE15)):
        x = (x ^ _shifted(x, shift)) * factor
    return x ^ _shifted(x, 31)


def _shifted(x: Tensor, by: int) -> Tensor:
    """Logical right shift; `>>` of torch is arithmetic, because int64 is signed."""
    return (x >> by) & ((1 << (64 - by)) - 1)
