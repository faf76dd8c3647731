"""A fitted or untrained probe: a linear head on cached embeddings, computed in one pass over them."""

import copy
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from dal.errors import LearnerError, NeedError
from dal.functional import row_source
from dal.functional.row_source import RowSource
from dal.learner import SILENT, Monitor, Predictor, Prepared
from dal.learners.collector import Collector
from dal.learners.heads.described_head import ZERO_SHOT, ZeroShotHead
from dal.learners.heads.head_posteriors import Draws
from dal.learners.heads.linear_head import LinearHead, shifted
from dal.learners.text.embeddings import EMBEDDINGS, Embedder
from dal.learners.text.surprisal import SURPRISAL, Surprisal
from dal.learners.text.tokens import TextPrepared
from dal.learners.training.tensor_rows import TensorPrepared
from dal.outputs import Outputs
from dal.store.atomic_files import replacing

#: Outputs of a probe that need a fitted head.
TRAINED = frozenset({"logits", "features", "mc_logits", "joint_mc_logits"})

_CHUNK = 1 << 22  # floats of features or samples held at once


class ProbePredictor(Predictor):
    """Linear head on cached embeddings; without a head, the label-free outputs only."""

    def __init__(
        self,
        head: LinearHead | None,
        embedder: Embedder | None,
        classes: tuple[str, ...],
        multilabel: bool,
        samples: int,
        surprisal: Surprisal | None = None,
        training_notes: Mapping[str, Any] = MappingProxyType({}),
        zero_shot: Callable[[Monitor], ZeroShotHead] | None = None,
    ) -> None:
        self.head = head
        self.training_notes = training_notes
        self._embedder, self._surprisal, self._zero_shot = embedder, surprisal, zero_shot
        self.classes = classes
        self.multilabel = multilabel
        self.samples = samples

    @property
    def thresholds(self) -> Tensor | None:  # type: ignore[override]
        """Logits (C,) above which classes are assigned; None before fitting, and for 0."""
        return None if self.head is None else self.head.thresholds

    def around_thresholds(self) -> "ProbePredictor":
        """The model with its thresholds folded into the bias, so that a logit of 0 is where a class is assigned."""
        if self.head is None or self.head.thresholds is None:
            return self
        copied = copy.copy(self)
        copied.head = replace(shifted(self.head, -self.head.thresholds), thresholds=None)
        return copied

    @property
    def provides(self) -> frozenset[str]:
        """Raw outputs that it computes."""
        free = EMBEDDINGS if self._surprisal is None else EMBEDDINGS | SURPRISAL
        free = free if self._zero_shot is None else free | {ZERO_SHOT}
        return free if self.head is None else free | TRAINED

    def outputs(
        self,
        data: Prepared,
        rows: Tensor | None = None,
        names: Iterable[str] = frozenset({"logits"}),
        *,
        seed: int = 0,
        exact: bool = False,
        monitor: Monitor = SILENT,
    ) -> Outputs:
        """Compute the named outputs of `rows` in one pass over the embeddings; always exact."""
        names = frozenset(names)
        if self._surprisal is not None and names & SURPRISAL:
            return self._surprisal.outputs(self, data, rows, names, seed=seed, exact=exact, monitor=monitor)
        if self.head is None and not names <= self.provides:
            raise NeedError(f"{', '.join(sorted(names - self.provides))} cannot be read before anything is fitted")
        vectors = embedded(data, self._embedder, monitor)
        index = torch.arange(len(data)) if rows is None else rows.cpu()
        device = torch.device("cpu") if self.head is None else self.head.weight.device
        collector = Collector(names, len(index), provides=self.provides, multilabel=data.multilabel, device=device)
        held = {} if device.type != "cpu" else _large_vectors(self.head, vectors, index, collector.gathered)
        if held:
            wanted = collector.gathered - held.keys()
            collector = Collector(wanted, len(index), provides=self.provides, multilabel=data.multilabel, device=device)
        sampled = None  # weights drawn once for all rows, so that sample k is the same function for every row
        if self.head is not None and any("mc_logits" in name for name in collector.raw):
            sampled = self.head.posterior.draw(self.samples, seed)
        zero_shot = self._zero_shot(monitor) if self._zero_shot is not None and ZERO_SHOT in names else None
        width = vectors.width
        per_row = max(width, sampled.bias.numel() if sampled else 0)
        monitor.started("pass", len(index))
        parts = torch.arange(len(index)).split(max(1, _CHUNK // max(1, per_row)))
        for positions in parts if collector.raw or not held else ():  # vectors alone need no pass
            embeddings = vectors.take(index[positions]).to(device)
            collector.put(positions, _computed(self.head, sampled, zero_shot, embeddings, collector.raw))
            monitor.advanced(len(positions))
        monitor.finished()
        return collector.outputs(self.thresholds).extended(held)

    def save(self, folder: Path) -> None:
        """Write `head.safetensors` and `probe.json` into `folder`."""
        if self.head is None:
            raise LearnerError("nothing was fitted yet, so there is nothing to save")
        with replacing(folder) as target:
            save_file(
                {name: value.contiguous().cpu() for name, value in self.head.tensors().items()},
                target / "head.safetensors",
            )
            facts = {"classes": list(self.classes), "multilabel": self.multilabel, "samples": self.samples}
            facts |= {"training_notes": dict(self.training_notes)} if self.training_notes else {}
            (target / "probe.json").write_text(json.dumps(facts, ensure_ascii=False, indent=1), encoding="utf-8")


def embedded(data: Prepared, embedder: Embedder | None, monitor: Monitor = SILENT) -> TensorPrepared:
    """Return the inputs (N, D) of a probe: the embeddings of texts, or the rows themselves without an embedder."""
    if embedder is not None and isinstance(data, TextPrepared):
        return embedder.embed(data, monitor)
    if embedder is None and isinstance(data, TensorPrepared):
        return data
    raise LearnerError("these rows were prepared by another learner: use this learner's prepare")


def fill_embeddings(data: Prepared, embedder: Embedder | None, monitor: Monitor = SILENT) -> dict[str, int]:
    """Embed and store the texts that are not in the cache, and return their number as `Learner.fill_cache` does."""
    if embedder is None or not isinstance(data, TextPrepared):
        return {}
    computed = embedder.fill(data, monitor)
    if data.described is not None:
        computed += embedder.fill(data.described[0], monitor)
    return {"embeddings": computed}


def _large_vectors(
    head: LinearHead | None, vectors: TensorPrepared, rows: Tensor, names: frozenset[str]
) -> dict[str, RowSource]:
    """Those of embeddings and features that are too large for a tensor, as sources that read the vectors of `rows`."""
    embeddings = RowSource(lambda some: vectors.take(some).float(), rows, vectors.width)
    found = {"embeddings": embeddings}
    if head is not None:
        found["features"] = embeddings.mapped(head.features)
    return {name: source for name, source in found.items() if name in names and source.nbytes > row_source.AT_ONCE}


def _computed(
    head: LinearHead | None,
    sampled: Draws | None,
    zero_shot: ZeroShotHead | None,
    embeddings: Tensor,
    names: frozenset[str],
) -> dict[str, Tensor]:
    computed = {"embeddings": embeddings}
    if zero_shot is not None:
        computed[ZERO_SHOT] = zero_shot.logits(embeddings)
    if head is not None:
        features = head.features(embeddings)
        computed |= {"features": features, "logits": head.logits(features)}
        if sampled is not None:
            drawn = sampled.logits(features, computed["logits"])  # (N, K, C)
            # Samples of weights are joint by nature, unlike dropout masks: both names stand for the same tensor.
            computed |= {"mc_logits": drawn, "joint_mc_logits": drawn}
    return {name: value for name, value in computed.items() if name in names}
