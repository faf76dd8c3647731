"""A queried batch, with the scores and figures of its selection."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from torch import Tensor

from dal.config.moved import accepts_old_options
from dal.errors import shortened
from dal.store.events import CONFIGURED, shown_strategy


@accepts_old_options
@dataclass(frozen=True, eq=False)
class QueriedBatch:
    """A queried batch and the figures of its selection.

    Attributes:
        round: number of the batch, from 1.
        rows: (n,) int64 pool rows, best first.
        scores: (n,) float64 scores of the rows; None if the strategy has none.
        notes: the strategy's figures about the whole selection, by name.
        strategy: name of the strategy that selected the batch.
        configured: name of the strategy that left the selection to it, such as Auto; empty if there is none.
        candidates: number of rows to select from.
        near_duplicates: share of the batch, 0 to 1, that has a near-duplicate within the batch.
        seconds: durations of "pass" and "select", and of "measure" if the uncertainty was measured.
        reason: why this strategy acted or acted as it did, in words; empty if there was no alternative.
        uncertainty: mean uncertainty of the model on the batch, 0 to 1; None if it was not measured.
        unasked: number of rows of the pool that could have been asked; 0 in batches of earlier versions.
        candidate_recall: share of the rows that the strategy would have selected among all unasked rows, 0 to 1, that
            were candidates; None if it was not measured.
        measured_candidates: number of the candidates whose recall was measured; 0 if it was not. In a round that scored
            all rows, these are the candidates that an earlier pass would have given.
        scored: number of rows that a model scored to select the batch, without a further pass that measures the recall;
            None without a candidate generator, and in batches of earlier versions.
    """

    round: int
    rows: Tensor
    scores: Tensor | None
    notes: Mapping[str, float] = field(default_factory=dict)
    strategy: str = ""
    candidates: int = 0
    near_duplicates: float = 0.0
    seconds: Mapping[str, float] = field(default_factory=dict)
    reason: str = ""
    uncertainty: float | None = None
    configured: str = ""
    unasked: int = 0
    candidate_recall: float | None = None
    measured_candidates: int = 0
    scored: int | None = None

    @property
    def shown_strategy(self) -> str:
        """The strategy for people, such as "Auto (MaxHerding)"."""
        return shown_strategy(self.strategy, self.details)

    @property
    def details(self) -> dict[str, Any]:
        """The attributes stored as JSON, by name: all except round, rows, scores and strategy."""
        return ({CONFIGURED: self.configured} if self.configured else {}) | {
            "notes": dict(self.notes),
            "candidates": self.candidates,
            "near_duplicates": self.near_duplicates,
            "seconds": dict(self.seconds),
            "why": self.reason,  # the stored name, as in version 0.1
            "uncertainty": self.uncertainty,
            "unasked": self.unasked,
            "candidate_recall": self.candidate_recall,
            "measured_candidates": self.measured_candidates,
            "scored": self.scored,
        }

    @classmethod
    def restored(
        cls, round: int, rows: Tensor, scores: Tensor | None, strategy: str, details: Mapping[str, Any]
    ) -> "QueriedBatch":
        """Rebuild a batch from its stored values.

        Other names among the details, such as the hints that the annotation page stores with a batch, are left out.

        Raises:
            ValueError: a value of `details` has the wrong type.
        """
        batch = cls(round, rows, scores, strategy=strategy)
        known = {name: value for name, value in details.items() if name in _DETAILS}
        for name, value in known.items():
            if isinstance(value, bool) or not isinstance(value, _DETAILS[name]):
                raise ValueError(f"its detail {name!r} is {shortened(repr(value))}")
            if isinstance(value, dict) and not all(isinstance(each, int | float | None) for each in value.values()):
                raise ValueError(f"its detail {name!r} holds more than numbers")
        return replace(batch, **{"reason" if name == "why" else name: value for name, value in known.items()})


#: Types of the stored details, by name.
_DETAILS: dict[str, tuple[type, ...]] = {
    "notes": (dict,),
    "candidates": (int,),
    "near_duplicates": (int, float),
    "seconds": (dict,),
    "why": (str,),
    "uncertainty": (int, float, type(None)),
    CONFIGURED: (str,),
    "unasked": (int,),
    "candidate_recall": (int, float, type(None)),
    "measured_candidates": (int,),
    "scored": (int, type(None)),
}
