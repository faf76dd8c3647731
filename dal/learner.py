"""The contract of a model family: a Learner is an immutable recipe, a Predictor the result of following it."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

from torch import Tensor

from dal.monitor import SILENT, Monitor
from dal.outputs import Outputs, closure

__all__ = ["SILENT", "UNREAD", "Learner", "Monitor", "Predictor", "Prepared", "watched"]

#: The output of models that answer in words: (N,), the share of the answers to each row that could not be read.
UNREAD = "unread"


class Prepared(ABC):
    """Rows made ready for a model, once per session: tokens on disk, tensors, ... Padding happens per batch."""

    classes: tuple[str, ...]
    multilabel: bool
    lengths: Tensor  # (N,) int64: what a row costs, in tokens; ones where all rows cost the same

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def batch(self, rows: Sequence[int]) -> dict[str, Any]:
        """The rows as one batch on the CPU, padded to the longest of them."""


class Predictor(ABC):
    """A trained model, or an untrained one that offers its label-free names only.

    Attributes:
        approximate: whether a pass runs in reduced precision unless `exact` is asked for. The session then rescores the
            best rows of a `rowwise` strategy exactly.
        unreadable: place among the rows of the last pass -> what a model that answers in words said there, verbatim,
            where no answer could be read. Such a model offers `UNREAD` besides what it makes of its answers, from one
            pass; each round's record and the report then say what share it was.
    """

    approximate: bool = False
    unreadable: Mapping[int, str] = MappingProxyType({})

    @abstractmethod
    def outputs(
        self,
        data: Prepared,
        rows: Tensor | None = None,
        names: Iterable[str] = frozenset({"logits"}),
        *,
        seed: int = 0,
        exact: bool = False,
        monitor: Monitor = SILENT,
    ) -> Outputs:
        """The named outputs for `rows` (all when None), in their order, in ONE pass over the model.

        `names` may hold anything of `dal.outputs.closure(learner.provides)`; what follows from other names is
        derived. `seed` decides every random draw (dropout masks). The result is float32 on the model's device; the
        pass may run in bfloat16 unless `exact`.

        Raises:
            NeedError: a name that this predictor cannot compute.
        """

    @abstractmethod
    def save(self, folder: Path) -> None:
        """Write the model so that `Learner.load` reads it back, whole or not at all."""


class Learner(ABC):
    """An immutable recipe for a model. Subclasses are frozen dataclasses: their fields are their options.

    Attributes:
        provides: the names it can compute (`logits`, `features`, `embeddings`, `mc_logits`, ...).
        label_free: those that need no training. A strategy that reads only these causes no fit.
        unknown: whether `mc_logits` may have one column more than there are classes, for samples that gave no answer.
    """

    provides = frozenset()  # type: ignore[var-annotated]
    label_free = frozenset()  # type: ignore[var-annotated]
    unknown = False
    advice = ""

    @abstractmethod
    def prepare(self, data: Any) -> Prepared:
        """The rows of a `dal.data.Rows` made ready for this model, once per session. Cached on disk where it pays."""

    @abstractmethod
    def fit(
        self,
        data: Prepared,
        rows: Tensor,
        labels: Tensor,
        *,
        seed: int,
        weights: Tensor | None = None,
        validation: tuple[Prepared, Tensor] | None = None,
        previous: Predictor | None = None,
        monitor: Monitor = SILENT,
    ) -> Predictor:
        """A predictor trained on `rows` of `data`.

        Args:
            rows: (L,) int64.
            labels: (L,) int64, or (L, C) bool when multi-label.
            seed: decides initialisation, order and dropout: the same seed gives the same predictor on one device.
            weights: (L,) sample weights, ones when None.
            validation: rows that are never trained on, with their labels, for early stopping.
            previous: last round's predictor, when training goes on from it.

        Raises:
            LearnerError: the labels cannot train this model (a single class, say).
        """

    @abstractmethod
    def untrained(self, data: Prepared) -> Predictor:
        """A predictor that offers the label-free names only."""

    @abstractmethod
    def load(self, folder: Path, data: Prepared) -> Predictor:
        """The predictor that `Predictor.save` wrote to `folder`."""


def watched(names: Iterable[str]) -> frozenset[str]:
    """What a pass reads besides what is wanted of it, for the record, of a model that provides the names.

    Example:
        >>> watched({"logits", "unread"}), watched({"logits"})
        (frozenset({'unread'}), frozenset())
    """
    return frozenset({UNREAD}) & closure(names)
