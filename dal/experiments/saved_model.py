"""A model on its own: saved from a folder with its labels and rows, and loaded where these are not."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import torch

from dal.config import allowed_code as importing
from dal.config.build import build
from dal.config.settings_tree import Override, node_of
from dal.config.stored import describe
from dal.data.columns import TextPairs
from dal.data.rows import Rows
from dal.errors import ConfigError, LearnerError
from dal.experiments.model_card import model_card
from dal.experiments.text_predictions import Predictions, Texts, no_predictions, predictions_of, rows_like
from dal.learner import SILENT, Learner, Monitor, Predictor, recorded_outputs
from dal.learners.training.saved_files import read_facts, refuse_code, refusing_damage
from dal.store.atomic_files import named, replacing, write_whole
from dal.store.run_folder import SAVED_MODEL

if TYPE_CHECKING:
    from dal.experiments.stored_model import StoredModel

_FORMAT = 1
#: Learners whose models, or those of whose members, need something that is no file -> the reason and the remedy.
_UNSAVABLE = {
    "LLMLearner": "a language model that is prompted has nothing to save: use its folder, or `dal predict` there",
    "ModuleLearner": "{name} builds its network by code of yours, which a saved model must not run: save the weights "
    "with `model.predictor.save(folder)`",
}
_HERE = "."  # stands for the folder of the model, where its tokenizer is
_KINDS: Mapping[str, type | tuple[type, ...]] = {
    "format": int,
    "learner": dict,
    "classes": list,
    "multilabel": bool,
    "pairs": bool,
    "described": list,
    "description_template": str,
    "temperature": (int, float),
    "columns": dict,
    "trust": str,
}


@dataclass(frozen=True)
class _Recipe:
    """What a saved model names of its learner."""

    learner: Learner


def is_saved_model(folder: Path) -> bool:
    """Whether `save_model` wrote the folder."""
    return (folder / SAVED_MODEL).is_file()


def check_target(folder: Path, *, force: bool) -> None:
    """Check that a model may be saved to a folder.

    Raises:
        ConfigError: the folder exists and holds something else than a saved model, or one that must not be replaced.
    """
    if not folder.exists() or not any(folder.iterdir() if folder.is_dir() else [folder]):
        return
    if not is_saved_model(folder):
        raise ConfigError(f"{named(folder)} already exists, and is no saved model: choose another name")
    if not force:
        raise ConfigError(
            f"{named(folder)} already holds a saved model: choose another name, or replace it (--force; in Python "
            "force=True)"
        )


def save_model(model: "StoredModel", folder: str | PathLike[str], *, force: bool = False) -> Path:
    """Write a model to a folder of its own, which neither holds nor needs the rows and labels it was trained on.

    A transformer becomes a Hugging Face folder; other models are safetensors and JSON files. `dal_model.json` holds the
    settings of the learner, the classes, the temperature and the names of the columns, and `README.md` is a model card.
    An encoder that is not trained, such as that of a probe, is named and not copied.

    Args:
        model: the model of a folder of `dal ask`, `dal run` or `dal compare`.
        folder: folder to write, whole or not at all.
        force: replace a folder that holds a saved model.

    Returns:
        The folder.

    Raises:
        ConfigError: the folder exists, or this kind of model cannot be saved.
        SessionError: nothing is labeled yet.
    """
    target = Path(folder)
    check_target(target, force=force)
    learner = model.session.learner
    _require_savable(learner)
    if not model.session.trains:
        raise ConfigError(
            f"{model.place.folder}: nothing is labeled yet, so there is no trained model to save; label texts first"
        )
    pool, data = model.session.pool, model.place.experiment.data
    recipe = {
        "format": _FORMAT,
        "learner": _settings(learner),
        "classes": list(model.classes),
        "multilabel": model.multilabel,
        "pairs": isinstance(pool.inputs, TextPairs),
        "described": [list(texts) for texts in pool.described],
        "description_template": pool.description_template,
        "temperature": model.temperature,
        "columns": {name: getattr(data, name, None) for name in ("text", "text_pair", "id")},
        "trust": model.trust,
    }
    card = model_card(model, _settings(learner))
    with replacing(target) as new:
        model.predictor.save(new)
        write_whole(new / SAVED_MODEL, json.dumps(recipe, ensure_ascii=False, indent=1) + "\n")
        write_whole(new / "README.md", card)
    return target


def _require_savable(learner: Learner) -> None:
    """Raise ConfigError for a learner that is, or whose members are, one of `_UNSAVABLE`, also a subclass of it."""
    inner = getattr(learner, "learner", None)
    if isinstance(inner, Learner):
        _require_savable(inner)
    for base in type(learner).__mro__:
        if base.__name__ in _UNSAVABLE:
            raise ConfigError(_UNSAVABLE[base.__name__].format(name=type(learner).__name__))


def _refuse_unsavable(config: Any, folder: Path) -> None:
    """Check before anything is built that a stored config names no learner that cannot be saved.

    A language model's client would send the texts, with any variable of the environment as its key, to any address.

    Raises:
        ConfigError: it names one, also as the member of a committee.
    """
    if isinstance(config, Mapping):
        name = str(config.get("class_path", "")).rpartition(".")[2]
        if name in _UNSAVABLE:
            raise ConfigError(f"{named(folder / SAVED_MODEL)} names {name}, which no saved model has: do not trust it")
    for value in config.values() if isinstance(config, Mapping) else config if isinstance(config, list) else ():
        _refuse_unsavable(value, folder)


def _settings(learner: Learner) -> dict[str, Any]:
    """The config of the learner that loads the saved model."""
    config: dict[str, Any] = describe(learner)
    options = config.setdefault("init_args", {})
    kinds = {base.__name__ for base in type(learner).__mro__}
    if "TransformerLearner" in kinds:
        # The folder has all weights and the tokenizer: nothing else that the training read is needed.
        none = dict.fromkeys(("adapt", "trunk", "layers", "lora", "trainer", "patience", "pooling", "head"))
        options |= {**none, "model": _HERE, "freeze": 0, "warm_start": False}
    else:
        _name_encoder(options)
        if isinstance(options.get("learner"), dict):  # of the members of a committee
            _name_encoder(options["learner"].get("init_args", {}))
    return config


def _name_encoder(options: dict[str, Any]) -> None:
    """Make the path of an encoder in a folder absolute, as the model may be loaded elsewhere."""
    model = options.get("model")
    if isinstance(model, str) and not model.startswith("package:") and Path(model).expanduser().exists():
        options["model"] = str(Path(model).expanduser().absolute())


# -- loading ---------------------------------------------------------------------------------------------------------


class SavedModel:
    """A model that `save_model` wrote, to predict new texts. It reads its folder only.

    Args:
        folder: the folder.
        monitor: progress of predictions.

    Raises:
        ConfigError: the settings in the folder are invalid, or were written by a newer version.
        LearnerError: a file is missing or damaged.
    """

    def __init__(self, folder: str | PathLike[str], monitor: Monitor = SILENT) -> None:
        self.folder, self.monitor = Path(folder), monitor
        self._facts = read_facts(self.folder, SAVED_MODEL, _KINDS)
        if self._facts["format"] != _FORMAT:
            raise ConfigError(f"{named(self.folder)} was saved by a newer version of dal: update this one")
        refuse_code(self.folder)
        with refusing_damage(self.folder, SAVED_MODEL):
            located = self._located(self._facts["learner"])
            if not 1e-4 < self.temperature < 1e4:
                raise ValueError(f"the temperature is {self.temperature}")
            if not all(name is None or isinstance(name, str) for name in self.columns.values()):
                raise ValueError("a column's name is no text")
        _refuse_unsavable(located, self.folder)
        with importing.stored_config_imports():
            recipe, _ = build(
                _Recipe, node_of({"learner": located}, str(self.folder / SAVED_MODEL)), Override(), stored=True
            )
        self.learner: Learner = recipe.learner
        _require_savable(self.learner)
        with refusing_damage(self.folder, SAVED_MODEL):
            # Texts that stand for the pool: a learner reads the classes and the kind of inputs of its rows.
            self._rows = Rows.from_inputs(
                [("a text", "a text")] if self._facts["pairs"] else ["a text"],
                classes=self._facts["classes"],
                multilabel=self.multilabel,
                descriptions={
                    name: list(texts)
                    for name, texts in zip(self._facts["classes"], self._facts["described"], strict=True)
                    if texts
                },
                description_template=self._facts["description_template"],
            )
        self.predictor: Predictor = self.learner.load(self.folder, self.learner.prepare(self._rows))

    def _located(self, config: Mapping[str, Any]) -> dict[str, Any]:
        """The config of the learner, with this folder as its model where it names it."""
        options = dict(config.get("init_args") or {})
        if options.get("model") == _HERE:
            options["model"] = str(self.folder.absolute())
        return {**config, "init_args": options}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Do nothing: the model keeps no file open. `dal.load` returns models that do."""

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names, in the order of the columns of `Predictions.probs`."""
        return self._rows.classes

    @property
    def multilabel(self) -> bool:
        """Whether a text may have several classes."""
        return bool(self._facts["multilabel"])

    @property
    def temperature(self) -> float:
        """Divisor of the logits, fitted to held-out labels when the model was saved; 1 without any."""
        return float(self._facts["temperature"])

    @property
    def columns(self) -> dict[str, str | None]:
        """Names of the columns `text`, `text_pair` and `id` of the data that the model was trained on."""
        return {name: self._facts["columns"].get(name) for name in ("text", "text_pair", "id")}

    @cached_property
    def trust(self) -> str:
        """How far the predictions can be trusted, as known when the model was saved: two lines."""
        return str(self._facts["trust"])

    def predict(self, texts: Texts) -> Predictions:
        """Predict the classes of N texts, or of N pairs of texts where the model was trained on pairs.

        Args:
            texts: a list, a column of a table, or any other sequence.

        Raises:
            DataError: these are not texts, or not pairs where the model needs pairs.
            LearnerError: a logit is not finite.
        """
        rows = rows_like(self._rows, texts)
        if not len(rows):
            return no_predictions(len(self.classes))
        names = {"logits"} | recorded_outputs(getattr(self.predictor, "provides", self.learner.provides))
        prepared = self.learner.prepare(rows)
        outputs = self.predictor.outputs(prepared, torch.arange(len(rows)), names, exact=True, monitor=self.monitor)
        bad = int((~torch.isfinite(outputs.logits)).any(1).sum())
        if bad:
            raise LearnerError(f"{self.folder}: the model's outputs are NaN or infinite for {bad} of {len(rows)} rows")
        return predictions_of(outputs, rows, temperature=self.temperature, thresholds=self.predictor.thresholds)
