"""Figures that stopping rules read: what was spent, validation scores, and predictions for a stop set."""

from typing import Any

from dal.learner import Monitor
from dal.session.annotation_log import AnnotationLog
from dal.session.current_model import CurrentModel
from dal.session.seeds import Stream
from dal.stopping import recorded_figures as record
from dal.stopping.rule import StoppingRule
from dal.store.label_store import LabelStore


class StoppingFigures:
    """Computes the figures that stopping rules read after a round.

    Args:
        data: a `dal.data.Splits`.
        annotations: annotations of the pool.
        store: label store of the annotations.
        model: model of the current labels.
        seed: seed of the stop set, the sample of the pool on which successive models are compared.
        monitor: receives the progress of passes.
    """

    def __init__(
        self,
        data: Any,
        annotations: AnnotationLog,
        store: LabelStore,
        model: CurrentModel,
        *,
        seed: int,
        monitor: Monitor,
    ) -> None:
        self._data, self._annotations, self._store, self._model = data, annotations, store, model
        self._seed, self._monitor = seed, monitor
        self._stop_set: record.StopSet | None = None

    def of(self, rule: StoppingRule) -> dict[str, Any]:
        """The figures that the rule reads, by name, as JSON values for a line of `metrics.jsonl`."""
        figures: dict[str, Any] = {}
        if "spent" in rule.needs:
            store = self._store
            figures["spent"] = record.spent(store.work, store.answered, store.proposals, store.unread)
        if "validation" in rule.needs:
            figures["validation"] = {"rows": len(self._data.validation), **self._model.evaluate("validation")}
        if "stop_set" in rule.needs:
            figures["stop_set"] = self._predicted(rule.stop_set)
        return figures

    def _predicted(self, size: int) -> dict[str, Any]:
        """The current model's predictions for the stop set, in full precision.

        Reduced precision could flip a prediction, and rules compare successive models row by row.
        """
        state = self._annotations.state
        if self._stop_set is None or self._stop_set.size < size:
            self._stop_set = record.StopSet.draw(self._data.pool.ids, ~state.given.all(), size, self._seed)
        rows, seed = self._stop_set.rows, self._model.seeds.number(Stream.EVALUATE)
        predictor, prepared = self._model.predictor, self._model.prepare("pool")
        outputs = predictor.outputs(prepared, rows, {"logits"}, seed=seed, exact=True, monitor=self._monitor)
        return self._stop_set.record(outputs, state.labeled)
