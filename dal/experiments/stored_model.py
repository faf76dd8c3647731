"""The latest model of a folder of `dal run`, `dal compare` or `dal ask`, loaded for the prediction of new texts."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Self

import torch
from torch import Tensor

from dal.config import allowed_code as importing
from dal.config import settings_tree as tree
from dal.config.class_names import suggestion
from dal.config.kinds import ASKED, CELL, COMPARISON, PROJECT, kind_of
from dal.errors import ConfigError, LearnerError, SessionError, shortened
from dal.evaluation.automatic_labels import fitted_temperature
from dal.experiments.encoder_figures import labeled_pool
from dal.experiments.experiment import Experiment
from dal.experiments.held_out_labels import HeldOut, find_held_out
from dal.experiments.known_accuracy import trust_of
from dal.experiments.project_experiment import current_experiment
from dal.experiments.results import Cell
from dal.experiments.saved_model import SavedModel, is_saved_model, save_model
from dal.experiments.stored_experiments import assemble, stored_comparison, stored_config
from dal.experiments.text_predictions import Predictions, Texts, no_predictions, predictions_of, rows_like
from dal.learner import SILENT, Monitor, Predictor, Prepared, recorded_outputs
from dal.learners.heads.described_head import ZERO_SHOT
from dal.outputs import Outputs, closure
from dal.session import Session
from dal.store.atomic_files import typed
from dal.store.label_store import LabelStore
from dal.store.run_folder import LABELS

if TYPE_CHECKING:
    from dal.learners.encoder_comparison import EncoderComparison


@dataclass(frozen=True, eq=False)
class Place:
    """Location of a stored session, and what is needed to reopen it.

    Attributes:
        folder: folder of the session.
        experiment: experiment of its config.
        cell: strategy and seed.
        simulated: whether it belongs to a run, rather than to `dal ask`.
    """

    folder: Path
    experiment: Experiment
    cell: Cell
    simulated: bool


class StoredModel:
    """The model trained on the current labels of a session, to predict new texts. A context that closes its files.

    It is the saved model where that is current, otherwise it is trained again. Probabilities are calibrated by the
    temperature that `dal predict --max-error` uses, fitted to a quarter of the held-out labels; without any it is 1.

    Args:
        session: the reopened session.
        place: location of the session.
        monitor: progress of training and prediction.
        prepared: prepared parts of the data, by name.
    """

    def __init__(
        self, session: Session, place: Place, monitor: Monitor = SILENT, prepared: dict[str, Prepared] | None = None
    ) -> None:
        self.session, self.place, self.monitor = session, place, monitor
        self._prepared = {} if prepared is None else prepared

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the files of the session, and release its folder if it is held."""
        self.session.close()
        self.session.store.close()

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names, in the order of the columns of `Predictions.probs`."""
        return tuple(self.session.pool.classes)

    @property
    def multilabel(self) -> bool:
        """Whether a text may have several classes."""
        return bool(self.session.pool.multilabel)

    def predict(self, texts: Texts) -> Predictions:
        """Predict the classes of N texts, or of N pairs of texts where the model was trained on pairs.

        Args:
            texts: a list, a column of a table, or any other sequence.

        Raises:
            DataError: these are not texts, or not pairs where the model needs pairs.
            SessionError: nothing is labeled yet, and the learner cannot predict without labels.
            LearnerError: a logit is not finite; or nothing is labeled, and no class has a description.
        """
        rows = rows_like(self.session.pool, texts)
        if not len(rows):
            return no_predictions(len(self.classes))
        names = recorded_outputs(_offered_by(self.predictor, self.session.learner.provides))
        outputs = self._outputs(self.session.learner.prepare(rows), torch.arange(len(rows)), names)
        return predictions_of(outputs, rows, temperature=self.temperature, thresholds=self.thresholds)

    def save(self, folder: str | PathLike[str], *, force: bool = False) -> Path:
        """Write the model with a model card to a folder of its own, which `dal.load` reads without the data.

        Args and errors are those of `dal.experiments.saved_model.save_model`.
        """
        return save_model(self, folder, force=force)

    def compare_encoders(
        self, models: Sequence[str] | None = None, stage: Callable[[str], None] | None = None
    ) -> "EncoderComparison":
        """Compare the learner's encoder with others by the answers of the session; nothing is trained.

        Args:
            models: encoders to compare with, see `dal.learners.encoder_comparison.compare_encoders`.
            stage: called with a line about each encoder before it is used.

        Raises:
            DataError: the rows are no texts or multi-label, none has a label, or their labels are of a single class.
            LearnerError: an encoder cannot be loaded.
        """
        from dal.learners.encoder_comparison import compare_encoders  # which loads transformers

        rows = labeled_pool(self.session)
        return compare_encoders(rows, learner=self.session.learner, models=models, monitor=self.monitor, stage=stage)

    @cached_property
    def held_out(self) -> HeldOut | None:
        """Labeled rows that the model was not trained on; None if there are none."""
        return find_held_out(self)

    @cached_property
    def temperature(self) -> float:
        """Divisor of the logits, fitted to a quarter of the held-out labels; 1 without any."""
        held = self.held_out
        return 1.0 if held is None else fitted_temperature(held.logits, held.labels, held.known)

    @property
    def thresholds(self) -> Tensor | None:
        """Logits (C,) above which classes are assigned when multi-label, before the temperature; None for 0."""
        return None if self.predicts_from_descriptions else self.predictor.thresholds

    @cached_property
    def trust(self) -> str:
        """How far the predictions can be trusted: the labels that the model was trained on, and its known accuracy.

        One sentence on each of two lines.
        """
        return trust_of(self)

    @cached_property
    def predictor(self) -> Predictor:
        """The trained model; without any labels an untrained one, where the learner can predict without labels.

        Raises:
            SessionError: nothing is labeled yet, and the learner cannot predict without labels.
            LearnerError: the learner cannot be trained on these labels.
        """
        session = self.session
        if session.trains:
            return session.predictor
        untrained = session.learner.untrained(session.prepared)
        if not {"logits", ZERO_SHOT} & closure(_offered_by(untrained, session.learner.label_free)):
            folder, name = self.place.folder, typed(self.place.folder)
            raise SessionError(
                f"{folder}: nothing is labeled yet, and {type(session.learner).__name__} cannot predict without "
                f"labels: ask for texts to label (dal ask {name}) and store the answers (dal tell {name} FILE)"
            )
        return untrained

    @cached_property
    def predicts_from_descriptions(self) -> bool:
        """Whether there are no labels, and the predictions are those of the class descriptions alone."""
        if self.session.trains:
            return False
        return "logits" not in closure(_offered_by(self.predictor, self.session.learner.label_free))

    def logits(self, part: str, rows: Tensor) -> Tensor:
        """Logits of some rows of a part of the data, (n, C) float64, on the CPU, computed in full precision.

        Args:
            part: "pool", "validation" or "test".
            rows: (n,) int64 row indices.

        Raises:
            SessionError: nothing is labeled yet, and the learner cannot predict without labels.
            LearnerError: a logit is not finite; or nothing is labeled, and no class has a description.
        """
        if part not in self._prepared:
            self._prepared[part] = self.session.learner.prepare(getattr(self.session.data, part))
        logits: Tensor = self._outputs(self._prepared[part], rows).logits.cpu().double()
        return logits

    def _outputs(self, prepared: Prepared, rows: Tensor, more: frozenset[str] = frozenset()) -> Outputs:
        """Logits and further outputs of some rows, in one pass."""
        name = ZERO_SHOT if self.predicts_from_descriptions else "logits"
        outputs = self.predictor.outputs(prepared, rows, {name} | more, exact=True, monitor=self.monitor)
        if name != "logits":
            read = {each: outputs[each] for each in more}
            outputs = Outputs({"logits": outputs[name], **read}, multilabel=self.multilabel)
        bad = int((~torch.isfinite(outputs.logits)).any(1).sum())
        if bad:
            raise LearnerError(
                f"{self.place.folder}: the model's outputs are NaN or infinite for {bad} of {len(rows)} rows"
            )
        return outputs


def load(folder: str | PathLike[str], cell: str | None = None) -> "StoredModel | SavedModel":
    """Load the latest model of a folder, to predict new texts. Close it, or use it as a context.

    The folder is only read, and other processes may work in it: the model is that of the labels at this moment. The
    config in the folder may name classes of installed packages, and of modules that the program has imported.

    Args:
        folder: folder of `dal ask`, `dal run` or `dal compare`, or of one cell of the last two; or the folder of a
            model that was saved by `StoredModel.save`, which is read without any others.
        cell: cell of a run or comparison, such as "Margin-seed0"; by default the first strategy with the first seed.

    Raises:
        ConfigError: there is no such folder or cell, or its config is invalid.
        SessionError: the folder is damaged.
        LearnerError: a file of a saved model is damaged.
    """
    if is_saved_model(Path(folder)):
        refuse_cell(Path(folder), cell)
        return SavedModel(folder)
    with importing.stored_config_imports():
        return read_model(find(Path(folder), cell))


def open_model(place: Place, monitor: Monitor = SILENT) -> StoredModel:
    """Open the session of a place, which stores answers, and return its model. The caller closes it.

    Raises:
        BusyError: another process works in the folder.
    """
    prepared = dict[str, Prepared]()
    session = place.experiment.session(
        place.cell, place.folder, simulated=place.simulated, monitor=monitor, prepared=prepared
    )
    return StoredModel(session, place, monitor, prepared)


def read_model(place: Place, monitor: Monitor = SILENT) -> StoredModel:
    """The model of the labels that a place has at this moment, also while other processes work there.

    The caller closes it. Where the folder does not hold the model of these labels, it is trained, and saved there if no
    other process works there.
    """
    prepared, store = dict[str, Prepared](), LabelStore.snapshot(place.folder / LABELS)
    try:
        session = place.experiment.session(
            place.cell, None, simulated=place.simulated, monitor=monitor, prepared=prepared, store=store
        )
    except BaseException:
        store.close()
        raise
    session.read_model_of(place.folder)
    return StoredModel(session, place, monitor, prepared)


def find(folder: Path, cell: str | None = None) -> Place:
    """Locate the session of a project, of a folder of `dal ask`, of one cell, or of one cell of a run or comparison.

    Args:
        folder: the folder.
        cell: cell of a run or comparison, such as "Margin-seed0"; by default the first strategy with the first seed.

    Raises:
        ConfigError: there is no session, it has no labels yet, or there is no cell of this name.
    """
    if is_saved_model(folder):
        raise ConfigError(
            f"{folder} is a saved model, without labels and rows: `dal predict {typed(folder)} FILE` predicts new texts"
        )
    settings = tree.read(stored_config(folder))
    kind = kind_of(folder)
    if kind == COMPARISON:
        comparison = stored_comparison(folder)
        place = _of_run(folder, comparison.experiment, comparison.cells, cell)
    elif kind == CELL:
        seed = _seed(settings.value.pop("seed").value, folder)
        experiment, _ = assemble(settings, tree.Override(), folder, stored=True)
        place = Place(folder, experiment, Cell(folder.name, experiment.strategy, seed), True)
        refuse_cell(folder, cell)
    else:
        if kind == PROJECT:
            experiment = current_experiment(folder)
        else:
            experiment, _ = assemble(settings, tree.Override(), folder, stored=True)
        if kind in (ASKED, PROJECT):
            refuse_cell(folder, cell)
            place = Place(folder, experiment, Cell(folder.name, experiment.strategy, experiment.seeds[0]), False)
        else:
            place = _of_run(folder, experiment, experiment.cells, cell)
    if not (place.folder / LABELS).is_file():
        raise ConfigError(
            f"{place.folder} holds no answers yet, so there is no model: start the run, or use `dal ask` and `dal tell`"
        )
    return place


def _of_run(folder: Path, experiment: Experiment, cells: list[Cell], name: str | None) -> Place:
    known = {cell.name: cell for cell in cells}
    if name is not None and name not in known:
        hint = suggestion(shortened(name), known)
        raise ConfigError(f"{folder} has no cell {shortened(name)!r}{hint}; cells are {', '.join(known)}")
    cell = cells[0] if name is None else known[name]
    return Place(folder / cell.name, experiment, cell, True)


def _seed(value: object, folder: Path) -> int:
    if isinstance(value, str) and value.isdecimal() and len(value) < 20:
        return int(value)
    if isinstance(value, int) and value >= 0:
        return value
    raise ConfigError(f"{folder}/config.yaml: seed takes a whole number, not {shortened(repr(value))}")


def refuse_cell(folder: Path, cell: str | None) -> None:
    """Raise ConfigError if a cell is named, of a folder that has none."""
    if cell is not None:
        raise ConfigError(f"--cell {shortened(cell)}: {folder} is itself one cell")


def _offered_by(predictor: Predictor, declared: frozenset[str]) -> frozenset[str]:
    """Raw outputs of a predictor: those that it names itself, else those that its learner declares."""
    return frozenset(getattr(predictor, "provides", declared))
