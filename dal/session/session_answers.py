"""Answers to a session: labels of its rows, proposed labels, and undo."""

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from dal.session.answer_values import AnswerDecoder, one_per_row, spread
from dal.session.checked_arguments import pool_rows
from dal.session.session_state import SessionState, storing
from dal.store.proposals import Proposal


class SessionAnswers(SessionState):
    """Storage of annotations."""

    _classes: AnswerDecoder

    @storing
    def tell(
        self,
        rows: Tensor | Sequence[int] | int,
        values: Any,
        *,
        who: str = "",
        source: str = "person",
        seconds: float | Sequence[float | None] | None = None,
        cost: float | Sequence[float | None] | None = None,
        confidence: float | Sequence[float | None] | None = None,
        correct: bool = False,
    ) -> int:
        """Store annotations and return the number of new ones. All are stored, or none if one is invalid.

        An annotation that repeats the current one of its row is not stored again.

        Args:
            rows: (n,) pending rows, in any order.
            values: one annotation per row: a class name or index; when multi-label a list of them (possibly empty) or
                (C,) bool; `SKIP` declines the row.
            who: name of the annotator or model.
            source: kind of annotator, such as "person", "simulated" or "llm".
            seconds: time spent on the row, a scalar or (n,).
            cost: cost of the row in dollars, a scalar or (n,).
            confidence: confidence of the annotator in [0, 1], a scalar or (n,).
            correct: accept rows that are not pending: corrections, or labels from another source.

        Raises:
            AnswerError: lists all unknown classes and all rows that are not pending. Nothing was stored.
        """
        numbers = pool_rows(rows, len(self.pool), inside=False)
        return self._annotations.tell(
            numbers,
            one_per_row(values, len(numbers)),
            who=who,
            source=source,
            seconds=spread(seconds, len(numbers), "seconds"),
            costs=spread(cost, len(numbers), "costs"),
            confidences=spread(confidence, len(numbers), "confidences"),
            correct=correct,
        )

    @storing
    def propose(
        self,
        rows: Tensor | Sequence[int],
        values: Any,
        *,
        weight: float | Sequence[float],
        who: str = "",
        source: str = "llm",
        confidence: float | Sequence[float | None] | None = None,
        seconds: float | Sequence[float | None] | None = None,
        cost: float | Sequence[float | None] | None = None,
    ) -> None:
        """Store proposed labels: weak labels for training, or model predictions to audit.

        A proposal does not answer a query and is not counted as a label. With a weight above 0 it is trained on as
        long as its row has no answer.

        Args:
            rows: (n,) rows of the pool.
            values: one label per row, as for `tell`, without `SKIP`.
            weight: sample weight in training, from 0 (unused) to 1 (same as an answer), a scalar or (n,).
            who: name of the model or annotator.
            source: kind of annotator.
            confidence: confidence in [0, 1], a scalar or (n,).
            seconds: time spent on the row, a scalar or (n,).
            cost: cost of the row in dollars, a scalar or (n,).

        Raises:
            AnswerError: lists all values that are not classes. Nothing was stored.
        """
        numbers = pool_rows(rows, len(self.pool))
        ids, count = list(self.pool.ids.take(numbers)), len(numbers)
        names = self._classes.read_all(one_per_row(values, count), ids)
        weights = [each or 0.0 for each in spread(weight, count, "weights")]
        confidences, durations = spread(confidence, count, "confidences"), spread(seconds, count, "seconds")
        costs = spread(cost, count, "costs")
        self._annotations.propose(
            [
                Proposal(id, names[i], who, source, weights[i], confidences[i], durations[i], costs[i])
                for i, id in enumerate(ids)
            ]
        )

    @storing
    def undo(self) -> int:
        """Retract the most recent answer and return its row.

        The row gets back its previous answer if it had one; otherwise a queried row becomes the first pending one.

        Raises:
            SessionError: there is no answer; or the row is no longer in the data, or the class of its previous answer
                is not. Nothing was retracted.
        """
        return self._annotations.undo()
