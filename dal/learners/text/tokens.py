"""Tokenized texts, cached on disk row by row and padded per batch."""

import json
from collections.abc import Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from tokenizers import Tokenizer
from torch import Tensor

from dal.data.class_descriptions import DESCRIPTIONS
from dal.data.columns import TextColumn, TextPairs, wide_digests
from dal.errors import DataError
from dal.learner import Prepared
from dal.learners.text.row_store import Chunk, Digests, Rows, RowStore, StoredRows, digest_key

if TYPE_CHECKING:  # a learner that needs no model starts without Transformers, which take seconds to import
    from transformers import PreTrainedTokenizerBase

_CHUNK = 8192  # texts per call of the tokenizer
_SEGMENT = 8 * _CHUNK  # texts per write
_TYPE_SHIFT = 24  # the token type is stored in the bits above those of the token


class TextPrepared(Prepared):
    """Tokenized texts, stored as one memory map of int32 numbers, and the place of each row in it.

    A batch is `{"input_ids", "attention_mask"}`, int64 (B, T), padded to its longest row, with `"token_type_ids"` if
    any of them is not 0.

    Args:
        stored: tokens of the N rows, with the token type in the highest byte.
        digests: (N, 2) digests of the rows, which address everything that is cached for a row.
        classes: class names.
        multilabel: whether rows may have several classes.
        pad: padding token.
        pad_type: token type of the padding.
        pad_left: whether to pad on the left.
        key: key of the tokenizer and the maximum length, which determine the tokens of a text.
    """

    #: Tokenized class descriptions, and the class of each, (M,) int64; None where the learner does not read them.
    described: "tuple[TextPrepared, Tensor] | None" = None
    #: What these are, for display.
    described_by = DESCRIPTIONS

    def __init__(
        self,
        stored: StoredRows,
        digests: Digests,
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
        self.digests, self.key = digests, key
        self.derived: dict[str, Any] = {}  # results computed from the tokens in this process, such as embeddings
        self._pad, self._pad_type, self._pad_left = pad, pad_type, pad_left
        self._values, self._starts = stored.values[:, 0], stored.starts
        self.lengths = torch.from_numpy(stored.lengths)

    def __len__(self) -> int:
        return len(self._starts)

    def __getstate__(self) -> dict[str, Any]:
        """On the way to another process, what can be computed again stays behind."""
        return {**self.__dict__, "derived": {}}

    def batch(self, rows: Sequence[int]) -> dict[str, Any]:
        """Return the rows, padded to the longest of them."""
        index = np.asarray(rows, dtype=np.int64)
        where, mask = self.layout(index, self._starts)
        values = np.asarray(self._values[where])
        types = values >> _TYPE_SHIFT
        batch = {"input_ids": _padded(values & ((1 << _TYPE_SHIFT) - 1), mask, self._pad)}
        batch["attention_mask"] = torch.from_numpy(mask.astype(np.int64))
        if types.any():
            batch["token_type_ids"] = _padded(types, mask, self._pad_type)
        return batch

    def layout(self, index: Rows, starts: Rows) -> tuple[Rows, NDArray[np.bool_]]:
        """Place of the tokens of some rows in a padded batch.

        Args:
            index: (B,) rows.
            starts: (N,) first item of each row in an array that has an item for each token.

        Returns:
            Indices of the items of the rows, in order, and the mask (B, T) of the columns that they fill.
        """
        lengths = self.lengths.numpy()[index]
        columns = np.arange(int(lengths.max(initial=1)))
        if self._pad_left:
            columns = columns - (len(columns) - lengths)[:, None]
        mask = (columns >= 0) & (columns < lengths[:, None])  # (B, T)
        return (starts[index][:, None] + columns)[mask], mask


def tokenize(
    rows: Any, tokenizer: "PreTrainedTokenizerBase", *, max_length: int, pad_left: bool = False
) -> TextPrepared:
    """Tokenize the rows of a `dal.data.Rows`, or read the tokens of those that are cached.

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
    detail = f"at most {max_length} tokens"
    store = RowStore("tokens", encoder.key, np.int32, ragged=True, model=tokenizer.name_or_path, detail=detail)
    digests = wide_digests(rows.inputs)
    return TextPrepared(
        store.rows(digests, partial(_tokenized, rows.inputs, digests, encoder)),
        digests,
        classes=rows.classes,
        multilabel=rows.multilabel,
        pad=encoder.pad,
        pad_type=tokenizer.pad_token_type_id,
        pad_left=pad_left,
        key=encoder.key,
    )


class _Encoder:
    """Texts to token ids, with the Rust tokenizer where available."""

    def __init__(self, tokenizer: "PreTrainedTokenizerBase", max_length: int) -> None:
        self._tokenizer, self._max_length = tokenizer, max_length
        self._types = "token_type_ids" in tokenizer.model_input_names
        known = (tokenizer.eos_token_id, tokenizer.bos_token_id, tokenizer.pad_token_id, 0)
        self.empty = next(token for token in known if token is not None)
        self.pad = self.empty if tokenizer.pad_token_id is None else tokenizer.pad_token_id
        self.rust: Tokenizer | None = None
        if tokenizer.is_fast:
            self.rust = Tokenizer.from_str(tokenizer.backend_tokenizer.to_str())
            self.rust.no_padding()
            self.rust.enable_truncation(max_length, direction=tokenizer.truncation_side)
            self.rust.encode_special_tokens = True
            written = self.rust.to_str()
        else:
            written = json.dumps([type(tokenizer).__name__, sorted(tokenizer.get_vocab().items())])
        self.key = digest_key("tokens", written, max_length, self._types, self.empty)

    def __call__(self, texts: list[Any]) -> Iterator[tuple[list[int], list[int] | None]]:
        """Yield the token ids of each text, and its token types if the model uses them."""
        if self.rust is not None:
            for encoded in self.rust.encode_batch_fast(texts):
                yield encoded.ids, encoded.type_ids if self._types else None
            return
        for text in texts:
            pair = text if isinstance(text, tuple) else (text,)
            encoded = self._tokenizer(*pair, truncation=True, max_length=self._max_length)
            yield encoded["input_ids"], encoded.get("token_type_ids")


def characters_read(texts: Sequence[str], tokenizer: "PreTrainedTokenizerBase", *, max_length: int) -> list[int | None]:
    """Number of leading characters of each text that are within `max_length` tokens; None where all of them are.

    Also None for tokenizers without a fast version, and for those that drop the beginning of a long text.
    """
    encoder = _Encoder(tokenizer, max_length)
    if encoder.rust is None or tokenizer.truncation_side != "right":
        return [None] * len(texts)
    read: list[int | None] = []
    for encoded in encoder.rust.encode_batch(list(texts)):
        last = max((end for _, end in encoded.offsets), default=0)  # special tokens end at 0
        read.append(last if encoded.overflowing else None)
    return read


def _tokenized(inputs: Any, digests: Digests, encoder: _Encoder, rows: Rows) -> Iterator[Chunk]:
    """Tokens of some rows, with the token type in the highest byte."""
    for start in range(0, len(rows), _SEGMENT):
        segment = rows[start : start + _SEGMENT]
        lengths, flat = [], []
        for first in range(0, len(segment), _CHUNK):
            chosen = segment[first : first + _CHUNK]
            texts = [_checked(text, int(row)) for text, row in zip(_texts(inputs, chosen), chosen, strict=True)]
            for ids, kinds in encoder(texts):
                tokens = np.asarray(ids or [encoder.empty], dtype=np.int32)
                if ids and kinds and any(kinds):
                    tokens = tokens | (np.asarray(kinds, dtype=np.int32) << _TYPE_SHIFT)
                lengths.append(len(tokens))
                flat.append(tokens)
        yield Chunk(digests[segment], np.asarray(lengths, np.int64), np.concatenate(flat)[:, None])


def _texts(inputs: Any, rows: Rows) -> Any:
    """The inputs of some rows."""
    if isinstance(inputs, TextColumn | TextPairs):
        return inputs.take(rows)
    return [inputs[int(row)] for row in rows]


def _checked(text: Any, row: int) -> Any:
    if isinstance(text, str):
        return text
    if isinstance(text, Sequence) and len(text) == 2 and all(isinstance(part, str) for part in text):
        return tuple(text)
    raise DataError(f"row {row} holds {type(text).__name__}, expected a text or a pair of texts")


def _padded(values: NDArray[Any], mask: NDArray[np.bool_], pad: int) -> Tensor:
    out = np.full(mask.shape, pad, dtype=np.int64)
    out[mask] = values
    return torch.from_numpy(out)
