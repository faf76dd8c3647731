"""Tokenized texts: a flat token file on disk, padded per batch."""

import json
import zlib
from collections.abc import Iterator, Sequence
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tokenizers import Tokenizer
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from dal.errors import DataError
from dal.learner import Prepared
from dal.store.atomic_files import read_regular, replacing
from dal.store.cache_folder import cache_folder, verified

_CHUNK = 8192  # texts per call of the tokenizer
_FORMAT = 1  # version of the cache files


class TextPrepared(Prepared):
    """Tokenized texts, stored as one memory map of int32 tokens and the offsets of the rows.

    A batch is `{"input_ids", "attention_mask"}`, int64 (B, T), padded to its longest row, with `"token_type_ids"` if
    the tokenizer returns any other than 0.

    Args:
        folder: folder of the cache files.
        classes: class names.
        multilabel: whether rows may have several classes.
        pad: padding token.
        pad_type: token type of the padding.
        pad_left: whether to pad on the left.
        key: cache key of the tokens, from the rows, the tokenizer and the maximum length.
    """

    #: Tokenized class descriptions, and the class of each, (M,) int64; None where the learner does not read them.
    described: "tuple[TextPrepared, Tensor] | None" = None

    def __init__(
        self,
        folder: Path,
        *,
        classes: Sequence[str],
        multilabel: bool,
        pad: int,
        pad_type: int = 0,
        pad_left: bool = False,
        key: str = "",
    ) -> None:
        self.classes = tuple(classes)
        self.multilabel = multilabel
        self.key = key
        self.derived: dict[str, Any] = {}  # results computed from the tokens in this process, such as embeddings
        self._pad, self._pad_type, self._pad_left = pad, pad_type, pad_left
        self._offsets = np.load(folder / "offsets.npy", allow_pickle=False)  # (N + 1,) int64
        self._tokens = _memory_map(folder / "tokens.int32", np.int32)
        self._types = _memory_map(folder / "types.uint8", np.uint8) if (folder / "types.uint8").exists() else None
        self.lengths = torch.from_numpy(np.diff(self._offsets))

    def __len__(self) -> int:
        return len(self._offsets) - 1

    def batch(self, rows: Sequence[int]) -> dict[str, Any]:
        """Return the rows, padded to the longest of them."""
        index = np.asarray(rows, dtype=np.int64)
        starts = self._offsets[index]
        lengths = self._offsets[index + 1] - starts
        width = int(lengths.max(initial=1))
        columns = np.arange(width)
        if self._pad_left:
            columns = columns - (width - lengths)[:, None]
        mask = (columns >= 0) & (columns < lengths[:, None])  # (B, T)
        where = (starts[:, None] + columns)[mask]
        batch = {"input_ids": _padded(self._tokens, where, mask, self._pad)}
        batch["attention_mask"] = torch.from_numpy(mask.astype(np.int64))
        if self._types is not None:
            batch["token_type_ids"] = _padded(self._types, where, mask, self._pad_type)
        return batch


def tokenize(rows: Any, tokenizer: PreTrainedTokenizerBase, *, max_length: int, pad_left: bool = False) -> TextPrepared:
    """Tokenize the rows of a `dal.data.Rows`, or read their tokens from the cache.

    The spelling of a special token in a text is treated as plain text. A text without tokens becomes a single end,
    start or padding token.

    Args:
        rows: a `dal.data.Rows`.
        tokenizer: tokenizer of the model.
        max_length: maximum number of tokens per row; longer texts are truncated.
        pad_left: whether batches are padded on the left.

    Raises:
        DataError: an input is neither a text nor a pair of texts.
    """
    encoder = _Encoder(tokenizer, max_length)
    key = blake2b(f"{_FORMAT}|{encoder.key}|{rows.fingerprint}".encode(), digest_size=16).hexdigest()
    folder = cache_folder() / "tokens" / key
    if not _intact(folder, len(rows.inputs)):
        _write(folder, rows.inputs, encoder)
        _intact(folder, len(rows.inputs))  # records that the checksums were verified, while the files are in memory
    return TextPrepared(
        folder,
        classes=rows.classes,
        multilabel=rows.multilabel,
        pad=encoder.pad,
        pad_type=tokenizer.pad_token_type_id,
        pad_left=pad_left,
        key=key,
    )


class _Encoder:
    """Texts to token ids, with the Rust tokenizer where available."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, max_length: int) -> None:
        self._tokenizer, self._max_length = tokenizer, max_length
        self._types = "token_type_ids" in tokenizer.model_input_names
        known = (tokenizer.eos_token_id, tokenizer.bos_token_id, tokenizer.pad_token_id, 0)
        self.empty = next(token for token in known if token is not None)
        self.pad = self.empty if tokenizer.pad_token_id is None else tokenizer.pad_token_id
        self._rust: Tokenizer | None = None
        if tokenizer.is_fast:
            self._rust = Tokenizer.from_str(tokenizer.backend_tokenizer.to_str())
            self._rust.no_padding()
            self._rust.enable_truncation(max_length, direction=tokenizer.truncation_side)
            self._rust.encode_special_tokens = True
            written = self._rust.to_str()
        else:
            written = json.dumps([type(tokenizer).__name__, sorted(tokenizer.get_vocab().items())])
        self.key = blake2b(f"{written}|{max_length}|{self._types}|{self.empty}".encode(), digest_size=16).hexdigest()

    def __call__(self, texts: list[Any]) -> Iterator[tuple[list[int], list[int] | None]]:
        """Yield the token ids of each text, and its token types if the model uses them."""
        if self._rust is not None:
            for encoded in self._rust.encode_batch_fast(texts):
                yield encoded.ids, encoded.type_ids if self._types else None
            return
        for text in texts:
            pair = text if isinstance(text, tuple) else (text,)
            encoded = self._tokenizer(*pair, truncation=True, max_length=self._max_length)
            yield encoded["input_ids"], encoded.get("token_type_ids")


def _write(folder: Path, inputs: Sequence[Any], encoder: _Encoder) -> None:
    offsets = np.zeros(len(inputs) + 1, dtype=np.int64)
    checksum, types_checksum, typed = 0, 0, False
    with replacing(folder) as target:
        with (target / "tokens.int32").open("wb") as tokens, (target / "types.uint8").open("wb") as types:
            for start in range(0, len(inputs), _CHUNK):
                texts = [_checked(text, start + i) for i, text in enumerate(inputs[start : start + _CHUNK])]
                encoded = [(ids or [encoder.empty], kinds) for ids, kinds in encoder(texts)]
                offsets[start + 1 : start + 1 + len(texts)] = [len(ids) for ids, _ in encoded]
                flat = np.concatenate([np.asarray(ids, dtype=np.int32) for ids, _ in encoded])
                checksum = zlib.crc32(flat.data, checksum)
                flat.tofile(tokens)
                kinds = np.concatenate([np.asarray(k or [0] * len(ids), dtype=np.uint8) for ids, k in encoded])
                types_checksum = zlib.crc32(kinds.data, types_checksum)
                kinds.tofile(types)
                typed = typed or bool(kinds.any())
        if not typed:
            (target / "types.uint8").unlink()
        np.save(target / "offsets.npy", offsets.cumsum())
        facts = {"rows": len(inputs), "tokens": int(offsets.sum()), "typed": typed, "checksum": checksum}
        facts |= {"types_checksum": types_checksum, "offsets_checksum": zlib.crc32(offsets.cumsum().data)}
        (target / "facts.json").write_text(json.dumps(facts), encoding="utf-8")


def _checked(text: Any, row: int) -> Any:
    if isinstance(text, str):
        return text
    if isinstance(text, Sequence) and len(text) == 2 and all(isinstance(part, str) for part in text):
        return tuple(text)
    raise DataError(f"row {row} holds {type(text).__name__}, expected a text or a pair of texts")


def _intact(folder: Path, rows: int) -> bool:
    """Whether the cache files exist, are undamaged and have this number of rows."""
    try:
        facts = json.loads(read_regular(folder / "facts.json"))
        offsets = np.load(folder / "offsets.npy", allow_pickle=False)
        tokens = _memory_map(folder / "tokens.int32", np.int32)
        types = _memory_map(folder / "types.uint8", np.uint8) if facts["typed"] else tokens
        total = facts["tokens"]
        sizes = (facts["rows"], len(offsets) - 1, len(tokens), len(types), int(offsets[-1]))
        if sizes != (rows, rows, total, total, total) or not bool((np.diff(offsets) > 0).all()):
            return False
        # Caches of earlier versions have a checksum of the tokens only.
        sums = [(facts["checksum"], tokens), (facts.get("offsets_checksum"), offsets)]
        sums += [(facts.get("types_checksum"), types)] if facts["typed"] else []
        return verified(folder, lambda: all(crc is None or zlib.crc32(array.data) == crc for crc, array in sums))
    except (OSError, ValueError, KeyError, TypeError, IndexError, RecursionError, AttributeError):
        return False


def _memory_map(path: Path, kind: Any) -> np.ndarray:
    return np.memmap(path, dtype=kind, mode="r") if path.stat().st_size else np.zeros(0, dtype=kind)


def _padded(values: np.ndarray, where: np.ndarray, mask: np.ndarray, pad: int) -> Tensor:
    out = np.full(mask.shape, pad, dtype=np.int64)
    out[mask] = values[where]
    return torch.from_numpy(out)
