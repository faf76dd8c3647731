"""Embeddings of texts by a pretrained encoder, cached on disk row by row."""

import io
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext, redirect_stderr
from dataclasses import dataclass
from functools import lru_cache, partial
from hashlib import blake2b
from inspect import signature
from pathlib import Path
from typing import Any, Literal, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from dal.errors import LearnerError, one_line, shortened
from dal.learner import SILENT, Monitor
from dal.learners.collector import Collector
from dal.learners.inference import Precision, reduces, run_pass
from dal.learners.text.row_store import Chunk, Rows, RowStore, digest_key
from dal.learners.text.tokenizers import locate, source_of
from dal.learners.text.tokens import TextPrepared
from dal.learners.training.devices import device_of
from dal.learners.training.tensor_rows import TensorPrepared
from dal.monitor import JoinedPasses

EMBEDDINGS = frozenset({"embeddings"})

_Collected = TypeVar("_Collected", bound=Collector)

#: Types other than float32 in which embeddings may be cached.
CachedAs = Literal["float16"]

_CHUNK = 8192  # rows per write, at most as many are lost by a kill
_MANY = 65_536  # rows whose moments are stored
_WEIGHTS = (".safetensors", ".bin", ".json")


@dataclass(frozen=True)
class Embedder:
    """Masked means of the last layer of a pretrained encoder, cached by weights, tokens, pooling and precision.

    Args:
        model: hub name, folder or GGUF file, as `dal.learners.text.tokenizers.locate` returns it.
        precision: precision of the encoder; "auto" is bfloat16 where the hardware supports it.
        token_budget: tokens per batch, padding included.
        device: device of the encoder.
        cached_as: type of the numbers in the cache: "float16" takes half the space; None for float32.
    """

    model: str
    precision: Precision
    token_budget: int
    device: torch.device
    cached_as: CachedAs | None = None

    @classmethod
    def of(cls, recipe: Any) -> "Embedder":
        """Return the embedder of a learner with the options of an encoder: `model`, `precision` and the others."""
        where, device = locate(recipe.model), device_of(recipe.device)
        return cls(where, recipe.precision, recipe.token_budget, device, recipe.cached_as)

    def embed(self, texts: TextPrepared, monitor: Monitor = SILENT) -> TensorPrepared:
        """Return the embeddings (N, E) of the texts, memory-mapped in float32 or float16; read rows are float32.

        Only texts that are not in the cache are embedded, equal ones once. A vector depends on the other texts of its
        batch only in the last bits of its numbers, and is stored once: every later reading gives the same bits.
        """
        key = self._key(texts)
        if key not in texts.derived:
            store = self._store(key)
            stored = store.rows(texts.digests, partial(self._computed, texts, monitor))
            vectors, index = torch.from_numpy(stored.values), torch.from_numpy(stored.starts)
            in_order = len(index) and bool((index[1:] - index[:-1] == 1).all())
            if in_order:  # a part of the file, with nothing to copy
                vectors = vectors[int(index[0]) : int(index[-1]) + 1]
            # Kept with the texts, so that the moments of the vectors are computed once per process.
            texts.derived[key] = _Embeddings(vectors, texts, None if in_order else index, store)
        embeddings: TensorPrepared = texts.derived[key]
        return embeddings

    def fill(self, texts: TextPrepared, monitor: Monitor = SILENT) -> int:
        """Embed and store the texts that are not in the cache, and return their number, equal ones counted once.

        When the monitor interrupts it, the batches that are done are stored. Those of a later call then differ from
        those of an uninterrupted one, and with them the last bits of the vectors.

        Raises:
            LearnerError: the embeddings cannot be stored.
        """
        store = self._store(self._key(texts))
        missing = len(store.missing(texts.digests))
        compute = partial(self._computed, texts, monitor, keep_unfinished=True)
        store.rows(texts.digests, compute, in_memory=False)
        return missing

    def _key(self, texts: TextPrepared) -> str:
        kept = () if self.cached_as is None else (self.cached_as,)
        return digest_key("embeddings", fingerprint(self.model), texts.key, "masked mean", self._computed_in, *kept)

    def _store(self, key: str) -> RowStore:
        detail = f"masked mean, {self._computed_in}{'' if self.cached_as is None else f', kept in {self.cached_as}'}"
        dtype = self.cached_as or "float32"
        return RowStore("embeddings", key, dtype, ragged=False, model=self.model, detail=detail)

    @property
    def _computed_in(self) -> Precision:
        return "bfloat16" if reduces(self.device, self.precision) else "float32"

    def _computed(
        self, texts: TextPrepared, monitor: Monitor, rows: Rows, *, keep_unfinished: bool = False
    ) -> Iterator[Chunk]:
        encoder = _Encoder(self.model).to(self.device)

        def collector(chosen: Rows) -> Collector:
            return Collector(EMBEDDINGS, len(chosen), provides=EMBEDDINGS, multilabel=False, device=encoder.device)

        yield from computed_chunks(
            encoder,
            texts,
            np.split(rows, range(_CHUNK, len(rows), _CHUNK)),
            collector,
            partial(self._chunk, texts),
            token_budget=self.token_budget,
            precision=self.precision,
            keep_unfinished=keep_unfinished,
            monitor=monitor,
        )

    def _chunk(self, texts: TextPrepared, rows: Rows, collector: Collector) -> Chunk:
        """The vectors of those of the rows that are finished.

        Raises:
            LearnerError: they are NaN or infinite, and would fail in every run if they were stored.
        """
        done = collector.finished.numpy()
        vectors = collector.outputs().embeddings.cpu().numpy()[done]
        if bad := int((~np.isfinite(vectors)).any(1).sum()):
            remedy = "another model" if self._computed_in == "float32" else "precision: float32, or another model"
            raise LearnerError(
                f"embeddings of {self.model} are NaN or infinite for {bad:,} of {len(vectors):,} texts: use {remedy}"
            )
        if self.cached_as is not None:
            if np.abs(vectors).max(initial=0) > np.finfo(self.cached_as).max:
                raise LearnerError(f"embeddings of {self.model} exceed the range of float16: leave cached_as out")
            vectors = vectors.astype(self.cached_as)
        return Chunk(texts.digests[rows[done]], np.ones(len(vectors), np.int64), vectors)


def computed_chunks(
    network: nn.Module,
    texts: TextPrepared,
    parts: Sequence[Rows],
    collector: Callable[[Rows], _Collected],
    chunk: Callable[[Rows, _Collected], Chunk],
    *,
    token_budget: int,
    precision: Precision,
    keep_unfinished: bool,
    monitor: Monitor,
) -> Iterator[Chunk]:
    """Run a pass for each part of the rows, and return what it has collected.

    Args:
        network: network of the passes.
        texts: tokenized texts.
        parts: indices of the rows of each pass.
        collector: function that returns the collector of a pass over some rows.
        chunk: function that returns the values of those of the rows that the collector has finished.
        token_budget: initial number of tokens per batch.
        precision: precision of the network.
        keep_unfinished: whether the rows finished before an error or an interruption are returned first.
        monitor: receives the progress of all passes as that of one.
    """
    progress = JoinedPasses(monitor, sum(map(len, parts)))
    for rows in parts:
        collected = collector(rows)
        try:
            run_pass(
                network,  # type: ignore[arg-type]
                texts,
                torch.from_numpy(rows),
                token_budget=token_budget,
                precision=precision,
                collector=collected,
                monitor=progress,
            )
        except BaseException:  # Ctrl-C among others
            if keep_unfinished and bool(collected.finished.any()):
                yield chunk(rows, collected)
            raise
        yield chunk(rows, collected)
    progress.close()


class _Embeddings(TensorPrepared):
    """Embeddings of texts, whose moments are stored next to them where computing them takes long.

    Args:
        vectors, index: as in `TensorPrepared`.
        texts: the texts.
        store: store of the vectors.
    """

    def __init__(self, vectors: Tensor, texts: TextPrepared, index: Tensor | None, store: RowStore) -> None:
        super().__init__(vectors, texts.classes, texts.multilabel, index)
        self._digests, self._store = texts.digests, store

    def _moments(self) -> tuple[Tensor, Tensor]:
        compute = super()._moments
        if len(self) < _MANY:
            return compute()
        mean, scale = self._store.summary("moments", self._digests, lambda: torch.stack(compute()).numpy())
        return torch.from_numpy(mean), torch.from_numpy(scale)


class _Encoder(nn.Module):
    """The pretrained part of a model, with the interface that `run_pass` requires."""

    def __init__(self, model: str) -> None:
        super().__init__()
        from transformers import AutoModel

        # A pooler missing in the checkpoint is initialised at random, but not used.
        where, more = source_of(model)
        hidden = redirect_stderr(io.StringIO()) if more else nullcontext()  # the bar of GGUF files has no switch
        with refusing_encoder(model), torch.random.fork_rng(devices=[]), quiet(), hidden:
            loaded, info = AutoModel.from_pretrained(where, dtype=torch.float32, output_loading_info=True, **more)
            count = sum(1 for _ in loaded.named_parameters())
            if (missing := len(info["missing_keys"])) > count / 2:
                raise ValueError(f"it holds only {count - missing} of the {count} weights required by its config")
            for name, weight in loaded.named_parameters():
                if not bool(torch.isfinite(weight).all()):
                    raise ValueError(f"the weights {name} are NaN or infinite")
            self.encoder = loaded.get_encoder() if loaded.config.is_encoder_decoder else loaded
        self._accepted = frozenset(signature(self.encoder.forward).parameters)

    @property
    def device(self) -> torch.device:
        return next(self.parameters()).device

    def compute(
        self, batch: Mapping[str, Tensor], names: Iterable[str], *, samples: int, generator: torch.Generator
    ) -> dict[str, Tensor]:
        inputs: dict[str, Any] = {name: value for name, value in batch.items() if name in self._accepted}
        hidden = self.encoder(**inputs).last_hidden_state.float()  # (B, T, E)
        mask = batch["attention_mask"][:, :, None].to(hidden.dtype)
        return {"embeddings": (hidden * mask).sum(1) / mask.sum(1).clamp_min(1)}


@contextmanager
def refusing_encoder(model: str) -> Iterator[None]:
    """Context manager that converts any error while reading an encoder's files into a one-line `LearnerError`."""
    try:
        yield
    except LearnerError:
        raise
    except Exception as error:  # reading a damaged checkpoint may raise any exception
        raise LearnerError(f"the encoder {shortened(model, 120)} could not be loaded: {one_line(error)}") from error


@contextmanager
def quiet() -> Iterator[None]:
    """Context manager that silences progress bars and warnings of transformers about unused weights."""
    from transformers.utils import logging

    verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()


def fingerprint(model: str) -> str:
    """Return a hash of the weights and config in a model folder or GGUF file, or in the local cache of a hub model.

    Raises:
        LearnerError: the model does not exist, or its files cannot be read.
    """
    where, more = source_of(model)
    folder, name = Path(where), more.get("gguf_file", "config.json")
    with refusing_encoder(model):
        if not folder.is_dir():
            from transformers.utils.hub import cached_file

            found = cached_file(where, name)
            assert found is not None
            folder = Path(found).parent
        weights = (path for path in folder.iterdir() if path.suffix in _WEIGHTS and path.is_file())
        files = [folder / name] if more else sorted(weights)
        return _digest(tuple((str(path), path.stat().st_size, path.stat().st_mtime_ns) for path in files))


@lru_cache(maxsize=64)
def _digest(files: tuple[tuple[str, int, int], ...]) -> str:
    digest = blake2b(digest_size=16)
    for name, size, _ in files:
        digest.update(f"{Path(name).name}|{size}|".encode())
        with Path(name).open("rb") as file:
            while block := file.read(1 << 22):
                digest.update(block)
    return digest.hexdigest()
