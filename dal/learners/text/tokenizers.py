"""From a model's name to tokenized rows."""

from functools import lru_cache
from typing import Any

from transformers import AutoConfig, AutoTokenizer, PreTrainedTokenizerBase

from dal.errors import LearnerError, one_line
from dal.learners.text.tokens import TextPrepared, tokenize

_OFFSET = 2  # positions that these families count past the padding token
_OFFSET_FAMILIES = {"roberta", "xlm-roberta", "camembert", "mpnet", "longformer", "data2vec-text", "xlm-roberta-xl"}


def locate(model: str) -> str:
    """Where to load `model` from: a hub name, a folder, or "package:NAME/FOLDER"."""
    from dal.modules.loading import locate as located

    return located(model)


def load_tokenizer(model: str) -> PreTrainedTokenizerBase:
    """The tokenizer of a model, with a token to pad with.

    Raises:
        LearnerError: there is none, or none to pad with.
    """
    from dal.modules.loading import choose_pad_token

    where = locate(model)
    try:
        tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(where)
    except Exception as error:  # tokenizers raises bare exceptions for damaged files
        raise LearnerError(f"the tokenizer of {model} could not be loaded: {one_line(error)}") from error
    choose_pad_token(tokenizer)
    return tokenizer


def prepare_texts(rows: Any, model: str, max_length: int) -> TextPrepared:
    """The rows of a `dal.data.Rows` as tokens of this model, cut to `max_length` or what the model can read."""
    tokenizer = load_tokenizer(model)
    longest, pads_left = _facts(locate(model))
    longest = min(max_length, longest, tokenizer.model_max_length)
    return tokenize(rows, tokenizer, max_length=longest, pad_left=pads_left)


@lru_cache(maxsize=16)
def _facts(where: str) -> tuple[int, bool]:
    """How many tokens the model can read, and whether it reads a row's last position and so wants padding first."""
    try:
        config = AutoConfig.from_pretrained(where).get_text_config()
    except Exception as error:  # whatever a damaged config.json causes
        raise LearnerError(f"the config of the model {where} could not be loaded: {one_line(error)}") from error
    positions = getattr(config, "max_position_embeddings", None)
    longest = positions if isinstance(positions, int) and positions > 0 else 1 << 30
    if config.model_type in _OFFSET_FAMILIES:
        longest -= _OFFSET
    return longest, config.model_type == "xlnet"
