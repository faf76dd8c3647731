"""The contract of whoever answers the questions without a person at a keyboard."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

from torch import Tensor


class Oracle(ABC):
    """Answers questions about rows. Subclasses are frozen dataclasses: their fields are their options.

    Class attributes (plain and unannotated, so that they do not become options):
        hides_labels: whether the labels that stand in the data must be hidden from the run, because the answers come
            from them.
        source: what kind of answerer it is, stored with each answer.
    """

    hides_labels = False
    source = "oracle"

    @abstractmethod
    def answer(self, rows: Tensor, data: Any) -> Sequence[Any]:
        """One answer per row of the `dal.data.Rows` `data`, in order.

        An answer is a class name or index, a list of them when multi-label, or `dal.labels.SKIP`. The same question
        should get the same answer, or a run that was killed cannot be repeated.

        Args:
            rows: (n,) int64.
        """
