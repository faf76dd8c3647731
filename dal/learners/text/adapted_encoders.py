"""Encoders adapted to the texts of a pool, trained once and kept in the cache."""

import contextlib
import json
import logging
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import astuple, dataclass
from functools import cache
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np
import torch
from filelock import Timeout
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from dal.errors import LearnerError, one_line
from dal.learner import SILENT, Monitor
from dal.learners.text.embeddings import fingerprint
from dal.learners.text.masked_models import MaskedTokenPredictor
from dal.learners.text.masked_training import (
    Adaptation,
    Checkpoint,
    TrainingRecord,
    distinct_rows,
    train_on_masks,
)
from dal.learners.text.row_store import digest_key
from dal.learners.text.tokenizers import load_tokenizer, locate
from dal.learners.text.tokens import TextPrepared
from dal.modules.loading import POOLING, load_classifier, pools_means
from dal.store.atomic_files import replacing
from dal.store.cache_contents import adapted_folder
from dal.store.cache_folder import cache_folder
from dal.store.row_segments import FACTS, locked, mark_used, read_facts

_log = logging.getLogger("dal")

#: Beginning and end of the message that refuses a model.
REFUSED = "adapt cannot be used with"
INSTEAD = (
    "choose an encoder that was published with its head, such as google-bert/bert-base-uncased or "
    "FacebookAI/roberta-base, or leave adapt out"
)

_FORMAT = 1  # version of the files
_TEXTS, _MODEL, _CHECKPOINT = "texts.u128", "model", "checkpoint.safetensors"
_WAIT = 1.0  # seconds between looks at a lock
_KEPT = 0.9  # share of the texts that an encoder saw that must be in a pool that uses it
_SEEN = 0.5  # share of the texts of a pool that an encoder must have seen

Digests = NDArray[np.uint64]


@dataclass(frozen=True)
class AdaptedEncoder:
    """An adapted encoder in the cache.

    Attributes:
        folder: folder in Hugging Face format, for sequence classification with a new head.
        steps: number of steps of the training.
        record: figures of the training.
        unseen: number of different texts of the pool that were not in the pool of the training.
    """

    folder: Path
    steps: int
    record: TrainingRecord
    unseen: int

    @property
    def text(self) -> str:
        """The adaptation and its losses, in one line for the console and the report."""
        record = self.record
        text = (
            f"encoder adapted to {record.texts:,} texts in {self.steps:,} steps, masked-token loss on "
            f"{record.held_out:,} others {record.loss_before:.3f} before and {record.loss_after:.3f} after"
        )
        if record.loss_after >= record.loss_before:
            text += ", which did not fall: leave adapt out, or lower adapt.learning_rate"
        return text + (f"; {self.unseen:,} texts of the pool are new to it" if self.unseen else "")

    @property
    def notes(self) -> dict[str, Any]:
        """The same as JSON values for the round's record."""
        record = self.record
        return {
            "texts": record.texts,
            "held_out": record.held_out,
            "unseen": self.unseen,
            "steps": self.steps,
            "loss_before": record.loss_before,
            "loss_after": record.loss_after,
        }


@dataclass(frozen=True)
class AdaptedEncoders:
    """Finds the encoder that was adapted to the texts of a pool, or trains it.

    It is kept under a digest of the encoder's files, the tokenizer, the recipe and the set of texts. A pool that has
    changed uses the encoder of an earlier pool if at least nine tenths of the texts of that pool are in it, and are at
    least half of it; of several the one that saw most of its texts.

    Args:
        model: hub name, folder, or `package:NAME/FOLDER`.
        recipe: length of the training and its options.
        device: device of the training.
    """

    model: str
    recipe: Adaptation
    device: torch.device

    def of(self, texts: TextPrepared, monitor: Monitor = SILENT) -> AdaptedEncoder:
        """Return the encoder for the texts of a pool, after training and storing it where there is none.

        An interrupted training goes on from its last checkpoint. While another process trains the same encoder, this
        one waits.

        Raises:
            LearnerError: the model cannot be adapted, or the cache cannot be written to.
        """
        found = self.find(texts)
        if found is None:
            digests, _ = distinct_rows(texts)
            folder = self._folder(texts, digests)
            with _alone(folder, monitor):
                if self._read(folder, digests) is None:
                    self._train(folder, texts, digests, monitor)
                found = self._read(folder, digests)
            if found is None:
                raise LearnerError(f"the adapted encoder was removed from {folder} at once: stop what removes it")
        mark_used(found.folder.parent)
        if found.unseen:
            _report_unseen(self.model, found.unseen, len(distinct_rows(texts)[0]))
        return found

    def find(self, texts: TextPrepared) -> AdaptedEncoder | None:
        """The stored encoder for the texts of a pool; None if there is none."""
        digests, _ = distinct_rows(texts)
        own = self._folder(texts, digests)
        found = self._read(own, digests)
        if found is not None:
            return found
        others, recipe = [], self._recipe_key(texts)
        for folder in own.parent.glob("[!.]*"):
            other = self._read(folder, digests) if _has_recipe(folder, recipe) else None
            if other is None:
                continue
            seen, shared = len(_texts_in(folder)), len(digests) - other.unseen
            if shared >= _KEPT * seen and shared >= _SEEN * len(digests):
                others.append((-shared, read_facts(folder)["created"], str(folder), other))
        return min(others)[3] if others else None

    def _recipe_key(self, texts: TextPrepared) -> str:
        """Digest of all that determines the weights, except the texts."""
        return digest_key("adapted", _FORMAT, fingerprint(locate(self.model)), texts.key, *astuple(self.recipe))

    def _folder(self, texts: TextPrepared, digests: Digests) -> Path:
        key = blake2b(self._recipe_key(texts).encode() + digests.tobytes(), digest_size=16).hexdigest()
        return adapted_folder(cache_folder(), key).absolute()

    def _read(self, folder: Path, digests: Digests) -> AdaptedEncoder | None:
        """The encoder in a folder; None if it is missing, unfinished or damaged."""
        try:
            facts = read_facts(folder)
            if facts["done"] < facts["steps"] or "loss_after" not in facts:
                return None
            counts = (int(facts[name]) for name in ("texts", "held_out"))
            losses = (float(facts[name]) for name in ("loss_before", "loss_after"))
            record = TrainingRecord(*counts, *losses)
            with safe_open(folder / _MODEL / "model.safetensors", "pt"):  # checks its length and its header
                pass
            both = np.concatenate([digests, _texts_in(folder)])
            unseen = len(np.unique(both, axis=0)) - (len(both) - len(digests))
        except (OSError, ValueError, KeyError, TypeError, SafetensorError):
            return None
        return AdaptedEncoder(folder / _MODEL, int(facts["steps"]), record, unseen)

    def _train(self, folder: Path, texts: TextPrepared, digests: Digests, monitor: Monitor) -> None:
        """Train the encoder, from its last checkpoint if there is one, and store it. Call it with the lock held."""
        facts: dict[str, Any] = {
            "format": _FORMAT,
            "kind": "adapted",
            "model": self.model,
            "recipe": self._recipe_key(texts),
            "rows": len(digests),
            "steps": self.recipe.steps,
            "created": time.time(),
        }
        if (folder / _MODEL).exists():
            _log.warning("%s is damaged: the encoder is trained again", folder)
        start = _read_checkpoint(folder)
        predictor = MaskedTokenPredictor(self.model, refused=REFUSED, instead=INSTEAD).to(self.device)

        def keep(checkpoint: Checkpoint) -> None:
            losses = {"loss_before": checkpoint.loss_before}
            with _storing(folder), replacing(folder) as target:
                _write_facts(target, facts, digests, checkpoint.steps, losses)
                save_file(dict(checkpoint.tensors), target / _CHECKPOINT)

        record = train_on_masks(
            predictor,
            load_tokenizer(self.model),
            texts,
            self.recipe,
            model=self.model,
            start=start,
            keep=keep,
            monitor=monitor,
        )
        figures = {name: getattr(record, name) for name in ("texts", "held_out", "loss_before", "loss_after")}
        with _storing(folder), replacing(folder) as target:
            _write_facts(target, facts, digests, self.recipe.steps, figures)
            _write_classifier(target / _MODEL, self.model, predictor.model)
        if record.loss_after >= record.loss_before:
            _log.warning(
                "adapt did not lower the masked-token loss of %s (%.3f before, %.3f after): leave it out, or lower "
                "adapt.learning_rate",
                self.model,
                record.loss_before,
                record.loss_after,
            )


def shown_model(where: str) -> str:
    """Name of a model for display: that of the adapted model if `where` is a folder of the cache."""
    folder = Path(where).parent
    if Path(where).name == _MODEL and folder.parent == adapted_folder(cache_folder(), "").absolute():
        with contextlib.suppress(OSError, ValueError, KeyError):
            facts = read_facts(folder)
            return f"{facts['model']}, {facts['detail']}"
    return where


@cache  # once per process
def _report_unseen(model: str, unseen: int, pool: int) -> None:
    _log.warning(
        "%s was adapted to an earlier pool: %s of %s texts are new to it, and it is used as it is",
        model,
        f"{unseen:,}",
        f"{pool:,}",
    )


def _has_recipe(folder: Path, recipe: str) -> bool:
    """Whether an encoder differs from the wanted one at most in its texts."""
    try:
        return bool(read_facts(folder)["recipe"] == recipe)
    except (OSError, ValueError, KeyError):
        return False


def _texts_in(folder: Path) -> Digests:
    """Digests (n, 2) of the texts that were in the pool of a training."""
    found: Digests = np.fromfile(folder / _TEXTS, np.uint64).reshape(-1, 2)
    return found


def _write_facts(
    target: Path, facts: Mapping[str, Any], digests: Digests, done: int, figures: Mapping[str, Any]
) -> None:
    detail = f"adapted in {facts['steps']} steps"
    if done < facts["steps"] or "loss_after" not in figures:
        detail = f"not finished, {done} of {facts['steps']} steps"
    content = {**facts, "detail": detail, "done": done, **figures}
    (target / FACTS).write_text(json.dumps(content, ensure_ascii=False), encoding="utf-8")
    digests.tofile(target / _TEXTS)


def _read_checkpoint(folder: Path) -> Checkpoint | None:
    """The last checkpoint of an unfinished training; None if there is none, or it is damaged."""
    try:
        facts = read_facts(folder)
        with safe_open(folder / _CHECKPOINT, "pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  # it is not a dict
        return Checkpoint(int(facts["done"]), float(facts["loss_before"]), tensors)
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
        _log.warning("%s is damaged, and the training begins again: %s", folder, one_line(error))
        return None


def _write_classifier(target: Path, model: str, trained: Any) -> None:
    """Write a folder from which classifiers start: the checkpoint with the trained weights in place of its own.

    Weights of the checkpoint that masked-language models do not have, such as a pooler, are kept. The head, which the
    checkpoint lacks, is left out, so that it is new where the folder is loaded.

    Raises:
        LearnerError: the classifier has not all of the trained layers.
    """
    where = locate(model)
    classifier, new = load_classifier(model)
    adapted: dict[str, Tensor] = trained.state_dict()
    state = {name: value for name, value in classifier.state_dict().items() if name not in new}
    lost = [name for name in adapted if name.startswith(f"{trained.base_model_prefix}.") and name not in state]
    if lost:
        raise LearnerError(f"{REFUSED} {model}: a classifier of this kind has no {lost[0]}; {INSTEAD}")
    state |= {name: adapted[name] for name in state if name in adapted}
    target.mkdir()
    from transformers import AutoConfig

    AutoConfig.from_pretrained(where).save_pretrained(target)
    save_file(
        {name: value.detach().cpu().clone().contiguous() for name, value in state.items()},
        target / "model.safetensors",
        {"format": "pt"},
    )
    if pools_means(model):
        (target / POOLING).parent.mkdir()
        (target / POOLING).write_text('{"pooling_mode_mean_tokens": true}', encoding="utf-8")


@contextmanager
def _storing(folder: Path) -> Iterator[None]:
    """Context manager that converts an error while writing to the cache into a one-line `LearnerError`."""
    try:
        yield
    except Timeout:
        raise
    except (OSError, SafetensorError) as error:
        raise LearnerError(
            f"the adapted encoder cannot be stored in {folder}: {one_line(error)}; set DAL_CACHE to a folder that can "
            "be written to and has room"
        ) from error


@contextmanager
def _alone(folder: Path, monitor: Monitor) -> Iterator[None]:
    """Hold the lock of a folder during the block, after waiting for the process that holds it."""
    with ExitStack() as stack:
        waits = False
        while True:
            try:
                with _storing(folder):
                    stack.enter_context(locked(folder, _WAIT))
                break
            except Timeout:
                if not waits:
                    _log.warning("another process trains the encoder in %s: waiting for it", folder)
                waits = True
                monitor.advanced(0)  # so that Ctrl-C ends the wait
        yield
