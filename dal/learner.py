"""The model interface: a `Learner` is an immutable training recipe, a `Predictor` the trained model."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, ClassVar

from torch import Tensor

from dal.config.moved import accept_old_attribute, accepts_old_attributes, renamed_attributes
from dal.monitor import SILENT, Monitor
from dal.objective import Objective
from dal.outputs import Outputs, closure

__all__ = ["SILENT", "UNPARSED_SHARE", "Learner", "Monitor", "Objective", "Predictor", "Prepared", "recorded_outputs"]

#: Output of models that answer in text: (N,) share of the answers for each row that could not be parsed.
UNPARSED_SHARE = "unread"


class Prepared(ABC):
    """Rows preprocessed for a model, once per session, such as token ids or tensors. Batches are padded on access."""

    classes: tuple[str, ...]
    multilabel: bool
    lengths: Tensor  # (N,) int64: cost of a row in tokens; ones where all rows cost the same

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def batch(self, rows: Sequence[int]) -> dict[str, Any]:
        """Return the rows as one batch on the CPU, padded to the longest row."""


@accepts_old_attributes
class Predictor(ABC):
    """A trained model, or an untrained one that provides its label-free names only.

    Attributes:
        approximate: whether a pass runs in reduced precision unless `exact` is requested. The session then rescores
            the best rows of a `rowwise` strategy exactly.
        unparsed_responses: verbatim responses of a text-generating model that could not be parsed, keyed by the index
            of the row in the last pass. Such a model also provides `UNPARSED_SHARE` from the same pass; each round's
            record and the report show that share.
        thresholds: (C,), multi-label only: the logits above which each class is assigned, which `outputs` passes on;
            None for 0, a probability of 1/2. Probabilities do not depend on them.
        training_notes: what the fit chose by itself, as JSON values: stored in each round's record as `training`. The
            value of "text" is a line for the console.
    """

    approximate: bool = False
    thresholds: Tensor | None = None
    unparsed_responses: Mapping[int, str] = MappingProxyType({})
    training_notes: Mapping[str, Any] = MappingProxyType({})

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
        """Compute the named outputs in one pass over the model, in float32 on the model's device.

        Args:
            data: prepared rows.
            rows: indices of the rows, in the order of the result; all rows when `None`.
            names: subset of `dal.outputs.closure(learner.provides)`. Derived names are computed from their sources.
            seed: seed of all random draws, such as dropout masks.
            exact: forbid reduced precision; otherwise the pass may run in bfloat16.
            monitor: receives the progress.

        Raises:
            NeedError: this predictor cannot compute one of the names.
        """

    def around_thresholds(self) -> "Predictor":
        """The model that strategies read: its logits are 0 where a class begins to be assigned.

        The margin, entropy and gradient of a class are those at its decision then, not at a probability of 1/2 that few
        rows reach while labels are few. By default this model itself: one with `thresholds` should return a copy with
        shifted logits and none.
        """
        return self

    @abstractmethod
    def save(self, folder: Path) -> None:
        """Write the model atomically to a folder that `Learner.load` can read; created if it does not exist."""


@accepts_old_attributes
class Learner(ABC):
    """Immutable recipe for training a model. Subclasses are frozen dataclasses; fields are options.

    Attributes:
        provides: names of the outputs that the model computes (`logits`, `features`, `embeddings`, `mc_logits`, ...).
        label_free: names that need no training. A strategy that reads only these causes no fit.
        has_unknown_class: whether `mc_logits` may have one extra column, for samples without an answer.
        reads_descriptions: whether the model depends on the descriptions of the classes, `descriptions` and `described`
            of the rows that `prepare` gets. Commands then say which classes still need one.
        caches: kinds of values that `fill_cache` computes once per row and keeps on disk, such as "embeddings".
        earlier_values: values of options, None, that the config of a folder lacks because it is older than they are.
    """

    provides = frozenset()  # type: ignore[var-annotated]
    label_free = frozenset()  # type: ignore[var-annotated]
    has_unknown_class = False
    reads_descriptions = False
    caches: frozenset[str] = frozenset()
    advice = ""
    earlier_values: ClassVar[Mapping[str, Any]] = MappingProxyType({})

    def __init_subclass__(cls, **options: Any) -> None:
        """Accept the attribute `unknown` of version 0.1 as `has_unknown_class`, with a warning."""
        super().__init_subclass__(**options)
        accept_old_attribute(cls, "unknown", "has_unknown_class")

    @abstractmethod
    def prepare(self, data: Any) -> Prepared:
        """Preprocess a `dal.data.Rows` for this model, once per session. May be cached on disk."""

    def check_rows(self, data: Any) -> None:  # noqa: B027
        """Raise the error of `prepare` for rows of the wrong kind, without the work. By default all are accepted.

        A run calls it before it writes anything.

        Args:
            data: a `dal.data.Rows`.
        """

    def fill_cache(
        self, data: Prepared, names: Iterable[str] = frozenset(), *, monitor: Monitor = SILENT
    ) -> Mapping[str, int]:
        """Compute and store what the cache lacks of these rows. By default there is nothing to store.

        A call that is interrupted by an exception of the monitor keeps what it has computed.

        Args:
            data: prepared rows.
            names: outputs that will be computed for all rows. What a fit reads of rows that are not labeled is stored
                in any case.
            monitor: receives the progress.

        Returns:
            The number of values that were computed, by kind.

        Raises:
            LearnerError: the values cannot be stored.
        """
        return {}

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
        """Train a predictor on `rows` of `data`.

        Args:
            data: prepared rows.
            rows: (L,) int64 indices of the training rows.
            labels: (L,) int64, or (L, C) bool when multi-label.
            seed: seed of initialisation, row order and dropout: the same seed gives the same predictor on one device.
            weights: (L,) sample weights; ones when `None`.
            validation: held-out rows and their labels, for early stopping.
            previous: predictor of the previous round, for training that continues from it.
            monitor: receives the progress.

        Raises:
            LearnerError: the labels cannot train this model, for example because they hold a single class.
        """

    @abstractmethod
    def untrained(self, data: Prepared) -> Predictor:
        """Return a predictor that provides the label-free names only."""

    @abstractmethod
    def load(self, folder: Path, data: Prepared) -> Predictor:
        """Load the predictor that `Predictor.save` wrote to `folder`."""


def recorded_outputs(names: Iterable[str]) -> frozenset[str]:
    """Return the names that every pass reads for the round's record, from a model that provides `names`.

    Example:
        >>> recorded_outputs({"logits", "unread"}), recorded_outputs({"logits"})
        (frozenset({'unread'}), frozenset())
    """
    return frozenset({UNPARSED_SHARE}) & closure(names)


#: Names of version 0.1.
__getattr__ = renamed_attributes(__name__)
