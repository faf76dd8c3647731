"""A batch of questions, and what is known of its choice."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from torch import Tensor

from dal.errors import shortened


@dataclass(frozen=True, eq=False)
class QueriedBatch:
    """A batch of questions and what is known of the choice.

    Attributes:
        round: which batch it was, counted from 1.
        rows: (n,) int64 in the pool, best first.
        scores: (n,) float64, what made them win; None when nothing did.
        notes: the strategy's figures about the whole choice.
        strategy: the class name of the strategy that acted.
        candidates: how many rows it could choose from.
        near_duplicates: share of the batch, 0 to 1, that has a near-duplicate within the batch.
        seconds: of this choice, for "pass" and "select", and "measure" for what was measured of it.
        why: in words, why the strategy that acted did, or acted in this way; empty where there was no other.
        uncertainty: how unsure the model of that moment was of the rows, 0 to 1; None where that was not measured.
    """

    round: int
    rows: Tensor
    scores: Tensor | None
    notes: Mapping[str, float] = field(default_factory=dict)
    strategy: str = ""
    candidates: int = 0
    near_duplicates: float = 0.0
    seconds: Mapping[str, float] = field(default_factory=dict)
    why: str = ""
    uncertainty: float | None = None

    @property
    def details(self) -> dict[str, Any]:
        """What the store keeps besides rows, scores and strategy, by name, as JSON can hold it."""
        return {
            "notes": dict(self.notes),
            "candidates": self.candidates,
            "near_duplicates": self.near_duplicates,
            "seconds": dict(self.seconds),
            "why": self.why,
            "uncertainty": self.uncertainty,
        }

    @classmethod
    def restored(
        cls, round: int, rows: Tensor, scores: Tensor | None, strategy: str, details: Mapping[str, Any]
    ) -> "QueriedBatch":
        """The batch whose `details` these are, as the store kept them.

        Raises:
            ValueError: they are those of no batch.
        """
        asked = cls(round, rows, scores, strategy=strategy)
        for name, value in details.items():
            kinds = _DETAILS.get(name)
            if kinds is None or isinstance(value, bool) or not isinstance(value, kinds):
                raise ValueError(f"its detail {name!r} is {shortened(repr(value))}")
            if isinstance(value, dict) and not all(isinstance(each, int | float | None) for each in value.values()):
                raise ValueError(f"its detail {name!r} holds more than numbers")
        return replace(asked, **details)


#: What the details of a batch are, by name.
_DETAILS: dict[str, tuple[type, ...]] = {
    "notes": (dict,),
    "candidates": (int,),
    "near_duplicates": (int, float),
    "seconds": (dict,),
    "why": (str,),
    "uncertainty": (int, float, type(None)),
}
