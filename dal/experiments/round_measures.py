"""What is recorded of each round besides its scores on the test: where the model errs, what the batch was worth, cost.

Nothing here changes a choice: models are only read, and every sample is drawn by the hashes of the ids.
"""

import json
import time
from collections.abc import Mapping
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from dal.evaluation.batch_quality import balance
from dal.evaluation.breakdown import per_class, per_group
from dal.evaluation.calibration import Temperature, reliability
from dal.evaluation.cost import Prices, costs, sources
from dal.evaluation.metrics import UNDEFINED, calibration, evaluate
from dal.evaluation.noise import doubts
from dal.experiments.embedding_space import Space, first, shuffled
from dal.learner import UNREAD, watched
from dal.learners.heads.held_out import held_out_probs
from dal.outputs import Outputs
from dal.session import Session
from dal.session.queried_batch import QueriedBatch
from dal.store.atomic_files import write_whole
from dal.store.run_folder import writing

#: Rows to look at again that are kept, and labeled rows that are looked at for them, at most.
DOUBTED, JUDGED = 50, 20_000

#: The file of a map, in the folder of a cell.
MAP_FILE = "map.json"

_SAMPLE = 0x5A  # what the sample of the pool is drawn for: apart from the shares, limits and stop sets


class Measures:
    """What is recorded of the rounds of one session. `docs/measures.md` says what each key means.

    Args:
        session: whose.
        pool_sample: rows without a label yet, but with a hidden one in the data, that are scored each round.
        distances: measure batches in the embeddings of the pool, or in features of the present model where the learner
            has no embeddings without labels.
        prices: of answers that were stored without a cost of their own.
    """

    def __init__(
        self, session: Session, *, pool_sample: int = 1000, distances: bool = True, prices: Prices | None = None
    ) -> None:
        self._session, self._pool_sample = session, pool_sample
        self._prices = prices or Prices()
        self._space = Space.of(session) if distances else None

    def of_round(self, batch: QueriedBatch | None) -> dict[str, Any]:
        """What a round's line has besides its scores, as JSON can hold it.

        Args:
            batch: what was chosen in this round; None when nothing was.
        """
        asked = 0.0 if batch is None else batch.seconds.get("measure", 0.0)
        self._session.predictor  # noqa: B018  # fitted before the clock starts
        start = time.perf_counter()
        line = self._on_test() if self._session.can_evaluate else {}
        line |= self._on_pool()
        line |= self._batch(batch)
        line |= self._spent()
        return line | {"measure_seconds": asked + time.perf_counter() - start}

    def at_end(self) -> dict[str, Any]:
        """What the last line has besides: the rows to look at again. The map is written first, if there is a folder.

        A run that is killed between the map and the line writes the same map again.
        """
        folder = self._session.folder
        if self._space is not None and folder is not None:
            text = json.dumps(self._space.map(), ensure_ascii=False) + "\n"
            with writing(folder / MAP_FILE):
                write_whole(folder / MAP_FILE, text, private=True)
        return {"doubts": self._doubts()}

    # -- the model -------------------------------------------------------------------------------------------------

    def _on_test(self) -> dict[str, Any]:
        test = self._session.data.test
        outputs, labels = self._session.scored("test")
        found: dict[str, Any] = {
            "per_class": per_class(outputs, labels, self._session.pool.classes),
            "reliability": reliability(outputs, labels),
        }
        if test.groups is not None:
            found["per_group"] = per_group(outputs, labels, test.groups.take(test.known.nonzero().flatten()))
        return found | _unread(outputs) | self._scaled(outputs, labels)

    def _scaled(self, outputs: Outputs, labels: Tensor) -> dict[str, Any]:
        """Calibration on the test at the temperature that is best on the validation part; nothing without one."""
        validation = self._session.data.validation
        if validation is None or not bool(validation.known.any()):
            return {}
        held_out, truth = self._session.scored("validation")
        temperature = Temperature.fit(held_out.logits, truth)
        logits = temperature.apply(outputs.logits)
        figures = calibration(Outputs({"logits": logits}, multilabel=outputs.multilabel), labels)
        return {"scaled": {"temperature": temperature.value, **figures}}

    def _on_pool(self) -> dict[str, Any]:
        """The figures on a sample of what is left of the pool; nothing where no hidden label is known."""
        session = self._session
        left = session.pool.known.clone()
        left[session.labeled_rows] = False
        rows = first(self._order, left, self._pool_sample)
        if not len(rows):
            return {}
        outputs = session.read(rows, {"logits"} | watched(session.learner.provides))
        figures = evaluate(outputs, session.pool.labels[rows])
        return {"pool": {**whole(figures), "count": len(rows), "of": int(left.sum()), **_unread(outputs)}}

    @cached_property
    def _order(self) -> Tensor:
        """The rows in an order of this seed. The sample is what comes first, so only labels change it."""
        return shuffled(self._session.pool.ids, self._session.seed, _SAMPLE)

    # -- the batch and the labels ----------------------------------------------------------------------------------

    def _batch(self, batch: QueriedBatch | None) -> dict[str, Any]:
        session = self._session
        rows = torch.zeros(0, dtype=torch.int64) if batch is None else batch.rows
        answered = session.labels[torch.isin(session.labeled_rows, rows)]
        measured: dict[str, Any] = {
            "balance": balance(answered, len(session.pool.classes)),
            "uncertainty": None if batch is None else batch.uncertainty,
        }
        if self._space is None:
            return {"batch": measured}
        distances, nearest = self._space.of_batch(rows)
        return {"batch": distances | measured, "nearest": nearest}

    def _spent(self) -> dict[str, Any]:
        """What the answers so far cost, and who gave them."""
        store = self._session.store
        said = (store.work, self._prices, store.proposals, store.unread)
        return {"cost": costs(*said), "sources": sources(*said)}

    def _doubts(self) -> list[dict[str, Any]]:
        """The labeled rows whose label confident learning doubts, the most doubtful first."""
        probs, rows, labels = self._judged()
        if not len(rows):
            return []
        found, pool = doubts(probs, labels), self._session.pool
        given, suggested = pool.names_of(found.given), pool.names_of(found.suggested)
        ids = [pool.ids[row] for row in rows[found.rows].tolist()]
        columns = zip(ids, given, suggested, found.confidence.tolist(), strict=True)
        names = ("row", "given", "suggested", "confidence")
        return [dict(zip(names, values, strict=True)) for values in columns][:DOUBTED]

    def _judged(self) -> tuple[Tensor, Tensor, Tensor]:
        """Probabilities (L, C) for labeled rows, the rows, and their labels.

        Of linear heads in the space that were not trained on them; without a space, of the present model, which was.
        """
        session = self._session
        place = torch.full((len(session.pool),), -1)
        place[session.labeled_rows] = torch.arange(len(session.labeled_rows))
        rows = first(self._order, place >= 0, JUDGED).sort().values
        labels = session.labels[place[rows]]
        if self._space is None:
            return session.read(rows, {"probs"}).probs.cpu(), rows, labels
        points, classes = self._space.points(rows), len(session.pool.classes)
        probs, judged = held_out_probs(points, labels, classes, seed=session.seed)
        return probs[judged], rows[judged], labels[judged]


def _unread(outputs: Outputs) -> dict[str, Any]:
    """Which share of a model's answers could not be read, and to how many rows; nothing of one that has no words."""
    if UNREAD not in outputs.names:
        return {}
    return {UNREAD: {"share": float(outputs[UNREAD].mean()), "count": len(outputs)}}


def whole(figures: Mapping[str, float]) -> dict[str, float | None]:
    """The figures of `evaluate`, with None for those that the rows do not define."""
    return {**dict.fromkeys(UNDEFINED), **figures}
