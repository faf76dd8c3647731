"""Figures that stopping rules read: what was spent, validation scores, stop-set predictions, measures of their own."""

import functools
from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from dal.evaluation.own_metrics import Metric, objective_metrics, own_scores
from dal.learner import Monitor
from dal.objective import DEFAULT, Objective, objective_name
from dal.outputs import Outputs
from dal.session.annotation_log import AnnotationLog
from dal.session.current_model import CurrentModel
from dal.session.seeds import Stream
from dal.stopping import recorded_figures as record
from dal.stopping.measurement import recorded_measures
from dal.stopping.rule import MEASURES, OBJECTIVE, StoppingRule, measuring_parts
from dal.store.label_store import LabelStore
from dal.strategy import RoundState


class StoppingFigures:
    """Computes the figures that stopping rules read after a round.

    Args:
        data: a `dal.data.Splits`.
        annotations: annotations of the pool.
        store: label store of the annotations.
        model: model of the current labels.
        seed: seed of the stop set, the sample of the pool on which successive models are compared.
        monitor: receives the progress of passes.
        objective: score that rules look at unless they name another; None for the accuracy.
        own_metrics: metrics of the user to compute on the validation rows.
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
        objective: Objective | None = None,
        own_metrics: Sequence[Metric] = (),
    ) -> None:
        self._data, self._annotations, self._store, self._model = data, annotations, store, model
        self._seed, self._monitor = seed, monitor
        self._objective = objective_name(objective)
        self._metrics = (*own_metrics, *objective_metrics(objective, data.pool.classes))
        self._stop_set: record.StopSet | None = None

    @property
    def metrics(self) -> tuple[str, ...]:
        """Names of the validation scores in addition to the built-in ones."""
        return tuple(each.name for each in self._metrics)

    def of(self, rule: StoppingRule, state: RoundState) -> dict[str, Any]:
        """The figures that the rule reads and its measures, by name, as JSON values for a line of `metrics.jsonl`.

        Args:
            rule: stopping rule.
            state: state of the round.

        Raises:
            PluginError: the rule failed in `measure`, or returned something that JSON cannot store.
        """
        read = functools.cache(functools.partial(self._read, rule))
        figures: dict[str, Any] = {}
        if "spent" in rule.needs:
            store = self._store
            figures["spent"] = record.spent(store.work, store.answered, store.proposals, store.unread)
        if "validation" in rule.needs:
            figures["validation"] = self._on_validation()
        if "stop_set" in rule.needs:
            figures["stop_set"] = self._drawn(rule.stop_set).record(*read("stop_set"))
        if measuring_parts(rule):
            figures[MEASURES] = recorded_measures(rule, state, read)
        return figures

    def _on_validation(self) -> dict[str, Any]:
        """Scores on the validation rows: the built-in ones, those of the user, and the name of the objective."""
        figures: dict[str, Any] = {"rows": len(self._data.validation), **self._model.evaluate("validation")}
        if self._objective != DEFAULT:
            figures[OBJECTIVE] = self._objective
        return {**figures, **own_scores(self._metrics, *self._model.scored("validation"))}

    def has_objective(self, line: Mapping[str, Any]) -> bool:
        """Whether the validation scores of a line, if it has any, are those for the objective."""
        return "validation" not in line or line["validation"].get(OBJECTIVE, DEFAULT) == self._objective

    def _read(self, rule: StoppingRule, part: str) -> tuple[Outputs, Tensor]:
        """The current model's outputs of a part with all names that the rule reads, on the CPU, and (n,) bool whether a
        row of the stop set has a label, or the labels of the validation rows.

        The stop set is read in full precision: reduced precision could flip a prediction, and rules compare successive
        models row by row.
        """
        if part == "validation":
            return self._model.scored(part, rule.validation_needs)
        rows, seed = self._drawn(rule.stop_set).rows, self._model.seeds.number(Stream.EVALUATE)
        names = rule.stop_set_needs | ({"logits"} if "stop_set" in rule.needs else frozenset())
        predictor, prepared = self._model.predictor, self._model.prepare("pool")
        outputs = predictor.outputs(prepared, rows, names, seed=seed, exact=True, monitor=self._monitor)
        return outputs.to("cpu"), self._annotations.state.labeled[rows]

    def _drawn(self, size: int) -> record.StopSet:
        """The stop set, drawn again if it has fewer than `size` rows."""
        if self._stop_set is None or self._stop_set.size < size:
            given = self._annotations.state.given.all()
            self._stop_set = record.StopSet.draw(self._data.pool.ids, ~given, size, self._seed)
        return self._stop_set
