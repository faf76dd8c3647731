"""Measures recorded for each round besides the test scores: error analysis, batch quality and cost.

They do not affect the selection: models are only read, and samples are drawn by hashes of the ids.
"""

import json
import time
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from dal.evaluation.batch_quality import balance
from dal.evaluation.breakdown import per_class, per_group
from dal.evaluation.calibration_measures import Temperature, reliability
from dal.evaluation.cost import Prices, costs, sources
from dal.evaluation.curves import OWN_METRICS
from dal.evaluation.metrics import UNDEFINED, calibration, evaluate
from dal.evaluation.noise import label_issues
from dal.evaluation.own_metrics import Metric, own_scores
from dal.experiments.embedding_space import Space, first_rows, shuffled
from dal.experiments.encoder_figures import encoder_figures
from dal.experiments.recorded_work import recorded_work
from dal.learner import UNPARSED_SHARE, recorded_outputs
from dal.learners.heads.held_out import held_out_probs
from dal.outputs import Outputs
from dal.session import Session
from dal.session.queried_batch import QueriedBatch
from dal.store.atomic_files import write_whole
from dal.store.run_folder import writing

#: Maximum number of suspected label errors to record, and of labeled rows to check for them.
MAX_LABEL_ISSUES, MAX_JUDGED = 50, 20_000

#: File of the map, in the folder of a cell.
MAP_FILE = "map.json"

_SAMPLE = 0x5A  # random stream of the pool sample, distinct from those of shares, limits and stop sets


class Measures:
    """Computes the measures of a session's rounds. `docs/measures.md` documents the keys.

    Args:
        session: session to measure.
        pool_sample: number of unlabeled rows with a hidden label to score each round.
        distances: measure batches in the embeddings of the pool, or in features of the current model if the untrained
            learner provides no embeddings.
        prices: prices of answers without a stored cost or time.
        metrics: metrics of the user, for the test rows and the pool sample.
    """

    def __init__(
        self,
        session: Session,
        *,
        pool_sample: int = 1000,
        distances: bool = True,
        prices: Prices | None = None,
        metrics: Sequence[Metric] = (),
    ) -> None:
        self._session, self._pool_sample = session, pool_sample
        self._prices, self._metrics = prices or Prices(), metrics
        self._space = Space.of(session) if distances else None

    def of_round(self, batch: QueriedBatch | None) -> dict[str, Any]:
        """Compute the measures of a round, as JSON values by key.

        Args:
            batch: batch of this round; None if there was none.
        """
        before = 0.0 if batch is None else batch.seconds.get("measure", 0.0)
        self._session.predictor  # noqa: B018  # fitted before the clock starts
        start = time.perf_counter()
        line = self._on_test() if self._session.can_evaluate else {}
        line |= self._on_pool()
        line |= self._batch(batch)
        store = self._session.store
        work = recorded_work(store.work, store.proposals, store.unread)
        line |= {"cost": costs(work, self._prices), "sources": sources(work, self._prices)}
        return line | {"measure_seconds": before + time.perf_counter() - start}

    def at_end(self) -> dict[str, Any]:
        """Compute the measures of the last round, and write the map to the folder.

        They are the suspected label errors, and how well a frozen encoder tells the classes apart.

        The map is written before the line is stored, so a resumed run writes the same map again.
        """
        folder = self._session.folder
        if self._space is not None and folder is not None:
            text = json.dumps(self._space.map(), ensure_ascii=False) + "\n"
            with writing(folder / MAP_FILE):
                write_whole(folder / MAP_FILE, text, private=True)
        return {"label_issues": self._label_issues(), **encoder_figures(self._session)}

    # -- the model -------------------------------------------------------------------------------------------------

    def _on_test(self) -> dict[str, Any]:
        test = self._session.data.test
        outputs, labels = self._session.scored("test")
        measures: dict[str, Any] = {
            "per_class": per_class(outputs, labels, self._session.pool.classes),
            "reliability": reliability(outputs, labels),
            **own_scores(self._metrics, outputs, labels),
        }
        if test.groups is not None:
            measures["per_group"] = per_group(outputs, labels, test.groups.take(test.known.nonzero().flatten()))
        return measures | _unread(outputs) | self._scaled(outputs, labels)

    def _scaled(self, outputs: Outputs, labels: Tensor) -> dict[str, Any]:
        """Test calibration after temperature scaling on the validation rows; {} without labeled ones."""
        validation = self._session.data.validation
        if validation is None or not bool(validation.known.any()):
            return {}
        held_out, truth = self._session.scored("validation")
        temperature = Temperature.fit(held_out.logits, truth)
        logits = temperature.apply(outputs.logits)
        figures = calibration(Outputs({"logits": logits}, multilabel=outputs.multilabel), labels)
        return {"temperature_scaled": {"temperature": temperature.value, **figures}}

    def _on_pool(self) -> dict[str, Any]:
        """Metrics on a sample of the unlabeled pool rows with a hidden label; {} if there are none."""
        session = self._session
        left = session.pool.known.clone()
        left[session.labeled_rows] = False
        rows = first_rows(self._order, left, self._pool_sample)
        if not len(rows):
            return {}
        outputs = session.read(rows, {"logits"} | recorded_outputs(session.learner.provides))
        labels = session.pool.labels[rows]
        figures, own = evaluate(outputs, labels), own_scores(self._metrics, outputs.to("cpu"), labels)
        own = {key: value for key, value in own.items() if key == OWN_METRICS}
        return {
            "pool": {**complete_metrics(figures), **own, "count": len(rows), "of": int(left.sum()), **_unread(outputs)}
        }

    @cached_property
    def _order(self) -> Tensor:
        """Rows in a random order of this seed. Samples are its first rows, so they change only with the labels."""
        return shuffled(self._session.pool.ids, self._session.seed, _SAMPLE)

    # -- the batch and the labels ----------------------------------------------------------------------------------

    def _batch(self, batch: QueriedBatch | None) -> dict[str, Any]:
        session = self._session
        rows = torch.zeros(0, dtype=torch.int64) if batch is None else batch.rows
        labeled, labels = session.pool_state.labeled_set
        answered = labels[torch.isin(labeled, rows)]
        measured: dict[str, Any] = {
            "balance": balance(answered, len(session.pool.classes)),
            "uncertainty": None if batch is None else batch.uncertainty,
        }
        if self._space is None:
            return {"batch": measured}
        distances, nearest = self._space.of_batch(rows)
        return {"batch": distances | measured, "nearest": nearest}

    def _label_issues(self) -> list[dict[str, Any]]:
        """Suspected label errors found by confident learning, most suspicious first."""
        probs, rows, labels = self._held_out()
        if not len(rows):
            return []
        errors, pool = label_issues(probs, labels), self._session.pool
        given, suggested = pool.names_of(errors.given), pool.names_of(errors.suggested)
        ids = [pool.ids[row] for row in rows[errors.rows].tolist()]
        columns = zip(ids, given, suggested, errors.confidence.tolist(), strict=True)
        names = ("row", "given", "suggested", "confidence")
        return [dict(zip(names, values, strict=True)) for values in columns][:MAX_LABEL_ISSUES]

    def _held_out(self) -> tuple[Tensor, Tensor, Tensor]:
        """Probabilities (L, C) of labeled rows, the rows, and their labels.

        The probabilities are from linear heads that were not trained on the row; without a space, from the current
        model, which was.
        """
        session = self._session
        position = torch.full((len(session.pool),), -1)
        labeled, all_labels = session.pool_state.labeled_set
        position[labeled] = torch.arange(len(labeled))
        rows = first_rows(self._order, position >= 0, MAX_JUDGED).sort().values
        labels = all_labels[position[rows]]
        if self._space is None:
            return session.read(rows, {"probs"}).probs.cpu(), rows, labels
        points, classes = self._space.points(rows), len(session.pool.classes)
        probs, judged = held_out_probs(points, labels, classes, seed=session.seed)
        return probs[judged], rows[judged], labels[judged]


def _unread(outputs: Outputs) -> dict[str, Any]:
    """Share of model responses that could not be parsed, and their number; {} for models without text responses."""
    if UNPARSED_SHARE not in outputs.names:
        return {}
    return {UNPARSED_SHARE: {"share": float(outputs[UNPARSED_SHARE].mean()), "count": len(outputs)}}


def complete_metrics(figures: Mapping[str, float]) -> dict[str, float | None]:
    """The metrics of `evaluate`, with None for those that are undefined on the rows."""
    return {**dict.fromkeys(UNDEFINED), **figures}
