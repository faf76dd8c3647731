"""Model of a session: trained on the current labels, measured, saved and exchanged with other sessions."""

import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from dal.errors import SessionError
from dal.learner import Learner, Predictor, Prepared
from dal.outputs import Outputs
from dal.session.acquisition import Acquisition
from dal.session.choice_agreement import ChoiceAgreement, Chooser, choice_agreement
from dal.session.current_model import OtherModel
from dal.session.seeds import Seeds, Stream
from dal.session.session_state import SessionState, in_turn
from dal.store.renamed_keys import MetricsLine
from dal.store.run_folder import append_metrics
from dal.strategy import all_needs


class SessionModel(SessionState):
    """The current model, and the metrics of the rounds."""

    evaluate_seconds: float
    seed: int
    _acquisition: Acquisition

    @property
    @in_turn
    def prepared(self) -> Prepared:
        """The pool as prepared by the learner, computed once."""
        return self._model.prepare("pool")

    @property
    @in_turn
    def predictor(self) -> Predictor:
        """The model trained on the current labels: fitted on first access, discarded as soon as the labels change.

        Raises:
            SessionError: nothing is labeled yet.
            LearnerError: the learner cannot be trained on these labels.
        """
        return self._model.predictor

    @property
    def fit_seconds(self) -> float:
        """Duration of the latest fit in seconds; 0 before the first."""
        return self._model.fit_seconds

    @in_turn
    def evaluate(self) -> dict[str, float]:
        """Evaluate the current model on the labeled test rows, with `dal.evaluation.metrics.evaluate`.

        Raises:
            SessionError: the data has no test rows with labels, or nothing is labeled yet.
        """
        self._require_test()
        self.predictor, self._model.prepare("test")  # fit and prepare before the clock starts
        start = time.perf_counter()
        figures = self._model.evaluate("test")
        self.evaluate_seconds = time.perf_counter() - start
        return figures

    @in_turn
    def score(self, learner: Learner) -> dict[str, float]:
        """Train another learner on the current labels and return its test metrics, with the `seconds` of its fit.

        Raises:
            SessionError: the data has no test rows with labels.
            LearnerError: the learner cannot be trained on these labels.
        """
        figures, _ = self._scored_other(learner)
        return figures

    @in_turn
    def score_and_compare(
        self, learner: Learner, *, rows: int, n: int
    ) -> tuple[dict[str, float], ChoiceAgreement | None]:
        """Do as `score`, and compare what this model and the other one would choose next.

        Costs a pass of both models over the sample.

        Args:
            learner: the other learner.
            rows: number of unasked rows, drawn at random, to choose from.
            n: number of rows to choose; at most a tenth of the sample.

        Returns:
            The metrics with `seconds`, and the agreement; None if no row is left to choose, or the strategy reads no
            model.

        Raises:
            SessionError: the data has no test rows with labels.
            LearnerError: the learner cannot be trained on these labels.
        """
        figures, other = self._scored_other(learner)
        unasked, seeds = self.unasked_rows, Seeds(self.seed, self.round)
        acting = self.strategy.resolve(self.state)
        if not len(unasked) or not all_needs(acting):
            return figures, None
        sample = unasked[seeds.sample(len(unasked), rows, Stream.AGREEMENT)]
        labeled, labels = self.pool_state.labeled_set
        return figures, choice_agreement(
            acting,
            sample,
            max(1, min(n, len(sample) // 10)),
            Chooser(self.learner, self._model.predictor, self.prepared),
            Chooser(learner, other.predictor, self._model.prepare("pool", learner)),
            labeled=labeled,
            labels=labels,
            seeds=seeds,
            state=self.state,
        )

    def _scored_other(self, learner: Learner) -> tuple[dict[str, float], OtherModel]:
        self._require_test()
        other = self._model.fit_other(learner)
        return {**self._model.score(other), "seconds": other.seconds}, other

    def _require_test(self) -> None:
        if not self.can_evaluate:
            raise SessionError("there is no labeled test set to evaluate on: give the data a test split")

    @property
    @in_turn
    def marker(self) -> str:
        """Digest of everything that determines the current model, except the initial model of a warm start."""
        return self._model.marker

    @in_turn
    def export_model(self, folder: Path) -> None:
        """Save the current model in `folder`, atomically, for other sessions to import."""
        self._model.export_model(folder)

    @in_turn
    def import_model(self, folder: Path) -> bool:
        """Load the model of `folder` if it was trained on the current labels; return whether it was.

        `fit_seconds` becomes the duration of that model's fit.
        """
        return self._model.import_model(folder)

    @in_turn
    def scored(self, part: str, names: Iterable[str] = ()) -> tuple[Outputs, Tensor]:
        """The current model's logits for the labeled rows of "test" or "validation", on the CPU, and their labels.

        Cached until the labels change.

        Args:
            part: part of the data.
            names: further outputs to compute in the same pass.
        """
        return self._model.scored(part, names)

    @in_turn
    def read(self, rows: Tensor, names: Iterable[str], *, part: str = "pool") -> Outputs:
        """Outputs of rows of a part, from the untrained model if it provides all `names`, else from the current one."""
        return self._model.read(rows, names, part)

    @in_turn
    def continue_from(self, earlier: "SessionModel") -> None:
        """Take over what a session on earlier answers to the same data computed, which is not used afterwards.

        The model is taken over if the labels are the same; otherwise it is what a learner with a warm start continues
        from. The recorded metrics and the distances between rows are taken over too. Only time depends on this, and
        the model of a warm start.

        Args:
            earlier: session with the same data, learner and seed.
        """
        self.metrics[:] = earlier.metrics
        self._model.continue_from(earlier._model)
        self._acquisition.continue_from(earlier._acquisition)

    @in_turn
    def read_model_of(self, folder: Path) -> None:
        """Use the model saved in a folder where it is that of the current labels, without holding the folder.

        From then on the session stores neither answers nor questions. A model that it fits is saved in the folder if no
        other process works there.

        Args:
            folder: folder of a session with the same data, learner and seed, whose answers the store of this one has.
        """
        self._read_folder = folder
        self._model.read_from(folder)

    @in_turn
    def record(self, line: Mapping[str, Any]) -> None:
        """Append the metrics of a round to `metrics` and, synced to disk, to the folder's `metrics.jsonl`."""
        if self.folder is not None:
            append_metrics(self.folder, line)  # first: if it fails, memory and disk still agree
        self.metrics.append(MetricsLine(line))
