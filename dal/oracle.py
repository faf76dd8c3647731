"""The oracle interface: automatic sources of annotations."""

import math
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence, Sized
from dataclasses import dataclass, field, replace
from enum import Enum
from itertools import islice
from typing import Any, Final

from torch import Tensor

from dal.config.moved import accept_old_attribute, accept_old_flags, accepts_old_attributes, accepts_old_options
from dal.errors import AnswerError, printable
from dal.functional.checking import as_number, shown
from dal.store.events import Event
from dal.store.proposals import Proposal


class Later(Enum):
    """Type of `LATER`, the answer of an oracle that leaves a row pending for another annotator."""

    LATER = "later"


LATER: Final = Later.LATER


@accepts_old_options
@dataclass(frozen=True)
class Annotation:
    """An answer to one row, with its metadata.

    Attributes:
        value: class name or index, a list of them when multi-label, `dal.store.events.SKIP`, or `LATER`.
        who: name of the person or model; empty for the name of the oracle's class.
        source: kind of annotator; empty for the oracle's own `source`.
        confidence: confidence in the answer, in [0, 1]; None when unknown.
        seconds: time to answer, in seconds; None when unknown.
        cost: cost in dollars; None when unknown.
        proposals: annotations of the same row by other sources. They do not label the row: they are stored with weight
            0, so that they can be audited.
        text: verbatim reply of a model that declines the row because no label could be parsed from it.
    """

    value: Any
    who: str = ""
    source: str = ""
    confidence: float | None = None
    seconds: float | None = None
    cost: float | None = None
    proposals: tuple["Annotation", ...] = ()
    text: str | None = None


@dataclass(frozen=True)
class StoredAnswers:
    """Stored answers and proposals of a session, for oracles that learn from them.

    Answers to the current batch are excluded, so that a process killed halfway through a batch answers the rest of it
    from the same data.

    Attributes:
        proposals: stored proposals, in order.
        answers: row id -> answer that was current when the batch was asked.
    """

    proposals: Sequence[Proposal] = ()
    answers: Mapping[str, Event] = field(default_factory=dict)


@accepts_old_attributes
class Oracle(ABC):
    """Base class of oracles, which answer for the pending rows. Subclasses are frozen dataclasses: fields are options.

    Class attributes (plain and unannotated, so that they do not become options; or properties):
        hides_labels: whether the labels in the data must be hidden from the run because the answers come from them.
        source: kind of annotator, stored with each answer.
        needs: inputs of `answer_with_context`: "predictions" of the current model, "record" of the stored answers.
    """

    hides_labels = False
    source = "oracle"
    needs = frozenset()  # type: ignore[var-annotated]

    def __init_subclass__(cls, **options: Any) -> None:
        """Translate the attributes `reads_predictions` and `reads_record` of version 0.1 to `needs`, with a warning."""
        super().__init_subclass__(**options)
        accept_old_attribute(cls, "said", "annotate")
        accept_old_attribute(cls, "answer_beside", "answer_with_context")
        accept_old_flags(cls, {"reads_predictions": "predictions", "reads_record": "record"})

    @abstractmethod
    def answer(self, rows: Tensor, data: Any) -> Sequence[Any]:
        """Return one answer per row, in order.

        An answer is a class name or index, a list of them when multi-label, `dal.SKIP`, or an `Annotation` that holds
        one of them. The answer to a row should be deterministic, otherwise a killed run cannot be reproduced.

        Args:
            rows: (n,) int64, indices into `data`.
            data: a `dal.data.Rows`.
        """

    def answer_with_context(
        self, rows: Tensor, data: Any, predicted: Tensor | None, record: StoredAnswers | None = None
    ) -> Sequence[Any]:
        """Return one answer per row, given the current model's predictions and the stored answers.

        Override it in an oracle that declares `needs`. The default calls `answer`.

        Args:
            rows: (n,) int64, indices into `data`.
            data: a `dal.data.Rows`.
            predicted: (n,) int64, or (n, C) bool when multi-label; None without "predictions" in `needs`, and before
                the first model.
            record: stored answers and proposals; None without "record" in `needs`.
        """
        return self.answer(rows, data)

    def annotate(self, answer: Any) -> Annotation:
        """Convert an answer to an `Annotation`, with the oracle's class name and source as defaults."""
        annotation = answer if isinstance(answer, Annotation) else Annotation(answer)
        who, source = annotation.who or type(self).__name__, annotation.source or self.source
        return replace(annotation, who=who, source=source)


def checked_annotations(oracle: Oracle, answers: Any, ids: Sequence[str]) -> list[Annotation]:
    """Validate the answers of an oracle and convert them to annotations, one per row.

    Args:
        oracle: the oracle, possibly a plugin.
        answers: return value of the oracle.
        ids: ids of the n rows that were asked.

    Raises:
        AnswerError: there is not exactly one answer per row, or a confidence, time or cost is out of range.
    """
    name = type(oracle).__name__
    if isinstance(answers, str | bytes | Mapping) or not isinstance(answers, Iterable):
        raise AnswerError(f"{name} must give a list of answers, one per row, not {shown(answers)} (nothing was stored)")
    given = list(islice(answers, len(ids) + 1))  # a generator may have no end
    if len(given) != len(ids):
        count = len(answers) if isinstance(answers, Sized) else f"{len(given)}{' or more' * (len(given) > len(ids))}"
        raise AnswerError(
            f"{name} gave {count} answers to {len(ids)} rows: an oracle gives one answer per row, in their order "
            "(nothing was stored)"
        )
    annotations = [oracle.annotate(answer) for answer in given]
    for row, annotation in zip(ids, annotations, strict=True):
        for each in (annotation, *annotation.proposals):
            _check_figures(name, row, each)
    return annotations


def _check_figures(name: str, row: str, annotation: Annotation) -> None:
    for figure, most in (("confidence", 1.0), ("seconds", math.inf), ("cost", math.inf)):
        value = getattr(annotation, figure)
        known = as_number(value)
        if value is not None and (known is None or not 0 <= known <= most or math.isinf(known)):
            wanted = "from 0 to 1" if most == 1 else "finite and not negative"
            raise AnswerError(
                f"{name} gave the answer to row {printable(row)!r} with a {figure} of {shown(value)}: it must be a "
                f"number {wanted}, or None (nothing was stored)"
            )
