"""Hidden states of the tokens under the lower layers of an encoder, computed once per text and kept on disk."""

import logging
import shutil
from collections.abc import Iterator, Sequence
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dal.data.class_descriptions import DESCRIPTIONS
from dal.errors import LearnerError
from dal.learner import SILENT, Monitor, Prepared
from dal.learners.collector import Collector
from dal.learners.text.adapted_encoders import shown_model
from dal.learners.text.embeddings import computed_chunks, fingerprint, refusing_encoder
from dal.learners.text.row_store import Chunk, Rows, RowStore, StoredRows, digest_key, items_of
from dal.learners.text.tokens import TextPrepared
from dal.modules.cached_trunk import STATES, LowerLayers

_log = logging.getLogger("dal")

_CHUNK = 2048  # texts per write
_SPARE = 256 * 2**20  # bytes that stay free on the disk
_LARGE = 2**30  # bytes that are worth a warning


class StatesPrepared(Prepared):
    """Stored hidden states of some rows of texts.

    A batch is `{"inputs_embeds"}`, (B, T, W) float16, zero where padded, and `"attention_mask"`, int64 (B, T).

    Args:
        texts: all N rows.
        values: states of tokens, (items, W) float16.
        starts: (N,) first item of each row; -1 for rows whose states were not asked for.
    """

    #: States of the class descriptions, and the class of each, (M,) int64; None where no fit reads them.
    described: "tuple[StatesPrepared, Tensor] | None" = None
    #: What these are, for display.
    described_by = DESCRIPTIONS

    def __init__(self, texts: TextPrepared, values: NDArray[np.float16], starts: Rows) -> None:
        self.classes, self.multilabel, self.lengths = texts.classes, texts.multilabel, texts.lengths
        self._texts, self._values, self._starts = texts, values, starts

    def __len__(self) -> int:
        return len(self._texts)

    def batch(self, rows: Sequence[int]) -> dict[str, Any]:
        """Return the rows, padded to the longest of them."""
        index = np.asarray(rows, dtype=np.int64)
        assert len(index) == 0 or self._starts[index].min() >= 0
        where, mask = self._texts.layout(index, self._starts)
        states = np.zeros((*mask.shape, self._values.shape[1]), np.float16)
        states[mask] = self._values[where]
        return {STATES: torch.from_numpy(states), "attention_mask": torch.from_numpy(mask.astype(np.int64))}


class TokenStates:
    """Computes and stores hidden states with the lower layers of a pretrained model, in float32, kept in float16.

    Args:
        model: hub name or folder.
        upper: number of upper layers, which do not belong to the lower ones.
        token_budget: tokens per batch, padding included.
        device: device of the lower layers.
    """

    def __init__(self, model: str, upper: int, token_budget: int, device: torch.device) -> None:
        self._model, self._upper, self._token_budget, self._device = model, upper, token_budget, device

    @property
    def digest(self) -> str:
        """Digest of the lower layers, which is that of `UpperLayers` on top of them."""
        return self._facts[0]

    @property
    def lower(self) -> int:
        """Number of lower layers."""
        return self._facts[2]

    @property
    def _facts(self) -> tuple[str, int, int]:
        return _facts_of(self._model, fingerprint(self._model), self._upper)

    def of(self, data: Prepared, rows: Tensor, monitor: Monitor = SILENT, *, described: bool = False) -> StatesPrepared:
        """Return the states of `rows` (n,), after computing and storing those that are missing.

        Args:
            data: prepared rows.
            rows: (n,) int64.
            monitor: receives the progress.
            described: whether to return the states of the class descriptions, too.

        Raises:
            LearnerError: the rows are not texts of this learner, or the disk has not enough room.
        """
        if isinstance(data, StatesPrepared):
            return data
        if not isinstance(data, TextPrepared):
            raise LearnerError("these rows were prepared by another learner: use this learner's prepare")
        index = rows.cpu().numpy()
        stored, _ = self._stored(data, index, monitor)
        starts = np.full(len(data), -1, np.int64)
        starts[index] = stored.starts
        states = StatesPrepared(data, stored.values, starts)
        if described and data.described is not None:
            texts, classes = data.described
            states.described_by = data.described_by
            states.described = self.of(texts, torch.arange(len(texts)), monitor), classes
        return states

    def fill(self, texts: TextPrepared, monitor: Monitor = SILENT) -> int:
        """Compute and store the states of all texts that are missing, and return their number, equal ones counted once.

        When the monitor interrupts it, the batches that are done are stored.

        Raises:
            LearnerError: the disk has not enough room.
        """
        return self._stored(texts, np.arange(len(texts)), monitor, keep_unfinished=True)[1]

    def _stored(
        self, texts: TextPrepared, index: Rows, monitor: Monitor, *, keep_unfinished: bool = False
    ) -> tuple[StoredRows, int]:
        """The states of the rows `index` (n,), and how many were missing."""
        digest, width, _ = self._facts
        detail = f"below the upper {self._upper} layers"
        key = digest_key("states", digest, texts.key)
        store = RowStore("states", key, np.float16, ragged=True, model=shown_model(self._model), detail=detail)
        digests = texts.digests[index]
        missing = index[store.missing(digests)]
        if len(missing):
            _require_room(store.folder, len(missing), int(texts.lengths.numpy()[missing].sum()), width)
        compute = partial(self._computed, texts, index, monitor, keep_unfinished)
        return store.rows(digests, compute, in_memory=False), len(missing)

    def _computed(
        self, texts: TextPrepared, index: Rows, monitor: Monitor, keep_unfinished: bool, missing: Rows
    ) -> Iterator[Chunk]:
        with refusing_encoder(self._model):
            lower = LowerLayers(self._model, self._upper).to(self._device)
        rows = index[missing]
        yield from computed_chunks(
            lower,
            texts,
            np.split(rows, range(_CHUNK, len(rows), _CHUNK)),
            lambda part: _StateCollector(texts.lengths.numpy()[part], lower.width),
            partial(self._chunk, texts),
            token_budget=self._token_budget,
            precision="float32",
            keep_unfinished=keep_unfinished,
            monitor=monitor,
        )

    def _chunk(self, texts: TextPrepared, rows: Rows, gathered: "_StateCollector") -> Chunk:
        """The states of those of the rows that are finished."""
        done = gathered.finished.numpy()
        lengths = texts.lengths.numpy()[rows]
        values = gathered.values if done.all() else gathered.values[np.repeat(done, lengths)]
        if not np.isfinite(values).all():
            raise LearnerError(
                f"hidden states of {self._model} exceed the range of float16: use it without trunk: cached"
            )
        return Chunk(texts.digests[rows[done]], lengths[done], values)


class _StateCollector(Collector):
    """Collects the states of the real tokens of n rows in one array, (sum of lengths, W) float16."""

    def __init__(self, lengths: Rows, width: int) -> None:
        super().__init__((), len(lengths), provides=(), multilabel=False)
        self.values = np.zeros((int(lengths.sum()), width), np.float16)
        self._starts, self._lengths = np.cumsum(lengths) - lengths, lengths

    def put(self, index: Tensor, computed: Any) -> None:
        """Store the states of a batch of the rows `index` (B,)."""
        states = computed["states"][computed["real"]].cpu().numpy()  # (sum of their lengths, W), row by row
        with np.errstate(over="ignore"):  # the range is checked when all rows are there
            self.values[self._items(index)] = states
        self.finished[index] = True

    def part(self, positions: Tensor) -> "_StateCollector":
        """Return an empty collector for some of the rows."""
        return _StateCollector(self._lengths[positions.numpy()], self.values.shape[1])

    def add(self, positions: Tensor, part: Any) -> None:
        """Store the states that a `part` has collected."""
        self.values[self._items(positions)] = part.values
        self.finished[positions] = True

    def _items(self, index: Tensor) -> Rows:
        """Items of some rows."""
        return items_of(self._starts[index.numpy()], self._lengths[index.numpy()])


@lru_cache(maxsize=16)
def _facts_of(model: str, version: str, upper: int) -> tuple[str, int, int]:
    """Digest, width and number of the lower layers of a model. `version` is the fingerprint of its files."""
    with refusing_encoder(model):
        lower = LowerLayers(model, upper)
    return lower.digest, lower.width, lower.count


def _require_room(folder: Path, rows: int, tokens: int, width: int) -> None:
    """State the size of new states, and check that the disk has room for them.

    Raises:
        LearnerError: it has not.
    """
    size = 2 * width * tokens
    text = f"token states of {rows:,} texts take {_shown(size)} on disk ({tokens:,} tokens x {width} numbers x 2 bytes)"
    exists = next(path for path in (folder, *folder.parents) if path.exists())
    free = shutil.disk_usage(exists).free
    if size + _SPARE > free:
        raise LearnerError(
            f"{text}, but {exists} has only {_shown(free)} free: score a random part of the pool (candidates), lower "
            "max_length, remove old entries (dal cache --trim), set DAL_CACHE to a folder on a larger disk, or leave "
            "trunk: cached out"
        )
    _log.log(logging.WARNING if size > _LARGE else logging.INFO, "%s, in %s", text, folder)


def _shown(size: int) -> str:
    return f"{size / 10**9:.1f} GB" if size >= 10**9 else f"{size / 10**6:.1f} MB"
