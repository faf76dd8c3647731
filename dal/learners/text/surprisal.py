"""Surprisal of texts under a masked-language model, which requires no labels."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from dal.errors import LearnerError
from dal.learner import SILENT, Monitor, Predictor, Prepared
from dal.learners.inference import Precision, on_one_device, placed, run_pass
from dal.learners.text.masked_models import SHARE, MaskedTokenPredictor
from dal.learners.text.tokens import TextPrepared
from dal.outputs import Outputs, sources

SURPRISAL = frozenset({"surprisal"})


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


class MaskedLanguageModel(MaskedTokenPredictor):
    """A masked-language model with the interface that `run_pass` requires.

    Args:
        model: hub name, folder, or `package:NAME/FOLDER`.
        width: number T of columns.
        seed: seed of the token selection.

    Raises:
        LearnerError: the checkpoint is not a masked-language model, or has no trained head.
    """

    def __init__(self, model: str, width: int, seed: int) -> None:
        super().__init__(
            model,
            refused="surprisal cannot be computed with",
            instead="use a masked-language model, or ClusterCenters for the cold start",
        )
        self._width, self._seed = width, seed

    def compute(
        self, batch: Mapping[str, Tensor], names: Iterable[str], *, samples: int, generator: torch.Generator
    ) -> dict[str, Tensor]:
        """Compute the surprisal of a batch, (B, T)."""
        ids, real = batch["input_ids"], batch["attention_mask"].bool()
        drawn = draw_tokens(ids, real, self.ordinary(batch), share=SHARE, seed=self._seed)
        surprisal = torch.zeros(len(ids), self._width, device=ids.device)
        row, column = drawn.nonzero(as_tuple=True)
        if len(row):
            logits = self.logits(batch, row, column)  # (P, V)
            token = ids[row, column]
            surprisal[row, column] = torch.nn.functional.cross_entropy(logits, token, reduction="none")
        return {"surprisal": surprisal}


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
