"""Load the tokenizer of a model by name, and tokenize rows for it."""

from collections.abc import Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import torch

from dal.data import Rows
from dal.data.class_descriptions import description_kind
from dal.errors import LearnerError, one_line, require
from dal.learners.text.tokens import TextPrepared, characters_read, tokenize

if TYPE_CHECKING:  # a learner that needs no model starts without Transformers, which take seconds to import
    from transformers import PreTrainedTokenizerBase

_OFFSET = 2  # positions that these model families reserve: they number positions from the padding token on
_OFFSET_FAMILIES = {"roberta", "xlm-roberta", "camembert", "mpnet", "longformer", "data2vec-text", "xlm-roberta-xl"}


def locate(model: str) -> str:
    """Return the hub name or folder from which to load `model`, which may also be "package:NAME/FOLDER".

    A name that ends in `/FILE.gguf` denotes a GGUF file in the folder before it: the file is returned.
    """
    from dal.modules.loading import locate as located

    folder, slash, file = str(model).rpartition("/")
    return f"{located(folder, file)}/{file}" if slash and file.endswith(".gguf") else located(model)


def source_of(where: str) -> tuple[str, dict[str, str]]:
    """Return the hub name or folder of a result of `locate`, and further arguments for `from_pretrained`.

    Raises:
        MissingExtraError: it is a GGUF file, and a package to read GGUF files is not installed.
    """
    folder, _, file = where.rpartition("/")
    if not file.endswith(".gguf"):
        return where, {}
    require("gguf", "local")
    require("accelerate", "local")
    return folder, {"gguf_file": file}


def load_tokenizer(model: str) -> "PreTrainedTokenizerBase":
    """Load the tokenizer of a model and make sure that it has a padding token.

    Raises:
        LearnerError: the tokenizer cannot be loaded, or has no token usable for padding.
    """
    from transformers import AutoTokenizer

    from dal.modules.loading import choose_pad_token

    where, more = source_of(locate(model))
    try:
        tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(where, **more)
    except Exception as error:  # the tokenizers package raises a bare Exception for damaged files
        raise LearnerError(f"the tokenizer of {model} could not be loaded: {one_line(error)}") from error
    choose_pad_token(tokenizer)
    return tokenizer


def prepare_texts(rows: Any, model: str, max_length: int) -> TextPrepared:
    """Tokenize the rows of a `dal.data.Rows` for a model, truncated to `max_length` and the model's own limit."""
    tokenizer = load_tokenizer(model)
    _, pads_left = _facts(locate(model))
    return tokenize(rows, tokenizer, max_length=_longest(tokenizer, model, max_length), pad_left=pads_left)


def read_characters(texts: Sequence[str], model: str, max_length: int) -> list[int | None]:
    """Number of leading characters of each text that a model reads; None where it reads the whole text.

    Args:
        texts: n texts.
        model, max_length: as for `prepare_texts`.
    """
    tokenizer = load_tokenizer(model)
    return characters_read(texts, tokenizer, max_length=_longest(tokenizer, model, max_length))


def _longest(tokenizer: "PreTrainedTokenizerBase", model: str, max_length: int) -> int:
    """Number of tokens to which texts are truncated: `max_length`, or the limit of the model or its tokenizer."""
    return min(max_length, _facts(locate(model))[0], tokenizer.model_max_length)


def prepare_described_texts(rows: Any, model: str, max_length: int) -> TextPrepared:
    """Tokenize the rows of a `dal.data.Rows`, and the descriptions of its classes as `described`, if it has any."""
    prepared = prepare_texts(rows, model, max_length)
    texts = [(text, code) for code, given in enumerate(rows.descriptions) for text in given]
    if texts:
        descriptions = Rows.from_inputs([text for text, _ in texts], classes=rows.classes)
        tokens = prepare_texts(descriptions, model, max_length)
        prepared.described = tokens, torch.tensor([code for _, code in texts])
        prepared.described_by = description_kind(rows.described, rows.descriptions)
    return prepared


@lru_cache(maxsize=16)
def _facts(where: str) -> tuple[int, bool]:
    """The maximum number of tokens of a model, and whether it needs left padding to read the last position."""
    from transformers import AutoConfig

    source, more = source_of(where)
    try:
        config = AutoConfig.from_pretrained(source, **more).get_text_config()
    except Exception as error:  # a damaged config.json may raise any exception
        raise LearnerError(f"the config of the model {where} could not be loaded: {one_line(error)}") from error
    positions = getattr(config, "max_position_embeddings", None)
    longest = positions if isinstance(positions, int) and positions > 0 else 1 << 30
    if config.model_type in _OFFSET_FAMILIES:
        longest -= _OFFSET
    return longest, config.model_type == "xlnet"
