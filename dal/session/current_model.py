"""The model trained on a session's current labels: fitted on demand, cached, discarded when the labels change."""

import contextlib
import hashlib
import json
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from dal.config import moved
from dal.config.stored import describe
from dal.data.class_descriptions import NAME_ALONE
from dal.errors import DalError, SessionError
from dal.learner import Learner, Monitor, Predictor, Prepared, recorded_outputs
from dal.outputs import Outputs, closure
from dal.session.annotation_log import AnnotationLog
from dal.session.seeds import Seeds, Stream
from dal.store.folder_lock import held
from dal.store.label_store import LabelStore
from dal.store.run_folder import MODEL, keep_model, trained_on


@dataclass(frozen=True, eq=False)
class OtherModel:
    """A model of another learner, trained on the labels of a session, with the duration of its fit in seconds."""

    learner: Learner
    predictor: Predictor
    seconds: float


class CurrentModel:
    """The model trained on the current labels, and its outputs on the data.

    It is determined by the labels, the learner and the seed, and is recomputed wherever it was not saved.

    Args:
        data: a `dal.data.Splits`.
        learner: learner to train.
        annotations: labels of the pool's rows.
        store: label store, for the round of the latest label.
        folder: directory in which to save the model, as `model`; None keeps it in memory.
        seed: together with that round it determines the random numbers.
        save: save the model even if the learner has no warm start.
        monitor: receives the progress of fits and passes.
        prepared: parts of the data prepared before, by name.

    Attributes:
        fit_seconds: duration of the latest fit in seconds; 0 before the first.
    """

    def __init__(
        self,
        data: Any,
        learner: Learner,
        annotations: AnnotationLog,
        store: LabelStore,
        *,
        folder: Path | None,
        seed: int,
        save: bool,
        monitor: Monitor,
        prepared: dict[str, Prepared],
    ) -> None:
        self._data, self._learner, self._annotations, self._store = data, learner, annotations, store
        self._folder, self._seed, self._save = folder, seed, save
        self._is_reader = False
        self._monitor, self._prepared = monitor, prepared
        self.fit_seconds = 0.0
        self._predictor: Predictor | None = None
        self._previous: Predictor | None = None
        self._scored: dict[str, tuple[Outputs, Tensor]] = {}

    @property
    def predictor(self) -> Predictor:
        """The model, loaded from the folder or fitted on first access.

        Raises:
            SessionError: nothing is labeled yet.
            LearnerError: the learner cannot be trained on these labels.
        """
        if self._predictor is None:
            stored = self._load(self._folder) if self._folder is not None and self._annotations.state.trains else None
            self._predictor = stored or self._fit()
        return self._predictor

    @property
    def seeds(self) -> Seeds:
        """Seeds of the round of the latest answer, so that a query alone does not change the model."""
        return Seeds(self._seed, self._store.labels_round)

    @property
    def marker(self) -> str:
        """Digest of everything that determines the model, except the initial model of a warm start."""
        return self._marker(self._training_bytes(), describe(self._learner))

    @property
    def run_marker(self) -> str:
        """Digest of what all models of a run have in common: the pool, the learner and the seed."""
        facts = [describe(self._learner), self._seed, self._data.pool.classes, self._data.pool.fingerprint]
        return hashlib.sha256(json.dumps(facts, default=str).encode()).hexdigest()

    def _training_bytes(self) -> bytes:
        parts = self._annotations.state.training_set
        return b"".join(b"" if part is None else part.numpy().tobytes() for part in parts)

    def _marker(self, training_set: bytes, learner: Any) -> str:
        pool = self._data.pool
        facts = [learner, self._seed, self._store.labels_round, pool.classes, pool.fingerprint]
        if any(pool.described) or pool.description_template != NAME_ALONE:  # models of other folders stay valid
            facts.append([pool.described, pool.description_template])
        digest = hashlib.sha256(json.dumps(facts, default=str).encode())
        digest.update(training_set)
        return digest.hexdigest()

    def drop(self) -> None:
        """Discard the model and its cached outputs, after a change of the labels."""
        if self._predictor is not None and self._continues:
            self._previous = self._predictor
        self._predictor = None
        self._scored.clear()

    def continue_from(self, earlier: "CurrentModel") -> None:
        """Take over the model of the same data on earlier labels: as it is if these are the same labels."""
        if earlier._predictor is not None and earlier.marker == self.marker:
            self._predictor, self._previous = earlier._predictor, earlier._previous
            self._scored, self.fit_seconds = earlier._scored, earlier.fit_seconds
        elif self._continues:
            self._previous = earlier._predictor or earlier._previous

    # -- outputs ---------------------------------------------------------------------------------------------------

    def prepare(self, part: str, learner: Learner | None = None) -> Prepared:
        """A part of the data prepared by `learner` (the session's by default), computed once."""
        key = part if learner is None else f"{part} for {describe(learner)}"
        if key not in self._prepared:
            self._prepared[key] = (learner or self._learner).prepare(getattr(self._data, part))
        return self._prepared[key]

    def read(self, rows: Tensor, names: Iterable[str], part: str) -> Outputs:
        """Outputs of rows of a part, from the untrained model if it provides all `names`, else from this model."""
        names, prepared = frozenset(names), self.prepare(part)
        free = names <= closure(self._learner.label_free)
        # Untrained on the pool, like the trained model: label-free outputs may depend on its centre.
        model = self._learner.untrained(self.prepare("pool")) if free else self.predictor
        seed = self.seeds.number(Stream.EVALUATE)
        return model.outputs(prepared, rows, names, seed=seed, monitor=self._monitor)

    def scored(self, part: str, names: Iterable[str] = ()) -> tuple[Outputs, Tensor]:
        """Logits and other `names` of the labeled rows of a part, on the CPU, and their labels.

        Cached until the labels change; a later call with further names repeats the pass with all names.
        """
        known = self._scored[part][0].names if part in self._scored else frozenset()
        wanted = {"logits"} | recorded_outputs(self._learner.provides) | set(names)
        if not wanted <= known:
            rows, labels = self._known(part)
            self._scored[part] = self.read(rows, wanted | known, part).to("cpu"), labels
        return self._scored[part]

    def evaluate(self, part: str) -> dict[str, float]:
        """Metrics of the model on the labeled rows of a part, from `dal.evaluation.metrics.evaluate`."""
        from dal.evaluation.metrics import evaluate

        metrics: dict[str, float] = evaluate(*self.scored(part))
        return metrics

    def fit_other(self, learner: Learner) -> OtherModel:
        """Train another learner on the same labels.

        Raises:
            LearnerError: the learner cannot be trained on these labels.
        """
        pool, start = self.prepare("pool", learner), time.perf_counter()
        labeled, labels = self._annotations.state.labeled_set
        predictor = learner.fit(pool, labeled, labels, seed=self.seeds.number(Stream.FIT), monitor=self._monitor)
        return OtherModel(learner, predictor, time.perf_counter() - start)

    def score(self, other: OtherModel) -> dict[str, float]:
        """Test metrics of another model."""
        from dal.evaluation.metrics import evaluate

        test = self.prepare("test", other.learner)
        rows, labels = self._known("test")
        outputs = other.predictor.outputs(test, rows, {"logits"}, seed=self.seeds.number(Stream.EVALUATE))
        metrics: dict[str, float] = evaluate(outputs, labels)
        return metrics

    def _known(self, part: str) -> tuple[Tensor, Tensor]:
        """The labeled rows of a part, and their labels."""
        data = getattr(self._data, part)
        rows = data.known.nonzero().flatten()
        return rows, data.labels[rows]

    # -- saving and loading ----------------------------------------------------------------------------------------

    def export_model(self, folder: Path) -> None:
        """Save the model in `folder`, atomically."""
        self._write(folder, self.predictor)

    def import_model(self, folder: Path) -> bool:
        """Load the model of `folder` if it was trained on the current labels; return whether it was."""
        stored = self._load(folder)
        if stored is None:
            return False
        self._predictor = stored
        self._keep(stored)
        return True

    def read_from(self, folder: Path) -> None:
        """Load models from a folder that other processes may use. A fitted one is saved there if none of them does."""
        self._folder, self._is_reader = folder, True

    def _load(self, folder: Path) -> Predictor | None:
        """The model saved in `folder` if it was trained on the current labels, else None. Sets `fit_seconds`."""
        marker, seconds = trained_on(folder) or ("", 0.0)
        training_set = self._training_bytes()
        # Version 0.1 computed the marker from the class names and options of that version.
        if marker != self._marker(training_set, describe(self._learner)) and marker != self._marker(
            training_set, moved.first(describe(self._learner, named=False))
        ):
            return None
        self.fit_seconds = seconds
        prepared = self.prepare("pool")
        try:
            return self._learner.load(folder / MODEL, prepared)
        except (DalError, OSError):
            if not self._is_reader or trained_on(folder) == (marker, seconds):
                raise
            return None  # the process that works in the folder has replaced it meanwhile

    def _keep(self, predictor: Predictor) -> None:
        if self._folder is None or not (self._save or self._continues):
            return
        if not self._is_reader:
            self._write(self._folder, predictor)
        elif not self._continues:  # a warm start depends on which models were saved
            with contextlib.suppress(DalError), held(self._folder):  # others work there, or it cannot be written
                self._write(self._folder, predictor)

    def _write(self, folder: Path, predictor: Predictor) -> None:
        with keep_model(folder, self.marker, self.fit_seconds) as target:
            predictor.save(target)

    # -- training --------------------------------------------------------------------------------------------------

    def _fit(self) -> Predictor:
        if not self._annotations.state.trains:
            raise SessionError("nothing is labeled yet, so there is no model: ask and tell first")
        rows, labels, weights = self._annotations.state.training_set
        prepared, held_out = self.prepare("pool"), self._data.validation
        validation: tuple[Prepared, Tensor] | None = None
        if held_out is not None and bool(held_out.known.all()):  # learners take one label for each validation row
            validation = self.prepare("validation"), held_out.labels
        previous = self._previous if self._continues else None
        if self._continues and previous is None and self._folder is not None and trained_on(self._folder) is not None:
            previous = self._learner.load(self._folder / MODEL, prepared)  # a warm start of a resumed session
        start = time.perf_counter()
        predictor = self._learner.fit(
            prepared,
            rows,
            labels,
            seed=self.seeds.number(Stream.FIT),
            weights=weights,
            validation=validation,
            previous=previous,
            monitor=self._monitor,
        )
        self.fit_seconds = time.perf_counter() - start
        self._previous = None  # frees its memory: `drop` keeps the new one when the labels change
        self._keep(predictor)
        return predictor

    @property
    def _continues(self) -> bool:
        """Whether the learner starts from its previous model (warm start)."""
        return bool(getattr(self._learner, "warm_start", False))
