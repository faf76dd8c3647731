"""The model that the labels of a session make: fitted when first wanted, kept, dropped as soon as they change."""

import hashlib
import json
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from torch import Tensor

from dal.config import moved
from dal.config.stored import describe
from dal.errors import SessionError
from dal.learner import Learner, Monitor, Predictor, Prepared, watched
from dal.outputs import Outputs, closure
from dal.session.pool_state import PoolState
from dal.session.seeds import Seeds, Stream
from dal.store.label_store import LabelStore
from dal.store.run_folder import MODEL, keep_model, trained_on


class CurrentModel:
    """The model that the present labels make, and what it says of the data.

    Everything here follows from the labels, the learner and the seed, and is computed again where it is not kept.

    Args:
        data: a `dal.data.Splits`.
        learner: what is trained.
        progress: which rows have which labels.
        store: in which round the latest came.
        folder: where the model is kept, as `model`; None keeps it in memory.
        seed: decides its random numbers, together with that round.
        save: keep it in the folder although the learner does not train on from its last model.
        monitor: watches fits and passes.
        prepared: the parts that were made ready before.

    Attributes:
        fit_seconds: that the fit of the latest model took; 0 before the first.
    """

    def __init__(
        self,
        data: Any,
        learner: Learner,
        progress: PoolState,
        store: LabelStore,
        *,
        folder: Path | None,
        seed: int,
        save: bool,
        monitor: Monitor,
        prepared: dict[str, Prepared],
    ) -> None:
        self._data, self._learner, self._progress, self._store = data, learner, progress, store
        self._folder, self._seed, self._save = folder, seed, save
        self._monitor, self._prepared = monitor, prepared
        self.fit_seconds = 0.0
        self._predictor: Predictor | None = None
        self._previous: Predictor | None = None
        self._scored: dict[str, tuple[Outputs, Tensor]] = {}

    @property
    def predictor(self) -> Predictor:
        """The model: what is there, or in the folder, or fitted now.

        Raises:
            SessionError: nothing is labeled yet.
            LearnerError: the labels cannot train this learner.
        """
        if self._predictor is None:
            stored = self._load(self._folder) if self._folder is not None and self._progress.trains else None
            self._predictor = stored or self._fit()
        return self._predictor

    @property
    def seeds(self) -> Seeds:
        """Those of the round of the latest answer, so that asking alone does not make another model."""
        return Seeds(self._seed, self._store.labels_round)

    @property
    def marker(self) -> str:
        """A digest of all that the model follows from, but for a model that training goes on from."""
        return self._digest(describe(self._learner))

    def _is_of_these_labels(self, marker: str) -> bool:
        """Whether the model with a marker, of this version or of the first one, is that of the present labels."""
        return marker == self.marker or marker == self._digest(moved.first(describe(self._learner, named=False)))

    def _digest(self, learner: Any) -> str:
        pool = self._data.pool
        facts = [learner, self._seed, self._store.labels_round, pool.classes, pool.fingerprint]
        digest = hashlib.sha256(json.dumps(facts, default=str).encode())
        for part in self._progress.training_set:
            digest.update(b"" if part is None else part.numpy().tobytes())
        return digest.hexdigest()

    def drop(self) -> None:
        """Let go of what followed from the labels, since they have changed."""
        if self._predictor is not None and self._continues:
            self._previous = self._predictor
        self._predictor = None
        self._scored.clear()

    # -- what it says ----------------------------------------------------------------------------------------------

    def prepare(self, part: str, learner: Learner | None = None) -> Prepared:
        """A part of the data made ready for the learner, or for another one, once."""
        key = part if learner is None else f"{part} for {describe(learner)}"
        if key not in self._prepared:
            self._prepared[key] = (learner or self._learner).prepare(getattr(self._data, part))
        return self._prepared[key]

    def read(self, rows: Tensor, names: Iterable[str], part: str) -> Outputs:
        """Outputs for rows of a part: of an untrained model where that has all names, or of this one."""
        names, prepared = frozenset(names), self.prepare(part)
        free = names <= closure(self._learner.label_free)
        model = self._learner.untrained(prepared) if free else self.predictor
        seed = self.seeds.number(Stream.EVALUATE)
        return model.outputs(prepared, rows, names, seed=seed, monitor=self._monitor)

    def scored(self, part: str) -> tuple[Outputs, Tensor]:
        """Its logits for the labeled rows of a part, on the CPU, and those labels: one pass until they change."""
        if part not in self._scored:
            rows, labels = self._known(part)
            names = {"logits"} | watched(self._learner.provides)
            self._scored[part] = self.read(rows, names, part).to("cpu"), labels
        return self._scored[part]

    def evaluate(self, part: str) -> dict[str, float]:
        """The figures of `dal.evaluation.metrics.evaluate` on the labeled rows of a part."""
        from dal.evaluation.metrics import evaluate

        figures: dict[str, float] = evaluate(*self.scored(part))
        return figures

    def score(self, learner: Learner) -> dict[str, float]:
        """The figures on the test part of another learner, trained on the same labels, and the `seconds` of its fit."""
        from dal.evaluation.metrics import evaluate

        pool, test = (self.prepare(part, learner) for part in ("pool", "test"))
        labeled, start = self._progress, time.perf_counter()
        seed = self.seeds.number(Stream.FIT)
        predictor = learner.fit(pool, labeled.labeled_rows, labeled.labels, seed=seed, monitor=self._monitor)
        seconds = time.perf_counter() - start
        rows, labels = self._known("test")
        outputs = predictor.outputs(test, rows, {"logits"}, seed=self.seeds.number(Stream.EVALUATE))
        return {**evaluate(outputs, labels), "seconds": seconds}

    def _known(self, part: str) -> tuple[Tensor, Tensor]:
        """The rows of a part that have a label, and their labels."""
        of = getattr(self._data, part)
        rows = of.known.nonzero().flatten()
        return rows, of.labels[rows]

    # -- where it is kept ------------------------------------------------------------------------------------------

    def leave(self, folder: Path) -> None:
        """Save it in `folder`, whole or not at all."""
        predictor = self.predictor
        with keep_model(folder, self.marker, self.fit_seconds) as target:
            predictor.save(target)

    def adopt(self, folder: Path) -> bool:
        """Whether `folder` holds the model that the present labels make, which is then this one."""
        stored = self._load(folder)
        if stored is None:
            return False
        self._predictor = stored
        self._keep(stored)
        return True

    def _load(self, folder: Path) -> Predictor | None:
        """The model in a folder, where the present labels made it, with the seconds that its fit took."""
        marker, seconds = trained_on(folder) or ("", 0.0)
        if not self._is_of_these_labels(marker):
            return None
        self.fit_seconds = seconds
        return self._learner.load(folder / MODEL, self.prepare("pool"))

    def _keep(self, predictor: Predictor) -> None:
        if self._folder is not None and (self._save or self._continues):
            with keep_model(self._folder, self.marker, self.fit_seconds) as target:
                predictor.save(target)

    # -- training --------------------------------------------------------------------------------------------------

    def _fit(self) -> Predictor:
        if not self._progress.trains:
            raise SessionError("nothing is labeled yet, so there is no model: ask and tell first")
        rows, labels, weights = self._progress.training_set
        prepared, validation = self.prepare("pool"), self._validation()
        previous = self._last_predictor() if self._continues else None
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
        self._previous = None
        self._keep(predictor)
        return predictor

    def _validation(self) -> tuple[Prepared, Tensor] | None:
        rows = self._data.validation
        if rows is None or not bool(rows.known.all()):
            return None
        return self.prepare("validation"), rows.labels

    @property
    def _continues(self) -> bool:
        """Whether the learner trains on from its last model."""
        return bool(getattr(self._learner, "warm_start", False))

    def _last_predictor(self) -> Predictor | None:
        """The model that training goes on from: the last that was fitted."""
        if self._previous is None and self._folder is not None and trained_on(self._folder) is not None:
            return self._learner.load(self._folder / MODEL, self.prepare("pool"))
        return self._previous
