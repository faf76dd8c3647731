"""How much a masked-language model is surprised by the words of a text: known before any label is."""

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

#: Share of a text's tokens whose surprisal is read; all others count as 0.
SHARE = 0.15

#: Numbers that the predictions for one batch may hold: 256 MiB of float32.
LARGEST_PREDICTIONS = 2**26


@dataclass(frozen=True)
class Surprisal:
    """Reads `surprisal` (N, T) off a checkpoint's own masked-language-model head: nats per token, T = `max_length`.

    The text is read as it is, nothing masked, and entry t is `-log p(token t | text)` for a random 15% of its tokens
    (one at least), and 0 for all others. Special tokens are never among them. Which tokens they are depends on the seed
    and on the text's own tokens alone: neither on the batch nor on the other rows, and copies of a text are equal.

    Yuan, Lin and Boyd-Graber 2020, "Cold-start Active Learning through Self-supervised Language Modeling".

    Args:
        model: hub name, folder, or `package:NAME/FOLDER`.
        max_length: T.
        precision: of the pretrained part; the head always runs in float32.
        token_budget: tokens per batch, padding included; less where the vocabulary is large.
        device: where it runs.
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
        """The named outputs, `surprisal` among them: all others are the predictor's."""
        others, tensors, device = names - SURPRISAL, {}, self.device
        if others:
            read = predictor.outputs(data, rows, others, seed=seed, exact=exact, monitor=monitor)
            tensors, device = {name: read[name] for name in sources(others)}, read.device
        surprisal = placed(self.read(data, rows, seed=seed, exact=exact, monitor=monitor), device)
        return Outputs(on_one_device({**tensors, "surprisal": surprisal}), multilabel=data.multilabel)

    def read(
        self,
        data: Prepared,
        rows: Tensor | None = None,
        *,
        seed: int = 0,
        exact: bool = False,
        monitor: Monitor = SILENT,
    ) -> Tensor:
        """The surprisal of `rows` (all when None), (N, T) float32.

        Raises:
            LearnerError: the checkpoint has no trained head for it, or is no masked-language model at all.
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
    """A masked-language model as the pass sees it.

    The head predicts the drawn tokens alone, which saves most of its cost, wherever that gives what the whole model
    does: it is tried when the model is loaded.

    Args:
        model: hub name, folder, or `package:NAME/FOLDER`.
        width: T.
        seed: of the draw of tokens.

    Raises:
        LearnerError: it has no trained head, or is no masked-language model.
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
        """Where the model is."""
        device: torch.device = self.model.device
        return device

    @property
    def most_tokens(self) -> int:
        """Tokens per batch whose predictions take no more than `LARGEST_PREDICTIONS`."""
        predicted = SHARE if self._apart else 1.0
        return max(1, int(LARGEST_PREDICTIONS / (predicted * self.model.config.vocab_size)))

    def compute(
        self, batch: Mapping[str, Tensor], names: Iterable[str], *, samples: int, generator: torch.Generator
    ) -> dict[str, Tensor]:
        """The surprisal of a batch, (B, T)."""
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
        """Logits (P, V) over the vocabulary at P places of a batch."""
        if not self._apart:
            logits: Tensor = self.model(**inputs).logits
            return logits[row, column].float()
        hidden = self.model.base_model(**inputs)[0]  # (B, T, D)
        return self._head(hidden[row, column])

    def _head(self, hidden: Tensor) -> Tensor:
        """Logits (P, V) of hidden states (P, D): the whole model, whose pretrained part returns these."""
        base, places = self.model.base_model, torch.zeros(1, len(hidden), dtype=torch.int64, device=hidden.device)
        base.__dict__["forward"] = lambda *args, **kwargs: BaseModelOutput(last_hidden_state=hidden[None].float())
        try:
            with torch.autocast(hidden.device.type, enabled=False):
                logits: Tensor = self.model(input_ids=places).logits[0]
        finally:
            del base.__dict__["forward"]
        return logits

    def _splits(self) -> bool:
        """Whether the head gives the same for some places alone as the whole model does."""
        base = self.model.base_model
        if base is self.model or "forward" in base.__dict__:
            return False
        inputs = {"input_ids": torch.arange(6)[None], "attention_mask": torch.ones(1, 6, dtype=torch.int64)}
        places = torch.zeros(3, dtype=torch.int64), torch.tensor([1, 2, 4])
        with torch.no_grad():
            whole = self.model(**inputs).logits[places]
            try:
                apart = self._head(base(**inputs)[0][places])
            except (RuntimeError, TypeError, ValueError, AttributeError, IndexError):
                return False
        return apart.shape == whole.shape and torch.allclose(apart, whole, rtol=1e-3, atol=1e-4)


def _load(model: str) -> nn.Module:
    """The masked-language model of a checkpoint, in float32, whose every weight the checkpoint holds."""
    where = locate(model)
    instead = "name one that does, or start with ClusterCenters"
    try:
        config = AutoConfig.from_pretrained(where)
        causal = config.is_encoder_decoder or getattr(config, "is_decoder", False)
        if causal or type(config) not in MODEL_FOR_MASKED_LM_MAPPING:
            raise LearnerError(
                f"surprisal cannot be read off {model}: a {config.model_type} predicts no masked words; {instead}"
            )
        with torch.random.fork_rng(devices=[]), quiet():  # what the checkpoint lacks is initialised before we refuse
            loaded, info = AutoModelForMaskedLM.from_pretrained(
                where, dtype=torch.float32, ignore_mismatched_sizes=True, output_loading_info=True
            )
    except LearnerError:
        raise
    except Exception as error:  # whatever the readers of a damaged checkpoint let out
        raise LearnerError(f"the masked-language model {model} could not be loaded: {one_line(error)}") from error
    missing = sorted({*info["missing_keys"], *(entry[0] for entry in info["mismatched_keys"])})
    if missing:
        raise LearnerError(
            f"surprisal cannot be read off {model}: the checkpoint has no trained masked-language-model head "
            f"({len(missing)} weights of it are missing or misshapen, such as {missing[0]}); {instead}"
        )
    module: nn.Module = loaded
    return module


def draw_tokens(ids: Tensor, real: Tensor, ordinary: Tensor, *, share: float, seed: int) -> Tensor:
    """A random share of each row's ordinary tokens, one at least where there are any, as a mask (B, T) of bools.

    A number is made of the row's tokens and the seed, and from it one for each token, of which the smallest win: so the
    draw is the same in any batch, however padded. Shapes: ids (B, T), the real tokens and the ordinary ones (B, T).
    """
    place = real.long().cumsum(1)  # counted without padding
    start = int(np.random.SeedSequence(seed).generate_state(1, np.uint64).view(np.int64)[0])
    row = _mixed(_mixed(ids + start) + place).mul(real).sum(1, keepdim=True)  # (B, 1)
    keys = _mixed(row + place).masked_fill(~ordinary, torch.iinfo(torch.int64).max)
    wanted = (ordinary.sum(1, keepdim=True) * share).round().clamp_min(1)  # (B, 1)
    return ordinary & (keys.argsort(dim=1, stable=True).argsort(dim=1) < wanted)


def _mixed(x: Tensor) -> Tensor:
    """The numbers (int64) scrambled, each by itself: the finalizer of splitmix64 (Steele, Lea and Flood 2014)."""
    for shift, factor in ((30, -0x40A7B892E31B1A47), (27, -0x6B2FB644ECCEEE15)):
        x = (x ^ _shifted(x, shift)) * factor
    return x ^ _shifted(x, 31)


def _shifted(x: Tensor, by: int) -> Tensor:
    """A logical shift to the right, of numbers that torch takes for signed."""
    return (x >> by) & ((1 << (64 - by)) - 1)
